"""Readings of one person as columns: checked, and put on the wall clock."""

from __future__ import annotations

import dataclasses
import zoneinfo
from collections.abc import Callable, Iterator, Sequence
from typing import Self

import numpy as np
from jaxtyping import Bool, Float64, Int16, Int64

from data_pipelines.errors import SchemaError
from data_pipelines.ingest.gridding.recipe import Recipe
from data_pipelines.ingest.reading import clocks
from data_pipelines.ingest.reading.clocks import DAY, MINUTE, NO_OFFSET

EARLIEST = 946_684_800_000  # 2000-01-01: a clock that shows less was never set
LARGEST = 1e30  # what is larger, summed up, is not finite as float32
Drop = Callable[[str, int], None]  # why, how many readings


@dataclasses.dataclass(frozen=True)
class Columns:
  """Readings of one person (see data_pipelines.readings.Readings), in any order; 31 bytes each.

  Attributes:
    signal: index into the recipe's signals.
    device: index into the devices, the more trusted first.
    start, end: ms of UTC, or of the wall clock where `wall`.
    value: in the unit of the recipe's signal.
    offset: minutes that the wall clock was ahead of UTC; clocks.NO_OFFSET where the file does not tell.
    wall: whether start and end are of the wall clock.
  """

  signal: Int16[np.ndarray, "n"]
  device: Int16[np.ndarray, "n"]
  start: Int64[np.ndarray, "n"]
  end: Int64[np.ndarray, "n"]
  value: Float64[np.ndarray, "n"]
  offset: Int16[np.ndarray, "n"]
  wall: Bool[np.ndarray, "n"]

  def __len__(self) -> int:
    return len(self.start)

  def take(self, rows: np.ndarray | slice) -> Self:
    """Some rows, by a mask, indices or a slice; no copy where these are all."""
    if isinstance(rows, np.ndarray) and rows.dtype == bool:
      if rows.all():
        return self
      rows = np.flatnonzero(rows)  # seven columns: cheaper than the mask seven times
    return type(self)(*(getattr(self, field.name)[rows] for field in dataclasses.fields(self)))

  @classmethod
  def concat(cls, blocks: Sequence[Self]) -> Self:
    """All rows of some blocks."""
    blocks = [block for block in blocks if len(block)] or blocks[:1]
    if len(blocks) == 1:
      return blocks[0]
    return cls(*(np.concatenate([getattr(b, field.name) for b in blocks]) for field in dataclasses.fields(cls)))


@dataclasses.dataclass(frozen=True)
class Placed(Columns):
  """Readings whose start and end are of the wall clock.

  Attributes:
    counted: False for the later parts of a reading that was cut where its clock was changed: it is one reading.
  """

  counted: Bool[np.ndarray, "n"]


def checked(rows: Columns, recipe: Recipe, latest: int, drop: Drop) -> Columns:
  """The readings that can be true, each for itself; the others are dropped, by the first reason that holds."""
  kept = np.ones(len(rows), bool)
  for why, bad in _reasons(rows, recipe, latest):
    bad &= kept
    drop(why, int(bad.sum()))
    kept &= ~bad
  return rows.take(kept)


def _reasons(rows: Columns, recipe: Recipe, latest: int) -> Iterator[tuple[str, np.ndarray]]:
  """Why readings cannot be true, and which."""
  spans = rows.end - rows.start
  sums = np.array([signal.rule == "sum" for signal in recipe.signals])[rows.signal]
  yield "clock not set (before 2000)", rows.start < EARLIEST
  yield "clock wrong (after the export)", rows.start > latest + np.where(rows.wall, DAY, 0)
  yield "ends before it starts", spans < 0
  yield "offset of the clock wrong", (abs(rows.offset) > clocks.MOST_OFFSET) & (rows.offset != NO_OFFSET)
  yield "no usable number", ~(abs(rows.value) < LARGEST)
  yield f"count over more than {recipe.longest_sum} min", sums & (spans > recipe.longest_sum * MINUTE)
  yield "lasts longer than a day", spans > DAY
  for number, signal in enumerate(recipe.signals):
    of_it = rows.signal == number
    if signal.zero_is_missing:
      yield f"{signal.name} of 0: not measured", of_it & (rows.value == 0)
    if signal.kind == "binary":
      yield f"{signal.name} neither 0 nor 1", of_it & (rows.value != 0) & (rows.value != 1)
    if np.isfinite(signal.low) or np.isfinite(signal.high):
      outside = (rows.value < signal.low) | (rows.value > signal.high)
      yield f"{signal.name} outside {signal.low:g} to {signal.high:g} {signal.unit}".rstrip(), of_it & outside


def placed(rows: Columns, zone: zoneinfo.ZoneInfo | None, recipe: Recipe, drop: Drop) -> Placed:
  """Readings on the wall clock: as it is given, by their own offset, or by the person's zone.

  A reading of a count or a state that lasts over a change of the zone's clock is cut there; what falls on an hour that
  the clock had shown before is dropped. Of a wall clock without offsets that cannot be told: both passages count.
  """
  counted = np.ones(len(rows), bool)
  by_zone = ~rows.wall & (rows.offset == NO_OFFSET)
  by_offset = np.where(rows.wall | by_zone, 0, rows.offset).astype(np.int64) * MINUTE
  start, end = rows.start + by_offset, rows.end + by_offset
  as_is = Placed(rows.signal, rows.device, start, end, rows.value, rows.offset, rows.wall, counted)
  if not by_zone.any():
    return as_is
  if zone is None:
    names = sorted({recipe.signals[number].name for number in np.unique(rows.signal[by_zone])})
    raise SchemaError(f"readings of {', '.join(names)} are in UTC: tell the person's zone, as --timezone=Europe/Berlin")
  return Placed.concat([as_is.take(~by_zone), _by_zone(as_is.take(by_zone), zone, recipe, drop)])


def _by_zone(rows: Placed, zone: zoneinfo.ZoneInfo, recipe: Recipe, drop: Drop) -> Placed:
  clock = clocks.ZoneClock(zone, int(rows.start.min()), int(rows.end.max()))
  lasting = np.array([signal.rule == "sum" or signal.holds for signal in recipe.signals])[rows.signal]
  next_cut = np.append(clock.cuts, np.iinfo(np.int64).max)[np.searchsorted(clock.cuts, rows.start, side="right")]
  cut = lasting & (next_cut < rows.end)
  wall, again = clock.at(rows.start)
  drop("repeated hour", int((again & ~cut).sum()))
  moved = dataclasses.replace(rows, start=wall, end=wall + rows.end - rows.start)
  pieces = [_pieces(rows.take(slice(row, row + 1)), clock, recipe) for row in np.flatnonzero(cut)]
  drop("repeated hour", sum(not len(piece) for piece in pieces))
  return Placed.concat([moved.take(~again & ~cut), *pieces])


def _pieces(row: Placed, clock: clocks.ZoneClock, recipe: Recipe) -> Placed:
  """A single reading, cut at changes of the clock, a count in proportion to time, without what comes twice."""
  inside = clock.cuts[(clock.cuts > row.start) & (clock.cuts < row.end)]
  start, end = np.concatenate([row.start, inside]), np.concatenate([inside, row.end])
  wall, again = clock.at(start)
  pieces = row.take(np.zeros(len(start), int))
  share = (end - start) / (row.end - row.start)
  value = row.value * share if recipe.signals[row.signal[0]].rule == "sum" else pieces.value
  pieces = dataclasses.replace(pieces, start=wall, end=wall + end - start, value=value).take(~again)
  return dataclasses.replace(pieces, counted=np.arange(len(pieces)) == 0)
