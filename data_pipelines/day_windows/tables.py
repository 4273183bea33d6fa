"""What is stored beside the records of a dataset: statistics, participants and events."""

from __future__ import annotations

import pathlib

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from data_pipelines import statistics
from data_pipelines.day_windows.duplicates import Seen, digest
from data_pipelines.errors import SchemaError
from data_pipelines.schema import Schema
from data_pipelines.source import Event, Label, Person

_DAYS_AT_ONCE = 8  # of a person: what fits a processor's cache
_EVENT_SCHEMA = pa.schema(
  [
    ("participant", pa.string()),
    ("day", pa.int32()),
    ("date", pa.string()),
    ("start", pa.int32()),
    ("end", pa.int32()),
    ("name", pa.string()),
    ("value", pa.int32()),
  ]
)


class Tables:
  """Gathers the tables of a dataset as its people go by; those of its shards are merged in order.

  Attributes:
    days: how many have gone by.
  """

  def __init__(self, schema: Schema):
    self.days = 0
    self._digests: list[tuple[str, int, bytes | None]] = []
    self._accumulator = statistics.Accumulator(schema)
    self._people: list[tuple[str, str, int, dict[str, Label]]] = []
    self._events: list[Event] = []
    self._packed: list[pa.Table] = []  # the events of shards, a tenth of the bytes

  def add(self, person: Person, split: str) -> None:
    """Only people of the pretrain split enter the statistics."""
    self._digests += [(day.participant, day.day, digest(day.values)) for day in person.days]
    if split == "pretrain":
      for start in range(0, len(person.days), _DAYS_AT_ONCE):
        self._accumulator.add(np.stack([day.values for day in person.days[start : start + _DAYS_AT_ONCE]]))
    self.days += len(person.days)
    self._people.append((person.participant, split, len(person.days), person.labels))
    self._events.extend(person.events)

  def merge(self, shard: Tables, seen: Seen | None = None) -> None:
    """Adds the people of a shard; DuplicateError for a day that another person among those `seen` has had."""
    if seen is not None:
      for participant, day, key in shard._digests:
        seen.add(participant, day, key)
    self._accumulator.merge(shard._accumulator)
    self.days += shard.days
    self._people += shard._people
    self._packed += shard.pack()._packed

  def pack(self) -> Tables:
    """Makes little of what it holds, to be sent or kept."""
    columns = [[getattr(event, field.name) for event in self._events] for field in _EVENT_SCHEMA]
    self._packed.append(pa.table(columns, schema=_EVENT_SCHEMA))
    self._events = []
    return self

  def write(self, folder: pathlib.Path) -> list[str]:
    """Writes statistics.npz, participants.parquet and events.parquet; returns lines to tell the user."""
    result, notes = self._accumulator.finish()
    result.save(folder / "statistics.npz")
    pq.write_table(self._participants(), folder / "participants.parquet")
    pq.write_table(pa.concat_tables(self.pack()._packed), folder / "events.parquet")
    return notes

  def _participants(self) -> pa.Table:
    """participant, split, days, then one column a label, null where unknown."""
    columns = {
      "participant": pa.array([row[0] for row in self._people], pa.string()),
      "split": pa.array([row[1] for row in self._people], pa.string()),
      "days": pa.array([row[2] for row in self._people], pa.int32()),
    }
    labels: dict[str, None] = {name: None for row in self._people for name in row[3]}  # ordered, without repeats
    for name in labels:
      if name in columns:
        raise SchemaError(f"label {name!r} has the name of a column of the participants table")
      columns[name] = self._label(name)
    return pa.table(columns)

  def _label(self, name: str) -> pa.Array:
    values = [row[3].get(name) for row in self._people]
    kinds = {type(value) for value in values if value is not None}
    for allowed, column in (
      ({bool}, pa.bool_()),
      ({int}, pa.int64()),
      ({int, float}, pa.float64()),
      ({str}, pa.string()),
    ):
      if kinds <= allowed and kinds:
        return pa.array(values, column)
    if not kinds:
      return pa.array(values, pa.float64())
    found = ", ".join(sorted(kind.__name__ for kind in kinds))
    raise SchemaError(f"label {name!r} mixes {found} across people, expected one kind of value")
