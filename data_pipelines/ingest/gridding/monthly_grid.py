"""Puts one person's readings on the steps of the days of their wall clock.

One month of the wall clock is processed at a time, with a day of context on either side. The content of a day depends
only on the person's readings: not on their order, nor on how they are split into parts.
"""

from __future__ import annotations

import collections
import dataclasses
import functools
import itertools
import time
import zoneinfo
from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np
from jaxtyping import Bool, Float32, Float64, Int32, Int64, Shaped, UInt8

from data_pipelines.ingest.gridding.columns import (
  EARLIEST,
  Drop,
  ReadingColumns,
  WallClockColumns,
  clock_spans,
  drop_implausible,
  move_to_wall_clock,
)
from data_pipelines.ingest.gridding.recipe import Recipe
from data_pipelines.ingest.gridding.step_values import StepRange, combine, outcomes
from data_pipelines.ingest.gridding.wear_time import worn_steps, zero_writers
from data_pipelines.ingest.reading import clocks
from data_pipelines.ingest.reading.account import Account
from data_pipelines.ingest.reading.clocks import DAY, MINUTE
from data_pipelines.ingest.reading.readings import COARSE, ENTERED_BY_HAND, Stretch

# What becomes of a step of a signal, best first. A reading's outcome is the best among its steps.
_USED, _NOT_WORN, _LEFT_OUT, _ELSEWHERE = range(4)
_DEVICE_REMOVED = 1  # "device_removed" in source.MISSINGNESS_MODES
_CONTEXT = DAY  # on either side of a month
# How far before a month readings still matter: a state may last into the context, and earlier offsets show which
# minutes the clock repeats.
_REACH = 3 * DAY
_LONGER_STEPS = (5, 10, 15, 30, 60)  # minutes
_NEVER = 2**62  # ms
Count = Callable[..., None]  # a method of Account, of one person: a text, a number of readings, and the first of them


@dataclasses.dataclass(frozen=True)
class GridDay:
  """A day of one person.

  Attributes:
    date: ISO date on the wall clock.
    values: [steps, channels], NaN where missing.
    cause: [steps, channels], why values are missing, as in source.Day; None if the recipe draws no conclusions about
      that (Recipe.causes).
  """

  date: str
  values: Float32[np.ndarray, "steps channels"]
  cause: UInt8[np.ndarray, "steps channels"] | None = None


class Grid:
  """Makes days out of readings (see `days`).

  Attributes:
    left_out: number of days of each participant that were left out because more than recipe.max_missing is missing.
    missing: how much is missing on these days, by participant and by the minutes per step that they could have: numbers
      of days by percentage, rounded up.
  """

  def __init__(
    self,
    recipe: Recipe,
    zone: zoneinfo.ZoneInfo | None,
    devices: Sequence[str] = ("",),
    files: Sequence[str] = ("readings",),
    latest: int | None = None,
    stretches: Sequence[Stretch] = (),
  ):
    """A grid for the people of one time zone.

    Args:
      recipe: signals, rules and thresholds.
      zone: time zone of readings in UTC without an offset (see clocks.find_zone).
      devices: names of the devices that ReadingColumns.device indexes, most trusted first (see `device_order`).
      files: names of the files that ReadingColumns.file indexes, sorted.
      latest: UTC ms after which no reading can start, such as the export's date. The default is a day from now.
      stretches: the person's workouts and the like, of the names that signals have as `events`.
    """
    self.recipe, self.zone, self.devices, self.files = recipe, zone, tuple(devices), tuple(files)
    self.latest = latest if latest is not None else int(time.time() * 1000) + DAY
    self.left_out: collections.Counter[str] = collections.Counter()
    self.missing: dict[str, dict[int, collections.Counter[int]]] = {}
    spans = [(stretch.name, stretch.on_wall_clock(zone)) for stretch in stretches]
    self._events = [(name, *span) for name, span in spans if span]

  def days(self, parts: Iterable[ReadingColumns], account: Account, participant: str) -> Iterator[GridDay]:
    """Yields all days of one person that have a value and are complete enough, in order of date.

    Args:
      parts: the person's readings in consecutive parts, such as one per month. No reading starts before any reading
        of an earlier part; within a part the order is free. Memory is a few times that of the largest part and month.
      account: counts every reading that was not used, with the reason.
      participant: the person.

    Raises:
      SchemaError: readings are in UTC, and the person has no time zone.
      ValueError: the parts are not in order.
    """
    drop: Count = functools.partial(account.drop, participant)
    tell_combined: Count = functools.partial(account.combine, participant)
    had_heart = False
    for start, end, readings in _months(self._moved(parts, account, participant)):
      month = _Month(
        self.recipe, self.devices, self.files, start, end, readings, drop, tell_combined, had_heart, self._events
      )
      had_heart |= month.has_heart
      self.left_out[participant] += month.left_out
      for minutes, shares in month.missing_shares().items():
        self.missing.setdefault(participant, {}).setdefault(minutes, collections.Counter()).update(shares)
      yield from month.days()

  def _moved(
    self, parts: Iterable[ReadingColumns], account: Account, participant: str
  ) -> Iterator[tuple[int, WallClockColumns]]:
    """Yields the latest start in each part, on its original clock, and the part on the wall clock."""
    drop: Drop = lambda why, readings: account.drop(participant, why, readings)
    latest = None
    for part in parts:
      if not len(part):
        continue
      if latest is not None and part.start.min() < latest:
        raise ValueError("parts of a person's readings are not in order of time")
      latest = int(part.start.max())
      plausible = drop_implausible(part, self.recipe, self.latest, drop)
      if len(plausible):
        yield latest, move_to_wall_clock(plausible, self.zone, self.recipe, drop)
        for clock, span in clock_spans(plausible, self.zone, self.recipe):
          account.add_span(participant, clock, span)


def device_order(trusted: Sequence[str], devices: Iterable[str]) -> list[str]:
  """An export's devices: the importer's trusted ones in their order, then others by name, then those that are none."""
  devices = set(devices)
  last = [device for device in (COARSE, ENTERED_BY_HAND) if device in devices]
  return [device for device in trusted if device in devices] + sorted(devices - {*trusted, *last}) + last


def _months(parts: Iterable[tuple[int, WallClockColumns]]) -> Iterator[tuple[int, int, WallClockColumns]]:
  """Yields start and end (ms) of each month of the wall clock with readings, and the readings in and around it."""
  pending: list[WallClockColumns] = []
  done = EARLIEST - DAY
  for latest, part in parts:
    pending.append(part)
    # Wall clocks differ from UTC by less than a day, so later parts hold nothing before latest - DAY.
    while (month := _next_month(pending, done)) and month[1] + _CONTEXT <= latest - DAY:
      done = month[1]
      yield _cut(pending, *month)
  while month := _next_month(pending, done):
    done = month[1]
    yield _cut(pending, *month)


def _next_month(pending: list[WallClockColumns], done: int) -> tuple[int, int] | None:
  """The first month from `done` on in which a reading starts, or into which one lasts."""
  first = min((_first_after(part, done) for part in pending), default=_NEVER)
  if first >= _NEVER:
    return None
  month = np.datetime64(first, "ms").astype("datetime64[M]")
  return tuple(int(edge.astype("datetime64[ms]").astype(np.int64)) for edge in (month, month + 1))  # type: ignore


def _first_after(readings: WallClockColumns, done: int) -> int:
  reaches = np.maximum(readings.end, readings.start + 1) > done
  return max(int(readings.start.min(initial=_NEVER, where=reaches)), done)


def _cut(pending: list[WallClockColumns], start: int, end: int) -> tuple[int, int, WallClockColumns]:
  """Start and end of a month, and the readings in and around it. `pending` keeps only what later months need."""
  readings = WallClockColumns.concat(pending)
  pending[:] = [readings.take(readings.start >= end - _REACH)]
  return start, end, readings.take((readings.start >= start - _REACH) & (readings.start < end + _CONTEXT))


class _Month:
  """The days of a month and one day on either side, on one grid.

  Attributes:
    has_heart: whether the heart signal has a value.
    left_out: number of the month's days that are left out because too much is missing.
  """

  def __init__(
    self,
    recipe: Recipe,
    devices: Sequence[str],
    files: Sequence[str],
    start: int,
    end: int,
    readings: WallClockColumns,
    drop: Count,
    tell_combined: Count,
    had_heart: bool,
    events: Sequence[tuple[str, int, int]],
  ):
    """Grids the readings of the month from `start` to `end`; `events` are names, starts and ends (ms, wall clock)."""
    self._recipe, self._files, self._start, self._end = recipe, files, start, end
    self._drop, self._tell_combined = drop, tell_combined
    length = recipe.minutes_per_step * MINUTE
    self._steps = StepRange(start - _CONTEXT, (end - start + 2 * _CONTEXT) // length, length)
    fine = self._finest(self._first_passages(readings), devices)
    self._readings = self._distinct(fine, len(devices))
    edges = np.searchsorted(self._readings.signal, np.arange(len(recipe.signals) + 1))
    self._slices = [slice(int(a), int(b)) for a, b in itertools.pairwise(edges)]
    self._values = np.full((self._steps.count, len(recipe.signals)), np.nan, np.float32)
    self._winners = np.full(self._values.T.shape, -1, np.int32)
    for c, signal in enumerate(recipe.signals):
      if self._slices[c].start < self._slices[c].stop:
        self._values[:, c], self._winners[c] = combine(self._readings.take(self._slices[c]), signal, self._steps)
    heart = recipe.index(recipe.worn.heart)
    self.has_heart = heart is not None and not np.isnan(self._values[:, heart]).all()
    has_readings = self._by_day(~np.isnan(self._values)).any(axis=(1, 2))
    self._add_events(events)
    observed_days: Bool[np.ndarray, "days c"] = np.any(self._by_day(~np.isnan(self._values)), axis=1)
    self._cause, blanked = self._apply_wear(had_heart or self.has_heart)
    self._add_zeros(observed_days)
    self._left_out = has_readings & self._incomplete()
    self._complete = has_readings & ~self._left_out
    self.left_out = int(self._own_days(self._left_out).sum())
    self._count_unused(blanked)

  def days(self) -> Iterator[GridDay]:
    """The month's own days that have readings and are complete enough."""
    values, cause = (self._own_days(self._by_day(array)) for array in (self._values, self._cause))
    for day in np.flatnonzero(self._own_days(self._complete)):
      date = np.datetime64(self._start + int(day) * DAY, "ms").astype("datetime64[D]")
      yield GridDay(str(date), values[day].copy(), cause[day].copy() if self._recipe.causes else None)

  def _first_passages(self, readings: WallClockColumns) -> WallClockColumns:
    """Drops readings on minutes that the clock, according to their own offsets, had shown before."""
    repeated = clocks.repeated_minutes(readings.start, readings.offset)
    self._count("repeated hour", readings, repeated)
    return readings.take(~repeated)

  def _finest(self, readings: WallClockColumns, devices: Sequence[str]) -> WallClockColumns:
    """Drops coarse sums within which a device has a reading of the same signal."""
    if COARSE not in devices:
      return readings
    by_device = ~np.isin(readings.device, [n for n, name in enumerate(devices) if name in (COARSE, ENTERED_BY_HAND)])
    coarse = readings.device == devices.index(COARSE)
    covered = np.zeros(len(readings), bool)
    for signal in np.unique(readings.signal[coarse]):
      of_signal = readings.signal == signal
      starts, sums = np.sort(readings.start[of_signal & by_device]), np.flatnonzero(of_signal & coarse)
      covered[sums] = np.searchsorted(starts, readings.end[sums]) > np.searchsorted(starts, readings.start[sums])
    self._count("sum of minutes that a device has one by one", readings, covered)
    return readings.take(~covered)

  def _distinct(self, readings: WallClockColumns, devices: int) -> WallClockColumns:
    """Sorts by signal, device, start, end and value; keeps each reading once, and one count per span of time.

    Where files have different readings of the same time, those of the last file by name are kept.
    """
    key = ((readings.signal.astype(np.int64) * devices + readings.device) << 42) | (readings.start - EARLIEST + DAY)
    readings = readings.take(_order(key, readings))
    like_next = np.append(
      (np.diff(readings.start) == 0)
      & (np.diff(readings.end) == 0)
      & (np.diff(readings.device) == 0)
      & (np.diff(readings.signal) == 0),
      False,
    )[: len(readings)]
    duplicate = like_next & (readings.value == np.roll(readings.value, -1))
    self._count("exact duplicate", readings, duplicate)
    sums = np.array([signal.rule == "sum" for signal in self._recipe.signals])[readings.signal]
    # The clock was set back, or a count was written again when it was complete: the larger one is kept.
    recount = like_next & ~duplicate & sums & (readings.end > readings.start)
    self._count("counted again for the same time", readings, recount)
    readings = readings.take(~duplicate & ~recount)
    if not len(readings):
      return readings
    files = readings.file
    columns = readings.signal, readings.device, readings.start, readings.end
    group = np.append(0, np.cumsum(np.any([np.diff(column) != 0 for column in columns], axis=0)))
    if files.min() < files.max():
      last = np.maximum.reduceat(files, np.flatnonzero(np.diff(group, prepend=-1)))[group]
      self._count("another file has another value for the same time", readings, files < last, last)
      readings, group = readings.take(files == last), group[files == last]
    self._count_combined(readings, np.bincount(group)[group] > 1)
    return readings

  def _count_combined(self, readings: WallClockColumns, together: Bool[np.ndarray, "n"]) -> None:
    """Counts the readings of one device that a file has for the same time, which the rule of their signal combines."""
    own = together & readings.counted & (readings.start >= self._start) & (readings.start < self._end)
    for number in np.unique(readings.signal[own]):
      signal, of_signal = self._recipe.signals[number], own & (readings.signal == number)
      first = int(of_signal.argmax())
      text = f"{signal.name} readings of one time in one file, combined by the rule {signal.rule}"
      where = f"{self._files[readings.file[first]]} at {_second(readings.start[first])}"
      self._tell_combined(text, int(of_signal.sum()), where)

  def _add_events(self, events: Sequence[tuple[str, int, int]]) -> None:
    """Writes 1 into the steps that events touch, in the channels that are made of these."""
    for name, start, end in events:
      first, last = self._steps.containing(np.array([start, end - 1]))
      for c, signal in enumerate(self._recipe.signals):
        if name in signal.events:
          self._values[max(first, 0) : max(last + 1, 0), c] = 1

  def _add_zeros(self, observed_days: Bool[np.ndarray, "days c"]) -> None:
    """Adds zeros on the days on which a channel or the one that it names had values."""
    for c, signal in enumerate(self._recipe.signals):
      if signal.zero_on_days_of:
        days = observed_days[:, c] | observed_days[:, self._recipe.index(signal.zero_on_days_of)]
        self._values[np.isnan(self._values[:, c]) & days.repeat(self._recipe.schema.steps), c] = 0

  def _apply_wear(self, had_heart: bool) -> tuple[UInt8[np.ndarray, "t c"], Bool[np.ndarray, "t c"]]:
    """Adds zeros where a quiet device was worn, and removes zeros where a device was not worn.

    Returns:
      Why values are missing, and where zeros were removed.
    """
    on, off = worn_steps(self._values, self._recipe, had_heart)
    quiet = np.array([signal.quiet for signal in self._recipe.signals])
    missing = np.isnan(self._values)
    self._values[missing & quiet & on[:, None]] = 0
    blanked = (self._values == 0) & zero_writers(self._recipe) & off[:, None]
    self._values[blanked] = np.nan
    cause = (blanked | (missing & quiet & off[:, None])).astype(np.uint8) * _DEVICE_REMOVED
    return cause, blanked

  def missing_shares(self) -> dict[int, collections.Counter[int]]:
    """Missing shares of the month's left-out days, by the minutes per step that they could have.

    Returns:
      Numbers of days by percentage, rounded up, for the recipe's steps and for longer ones.
    """
    days = np.flatnonzero(self._own_days(self._left_out))
    if not len(days):
      return {}
    missing = self._own_days(self._by_day(np.isnan(self._values)))[days]
    step = self._recipe.minutes_per_step
    result: dict[int, collections.Counter[int]] = {}
    for minutes in (step, *(longer for longer in _LONGER_STEPS if longer > step and longer % step == 0)):
      in_longer = np.asarray(missing.reshape(len(days), -1, minutes // step, missing.shape[-1]).all(axis=2))
      result[minutes] = collections.Counter(np.ceil(100 * _missing_share(in_longer) - 1e-6).astype(int).tolist())
    return result

  def _incomplete(self) -> Bool[np.ndarray, "days"]:
    """Days without values, or with too few in the channels that have any."""
    return _missing_share(self._by_day(np.isnan(self._values))) > self._recipe.max_missing

  def _count_unused(self, blanked: Bool[np.ndarray, "t c"]) -> None:
    """Counts the readings that no step uses, by reason."""
    day_state = np.where(self._left_out, _LEFT_OUT, _USED).repeat(self._recipe.schema.steps)
    reasons = {
      _NOT_WORN: "zero while not worn",
      _LEFT_OUT: f"day with more than {100 * self._recipe.max_missing:g} % missing",
      _ELSEWHERE: "another device counts there",
    }
    for c, signal in enumerate(self._recipe.signals):
      readings = self._readings.take(self._slices[c])
      if not len(readings):
        continue
      state = np.where(blanked[:, c], _NOT_WORN, day_state).astype(np.uint8)
      result = outcomes(readings, signal, self._steps, self._winners[c], state, _ELSEWHERE)
      for number, why in reasons.items():
        self._count(why, readings, result == number)

  def _count(
    self,
    why: str,
    readings: WallClockColumns,
    bad: Bool[np.ndarray, "n"],
    kept: Int32[np.ndarray, "n"] | None = None,
  ) -> None:
    """Counts dropped readings that start in this month. Those around it are counted in their own month.

    Where others were kept instead, from the files `kept`, the first one is named.
    """
    own = bad & readings.counted & (readings.start >= self._start) & (readings.start < self._end)
    where = ""
    if kept is not None and own.any():
      first = int(own.argmax())
      signal, at = self._recipe.signals[readings.signal[first]].name, _second(readings.start[first])
      kept_file, file = self._files[kept[first]], self._files[readings.file[first]]
      where = f"{signal} at {at}: {kept_file} counts, not {file}"
    self._drop(why, int(own.sum()), where)

  def _by_day(self, array: Shaped[np.ndarray, "t *c"]) -> Shaped[np.ndarray, "days steps *c"]:
    return array.reshape(-1, self._recipe.schema.steps, *array.shape[1:])

  def _own_days(self, by_day: Shaped[np.ndarray, "days *rest"]) -> Shaped[np.ndarray, "own *rest"]:
    """Without the days of context."""
    context_days = _CONTEXT // DAY
    return by_day[context_days:-context_days]


def _second(ms: int) -> str:
  return str(np.datetime64(int(ms), "ms").astype("datetime64[s]")).replace("T", " ")


def _missing_share(missing: Bool[np.ndarray, "days steps c"]) -> Float64[np.ndarray, "days"]:
  """The share of missing values of each day, over the channels that have any; more than 1 on days without values."""
  number, steps = missing.sum(axis=1), missing.shape[1]
  observed = number < steps
  # A quotient of whole numbers: a mean of shares may be 0.8000000000000002 on a day of which 80 % is missing.
  share = np.where(observed, number, 0).sum(axis=1) / (steps * np.maximum(observed.sum(axis=1), 1))
  return np.where(observed.any(axis=1), share, 2.0)


def _order(key: Int64[np.ndarray, "n"], readings: WallClockColumns) -> Int64[np.ndarray, "n"]:
  """Indices that sort by key, then end and value. Only readings with equal keys are compared by these."""
  order = np.argsort(key, kind="stable")
  tied = np.append(np.diff(key[order]) == 0, False)[: len(key)]
  tied |= np.roll(tied, 1)
  places = np.flatnonzero(tied)
  among = order[places]
  order[places] = among[np.lexsort((readings.file[among], readings.value[among], readings.end[among], key[among]))]
  return order
