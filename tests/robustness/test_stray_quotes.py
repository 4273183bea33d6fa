"""A quote without a partner takes no reading with it: the row is refused, or counted and named."""

import collections
import os
import pathlib
import subprocess
import sys

import pytest

from data_pipelines.ingest.importers.samsung import Samsung
from data_pipelines.ingest.importers.takeout_csv import workouts
from data_pipelines.ingest.reading.account import Account
from data_pipelines.ingest.reading.export_files import Export
from tests.data_pipelines.ingest.long_tables import make_rows, run_build, to_text

ROOT = pathlib.Path(__file__).resolve().parents[2]
SHARED = pathlib.Path(os.environ.get("LSM2_SHARED_DATA") or ROOT.parent / "shared" / "data").parent


def build(folder, capsys, *flags):
  code = run_build("--source=long_table", f"--input={folder}", "--dry_run", "--minutes_per_step=5", *flags)
  captured = capsys.readouterr()
  return code, captured.out, captured.err


@pytest.mark.parametrize(
  ("places", "named"),
  [
    ({800: 'anna1,2024-03-04,"heart_rate,60,bpm'}, 802),  # the rest of the file would be one field
    ({800: '"anna1,2024-03-04,heart_rate,60,bpm'}, 802),
    ({800: 'anna1,2024-03-04,heart_rate,60,"bpm'}, 802),
    ({800: '"anna1,2024-03-04,heart_rate,60,bpm', 1300: 'anna1",2024-03-04,heart_rate,60,bpm'}, 802),  # a name of 500
    ({800: '"anna1', 801: '",2024-03-04,heart_rate,60,bpm'}, 802),
    ({0: 'anna0,2024-03-04,heart_rate,"60,bpm'}, 2),
    ({-1: 'anna3,2024-03-04,heart_rate,60,"'}, None),  # the last row, without a line end
  ],
)
def test_an_open_quote_in_a_long_table_costs_its_row_and_is_refused_by_strict(tmp_path, capsys, places, named):
  lines = to_text(make_rows(4, days=2)[0]).rstrip("\n").split("\n")
  for place, line in places.items():
    lines[place + 1 if place >= 0 else place] = line
  (tmp_path / "study.csv").write_text("\n".join(lines))
  why = "a quote opens and does not close in the row"
  row = named or len(lines)
  faulty = len(places) - (1300 in places)  # a quote within a field, as in the second half of that name, is text
  code, output, error = build(tmp_path / "study.csv", capsys)
  assert code == 0, error
  assert f"{len(lines) - 1:,} rows read, {len(lines) - 1 - len(places):,} kept, {len(places)} dropped" in output
  assert f"{faulty}  {why} (first: {tmp_path}/study.csv row {row})\n" in output
  code, output, error = build(tmp_path / "study.csv", capsys, "--strict")
  message = f"study.csv row {row}: {why}\n"
  assert code == 2 and error.endswith(message) and error.count("\n") == 1 and "would build" not in output


def test_quotes_that_close_change_nothing(tmp_path, capsys):
  rows, _ = make_rows(4, days=2)
  quoted = [tuple(f'"{field}"' for field in row) for row in rows]
  outputs = []
  for name, table in ("plain", rows), ("quoted", quoted):
    (tmp_path / f"{name}.csv").write_text(to_text(table))
    outputs.append(build(tmp_path / f"{name}.csv", capsys))
  assert outputs[0] == outputs[1] and outputs[0][0] == 0


def test_a_quote_in_a_comment_of_samsung_costs_its_own_row_only():
  case = SHARED / "cases" / "23-samsung-quote-in-comment"
  if not case.is_dir():
    pytest.skip("the shared cases are not here")
  kept, dropped = {}, {}
  for folder in sorted(case.glob("samsunghealth_*")):
    export, account = Export(folder), Account()
    items = [item for name in Samsung().files(export) for item in Samsung().read(export, name, account)]
    kept[folder.name[-1]] = sum(len(item.value) for item in items)
    dropped[folder.name[-1]] = {why: count for (_, why), count in account.dropped.items()}
  assert kept == {"x": 5, "y": 4, "z": 4}
  assert dropped["x"] == {}
  assert dropped["y"] == {"a quote opens and does not close in the row": 1}
  assert dropped["z"] == {"more or fewer fields than the header": 1}


def test_a_line_break_in_the_name_of_a_workout_costs_that_workout_only(tmp_path):
  times = "2024-03-04T10:00:00Z,2024-03-04T11:00:00Z,+00:00"
  header = "exercise_start,exercise_end,utc_offset,activity_name"
  (tmp_path / "UserExercises_1.csv").write_text(f'{header}\n{times},Run\n{times},"Long\nwalk"\n{times},Swim\n')
  account = Account()
  names = [stretch.name for stretch in workouts(Export(tmp_path, "anna"), "UserExercises_1.csv", account)]
  assert names == ["run", "swim"]
  reasons = {"a quote opens and does not close in the row": 1, "more or fewer fields than the header": 1}
  assert {why: count for (_, why), count in account.dropped.items()} == reasons
  assert account.read == collections.Counter(anna=4)


def test_no_hint_at_a_flag_that_was_given(tmp_path, capsys):
  (tmp_path / "study.csv").write_text("participant,time,channel,value\na,2024-03-04 10:00,heart_rate,60\n")
  code, _, error = build(tmp_path / "study.csv", capsys)
  assert code == 2 and "no day is left to build; left out 1 day" in error and "--minutes_per_step" not in error


@pytest.mark.slow
def test_an_import_that_fails_does_not_abort_at_exit(tmp_path):
  lines = to_text(make_rows(6, days=12)[0]).rstrip("\n").split("\n")
  lines[30] = "anna0"
  (tmp_path / "study.csv").write_text("\n".join(lines))
  command = [sys.executable, "-m", "data_pipelines.build", "--source=long_table", "--dry_run"]
  for _ in range(8):
    run = subprocess.run([*command, f"--input={tmp_path / 'study.csv'}"], cwd=ROOT, capture_output=True, text=True)
    assert run.returncode == 2 and run.stderr.count("\n") == 1, run.stderr
