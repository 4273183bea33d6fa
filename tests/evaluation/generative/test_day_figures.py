"""Figures of a day are drawn for 1 to 34 channels and show the holes."""

import numpy as np
import pytest

from aim.evaluation.generative import day_figures, imputers, tasks
from aim.evaluation.generative.tasks import GenerativeTask
from data_pipelines.errors import SchemaError
from data_pipelines.schema import Channel, Schema
from tests.evaluation.generative.drawn import share_of


def holed_day(channels: int, minutes_per_step: int = 5):
  """Schema, truth, visible values and reconstruction of a day with both kinds of holes; the last channel is binary."""
  kinds = ["continuous"] * (channels - 1) + ["binary"]
  schema = Schema(
    minutes_per_step, tuple(Channel(f"channel_{i}", "bpm", f"s{i // 5}", kinds[i]) for i in range(channels))
  )
  rng = np.random.default_rng(channels)
  truth = np.cumsum(rng.normal(size=(schema.steps, channels)), axis=0).astype(np.float32)
  truth[:, -1] = truth[:, -1] > 0
  truth[tasks.hidden_values(GenerativeTask("random", 30), schema, "p", 0, 0, 30)] = np.nan
  visible = np.where(tasks.hidden_values(GenerativeTask("interpolation", 180), schema, "p", 0, 0, 30), np.nan, truth)
  return schema, truth, visible, imputers.linear(visible[None])[0]


@pytest.mark.parametrize("channels, minutes_per_step", [(1, 5), (3, 1), (34, 15)])
def test_any_number_of_channels_is_drawn(tmp_path, drawn, channels, minutes_per_step):
  schema, truth, visible, reconstruction = holed_day(channels, minutes_per_step)
  day_figures.day_chart(schema, truth, visible, reconstruction, tmp_path / "day.png", "a day")
  assert len(drawn[0].axes) == min(channels, 6)
  day_figures.day_heatmap(schema, truth, visible, reconstruction, tmp_path / "map.png", "a day")
  for name in ("day.png", "map.png"):
    assert share_of(tmp_path / name, day_figures.INHERITED) > 0.05
    assert share_of(tmp_path / name, day_figures.HIDDEN) > 0.01


def test_day_chart_draws_the_reconstruction_over_holes_only(tmp_path, drawn):
  schema, truth, visible, reconstruction = holed_day(2)
  day_figures.day_chart(
    schema, truth, visible, reconstruction + 7, tmp_path / "day.png", "a day", channels=["channel_0"]
  )
  (panel,) = drawn[0].axes
  assert panel.get_title("left") == "channel 0 (bpm)"
  line = next(line for line in panel.lines if line.get_color() == day_figures.RECONSTRUCTED)
  hole = np.isnan(visible[:, 0])
  drawn_values = line.get_ydata()
  np.testing.assert_array_equal(drawn_values[hole], (reconstruction[:, 0] + 7)[hole])
  touching = np.convolve(hole, [1, 1, 1], "same") > 0
  assert np.isnan(drawn_values[~touching]).all()
  np.testing.assert_array_equal(drawn_values[touching & ~hole], visible[touching & ~hole, 0])
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


def test_day_chart_without_hidden_values_or_observations(tmp_path, drawn):
  schema, truth, _, reconstruction = holed_day(3)
  day_figures.day_chart(schema, truth, truth, reconstruction, tmp_path / "real.png", "only real holes")
  assert "hidden by us" not in [text.get_text() for text in drawn[0].legends[0].get_texts()]
  empty = np.full_like(truth, np.nan)
  day_figures.day_chart(schema, empty, empty, reconstruction, tmp_path / "empty.png", "nothing observed")
  day_figures.day_heatmap(schema, empty, empty, reconstruction, tmp_path / "empty_map.png", "nothing observed")


def test_default_channels_are_of_different_sensors(tmp_path, drawn):
  schema, truth, visible, reconstruction = holed_day(34)
  day_figures.day_chart(schema, truth, visible, reconstruction, tmp_path / "day.png", "a day")
  numbers = [int(panel.get_title("left").split()[1]) for panel in drawn[0].axes]
  assert numbers == sorted(numbers) and len({number // 5 for number in numbers}) == 6


def test_bad_input_is_one_line(tmp_path):
  schema, truth, visible, reconstruction = holed_day(3)
  for draw in (day_figures.day_chart, day_figures.day_heatmap):
    with pytest.raises(ValueError, match=r"reconstruction has shape \(288, 2\), expected \(288, 3\)"):
      draw(schema, truth, visible, reconstruction[:, :2], tmp_path / "x.png", "")
  with pytest.raises(SchemaError, match="unknown channel 'pulse'"):
    day_figures.day_chart(schema, truth, visible, reconstruction, tmp_path / "x.png", "", channels=["pulse"])
  with pytest.raises(ValueError, match="no channels to draw"):
    day_figures.day_chart(schema, truth, visible, reconstruction, tmp_path / "x.png", "", channels=[])
