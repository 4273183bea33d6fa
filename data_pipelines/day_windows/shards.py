"""Shards: people whose days are written together, by one process, whichever it is.

A shard is a function of the source and its people alone, and what is learnt of shards is put together in their order:
so a dataset is the same bit by bit, whoever writes its shards and in whatever order they are done.
"""

from __future__ import annotations

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
from data_pipelines.source import Day, Source

SHARD_BYTES = 256 * 2**20  # of values before compression, at most ...
MOST_SHARDS = 512  # ... of a split, unless there were more files than a reader may hold open
SMALL_SHARD_BYTES = 16 * 2**20  # at least, where there would be fewer than
PARTS = 16  # shards to share out among processes
# As TFDS, each day a group of its own for random access; level 1 takes a third of the time of level 3, its default, and
# 1 to 4 % more bytes.
_OPTIONS = "group_size:1,zstd:1"

Tell = Callable[[int], object]


@dataclasses.dataclass(frozen=True)
class Shard:
  """People of a split, and the file for their days."""

  split: str
  people: tuple[str, ...]
  path: str


@dataclasses.dataclass(frozen=True)
class Written:
  """What is known of a shard when its file is there."""

  days: int
  size: int
  tables: Tables


def count(split_bytes: float) -> int:
  """How many shards a split of so many bytes of values becomes."""
  wanted = max(split_bytes / SHARD_BYTES, min(split_bytes / SMALL_SHARD_BYTES, PARTS))
  return max(min(math.ceil(wanted), MOST_SHARDS), 1)


def plan(
  source: Source, people: Mapping[str, Sequence[str]], template: Callable[[str, int, int], os.PathLike]
) -> list[Shard]:
  """The shards of all splits that have people, in order; template names the file of (split, index, of how many)."""
  day_bytes = 4 * source.schema.steps * len(source.schema.channels)
  person_bytes = day_bytes * max(source.n_days / len(source.participants), 1)
  shards = []
  for split, names in people.items():
    of = min(count(person_bytes * len(names)), len(names))
    edges = [len(names) * i // of for i in range(of + 1)] if of else []
    for i, (start, end) in enumerate(itertools.pairwise(edges)):
      shards.append(Shard(split, tuple(names[start:end]), os.fspath(template(split, i, of))))
  return shards


@dataclasses.dataclass(frozen=True)
class Work:
  """Writes shards of a source, one by one or, pickled, in several processes."""

  source: Source
  has_cause: bool

  def __call__(self, shard: Shard, tell: Tell = lambda days: None) -> Written:
    """Writes one; `tell` hears of days that are done."""
    tables = Tables(self.source.schema)
    fields = examples.features(self.source.schema, self.has_cause)
    serializer = example_serializer.ExampleSerializer(fields.get_serialized_info())
    # A name of its own: where a cluster has it done twice at once, either is whole.
    unfinished = f"{shard.path}.{uuid.uuid4().hex}"
    file = array_record_module.ArrayRecordWriter(unfinished, _OPTIONS)
    for day in self._days(shard, tables, tell):
      # Deterministic: a protocol buffer's map is in another order in every process.
      record = serializer.get_tf_example(fields.encode_example(examples.example(day)))
      file.write(record.SerializeToString(deterministic=True))
    file.close()
    os.replace(unfinished, shard.path)
    return Written(tables.days, os.path.getsize(shard.path), tables.pack())

  def _days(self, shard: Shard, tables: Tables, tell: Tell) -> Iterator[Day]:
    for participant in shard.people:
      person = self.source.person(participant)
      examples.check(person, self.source.schema, self.has_cause)
      tables.add(person, shard.split)
      yield from person.days
      tell(len(person.days))
