"""From a signal's readings to one value a step, by the signal's rule."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import numpy as np
from jaxtyping import Float64, Int16, Int64

from data_pipelines.ingest.gridding.columns import Placed
from data_pipelines.ingest.reading.readings import Signal


@dataclasses.dataclass(frozen=True)
class Steps:
  """Consecutive steps of the wall clock.

  Attributes:
    start: ms of the first, at midnight.
    count: of steps.
    length: of a step, ms.
  """

  start: int
  count: int
  length: int

  def of(self, ms: Int64[np.ndarray, "n"]) -> Int64[np.ndarray, "n"]:
    """The steps that these instants lie in; outside 0 to count - 1 for those that lie in none."""
    return (ms - self.start) // self.length

  def covered(self, rows: Placed, signal: Signal) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Rows, the step of each, and the ms of it that they last: first that in which they start, then the next, ...

    A sample lasts 0 ms, and so does any reading of a signal that neither counts nor holds.
    """
    first, which = self.of(rows.start), np.arange(len(rows))
    last = self.of(np.maximum(rows.end - 1, rows.start)) if _lasts(signal) else first
    lasted = np.zeros(len(rows), np.int64)
    for further in range(int((last - first).max(initial=-1)) + 1):
      if further:
        which = which[first[which] + further <= last[which]]
      step = first[which] + further if further else first
      if _lasts(signal):
        begin = self.start + step * self.length
        lasted = np.minimum(rows.end[which], begin + self.length) - np.maximum(rows.start[which], begin)
      inside = (step >= 0) & (step < self.count)
      yield (which, step, lasted) if inside.all() else (which[inside], step[inside], lasted[inside])


def _lasts(signal: Signal) -> bool:
  """Whether a reading is of all the time from its start to its end."""
  return signal.rule == "sum" or signal.holds


def combine(rows: Placed, signal: Signal, steps: Steps) -> tuple[Float64[np.ndarray, "t"], Int16[np.ndarray, "t"]]:
  """Value of each step, NaN for none; and the device that it is of, -1 for none.

  Args:
    rows: of the signal, sorted by device, start, end and value. The first device that has anything in a step counts.
  """
  values, winner = np.full(steps.count, np.nan), np.full(steps.count, -1, np.int16)
  for device in np.unique(rows.device):
    first, last = np.searchsorted(rows.device, device), np.searchsorted(rows.device, device, side="right")
    found = _of_device(rows.take(slice(first, last)), signal, steps)
    new = ~np.isnan(found) & (winner < 0)
    values[new], winner[new] = found[new], device
  if signal.kind == "binary":  # most of the step
    values = np.where(np.isnan(values), np.nan, values >= 0.5)
  return values, winner


def _of_device(rows: Placed, signal: Signal, steps: Steps) -> Float64[np.ndarray, "t"]:
  if signal.rule == "last":
    return _last(rows, signal, steps)
  total, weight = np.zeros(steps.count), np.zeros(steps.count)
  for which, step, lasted in steps.covered(rows, signal):
    amount = _amount(rows, which, lasted, signal)
    np.add.at(total, step, rows.value[which] * amount)
    np.add.at(weight, step, amount)
  seen = weight > 0
  divisor = np.where(seen, 1 if signal.rule == "sum" else weight, np.nan)
  return total / divisor


def _amount(rows: Placed, which: np.ndarray, lasted: np.ndarray, signal: Signal) -> np.ndarray:
  """What of each reading falls on a step: of a count its share, of a state its ms; a sample is one."""
  if not _lasts(signal):
    return np.ones(len(which))
  if signal.holds:
    return np.maximum(lasted, 1)
  duration = (rows.end - rows.start)[which]
  return np.where(duration > 0, lasted / np.maximum(duration, 1), 1.0)


def _last(rows: Placed, signal: Signal, steps: Steps) -> Float64[np.ndarray, "t"]:
  latest = np.full(steps.count, -1)
  for which, step, _ in steps.covered(rows, signal):
    np.maximum.at(latest, step, which)  # rows are sorted
  return np.where(latest >= 0, rows.value[latest], np.nan) if len(rows) else np.full(steps.count, np.nan)


def fate(
  rows: Placed, signal: Signal, steps: Steps, winner: Int16[np.ndarray, "t"], state: np.ndarray, elsewhere: int
) -> np.ndarray:
  """Of each reading the least `state` of its steps that its device won; `elsewhere` if it won none."""
  result = np.full(len(rows), elsewhere, np.uint8)
  for which, step, _ in steps.covered(rows, signal):
    found = np.where(winner[step] == rows.device[which], state[step], elsewhere)
    result[which] = np.minimum(result[which], found)
  return result
