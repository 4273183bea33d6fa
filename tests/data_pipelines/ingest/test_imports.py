"""From exports to datasets by the real command: values, labels, events, the account, resuming, anonymity."""

import collections
import csv
import datetime
import io
import itertools
import pathlib
import subprocess
import sys
import tracemalloc
import zipfile

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_pipelines import build as build_module
from data_pipelines.build import main
from data_pipelines.dataset import Dataset
from data_pipelines.errors import SchemaError
from data_pipelines.ingest.anonymity import Anonymity
from data_pipelines.ingest.gridding import spool, spool_reader
from data_pipelines.ingest.imported_source import ImportedSource
from data_pipelines.ingest.importers import IMPORTERS
from data_pipelines.ingest.importers.long_table import LongTable
from data_pipelines.ingest.options import ImportOptions
from data_pipelines.ingest.reading.account import Account
from data_pipelines.ingest.reading.export_files import Export
from data_pipelines.ingest.reading.input_files import ExportSet, detect_importer
from data_pipelines.ingest.reading.readings import Readings, Stretch
from data_pipelines.ingest.reading.signals import Signal
from data_pipelines.loader import eval_loader

ROOT = pathlib.Path(__file__).resolve().parents[3]
FIRST = datetime.datetime(2024, 3, 4)
HEADER = "participant,time,channel,value,unit"


@pytest.fixture(autouse=True)
def _no_wait_for_the_disk(monkeypatch):
  monkeypatch.setattr("os.fsync", lambda file: None)


def run(*arguments):
  """The command, in this process; its exit code."""
  build_module.FLAGS.unparse_flags()
  return main(["build", *(str(argument) for argument in arguments)])


def rows_of(people, days=2, step=5):
  """Rows of a long table, and the values that days of 5-minute steps must have, by person and date."""
  rng = np.random.default_rng(0)
  rows, expected = [], {}
  for p in range(people):
    for d in range(days):
      day = FIRST + datetime.timedelta(days=d)
      values = np.full((288, 2), np.nan, np.float32)
      for s in range(288):
        if rng.random() < 0.8:
          values[s] = 50 + rng.integers(60), rng.integers(40)
          stamp = (day + datetime.timedelta(minutes=step * s)).isoformat(" ")
          rows.append((f"anna{p}", stamp, "heart_rate", f"{values[s, 0]:g}", "bpm"))
          rows.append((f"anna{p}", stamp, "steps", f"{values[s, 1]:g}", ""))
      expected[f"anna{p}", str(day.date())] = values
  return rows, expected


def text(rows, header=HEADER):
  return "\n".join([header, *(",".join(row) for row in rows)]) + "\n"


def built(folder, name="mine"):
  """Values of all days of a dataset, by person and date."""
  dataset = Dataset.open(folder, name)
  found = {}
  for split in ("pretrain", "tune", "eval"):
    for day in dataset.days(split) if dataset.num_days(split) else ():
      found[day["participant"].decode(), day["date"].decode()] = day["values"]
  return found


def same(found, expected):
  assert found.keys() == expected.keys()
  for key, values in expected.items():
    np.testing.assert_array_equal(found[key], values)


def as_csv(folder, rows):
  (folder / "study.csv").write_text(text(rows))
  return folder / "study.csv"


def as_zip(folder, rows):
  half = len(rows) // 2
  with zipfile.ZipFile(folder / "study.zip", "w", zipfile.ZIP_DEFLATED) as packed:
    packed.writestr("a/one.csv", text(rows[:half]))
    packed.writestr("b/two.csv", "﻿" + text(rows[half:]))
  return folder / "study.zip"


def as_parquet(folder, rows):
  columns = dict(zip(HEADER.split(","), zip(*rows, strict=True), strict=True))
  columns["time"] = pa.array([datetime.datetime.fromisoformat(t) for t in columns["time"]], pa.timestamp("us"))
  columns["value"] = pa.array([float(value) for value in columns["value"]])
  pq.write_table(pa.table({name: pa.array(column) for name, column in columns.items()}), folder / "study.parquet")
  return folder / "study.parquet"


def as_wide(folder, rows):
  wide = collections.defaultdict(dict)
  for who, stamp, channel, value, _ in rows:
    wide[who, stamp][channel] = value
  lines = [(*key, cells.get("heart_rate", ""), cells.get("steps", "")) for key, cells in reversed(wide.items())]
  (folder / "wide.csv").write_text(text(lines, "participant,time,heart_rate,steps"))
  return folder


def as_exports(folder, rows):
  """A folder of one export a person, which does not say who it is of."""
  for who in {row[0] for row in rows}:
    (folder / "all" / who).mkdir(parents=True)
    mine = [row[1:] for row in rows if row[0] == who]
    (folder / "all" / who / "data.csv").write_text(text(mine, HEADER.removeprefix("participant,")))
  return folder / "all"


def as_epochs(folder, rows):
  """Seconds of UTC, which was an hour behind the wall clock of Berlin on these days."""
  seconds = lambda t: datetime.datetime.fromisoformat(t + "+01:00").timestamp()
  (folder / "epochs.csv").write_text(text([(who, f"{seconds(t):.0f}", *rest) for who, t, *rest in rows]))
  return folder / "epochs.csv"


@pytest.mark.parametrize("write", [as_csv, as_zip, as_parquet, as_wide, as_exports, as_epochs])
def test_export_to_dataset_to_values(tmp_path, write, capsys):
  rows, expected = rows_of(6)
  path = write(tmp_path, rows)
  data = tmp_path / "data"
  flags = [f"--data_dir={data}", "--name=mine", "--minutes_per_step=5", "--timezone=Europe/Berlin"]
  assert run("--source=auto", f"--input={path}", *flags) == 0
  same(built(data), expected)
  dataset = Dataset.open(data, "mine")
  assert [(c.name, c.unit) for c in dataset.schema.channels] == [("heart_rate", "bpm"), ("steps", "steps")]
  said = capsys.readouterr()
  assert f"{len(rows):,} rows read, {len(rows):,} kept, 0 dropped" in said.out
  assert "anna3: " in said.out
  assert list((data / ".importing").iterdir()) == []
  card = (dataset.path / "README.md").read_text()
  assert "heart_rate (bpm): mean, " in card
  assert "time zone: Europe/Berlin" in card
  # The same again is there already, and says so without reading.
  assert run("--source=long_table", f"--input={path}", *flags) == 0
  assert "is already built" in capsys.readouterr().out


def test_loader_gives_the_days(tmp_path):
  rows, expected = rows_of(6)
  flags = [f"--data_dir={tmp_path / 'data'}", "--name=mine", "--minutes_per_step=5", "--split=1,0,0"]
  assert run("--source=long_table", f"--input={as_csv(tmp_path, rows)}", *flags) == 0
  dataset = Dataset.open(tmp_path / "data", "mine")
  batches = list(eval_loader(dataset, split="pretrain", batch_size=5))
  found = {values.tobytes() for batch in batches for values in batch["values"][batch["weight"] > 0]}
  assert found == {values.tobytes() for values in expected.values()}


def test_labels_events_and_zones(tmp_path, capsys):
  rows, _ = rows_of(3)
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
  (tmp_path / "events.csv").write_text(text(events, "participant,start,end,name,value"))
  flags = [f"--data_dir={tmp_path / 'data'}", "--name=mine", "--minutes_per_step=5", "--split=1,0,0"]
  flags += [f"--participants={tmp_path / 'labels.csv'}", f"--events={tmp_path / 'events.csv'}"]
  assert run("--source=long_table", f"--input={as_csv(tmp_path, rows)}", *flags) == 0
  said = capsys.readouterr().out
  assert "1 of the labelled participants have no day" in said
  assert "1 events fall on no day that was kept" in said
  dataset = Dataset.open(tmp_path / "data", "mine")
  people = dataset.participants().to_pydict()
  assert people["participant"] == ["anna0", "anna1", "anna2"]
  assert (people["age"], people["sex"]) == ([31, 42, None], ["f", "m", None])
  assert (people["smoker"], people["weight"]) == ([True, None, None], [60.5, 71.0, None])
  assert "timezone" not in people
  found = [tuple(event.values()) for event in dataset.events().to_pylist()]
  assert found == [
    ("anna0", 0, "2024-03-04", 282, 288, "walk", 1),
    ("anna0", 1, "2024-03-05", 0, 2, "walk", 1),
    ("anna0", 1, "2024-03-05", 120, 132, "nap", 0),
    ("anna1", 0, "2024-03-04", 120, 132, "run", 3),
    ("anna2", 0, "2024-03-04", 120, 122, "run", 1),
  ]


# ----- the account


@st.composite
def tables(draw):
  """A row for each of some minutes of some people, good or bad in one way."""
  rows = []
  for who in draw(st.sets(st.sampled_from(["a", "b", "c"]), min_size=1)):
    for minute in draw(st.sets(st.integers(0, 2 * 1440 - 1), min_size=1, max_size=40)):
      stamp = (FIRST + datetime.timedelta(minutes=minute)).isoformat()
      bad = draw(st.sampled_from(["", "", "", "time", "value", "range", "zero"]))
      value = {"value": "high", "range": "900", "zero": "0"}.get(bad, "77")
      rows.append((who, "noon" if bad == "time" else stamp, "heart_rate", value, "bpm"))
  return rows


@given(tables(), st.floats(0.98, 1))
@settings(max_examples=40)
def test_every_row_is_kept_or_dropped(tmp_path_factory, rows, most):
  folder = tmp_path_factory.mktemp("account")
  given = ExportSet(as_csv(folder, draw_good(rows)), LongTable())
  rows = draw_good(rows)
  source = None
  try:
    source = ImportedSource(given, folder / "work", ImportOptions(max_missing=most))
  except SchemaError as error:
    assert "no day is left" in str(error)
    return
  cells = collections.Counter()
  for person in source.participants:
    cells[person] = sum(int((~np.isnan(day.values)).sum()) for day in source.person(person).days)
  table = list(csv.DictReader(io.StringIO(source.documents["account.csv"])))
  for who in {row[0] for row in rows}:
    told = collections.Counter({row["outcome"]: int(row["rows"]) for row in table if row["participant"] == who})
    assert told.pop("read") == sum(row[0] == who for row in rows) == told.total()
    assert told["kept"] == cells[who]  # each row that is kept has a step to itself


def draw_good(rows):
  """With one good row in front: a file without any time is no table."""
  return [("z", FIRST.isoformat(), "heart_rate", "70", "bpm"), *rows]


def test_days_below_the_threshold_are_counted(tmp_path, capsys):
  rows, _ = rows_of(4)
  rows += [("anna0", f"2024-03-20 10:0{m}", "heart_rate", "60", "bpm") for m in range(9)]
  flags = ["--dry_run", "--minutes_per_step=5", "--source=long_table"]
  assert run(f"--input={as_csv(tmp_path, rows)}", *flags) == 0
  said = capsys.readouterr().out
  assert "would build 8 days of 4 people, every 5 min" in said
  assert "left out 1 days of 1 people with more than 80 % missing" in said
  assert "9  day with more than 80 % missing" in said
  assert run(f"--input={tmp_path / 'study.csv'}", *flags, "--max_missing=1") == 0
  assert "would build 9 days of 4 people" in capsys.readouterr().out


def test_dry_run_writes_nothing(tmp_path, capsys, monkeypatch):
  rows, _ = rows_of(2)
  path = as_csv(tmp_path, rows)
  (tmp_path / "temporary").mkdir()
  monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
  before = sorted(tmp_path.rglob("*"))
  flags = ["--source=auto", f"--input={path}", "--dry_run"]
  assert run(*flags, f"--data_dir={tmp_path / 'data'}", "--minutes_per_step=5") == 0
  assert sorted(tmp_path.rglob("*")) == before
  said = capsys.readouterr().out
  assert "--source=long_table" in said
  assert "would build 4 days of 2 people, every 5 min" in said
  assert "- heart_rate (bpm): mean, " in said
  # Every five minutes are no minutes: no day is left, and what became of the rows is told all the same.
  assert run(*flags) == 2
  said = capsys.readouterr()
  assert f"{len(rows):,}  day with more than 80 % missing" in said.out
  assert "every 5 minutes, use --minutes_per_step=5" in said.err


# ----- interrupted, and repeated


KILLED = """
import os, sys
from data_pipelines import build
from data_pipelines.ingest.gridding import spool
from data_pipelines.ingest.importers.long_table import LongTable

spool.ROWS_PER_PART, spool.SECONDS_PER_COMMIT = 500, 0.0
whole, files = LongTable.read, []

def read(self, export, name, account):
  files.append(name)
  for found in whole(self, export, name, account):
    yield found
    if len(files) == 3:
      os.kill(os.getpid(), 9)

LongTable.read = read
sys.exit(build.main(["build", *sys.argv[1:]]))
"""


def test_a_killed_import_goes_on(tmp_path, monkeypatch):
  rows, expected = rows_of(6)
  folder = tmp_path / "study"
  folder.mkdir()
  for n in range(5):
    (folder / f"{n}.csv").write_text(text(rows[n::5]))
  flags = [f"--input={folder}", "--source=long_table", f"--data_dir={tmp_path / 'data'}", "--name=mine"]
  flags.append("--minutes_per_step=5")
  done = subprocess.run([sys.executable, "-c", KILLED, *flags], cwd=ROOT, capture_output=True, text=True)
  assert done.returncode == -9, done.stderr
  (waiting,) = (tmp_path / "data" / ".importing").iterdir()
  assert waiting.stat().st_mode & 0o077 == 0  # nobody else reads it
  strays = len(list(waiting.glob("readings/part-*")))
  read = []
  whole = LongTable.read
  monkeypatch.setattr(LongTable, "read", lambda self, e, name, a: read.append(name) or whole(self, e, name, a))
  (folder / "0.csv").write_text((folder / "0.csv").read_text() + "\n")  # changed since: read again
  assert run(*flags) == 0
  assert read == ["0.csv", "2.csv", "3.csv", "4.csv"]
  assert strays >= 2
  same(built(tmp_path / "data"), expected)
  assert not waiting.exists()


def test_an_input_that_changed_is_another(tmp_path, capsys):
  rows, _ = rows_of(4)
  path = as_csv(tmp_path, rows)
  flags = [f"--input={path}", "--source=auto", f"--data_dir={tmp_path / 'data'}", "--name=mine", "--minutes_per_step=5"]
  assert run(*flags) == 0
  as_csv(tmp_path, rows[:-1])
  assert run(*flags) == 2
  assert "already built from files " in capsys.readouterr().err
  assert run(*flags, "--overwrite") == 0


def test_a_recipe_is_written_edited_and_followed(tmp_path, capsys):
  rows, _ = rows_of(4)
  rows += [(who, stamp, "mood", "5", "") for who, stamp, channel, *_ in rows if channel == "steps"]
  flags = [f"--input={as_csv(tmp_path, rows)}", "--source=long_table", "--minutes_per_step=5"]
  recipe = tmp_path / "recipe.yaml"
  assert run(*flags, "--dry_run", f"--write_recipe={recipe}") == 0
  assert "averaged, because no rule is known: mood" in capsys.readouterr().out
  changed = recipe.read_text().replace("minutes_per_step: 5", "minutes_per_step: 10").replace("rule: sum", "rule: last")
  kept, _, dropped = changed.partition("  - name: mood")
  recipe.write_text(kept)
  assert dropped
  assert run(*flags[:2], f"--recipe={recipe}", f"--data_dir={tmp_path / 'data'}", "--name=mine") == 0
  dataset = Dataset.open(tmp_path / "data", "mine")
  assert dataset.schema.names == ("heart_rate", "steps")
  assert dataset.schema.minutes_per_step == 10
  assert "signal not in the recipe" in (dataset.path / "account.csv").read_text()
  assert run(*flags, "--dry_run", f"--write_recipe={recipe}") == 2
  assert "file exists" in capsys.readouterr().err


# ----- spool


class Made:
  """An importer of made-up readings, in no order, of two devices."""

  signals = (Signal("heart_rate", "bpm"), Signal("glucose", "mg/dL"))
  devices = ("watch",)
  beside = ()

  def files(self, export):
    return export.matching("*.made")

  def read(self, export, name, account):
    rng = np.random.default_rng(int(name[0]))
    for block in range(6):
      who = f"p{rng.integers(3)}"
      account.add(who, 100)
      start = rng.integers(1.6e12, 1.7e12, 100)
      signal, unit = [("heart_rate", "bpm"), ("glucose", "mmol/L")][block % 2]
      device = ["watch", "belt"][block // 2 % 2]
      offset = rng.integers(-60, 60, 100) if block % 3 else None
      yield Readings(who, signal, unit, start, start + block, rng.normal(80, 9, 100), device, offset)
    yield Stretch("p0", "running", 5, 9)


@pytest.mark.parametrize(("part", "at_once"), [(2**20, 2**21), (70, 2**21), (250, 100)])
def test_spool_gives_back_what_was_read(tmp_path, monkeypatch, part, at_once):
  monkeypatch.setattr(spool, "ROWS_PER_PART", part)
  monkeypatch.setattr(spool, "ROWS_PER_GROUP", 64)
  monkeypatch.setattr(spool_reader, "ROWS_AT_ONCE", at_once)
  (tmp_path / "in").mkdir()
  for n in range(4):
    (tmp_path / "in" / f"{n}.made").write_text("")
  made = ExportSet(tmp_path / "in", Made())
  for _ in range(2):  # the second time from the journal
    kept = spool.fill_spool(made, tmp_path / "spool")
  recipe, _ = ImportOptions().recipe_for(Made(), kept)
  expected = collections.defaultdict(list)
  for n in range(4):
    for found in Made().read(made.exports[0], f"{n}.made", Account()):
      if isinstance(found, Readings):
        for i in range(100):
          signal, value = ("heart_rate", "glucose").index(found.signal), found.value[i]
          value = value * 18.016 if signal else value
          offset = spool.NO_OFFSET if found.offset is None else found.offset[i]
          device = ("watch", "belt").index(found.device)
          expected[found.participant].append((found.start[i], found.end[i], signal, device, value, offset))
  found = {}
  for who, parts in spool_reader.SpoolReader(kept, recipe, ("watch", "belt")).people():
    parts = list(parts)
    assert all(a.start.max() < b.start.min() for a, b in itertools.pairwise(parts))
    assert len(parts) > (1 if at_once == 100 else 0)
    columns = ("start", "end", "signal", "device", "value", "offset")
    found[who] = sorted(
      row for p in parts for row in zip(*(getattr(p, name).tolist() for name in columns), strict=True)
    )
  assert found.keys() == expected.keys()
  for who, rows in expected.items():
    np.testing.assert_allclose(np.array(found[who]), np.array(sorted(rows)), rtol=1e-12)
  assert kept.account.read == collections.Counter({who: len(rows) for who, rows in expected.items()})
  assert kept.stretches == [Stretch("p0", "running", 5, 9)] * 4


def test_times_of_no_century_go_by_at_once(tmp_path, monkeypatch):
  monkeypatch.setattr(spool_reader, "ROWS_AT_ONCE", 2)
  rows, _ = rows_of(1, days=1)
  given = ExportSet(as_csv(tmp_path, rows), LongTable())
  kept = spool.Spool(tmp_path / "spool", given.digests)
  start = np.array([-(2**63), 0, 1_700_000_000_000, 2**63 - 1])
  kept.add(Readings("p", "heart_rate", "bpm", start, start, np.ones(4)))
  kept.end_file("study.csv/study.csv", Account())
  kept.commit()
  recipe, _ = ImportOptions().recipe_for(LongTable(), kept)
  ((_, parts),) = spool_reader.SpoolReader(kept, recipe, ("",)).people()
  assert [part.start.tolist() for part in parts] == [start[:2].tolist(), [1_700_000_000_000], [2**63 - 1]]


def test_memory_does_not_grow_with_the_readings(tmp_path, monkeypatch):
  monkeypatch.setattr(spool, "ROWS_PER_PART", 20_000)
  monkeypatch.setattr(spool, "ROWS_PER_GROUP", 1_000)
  monkeypatch.setattr(spool_reader, "ROWS_AT_ONCE", 20_000)
  count = 600_000

  class Many(Made):
    def read(self, export, name, account):
      for first in range(0, count, 5_000):
        start = 1_500_000_000_000 + 60_000 * np.arange(first, first + 5_000)
        yield Readings("p", "heart_rate", "bpm", start, start, np.ones(5_000))

  (tmp_path / "0.made").write_text("")
  tracemalloc.start()
  try:
    kept = spool.fill_spool(ExportSet(tmp_path, Many()), tmp_path / "spool")
    recipe, _ = ImportOptions().recipe_for(Many(), kept)
    ((_, parts),) = spool_reader.SpoolReader(kept, recipe, ("",)).people()
    assert sum(len(part) for part in parts) == count
    peak = tracemalloc.get_traced_memory()[1]
  finally:
    tracemalloc.stop()
  assert peak < 8e6 < count * 34


# ----- whose export it is


@pytest.mark.parametrize(
  ("files", "per_person", "expected"),
  [
    (["anna/Takeout/hr-2024.csv", "bob/Takeout/hr-2023.csv"], None, {"anna", "bob"}),
    (["Fit/Sleep/s-1.csv", "Fit/Steps/t-1.csv", "Other/x.csv"], None, {"in"}),
    (["Fit/Sleep/s-1.csv", "Other/x.csv"], True, {"Fit", "Other"}),
    (["anna/x.csv", "bob/x.csv"], False, {"in"}),
    (["takeout-20240131T1Z-001.zip", "takeout-20240131T1Z-002.zip"], None, {"takeout-20240131T1Z"}),
    (["anna.zip"], None, {"anna"}),
    (["x.csv"], None, {"in"}),
  ],
)
def test_folders_of_exports_are_told_from_exports(tmp_path, files, per_person, expected):
  row = "time,channel,value\n2024-01-01,heart_rate,60\n"
  for name in files:
    path = tmp_path / "in" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    if name.endswith(".zip"):
      with zipfile.ZipFile(path, "w") as packed:
        packed.writestr("hr.csv", row)
    else:
      path.write_text(row)
  given = ExportSet(tmp_path / "in", LongTable(), per_person)
  assert {export.participant for export in given.exports} == expected


def test_auto_refuses_none_and_several(tmp_path):
  as_csv(tmp_path, rows_of(1)[0])
  assert detect_importer(tmp_path, IMPORTERS) == "long_table"
  with pytest.raises(SchemaError, match="may be an export of a or of b; choose one with --source"):
    detect_importer(tmp_path, {"a": LongTable(), "b": LongTable(), "c": Made()})
  with pytest.raises(SchemaError, match=r"holds nothing that an importer reads \(c\)"):
    detect_importer(tmp_path, {"c": Made()})


def test_digests_tell_contents_apart(tmp_path):
  for name, row in (("one", "1"), ("two", "2")):
    with zipfile.ZipFile(tmp_path / f"{name}.zip", "w") as packed:
      packed.writestr("x.csv", row)
    (tmp_path / f"{name}.csv").write_text(row)
  for kind, inner in (("zip", "x.csv"), ("csv", "")):
    one, two = (Export(tmp_path / f"{name}.{kind}") for name in ("one", "two"))
    assert one.digest(inner or "one.csv") == one.digest(inner or "one.csv")
    assert one.digest(inner or "one.csv") != two.digest(inner or "two.csv")


# ----- anonymity


def test_nothing_personal_is_in_an_anonymous_dataset(tmp_path, capsys):
  rows, expected = rows_of(8)
  rows = [(f"Ännchen-{who}", *rest) for who, *rest in rows]
  rows.append(("Ännchen-anna0", "nonsense", "heart_rate", "1", "bpm"))
  folder = tmp_path / "Ännchens Studie"
  folder.mkdir()
  path = as_csv(folder, rows)
  (tmp_path / "key").write_bytes(bytes(range(100, 132)))
  (tmp_path / "labels.csv").write_text("participant,age\nÄnnchen-anna1,77\n")
  (tmp_path / "events.csv").write_text(
    "participant,start,end,name\nÄnnchen-anna1,2024-03-04T10:00,2024-03-04T11:00,walk\n"
  )
  flags = [f"--participants={tmp_path / 'labels.csv'}", f"--events={tmp_path / 'events.csv'}", "--minutes_per_step=5"]
  flags += [f"--input={path}", "--source=auto", f"--data_dir={tmp_path / 'data'}", f"--anonymise={tmp_path / 'key'}"]
  assert run(*flags, "--name=mine") == 0
  assert run(*flags, "--dry_run") == 0
  said = capsys.readouterr()
  for secret in ("Ännchen", "anna", "study.csv", "2024-03"):
    assert secret not in said.out + said.err
    for file in (tmp_path / "data").rglob("*"):
      assert secret not in str(file.relative_to(tmp_path))
      assert not file.is_file() or secret.encode() not in file.read_bytes(), (secret, file)
  for table in ("events.parquet", "participants.parquet"):  # compressed
    told = pq.read_table(next((tmp_path / "data").rglob(table))).to_pylist()
    assert "anna" not in repr(told)
    assert "2024-03" not in repr(told)
  found = built(tmp_path / "data")
  assert sorted(values.tobytes() for values in found.values()) == sorted(v.tobytes() for v in expected.values())
  secret = Anonymity.load(tmp_path / "key", 52)
  for (who, date), values in expected.items():
    hidden, moved = secret.name(f"Ännchen-{who}"), secret.date(f"Ännchen-{who}", date)
    np.testing.assert_array_equal(found[hidden, moved], values)
    weeks, days = divmod((datetime.date.fromisoformat(date) - datetime.date.fromisoformat(moved)).days, 7)
    assert days == 0
    assert 1 <= weeks <= 52
  dataset = Dataset.open(tmp_path / "data", "mine")
  assert dataset.events().to_pylist()[0]["date"] == secret.date("Ännchen-anna1", "2024-03-04")
  people = dataset.participants().to_pydict()
  ages = dict(zip(people["participant"], people["age"], strict=True))
  assert ages[secret.name("Ännchen-anna1")] == 77
  assert "first: row" in (dataset.path / "README.md").read_text()


def test_keys_and_shifts_matter():
  one, two, still = Anonymity(b"k" * 32), Anonymity(b"l" * 32), Anonymity(b"k" * 32, 0)
  assert one.name("anna") == still.name("anna") != two.name("anna")
  assert one.name("anna") != one.name("bob")
  assert still.date("anna", "2024-02-29") == "2024-02-29"
  assert len({one.date(f"p{n}", "2024-02-29") for n in range(200)}) > 40


# ----- bad input, by the real command


def _files(tmp, **contents):
  for name, content in contents.items():
    (tmp / f"{name}.csv").write_text(content)


ROW = "participant,time,channel,value,unit\na,2024-01-01 10:00,heart_rate,60,bpm\n"
BAD = {
  "missing": (ROW, dict(input="none"), "none: no such file or folder"),
  "kind": ("a,b\n1,2\n", {}, "holds nothing that an importer reads"),
  "named": ("a,b\n1,2\n", dict(source="long_table"), "holds no file that this importer reads: CSV or Parquet with"),
  "unit": (ROW.replace("bpm", "parsec"), {}, "unit is 'parsec', expected 'bpm'"),
  "no_channel": ("participant,time,value\n", {}, "no channel; the header has participant, time, value"),
  "times": (ROW.replace("2024-01-01", "1/1/24"), {}, "column 'time' holds neither ISO 8601 nor"),
  "values": (ROW.replace("60", "?"), {}, "nothing could be read; account of 1 people: 1 rows read, 0 kept, 1 dropped"),
  "ragged": (ROW + "a\n", {}, "input.csv row 3: more or fewer fields"),
  "utc": (ROW.replace("10:00", "10:00Z"), {}, "readings of heart_rate are in UTC; "),
  "sparse": (ROW, {}, "left out 1 days of 1 people with more than 80 % missing"),
  "zone": (ROW, dict(timezone="Europe/Berlim"), "'Europe/Berlim' is not an IANA time zone; nearest are Europe/Berlin"),
  "labels": (ROW, dict(participants="labels.csv"), "labels.csv row 3: participant 'a' appears more than once"),
  "label_zone": (ROW, dict(participants="zones.csv"), "zones.csv row 2: 'Mars' is not an IANA time zone"),
  "events": (ROW, dict(events="events.csv"), "events.csv row 2: ends before it starts"),
  "event_columns": (ROW, dict(events="labels.csv"), "labels.csv: column 'start' is missing"),
  "recipe": (ROW, dict(recipe="labels.csv"), "labels.csv: expected keys such as 'signals'"),
  "key": (ROW, dict(anonymise="short.csv", date_shift=4), "expected 16 to 64"),
  "no_key": (ROW, dict(anonymise="none"), "none: no such file or directory; make a key with: head -c 32"),
  "shift": (ROW, dict(date_shift=4), "--date_shift needs --anonymise"),
  "step": (ROW, dict(minutes_per_step=7), "minutes_per_step is 7, expected a divisor of 1440"),
  "share": (ROW, dict(max_missing=7), "'max_missing' is 7"),
  "other": (ROW, dict(source="npz", timezone="UTC"), "--timezone is only for exports, not for --source=npz"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_line(tmp_path, case, capsys, monkeypatch):
  content, changes, message = BAD[case]
  monkeypatch.chdir(tmp_path)
  _files(tmp_path, input=content, labels="participant,age\na,1\na,2\n", zones="participant,timezone\na,Mars\n")
  _files(tmp_path, short="too short", events="participant,start,end,name\na,2024-01-01T10:00,2024-01-01T09:00,x\n")
  given = dict(source="auto", input="input.csv", data_dir="data", name="mine") | changes
  assert run(*(f"--{flag}={value}" for flag, value in given.items())) == 2
  error = capsys.readouterr().err
  assert error.startswith("error: ")
  assert error.count("\n") == 1
  assert message in error
  assert not (tmp_path / "data" / "day_windows").exists()


def test_the_real_command_tells_bad_input(tmp_path):
  command = [sys.executable, "-m", "data_pipelines.build", "--source=auto", f"--input={tmp_path}", "--dry_run"]
  done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
  assert done.returncode == 2
  assert done.stderr.startswith(f"error: {tmp_path}: holds nothing that an importer reads (fitbit, ")
  assert done.stderr.count("\n") == 1


def test_help_shows_examples(capsys):
  assert run("--help") == 0
  said = capsys.readouterr().out
  for flag in ("--timezone=Europe/Berlin", "--dry_run", "--anonymise=key", "--recipe=recipe.yaml", "max_missing"):
    assert flag in said
