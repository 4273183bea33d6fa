"""What is stored of a day, and what makes a person's days fit to be stored."""

from __future__ import annotations

import datetime
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from data_pipelines.errors import SchemaError
from data_pipelines.schema import Schema
from data_pipelines.source import Day, Person


def features(schema: Schema, has_cause: bool) -> tfds.features.FeaturesDict:
  """Of one example a day: values, participant, date, day, weekday, and cause where it is known."""
  shape = (schema.steps, len(schema.channels))
  raw = tfds.features.Encoding.BYTES  # array_record compresses; a list of floats would be 100 times slower to encode
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
  """A day as features() has it."""
  found = {
    "values": day.values,
    "participant": day.participant,
    "date": day.date,
    "day": day.day,
    "weekday": _weekday(day),
  }
  return found if day.cause is None else {**found, "cause": day.cause}


def _weekday(day: Day) -> int:
  if not day.date:
    return -1
  try:
    return datetime.date.fromisoformat(day.date).weekday()
  except ValueError:
    where = f"participant {day.participant!r}, day {day.day}"
    raise SchemaError(f"{where}: date is {day.date!r}, expected YYYY-MM-DD or an empty string") from None


def check(person: Person, schema: Schema, has_cause: bool) -> None:
  """SchemaError for a person without days, or with one or an event that does not fit."""
  who = f"participant {person.participant!r}"
  if not person.days:
    raise SchemaError(f"{who} has no days")
  numbers: set[int] = set()
  for day in person.days:
    _check_day(day, schema, has_cause, f"{who}, day {day.day}")
    if day.day in numbers:
      raise SchemaError(f"{who}, day {day.day}: day appears twice")
    numbers.add(day.day)
  for event in person.events:
    if event.day not in numbers or not 0 <= event.start < event.end <= schema.steps:
      raise SchemaError(
        f"{who}: event {event.name!r} on day {event.day} steps [{event.start}, {event.end}) is no stretch"
      )


def _check_day(day: Day, schema: Schema, has_cause: bool, where: str) -> None:
  schema.check(day.values, where)
  expected = (schema.steps, len(schema.channels))
  if day.values.dtype != np.float32 or day.values.shape != expected:
    raise SchemaError(f"{where}: values are {day.values.dtype} {day.values.shape}, expected float32 {expected}")
  if np.isnan(day.values).all():
    raise SchemaError(f"{where}: every value is NaN, expected at least one")
  if (day.cause is not None) != has_cause:
    raise SchemaError(f"{where}: causes of missingness must be known for all days of a dataset or for none")
  if day.cause is not None and (day.cause.dtype != np.uint8 or day.cause.shape != expected):
    raise SchemaError(f"{where}: cause is {day.cause.dtype} {day.cause.shape}, expected uint8 {expected}")
