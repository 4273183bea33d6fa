"""The files that a dataset has beside its records: statistics, participants and events."""

from __future__ import annotations

import dataclasses
import pathlib

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from data_pipelines.day_windows.duplicates import DuplicateDetector, digest
from data_pipelines.day_windows.missing_codes import MissingCodes, label_note
from data_pipelines.errors import SchemaError
from data_pipelines.schema import Schema
from data_pipelines.source import MISSING_WORDS, Event, Label, Person, Source, check_label
from data_pipelines.statistics import Accumulator
from data_pipelines.text_files import counted

_BATCH_DAYS = 8  # of one person: as many as fit into a processor's cache
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


def check_labels(source: Source) -> list[str]:
  """Notes on the labels of a source, whose days are not read.

  Raises:
    SchemaError: a label has an unusable name or values of several types.
  """
  tables = Tables(source.schema)
  for participant in source.participants:
    tables.add(dataclasses.replace(source.person(participant), days=(), events=()), "")
  return tables.check_labels(getattr(source, "labels_from", ""))


class Tables:
  """Collects the tables of a shard, person by person; those of all shards are merged in order.

  Attributes:
    days: number of days added so far.
  """

  def __init__(self, schema: Schema):
    self.days = 0
    self._digests: list[tuple[str, int, bytes | None]] = []
    self._accumulator = Accumulator(schema)
    self._codes = MissingCodes(schema)
    self._people: list[tuple[str, str, int, dict[str, Label]]] = []
    self._events: list[Event] = []
    self._packed_events: list[pa.Table] = []  # takes a tenth of the memory

  def add(self, person: Person, split: str) -> None:
    """Adds a person of `split`; only days of pretrain enter the statistics."""
    self._digests += [(day.participant, day.day, digest(day.values)) for day in person.days]
    for start in range(0, len(person.days), _BATCH_DAYS):
      days = person.days[start : start + _BATCH_DAYS]
      values = np.stack([day.values for day in days])
      self._codes.add(values, [f"participant {day.participant!r}, {day.date or f'day {day.day}'}" for day in days])
      if split == "pretrain":
        self._accumulator.add(values)
    self.days += len(person.days)
    self._people.append((person.participant, split, len(person.days), person.labels))
    self._events.extend(person.events)

  def merge(self, shard: Tables, duplicates: DuplicateDetector | None = None) -> None:
    """Adds the people of a shard.

    Raises:
      DuplicateError: the detector, if there is one, knows a day of another person with the same values.
    """
    if duplicates is not None:
      for participant, day, key in shard._digests:
        duplicates.add(participant, day, key)
    self._accumulator.merge(shard._accumulator)
    self._codes.merge(shard._codes)
    self.days += shard.days
    self._people += shard._people
    self._packed_events += shard.pack()._packed_events

  def pack(self) -> Tables:
    """Packs the events into less memory before the tables are sent to another process or kept; returns self."""
    columns = [[getattr(event, field.name) for event in self._events] for field in _EVENT_SCHEMA]
    self._packed_events.append(pa.table(columns, schema=_EVENT_SCHEMA))
    self._events = []
    return self

  def write(self, folder: pathlib.Path, labels_from: str = "") -> list[str]:
    """Writes statistics.npz, participants.parquet and events.parquet.

    Args:
      folder: where to.
      labels_from: names the file of the labels in messages about them.

    Returns:
      Notes for the user, one line each.

    Raises:
      SchemaError: a channel is never observed in pretrain, or a label has an unusable name or values of several types.
    """
    statistics, notes = self._accumulator.finish()
    notes += self._codes.notes()
    statistics.save(folder / "statistics.npz")
    people, of_labels = self._participants(labels_from)
    notes += of_labels
    pq.write_table(people, folder / "participants.parquet")
    pq.write_table(pa.concat_tables(self.pack()._packed_events), folder / "events.parquet")
    return notes

  def check_labels(self, labels_from: str = "") -> list[str]:
    """The notes of `write` on labels.

    Raises:
      SchemaError: a label has an unusable name or values of several types.
    """
    return self._participants(labels_from)[1]

  def _participants(self, labels_from: str) -> tuple[pa.Table, list[str]]:
    """Columns participant, split and days, then one column per label, null where unknown; and notes on labels."""
    notes: list[str] = []
    try:
      return self._columns(notes), notes
    except SchemaError as error:
      raise SchemaError(f"{labels_from}: {error}" if labels_from else str(error)) from None

  def _columns(self, notes: list[str]) -> pa.Table:
    columns = {
      "participant": pa.array([row[0] for row in self._people], pa.string()),
      "split": pa.array([row[1] for row in self._people], pa.string()),
      "days": pa.array([row[2] for row in self._people], pa.int32()),
    }
    labels: dict[str, None] = {name: None for row in self._people for name in row[3]}  # ordered, without repeats
    for name in labels:
      if name in columns:
        who = next(row[0] for row in self._people if name in row[3])
        raise SchemaError(
          f"label {name!r} (of participant {who!r}) has the name of a column of the participants table, "
          "expected another name"
        )
      columns[name] = self._label(name, notes)
    return pa.table(columns)

  def _label(self, name: str, notes: list[str]) -> pa.Array:
    """The column of a label; appends a note if a word stands for a missing number, or a number looks like a code."""
    values = [row[3].get(name) for row in self._people]
    for row, value in zip(self._people, values, strict=True):
      check_label(value, f"participant {row[0]!r}, label {name!r}")
    numbers = any(isinstance(value, int | float) for value in values)
    if numbers and (words := [v for v in values if isinstance(v, str) and v.lower() in MISSING_WORDS]):
      values = [None if isinstance(value, str) and value.lower() in MISSING_WORDS else value for value in values]
      notes.append(
        f"label {name!r}: {len(words):,} of {counted(len(values), 'value')} taken for missing (such as {words[0]!r})"
      )
    types = {type(value) for value in values if value is not None}
    if types and types <= {int, float} and (note := label_note(name, [v for v in values if v is not None])):  # type: ignore[misc]
      notes.append(note)
    for allowed, column in (
      ({bool}, pa.bool_()),
      ({int}, pa.int64()),
      ({int, float}, pa.float64()),
      ({str}, pa.string()),
    ):
      if types <= allowed and types:
        return pa.array(values, column)
    if not types:
      return pa.array(values, pa.float64())
    examples = {type(value).__name__: (row[0], value) for row, value in zip(self._people, values, strict=True)}
    examples.pop("NoneType", None)
    mixture = ", ".join(f"{kind} ({who!r}: {value!r})" for kind, (who, value) in sorted(examples.items()))
    raise SchemaError(f"label {name!r} mixes {mixture}, expected one type of value")
