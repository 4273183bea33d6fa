"""Converts times to the person's wall clock, which decides where days begin.

All times are int64 milliseconds since 1970-01-01 00:00, either of UTC or of a wall clock. A day is the 1,440 minutes
that a wall clock can show on a date. When the clock is put forward, the skipped hour stays missing, unless an export
without offsets has readings in it. When it is put back, in autumn or when travelling west, an hour occurs twice, and
only its first passage is kept.
"""

from __future__ import annotations

import datetime
import difflib
import functools
import zoneinfo

import numpy as np
from jaxtyping import Bool, Int64, Integer

from data_pipelines.errors import SchemaError

MINUTE = 60_000  # ms
DAY = 1440 * MINUTE
NO_OFFSET = np.iinfo(np.int16).min  # in a column of offsets, where the file gives none
MOST_OFFSET = 18 * 60  # minutes; the widest that ISO 8601 parsers accept, beyond that of any zone
_SECOND = 1000
_EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)


def find_zone(name: str, where: str = "--timezone") -> zoneinfo.ZoneInfo:
  """The IANA time zone of this name, such as "Europe/Berlin".

  Raises:
    SchemaError: there is no such zone. The message names `where` and the nearest names.
  """
  known = _zone_names()
  if name in known:
    return zoneinfo.ZoneInfo(name)
  lower = {other.lower(): other for other in sorted(known)}
  cities = {other.lower().rpartition("/")[2]: other for other in sorted(known)}
  near = [lower[match] for match in difflib.get_close_matches(name.lower(), lower, 3)]
  near += [cities[match] for match in difflib.get_close_matches(name.lower().rpartition("/")[2], cities, 2, 0.8)]
  nearest = f"; the nearest are {', '.join(dict.fromkeys(near))}" if near else ", such as Europe/Berlin"
  raise SchemaError(f"{where}: {name!r} is not an IANA time zone{nearest}")


class ZoneClock:
  """The wall clock of a zone over a range of time, for whole arrays.

  Attributes:
    since: [k] UTC, the instants from which each `offset` applies.
    offset: [k] ms that the wall clock is ahead of UTC.
    cuts: [m] UTC instants. Between two of them the offset is constant, and either all minutes are new or all repeated.
  """

  def __init__(self, zone: zoneinfo.ZoneInfo, first: int, last: int):
    """Prepares the clock of `zone` for the UTC instants from `first` to `last`."""
    years = range(_datetime(first - DAY).year, _datetime(last + DAY).year + 1)
    changes = [change for year in years for change in _changes(zone, year)]
    before = _offset(zone, _start_of(years[0]))
    self.since = np.array([np.iinfo(np.int64).min, *(since for since, _ in changes)])
    self.offset = np.array([before, *(offset for _, offset in changes)])
    put_back = np.maximum(-np.diff(self.offset), 0)
    self._repeats_until = np.concatenate([self.since[:1], self.since[1:] + put_back])
    self.cuts = np.unique(np.concatenate([self.since[1:], self._repeats_until[1:]]))

  def at(self, utc: Int64[np.ndarray, "n"]) -> tuple[Int64[np.ndarray, "n"], Bool[np.ndarray, "n"]]:
    """The time on the wall clock at UTC instants, in ms, and a mask of where it had shown that time before."""
    if not len(self.cuts):
      return utc + self.offset[0], np.zeros(len(utc), bool)
    place = np.searchsorted(self.since, utc, side="right") - 1
    return utc + self.offset[place], utc < self._repeats_until[place]

  def skips(self, wall: Int64[np.ndarray, "n"]) -> Bool[np.ndarray, "n"]:
    """A mask of the times, in ms on the wall clock, that it never shows because it is put forward over them."""
    forward = np.flatnonzero(np.diff(self.offset) > 0)
    if not len(forward):
      return np.zeros(len(wall), bool)
    first, end = (self.since[forward + 1] + self.offset[forward + after] for after in (0, 1))
    place = np.searchsorted(first, wall, side="right") - 1
    return (place >= 0) & (wall < end[place])


def to_wall_clock(ms: int, clock: str, offset: int | None, zone: zoneinfo.ZoneInfo | None, where: str) -> int:
  """Converts a single time, such as the start of a workout, to the wall clock, in ms.

  Args:
    ms, clock, offset: the time, as in readings.Stretch.
    zone: the person's time zone, used for a time in UTC without an offset.
    where: what the time belongs to, for messages.

  Raises:
    SchemaError: the time is in UTC and the person's time zone is unknown.
  """
  if clock == "wall":
    return ms
  if offset is not None:
    return ms + offset * MINUTE
  if zone is None:
    raise SchemaError(f"{where}: times are in UTC; give the person's time zone, as in --timezone=Europe/Berlin")
  return ms + _offset(zone, ms)


def from_wall_clock(ms: int, zone: zoneinfo.ZoneInfo) -> int:
  """UTC ms at which the wall clock of a zone shows a time, at its first passage."""
  return ms - _offset(zone, ms - _offset(zone, ms))


def repeated_minutes(wall: Int64[np.ndarray, "n"], offset: Integer[np.ndarray, "n"]) -> Bool[np.ndarray, "n"]:
  """A mask of readings on minutes that the person's wall clock, according to their own offsets, had shown before.

  Args:
    wall: ms on the wall clock, in any order.
    offset: minutes that the clock was ahead of UTC, or NO_OFFSET, for which the result is False.
  """
  repeated = np.zeros(len(wall), bool)
  with_offset = np.flatnonzero(offset != NO_OFFSET)
  offsets = np.unique(offset[with_offset])
  if len(offsets) < 2:
    return repeated
  since, until, ahead = _runs(wall[with_offset] - offset[with_offset].astype(np.int64) * MINUTE, offset[with_offset])
  for larger in offsets[1:]:  # a minute occurs again after the clock was put back from a larger offset
    rows = with_offset[offset[with_offset] < larger]
    earlier = wall[rows] - int(larger) * MINUTE  # when a clock with the larger offset showed this minute
    runs = ahead == larger
    run = np.searchsorted(since[runs], earlier, side="right") - 1
    repeated[rows] |= (run >= 0) & (earlier <= until[runs][run])
  return repeated


def _runs(
  utc: Int64[np.ndarray, "n"], offset: Integer[np.ndarray, "n"]
) -> tuple[Int64[np.ndarray, "r"], Int64[np.ndarray, "r"], Integer[np.ndarray, "r"]]:
  """Runs of readings with the same offset: start of the first minute and end of the last (UTC), and the offset."""
  order = np.lexsort((offset, utc))
  utc, offset = utc[order], offset[order]
  change = np.flatnonzero(np.diff(offset)) + 1
  first, last = np.append(0, change), np.append(change, len(utc)) - 1
  return utc[first] // MINUTE * MINUTE, utc[last] // MINUTE * MINUTE + MINUTE - 1, offset[first]


@functools.cache
def _zone_names() -> frozenset[str]:
  return frozenset(zoneinfo.available_timezones())


def _datetime(ms: int) -> datetime.datetime:
  return _EPOCH + datetime.timedelta(milliseconds=ms)


def _start_of(year: int) -> int:
  return (datetime.date(year, 1, 1) - datetime.date(1970, 1, 1)).days * DAY


def _offset(zone: zoneinfo.ZoneInfo, utc: int) -> int:
  ahead = _datetime(utc).astimezone(zone).utcoffset()
  assert ahead is not None  # never None for an aware datetime
  return round(ahead.total_seconds()) * _SECOND


@functools.cache
def _changes(zone: zoneinfo.ZoneInfo, year: int) -> list[tuple[int, int]]:
  """UTC instants within a year at which the zone's offset changes, each with the offset that applies from then on."""
  changes = []
  low, before = _start_of(year), _offset(zone, _start_of(year))
  for high in range(low + DAY, _start_of(year + 1) + 1, DAY):
    after = _offset(zone, high)
    if after != before:
      changes.append((_change_between(zone, low, high), after))
    low, before = high, after
  return changes


def _change_between(zone: zoneinfo.ZoneInfo, low: int, high: int) -> int:
  """The first second at which the offset differs from that at `low`, by bisection."""
  before = _offset(zone, low)
  while high - low > _SECOND:
    middle = low + (high - low) // (2 * _SECOND) * _SECOND
    low, high = (middle, high) if _offset(zone, middle) == before else (low, middle)
  return high
