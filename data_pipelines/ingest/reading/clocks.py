"""From instants to the wall clock of the person, on which days are cut.

All times are int64 milliseconds: of UTC since 1970-01-01 00:00, or of a wall clock since its own 1970-01-01 00:00. A
day is the 1,440 minutes that a wall clock can show on a date. Where it is put forward the missing hour stays missing.
Where it is put back, in autumn or on the way west, an hour comes twice: its first passage is kept.
"""

from __future__ import annotations

import datetime
import difflib
import functools
import zoneinfo

import numpy as np
from jaxtyping import Bool, Int64, Integer

from data_pipelines.errors import SchemaError

MINUTE = 60_000
DAY = 1440 * MINUTE
NO_OFFSET = np.iinfo(np.int16).min  # in a column of offsets: the file tells none
MOST_OFFSET = 18 * 60  # minutes; the widest that ISO 8601 readers take, beyond any zone's
_SECOND = 1000
_EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)


def zone(name: str, where: str = "--timezone") -> zoneinfo.ZoneInfo:
  """The IANA zone of this name, such as "Europe/Berlin"; SchemaError with the nearest names if there is none."""
  known = _zones()
  if name in known:
    return zoneinfo.ZoneInfo(name)
  lower = {other.lower(): other for other in sorted(known)}
  cities = {other.lower().rpartition("/")[2]: other for other in sorted(known)}
  near = [lower[match] for match in difflib.get_close_matches(name.lower(), lower, 3)]
  near += [cities[match] for match in difflib.get_close_matches(name.lower().rpartition("/")[2], cities, 2, 0.8)]
  nearest = f"; nearest are {', '.join(dict.fromkeys(near))}" if near else ", such as Europe/Berlin"
  raise SchemaError(f"{where}: {name!r} is no IANA time zone{nearest}")


class ZoneClock:
  """The wall clock of a zone over a range of time, for whole arrays.

  Attributes:
    since: [k] UTC, from when each of `offset` [k] (ms ahead of UTC) holds.
    cuts: UTC instants between which the offset is one, and the minutes either new or repeated.
  """

  def __init__(self, zone: zoneinfo.ZoneInfo, first: int, last: int):
    """The clock of `zone` for UTC instants first to last."""
    years = range(_at(first - DAY).year, _at(last + DAY).year + 1)
    changes = [change for year in years for change in _changes(zone, year)]
    before = _offset(zone, _start_of(years[0]))
    self.since = np.array([np.iinfo(np.int64).min, *(since for since, _ in changes)])
    self.offset = np.array([before, *(offset for _, offset in changes)])
    back = np.maximum(-np.diff(self.offset), 0)
    self._repeats_until = np.concatenate([self.since[:1], self.since[1:] + back])
    self.cuts = np.unique(np.concatenate([self.since[1:], self._repeats_until[1:]]))

  def at(self, utc: Int64[np.ndarray, "n"]) -> tuple[Int64[np.ndarray, "n"], Bool[np.ndarray, "n"]]:
    """Of UTC instants: what the wall clock shows, and whether it showed that before."""
    if not len(self.cuts):
      return utc + self.offset[0], np.zeros(len(utc), bool)
    place = np.searchsorted(self.since, utc, side="right") - 1
    return utc + self.offset[place], utc < self._repeats_until[place]


def on_wall(ms: int, clock: str, offset: int | None, zone: zoneinfo.ZoneInfo | None, where: str) -> int:
  """What the wall clock showed at a single time, such as a workout's start; arguments as of readings.Stretch.

  Raises:
    SchemaError: naming `where`, if the time is in UTC and nothing tells the person's zone.
  """
  if clock == "wall":
    return ms
  if offset is not None:
    return ms + offset * MINUTE
  if zone is None:
    raise SchemaError(f"{where}: a time in UTC: tell the person's zone, as --timezone=Europe/Berlin")
  return ms + _offset(zone, ms)


def seen_before(wall: Int64[np.ndarray, "n"], offset: Integer[np.ndarray, "n"]) -> Bool[np.ndarray, "n"]:
  """Which readings fall on minutes that the person's wall clock, by its own offsets, had shown before.

  Args:
    wall: ms of the wall clock, in any order.
    offset: minutes that it was ahead of UTC, or NO_OFFSET, of which nothing can be told.
  """
  again = np.zeros(len(wall), bool)
  told = np.flatnonzero(offset != NO_OFFSET)
  offsets = np.unique(offset[told])
  if len(offsets) < 2:
    return again
  since, until, ahead = _runs(wall[told] - offset[told].astype(np.int64) * MINUTE, offset[told])
  for larger in offsets[1:]:  # a minute comes again after the clock was put back from a larger offset
    rows = told[offset[told] < larger]
    then = wall[rows] - int(larger) * MINUTE  # when a clock so far ahead showed this minute
    runs = ahead == larger
    run = np.searchsorted(since[runs], then, side="right") - 1
    again[rows] |= (run >= 0) & (then <= until[runs][run])
  return again


def _runs(
  utc: Int64[np.ndarray, "n"], offset: Integer[np.ndarray, "n"]
) -> tuple[Int64[np.ndarray, "r"], Int64[np.ndarray, "r"], Integer[np.ndarray, "r"]]:
  """Stretches of one offset: first minute's start, last minute's end (UTC), offset."""
  order = np.lexsort((offset, utc))
  utc, offset = utc[order], offset[order]
  change = np.flatnonzero(np.diff(offset)) + 1
  first, last = np.append(0, change), np.append(change, len(utc)) - 1
  return utc[first] // MINUTE * MINUTE, utc[last] // MINUTE * MINUTE + MINUTE - 1, offset[first]


@functools.cache
def _zones() -> frozenset[str]:
  return frozenset(zoneinfo.available_timezones())


def _at(ms: int) -> datetime.datetime:
  return _EPOCH + datetime.timedelta(milliseconds=ms)


def _start_of(year: int) -> int:
  return (datetime.date(year, 1, 1) - datetime.date(1970, 1, 1)).days * DAY


def _offset(zone: zoneinfo.ZoneInfo, utc: int) -> int:
  ahead = _at(utc).astimezone(zone).utcoffset()
  assert ahead is not None  # an aware datetime's never is
  return round(ahead.total_seconds()) * _SECOND


@functools.cache
def _changes(zone: zoneinfo.ZoneInfo, year: int) -> list[tuple[int, int]]:
  """UTC instants of a year at which the zone's offset changes, and the offset from then on."""
  changes = []
  low, before = _start_of(year), _offset(zone, _start_of(year))
  for high in range(low + DAY, _start_of(year + 1) + 1, DAY):
    after = _offset(zone, high)
    if after != before:
      changes.append((_change_between(zone, low, high), after))
    low, before = high, after
  return changes


def _change_between(zone: zoneinfo.ZoneInfo, low: int, high: int) -> int:
  """The first second by which the offset is no longer that at `low`."""
  before = _offset(zone, low)
  while high - low > _SECOND:
    middle = low + (high - low) // (2 * _SECOND) * _SECOND
    low, high = (middle, high) if _offset(zone, middle) == before else (low, middle)
  return high
