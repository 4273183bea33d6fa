"""Readings of one person, put on the steps of the days of their wall clock.

A month of the wall clock is worked on at a time, with a day of context on either side. What a day holds depends on the
person's readings alone: not on their order, nor on how they are cut into parts.
"""

from __future__ import annotations

import collections
import dataclasses
import itertools
import time
import zoneinfo
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
from jaxtyping import Bool, Float32, UInt8

from data_pipelines.ingest.gridding.columns import EARLIEST, Columns, Drop, Placed, checked, placed
from data_pipelines.ingest.gridding.combine_readings import Steps, combine, fate
from data_pipelines.ingest.gridding.recipe import Recipe
from data_pipelines.ingest.gridding.wear_time import worn, zero_writers
from data_pipelines.ingest.reading import clocks
from data_pipelines.ingest.reading.clocks import DAY, MINUTE
from data_pipelines.ingest.reading.readings import Account

# What becomes of a signal's step, and of a reading: the least of its steps.
_USED, _NOT_WORN, _LEFT_OUT, _ELSEWHERE = range(4)
_DEVICE_REMOVED = 1  # day.MISSINGNESS_MODES
_CONTEXT = DAY  # on either side of a month
_REACH = 3 * DAY  # back from a month: a state that lasts into the context, and what its clock showed before


@dataclasses.dataclass(frozen=True)
class GridDay:
  """A day of a person.

  Attributes:
    date: ISO date of the wall clock.
    values: [steps, channels], NaN where missing.
    cause: [steps, channels], see day.MISSINGNESS_MODES; None where the recipe tells no causes (recipe.causes).
  """

  date: str
  values: Float32[np.ndarray, "steps channels"]
  cause: UInt8[np.ndarray, "steps channels"] | None = None


class Grid:
  """Makes days of readings; see `days`.

  Attributes:
    left_out: of each participant, days that missed more than recipe.max_missing.
  """

  def __init__(
    self, recipe: Recipe, zone: zoneinfo.ZoneInfo | None, devices: Sequence[str] = ("",), latest: int | None = None
  ):
    """A grid for people of one zone.

    Args:
      zone: of readings that come in UTC without an offset of their own (clocks.zone(name)).
      devices: names that Columns.device counts, the more trusted first (`priority`).
      latest: UTC ms after which no reading can be: the export's date; by default a day from now.
    """
    self.recipe, self.zone, self.devices = recipe, zone, tuple(devices)
    self.latest = latest if latest is not None else int(time.time() * 1000) + DAY
    self.left_out: collections.Counter[str] = collections.Counter()

  def days(self, parts: Iterable[Columns], account: Account, participant: str) -> Iterator[GridDay]:
    """All days of one person that have a value, by date.

    Args:
      parts: their readings, such as a month each: no start, as given, is before one of an earlier part. Within a part
        the order is free. Memory is that of the largest part and of a month, a few times.
      account: told of every reading that was not used, and why; not of the others.

    Raises:
      SchemaError: readings in UTC of a person without a zone.
      ValueError: parts are not in order.
    """
    drop: Drop = lambda why, rows: account.drop(participant, why, rows)
    had_heart = False
    for start, end, rows in _months(self._placed(parts, drop)):
      month = _Month(self.recipe, self.devices, start, end, rows, drop, had_heart)
      had_heart |= month.has_heart
      self.left_out[participant] += month.left_out
      yield from month.days()

  def _placed(self, parts: Iterable[Columns], drop: Drop) -> Iterator[tuple[int, Placed]]:
    """Each part on the wall clock, and its latest start as it was given."""
    latest = None
    for part in parts:
      if not len(part):
        continue
      if latest is not None and part.start.min() < latest:
        raise ValueError("parts of a person's readings are not in order of time")
      latest = int(part.start.max())
      good = checked(part, self.recipe, self.latest, drop)
      if len(good):
        yield latest, placed(good, self.zone, self.recipe, drop)


def priority(devices: Sequence[str], found: Iterable[str]) -> list[str]:
  """Devices that an export has, the importer's more trusted first and then those it does not know, by name."""
  found = set(found)
  return [device for device in devices if device in found] + sorted(found - set(devices))


def _months(parts: Iterable[tuple[int, Placed]]) -> Iterator[tuple[int, int, Placed]]:
  """Start and end of each month of the wall clock that has readings, and these with those around it."""
  pending: list[Placed] = []
  done = EARLIEST - DAY
  for latest, part in parts:
    pending.append(part)
    # Wall clocks are less than a day off UTC: later parts have nothing before this.
    while (found := _next_month(pending, done)) and found[1] + _CONTEXT <= latest - DAY:
      done = found[1]
      yield _cut(pending, *found)
  while found := _next_month(pending, done):
    done = found[1]
    yield _cut(pending, *found)


def _next_month(pending: list[Placed], done: int) -> tuple[int, int] | None:
  """The first month from `done` on that a reading starts in or lasts into."""
  starts = [_first_after(part, done) for part in pending]
  first = min(starts, default=2**62)
  if first >= 2**62:
    return None
  month = np.datetime64(first, "ms").astype("datetime64[M]")
  return tuple(int(edge.astype("datetime64[ms]").astype(np.int64)) for edge in (month, month + 1))  # type: ignore


def _first_after(rows: Placed, done: int) -> int:
  reach = np.maximum(rows.end, rows.start + 1) > done
  return max(int(rows.start.min(initial=2**62, where=reach)), done)


def _cut(pending: list[Placed], start: int, end: int) -> tuple[int, int, Placed]:
  """A month's readings; of `pending` stays what later months need."""
  rows = Placed.concat(pending)
  pending[:] = [rows.take(rows.start >= end - _REACH)]
  return start, end, rows.take((rows.start >= start - _REACH) & (rows.start < end + _CONTEXT))


class _Month:
  """The days of a month and one on either side, on one grid."""

  def __init__(
    self,
    recipe: Recipe,
    devices: Sequence[str],
    start: int,
    end: int,
    rows: Placed,
    drop: Drop,
    had_heart: bool,
  ):
    self.recipe, self.start, self.end, self._drop = recipe, start, end, drop
    length = recipe.minutes_per_step * MINUTE
    self._steps = Steps(start - _CONTEXT, (end - start + 2 * _CONTEXT) // length, length)
    self._rows = self._distinct(self._once(rows), len(devices))
    edges = np.searchsorted(self._rows.signal, np.arange(len(recipe.signals) + 1))
    self._slices = [slice(int(a), int(b)) for a, b in itertools.pairwise(edges)]
    self._values = np.full((self._steps.count, len(recipe.signals)), np.nan, np.float32)
    self._winners = np.full(self._values.T.shape, -1, np.int16)
    for c, signal in enumerate(recipe.signals):
      if self._slices[c].start < self._slices[c].stop:
        self._values[:, c], self._winners[c] = combine(self._rows.take(self._slices[c]), signal, self._steps)
    heart = recipe.index(recipe.worn.heart)
    self.has_heart = heart is not None and not np.isnan(self._values[:, heart]).all()
    read = self._by_day(~np.isnan(self._values)).any(axis=(1, 2))
    self._cause, blanked = self._wear(had_heart or self.has_heart)
    self._left_out = read & self._incomplete()
    self._kept = read & ~self._left_out
    self.left_out = int(self._inner(self._left_out).sum())
    self._tell(blanked)

  def days(self) -> Iterator[GridDay]:
    """The month's own days that were read and are complete enough."""
    values, cause = (self._inner(self._by_day(array)) for array in (self._values, self._cause))
    for day in np.flatnonzero(self._inner(self._kept)):
      date = np.datetime64(self.start + int(day) * DAY, "ms").astype("datetime64[D]")
      yield GridDay(str(date), values[day].copy(), cause[day].copy() if self.recipe.causes else None)

  def _once(self, rows: Placed) -> Placed:
    """Without readings on minutes that their own offsets had shown before."""
    again = clocks.seen_before(rows.start, rows.offset)
    self._count("repeated hour", rows, again)
    return rows.take(~again)

  def _distinct(self, rows: Placed, devices: int) -> Placed:
    """Sorted by signal, device, start, end and value; each reading once, each span of a count once."""
    key = ((rows.signal.astype(np.int64) * devices + rows.device) << 42) | (rows.start - EARLIEST + DAY)
    rows = rows.take(_order(key, rows))
    same = np.append(
      (np.diff(rows.start) == 0) & (np.diff(rows.end) == 0) & (np.diff(rows.device) == 0) & (np.diff(rows.signal) == 0),
      False,
    )[: len(rows)]
    twice = same & (rows.value == np.roll(rows.value, -1))
    self._count("exact duplicate", rows, twice)
    sums = np.array([signal.rule == "sum" for signal in self.recipe.signals])[rows.signal]
    # A clock that was set back, or a count that was written again when it was complete: the larger is kept.
    other = same & ~twice & sums & (rows.end > rows.start)
    self._count("counted again for the same time", rows, other)
    return rows.take(~twice & ~other)

  def _wear(self, had_heart: bool) -> tuple[np.ndarray, np.ndarray]:
    """Zeros added and taken away by wear; gives causes [t, c], and the steps that were taken away."""
    on, off = worn(self._values, self.recipe, had_heart)
    quiet = np.array([signal.quiet for signal in self.recipe.signals])
    missing = np.isnan(self._values)
    self._values[missing & quiet & on[:, None]] = 0
    blanked = (self._values == 0) & zero_writers(self.recipe) & off[:, None]
    self._values[blanked] = np.nan
    cause = (blanked | (missing & quiet & off[:, None])).astype(np.uint8) * _DEVICE_REMOVED
    return cause, blanked

  def _incomplete(self) -> Bool[np.ndarray, "days"]:
    """Days without values, or with too few in the channels that have any."""
    missing = self._by_day(np.isnan(self._values)).mean(axis=1)
    observed = missing < 1
    share = np.where(observed, missing, 0).sum(axis=1) / np.maximum(observed.sum(axis=1), 1)
    return ~observed.any(axis=1) | (share > self.recipe.max_missing)

  def _tell(self, blanked: Bool[np.ndarray, "t c"]) -> None:
    """Counts the readings of which no step is used."""
    day_state = np.where(self._left_out, _LEFT_OUT, _USED).repeat(self.recipe.schema.steps)
    reasons = {
      _NOT_WORN: "zero while not worn",
      _LEFT_OUT: f"day with more than {100 * self.recipe.max_missing:g} % missing",
      _ELSEWHERE: "another device counts there",
    }
    for c, signal in enumerate(self.recipe.signals):
      rows = self._rows.take(self._slices[c])
      if not len(rows):
        continue
      state = np.where(blanked[:, c], _NOT_WORN, day_state).astype(np.uint8)
      result = fate(rows, signal, self._steps, self._winners[c], state, _ELSEWHERE)
      for number, why in reasons.items():
        self._count(why, rows, result == number)

  def _count(self, why: str, rows: Placed, bad: Bool[np.ndarray, "n"]) -> None:
    """Readings that start in this month: those around it are counted in theirs."""
    own = bad & rows.counted & (rows.start >= self.start) & (rows.start < self.end)
    self._drop(why, int(own.sum()))

  def _by_day(self, array: np.ndarray) -> np.ndarray:
    return array.reshape(-1, self.recipe.schema.steps, *array.shape[1:])

  def _inner(self, by_day: np.ndarray) -> np.ndarray:
    around = _CONTEXT // DAY
    return by_day[around:-around]


def _order(key: np.ndarray, rows: Placed) -> np.ndarray:
  """Order by key, then end and value: only ties are compared by these."""
  order = np.argsort(key, kind="stable")
  tied = np.append(np.diff(key[order]) == 0, False)[: len(key)]
  tied |= np.roll(tied, 1)
  places = np.flatnonzero(tied)
  among = order[places]
  order[places] = among[np.lexsort((rows.value[among], rows.end[among], key[among]))]
  return order
