"""The pictures are made for 1 to 34 channels, and show the holes they are given."""

import math

import numpy as np
import pytest
from matplotlib import colors, image
from matplotlib.figure import Figure

from aim.common.plotting import COLOURS
from aim.evaluation.generative import day_figures, imputers, tasks
from aim.evaluation.generative.figures import generative_chart
from aim.evaluation.generative.scores import ScoreRow
from aim.evaluation.generative.tasks import GenerativeTask
from data_pipelines.errors import SchemaError
from data_pipelines.schema import Channel, Schema


def score_rows(methods=("AIM", "mean", "linear"), one_person: bool = False) -> list[ScoreRow]:
  bounds = (math.nan, math.nan) if one_person else (0.4, 0.6)
  return [
    ScoreRow(task, level, method, channel, 10, 0.5, 0.4, *bounds)
    for task, levels in (("random", (30, 80)), ("interpolation", (10, 180)), ("sensor", (2,)))
    for level in levels
    for method in methods
    for channel in ("all", "heart_rate")
  ]


def holed_day(channels: int, minutes_per_step: int = 5):
  """schema, truth, shown, reconstruction of a day with both kinds of holes; the last channel is binary."""
  kinds = ["continuous"] * (channels - 1) + ["binary"]
  schema = Schema(
    minutes_per_step, tuple(Channel(f"channel_{i}", "bpm", f"s{i // 5}", kinds[i]) for i in range(channels))
  )
  rng = np.random.default_rng(channels)
  truth = np.cumsum(rng.normal(size=(schema.steps, channels)), axis=0).astype(np.float32)
  truth[:, -1] = truth[:, -1] > 0
  truth[tasks.hidden_cells(GenerativeTask("random", 30), schema, "p", 0, 0, 30)] = np.nan
  shown = np.where(tasks.hidden_cells(GenerativeTask("interpolation", 180), schema, "p", 0, 0, 30), np.nan, truth)
  return schema, truth, shown, imputers.linear(shown[None])[0]


def share_of(path, colour: str) -> float:
  """Share of the picture's pixels that are nearly of that colour."""
  pixels = image.imread(path)[..., :3]
  assert min(pixels.shape[:2]) > 200
  return float((np.abs(pixels - np.array(colors.to_rgb(colour))).max(axis=-1) < 0.02).mean())


@pytest.fixture
def drawn(monkeypatch) -> list[Figure]:
  """The figures that were saved."""
  seen: list[Figure] = []
  save = Figure.savefig
  monkeypatch.setattr(Figure, "savefig", lambda self, *args, **kwargs: (seen.append(self), save(self, *args, **kwargs)))
  return seen


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


@pytest.mark.parametrize("channels, minutes_per_step", [(1, 5), (3, 1), (34, 15)])
def test_day_pictures_of_any_channel_set(tmp_path, drawn, channels, minutes_per_step):
  schema, truth, shown, reconstruction = holed_day(channels, minutes_per_step)
  day_figures.day_chart(schema, truth, shown, reconstruction, tmp_path / "day.png", "a day")
  assert len(drawn[0].axes) == min(channels, 6)
  day_figures.day_heatmap(schema, truth, shown, reconstruction, tmp_path / "map.png", "a day")
  for name in ("day.png", "map.png"):
    assert share_of(tmp_path / name, day_figures.INHERITED) > 0.05
    assert share_of(tmp_path / name, day_figures.HIDDEN) > 0.01


def test_day_chart_draws_the_reconstruction_over_holes_only(tmp_path, drawn):
  schema, truth, shown, reconstruction = holed_day(2)
  day_figures.day_chart(schema, truth, shown, reconstruction + 7, tmp_path / "day.png", "a day", channels=["channel_0"])
  (panel,) = drawn[0].axes
  assert panel.get_title("left") == "channel 0 (bpm)"
  line = next(line for line in panel.lines if line.get_color() == day_figures.RECONSTRUCTED)
  hole = np.isnan(shown[:, 0])
  drawn_values = line.get_ydata()
  np.testing.assert_array_equal(drawn_values[hole], (reconstruction[:, 0] + 7)[hole])
  touching = np.convolve(hole, [1, 1, 1], "same") > 0
  assert np.isnan(drawn_values[~touching]).all()
  np.testing.assert_array_equal(drawn_values[touching & ~hole], shown[touching & ~hole, 0])
  secret = next(line for line in panel.lines if line.get_color() == day_figures.HIDDEN_TRUTH).get_ydata()
  hidden = hole & ~np.isnan(truth[:, 0])
  np.testing.assert_array_equal(secret[hidden], truth[hidden, 0])
  assert np.isnan(secret[~(np.convolve(hidden, [1, 1, 1], "same") > 0)]).all()
  texts = [text.get_text() for text in drawn[0].legends[0].get_texts()]
  assert texts == [
    "shown to the model",
    "hidden truth",
    "reconstruction",
    "hidden by us",
    "missing: the device gave nothing",
  ]


def test_day_chart_without_hidden_cells_or_observations(tmp_path, drawn):
  schema, truth, _, reconstruction = holed_day(3)
  day_figures.day_chart(schema, truth, truth, reconstruction, tmp_path / "real.png", "only real holes")
  assert "hidden by us" not in [text.get_text() for text in drawn[0].legends[0].get_texts()]
  empty = np.full_like(truth, np.nan)
  day_figures.day_chart(schema, empty, empty, reconstruction, tmp_path / "empty.png", "nothing observed")
  day_figures.day_heatmap(schema, empty, empty, reconstruction, tmp_path / "empty_map.png", "nothing observed")


def test_default_channels_are_of_different_sensors(tmp_path, drawn):
  schema, truth, shown, reconstruction = holed_day(34)
  day_figures.day_chart(schema, truth, shown, reconstruction, tmp_path / "day.png", "a day")
  numbers = [int(panel.get_title("left").split()[1]) for panel in drawn[0].axes]
  assert numbers == sorted(numbers) and len({number // 5 for number in numbers}) == 6


def test_bad_input_is_one_line(tmp_path):
  schema, truth, shown, reconstruction = holed_day(3)
  for draw in (day_figures.day_chart, day_figures.day_heatmap):
    with pytest.raises(ValueError, match=r"reconstruction has shape \(288, 2\), expected \(288, 3\)"):
      draw(schema, truth, shown, reconstruction[:, :2], tmp_path / "x.png", "")
  with pytest.raises(SchemaError, match="unknown channel 'pulse'"):
    day_figures.day_chart(schema, truth, shown, reconstruction, tmp_path / "x.png", "", channels=["pulse"])
  with pytest.raises(ValueError, match="no channels to draw"):
    day_figures.day_chart(schema, truth, shown, reconstruction, tmp_path / "x.png", "", channels=[])
