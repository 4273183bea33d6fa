"""Several datasets as one: the same days and people in the schema of all channels, with a weight for each dataset."""

from __future__ import annotations

import functools
import hashlib
import json
import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from jaxtyping import Float32

from data_pipelines import splits
from data_pipelines.channels.matched_dataset import MatchedDataset, matched
from data_pipelines.channels.matching import Matching
from data_pipelines.channels.union import union_schema
from data_pipelines.channels.vocabulary import Vocabulary
from data_pipelines.dataset import BUILDER, Dataset, local_data_dir
from data_pipelines.errors import DatasetError, SplitError, first_line
from data_pipelines.statistics import Accumulator, Statistics
from data_pipelines.text_files import counted


class MixedDataset(Dataset):
  """Several datasets seen as one; whatever takes a Dataset takes it.

  The days of a split are those of its members, one member after another, in the schema that all members have in common
  (`union_schema`). Members are in the order of their names, so that the order in which they are given changes nothing.
  Nothing is written: days are matched when they are read (`MatchedDataset`). The path is that of no folder; it names
  the mix in messages.

  Attributes:
    members: (the dataset in the common schema, its weight). Training draws days of the members in proportion to their
      weights, whatever the numbers of their days (data_pipelines/loader.py).
  """

  def __init__(self, data_dir: str | os.PathLike, members: Sequence[tuple[Dataset, float]]):
    """Sees `members`, which have one schema and no person in common, as one dataset."""
    ordered = tuple(sorted(members, key=lambda member: member[0].name))
    name = "+".join(dataset.name for dataset, _ in ordered)
    path = local_data_dir(data_dir).expanduser() / BUILDER / name
    for key, value in (("path", path), ("name", name), ("schema", ordered[0][0].schema), ("members", ordered)):
      object.__setattr__(self, key, value)  # a frozen dataclass

  members: tuple[tuple[Dataset, float], ...]

  @property
  def stored(self) -> tuple[Dataset, ...]:
    """The members as they are stored."""
    return tuple(stored for dataset in self._datasets for stored in dataset.stored)

  @property
  def _datasets(self) -> tuple[Dataset, ...]:
    return tuple(dataset for dataset, _ in self.members)

  @functools.cached_property
  def statistics(self) -> Statistics:  # type: ignore[override]
    """Statistics of all observed values of the members' pretrain splits; each value counts once, whatever the weights.

    They follow from those of the members, which are read from all days only where a member's clock is another one.
    """
    total = Accumulator(self.schema)
    for dataset in self._datasets:
      total.merge(Accumulator.from_statistics(self.schema, _member_statistics(dataset)))
    return total.finish(allow_unobserved=True)[0]

  @functools.cached_property
  def digest(self) -> str:
    """As Dataset.digest, of all members; the weights are no part of it."""
    return _digest([dataset.digest for dataset in self._datasets])

  def digest_of(self, split: str) -> str:
    """As Dataset.digest_of, of all members."""
    return _digest([dataset.digest_of(split) for dataset in self._datasets])

  @functools.cached_property
  def request(self) -> dict[str, Any]:
    """The request of each member, and its weight."""
    return {"mix": {dataset.name: {"weight": weight, **dataset.request} for dataset, weight in self.members}}

  def num_days(self, split: str) -> int:
    """Number of days in pretrain, tune or eval of all members."""
    return sum(dataset.num_days(split) for dataset in self._datasets)

  def empty_text(self, split: str) -> str:
    """A line that says that a split is empty, and how to mend that."""
    return self._datasets[0].empty_text(split)

  def days(self, split: str) -> Sequence[dict[str, Any]]:
    """As Dataset.days, one member after another."""
    self.require_days(split)
    return _JoinedDays([dataset.days(split) for dataset in self._datasets if dataset.num_days(split)])

  def missing_shares(self, split: str) -> Float32[np.ndarray, " days"]:
    """Share of missing values of each day in its own dataset's channels."""
    self.require_days(split)
    return np.concatenate([dataset.missing_shares(split) for dataset in self._datasets if dataset.num_days(split)])

  def people(self, split: str) -> list[str]:
    """As Dataset.people, of all members."""
    return [person for dataset in self._datasets for person in dataset.people(split)]

  def participants(self) -> pa.Table:
    """As Dataset.participants, of all members; a label that a member lacks is null for its people."""
    return self._joined({dataset.name: dataset.participants() for dataset in self._datasets}, "label")

  def events(self) -> pa.Table:
    """As Dataset.events, of all members."""
    return self._joined({dataset.name: dataset.events() for dataset in self._datasets}, "column of events")

  def exclusive_events(self) -> dict[str, list[str]]:
    """As Dataset.exclusive_events; a group of several members has the names of all."""
    groups: dict[str, dict[str, None]] = {}
    for dataset in self._datasets:
      for group, names in dataset.exclusive_events().items():
        groups.setdefault(group, {}).update(dict.fromkeys(names))
    return {group: list(names) for group, names in groups.items()}

  def told(self) -> Iterator[str]:
    """Says for each member how much of what is drawn it is, what it has, and how it is matched; a line each."""
    total = sum(weight for _, weight in self.members)
    for dataset, weight in self.members:
      days = counted(dataset.num_days("pretrain"), "day")
      people = counted(len(dataset.people("pretrain")), "person")
      channels = f"{_present(dataset)} of {counted(len(self.schema.channels), 'channel')}"
      yield f"{dataset.name}: {100 * weight / total:.3g} % of what is drawn, {days} of {people}, {channels}"
      if isinstance(dataset, MatchedDataset):
        yield from (f"  {line}" for line in dataset.matching.told() if not line.startswith("absent"))

  @property
  def present_share(self) -> float:
    """Share of the channels that the dataset of a drawn day has, on average."""
    total = sum(weight for _, weight in self.members)
    return sum(weight / total * _present(dataset) for dataset, weight in self.members) / len(self.schema.channels)

  def _joined(self, tables: Mapping[str, pa.Table], what: str) -> pa.Table:
    """The rows of all tables; whole numbers and others become numbers, any other difference of types is refused."""
    try:
      return pa.concat_tables(tables.values(), promote_options="permissive")
    except pa.ArrowException as error:
      kinds: dict[str, dict[str, str]] = {}
      for name, table in tables.items():
        for field in table.schema:
          kinds.setdefault(field.name, {}).setdefault(str(field.type), name)
      differing = {name: types for name, types in kinds.items() if len(types) > 1}
      if not differing:
        raise DatasetError(f"{self.path}: tables cannot be joined: {first_line(error)}") from None
      name, types = next(iter(differing.items()))
      texts = ", ".join(f"{kind} in dataset {dataset!r}" for kind, dataset in types.items())
      raise DatasetError(f"{what} {name!r} is {texts}, expected the same in all datasets of a mix") from None


class _JoinedDays(Sequence[dict[str, Any]]):
  """The days of several sequences, one sequence after another, without causes, which not all have."""

  def __init__(self, parts: Sequence[Sequence[dict[str, Any]]]):
    self._parts = parts
    self._ends = np.cumsum([len(part) for part in parts])

  def __len__(self) -> int:
    return int(self._ends[-1])

  def __getitem__(self, index: Any) -> Any:
    if not 0 <= index < len(self):
      raise IndexError(index)
    part = int(np.searchsorted(self._ends, index, side="right"))
    day = self._parts[part][int(index - self._ends[part] + len(self._parts[part]))]
    return {key: value for key, value in day.items() if key != "cause"}


def open_mix(
  data_dir: str | os.PathLike,
  weights: Mapping[str, float],
  vocabulary: Vocabulary,
  minutes_per_step: int = 0,
  zero_is_missing: Collection[str] = (),
) -> MixedDataset:
  """Opens datasets of a data directory and mixes them.

  Args:
    data_dir: folder of the datasets.
    weights: {name of a dataset: its weight}, at least one.
    vocabulary: by which channels are known to be the same.
    minutes_per_step: the common clock; 0 for that of the dataset with the longest steps.
    zero_is_missing: names of channels in which a 0 is a missing value.

  Raises:
    DatasetError: there is no such dataset, two are the same, or one has no days to train on.
    SplitError: a person is in two of the datasets.
    MatchingError: the channels of a dataset cannot be matched.
    SchemaError: minutes_per_step is no divisor of a day.
  """
  datasets = [Dataset.open(data_dir, name) for name in sorted(weights)]
  check_people_apart(datasets)
  schema = union_schema({dataset.name: dataset.schema for dataset in datasets}, vocabulary, minutes_per_step)
  members = [matched(dataset, schema, vocabulary, zero_is_missing) for dataset in datasets]
  for member in members:
    member.require_days("pretrain")
  return MixedDataset(data_dir, [(member, weights[member.name]) for member in members])


def check_people_apart(datasets: Sequence[Dataset]) -> None:
  """Refuses datasets that have a person in common, who might be both trained on and scored.

  Raises:
    DatasetError: two datasets have the same content.
    SplitError: a participant's id is in two datasets.
  """
  owners: dict[str, tuple[str, str]] = {}
  contents: dict[str, str] = {}
  for dataset in datasets:
    twin = contents.setdefault(dataset.digest, dataset.name)
    if twin != dataset.name:
      raise DatasetError(f"datasets {twin!r} and {dataset.name!r} have the same content; leave one out of the mix")
    for split in splits.SPLITS:
      for person in dataset.people(split):
        other, other_split = owners.setdefault(person, (dataset.name, split))
        if other != dataset.name:
          raise SplitError(
            f"participant {person!r} is in dataset {other!r} ({other_split}) and in dataset {dataset.name!r} ({split})"
            f": if this is one person, build one of the two without all who are in both (--without_participants="
            f"{person},...); if not, build one with --participant_prefix={dataset.name}_"
          )


def _member_statistics(dataset: Dataset) -> Statistics:
  """Statistics of a member in the common schema, from those stored with it where its clock is the common one."""
  if not isinstance(dataset, MatchedDataset):
    return dataset.statistics
  matching, stored = dataset.matching, dataset.original.statistics
  if matching.source.minutes_per_step != matching.target.minutes_per_step or matching.zero_is_missing:
    return dataset.statistics
  return _converted(stored, matching)


def _converted(stored: Statistics, matching: Matching) -> Statistics:
  """Statistics in the schema of the matching's target, which has the clock of its source."""
  steps, channels = matching.target.steps, len(matching.target.channels)
  count, mean, std = np.zeros(channels, np.int64), np.zeros(channels), np.ones(channels)
  low, high = np.zeros(channels, np.float32), np.zeros(channels, np.float32)
  time_mean, time_count = np.full((steps, channels), np.nan), np.zeros((steps, channels), np.int64)
  minutes = matching.target.minutes_per_step
  for pair in matching.pairs:
    s, t = pair.source, pair.target
    convert = lambda values, pair=pair: pair.forward(np.asarray(values, np.float64)[None], minutes, minutes, 0.0)[0]
    zero, one = convert([0, 1])  # conversions are a factor and a shift
    count[t], time_count[:, t] = stored.count[s], stored.time_count[:, s]
    mean[t], low[t], high[t] = convert([stored.mean[s], stored.min[s], stored.max[s]])
    std[t] = stored.std[s] * (one - zero) if stored.min[s] < stored.max[s] else 1.0
    time_mean[:, t] = convert(stored.time_mean[:, s])
  return Statistics(matching.target.names, count, mean, std, low, high, time_mean, time_count)


def _present(dataset: Dataset) -> int:
  """Number of channels of the common schema that a member has."""
  if isinstance(dataset, MatchedDataset):
    return int(dataset.matching.present.sum())
  return len(dataset.schema.channels)


def _digest(parts: Sequence[str]) -> str:
  return hashlib.blake2b(json.dumps(list(parts)).encode(), digest_size=16).hexdigest()
