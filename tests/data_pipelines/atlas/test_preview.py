"""The picture of a day that a dry run writes, and readings without neighbours, which it draws as points."""

import numpy as np
import pytest
from matplotlib.image import imread

from data_pipelines.atlas import day_chart
from data_pipelines.page.chart import COLOURS, panels, style
from data_pipelines.schema import Channel, Schema
from tests.data_pipelines.ingest.long_tables import make_rows, run_build, to_text


def test_a_value_without_neighbours_is_a_point():
  schema = Schema(5, (Channel("heart_rate", "bpm"),))
  values = np.full(288, np.nan)
  values[[0, 10, 20, 21, 30, 287]] = [60, 61, 62, 63, 64, 65]
  with style():
    _, [panel] = panels(2)
    day_chart.draw_line(panel, schema, 0, values, [])
  line, points = panel.get_lines()
  hours = day_chart.step_hours(schema)
  assert points.get_linestyle() == "None" and points.get_marker() == "o" and line.get_linestyle() == "-"
  np.testing.assert_array_equal(points.get_xdata(), hours[[0, 10, 30, 287]])
  np.testing.assert_array_equal(points.get_ydata(), [60, 61, 64, 65])


def dark(path):
  """Number of pixels in the colour of ink."""
  ink = [int(COLOURS["ink"][i : i + 2], 16) / 255 for i in (1, 3, 5)]
  return int((np.abs(imread(path)[..., :3] - ink).max(axis=-1) < 0.05).sum())


def test_a_dry_run_draws_the_fullest_day(tmp_path, capsys):
  rows, _ = make_rows(2)
  thin = [row for n, row in enumerate(rows) if row[1].startswith("2024-03-05") or n % 3]  # the first day lacks a third
  (tmp_path / "study.csv").write_text(to_text(thin))
  common = ["--source=long_table", f"--input={tmp_path / 'study.csv'}", "--dry_run"]
  picture = tmp_path / "day.png"
  assert run_build(*common, "--minutes_per_step=5", f"--preview={picture}") == 0
  output = capsys.readouterr().out
  assert f"2024-03-05, the fullest of some days, is drawn in {picture}\n" in output
  assert sorted(path.name for path in tmp_path.iterdir()) == ["day.png", "study.csv"]
  assert dark(picture) > 1000 and imread(picture).shape[1] > 600
  # On steps of a minute no reading has a neighbour; the day is drawn all the same.
  assert run_build(*common, "--max_missing=1", f"--preview={picture}") == 0
  assert dark(picture) > 1000


@pytest.mark.parametrize(
  ("flags", "fault"),
  [
    (["--dry_run", "--preview=day.svg"], "day.svg: expected a name that ends in .png"),
    (["--dry_run", "--preview=no/such/day.png"], "no/such is no folder that may be written to"),
    (["--preview=day.png", "--data_dir=data", "--name=x"], "--preview needs --dry_run"),
  ],
)
def test_a_preview_that_cannot_be_written_is_refused_before_reading(tmp_path, capsys, flags, fault, monkeypatch):
  monkeypatch.chdir(tmp_path)
  (tmp_path / "bad.csv").write_text("time,channel,value\n?\n")
  assert run_build("--source=long_table", "--input=bad.csv", *flags) == 2
  assert fault in capsys.readouterr().err


def test_days_without_a_date_or_cause_are_drawn(tmp_path):
  values = np.full((1, 288, 1), 60, np.float32)
  np.savez(
    tmp_path / "x.npz",
    values=values,
    channels=np.array(["heart_rate"]),
    participant=np.array(["kim"]),
    day=np.array([3]),
    date=np.array([""]),
    minutes_per_step=np.array(5),
  )
  assert run_build("--source=npz", f"--input={tmp_path / 'x.npz'}", "--dry_run", f"--preview={tmp_path / 'x.png'}") == 0
  assert (tmp_path / "x.png").stat().st_size > 1000
