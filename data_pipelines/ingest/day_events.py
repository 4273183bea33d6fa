"""Stretches of time as events of days."""

from __future__ import annotations

import zoneinfo
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from data_pipelines.errors import SchemaError
from data_pipelines.ingest.reading.clocks import DAY, MINUTE, ZoneClock
from data_pipelines.ingest.reading.readings import Stretch
from data_pipelines.source import Event

_LONGEST = 32 * DAY  # what lasts longer is no stretch of a day


def on_wall_clock(stretch: Stretch, zone: zoneinfo.ZoneInfo | None) -> tuple[int, int]:
  """Start and end, ms of the person's wall clock; SchemaError for one in UTC of a person without a zone."""
  if stretch.clock == "wall":
    return stretch.start, stretch.end
  if stretch.offset is not None:
    return stretch.start + stretch.offset * MINUTE, stretch.end + stretch.offset * MINUTE
  if zone is None:
    raise SchemaError(f"events {stretch.name!r} are in UTC: give the person's zone, --timezone=Europe/Berlin")
  clock = ZoneClock(zone, stretch.start, stretch.end)
  wall, _ = clock.at(np.array([stretch.start, stretch.end]))
  return int(wall[0]), int(wall[1])


def events(start: int, end: int, stretch: Stretch, dates: Mapping[str, int], minutes_per_step: int) -> Iterator[Event]:
  """The stretch on each of the days that it touches.

  Args:
    start, end: ms of the wall clock.
    dates: ISO dates of the person's days, and their numbers.
  """
  length = minutes_per_step * MINUTE
  if not 0 < end - start <= _LONGEST:
    return
  for midnight in range(start // DAY * DAY, end, DAY):
    date = str(np.datetime64(midnight, "ms").astype("datetime64[D]"))
    if date in dates:
      first = max(start - midnight, 0) // length
      last = -(-min(end - midnight, DAY) // length)
      value = getattr(stretch, "value", 1)
      yield Event(stretch.participant, dates[date], date, int(first), int(last), stretch.name, value)


def numbers(dates: Sequence[str]) -> dict[str, int]:
  """Day numbers of a person's dates: days since the first."""
  return {date: int((np.datetime64(date) - np.datetime64(dates[0])).astype(int)) for date in dates}
