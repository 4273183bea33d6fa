"""Datasets built from sources: records, tables, rebuilding, bad sources, and the command line."""

import os
import pathlib
import subprocess
import sys
import threading

import numpy as np
import pytest

from data_pipelines.build import build, main, npz_request
from data_pipelines.dataset import Dataset
from data_pipelines.day_windows import shards
from data_pipelines.errors import DatasetError, SchemaError
from data_pipelines.npz import NpzSource
from data_pipelines.schema import Channel, Schema
from data_pipelines.source import Day, Event, Person
from data_pipelines.splits import SPLITS, FoldSplit, HashSplit, ListSplit
from tests import tiny

ROOT = pathlib.Path(__file__).resolve().parents[2]
LISTS = ListSplit(("p0", "p2"), ("p3",), ("p1",))


class SeededPeople:
  """A `Source` of people with three days each, drawn from the number in their id."""

  def __init__(self, channels=2, minutes=5, people=4, change=None, cause=False):
    self.schema = Schema(minutes, tuple(Channel(f"c{c}") for c in range(channels)))
    self.participants = tuple(f"p{i}" for i in range(people))
    self.n_days = 3 * people
    self.notes = ("made up",)
    self._change = change
    self._cause = cause

  def person(self, participant):
    rng = np.random.default_rng(int(participant[1:]))
    values = rng.normal(60, 9, (3, self.schema.steps, len(self.schema.channels))).astype(np.float32)
    values[rng.random(values.shape) < 0.4] = np.nan
    causes = [np.where(np.isnan(day), 2, 0).astype(np.uint8) if self._cause else None for day in values]
    days = [Day(values[d], participant, d, f"2024-01-0{d + 1}" * (d < 2), causes[d]) for d in range(3)]
    person = Person(participant, days, {"age": 30 + len(participant)}, [Event(participant, 1, "", 3, 9, "walk")])
    return self._change(person) if self._change else person

  def values(self, people):
    return np.concatenate([[day.values for day in self.person(participant).days] for participant in people])


@pytest.mark.parametrize(("channels", "minutes", "cause"), [(1, 1, False), (34, 5, True), (3, 5, False)])
def test_stored_days_equal_those_of_the_source(tmp_path, channels, minutes, cause):
  source = SeededPeople(channels, minutes, cause=cause)
  dataset = build(source, tmp_path, "rows", split=LISTS, request={"source": "rows"})
  assert Dataset.open(tmp_path, "rows").schema == source.schema
  for split in SPLITS:
    people = getattr(LISTS, split)
    assert tuple(dataset.people(split)) == people
    expected = [day for participant in people for day in source.person(participant).days]
    stored = dataset.days(split)
    assert dataset.num_days(split) == len(stored) == len(expected)
    for day, row in zip(expected, stored, strict=True):
      assert row["values"].dtype == np.float32
      assert row["values"].tobytes() == day.values.tobytes()
      assert row["participant"].decode() == day.participant
      assert (row["day"], row["date"].decode()) == (day.day, day.date)
      assert row["weekday"] == ({0: 0, 1: 1}[day.day] if day.date else -1)  # 1 January 2024 was a Monday
      assert ("cause" in row) == cause
      if cause:
        assert np.array_equal(row["cause"], day.cause)
  pretrain = source.values(dataset.people("pretrain")).astype(np.float64)
  np.testing.assert_allclose(dataset.statistics.mean, np.nanmean(pretrain, axis=(0, 1)))
  np.testing.assert_allclose(dataset.statistics.std, np.nanstd(pretrain, axis=(0, 1)))
  table = {row["participant"]: row for row in dataset.participants().to_pylist()}
  assert table["p1"] == {"participant": "p1", "split": "eval", "days": 3, "age": 32}
  assert len(dataset.events()) == 4
  assert dataset.events().to_pylist()[0] | {"participant": ""} == {
    "participant": "", "day": 1, "date": "", "start": 3, "end": 9, "name": "walk", "value": 1,
  }  # fmt: skip


def test_many_shards_keep_the_order(tmp_path, monkeypatch):
  monkeypatch.setattr(shards, "SHARD_BYTES", 1)
  dataset = build(SeededPeople(people=6), tmp_path, "rows", split=HashSplit((1, 0, 0)))
  assert len(list(dataset.path.glob("*.array_record*"))) == 6
  order = [(row["participant"].decode(), int(row["day"])) for row in dataset.days("pretrain")]
  assert order == [(f"p{i}", day) for i in range(6) for day in range(3)]


def test_empty_splits_and_notes_of_the_source_are_reported(tmp_path, capsys):
  dataset = build(SeededPeople(), tmp_path, "rows", split=FoldSplit(4, 0))
  assert "split 'tune' is empty" in capsys.readouterr().out
  assert "split 'tune' is empty" in (dataset.path / "README.md").read_text()
  assert "made up" in (dataset.path / "README.md").read_text()


def test_rebuilding(tmp_path, capsys):
  built = build(SeededPeople(), tmp_path, "rows", request={"seed": 1})
  written = (built.path / "request.json").stat().st_mtime_ns

  def never():
    raise AssertionError("the source was made without need")

  build(never, tmp_path, "rows", request={"seed": 1})
  assert "already built" in capsys.readouterr().out
  assert (built.path / "request.json").stat().st_mtime_ns == written
  with pytest.raises(DatasetError, match=r"already built from seed 1 \(requested: 2\); use --overwrite") as caught:
    build(never, tmp_path, "rows", request={"seed": 2})
  assert "\n" not in str(caught.value)
  with pytest.raises(DatasetError, match="already built from rule 'hash'"):
    build(never, tmp_path, "rows", split=LISTS, request={"seed": 1})
  replaced = build(SeededPeople(channels=1), tmp_path, "rows", request={"seed": 2}, overwrite=True)
  assert len(replaced.schema.channels) == 1


def test_an_interrupted_build_does_not_look_finished(tmp_path):
  def fail(person):
    if person.participant == "p2":
      raise KeyboardInterrupt
    return person

  with pytest.raises(KeyboardInterrupt):
    build(SeededPeople(change=fail), tmp_path, "rows")
  with pytest.raises(DatasetError, match="no dataset 'rows'"):
    Dataset.open(tmp_path, "rows")
  leftover = tmp_path / ".building" / "rows" / "half"
  leftover.mkdir(parents=True)  # what kill -9 leaves behind
  build(SeededPeople(), tmp_path, "rows")
  assert not leftover.exists()


def test_two_simultaneous_builds_write_once(tmp_path):
  calls = []

  def source():
    calls.append(1)
    return SeededPeople()

  arguments = ((source, tmp_path, "rows"), {"request": {"seed": 1}})
  threads = [threading.Thread(target=build, args=arguments[0], kwargs=arguments[1]) for _ in range(2)]
  for thread in threads:
    thread.start()
  for thread in threads:
    thread.join()
  assert len(calls) == 1
  assert Dataset.open(tmp_path, "rows").num_days("pretrain")


def _replace(person, **changes):
  return Person(person.participant, [Day(**(vars(day) | changes)) for day in person.days], person.labels)


@pytest.mark.parametrize(
  ("change", "message"),
  [
    (lambda p: Person(p.participant, [], {}), "participant 'p0' has no days"),
    (lambda p: _replace(p, day=4), "participant 'p0', day 4: day appears twice"),
    (lambda p: _replace(p, values=np.zeros((1, 2), np.float32)), r"values have shape \(1, 2\)"),
    (lambda p: _replace(p, values=np.zeros((288, 2))), "values are float64"),
    (lambda p: _replace(p, values=np.full((288, 2), np.nan, np.float32)), "every value is NaN"),
    (lambda p: _replace(p, date="yesterday"), "date is 'yesterday'"),
    (lambda p: Person(p.participant, p.days, {}, [Event("p0", 0, "", 5, 289, "walk")]), r"steps \[5, 289\)"),
    (
      lambda p: Person(p.participant, p.days, {"split": 1}),
      r"label 'split' \(of participant 'p0'\) has the name of a column",
    ),
    (
      lambda p: Person(p.participant, p.days, {"age": p.participant if p.participant == "p0" else 3}),
      r"mixes int \(.*: 3\), str \('p0': 'p0'\)",
    ),
  ],
)
def test_bad_sources(tmp_path, change, message):
  with pytest.raises(SchemaError, match=message) as caught:
    build(SeededPeople(change=change), tmp_path, "rows", split=HashSplit((1, 0, 0)))
  assert "\n" not in str(caught.value)
  with pytest.raises(DatasetError):
    Dataset.open(tmp_path, "rows")


def test_t1d_uom_round_trip(tmp_path, shared_data):
  path = shared_data / "t1d_uom.npz"
  if not path.is_file():
    pytest.skip(f"no {path}")
  with np.load(path) as arrays:
    raw = {key: arrays[key] for key in arrays.files}
  dataset = build(NpzSource(path), tmp_path, "t1d", split=FoldSplit(4, 1), request=npz_request(path))
  rows = {(p, int(day)): d for d, (p, day) in enumerate(zip(raw["participant"], raw["day"], strict=True))}
  people = {split: set() for split in SPLITS}
  for split in ("pretrain", "eval"):
    for day in dataset.days(split):
      participant = day["participant"].decode()
      people[split].add(participant)
      d = rows.pop((participant, int(day["day"])))
      assert day["values"].tobytes() == raw["values"][d].tobytes()
      assert day["date"].decode() == raw["date"][d]
  assert not rows, "days were lost"
  assert len(people["eval"]) == 3
  assert people["eval"].isdisjoint(people["pretrain"])
  assert dataset.schema.names == tuple(raw["channels"])
  assert dataset.schema.channels[3].kind == "binary"


def _npz(path, **changes):
  rng = np.random.default_rng(0)
  arrays = {
    "values": rng.normal(size=(20, 288, 2)).astype(np.float32),
    "channels": np.array(["heart_rate", "steps"]),
    "participant": np.array([f"p{d // 2}" for d in range(20)]),
    "day": np.arange(20) % 2,
    "date": np.array([""] * 20),
    "minutes_per_step": np.array(5),
    "labels": np.array("{}"),
  }
  np.savez(path, **(arrays | changes))
  return path


def _run(*arguments):
  return subprocess.run(
    [sys.executable, "-m", "data_pipelines.build", *map(str, arguments)],
    cwd=ROOT,
    capture_output=True,
    text=True,
    env=os.environ | {"PYTHONPATH": str(ROOT)},
    check=False,
  )


def test_command_builds_and_repeats_without_tensorflow(tmp_path):
  flags = f"--source=npz --input={_npz(tmp_path / 'days.npz')} --data_dir={tmp_path / 'data'} --name=mine".split()
  code = (
    "import sys; from data_pipelines.build import main; code = main(['build', *sys.argv[1:]]);"
    "print('tensorflow' in sys.modules); sys.exit(code)"
  )
  first = subprocess.run([sys.executable, "-c", code, *flags], cwd=ROOT, capture_output=True, text=True, check=False)
  assert first.returncode == 0, first.stderr
  assert first.stderr == ""
  closing, tensorflow = first.stdout.splitlines()[-2:]
  assert tensorflow == "False"
  assert closing.startswith("built 'mine': people/days pretrain ")
  again = _run(*flags)
  assert (again.returncode, again.stderr) == (0, "")
  assert "already built" in again.stdout


BAD = {
  "missing_file": (lambda tmp: dict(input=tmp / "nothing.npz"), "nothing.npz: no such file"),
  "truncated": (lambda tmp: dict(input=_truncated(tmp)), "truncated.npz: not an npz archive, or a truncated one"),
  "wrong_dtype": (
    lambda tmp: dict(input=_npz(tmp / "int.npz", values=np.zeros((20, 288, 2), int))),
    "int.npz: key 'values' is int64, expected float32",
  ),
  "infinite": (
    lambda tmp: dict(input=_npz(tmp / "inf.npz", values=np.full((20, 288, 2), np.inf, np.float32))),
    "inf.npz: key 'values': row 0 step 0 channel 'heart_rate' is infinite",
  ),
  "never_seen": (
    lambda tmp: dict(
      input=_npz(tmp / "blind.npz", values=np.tile(np.array([1, np.nan], np.float32), (20, 288, 1)))
    ),
    "channel 'steps' is never observed in split 'pretrain'",
  ),
  "nobody": (lambda tmp: dict(split="0,0.5,0.5"), "no people in split 'pretrain'"),
  "source": (lambda tmp: dict(source="csv"), "flag --source=csv: value should be one of <npz|simulate|auto|"),
  "split_words": (lambda tmp: dict(split="most"), "--split=most: expected three numbers"),
  "split_sum": (lambda tmp: dict(split="0.5,0.1,0.1"), "expected three shares"),
  "fold_alone": (lambda tmp: dict(fold=1), "--fold needs --folds"),
  "folds_alone": (lambda tmp: dict(folds=4), "--folds needs --fold"),
  "fold_range": (lambda tmp: dict(folds=4, fold=4), "fold is 4, expected 0 to 3"),
  "both": (lambda tmp: dict(folds=4, fold=1, split="1,0,0"), "--split and --folds exclude each other"),
  "typo": (lambda tmp: dict(slpit="1,0,0"), "Unknown command line flag 'slpit'"),
  "name": (lambda tmp: dict(name="a/b"), "dataset name is 'a/b'"),
  "no_name": (lambda tmp: dict(name=None), "--name is missing"),
  "no_input": (lambda tmp: dict(input=None), "--input is missing"),
  "number": (lambda tmp: dict(source="simulate", input=None, participants="many"), "flag --participants=many"),
  "split_file": (lambda tmp: dict(split_file=tmp / "none.json"), "none.json: no such file"),
  "data_dir": (lambda tmp: dict(data_dir=tmp / "days.npz"), "days.npz: cannot be written"),
}  # fmt: skip


def _truncated(folder):
  path = _npz(folder / "truncated.npz")
  path.write_bytes(path.read_bytes()[:5000])
  return path


def _flags(tmp_path, changes):
  flags = dict(source="npz", input=_npz(tmp_path / "days.npz"), data_dir=tmp_path / "data", name="mine") | changes
  return [f"--{flag}={value}" for flag, value in flags.items() if value is not None]


@pytest.mark.parametrize("case", BAD)
def test_command_errors_are_one_line_and_exit_code_2(tmp_path, case, capfd):
  changes, message = BAD[case]
  assert main(["build", *_flags(tmp_path, changes(tmp_path))]) == 2
  stderr = capfd.readouterr().err  # of the process, so that lines of native code count too
  assert stderr.startswith("error: ")
  assert stderr.count("\n") == 1
  assert message in stderr
  assert not (tmp_path / "data" / "day_windows").exists()


def test_a_process_that_fails_exits_with_code_2(tmp_path):
  changes, message = BAD["never_seen"]
  done = _run(*_flags(tmp_path, changes(tmp_path)))
  assert done.returncode == 2
  assert done.stderr.startswith("error: ") and message in done.stderr
  assert done.stderr.count("\n") == 1


def test_a_dry_run_of_an_npz_file_tells_what_would_be_built(tmp_path, capsys):
  arrays = tiny.arrays(people=20, days=2)
  arrays["values"][0, 2:] = np.nan
  np.savez(tmp_path / "x.npz", **arrays)
  people = [f"p{n}" for n in range(20)]
  key = next(f"k{n}" for n in range(99) if "eval" not in HashSplit(key=f"k{n}").assign(people).values())
  flags = ["--source=npz", f"--input={tmp_path / 'x.npz'}", f"--split_key={key}"]
  assert main(["build", *flags, "--dry_run"]) == 0
  output = capsys.readouterr().out
  for line in (
    "would build 39 days of 20 people, every 60 min",
    "- pulse: ",
    "note: left out 1 day of 1 person with more than 80 % missing (--max_missing)",
    "people by split: pretrain 16, tune 0, eval 4",
    "note: 20 people are few for the split 0.8,0.1,0.1, which would leave nobody to evaluate on: --folds=5 --fold=0 is",
  ):
    assert line in output, output
  assert [path.name for path in tmp_path.iterdir()] == ["x.npz"]
  common = [*flags, f"--data_dir={tmp_path / 'data'}", "--name=x"]
  assert main(["build", *common]) == 0
  assert [Dataset.open(tmp_path / "data", "x").num_days(split) for split in ("pretrain", "tune", "eval")][1] == 0
  output = capsys.readouterr().out
  assert "people/days pretrain 16/" in output and "note: 20 people are few" in output
  assert main(["build", *common]) == 0  # the same command finds it again
  assert "is already built" in capsys.readouterr().out
  assert main(["build", *common, "--max_missing=1"]) == 2
  assert "already built from max_missing 0.8 (requested: None); use --overwrite" in capsys.readouterr().err
  assert main(["build", *common, "--max_missing=2"]) == 2
  assert "--max_missing=2.0: expected 0 to 1" in capsys.readouterr().err
