"""Combines the readings of a signal into one value per step, by the signal's rule."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import numpy as np
from jaxtyping import Float64, Int32, Int64, UInt8

from data_pipelines.ingest.gridding.columns import WallClockColumns
from data_pipelines.ingest.reading.signals import Signal


@dataclasses.dataclass(frozen=True)
class StepRange:
  """Consecutive steps of the wall clock.

  Attributes:
    start: ms of the first step, at midnight.
    count: number of steps.
    length: ms per step.
  """

  start: int
  count: int
  length: int

  def containing(self, ms: Int64[np.ndarray, "n"]) -> Int64[np.ndarray, "n"]:
    """The step that each instant lies in; less than 0 or at least `count` for instants outside."""
    return (ms - self.start) // self.length

  def covered(
    self, readings: WallClockColumns, signal: Signal
  ) -> Iterator[tuple[Int64[np.ndarray, "k"], Int64[np.ndarray, "k"], Int64[np.ndarray, "k"]]]:
    """The steps that readings cover: first the one that each starts in, then the next of those that last on, and so on.

    Yields:
      Indices of readings; the step of each; the ms for which it lasts within that step. A sample lasts 0 ms, and
      so does any reading of a signal that is neither a count nor a state.
    """
    first, indices = self.containing(readings.start), np.arange(len(readings))
    last = self.containing(np.maximum(readings.end - 1, readings.start)) if _lasts(signal) else first
    lasted = np.zeros(len(readings), np.int64)
    for further in range(int((last - first).max(initial=-1)) + 1):
      if further:
        indices = indices[first[indices] + further <= last[indices]]
      step = first[indices] + further if further else first
      if _lasts(signal):
        begin = self.start + step * self.length
        lasted = np.minimum(readings.end[indices], begin + self.length) - np.maximum(readings.start[indices], begin)
      inside = (step >= 0) & (step < self.count)
      yield (indices, step, lasted) if inside.all() else (indices[inside], step[inside], lasted[inside])


def _lasts(signal: Signal) -> bool:
  """True if a reading applies to all the time from its start to its end."""
  return signal.rule == "sum" or signal.holds


def combine(
  readings: WallClockColumns, signal: Signal, steps: StepRange
) -> tuple[Float64[np.ndarray, "t"], Int32[np.ndarray, "t"]]:
  """Combines readings of one signal. In each step only the most trusted device with a reading there counts.

  Args:
    readings: readings of the signal, sorted by device, start, end and value.
    signal: its rule.
    steps: the steps to fill.

  Returns:
    The value of each step, NaN if it has none; and the device that the value is from, -1 if there is none.
  """
  values, winner = np.full(steps.count, np.nan), np.full(steps.count, -1, np.int32)
  for device in np.unique(readings.device):
    first, last = np.searchsorted(readings.device, device), np.searchsorted(readings.device, device, side="right")
    device_values = _combine_device(readings.take(slice(first, last)), signal, steps)
    new = ~np.isnan(device_values) & (winner < 0)
    values[new], winner[new] = device_values[new], device
  if signal.kind == "binary":  # 1 if it held for at least half of the time observed
    values = np.where(np.isnan(values), np.nan, values >= 0.5)
  return values, winner


def _combine_device(readings: WallClockColumns, signal: Signal, steps: StepRange) -> Float64[np.ndarray, "t"]:
  if signal.rule == "last":
    return _last(readings, signal, steps)
  total, weight = np.zeros(steps.count), np.zeros(steps.count)
  for indices, step, lasted in steps.covered(readings, signal):
    amount = _weights(readings, indices, lasted, signal)
    np.add.at(total, step, readings.value[indices] * amount)
    np.add.at(weight, step, amount)
  divisor = np.where(weight > 0, 1 if signal.rule == "sum" else weight, np.nan)
  return total / divisor


def _weights(
  readings: WallClockColumns, indices: Int64[np.ndarray, "k"], lasted: Int64[np.ndarray, "k"], signal: Signal
) -> Float64[np.ndarray, "k"] | Int64[np.ndarray, "k"]:
  """The weight of each reading in a step: the share of a count, the ms of a state, 1 for a sample."""
  if not _lasts(signal):
    return np.ones(len(indices))
  if signal.holds:
    return np.maximum(lasted, 1)
  duration = (readings.end - readings.start)[indices]
  return np.where(duration > 0, lasted / np.maximum(duration, 1), 1.0)


def _last(readings: WallClockColumns, signal: Signal, steps: StepRange) -> Float64[np.ndarray, "t"]:
  latest = np.full(steps.count, -1)
  for indices, step, _ in steps.covered(readings, signal):
    np.maximum.at(latest, step, indices)  # the highest index is the latest, because readings are sorted
  return np.where(latest >= 0, readings.value[latest], np.nan) if len(readings) else np.full(steps.count, np.nan)


def outcomes(
  readings: WallClockColumns,
  signal: Signal,
  steps: StepRange,
  winner: Int32[np.ndarray, "t"],
  state: UInt8[np.ndarray, "t"],
  elsewhere: int,
) -> UInt8[np.ndarray, "n"]:
  """The outcome of each reading: the least `state` among its steps.

  Args:
    readings, signal, steps: as in `combine`.
    winner: the device that counts in each step, from `combine`.
    state: the outcome of each step.
    elsewhere: the outcome in steps where another device counts, and of readings outside the steps.
  """
  result = np.full(len(readings), elsewhere, np.uint8)
  for indices, step, _ in steps.covered(readings, signal):
    step_outcome = np.where(winner[step] == readings.device[indices], state[step], elsewhere)
    result[indices] = np.minimum(result[indices], step_outcome)
  return result
