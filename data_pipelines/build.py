"""Builds a dataset of day windows: from the simulator, from an npz file, or from exports of devices.

python -m data_pipelines.build --source=npz --input=FILE --data_dir=DIR --name=NAME [--split=0.8,0.1,0.1]
python -m data_pipelines.build --source=npz --input=FILE --data_dir=DIR --name=NAME --folds=4 --fold=0
python -m data_pipelines.build --source=simulate --participants=N --days=D --seed=S --data_dir=DIR --name=NAME

An export of a watch, app or study is a folder or a zip file; --input may also be a folder with one export per person:

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
import json
import os
import pathlib
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from absl import flags

from data_pipelines import runners, splits, streams
from data_pipelines.dataset import (
  HAS_DIGESTS,
  VERSION,
  Dataset,
  dataset_path,
  dataset_url,
  local_data_dir,
  quiet_tfds,
)
from data_pipelines.day_windows.day_windows_dataset_builder import Builder, DayWindowsConfig
from data_pipelines.day_windows.duplicates import DuplicateDetector
from data_pipelines.day_windows.tables import Tables, check_labels
from data_pipelines.digests import Digests, FileDigest
from data_pipelines.errors import DatasetError, SchemaError
from data_pipelines.ingest.command import IMPORT_FLAGS, SOURCES, check_picture, define_flags, run_import, show
from data_pipelines.npz import NpzSource
from data_pipelines.remote import copies
from data_pipelines.remote.objects import RemoteFolder, is_remote
from data_pipelines.runners import Runner
from data_pipelines.simulator.simulation import Simulation
from data_pipelines.source import MAX_MISSING, ChosenPeople, Source
from data_pipelines.splits import FoldSplit, HashSplit, ListSplit, Split
from data_pipelines.statistics import Statistics
from data_pipelines.text_files import check_regular, counted, json_text, plain_number, read_number

_EXPORTS = "exports"
# Flags that only some kinds of source use.
_USED_BY = {
  _EXPORTS: ("input", "participants", *IMPORT_FLAGS),
  "npz": ("input", "dry_run", "max_missing", "preview"),
  "simulate": ("participants", "days", "seed"),
}
_LONGEST_NAME = 200  # file systems allow 255 bytes, and the name of a lock is longer
# Kept apart from absl's global flags, because a program that imports this module has flags of its own.
FLAGS = flags.FlagValues()
flags.DEFINE_enum(
  "source", None, ["npz", "simulate", *SOURCES], "Kind of source that provides the days.", flag_values=FLAGS
)
flags.DEFINE_string("input", None, "The npz file, or the export: a folder, a zip or a single file.", flag_values=FLAGS)
flags.DEFINE_string("data_dir", None, "Directory that holds the datasets.", flag_values=FLAGS)
flags.DEFINE_string("name", None, "Name of the dataset to build.", flag_values=FLAGS)
flags.DEFINE_string(
  "participants",
  None,
  "With --source=simulate, the number of people (default 100). With an export, a CSV file with the labels of each "
  "participant; its optional column timezone gives their time zones.",
  flag_values=FLAGS,
)
define_flags(FLAGS)
flags.DEFINE_string(
  "participant_prefix",
  "",
  "Text in front of every participant's id, so that ids of several datasets differ where people do.",
  flag_values=FLAGS,
)
flags.DEFINE_list("without_participants", [], "Ids of people to leave out.", flag_values=FLAGS)
flags.DEFINE_integer("days", 10, "Number of days per simulated person.", lower_bound=1, flag_values=FLAGS)
flags.DEFINE_integer("seed", 0, "Seed of the simulator.", lower_bound=0, flag_values=FLAGS)
flags.DEFINE_list("split", None, "Shares of people in pretrain,tune,eval (default 0.8,0.1,0.1).", flag_values=FLAGS)
flags.DEFINE_string(
  "split_file",
  None,
  "JSON file that lists the people of each split, such as another dataset's splits.json.",
  flag_values=FLAGS,
)
flags.DEFINE_integer(
  "folds", None, "Divide people into this many folds and leave one of them out as eval.", flag_values=FLAGS
)
flags.DEFINE_integer("fold", None, "The fold to leave out, from 0.", flag_values=FLAGS)
flags.DEFINE_string(
  "split_key",
  splits.DEFAULT_KEY,
  "Key of the hash that assigns people; another key gives another split.",
  flag_values=FLAGS,
)
flags.DEFINE_bool("allow_duplicates", False, "Build even if two people have an identical day.", flag_values=FLAGS)
flags.DEFINE_integer("workers", 1, "Number of processes that read and write.", lower_bound=1, flag_values=FLAGS)
flags.DEFINE_string(
  "runner",
  None,
  "Read and write with this Apache Beam runner: DirectRunner, DataflowRunner, FlinkRunner, ...",
  flag_values=FLAGS,
)
flags.DEFINE_multi_string(
  "beam_option", [], "Option for the Beam runner, such as flink_master=localhost:8081.", flag_values=FLAGS
)
flags.DEFINE_bool("overwrite", False, "Replace an existing dataset of the same name.", flag_values=FLAGS)


def build(
  source: Source | Callable[[], Source],
  data_dir: str | os.PathLike,
  name: str,
  *,
  split: Split | None = None,
  request: Mapping[str, Any] | None = None,
  overwrite: bool = False,
  allow_duplicates: bool = False,
  runner: Runner = runners.in_this_process,
) -> Dataset:
  """Builds dataset `name` from the days of a source, or opens it if it is already built; prints a summary.

  The dataset appears complete or not at all. If two processes build the same dataset, the second waits for the first.

  Args:
    source: the days, or a function that makes the source; the function is called only if there is work to do.
    data_dir: directory that holds the datasets.
    name: name of the dataset.
    split: how people are divided; default 80 % pretrain, 10 % tune, 10 % eval by keyed hash, or folds where this
      would leave nobody to evaluate on (`splits.for_few_people`).
    request: JSON-able description that identifies the days. Together with the split it decides whether an existing
      dataset is the requested one; without it, an existing dataset never is.
    overwrite: replace an existing dataset that was built from another request.
    allow_duplicates: build even if two people have a day with identical values.
    runner: what writes the shards, in which processes. The dataset is the same bit for bit with every runner.

  Raises:
    SchemaError: a day does not fit the schema.
    SplitError: the people cannot be divided as requested.
    DuplicateError: two people have an identical day.
    DatasetError: another dataset of this name exists, or files cannot be written, as on a full disk.
  """
  split = split or HashSplit()
  full_request = {"request": dict(request) if request else None, "split": split.to_dict()}
  if not isinstance(name, str) or not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]*", name):
    raise DatasetError(f"dataset name is {name!r}, expected letters, digits, '_', '-' and '.', a letter or digit first")
  if len(name) > _LONGEST_NAME:
    raise DatasetError(f"dataset name (--name) has {len(name)} characters, expected at most {_LONGEST_NAME}")
  started = time.monotonic()
  with _staging(data_dir, name) as staging, _one_line(data_dir):
    existing = _existing(data_dir, name, full_request, overwrite)
    if existing:
      print(f"dataset {name!r} is already built: {existing.path}")
      return existing
    days = source() if callable(source) else source
    _write(days, staging, name, split, full_request, None if allow_duplicates else DuplicateDetector(), runner)
    _publish(staging / Builder.name / name / VERSION, data_dir, name)
  dataset = Dataset.open(data_dir, name)
  print(_closing_line(dataset, time.monotonic() - started))
  return dataset


def _existing(
  data_dir: str | os.PathLike, name: str, full_request: Mapping[str, Any], overwrite: bool
) -> Dataset | None:
  path = dataset_path(data_dir, name)
  if is_remote(data_dir):
    exists = RemoteFolder(dataset_url(data_dir, name)).exists("request.json")
  else:
    exists = (path / "request.json").is_file()
  if not exists:
    return None
  try:
    dataset = Dataset.open(data_dir, name)
  except SchemaError as error:
    if not overwrite:
      raise
    print(f"note: the existing dataset is damaged and will be replaced: {error}")
    return None
  if full_request["request"] and dataset.request == json.loads(json_text(full_request)):
    return dataset
  if not overwrite:
    raise DatasetError(f"{path}: already built from {_difference(dataset.request, full_request)}; use --overwrite")
  return None


def _difference(existing: Mapping[str, Any], requested: Mapping[str, Any]) -> str:
  """Text that names the keys in which two requests differ, with both values."""
  for part in ("request", "split"):
    new, old = requested[part] or {}, existing[part] or {}
    keys = [key for key in {**old, **new} if new.get(key) != json.loads(json_text(old.get(key)))]
    if keys:
      return ", ".join(f"{key} {old.get(key)!r} (requested: {new.get(key)!r})" for key in keys)
  return "an unknown source"


@contextlib.contextmanager
def _one_line(data_dir: str | os.PathLike) -> Iterator[None]:
  """Turns errors of the file system, such as a full disk, into errors of one line; the build leaves nothing behind."""
  try:
    yield
  except BrokenPipeError:  # standard output, which nobody reads any more
    raise
  except OSError as error:
    raise DatasetError(f"{error.filename or data_dir}: {(error.strerror or str(error)).splitlines()[0]}") from error


@contextlib.contextmanager
def _staging(data_dir: str | os.PathLike, name: str) -> Iterator[pathlib.Path]:
  """An empty directory to build in, held under a lock; leftovers of an interrupted build are removed."""
  root = local_data_dir(data_dir).expanduser() / ".building"
  if is_remote(data_dir):
    RemoteFolder(data_dir).check_writable()
  try:
    root.mkdir(parents=True, exist_ok=True)
    lock = (root / f"{name}.lock").open("w")
  except OSError as error:
    raise DatasetError(f"{data_dir}: cannot be written: {error.strerror}") from None
  with lock:
    fcntl.flock(lock, fcntl.LOCK_EX)  # released by the kernel however the process ends
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
  duplicates: DuplicateDetector | None,
  runner: Runner,
) -> None:
  split, notes = splits.for_few_people(split, source.participants)
  people = splits.assign(split, source.participants)
  notes = [*getattr(source, "notes", ()), *notes]
  notes += [f"split {empty!r} is empty" for empty in splits.SPLITS if not people[empty]]
  tables = Tables(source.schema)
  with quiet_tfds():
    config = DayWindowsConfig(
      name=name, source=source, people=people, tables=tables, duplicates=duplicates, runner=runner
    )
    builder = Builder(data_dir=staging, config=config, file_format="array_record")
    builder.download_and_prepare()
  folder = pathlib.Path(builder.data_dir)
  notes += tables.write(folder, getattr(source, "labels_from", ""))
  source.schema.save(folder / "schema.json")
  splits.save(folder / "splits.json", split, people)
  (folder / "README.md").write_text(_card(name, source, people, full_request, notes, folder))
  for file, text in getattr(source, "documents", {}).items():
    (folder / file).write_text(text, encoding="utf-8")
  (folder / "request.json").write_text(json_text({**full_request, HAS_DIGESTS: True}, indent=2) + "\n")
  Digests.of_folder(folder, config.digests).save()
  for note in notes:
    print(f"note: {note}")


def _publish(finished: pathlib.Path, data_dir: str | os.PathLike, name: str) -> None:
  if is_remote(data_dir):
    copies.publish(finished, dataset_url(data_dir, name), last="request.json")
    return
  path = dataset_path(data_dir, name)
  path.parent.mkdir(parents=True, exist_ok=True)
  if path.exists():
    path.rename(finished.with_name("replaced"))  # a kill while it is deleted must not leave half of it in place
  finished.rename(path)


def _card(
  name: str,
  source: Source,
  people: Mapping[str, Sequence[str]],
  full_request: Mapping[str, Any],
  notes: Sequence[str],
  folder: pathlib.Path,
) -> str:
  """The dataset's README.md: its size, channels and origin."""
  schema, statistics = source.schema, Statistics.load(folder / "statistics.npz")
  lines = [
    f"# {name}",
    "",
    f"{counted(source.n_days, 'day')} of {counted(len(source.participants), 'person')}, one step per ",
  ]
  lines[-1] += f"{schema.minutes_per_step} min, {counted(len(schema.channels), 'channel')}."
  lines += [f"- {split}: {counted(len(people[split]), 'person')}" for split in splits.SPLITS]
  lines += [f"- note: {note}" for note in notes]
  lines += getattr(source, "card", ())
  lines += ["", "Observed values of the pretrain split:", "", "| channel | unit | sensor | kind | values | mean | SD |"]
  lines += ["|---|---|---|---|---|---|---|"]
  for c, channel in enumerate(schema.channels):
    numbers = f"{statistics.count[c]} | {plain_number(statistics.mean[c], 4)} | {plain_number(statistics.std[c], 4)}"
    lines.append(f"| {channel.name} | {channel.unit} | {channel.sensor} | {channel.kind} | {numbers} |")
  return "\n".join([*lines, "", "Built from:", "", "```json", json_text(full_request, indent=2), "```", ""])


def _closing_line(dataset: Dataset, seconds: float) -> str:
  counts = [f"{split} {len(dataset.people(split))}/{dataset.num_days(split)}" for split in splits.SPLITS]
  days = sum(dataset.num_days(split) for split in splits.SPLITS)
  stored = sum(path.stat().st_size for path in dataset.path.glob("*.array_record*"))
  return (
    f"built {dataset.name!r}: people/days {', '.join(counts)}; {stored / days:,.0f} bytes per day; "
    f"{seconds:.1f} s; {dataset.path}"
  )


def npz_request(path: str | os.PathLike, max_missing: float = 1.0) -> dict[str, Any]:
  """The `request` of an npz file, which identifies it by its name and content but not by its folder.

  Args:
    path: the file.
    max_missing: as for NpzSource; 1.0, which leaves out no day, is not part of the request.

  Raises:
    SchemaError: the file cannot be read.
  """
  check_regular(path)
  try:
    digest = FileDigest.of(path).blake2b
  except OSError as error:
    raise SchemaError(f"{path}: {(error.strerror or 'cannot be read').lower()}") from None
  limit = {"max_missing": max_missing} if max_missing < 1 else {}
  return {"source": "npz", "input": pathlib.Path(path).name, "blake2b": digest, **limit}


def simulate_request(participants: int, days: int, seed: int) -> dict[str, Any]:
  """The `request` of a simulation with this many people and days per person."""
  return {"source": "simulate", "participants": participants, "days": days, "seed": seed}


def _split_from_flags() -> Split:
  rules = [flag for flag in ("split", "folds", "split_file") if FLAGS[flag].present]
  if len(rules) > 1:
    raise flags.Error(f"--{rules[0]} and --{rules[1]} exclude each other")
  if FLAGS["fold"].present and FLAGS.folds is None:
    raise flags.Error("--fold needs --folds")
  if FLAGS.folds is not None:
    if FLAGS.fold is None:
      raise flags.Error("--folds needs --fold")
    return FoldSplit(FLAGS.folds, FLAGS.fold, FLAGS.split_key)
  if FLAGS.split_file is not None:
    if FLAGS["split_key"].present:
      raise flags.Error("--split_key has no effect on --split_file, which lists the people of each split")
    return ListSplit.load(FLAGS.split_file)
  if FLAGS.split is None:
    return HashSplit(key=FLAGS.split_key)
  try:
    shares = tuple(read_number(share.strip()) for share in FLAGS.split)
  except ValueError:
    raise flags.Error(f"--split={','.join(FLAGS.split)}: expected three numbers, such as 0.8,0.1,0.1") from None
  return HashSplit(shares, FLAGS.split_key)  # type: ignore[arg-type]


def _refuse_unused() -> None:
  """Refuses flags that the kind of source does not use; those that _USED_BY does not have are for all kinds."""
  kind = FLAGS.source if FLAGS.source in _USED_BY else _EXPORTS
  for flag in sorted({name for names in _USED_BY.values() for name in names}):
    if FLAGS[flag].present and flag not in _USED_BY[kind]:
      users = [user if user == _EXPORTS else f"--source={user}" for user, names in _USED_BY.items() if flag in names]
      raise flags.Error(f"--{flag} is only for {' and '.join(users)}, not for --source={FLAGS.source}")


def _people_to_simulate() -> int:
  text = FLAGS.participants or "100"
  if not re.fullmatch("[0-9]{1,9}", text) or int(text) < 1:
    raise flags.Error(f"flag --participants={text}: expected the number of people to simulate")
  return int(text)


def _fetch_inputs() -> None:
  """Puts copies on this machine in the place of remote files and folders that flags name."""
  for name in ("input", "participants", "events", "recipe", "split_file"):  # keys of --anonymise are not copied
    path = FLAGS[name].value
    if path and is_remote(path):
      FLAGS[name].value = str(copies.local(path))


def _build_from_flags() -> None:
  _fetch_inputs()
  for flag in ("source", "input") if FLAGS.dry_run else ("source", "data_dir", "name"):
    if getattr(FLAGS, flag) is None:
      raise flags.Error(f"--{flag} is missing")
  if FLAGS.preview:
    if not FLAGS.dry_run:
      raise flags.Error("--preview needs --dry_run; data_pipelines.atlas draws a dataset that is built")
    check_picture(FLAGS.preview)
  _refuse_unused()
  if FLAGS.source not in ("npz", "simulate"):
    split = _split_from_flags()
    run_import(FLAGS, functools.partial(_build, split), functools.partial(_outlook, split), _runner_from_flags())
    return
  if FLAGS.source == "npz":
    _build_npz(_split_from_flags())
    return
  size = {"participants": _people_to_simulate(), "days": FLAGS.days, "seed": FLAGS.seed}
  _build(_split_from_flags(), lambda: Simulation(**size), simulate_request(**size))


def _build_npz(split: Split) -> None:
  if FLAGS.input is None:
    raise flags.Error("--input is missing")
  path, max_missing = FLAGS.input, MAX_MISSING if FLAGS.max_missing is None else FLAGS.max_missing
  if not 0 <= max_missing <= 1:
    raise flags.Error(f"--max_missing={max_missing}: expected 0 to 1")
  if FLAGS.dry_run:
    source = NpzSource(path, max_missing)
    show(source, source.channel_lines, _outlook(split, source))
    return
  _build(split, lambda: NpzSource(path, max_missing), npz_request(path, max_missing))


def _outlook(split: Split, source: Source) -> list[str]:
  """Lines on what a build would make of the people, for --dry_run; labels that it would refuse are refused."""
  source = _chosen_people(source)
  used, notes = splits.for_few_people(split, source.participants)
  people = splits.assign(used, source.participants)
  notes = [*notes, *check_labels(source)]
  counts = ", ".join(f"{name} {len(people[name])}" for name in splits.SPLITS)
  lines = [f"people by split: {counts}", *(f"note: {note}" for note in notes)]
  if FLAGS.preview:
    from data_pipelines.atlas.preview import write_preview  # matplotlib takes half a second

    lines.append(write_preview(source, FLAGS.preview))
  return lines


def _prefix() -> str:
  prefix = FLAGS.participant_prefix
  if not re.fullmatch(r"[A-Za-z0-9_.-]{0,50}", prefix):
    raise flags.Error(f"--participant_prefix={prefix}: expected at most 50 letters, digits, '_', '-' and '.'")
  return prefix


def _chosen_people(source: Source) -> Source:
  prefix, without = _prefix(), sorted(FLAGS.without_participants)
  return ChosenPeople(source, prefix, without) if prefix or without else source


def _build(split: Split, source: Callable[[], Source], request: Mapping[str, Any]) -> None:
  options = {"overwrite": FLAGS.overwrite, "allow_duplicates": FLAGS.allow_duplicates}
  prefix, without = _prefix(), sorted(FLAGS.without_participants)
  if prefix or without:
    request = {**request, "participant_prefix": prefix, "without_participants": without}
  chosen = lambda: _chosen_people(source())
  build(chosen, FLAGS.data_dir, FLAGS.name, split=split, request=request, runner=_runner_from_flags(), **options)


def _runner_from_flags() -> Runner:
  if FLAGS.runner is None:
    if FLAGS.beam_option:
      raise flags.Error("--beam_option needs --runner")
    return runners.Processes(FLAGS.workers)
  if FLAGS["workers"].present:
    raise flags.Error("--workers does not apply to --runner; use the runner's own options (--beam_option)")
  from data_pipelines.runners.beam import Beam

  folder = local_data_dir(FLAGS.data_dir) if FLAGS.data_dir else tempfile.gettempdir()
  return Beam(FLAGS.runner, folder, FLAGS.beam_option)


def main(argv: Sequence[str]) -> int:
  """Runs the command line and returns its exit code."""
  interrupted = "interrupted; the same command continues an import, and begins other builds anew"
  return streams.exit_code(functools.partial(_main, argv), interrupted)


def _main(argv: Sequence[str]) -> None:
  for flag in FLAGS:
    FLAGS[flag].unparse()  # forget the values of an earlier call in this process
  if any(argument in ("-h", "--help") for argument in argv[1:]):
    print(__doc__, FLAGS.get_help(), sep="\n")
    return
  rest = FLAGS(argv)
  if len(rest) > 1:
    raise flags.Error(f"unexpected argument {rest[1]!r}")
  _build_from_flags()


if __name__ == "__main__":
  sys.exit(main(sys.argv))
