"""A built dataset on disk: records, schema, statistics, splits and tables.

DATA_DIR/day_windows/NAME/VERSION/   day_windows-SPLIT.array_record-..., dataset_info.json, features.json (TFDS)
                                     schema.json, statistics.npz, splits.json, participants.parquet,
                                     events.parquet, request.json, README.md, digests.json (of all other files);
                                     and, where the source states which events exclude each other,
                                     exclusive_events.json

A record is one day. A minute that the sensor lost is stored as NaN in its channel of `values`, and its cause, where the
source knew it, in `cause`. Nothing is filled in or normalised on disk: the loader (loader.py) yields the stored values
as they are, and `statistics` holds what a model needs to normalise them.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import hashlib
import io
import json
import os
import pathlib
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import tensorflow_datasets as tfds
from absl import logging
from jaxtyping import Float32, Int64

from data_pipelines import splits
from data_pipelines.digests import FILE as DIGESTS
from data_pipelines.digests import Digests
from data_pipelines.errors import CorruptError, DatasetError, first_line
from data_pipelines.lsm2_schema import LSM2_ACTIVITIES
from data_pipelines.progress import progress_bar
from data_pipelines.remote import copies
from data_pipelines.remote.objects import RemoteFolder, is_remote
from data_pipelines.schema import Schema
from data_pipelines.source import EXCLUSIVE_EVENTS
from data_pipelines.statistics import Statistics
from data_pipelines.text_files import counted, percentage, read_json, replacing

BUILDER = "day_windows"
VERSION = "1.0.0"
HAS_DIGESTS = "digests"  # key of request.json, true if digests.json was written too
_SHOWN_DAYS = 1000  # reading more days than these shows a progress bar


def dataset_path(data_dir: str | os.PathLike, name: str) -> pathlib.Path:
  """Folder of dataset `name`, whether it exists or not; of a remote dataset, its copy on this machine."""
  return local_data_dir(data_dir).expanduser() / BUILDER / name / VERSION


def dataset_url(data_dir: str | os.PathLike, name: str) -> str:
  """Folder of dataset `name` in a remote data directory, such as gs://bucket/data."""
  return f"{os.fspath(data_dir).rstrip('/')}/{BUILDER}/{name}/{VERSION}"


def local_data_dir(data_dir: str | os.PathLike) -> pathlib.Path:
  """A data directory; of a remote one, the folder of its copies on this machine."""
  return copies.copy_path(data_dir) if is_remote(data_dir) else pathlib.Path(data_dir)


def dataset_names(data_dir: str | os.PathLike) -> list[str]:
  """Names of the finished datasets in a data directory.

  Raises:
    RemoteError: a remote one cannot be reached.
  """
  if is_remote(data_dir):
    folder = RemoteFolder(data_dir).folder(BUILDER)
    return [name for name in folder.children() if folder.exists(f"{name}/{VERSION}/request.json")]
  requests = (pathlib.Path(data_dir).expanduser() / BUILDER).glob(f"*/{VERSION}/request.json")
  return sorted(path.parent.parent.name for path in requests)


@contextlib.contextmanager
def quiet_tfds() -> Iterator[None]:
  """Silences what TFDS prints and logs about downloads, because there is nothing to download."""
  verbosity = logging.get_verbosity()
  logging.set_verbosity(logging.ERROR)
  try:
    with contextlib.redirect_stdout(io.StringIO()):
      yield
  finally:
    logging.set_verbosity(verbosity)


def _fetch(data_dir: str | os.PathLike, name: str) -> None:
  """Makes the copy of a remote dataset equal to it; what was fetched is compared with the dataset's digests."""
  url = dataset_url(data_dir, name)
  if not RemoteFolder(url).exists("request.json"):
    shutil.rmtree(dataset_path(data_dir, name), ignore_errors=True)
    return
  changed = copies.fetch_folder(url)
  Digests.load(dataset_path(data_dir, name)).check(*changed)


class _StoredDays(Sequence[dict[str, Any]]):
  """The days of a split; an error while reading one names its file and record."""

  def __init__(self, source: Sequence[dict[str, Any]], files: tuple[str, ...], lengths: tuple[int, ...]):
    self._source, self._files, self._lengths = source, files, lengths

  def __len__(self) -> int:
    return len(self._source)

  def __getitem__(self, index: Any) -> Any:
    if not 0 <= index < len(self):
      raise IndexError(index)
    try:
      return self._source[index]
    except Exception as error:  # array_record, TFDS and numpy each raise their own kinds
      starts = np.cumsum((0, *self._lengths))
      file = int(np.searchsorted(starts, index, side="right")) - 1
      raise CorruptError(
        f"{self._files[file]}: record {index - starts[file]} of {self._lengths[file]} cannot be read, "
        f"build the dataset again: {first_line(error, 200)}"
      ) from error


@dataclasses.dataclass(frozen=True)
class Dataset:
  """A finished dataset; `Dataset.open` reads one.

  Attributes:
    path: its folder.
    name: its name within the data directory.
    schema: clock and channels of every day.
    statistics: of the observed values of the pretrain split, in physical units.
  """

  path: pathlib.Path
  name: str
  schema: Schema
  statistics: Statistics = dataclasses.field(repr=False)

  @classmethod
  def open(cls, data_dir: str | os.PathLike, name: str) -> Dataset:
    """Opens dataset `name` of a data directory; a remote one is copied to this machine first, if it is not yet.

    Raises:
      RemoteError: a remote data directory cannot be reached, or the local disk has no room for the dataset.
      DatasetError: there is no such dataset; the message lists the ones that exist.
      DatasetError: one of its small files is damaged, or digests.json, with which it was built, is missing.
      SchemaError: its schema or statistics cannot be read.
    """
    path = dataset_path(data_dir, name)
    if name and is_remote(data_dir):
      _fetch(data_dir, name)
    if not name or not (path / "request.json").is_file():
      names = dataset_names(data_dir)
      existing = f"it holds the datasets {', '.join(names)}" if names else "it holds no datasets"
      raise DatasetError(f"no dataset {name!r} in {data_dir}; {existing}")
    digests = Digests.load(path)
    digests.check_small(except_for=("events.parquet",))  # which may be large and is rarely read
    if not digests.files:
      if _read_request(path).get(HAS_DIGESTS):
        fix = "build the dataset again or restore it from a copy"
        raise DatasetError(f"{path / DIGESTS}: missing, although the dataset was built with it; {fix}")
      _tell_unchecked(path)
    return cls(path, name, Schema.load(path / "schema.json"), Statistics.load(path / "statistics.npz"))

  @functools.cached_property
  def members(self) -> tuple[tuple[Dataset, float], ...]:
    """The datasets that this one is a mix of, and their weights; itself alone if it is none."""
    return ((self, 1.0),)

  @property
  def stored(self) -> tuple[Dataset, ...]:
    """The datasets on disk that hold the days."""
    return (self,)

  @functools.cached_property
  def digest(self) -> str:
    """32 hex digits that differ if the days, people, labels, events or statistics do, whatever the dataset's name."""
    return self._digests.content

  def digest_of(self, split: str) -> str:
    """32 hex digits that differ if the days of a split, the schema or the statistics do.

    Raises:
      DatasetError: the split is unknown.
    """
    self._check(split)
    return self._digests.of_split(split)

  def people_digest(self, split: str) -> str:
    """32 hex digits that differ if the people of a split do, in whatever order they are.

    Raises:
      DatasetError: the split is unknown.
    """
    return hashlib.blake2b(json.dumps(sorted(self.people(split))).encode(), digest_size=16).hexdigest()

  @functools.cached_property
  def _digests(self) -> Digests:
    return Digests.load(self.path)

  @functools.cached_property
  def request(self) -> dict[str, Any]:
    """The request that the dataset was built from: the source's "request" and the rule of its "split".

    Raises:
      SchemaError: request.json is damaged.
    """
    return {key: value for key, value in _read_request(self.path).items() if key != HAS_DIGESTS}

  def num_days(self, split: str) -> int:
    """Number of days in pretrain, tune or eval; 0 where the split is empty.

    Raises:
      DatasetError: the split is unknown.
    """
    self._check(split)
    info = self._builder.info.splits
    return info[split].num_examples if split in info else 0

  def require_days(self, split: str) -> None:
    """Refuses a split without days, with a remedy; programs call it before they start long work.

    Raises:
      DatasetError: the split is unknown or empty.
    """
    if self.num_days(split) == 0:
      raise DatasetError(self.empty_text(split))

  def empty_text(self, split: str) -> str:
    """A line that says that a split is empty, and how to mend that."""
    return f"dataset {self.name!r} has no days in split {split!r} ({self.path}); {self._remedy(split)}"

  def _remedy(self, split: str) -> str:
    count = sum(len(self.people(each)) for each in splits.SPLITS)
    if count < 2:
      return "it has only one person, so nobody can be held out"
    folds = min(splits.FEW_FOLDS, count)
    flags = f"--folds={folds} --fold=0" if split == "eval" else "--split=0.6,0.2,0.2"
    return f"to hold out some of its {counted(count, 'person')}, build it again with {flags} --overwrite"

  def days(self, split: str) -> Sequence[dict[str, Any]]:
    """Random access to the stored days of a split, in the order in which they were built.

    Returns:
      A sequence of dicts: `values` float32 [steps, channels] in physical units, NaN where missing; `participant` and
      `date` as bytes, which is how TFDS stores text; `day` and `weekday` int32; and `cause` uint8 [steps, channels] if
      the dataset knows causes. Reading a damaged day raises CorruptError.

    Raises:
      DatasetError: the split is unknown or empty, a shard is not the one that was built, or its index is damaged.
    """
    self.require_days(split)
    info = self._builder.info.splits[split]
    files = tuple(str(path) for path in info.filepaths)
    lengths = tuple(info.shard_lengths)
    self._digests.check_shards({os.path.basename(file): days for file, days in zip(files, lengths, strict=True)})
    return _StoredDays(self._builder.as_data_source(split=split), files, lengths)

  def missing_shares(self, split: str) -> Float32[np.ndarray, " days"]:
    """Share of missing values of each day of a split, in the order of `days`.

    The first call reads all days and stores the shares in the dataset's folder, if that can be written.

    Raises:
      DatasetError: the split is unknown or empty, or a day cannot be read.
    """
    return missing_shares(self.days(split), split, self.path / f"missing_{split}.npz")

  def days_within(self, split: str, max_missing: float) -> Int64[np.ndarray, " selected"]:
    """Indices into `days` of the days with at most this share of missing values.

    Raises:
      DatasetError: max_missing is not between 0 and 1, the split is unknown or empty, a day cannot be read, or no day
        qualifies.
    """
    if not 0 <= max_missing <= 1:
      raise DatasetError(f"max_missing is {max_missing}, expected 0 to 1")
    shares = self.missing_shares(split)
    indices = np.flatnonzero(shares <= np.float32(max_missing))  # rounded as they are: a float64 of 0.8 is less
    if not len(indices):
      raise DatasetError(
        f"max_missing is {max_missing}: no day of {len(shares):,} in split {split!r} of dataset {self.name!r} "
        f"is that complete; the most complete day misses {percentage(100 * float(shares.min()))}"
      )
    return indices

  def people(self, split: str) -> list[str]:
    """Ids of the participants of a split, in the order of their days.

    Raises:
      DatasetError: the split is unknown.
    """
    self._check(split)
    return splits.load(self.path / "splits.json")[split]

  def participants(self) -> pa.Table:
    """One row per person: participant, split, days, and one column per label."""
    return _read_table(self.path / "participants.parquet")

  def events(self) -> pa.Table:
    """One row per event: participant, day, date, start, end (steps, end exclusive), name, value (0 if known absent)."""
    self._digests.check("events.parquet")
    return _read_table(self.path / "events.parquet")

  def exclusive_events(self) -> dict[str, list[str]]:
    """{group: names of events of which at most one happens at a time}, for example {"activity": ["walk", "bike"]}.

    Read from exclusive_events.json, which the source writes. A dataset without this file has one group, the 20
    activities of LSM-2 (`LSM2_ACTIVITIES`), whether or not it has such events.

    Raises:
      SchemaError: the file is not a JSON object of lists of names.
    """
    path = self.path / EXCLUSIVE_EVENTS
    if not path.is_file():
      return {"activity": list(LSM2_ACTIVITIES)}
    groups = read_json(path)
    if not isinstance(groups, dict) or not all(
      isinstance(names, list) and all(isinstance(name, str) for name in names) for names in groups.values()
    ):
      raise DatasetError(f"{path}: expected a JSON object of lists of event names")
    return groups

  @functools.cached_property
  def _builder(self) -> tfds.core.DatasetBuilder:
    for name in ("dataset_info.json", "features.json"):
      read_json(self.path / name)  # TFDS's own messages about damage do not name the file
    try:
      with quiet_tfds():
        return tfds.builder_from_directory(self.path)
    except Exception as error:  # of any kind: TFDS trusts these files
      raise DatasetError(
        f"{self.path}: dataset_info.json or features.json is damaged, build the dataset again: {first_line(error)}"
      ) from error

  def _check(self, split: str) -> None:
    if split not in splits.SPLITS:
      raise DatasetError(f"unknown split {split!r} of dataset {self.name!r}; splits are {', '.join(splits.SPLITS)}")


def missing_shares(
  days: Sequence[dict[str, Any]], split: str, path: pathlib.Path, missing: Callable[[np.ndarray], np.ndarray] = np.isnan
) -> Float32[np.ndarray, " days"]:
  """Share of missing values of each day; all days are read, unless the shares are in a file from an earlier call.

  Args:
    days: of a split.
    split: its name, for the progress bar.
    path: of the file, which is written if it can be.
    missing: which of a day's values [steps, channels] are missing.
  """
  with contextlib.suppress(Exception), np.load(path) as stored:  # absent, incomplete or damaged in any way: read anew
    if stored["shares"].shape == (len(days),):
      return stored["shares"]
  with progress_bar(len(days), f"missing values of {split}", "day", disable=len(days) < _SHOWN_DAYS) as bar:
    shares = np.array([bar.update() or missing(days[i]["values"]).mean() for i in range(len(days))], np.float32)
  with contextlib.suppress(OSError), replacing(path) as unfinished, unfinished.open("wb") as file:
    np.savez(file, shares=shares)  # with a checksum, unlike a single array
  return shares


def _read_request(path: pathlib.Path) -> dict[str, Any]:
  raw = read_json(path / "request.json")
  if not isinstance(raw, dict):
    raise DatasetError(f"{path / 'request.json'}: holds a JSON {type(raw).__name__}, expected an object")
  return raw


@functools.cache
def _tell_unchecked(path: pathlib.Path) -> None:
  """Says once that nothing would notice damage to a dataset."""
  fix = "build it again with --overwrite to add them"
  print(f"note: {path}: built by an earlier version, without digests of its files; {fix}", file=sys.stderr, flush=True)


def _read_table(path: pathlib.Path) -> pa.Table:
  try:
    return pq.read_table(path)
  except (OSError, ValueError, pa.ArrowException) as error:
    raise DatasetError(f"{path}: cannot be read, build the dataset again: {first_line(error)}") from None
