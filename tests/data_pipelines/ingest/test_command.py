"""Imports by the real command: values, labels and events, resuming, recipes, and one-line errors."""

import pathlib
import subprocess
import sys

import pytest

from data_pipelines.dataset import Dataset
from data_pipelines.ingest.gridding import spool
from data_pipelines.ingest.importers.long_table import LongTable
from data_pipelines.loader import eval_loader
from tests.data_pipelines.ingest.long_tables import (
  assert_same_days,
  dataset_values,
  make_rows,
  run_build,
  to_text,
  write_csv,
  write_epochs,
  write_exports,
  write_parquet,
  write_wide,
  write_zip,
)

ROOT = pathlib.Path(__file__).resolve().parents[3]


@pytest.mark.parametrize("write", [write_csv, write_zip, write_parquet, write_wide, write_exports, write_epochs])
def test_every_format_gives_the_same_values(tmp_path, write, capsys):
  rows, expected = make_rows(6)
  path = write(tmp_path, rows)
  data = tmp_path / "data"
  flags = [f"--data_dir={data}", "--name=mine", "--minutes_per_step=5", "--timezone=Europe/Berlin"]
  flags += ["--person_by=folder"] * (write is write_exports)
  assert run_build("--source=auto", f"--input={path}", *flags) == 0
  assert_same_days(dataset_values(data), expected)
  dataset = Dataset.open(data, "mine")
  assert [(c.name, c.unit) for c in dataset.schema.channels] == [("heart_rate", "bpm"), ("steps", "steps")]
  output = capsys.readouterr().out
  assert f"{len(rows):,} rows read, {len(rows):,} kept, 0 dropped" in output
  assert "anna3: " in output
  assert list((data / ".importing").iterdir()) == []
  card = (dataset.path / "README.md").read_text()
  assert "heart_rate (bpm): mean, " in card
  assert "time zone: Europe/Berlin" in card
  # A second build finds the dataset without reading the export.
  assert run_build("--source=long_table", f"--input={path}", *flags) == 0
  assert "is already built" in capsys.readouterr().out


def test_the_loader_reads_imported_days(tmp_path):
  rows, expected = make_rows(6)
  flags = [f"--data_dir={tmp_path / 'data'}", "--name=mine", "--minutes_per_step=5", "--split=1,0,0"]
  assert run_build("--source=long_table", f"--input={write_csv(tmp_path, rows)}", *flags) == 0
  dataset = Dataset.open(tmp_path / "data", "mine")
  batches = list(eval_loader(dataset, split="pretrain", batch_size=5))
  loaded = {values.tobytes() for batch in batches for values in batch["values"][batch["weight"] > 0]}
  assert loaded == {values.tobytes() for values in expected.values()}


def test_labels_events_and_time_zones(tmp_path, capsys):
  rows, _ = make_rows(3)
  labels = (
    "participant,age,sex,smoker,weight,timezone\nanna0,31,f,true,60.5,\nanna1,42,m,,71,Asia/Tokyo\nbob,1,m,false,1,\n"
  )
  (tmp_path / "labels.csv").write_text(labels)
  events = [
    ("anna0", "2024-03-04T23:30", "2024-03-05T00:10", "walk", ""),
    ("anna0", "2024-03-05T10:00", "2024-03-05T11:00", "nap", "0"),
    ("anna1", "2024-03-04T01:00:00Z", "2024-03-04T02:00:00Z", "run", "3"),
    ("anna2", "2024-03-04T10:00+05:00", "2024-03-04T10:07+05:00", "run", ""),
    ("anna2", "2025-03-04T10:00", "2025-03-04T10:07", "run", ""),
  ]
  (tmp_path / "events.csv").write_text(to_text(events, "participant,start,end,name,value"))
  flags = [f"--data_dir={tmp_path / 'data'}", "--name=mine", "--minutes_per_step=5", "--split=1,0,0"]
  flags += [f"--participants={tmp_path / 'labels.csv'}", f"--events={tmp_path / 'events.csv'}"]
  assert run_build("--source=long_table", f"--input={write_csv(tmp_path, rows)}", *flags) == 0
  output = capsys.readouterr().out
  assert "1 of the labelled participants have no day" in output
  assert "left out 1 event on days that were not kept" in output
  dataset = Dataset.open(tmp_path / "data", "mine")
  people = dataset.participants().to_pydict()
  assert people["participant"] == ["anna0", "anna1", "anna2"]
  assert (people["age"], people["sex"]) == ([31, 42, None], ["f", "m", None])
  assert (people["smoker"], people["weight"]) == ([True, None, None], [60.5, 71.0, None])
  assert "timezone" not in people
  assert [tuple(event.values()) for event in dataset.events().to_pylist()] == [
    ("anna0", 0, "2024-03-04", 282, 288, "walk", 1),
    ("anna0", 1, "2024-03-05", 0, 2, "walk", 1),
    ("anna0", 1, "2024-03-05", 120, 132, "nap", 0),
    ("anna1", 0, "2024-03-04", 120, 132, "run", 3),
    ("anna2", 0, "2024-03-04", 120, 122, "run", 1),
  ]


def test_days_with_too_few_values_are_counted(tmp_path, capsys):
  rows, _ = make_rows(4)
  rows += [("anna0", f"2024-03-20 10:0{m}", "heart_rate", "60", "bpm") for m in range(9)]
  flags = ["--dry_run", "--minutes_per_step=5", "--source=long_table"]
  assert run_build(f"--input={write_csv(tmp_path, rows)}", *flags) == 0
  output = capsys.readouterr().out
  assert "would build 8 days of 4 people, every 5 min" in output
  assert "left out 1 day of 1 person with more than 80 % missing" in output
  assert "9  day with more than 80 % missing" in output
  assert run_build(f"--input={tmp_path / 'study.csv'}", *flags, "--max_missing=1") == 0
  assert "would build 9 days of 4 people" in capsys.readouterr().out


def test_a_dry_run_writes_nothing(tmp_path, capsys, monkeypatch):
  rows, _ = make_rows(2)
  path = write_csv(tmp_path, rows)
  (tmp_path / "temporary").mkdir()
  monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
  before = sorted(tmp_path.rglob("*"))
  flags = ["--source=auto", f"--input={path}", "--dry_run"]
  assert run_build(*flags, f"--data_dir={tmp_path / 'data'}", "--minutes_per_step=5") == 0
  assert sorted(tmp_path.rglob("*")) == before
  output = capsys.readouterr().out
  assert "--source=long_table" in output
  assert "would build 4 days of 2 people, every 5 min" in output
  assert "- heart_rate (bpm): mean, " in output
  # Readings every five minutes fill a fifth of one-minute steps. No day is left, but the account is printed.
  assert run_build(*flags) == 2
  printed = capsys.readouterr()
  assert f"{len(rows):,}  day with more than 80 % missing" in printed.out
  assert "; --minutes_per_step=5 keeps 4 of them; --max_missing=0.84 keeps 2 of them;" in printed.err


# ----- interrupted and repeated imports


KILLED_IMPORT = """
import os, sys
from data_pipelines import build
from data_pipelines.ingest.gridding import spool
from data_pipelines.ingest.importers.long_table import LongTable

spool.SMALLEST_GROUP = 1
read_all, files = LongTable.read, []

def read(self, export, name, account):
  files.append(name)
  for readings in read_all(self, export, name, account):
    yield readings
    if len(files) == 3:
      os.kill(os.getpid(), 9)

LongTable.read = read
sys.exit(build.main(["build", *sys.argv[1:]]))
"""


def test_a_killed_import_resumes(tmp_path, monkeypatch):
  rows, expected = make_rows(6)
  folder = tmp_path / "study"
  folder.mkdir()
  for n in range(5):
    (folder / f"{n}.csv").write_text(to_text(rows[n::5]))
  flags = [f"--input={folder}", "--source=long_table", f"--data_dir={tmp_path / 'data'}", "--name=mine"]
  flags.append("--minutes_per_step=5")
  killed = subprocess.run([sys.executable, "-c", KILLED_IMPORT, *flags], cwd=ROOT, capture_output=True, text=True)
  assert killed.returncode == -9, killed.stderr
  (work_folder,) = (tmp_path / "data" / ".importing").iterdir()
  assert work_folder.stat().st_mode & 0o077 == 0  # private to the user
  assert len(list(work_folder.glob("readings/*.json"))) == 2
  monkeypatch.setattr(spool, "SMALLEST_GROUP", 1)
  files_read = []
  read_all = LongTable.read
  monkeypatch.setattr(LongTable, "read", lambda self, e, name, a: files_read.append(name) or read_all(self, e, name, a))
  (folder / "0.csv").write_text((folder / "0.csv").read_text() + "\n")  # a changed file is read again
  assert run_build(*flags) == 0
  assert files_read == ["0.csv", "2.csv", "3.csv", "4.csv"]
  assert_same_days(dataset_values(tmp_path / "data"), expected)
  assert not work_folder.exists()


def test_readings_of_a_killed_import_of_another_export_do_not_stay(tmp_path):
  path = write_csv(tmp_path, make_rows(4)[0])
  importing = tmp_path / "data" / ".importing"
  for folder in ("mine-0123456789ab", "mine-2-0123456789ab", "mine-notes"):
    (importing / folder / "readings").mkdir(parents=True)
    (importing / folder / "readings" / "0.parquet").write_text("of another person")
  flags = [f"--input={path}", "--source=auto", f"--data_dir={tmp_path / 'data'}", "--name=mine", "--minutes_per_step=5"]
  assert run_build(*flags) == 0
  assert sorted(folder.name for folder in importing.iterdir()) == ["mine-2-0123456789ab", "mine-notes"]


def test_a_changed_input_is_not_the_same_dataset(tmp_path, capsys):
  rows, _ = make_rows(4)
  path = write_csv(tmp_path, rows)
  flags = [f"--input={path}", "--source=auto", f"--data_dir={tmp_path / 'data'}", "--name=mine", "--minutes_per_step=5"]
  assert run_build(*flags) == 0
  write_csv(tmp_path, rows[:-1])
  assert run_build(*flags) == 2
  assert "already built from files " in capsys.readouterr().err
  assert run_build(*flags, "--overwrite") == 0


def test_a_recipe_is_written_edited_and_followed(tmp_path, capsys):
  rows, _ = make_rows(4)
  rows += [(who, stamp, "mood", "5", "") for who, stamp, channel, *_ in rows if channel == "steps"]
  flags = [f"--input={write_csv(tmp_path, rows)}", "--source=long_table", "--minutes_per_step=5"]
  recipe = tmp_path / "recipe.yaml"
  assert run_build(*flags, "--dry_run", f"--write_recipe={recipe}") == 0
  assert "averaged, because no rule is known: mood" in capsys.readouterr().out
  edited = recipe.read_text().replace("minutes_per_step: 5", "minutes_per_step: 10").replace("rule: sum", "rule: last")
  without_mood, _, mood = edited.partition("  - name: mood")
  recipe.write_text(without_mood)
  assert mood
  assert run_build(*flags[:2], f"--recipe={recipe}", f"--data_dir={tmp_path / 'data'}", "--name=mine") == 0
  dataset = Dataset.open(tmp_path / "data", "mine")
  assert dataset.schema.names == ("heart_rate", "steps")
  assert dataset.schema.minutes_per_step == 10
  assert "signal not in the recipe" in (dataset.path / "account.csv").read_text()
  # Comments in the recipe do not identify a dataset.
  recipe.write_text("# A remark.\n" + without_mood)
  assert run_build(*flags[:2], f"--recipe={recipe}", f"--data_dir={tmp_path / 'data'}", "--name=mine") == 0
  assert run_build(*flags, "--dry_run", f"--write_recipe={recipe}") == 2
  assert "file exists" in capsys.readouterr().err


# ----- bad input


def _write_files(folder, **contents):
  for name, content in contents.items():
    (folder / f"{name}.csv").write_text(content)


ROW = "participant,time,channel,value,unit\na,2024-01-01 10:00,heart_rate,60,bpm\n"
BAD_INPUT = {
  "missing": (ROW, dict(input="none"), "none: no such file or folder"),
  "kind": ("a,b\n1,2\n", {}, "holds nothing that an importer reads"),
  "named": ("a,b\n1,2\n", dict(source="long_table"), "holds no file for the importer that reads CSV or Parquet with"),
  "unit": (ROW.replace("bpm", "parsec"), {}, "unit is 'parsec', expected 'bpm'"),
  "two_units": (
    "participant,time,channel,value,unit\na,2024-01-01 10:00,fat,60,\na,2024-01-01 10:05,fat,60,kg\n",
    {},
    "input.csv: 'fat' of 'a' at 2024-01-01T10:00:00: unit is '', expected 'kg' or a unit that converts to it",
  ),
  "no_channel": ("participant,time,value\n", {}, "no channel; the header has participant, time, value"),
  "times": (
    ROW.replace("2024-01-01", "1/1/24"),
    {},
    "input.csv row 2: column 'time': found '1/1/24 10:00', which is neither ISO 8601 nor",
  ),
  "values": (ROW.replace("60", "?"), {}, "nothing could be read; account of 1 person: 1 row read, 0 kept, 1 dropped"),
  "ragged": (ROW + "a\n", dict(strict=True), "input.csv row 3: more or fewer fields"),
  "utc": (ROW.replace("10:00", "10:00Z"), {}, "readings of heart_rate are in UTC; "),
  "sparse": (ROW, {}, "left out 1 day of 1 person with more than 80 % missing"),
  "zone": (
    ROW,
    dict(timezone="Europe/Berlim"),
    "not an IANA time zone; the nearest are Europe/Berlin",
  ),
  "labels": (ROW, dict(participants="labels.csv"), "labels.csv row 3: participant 'a' appears more than once"),
  "label_zone": (ROW, dict(participants="zones.csv"), "zones.csv row 2: 'Mars' is not an IANA time zone"),
  "events": (ROW, dict(events="events.csv"), "events.csv row 2: ends before it starts"),
  "event_without_length": (ROW, dict(events="moments.csv"), "moments.csv row 2: ends when it starts, expected a later"),
  "event_columns": (ROW, dict(events="labels.csv"), "labels.csv: column 'start' is missing"),
  "recipe": (ROW, dict(recipe="labels.csv"), "labels.csv: expected keys such as 'signals'"),
  "key": (ROW, dict(anonymise="short.csv", date_shift=4), "the key has 9 bytes, expected 16 to 64"),
  "no_key": (ROW, dict(anonymise="none"), "none: no such file or directory; make a key with: head -c 32"),
  "shift": (ROW, dict(date_shift=4), "--date_shift needs --anonymise"),
  "step": (ROW, dict(minutes_per_step=7), "minutes_per_step is 7, expected a divisor of 1440"),
  "share": (ROW, dict(max_missing=7), "'max_missing' is 7"),
  "other": (ROW, dict(source="npz", timezone="UTC"), "--timezone is only for exports, not for --source=npz"),
  "labels_of_npz": (
    ROW,
    dict(source="npz", participants="labels.csv"),
    "--participants is only for exports and --source=simulate, not for --source=npz",
  ),
  "simulated": (ROW, dict(days=3), "--days is only for --source=simulate, not for --source=auto"),
  "split": (ROW, dict(split_file="x.json", split_key="k"), "--split_key has no effect on --split_file"),
}


@pytest.mark.parametrize("case", BAD_INPUT)
def test_bad_input_is_reported_in_one_line(tmp_path, case, capsys, monkeypatch):
  content, changes, message = BAD_INPUT[case]
  monkeypatch.chdir(tmp_path)
  _write_files(tmp_path, input=content, labels="participant,age\na,1\na,2\n", zones="participant,timezone\na,Mars\n")
  _write_files(
    tmp_path, short="too short", events="participant,start,end,name\na,2024-01-01T10:00,2024-01-01T09:00,x\n"
  )
  _write_files(tmp_path, moments="participant,start,end,name\na,2024-01-01T10:00,2024-01-01T10:00,x\n")
  flags = dict(source="auto", input="input.csv", data_dir="data", name="mine") | changes
  assert run_build(*(f"--{flag}={value}" for flag, value in flags.items())) == 2
  error = capsys.readouterr().err
  assert error.startswith("error: ")
  assert error.count("\n") == 1
  assert message in error
  assert not (tmp_path / "data" / "day_windows").exists()


def test_the_real_command_reports_bad_input(tmp_path):
  command = [sys.executable, "-m", "data_pipelines.build", "--source=auto", f"--input={tmp_path}", "--dry_run"]
  finished = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
  assert finished.returncode == 2
  assert finished.stderr.startswith(f"error: {tmp_path}: holds nothing that an importer reads (fitbit, ")
  assert finished.stderr.count("\n") == 1


def test_help_shows_examples(capsys):
  assert run_build("--help") == 0
  output = capsys.readouterr().out
  for flag in ("--timezone=Europe/Berlin", "--dry_run", "--anonymise=key", "--recipe=recipe.yaml", "max_missing"):
    assert flag in output
