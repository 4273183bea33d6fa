"""The TFDS features of a stored day, and the checks that a person's days pass before they are stored."""

from __future__ import annotations

import datetime
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from data_pipelines.errors import SchemaError
from data_pipelines.schema import Schema
from data_pipelines.source import Day, Person
from data_pipelines.text_files import unprintable


def features(schema: Schema, has_cause: bool) -> tfds.features.FeaturesDict:
  """The features of one example, which is one day.

  Args:
    schema: gives the shape [steps, channels] of `values` and `cause`.
    has_cause: whether the source knows why values are missing; otherwise there is no feature `cause`.
  """
  shape = (schema.steps, len(schema.channels))
  raw = tfds.features.Encoding.BYTES  # array_record compresses; encoding a list of floats is 100 times slower
  fields = {
    "values": tfds.features.Tensor(shape=shape, dtype=np.float32, encoding=raw, doc="NaN where missing"),
    "participant": tfds.features.Text(),
    "date": tfds.features.Text(doc="ISO date, empty where unknown"),
    "day": tfds.features.Scalar(dtype=np.int32, doc="consecutive day number of the person"),
    "weekday": tfds.features.Scalar(dtype=np.int32, doc="0 = Monday, -1 = unknown"),
  }
  if has_cause:
    doc = "0 observed or unknown, else 1 + index of the missingness mode"
    fields["cause"] = tfds.features.Tensor(shape=shape, dtype=np.uint8, encoding=raw, doc=doc)
  return tfds.features.FeaturesDict(fields)


def example(day: Day) -> dict[str, Any]:
  """A day as an example with these features.

  Raises:
    SchemaError: the date is not an ISO date.
  """
  fields = {
    "values": day.values,
    "participant": day.participant,
    "date": day.date,
    "day": day.day,
    "weekday": _weekday(day),
  }
  return fields if day.cause is None else {**fields, "cause": day.cause}


def _weekday(day: Day) -> int:
  if not day.date:
    return -1
  try:
    return datetime.date.fromisoformat(day.date).weekday()
  except ValueError:
    where = f"participant {day.participant!r}, day {day.day}"
    raise SchemaError(f"{where}: date is {day.date!r}, expected YYYY-MM-DD or an empty string") from None


def check(person: Person, schema: Schema, has_cause: bool) -> None:
  """Checks that a person's days and events can be stored.

  Raises:
    SchemaError: a name has control characters, there are no days, a day number is repeated, or a day or an event
      does not fit the schema.
  """
  who = f"participant {person.participant!r}"
  for what, texts in (
    ("id", [person.participant]),
    ("label", person.labels),
    ("event", [e.name for e in person.events]),
  ):
    if bad := [text for text in texts if unprintable(text)]:
      raise SchemaError(f"{who}: {what} {bad[0]!r} has control characters, expected plain text")
  if not person.days:
    raise SchemaError(f"{who} has no days")
  numbers: set[int] = set()
  for day in person.days:
    _check_day(day, schema, has_cause, f"{who}, day {day.day}")
    if day.day in numbers:
      raise SchemaError(f"{who}, day {day.day}: day appears twice")
    numbers.add(day.day)
  for event in person.events:
    where = f"{who}: event {event.name!r}"
    if event.day not in numbers:
      raise SchemaError(f"{where} is on day {event.day}, which is not among the person's days")
    if not 0 <= event.start < event.end <= schema.steps:
      span = f"[{event.start}, {event.end})"
      raise SchemaError(f"{where} on day {event.day} spans steps {span}, expected a stretch within [0, {schema.steps})")


def _check_day(day: Day, schema: Schema, has_cause: bool, where: str) -> None:
  schema.check(day.values, where)
  expected = (schema.steps, len(schema.channels))
  if day.values.dtype != np.float32 or day.values.shape != expected:
    raise SchemaError(f"{where}: values are {day.values.dtype} {day.values.shape}, expected float32 {expected}")
  if np.isnan(day.values).all():
    raise SchemaError(f"{where}: every value is NaN, expected at least one observed value")
  if (day.cause is not None) != has_cause:
    raise SchemaError(f"{where}: causes of missingness must be known for all days of a dataset or for none")
  if day.cause is not None and (day.cause.dtype != np.uint8 or day.cause.shape != expected):
    raise SchemaError(f"{where}: cause is {day.cause.dtype} {day.cause.shape}, expected uint8 {expected}")
