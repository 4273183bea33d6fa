"""Readings of one person as columns: implausible ones dropped, times moved to the wall clock."""

from __future__ import annotations

import dataclasses
import zoneinfo
from collections.abc import Callable, Iterator, Sequence
from typing import Self

import numpy as np
from jaxtyping import Bool, Float64, Int, Int16, Int32, Int64

from data_pipelines.errors import SchemaError
from data_pipelines.ingest.gridding.recipe import Recipe
from data_pipelines.ingest.reading import clocks
from data_pipelines.ingest.reading.account import ClockSpan
from data_pipelines.ingest.reading.clocks import DAY, MINUTE, NO_OFFSET

EARLIEST = 946_684_800_000  # ms, 2000-01-01: a clock that shows an earlier time was never set
LARGEST = 1e30  # sums of larger values would overflow float32
Drop = Callable[[str, int], None]  # called with a reason and a number of readings


@dataclasses.dataclass(frozen=True)
class ReadingColumns:
  """Readings of one person (see reading.readings.Readings), in any order; 35 bytes each.

  Attributes:
    signal: [n], index into the recipe's signals.
    device: [n], index into the devices, most trusted first.
    start, end: [n], ms of UTC, or of the wall clock where `wall`.
    value: [n], in the unit of the recipe's signal.
    offset: [n], minutes that the wall clock was ahead of UTC; clocks.NO_OFFSET where the file does not say.
    wall: [n], whether start and end are on the wall clock.
    file: [n], index into the files, by name.
  """

  signal: Int32[np.ndarray, "n"]
  device: Int32[np.ndarray, "n"]
  start: Int64[np.ndarray, "n"]
  end: Int64[np.ndarray, "n"]
  value: Float64[np.ndarray, "n"]
  offset: Int16[np.ndarray, "n"]
  wall: Bool[np.ndarray, "n"]
  file: Int32[np.ndarray, "n"]

  def __len__(self) -> int:
    return len(self.start)

  def take(self, selection: Bool[np.ndarray, "n"] | Int[np.ndarray, "k"] | slice) -> Self:
    """Selects readings by a mask, indices or a slice; they are not copied if a mask selects all of them."""
    if isinstance(selection, np.ndarray) and selection.dtype == bool:
      if selection.all():
        return self
      selection = np.flatnonzero(selection)  # cheaper than applying the mask to every column
    return type(self)(*(getattr(self, field.name)[selection] for field in dataclasses.fields(self)))

  @classmethod
  def concat(cls, parts: Sequence[Self]) -> Self:
    """All readings of several parts, of which there must be at least one; not copied if only one has readings."""
    parts = [part for part in parts if len(part)] or parts[:1]
    if len(parts) == 1:
      return parts[0]
    return cls(*(np.concatenate([getattr(part, field.name) for part in parts]) for field in dataclasses.fields(cls)))


@dataclasses.dataclass(frozen=True)
class WallClockColumns(ReadingColumns):
  """Readings whose start and end are on the wall clock.

  Attributes:
    counted: [n], False for all but the first part of a reading that was cut at a clock change, so that the account
      counts it once.
  """

  counted: Bool[np.ndarray, "n"]


def drop_implausible(readings: ReadingColumns, recipe: Recipe, latest: int, drop: Drop) -> ReadingColumns:
  """Returns the readings that can be true on their own; drops each of the others for the first reason that applies.

  Args:
    readings: the readings to check.
    recipe: holds the signals' bounds.
    latest: UTC ms after which no reading can start.
    drop: called with each reason and the number of readings dropped for it.
  """
  plausible = np.ones(len(readings), bool)
  for why, bad in _reasons(readings, recipe, latest):
    bad &= plausible
    drop(why, int(bad.sum()))
    plausible &= ~bad
  return readings.take(plausible)


def _reasons(readings: ReadingColumns, recipe: Recipe, latest: int) -> Iterator[tuple[str, Bool[np.ndarray, "n"]]]:
  """Yields each reason why readings cannot be true, and a mask of the readings that it applies to."""
  spans = readings.end - readings.start
  sums = np.array([signal.rule == "sum" for signal in recipe.signals])[readings.signal]
  yield "clock not set (before 2000)", readings.start < EARLIEST
  yield "clock wrong (after the export)", readings.start > latest + np.where(readings.wall, DAY, 0)
  yield "ends before it starts", spans < 0
  yield "clock offset wrong (over 18 h)", (abs(readings.offset) > clocks.MOST_OFFSET) & (readings.offset != NO_OFFSET)
  yield "not a usable number", ~(abs(readings.value) < LARGEST)
  yield f"count over more than {recipe.longest_sum} min", sums & (spans > recipe.longest_sum * MINUTE)
  yield "lasts longer than a day", spans > DAY
  for number, signal in enumerate(recipe.signals):
    of_signal = readings.signal == number
    if signal.zero_is_missing:
      yield f"{signal.name} is 0: not measured", of_signal & (readings.value == 0)
    if signal.kind == "binary":
      yield f"{signal.name} neither 0 nor 1", of_signal & (readings.value != 0) & (readings.value != 1)
    if np.isfinite(signal.low) or np.isfinite(signal.high):
      minutes = np.maximum(spans / MINUTE, 1) if signal.rule == "sum" else 1.0
      outside = (readings.value < signal.low) | (readings.value > signal.high * minutes)
      bounds = f"{signal.name} outside {signal.low:g} to {signal.high:g} {signal.unit}".rstrip()
      yield bounds + " per minute" * (signal.rule == "sum"), of_signal & outside


def clock_spans(
  readings: ReadingColumns, zone: zoneinfo.ZoneInfo | None, recipe: Recipe
) -> Iterator[tuple[str, ClockSpan]]:
  """Yields each kind of clock that some readings are on, in words, and the readings on it."""
  by_zone = ~readings.wall & (readings.offset == NO_OFFSET)
  elsewhere, skipped = _elsewhere(readings, zone), _skipped(readings, zone)
  kinds = {
    "on the wall clock in the export": readings.wall & ~skipped,
    f"on the wall clock in the export, at times that the clock of {zone} skips": skipped,
    "in UTC with offsets in the export": ~readings.wall & ~by_zone & ~elsewhere,
    f"in UTC with offsets in the export, which count where they are not those of {zone}": elsewhere,
    f"in UTC, moved by {zone}": by_zone,
  }
  for clock, which in kinds.items():
    if which.any():
      some = readings.take(which)
      first, last = (_moment(some, int(i), zone) for i in (some.start.argmin(), some.start.argmax()))
      signals = sorted(recipe.signals[number].name for number in np.unique(some.signal))
      yield clock, ClockSpan(len(some), tuple(signals), first, last)


def _elsewhere(readings: ReadingColumns, zone: zoneinfo.ZoneInfo | None) -> Bool[np.ndarray, "n"]:
  """True for readings with an offset of their own that is not that of the person's time zone, as while travelling."""
  elsewhere = ~readings.wall & (readings.offset != NO_OFFSET)
  if zone is None or not elsewhere.any():
    return np.zeros(len(readings), bool)
  start = readings.start[elsewhere]
  clock = clocks.ZoneClock(zone, int(start.min()), int(start.max()))
  elsewhere[elsewhere] = clock.at(start)[0] - start != readings.offset[elsewhere].astype(np.int64) * MINUTE
  return elsewhere


def _skipped(readings: ReadingColumns, zone: zoneinfo.ZoneInfo | None) -> Bool[np.ndarray, "n"]:
  """A mask of the readings on the wall clock in an hour that it does not show where the person lives."""
  skipped = readings.wall.copy()
  if zone is None or not skipped.any():
    return np.zeros(len(readings), bool)
  start = readings.start[skipped]
  skipped[skipped] = clocks.ZoneClock(zone, int(start.min()), int(start.max())).skips(start)
  return skipped


def _moment(readings: ReadingColumns, i: int, zone: zoneinfo.ZoneInfo | None) -> tuple[int, int | None]:
  """Start of a reading, in ms of the wall clock and of UTC; the latter is None if the time zone is unknown."""
  start, offset = int(readings.start[i]), int(readings.offset[i])
  if readings.wall[i]:
    return start, None if zone is None else clocks.from_wall_clock(start, zone)
  return clocks.to_wall_clock(start, "utc", None if offset == NO_OFFSET else offset, zone, "readings"), start


def move_to_wall_clock(
  readings: ReadingColumns, zone: zoneinfo.ZoneInfo | None, recipe: Recipe, drop: Drop
) -> WallClockColumns:
  """Moves readings to the wall clock, by their own offset or else by the person's time zone.

  Readings that are already on the wall clock stay as they are. A count or a state that lasts over a change of the
  zone's clock is cut there. Readings in an hour that the clock had shown before are dropped; a wall clock without
  offsets does not show which passage it was, so there both are kept.

  Raises:
    SchemaError: readings are in UTC without an offset, and `zone` is None.
  """
  counted = np.ones(len(readings), bool)
  by_zone = ~readings.wall & (readings.offset == NO_OFFSET)
  own_offset = np.where(readings.wall | by_zone, 0, readings.offset).astype(np.int64) * MINUTE
  start, end = readings.start + own_offset, readings.end + own_offset
  moved = WallClockColumns(
    readings.signal, readings.device, start, end, readings.value, readings.offset, readings.wall, readings.file, counted
  )
  if not by_zone.any():
    return moved
  if zone is None:
    names = ", ".join(sorted({recipe.signals[number].name for number in np.unique(readings.signal[by_zone])}))
    raise SchemaError(f"readings of {names} are in UTC; give the person's time zone, as in --timezone=Europe/Berlin")
  return WallClockColumns.concat([moved.take(~by_zone), _by_zone(moved.take(by_zone), zone, recipe, drop)])


def _by_zone(readings: WallClockColumns, zone: zoneinfo.ZoneInfo, recipe: Recipe, drop: Drop) -> WallClockColumns:
  """Moves readings whose start and end are still UTC."""
  clock = clocks.ZoneClock(zone, int(readings.start.min()), int(readings.end.max()))
  lasting = np.array([signal.rule == "sum" or signal.holds for signal in recipe.signals])[readings.signal]
  next_cut = np.append(clock.cuts, np.iinfo(np.int64).max)[np.searchsorted(clock.cuts, readings.start, side="right")]
  cut = lasting & (next_cut < readings.end)
  wall, repeated = clock.at(readings.start)
  drop("repeated hour", int((repeated & ~cut).sum()))
  moved = dataclasses.replace(readings, start=wall, end=wall + readings.end - readings.start)
  pieces = [_pieces(readings.take(slice(i, i + 1)), clock, recipe) for i in np.flatnonzero(cut)]
  drop("repeated hour", sum(not len(piece) for piece in pieces))
  return WallClockColumns.concat([moved.take(~repeated & ~cut), *pieces])


def _pieces(reading: WallClockColumns, clock: clocks.ZoneClock, recipe: Recipe) -> WallClockColumns:
  """Cuts a single reading at clock changes, shares a count out over the pieces, and leaves out repeated hours."""
  inside = clock.cuts[(clock.cuts > reading.start) & (clock.cuts < reading.end)]
  start, end = np.concatenate([reading.start, inside]), np.concatenate([inside, reading.end])
  wall, repeated = clock.at(start)
  pieces = reading.take(np.zeros(len(start), int))
  share = (end - start) / (reading.end - reading.start)
  value = reading.value * share if recipe.signals[reading.signal[0]].rule == "sum" else pieces.value
  pieces = dataclasses.replace(pieces, start=wall, end=wall + end - start, value=value).take(~repeated)
  return dataclasses.replace(pieces, counted=np.arange(len(pieces)) == 0)
