"""A built dataset on disk: records, schema, statistics, splits and tables.

DATA_DIR/day_windows/NAME/VERSION/   day_windows-SPLIT.array_record-..., dataset_info.json, features.json (TFDS)
                                     schema.json, statistics.npz, splits.json, participants.parquet,
                                     events.parquet, request.json, README.md
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import io
import json
import os
import pathlib
import tempfile
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import tensorflow_datasets as tfds
from absl import logging

from data_pipelines import splits
from data_pipelines.errors import CorruptError, DatasetError
from data_pipelines.schema import Schema
from data_pipelines.statistics import Statistics

BUILDER = "day_windows"
VERSION = "1.0.0"


def dataset_path(data_dir: str | os.PathLike, name: str) -> pathlib.Path:
  """Where dataset `name` is or will be."""
  return pathlib.Path(data_dir).expanduser() / BUILDER / name / VERSION


def dataset_names(data_dir: str | os.PathLike) -> list[str]:
  """Finished datasets of a data directory."""
  found = (pathlib.Path(data_dir).expanduser() / BUILDER).glob(f"*/{VERSION}/request.json")
  return sorted(path.parent.parent.name for path in found)


@contextlib.contextmanager
def quiet_tfds() -> Iterator[None]:
  """Keeps TFDS from printing and logging what it would download: here is nothing to download."""
  verbosity = logging.get_verbosity()
  logging.set_verbosity(logging.ERROR)
  try:
    with contextlib.redirect_stdout(io.StringIO()):
      yield
  finally:
    logging.set_verbosity(verbosity)


class _Days(Sequence[dict[str, Any]]):
  """A split's days, whose errors name the file and the record."""

  def __init__(self, source: Sequence[dict[str, Any]], files: tuple[str, ...], lengths: tuple[int, ...]):
    self._source, self._files, self._lengths = source, files, lengths

  def __len__(self) -> int:
    return len(self._source)

  def __getitem__(self, index: Any) -> Any:
    if not 0 <= index < len(self):
      raise IndexError(index)
    try:
      return self._source[index]
    except Exception as error:  # array_record, tfds and numpy each have their own
      starts = np.cumsum((0, *self._lengths))
      file = int(np.searchsorted(starts, index, side="right")) - 1
      line = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
      raise CorruptError(
        f"{self._files[file]}: record {index - starts[file]} of {self._lengths[file]} cannot be read, "
        f"build the dataset anew: {line}"
      ) from error


@dataclasses.dataclass(frozen=True)
class Dataset:
  """A finished dataset; see `Dataset.open`."""

  path: pathlib.Path
  name: str
  schema: Schema
  statistics: Statistics = dataclasses.field(repr=False)

  @classmethod
  def open(cls, data_dir: str | os.PathLike, name: str) -> Dataset:
    """Opens dataset `name` of `data_dir`; DatasetError if there is none."""
    path = dataset_path(data_dir, name)
    if not name or not (path / "request.json").is_file():
      names = dataset_names(data_dir)
      there = f"datasets there: {', '.join(names)}" if names else "there are no datasets there"
      raise DatasetError(f"no dataset {name!r} in {data_dir}; {there}")
    return cls(path, name, Schema.load(path / "schema.json"), Statistics.load(path / "statistics.npz"))

  @functools.cached_property
  def request(self) -> dict[str, Any]:
    """What the dataset was built from."""
    return json.loads((self.path / "request.json").read_text())

  def num_days(self, split: str) -> int:
    """Days of pretrain, tune or eval; 0 where the split is empty."""
    self._check(split)
    info = self._builder.info.splits
    return info[split].num_examples if split in info else 0

  def days(self, split: str) -> Sequence[dict[str, Any]]:
    """Random access to the days of a split, in the order they were built.

    An element has values float32 [steps, channels], participant and date (bytes, as TFDS stores text), day and
    weekday int32, and cause uint8 [steps, channels] where known.

    Raises:
      DatasetError: the split is unknown or empty; and where a day is asked for, that it cannot be read.
    """
    if self.num_days(split) == 0:
      raise DatasetError(f"dataset {self.name!r} has no days in split {split!r} ({self.path})")
    info = self._builder.info.splits[split]
    files = tuple(str(path) for path in info.filepaths)
    return _Days(self._builder.as_data_source(split=split), files, tuple(info.shard_lengths))

  def missing_shares(self, split: str) -> np.ndarray:
    """float32 [days], the share of missing values of each day of a split, in the order of days().

    Reads all days once and keeps the answer beside them, where that folder can be written.
    """
    path = self.path / f"missing_{split}.npy"
    try:
      return np.load(path)
    except (OSError, ValueError, EOFError):  # not there, or written by half
      pass
    source = self.days(split)
    shares = np.array([np.isnan(source[i]["values"]).mean() for i in range(len(source))], np.float32)
    with contextlib.suppress(OSError), tempfile.NamedTemporaryFile(dir=self.path, delete=False) as file:
      np.save(file, shares)
      os.replace(file.name, path)
    return shares

  def days_within(self, split: str, max_missing: float) -> np.ndarray:
    """int64 [kept], the days of days() that miss at most this share of their values; DatasetError if none does."""
    if not 0 <= max_missing <= 1:
      raise DatasetError(f"max_missing is {max_missing}, expected 0 to 1")
    shares = self.missing_shares(split)
    kept = np.flatnonzero(shares <= max_missing)
    if not len(kept):
      raise DatasetError(
        f"max_missing is {max_missing}: none of the {len(shares):,} days in split {split!r} of dataset {self.name!r} "
        f"misses so little; the most complete misses {100 * shares.min():.2g} %"
      )
    return kept

  def people(self, split: str) -> list[str]:
    """Participants of a split."""
    self._check(split)
    return splits.load(self.path / "splits.json")[split]

  def participants(self) -> pa.Table:
    """participant, split, days, and one column for each label."""
    return pq.read_table(self.path / "participants.parquet")

  def events(self) -> pa.Table:
    """participant, day, date, start, end (steps, end excluded), name, value (0 is a known absence)."""
    return pq.read_table(self.path / "events.parquet")

  @functools.cached_property
  def _builder(self) -> tfds.core.DatasetBuilder:
    with quiet_tfds():
      return tfds.builder_from_directory(self.path)

  def _check(self, split: str) -> None:
    if split not in splits.SPLITS:
      raise DatasetError(f"unknown split {split!r} of dataset {self.name!r}; splits are {', '.join(splits.SPLITS)}")
