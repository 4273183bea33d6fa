"""A dry run refuses what a build refuses; absurd values, events that contradict and columns not read are reported."""

import json

import numpy as np
import pytest

from data_pipelines.day_windows.missing_codes import code_notes
from data_pipelines.schema import Channel, Schema
from tests import tiny
from tests.data_pipelines.ingest.long_tables import make_rows, run_build, to_text


@pytest.fixture
def study(tmp_path):
  rows, _ = make_rows(4, days=1)
  (tmp_path / "study.csv").write_text(to_text(rows))
  return tmp_path


def ran(capsys, *arguments):
  """Exit code and output of a build."""
  code = run_build(*arguments)
  captured = capsys.readouterr()
  return code, captured.out + captured.err


def imported(folder, capsys, *arguments):
  source = [f"--input={folder / 'study.csv'}", "--source=long_table", "--minutes_per_step=5", "--max_missing=1"]
  return ran(capsys, *source, *arguments)


@pytest.mark.parametrize(
  ("labels", "message"),
  [
    ({"p0": {"age": 3}, "p1": {"age": "ten"}}, "label 'age' mixes int ('p0': 3), str ('p1': 'ten')"),
    ({"p0": {"age": True}, "p1": {"age": 1}}, "label 'age' mixes bool"),
    ({"p0": {"split": 1}}, "label 'split' (of participant 'p0') has the name of a column"),
    ({"p0": {"days": 1}}, "label 'days' (of participant 'p0') has the name of a column"),
    ({"p0": {"participant": 1}}, "label 'participant'"),
  ],
)
def test_a_dry_run_refuses_labels_that_the_build_refuses(tmp_path, capsys, labels, message):
  path = tmp_path / "days.npz"
  np.savez(path, **tiny.arrays() | {"labels": np.array(json.dumps(labels))})
  build = ["--source=npz", f"--input={path}", f"--data_dir={tmp_path / 'data'}", "--name=mine"]
  lines = []
  for flags in (build, [*build, "--dry_run"]):
    code, output = ran(capsys, *flags)
    assert code == 2
    lines += [line for line in output.splitlines() if line.startswith("error: ")]
  assert lines[0] == lines[1] and message in lines[0] and str(path) in lines[0]


def test_codes_in_labels_are_told_like_those_in_channels(tmp_path, study, capsys):
  path = tmp_path / "days.npz"
  labels = {f"p{i}": {"bmi": -9 if i < 3 else 20.5 + i} for i in range(8)}
  np.savez(path, **tiny.arrays() | {"labels": np.array(json.dumps(labels))})
  (study / "labels.csv").write_text("participant,bmi\nanna0,-9\nanna1,-9\nanna2,22\nanna3,25.5\n")
  runs = (
    ran(capsys, "--source=npz", f"--input={path}", f"--data_dir={tmp_path / 'data'}", "--name=mine"),
    ran(capsys, "--source=npz", f"--input={path}", "--dry_run"),
    imported(study, capsys, f"--participants={study / 'labels.csv'}", "--dry_run"),
  )
  for count, (code, output) in zip((3, 3, 2), runs, strict=True):
    assert code == 0 and f"note: label 'bmi': {count} values of -9 (" in output, output


@pytest.mark.parametrize("name", ["split", "days"])
def test_a_dry_run_of_an_import_refuses_them_too(study, capsys, name):
  (study / "labels.csv").write_text(f"participant,{name}\nanna0,1\n")
  code, output = imported(study, capsys, f"--participants={study / 'labels.csv'}", "--dry_run")
  assert code == 2 and f"label {name!r} (of participant 'anna0') has the name of a column" in output


def test_a_dry_run_refuses_to_leave_out_strangers(study, capsys):
  code, output = imported(study, capsys, "--without_participants=nobody", "--dry_run")
  assert code == 2 and "participant 'nobody' is to be left out" in output


def test_absurd_values_are_told_with_the_first(study, capsys):
  rows = [f"anna3,2024-03-04 {n // 12:02d}:{n % 12 * 5:02d},mine,{2 + n % 2}," for n in range(250)]
  with (study / "study.csv").open("a") as file:
    file.write("\n".join([*rows, "anna3,2024-03-04 23:55,mine,1e12,"]) + "\n")
  code, output = imported(study, capsys, f"--data_dir={study / 'data'}", "--name=mine", "--split=1,0,0")
  assert code == 0, output
  (line,) = [line for line in output.splitlines() if " far from " in line]
  assert line == (
    "note: channel 'mine': 1 value of 1e+12 (first: participant 'anna3', 2024-03-04; next: 3) far from the rest, most "
    "of which is within 4, taken as measured; if this is wrong, write NaN instead"
  )


@pytest.mark.parametrize(
  ("channel", "absurd", "far"),
  [
    (Channel("heart_rate", "bpm"), 7000, "from 20 to 250 bpm"),
    (Channel("heart_rate", "bpm"), -7000, "from 20 to 250 bpm"),
    (Channel("temperature", "F"), 2000, "from -4 to 140 F"),
    (Channel("mine"), 1e7, "from the rest, most of which is within 128"),
    (Channel("mine"), -1e38, "from the rest, most of which is within 128"),
  ],
)
def test_absurd_in_any_unit(channel, absurd, far):
  values = np.random.default_rng(0).normal(70, 10, (3, 144, 1)).astype(np.float32)
  schema = Schema(10, (channel,))
  assert code_notes(schema, values) == []
  values[1, 5:8] = absurd
  (note,) = code_notes(schema, values)
  assert note.startswith(f"channel {channel.name!r}: 3 values of {absurd:g} (first: row 1; next: ")
  assert f") far {far}, taken as measured" in note


def test_what_is_rare_or_large_is_not_absurd():
  rng = np.random.default_rng(0)
  schema = Schema(10, (Channel("heart_rate", "bpm"), Channel("steps"), Channel("mine"), Channel("worn", kind="binary")))
  values = np.zeros((5, 144, 4), np.float32)
  values[..., 0] = rng.normal(70, 30, (5, 144))
  values[2, 3, 1] = 900  # the only steps of anybody
  values[..., 2] = np.exp(rng.normal(0, 2, (5, 144)))
  values[rng.random(values.shape) < 0.3] = np.nan
  assert code_notes(schema, values) == []


@pytest.mark.parametrize(
  ("events", "count", "first"),
  [
    (["anna0,10:00,11:00,meal,1", "anna0,10:30,10:40,meal,0"], 1, "anna0 'meal' at 2024-03-04T10:30"),
    (["anna0,10:00,11:00,meal,0", "anna0,10:00,11:00,meal,3"], 1, "anna0 'meal' at 2024-03-04T10:00"),
    (["anna0,10:00,12:00,meal,1", "anna0,10:10,10:20,meal,1", "anna0,11:00,11:10,meal,0"], 1, "T11:00"),
    (["anna0,10:00,10:02,meal,1", "anna0,10:02,11:00,meal,0"], 0, ""),  # in one step, not at one time
    (["anna0,10:00,11:00,meal,1", "anna0,10:30,10:40,meal,2"], 0, ""),
    (["anna0,10:00,11:00,meal,1", "anna1,10:30,10:40,meal,0", "anna0,10:00,11:00,walk,0"], 0, ""),
  ],
)
def test_events_that_contradict_are_told(study, capsys, events, count, first):
  rows = [event.replace(",1", ",2024-03-04T1", 2) for event in events]
  (study / "events.csv").write_text("\n".join(["participant,start,end,name,value", *rows]) + "\n")
  code, output = imported(study, capsys, f"--events={study / 'events.csv'}", "--dry_run")
  assert code == 0, output
  lines = [line for line in output.splitlines() if "present and absent" in line]
  assert len(lines) == bool(count)
  if count:
    assert lines[0].startswith(f"note: --events says for {count} event that the same is present and absent at one time")
    assert first in lines[0]


def test_columns_not_read_are_told(study, capsys):
  rows, _ = make_rows(1, days=1)
  (study / "study.csv").write_text(
    to_text([(*row, "x", "y", "z") for row in rows], "participant,time,channel,value,unit,site,note,")
  )
  code, output = imported(study, capsys, "--dry_run")
  assert code == 0 and "note: not read: 3 columns (site, note, one without a name)\n" in output
  wide = "".join(f"anna,2024-03-04 {hour:02d}:00,60,7,bpm\n" for hour in range(24))
  (study / "study.csv").write_text("participant,time,heart_rate,value,unit\n" + wide)
  code, output = imported(study, capsys, "--dry_run")
  assert code == 0 and "note: not read: 2 columns (value, unit)\n" in output
