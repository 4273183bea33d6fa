"""Statistics of the observed values of a dataset's pretrain split, for normalisation and as a trivial imputer.

They are accumulated in float64 in one pass: the counts, means and sums of squared deviations of batches of days are
merged by the pairwise update of Chan, Golub and LeVeque (1979), of which Welford's recurrence is the one-value case.
Missing values (NaN) enter none of them.
"""

from __future__ import annotations

import copy
import dataclasses
import os
import pathlib

import numpy as np
from jaxtyping import Float32, Float64, Int64

from data_pipelines.errors import SchemaError
from data_pipelines.schema import Schema


@dataclasses.dataclass(frozen=True)
class Statistics:
  """Statistics over the observed values of the pretrain split, in physical units.

  Attributes:
    names: channel names, in order.
    count: number of observed values.
    mean: mean of the observed values.
    std: population standard deviation; 1.0 where the channel is constant.
    min, max: smallest and largest observed value.
    time_mean: mean at each time of day, NaN where never observed.
    time_count: number of observed values at each time of day.
  """

  names: tuple[str, ...]
  count: Int64[np.ndarray, " channels"]
  mean: Float64[np.ndarray, " channels"]
  std: Float64[np.ndarray, " channels"]
  min: Float32[np.ndarray, " channels"]
  max: Float32[np.ndarray, " channels"]
  time_mean: Float64[np.ndarray, "steps channels"]
  time_count: Int64[np.ndarray, "steps channels"]

  def save(self, path: str | os.PathLike) -> None:
    """Writes an npz with one array per attribute."""
    arrays = {field.name: np.asarray(getattr(self, field.name)) for field in dataclasses.fields(self)}
    with pathlib.Path(path).open("wb") as file:
      np.savez(file, **arrays)  # type: ignore[arg-type]

  @classmethod
  def load(cls, path: str | os.PathLike) -> Statistics:
    """Reads what `save` wrote.

    Raises:
      SchemaError: the file is absent, damaged, or lacks a key.
    """
    try:
      with np.load(path, allow_pickle=False) as arrays:
        fields = {field.name: arrays[field.name] for field in dataclasses.fields(cls)}
    except FileNotFoundError:
      raise SchemaError(f"{path}: no such file") from None
    except KeyError as error:
      raise SchemaError(f"{path}: key {error.args[0]!r} is missing") from None
    except Exception:  # zipfile, zlib and numpy each raise their own kinds about damage
      raise SchemaError(f"{path}: not a statistics file, or a truncated one") from None
    names = tuple(str(name) for name in fields.pop("names"))
    return cls(names=names, **fields)


class Accumulator:
  """Accumulates statistics over batches of days, in the memory of one float64 day."""

  def __init__(self, schema: Schema):
    self._schema = schema
    shape = (schema.steps, len(schema.channels))
    self._count = np.zeros(shape[1], np.int64)
    self._mean = np.zeros(shape[1])
    self._squares = np.zeros(shape[1])  # sums of squared deviations from the mean
    self._min = np.full(shape[1], np.inf, np.float32)
    self._max = np.full(shape[1], -np.inf, np.float32)
    self._time_count = np.zeros(shape, np.int64)
    self._time_mean = np.zeros(shape)

  @classmethod
  def from_statistics(cls, schema: Schema, statistics: Statistics) -> Accumulator:
    """The state after all days that statistics are of; `schema` is theirs."""
    accumulator = cls(schema)
    observed, varies = statistics.count > 0, statistics.min < statistics.max
    accumulator._count = statistics.count.copy()
    accumulator._mean = statistics.mean.copy()
    accumulator._squares = np.where(varies, statistics.std**2 * statistics.count, 0.0)  # the SD of a constant is 1
    accumulator._min = np.where(observed, statistics.min, np.float32(np.inf))
    accumulator._max = np.where(observed, statistics.max, np.float32(-np.inf))
    accumulator._time_count = statistics.time_count.copy()
    accumulator._time_mean = np.where(statistics.time_count > 0, statistics.time_mean, 0.0)
    return accumulator

  def add(self, values: Float32[np.ndarray, "days steps channels"]) -> None:
    """Adds a batch of days, in physical units, NaN where missing."""
    observed = ~np.isnan(values)
    time_count = observed.sum(axis=0)
    count = time_count.sum(axis=0)
    deviation = np.where(observed, values, 0).astype(np.float64)
    total = deviation.sum(axis=0)
    self._merge_time(time_count, total)
    mean = total.sum(axis=0) / np.maximum(count, 1)
    deviation -= mean
    deviation *= observed
    self._merge(count, mean, np.einsum("dsc,dsc->c", deviation, deviation))
    self._min = np.minimum(self._min, np.where(observed, values, np.inf).min(axis=(0, 1)))
    self._max = np.maximum(self._max, np.where(observed, values, -np.inf).max(axis=(0, 1)))

  def merge(self, other: Accumulator) -> None:
    """Adds the days of another accumulator; merged into an empty one, the result equals `other` to the last bit."""
    if not self._count.any():
      self.__dict__.update(copy.deepcopy(other.__dict__))
      return
    both = np.maximum(self._time_count + other._time_count, 1)
    self._time_mean += (other._time_mean - self._time_mean) * (other._time_count / both)
    self._time_count += other._time_count
    self._merge(other._count, other._mean, other._squares)
    self._min = np.minimum(self._min, other._min)
    self._max = np.maximum(self._max, other._max)

  def _merge(
    self,
    count: Int64[np.ndarray, " channels"],
    mean: Float64[np.ndarray, " channels"],
    squares: Float64[np.ndarray, " channels"],
  ) -> None:
    total = np.maximum(self._count + count, 1)
    delta = mean - self._mean
    self._mean += delta * count / total
    self._squares += squares + delta**2 * (self._count * (count / total))
    self._count += count

  def _merge_time(
    self, count: Int64[np.ndarray, "steps channels"], total: Float64[np.ndarray, "steps channels"]
  ) -> None:
    both = np.maximum(self._time_count + count, 1)
    self._time_mean += (total - count * self._time_mean) / both
    self._time_count += count

  def finish(self, allow_unobserved: bool = False) -> tuple[Statistics, list[str]]:
    """Returns the statistics, and a note (one line) about every constant channel.

    Args:
      allow_unobserved: a channel that is never observed has mean, minimum and maximum 0 and standard deviation 1.

    Raises:
      SchemaError: a channel is never observed, and that is not allowed.
    """
    names = self._schema.names
    unobserved = self._count == 0
    if unobserved.any() and not allow_unobserved:
      name = names[np.flatnonzero(unobserved)[0]]
      raise SchemaError(f"channel {name!r} is never observed in split 'pretrain', so it cannot be normalised")
    low, high = np.where(unobserved, np.float32(0), self._min), np.where(unobserved, np.float32(0), self._max)
    constant = (low == high) & ~unobserved
    notes = [
      f"channel {names[c]!r} is always {low[c]:g} in split 'pretrain'; its standard deviation is set to 1"
      for c in np.flatnonzero(constant)
    ]
    statistics = Statistics(
      names=names,
      count=self._count.copy(),
      mean=self._mean.copy(),
      std=np.where(low == high, 1.0, np.sqrt(self._squares / np.maximum(self._count, 1))),
      min=low,
      max=high,
      time_mean=np.where(self._time_count > 0, self._time_mean, np.nan),
      time_count=self._time_count.copy(),
    )
    return statistics, notes
