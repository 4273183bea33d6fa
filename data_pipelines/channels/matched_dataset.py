"""A dataset seen through a matching: the same days and people in the schema of something else, such as a checkpoint."""

from __future__ import annotations

import collections
import contextlib
import functools
import hashlib
import json
import pathlib
import sys
from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from jaxtyping import Float32, Int64, Shaped

from data_pipelines import splits
from data_pipelines.channels.matching import Matching
from data_pipelines.channels.vocabulary import Vocabulary
from data_pipelines.dataset import Dataset, missing_shares
from data_pipelines.progress import progress_bar
from data_pipelines.schema import Schema, SchemaError
from data_pipelines.statistics import Accumulator, Statistics
from data_pipelines.text_files import counted, replacing

_DAYS_AT_ONCE = 32
_SHOWN_DAYS = 1000  # reading more days than these shows a progress bar


class MatchedDataset(Dataset):
  """A dataset in a schema other than its own, or with zeros that are missing; whatever takes a Dataset takes it.

  Nothing is written: days are matched when they are read. Splits and labels are the dataset's own, and so are people
  and days, except those on which nothing is observed in any channel that both have: they are left out, and their number
  is printed. The steps of events are those of the target's clock, rounded outwards. Days have no causes.

  Attributes:
    original: the dataset as it is stored.
    matching: from its schema to this one's.
  """

  def __init__(self, original: Dataset, matching: Matching):
    """Sees `original` through `matching`, whose source is its schema."""
    for name, value in (
      ("path", original.path),
      ("name", original.name),
      ("schema", matching.target),
      ("original", original),
      ("matching", matching),
    ):
      object.__setattr__(self, name, value)  # a frozen dataclass

  original: Dataset
  matching: Matching

  @property
  def stored(self) -> tuple[Dataset, ...]:
    """The dataset as it is stored."""
    return self.original.stored

  @functools.cached_property
  def statistics(self) -> Statistics:  # type: ignore[override]
    """Statistics of the matched days of the pretrain split; computed from the days on first use.

    A channel that is never observed has count 0, mean 0, SD 1 and NaN at every time of day.

    Where zeros are all that is changed, they are stored in the dataset's folder, if that can be written.
    """
    if not self._has_own_schema:
      return self._computed_statistics()
    path = self._file("statistics")
    with contextlib.suppress(SchemaError):
      return Statistics.load(path)
    statistics = self._computed_statistics()
    with contextlib.suppress(OSError), replacing(path) as unfinished:
      statistics.save(unfinished)
    return statistics

  def _computed_statistics(self) -> Statistics:
    accumulator = Accumulator(self.schema)
    if self.num_days("pretrain"):
      days = self.days("pretrain")
      with progress_bar(len(days), f"statistics of {self.name}", "day", disable=len(days) < _SHOWN_DAYS) as bar:
        for start in range(0, len(days), _DAYS_AT_ONCE):
          batch = [days[i]["values"] for i in range(start, min(start + _DAYS_AT_ONCE, len(days)))]
          accumulator.add(np.stack(batch))
          bar.update(len(batch))
    return accumulator.finish(allow_unobserved=True)[0]

  @functools.cached_property
  def digest(self) -> str:
    """As Dataset.digest, of the matched days."""
    return self._seen(self.original.digest)

  def digest_of(self, split: str) -> str:
    """As Dataset.digest_of, of the matched days."""
    return self._seen(self.original.digest_of(split))

  def num_days(self, split: str) -> int:
    """Number of days of a split on which something is observed."""
    return len(self._kept(split))

  def days(self, split: str) -> Sequence[dict[str, Any]]:
    """As Dataset.days, with values float32 [target steps, target channels]."""
    self.require_days(split)
    return _MatchedDays(self.original.days(split), self._kept(split), self.matching, self._where)

  def missing_shares(self, split: str) -> Float32[np.ndarray, " days"]:
    """Share of missing values of each day in the dataset's own channels, so that absent ones count for nothing."""
    return self._stored_shares(split)[self._kept(split)]

  def people(self, split: str) -> list[str]:
    """As Dataset.people, without those of whom nothing is observed."""
    owners = set(self._owners(split)[self._kept(split)].tolist())
    return [name for name in self.original.people(split) if name in owners]

  def participants(self) -> pa.Table:
    """As Dataset.participants, with the numbers of days on which something is observed."""
    table = self.original.participants()
    counts = collections.Counter(
      name for split in splits.SPLITS for name in self._owners(split)[self._kept(split)].tolist()
    )
    days = [counts[name] for name in table["participant"].to_pylist()]
    field = table.schema.field("days")
    table = table.set_column(table.column_names.index("days"), field, pa.array(days, field.type))
    return table.filter(np.array(days) > 0)

  def events(self) -> pa.Table:
    """As Dataset.events, on the target's clock, without those of days on which nothing is observed."""
    table = self.original.events()
    if self._empty:
      keys = zip(table["participant"].to_pylist(), table["day"].to_pylist(), strict=True)
      table = table.filter(np.array([key not in self._empty for key in keys], bool))
    minutes, to = self.matching.source.minutes_per_step, self.matching.target.minutes_per_step
    for name, rounded_up in (("start", False), ("end", True)):
      steps = table[name].to_numpy() * minutes
      steps = -(-steps // to) if rounded_up else steps // to
      position = table.column_names.index(name)
      table = table.set_column(position, table.schema.field(name), pa.array(steps, table.schema.field(name).type))
    return table

  def _stored_shares(self, split: str) -> Float32[np.ndarray, " days"]:
    """Share of missing values of each stored day, in the dataset's own channels."""
    if not self.matching.zero_is_missing:
      return self.original.missing_shares(split)
    days = self.original.days(split)
    return missing_shares(days, split, self._file(f"missing_{split}"), self.matching.missing)

  def _file(self, name: str) -> pathlib.Path:
    """Path of a stored result that is computed from days whose zeros are missing values."""
    basis = json.dumps([self.original.digest, self.matching.zero_is_missing])
    return self.path / f"{name}_{hashlib.blake2b(basis.encode(), digest_size=6).hexdigest()}.npz"

  @property
  def _has_own_schema(self) -> bool:
    """True if zeros are all that is changed."""
    return self.original.schema.difference(self.schema) is None

  @property
  def _where(self) -> str:
    return f"dataset {self.name!r}"

  def _owners(self, split: str) -> Shaped[np.ndarray, " days"]:
    """Participant of each stored day of a split; no day is read."""
    counts = self._stored_counts
    people = self.original.people(split)  # in the order of the records
    return np.repeat(np.array(people, object), [counts[name] for name in people])

  @functools.cached_property
  def _stored_counts(self) -> dict[str, int]:
    table = self.original.participants()
    return dict(zip(table["participant"].to_pylist(), table["days"].to_pylist(), strict=True))

  def _kept(self, split: str) -> Int64[np.ndarray, " days"]:
    """Indices of the stored days of a split on which something is observed."""
    return self._all_kept[split] if split in self._all_kept else np.arange(self.original.num_days(split))

  @functools.cached_property
  def _all_kept(self) -> dict[str, Int64[np.ndarray, " days"]]:
    """Indices of the days with observed values by split; all days are read once, unless none of them can be empty."""
    all_channels = not self.matching.extra
    all_channels &= self.matching.source.minutes_per_step >= self.matching.target.minutes_per_step
    if all_channels and not self.matching.zero_is_missing:
      return {}
    kept = {}
    for split in splits.SPLITS:
      total = self.original.num_days(split)
      if total:
        if all_channels:
          kept[split] = np.flatnonzero(self._stored_shares(split) < 1)
        else:
          days = _MatchedDays(self.original.days(split), np.arange(total), self.matching, self._where)
          kept[split] = np.flatnonzero([not np.isnan(days[i]["values"]).all() for i in range(total)])
        if len(kept[split]) < total:
          left_out = counted(total - len(kept[split]), "day")
          print(
            f"note: {self._where}, {split}: {left_out} left out, with nothing observed in the channels matched",
            file=sys.stderr,
            flush=True,
          )
    return kept

  @functools.cached_property
  def _empty(self) -> set[tuple[str, int]]:
    """(participant, day) of the days that are left out."""
    empty = set()
    for split, kept in self._all_kept.items():
      days = self.original.days(split)
      for i in sorted(set(range(len(days))) - set(kept.tolist())):
        empty.add((days[i]["participant"].decode(), int(days[i]["day"])))
    return empty

  def _seen(self, digest: str) -> str:
    """A digest of what is seen: of the content and of the matching, but for zeros that are missing."""
    if self._has_own_schema:
      return digest
    pairs = [[pair.source, pair.target, pair.unit, pair.target_unit, pair.rule] for pair in self.matching.pairs]
    seen = json.dumps([digest, self.matching.target.to_dict(), pairs, self.matching.min_share], sort_keys=True)
    return hashlib.blake2b(seen.encode(), digest_size=16).hexdigest()


class _MatchedDays(Sequence[dict[str, Any]]):
  """Some days of a split, matched one by one when they are read."""

  def __init__(
    self, source: Sequence[dict[str, Any]], indices: Int64[np.ndarray, " days"], matching: Matching, where: str
  ):
    self._source, self._indices, self._matching, self._where = source, indices, matching, where

  def __len__(self) -> int:
    return len(self._indices)

  def __getitem__(self, index: Any) -> Any:
    if not 0 <= index < len(self):
      raise IndexError(index)
    day = self._source[int(self._indices[index])]
    values = self._matching.apply(day["values"][None], self._where)[0]
    return {**{key: value for key, value in day.items() if key != "cause"}, "values": values}


def matched(dataset: Dataset, target: Schema, vocabulary: Vocabulary, zero_is_missing: Collection[str] = ()) -> Dataset:
  """The dataset in the schema `target`: itself if that is its schema, and otherwise a view.

  Args:
    dataset: the dataset.
    target: the schema.
    vocabulary: names, units and rules of channels.
    zero_is_missing: names of the target's channels in which a 0 is a missing value, which takes a view too.

  Raises:
    MatchingError: channels cannot be matched; the message names the dataset and the channels.
  """
  if dataset.schema.difference(target) is None and _without_zeros(dataset, zero_is_missing):
    return dataset
  where = f"dataset {dataset.name!r}"
  return MatchedDataset(
    dataset, Matching.between(dataset.schema, target, vocabulary, where=where, zero_is_missing=zero_is_missing)
  )


def _without_zeros(dataset: Dataset, channels: Collection[str]) -> bool:
  """True if a dataset is a view already in which zeros of these channels are missing."""
  names = {*channels} & {*dataset.schema.names}
  return not names or all(
    isinstance(member, MatchedDataset) and names <= {*member.matching.zero_is_missing, *member.matching.absent}
    for member, _ in dataset.members
  )
