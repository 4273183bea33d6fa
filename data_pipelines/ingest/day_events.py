"""Turns labelled stretches of time into events of days."""

from __future__ import annotations

import zoneinfo
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from data_pipelines.ingest.reading.clocks import DAY, MINUTE
from data_pipelines.ingest.reading.readings import Stretch
from data_pipelines.source import Event


def events_on_days(
  stretch: Stretch, zone: zoneinfo.ZoneInfo | None, day_numbers: Mapping[str, int], minutes_per_step: int
) -> Iterator[Event]:
  """Yields the stretch as one event for each of the person's days that it touches.

  A stretch that is empty or longer than 32 days yields nothing.

  Args:
    stretch: the labelled time.
    zone: the person's time zone, needed if the stretch is in UTC without an offset.
    day_numbers: numbers of the person's days, by ISO date (see `number_days`).
    minutes_per_step: minutes per step of the dataset.

  Raises:
    SchemaError: the stretch is in UTC, and the person's time zone is unknown.
  """
  span = stretch.on_wall_clock(zone)
  if span is None:
    return
  start, end = span
  length = minutes_per_step * MINUTE
  for midnight in range(start // DAY * DAY, end, DAY):
    date = str(np.datetime64(midnight, "ms").astype("datetime64[D]"))
    if date in day_numbers:
      first = max(start - midnight, 0) // length
      last = -(-min(end - midnight, DAY) // length)
      value = getattr(stretch, "value", 1)  # only stretches from --events have one
      yield Event(stretch.participant, day_numbers[date], date, int(first), int(last), stretch.name, value)


def number_days(dates: Sequence[str]) -> dict[str, int]:
  """Day numbers of a person's ISO dates: days since the first of them."""
  return {date: int((np.datetime64(date) - np.datetime64(dates[0])).astype(int)) for date in dates}
