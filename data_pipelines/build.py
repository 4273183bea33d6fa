"""Builds a dataset of day windows.

python -m data_pipelines.build --source=npz --input=FILE --data_dir=DIR --name=NAME [--split=0.8,0.1,0.1]
python -m data_pipelines.build --source=npz --input=FILE --data_dir=DIR --name=NAME --folds=4 --fold=0
python -m data_pipelines.build --source=simulate --participants=N --days=D --seed=S --data_dir=DIR --name=NAME

From exports of watches, apps and studies (folders or zips; of one person, or a folder of one for each):

python -m data_pipelines.build --source=auto --input=takeout.zip --timezone=Europe/Berlin --dry_run
python -m data_pipelines.build --source=fitbit --input=takeout.zip --timezone=Europe/Berlin --data_dir=DIR --name=NAME
python -m data_pipelines.build --source=apple --input=exports/ --participants=labels.csv --events=meals.csv \\
  --minutes_per_step=5 --max_missing=0.5 --anonymise=key --data_dir=DIR --name=NAME
python -m data_pipelines.build --source=long_table --input=study.parquet --dry_run --write_recipe=recipe.yaml
python -m data_pipelines.build --source=long_table --input=study.parquet --recipe=recipe.yaml --data_dir=DIR --name=NAME
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import hashlib
import json
import os
import pathlib
import re
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from absl import flags

from data_pipelines import splits
from data_pipelines.dataset import VERSION, Dataset, dataset_path, quiet_tfds
from data_pipelines.day_windows import day_windows_dataset_builder as day_windows
from data_pipelines.day_windows import runners
from data_pipelines.day_windows.duplicates import Seen
from data_pipelines.day_windows.runners import Runner
from data_pipelines.day_windows.tables import Tables
from data_pipelines.errors import DatasetError, SchemaError
from data_pipelines.ingest.command import SOURCES, define_flags, refuse_flags, run_import
from data_pipelines.npz import NpzSource
from data_pipelines.source import Source
from data_pipelines.splits import FoldSplit, HashSplit, ListSplit, Split
from data_pipelines.statistics import Statistics

# Not among the global flags: a program that imports `build` has flags of its own.
FLAGS = flags.FlagValues()
flags.DEFINE_enum("source", None, ["npz", "simulate", *SOURCES], "Where days come from.", flag_values=FLAGS)
flags.DEFINE_string("input", None, "The npz file, or the export: a folder, a zip or a file.", flag_values=FLAGS)
flags.DEFINE_string("data_dir", None, "Directory of datasets.", flag_values=FLAGS)
flags.DEFINE_string("name", None, "Name of the dataset.", flag_values=FLAGS)
flags.DEFINE_string(
  "participants",
  None,
  "How many to simulate (default 100); of an export, a CSV of labels by participant, and of their "
  "time zones if it has a column timezone.",
  flag_values=FLAGS,
)
define_flags(FLAGS)
flags.DEFINE_integer("days", 10, "Days of each simulated person.", lower_bound=1, flag_values=FLAGS)
flags.DEFINE_integer("seed", 0, "Seed of the simulation.", lower_bound=0, flag_values=FLAGS)
flags.DEFINE_list("split", None, "Shares of people: pretrain,tune,eval (default 0.8,0.1,0.1).", flag_values=FLAGS)
flags.DEFINE_string(
  "split_file", None, "JSON lists of people, such as another dataset's splits.json.", flag_values=FLAGS
)
flags.DEFINE_integer("folds", None, "Leave one of this many folds of people out as eval.", flag_values=FLAGS)
flags.DEFINE_integer("fold", None, "Which fold to leave out, from 0.", flag_values=FLAGS)
flags.DEFINE_string("split_key", splits.DEFAULT_KEY, "Another key gives another split.", flag_values=FLAGS)
flags.DEFINE_bool("allow_duplicates", False, "Build even if two people have the very same day.", flag_values=FLAGS)
flags.DEFINE_integer("workers", 1, "Processes that write.", lower_bound=1, flag_values=FLAGS)
flags.DEFINE_string(
  "runner", None, "Apache Beam runner that writes: DirectRunner, DataflowRunner, FlinkRunner, ...", flag_values=FLAGS
)
flags.DEFINE_multi_string(
  "beam_option", [], "Option of the runner, such as flink_master=localhost:8081; repeatable.", flag_values=FLAGS
)
flags.DEFINE_bool("overwrite", False, "Replace an existing dataset of this name.", flag_values=FLAGS)


def build(
  source: Source | Callable[[], Source],
  data_dir: str | os.PathLike,
  name: str,
  *,
  split: Split | None = None,
  request: Mapping[str, Any] | None = None,
  overwrite: bool = False,
  allow_duplicates: bool = False,
  runner: Runner = runners.here,
) -> Dataset:
  """Builds dataset `name` from the days of a source, or finds it already built; prints what was done.

  The dataset appears complete or not at all, and two processes building the same one wait for each other.

  Args:
    source: the days, or a function that makes the source, called only if there is work to do.
    data_dir: directory of datasets.
    name: name of the dataset.
    split: how people are split; default 80 % pretrain, 10 % tune, 10 % eval by keyed hash.
    request: what identifies the days, JSON-able. With the split it decides whether an existing dataset is the one
      asked for; without it an existing dataset never is.
    overwrite: replace an existing dataset of another request.
    allow_duplicates: build even if two people have a day of the very same values.
    runner: who writes the shards; the dataset is the same, bit by bit, whoever does.

  Raises:
    SchemaError (SplitError, DatasetError, DuplicateError): bad days, an impossible split, a day of two people, or
      another dataset of this name.
  """
  split = split or HashSplit()
  full_request = {"request": dict(request) if request else None, "split": split.to_dict()}
  if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]*", name):
    raise DatasetError(f"dataset name is {name!r}, expected letters, digits, '_', '-' and '.', a letter or digit first")
  started = time.monotonic()
  with _staging(data_dir, name) as staging:
    existing = _existing(data_dir, name, full_request, overwrite)
    if existing:
      print(f"dataset {name!r} is already built: {existing.path}")
      return existing
    made = source() if callable(source) else source
    _write(made, staging, name, split, full_request, None if allow_duplicates else Seen(), runner)
    _publish(staging / day_windows.Builder.name / name / VERSION, dataset_path(data_dir, name))
  dataset = Dataset.open(data_dir, name)
  print(_closing_line(dataset, time.monotonic() - started))
  return dataset


def _existing(
  data_dir: str | os.PathLike, name: str, full_request: Mapping[str, Any], overwrite: bool
) -> Dataset | None:
  path = dataset_path(data_dir, name)
  if not (path / "request.json").is_file():
    return None
  dataset = Dataset.open(data_dir, name)
  if full_request["request"] and dataset.request == json.loads(json.dumps(full_request)):
    return dataset
  if not overwrite:
    raise DatasetError(f"{path}: already built from {_difference(dataset.request, full_request)}; use --overwrite")
  return None


def _difference(there: Mapping[str, Any], asked: Mapping[str, Any]) -> str:
  """The parts of two requests that differ, in words."""
  for part in ("request", "split"):
    ours, theirs = asked[part] or {}, there[part] or {}
    keys = [key for key in {**theirs, **ours} if ours.get(key) != json.loads(json.dumps(theirs.get(key)))]
    if keys:
      return ", ".join(f"{key} {theirs.get(key)!r} (asked: {ours.get(key)!r})" for key in keys)
  return "an unknown source"


@contextlib.contextmanager
def _staging(data_dir: str | os.PathLike, name: str) -> Iterator[pathlib.Path]:
  """An empty directory to build in, held under a lock; what an interrupted build left there is removed."""
  root = pathlib.Path(data_dir).expanduser() / ".building"
  try:
    root.mkdir(parents=True, exist_ok=True)
    lock = (root / f"{name}.lock").open("w")
  except OSError as error:
    raise DatasetError(f"{data_dir}: cannot write there: {error.strerror}") from None
  with lock:
    fcntl.flock(lock, fcntl.LOCK_EX)  # the kernel lets go when the process ends, however it ends
    staging = root / name
    shutil.rmtree(staging, ignore_errors=True)
    try:
      yield staging
    finally:
      shutil.rmtree(staging, ignore_errors=True)


def _write(
  source: Source,
  staging: pathlib.Path,
  name: str,
  split: Split,
  full_request: Mapping[str, Any],
  seen: Seen | None,
  runner: Runner,
) -> None:
  people = splits.assign(split, source.participants)
  notes = list(getattr(source, "notes", ()))
  notes += [f"split {empty!r} is empty" for empty in splits.SPLITS if not people[empty]]
  tables = Tables(source.schema)
  with quiet_tfds():
    config = day_windows.DayWindowsConfig(
      name=name, source=source, people=people, tables=tables, seen=seen, runner=runner
    )
    builder = day_windows.Builder(data_dir=staging, config=config, file_format="array_record")
    builder.download_and_prepare()
  folder = pathlib.Path(builder.data_dir)
  notes += tables.write(folder)
  source.schema.save(folder / "schema.json")
  splits.save(folder / "splits.json", split, people)
  (folder / "README.md").write_text(_card(name, source, people, full_request, notes, folder))
  for file, text in getattr(source, "documents", {}).items():
    (folder / file).write_text(text, encoding="utf-8")
  (folder / "request.json").write_text(json.dumps(full_request, indent=2) + "\n")
  for note in notes:
    print(f"note: {note}")


def _publish(finished: pathlib.Path, path: pathlib.Path) -> None:
  path.parent.mkdir(parents=True, exist_ok=True)
  if path.exists():
    shutil.rmtree(path)
  finished.rename(path)


def _card(
  name: str,
  source: Source,
  people: Mapping[str, Sequence[str]],
  full_request: Mapping[str, Any],
  notes: Sequence[str],
  folder: pathlib.Path,
) -> str:
  """The data card, Markdown."""
  schema, statistics = source.schema, Statistics.load(folder / "statistics.npz")
  lines = [f"# {name}", "", f"{source.n_days} days of {len(source.participants)} people, every "]
  lines[-1] += f"{schema.minutes_per_step} min, {len(schema.channels)} channels."
  lines += [f"- {split}: {len(people[split])} people" for split in splits.SPLITS]
  lines += [f"- note: {note}" for note in notes]
  lines += getattr(source, "card", ())
  lines += ["", "Observed steps of the pretrain split:", "", "| channel | unit | sensor | kind | steps | mean | SD |"]
  lines += ["|---|---|---|---|---|---|---|"]
  for c, channel in enumerate(schema.channels):
    numbers = f"{statistics.count[c]} | {statistics.mean[c]:.4g} | {statistics.std[c]:.4g}"
    lines.append(f"| {channel.name} | {channel.unit} | {channel.sensor} | {channel.kind} | {numbers} |")
  return "\n".join([*lines, "", "Built from:", "", "```json", json.dumps(full_request, indent=2), "```", ""])


def _closing_line(dataset: Dataset, seconds: float) -> str:
  counts = [f"{split} {len(dataset.people(split))}/{dataset.num_days(split)}" for split in splits.SPLITS]
  days = sum(dataset.num_days(split) for split in splits.SPLITS)
  stored = sum(path.stat().st_size for path in dataset.path.glob("*.array_record*"))
  return (
    f"built {dataset.name!r}: people/days {', '.join(counts)}; {stored / days:,.0f} bytes a day; "
    f"{seconds:.1f} s; {dataset.path}"
  )


def npz_request(path: str | os.PathLike) -> dict[str, Any]:
  """Identifies an npz by its content, wherever it lies."""
  try:
    with open(path, "rb") as file:
      digest = hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()
  except OSError as error:
    raise SchemaError(f"{path}: {(error.strerror or 'cannot be read').lower()}") from None
  return {"source": "npz", "input": pathlib.Path(path).name, "blake2b": digest}


def simulate_request(participants: int, days: int, seed: int) -> dict[str, Any]:
  return {"source": "simulate", "participants": participants, "days": days, "seed": seed}


def _simulation(participants: int, days: int, seed: int) -> Source:
  from data_pipelines.simulator import Simulation

  return Simulation(participants=participants, days=days, seed=seed)


def _split_from_flags() -> Split:
  given = [flag for flag in ("split", "folds", "split_file") if FLAGS[flag].present]
  if len(given) > 1:
    raise flags.Error(f"--{given[0]} and --{given[1]} exclude each other")
  if FLAGS["fold"].present and FLAGS.folds is None:
    raise flags.Error("--fold needs --folds")
  if FLAGS.folds is not None:
    if FLAGS.fold is None:
      raise flags.Error("--folds needs --fold")
    return FoldSplit(FLAGS.folds, FLAGS.fold, FLAGS.split_key)
  if FLAGS.split_file is not None:
    return ListSplit.load(FLAGS.split_file)
  if FLAGS.split is None:
    return HashSplit(key=FLAGS.split_key)
  try:
    shares = tuple(float(share) for share in FLAGS.split)
  except ValueError:
    raise flags.Error(f"--split={','.join(FLAGS.split)}: expected three numbers, such as 0.8,0.1,0.1") from None
  return HashSplit(shares, FLAGS.split_key)  # type: ignore[arg-type]


def _people_to_simulate() -> int:
  text = FLAGS.participants or "100"
  if not text.isdecimal() or int(text) < 1:
    raise flags.Error(f"flag --participants={text}: expected how many people to simulate")
  return int(text)


def _build_from_flags() -> None:
  for flag in ("source", "input") if FLAGS.dry_run else ("source", "data_dir", "name"):
    if getattr(FLAGS, flag) is None:
      raise flags.Error(f"--{flag} is missing")
  if FLAGS.source not in ("npz", "simulate"):
    run_import(FLAGS, functools.partial(_build, _split_from_flags()))
    return
  refuse_flags(FLAGS)
  if FLAGS.source == "npz":
    if FLAGS.input is None:
      raise flags.Error("--input is missing")
    path = FLAGS.input
    _build(_split_from_flags(), lambda: NpzSource(path), npz_request(path))
    return
  size = {"participants": _people_to_simulate(), "days": FLAGS.days, "seed": FLAGS.seed}
  _build(_split_from_flags(), lambda: _simulation(**size), simulate_request(**size))


def _build(split: Split, source: Callable[[], Source], request: Mapping[str, Any]) -> None:
  again = {"overwrite": FLAGS.overwrite, "allow_duplicates": FLAGS.allow_duplicates}
  build(source, FLAGS.data_dir, FLAGS.name, split=split, request=request, runner=_runner_from_flags(), **again)


def _runner_from_flags() -> Runner:
  if FLAGS.runner is None:
    if FLAGS.beam_option:
      raise flags.Error("--beam_option needs --runner")
    return runners.Processes(FLAGS.workers)
  if FLAGS["workers"].present:
    raise flags.Error("--workers is for this machine, not for --runner; see the runner's own options")
  from data_pipelines.day_windows.beam import Beam

  return Beam(FLAGS.runner, FLAGS.beam_option)


def main(argv: Sequence[str]) -> int:
  """Runs the command line; returns its exit code."""
  for flag in FLAGS:
    FLAGS[flag].unparse()  # what an earlier call in this process was given
  if any(argument in ("-h", "--help") for argument in argv[1:]):
    print(__doc__, FLAGS.get_help(), sep="\n")
    return 0
  try:
    rest = FLAGS(argv)
    if len(rest) > 1:
      raise flags.Error(f"unexpected argument {rest[1]!r}")
    _build_from_flags()
  except (flags.Error, SchemaError) as error:
    print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
    return 2
  return 0


if __name__ == "__main__":
  sys.exit(main(sys.argv))
