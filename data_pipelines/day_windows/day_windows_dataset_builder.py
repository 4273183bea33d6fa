"""TFDS builder that writes the days of any `Source` as array_record, one example a day, without TensorFlow.

Days are streamed person by person into shards in the order of the source (`GeneratorBasedBuilder` would sort a whole
split in memory, and needs TensorFlow past 1 GB). What is learnt on the way (statistics, labels, events) is gathered
by a `Tables`.
"""

from __future__ import annotations

import dataclasses
import datetime
import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from tqdm import tqdm

from data_pipelines.day import Day, Person, Source
from data_pipelines.day_windows.tables import Tables
from data_pipelines.schema import SchemaError

SHARD_BYTES = 256 * 2**20  # of values before compression; TFDS holds one shard in memory while it writes

Example = tuple[str, dict[str, Any]]


@dataclasses.dataclass(eq=False, kw_only=True)
class DayWindowsConfig(tfds.core.BuilderConfig):
  """One dataset: its name, the source of its days and the people of each split."""

  source: Source = dataclasses.field(repr=False)
  people: Mapping[str, Sequence[str]] = dataclasses.field(repr=False)
  tables: Tables = dataclasses.field(repr=False)


class Builder(tfds.core.ShardBasedBuilder):
  """One example a day: values, participant, date, day, weekday, and cause where the source knows it."""

  VERSION = tfds.core.Version("1.0.0")
  builder_config: DayWindowsConfig

  def _info(self) -> tfds.core.DatasetInfo:
    source = self.builder_config.source
    shape = (source.schema.steps, len(source.schema.channels))
    raw = tfds.features.Encoding.BYTES  # array_record compresses; a list of floats would be 100 times slower to encode
    features = {
      "values": tfds.features.Tensor(shape=shape, dtype=np.float32, encoding=raw, doc="NaN where missing"),
      "participant": tfds.features.Text(),
      "date": tfds.features.Text(doc="ISO date, empty where unknown"),
      "day": tfds.features.Scalar(dtype=np.int32, doc="consecutive day number of the person"),
      "weekday": tfds.features.Scalar(dtype=np.int32, doc="0 = Monday, -1 = unknown"),
    }
    if self._has_cause:
      features["cause"] = tfds.features.Tensor(
        shape=shape, dtype=np.uint8, encoding=raw, doc="0 observed or unknown, else 1 + index of the missingness mode"
      )
    return tfds.core.DatasetInfo(
      builder=self,
      description="Day windows of wearable sensors, with holes.",
      features=tfds.features.FeaturesDict(features),
      disable_shuffling=True,
    )

  @functools.cached_property
  def _has_cause(self) -> bool:
    source = self.builder_config.source
    days = source.person(source.participants[0]).days
    return bool(days) and days[0].cause is not None

  def _shard_iterators_per_split(self, dl_manager: Any) -> dict[str, list[Callable[[], Iterator[Example]]]]:
    source = self.builder_config.source
    day_bytes = 4 * source.schema.steps * len(source.schema.channels)
    days_a_person = max(source.n_days / len(source.participants), 1)
    people_a_shard = max(int(SHARD_BYTES / (day_bytes * days_a_person)), 1)
    # Hidden where standard error is not a terminal.
    progress = tqdm(total=source.n_days, desc=f"building {self.builder_config.name}", unit="day", disable=None)
    return {
      split: [
        functools.partial(self._days, split, people[start : start + people_a_shard], progress)
        for start in range(0, len(people), people_a_shard)
      ]
      for split, people in self.builder_config.people.items()
      if people
    }

  def _days(self, split: str, people: Sequence[str], progress: tqdm) -> Iterator[Example]:
    for participant in people:
      person = self.builder_config.source.person(participant)
      self._check(person)
      self.builder_config.tables.add(person, split)
      for day in person.days:
        yield f"{participant}/{day.day}", self._example(day)
      progress.update(len(person.days))
    if progress.n >= progress.total:
      progress.close()

  def _check(self, person: Person) -> None:
    schema = self.builder_config.source.schema
    who = f"participant {person.participant!r}"
    if not person.days:
      raise SchemaError(f"{who} has no days")
    numbers: set[int] = set()
    for day in person.days:
      where = f"{who}, day {day.day}"
      schema.check(day.values, where)
      expected = (schema.steps, len(schema.channels))
      if day.values.dtype != np.float32 or day.values.shape != expected:
        raise SchemaError(f"{where}: values are {day.values.dtype} {day.values.shape}, expected float32 {expected}")
      if np.isnan(day.values).all():
        raise SchemaError(f"{where}: every value is NaN, expected at least one")
      if day.day in numbers:
        raise SchemaError(f"{where}: day appears twice")
      numbers.add(day.day)
      if (day.cause is not None) != self._has_cause:
        raise SchemaError(f"{where}: causes of missingness must be known for all days of a dataset or for none")
      if day.cause is not None and (day.cause.dtype != np.uint8 or day.cause.shape != expected):
        raise SchemaError(f"{where}: cause is {day.cause.dtype} {day.cause.shape}, expected uint8 {expected}")
    for event in person.events:
      if event.day not in numbers or not 0 <= event.start < event.end <= schema.steps:
        raise SchemaError(
          f"{who}: event {event.name!r} on day {event.day} steps [{event.start}, {event.end}) is no stretch"
        )

  def _example(self, day: Day) -> dict[str, Any]:
    example = {
      "values": day.values,
      "participant": day.participant,
      "date": day.date,
      "day": day.day,
      "weekday": _weekday(day),
    }
    return example | ({"cause": day.cause} if self._has_cause else {})


def _weekday(day: Day) -> int:
  if not day.date:
    return -1
  try:
    return datetime.date.fromisoformat(day.date).weekday()
  except ValueError:
    where = f"participant {day.participant!r}, day {day.day}"
    raise SchemaError(f"{where}: date is {day.date!r}, expected YYYY-MM-DD or an empty string") from None
