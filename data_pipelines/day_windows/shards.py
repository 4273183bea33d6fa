"""Shards: groups of people whose days are written into one file by one process.

A shard depends on the source and on its people alone, and what is learnt from shards is combined in their order.
Therefore a dataset is the same bit for bit, whichever processes write its shards and in whichever order they finish.
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import math
import os
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence

from array_record.python import array_record_module
from tensorflow_datasets.core import example_serializer

from data_pipelines.day_windows import examples
from data_pipelines.day_windows.tables import Tables
from data_pipelines.digests import FileDigest
from data_pipelines.errors import DatasetError
from data_pipelines.runners import Report
from data_pipelines.source import Day, Source

# Sizes are of float32 values before compression.
SHARD_BYTES = 256 * 2**20  # largest shard, unless a split would then have more than MOST_SHARDS
MOST_SHARDS = 512  # per split, because a reader may not be able to hold more files open at once
SMALL_SHARD_BYTES = 16 * 2**20  # a split is not cut into smaller shards just to have PARTS of them
PARTS = 16  # shards per split that are enough to keep several processes busy
# Every day is a group of its own, which allows random access; TFDS does the same. Compression level 1 takes a third of
# the time of TFDS's level 3 and 1 to 4 % more bytes.
_OPTIONS = "group_size:1,zstd:1"


@dataclasses.dataclass(frozen=True)
class Shard:
  """The people of one file.

  Attributes:
    split: the split they belong to.
    people: their ids.
    path: the array_record file for their days.
  """

  split: str
  people: tuple[str, ...]
  path: str


@dataclasses.dataclass(frozen=True)
class WrittenShard:
  """A shard whose file is complete.

  Attributes:
    days: number of days in it.
    digest: size and digest of the file.
    tables: its people, events and statistics.
  """

  days: int
  digest: FileDigest
  tables: Tables


def count(split_bytes: float) -> int:
  """Number of shards for a split with this many bytes of uncompressed values."""
  shards = max(split_bytes / SHARD_BYTES, min(split_bytes / SMALL_SHARD_BYTES, PARTS))
  return max(min(math.ceil(shards), MOST_SHARDS), 1)


def plan(
  source: Source, people: Mapping[str, Sequence[str]], template: Callable[[str, int, int], os.PathLike]
) -> list[Shard]:
  """Divides the people of all splits into shards.

  Args:
    source: the days; people are assumed to have equally many.
    people: ids by split.
    template: gives the file for (split, index of the shard, number of shards of the split).

  Returns:
    The shards in order; a split without people has none.
  """
  day_bytes = 4 * source.schema.steps * len(source.schema.channels)
  person_bytes = day_bytes * max(source.n_days / len(source.participants), 1)
  shards = []
  for split, names in people.items():
    shard_count = min(count(person_bytes * len(names)), len(names))
    edges = [len(names) * i // shard_count for i in range(shard_count + 1)] if shard_count else []
    for i, (start, end) in enumerate(itertools.pairwise(edges)):
      shards.append(Shard(split, tuple(names[start:end]), os.fspath(template(split, i, shard_count))))
  return shards


@contextlib.contextmanager
def _one_line(path: str) -> Iterator[None]:
  """Turns what array_record raises about a full disk into an error of one line."""
  try:
    yield
  except RuntimeError as error:
    raise DatasetError(f"{path}: {str(error).split(';')[0]}") from error


@dataclasses.dataclass(frozen=True)
class ShardWriter:
  """Writes shards of a source; can be pickled to other processes.

  Attributes:
    source: the days.
    has_cause: whether days have a `cause`.
  """

  source: Source
  has_cause: bool

  def __call__(self, shard: Shard, report_days: Report = lambda days: None) -> WrittenShard:
    """Writes one shard; calls `report_days` after each person.

    Raises:
      SchemaError: a person's days or events do not fit the schema.
      DatasetError: the file cannot be written, as on a full disk.
    """
    tables = Tables(self.source.schema)
    fields = examples.features(self.source.schema, self.has_cause)
    serializer = example_serializer.ExampleSerializer(fields.get_serialized_info())
    # Each attempt has a file name of its own: a cluster may run two at once, and either file is complete.
    unfinished = f"{shard.path}.{uuid.uuid4().hex}"
    with _one_line(shard.path):
      file = array_record_module.ArrayRecordWriter(unfinished, _OPTIONS)
    for day in self._days(shard, tables, report_days):
      # Deterministic, because the order of a protocol buffer's map otherwise differs between processes.
      record = serializer.get_tf_example(fields.encode_example(examples.example(day)))
      with _one_line(shard.path):
        file.write(record.SerializeToString(deterministic=True))
    with _one_line(shard.path):
      file.close()
    os.replace(unfinished, shard.path)
    return WrittenShard(tables.days, FileDigest.of(shard.path), tables.pack())

  def _days(self, shard: Shard, tables: Tables, report_days: Report) -> Iterator[Day]:
    for participant in shard.people:
      person = self.source.person(participant)
      examples.check(person, self.source.schema, self.has_cause)
      tables.add(person, shard.split)
      yield from person.days
      report_days(len(person.days))
