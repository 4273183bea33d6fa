"""The charts of scores have a panel per task and a line per method."""

import math

import pytest

from aim.common.plotting import COLOURS
from aim.evaluation.generative.figures import generative_chart
from aim.evaluation.generative.scores import ScoreRow
from tests.evaluation.generative.drawn import share_of


def score_rows(methods=("AIM", "mean", "linear"), one_person: bool = False) -> list[ScoreRow]:
  bounds = (math.nan, math.nan) if one_person else (0.4, 0.6)
  return [
    ScoreRow(task, level, method, channel, 10, 0.5, 0.4, *bounds)
    for task, levels in (("random", (30, 80)), ("interpolation", (10, 180)), ("sensor", (2,)))
    for level in levels
    for method in methods
    for channel in ("all", "heart_rate")
  ]


def test_generative_chart_has_a_panel_per_task_and_a_line_per_method(tmp_path, drawn):
  generative_chart(score_rows(), tmp_path / "new" / "generative.png")
  panels = drawn[0].axes
  assert [panel.get_title() for panel in panels] == ["random patches", "interpolation: one gap", "lost channels"]
  assert [[label.get_text() for label in panel.get_xticklabels()] for panel in panels] == [
    ["30", "80"],
    ["10", "180"],
    ["2"],
  ]
  assert all(len(panel.lines) == 3 and len(panel.collections) == 3 for panel in panels)
  assert [text.get_text() for text in drawn[0].legends[0].get_texts()] == ["AIM", "mean", "linear"]
  assert share_of(tmp_path / "new" / "generative.png", COLOURS[0]) > 1e-3


def test_generative_chart_without_intervals_and_with_many_methods(tmp_path):
  generative_chart(score_rows(one_person=True), tmp_path / "one.png")
  generative_chart(score_rows(tuple(f"method {i}" for i in range(9))), tmp_path / "many.png")
  nothing = [ScoreRow("random", 30, "AIM", "all", 0, math.nan, math.nan, math.nan, math.nan)]
  generative_chart(score_rows() + nothing, tmp_path / "some.png")
  for rows in ([], nothing):
    with pytest.raises(ValueError, match="no scores to draw"):
      generative_chart(rows, tmp_path / "none.png")
