"""The trivial imputers that every model is compared with; fitted_imputers.py has those that learn.

Each maps z, float [d s c] (days, steps, channels) with NaN where a value is missing, to a dense array of the same shape
and dtype in which the observed values are unchanged. Units are the model's: z-scores for continuous channels, 0 and
1 for binary ones. A channel without a single observation in a day takes `fill`, the training mean: 0 in z-scores; for
binary channels the caller passes their share of ones.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import numpy as np
from jaxtyping import Float

Imputer = Callable[[np.ndarray], np.ndarray]
Fill = float | Float[np.ndarray, " c"]  # one number, or one per channel


def mean(z: Float[np.ndarray, "d s c"], fill: Fill = 0.0) -> Float[np.ndarray, "d s c"]:
  """The mean of the channel's observed values of the same day.

  Raises:
    ValueError: if z is not a floating-point array [days, steps, channels].
  """
  observed = _observed(z)
  total = np.where(observed, z, 0).sum(axis=1, dtype=np.float64)
  count = observed.sum(axis=1)
  level = np.where(count > 0, total / np.maximum(count, 1), fill)
  return np.where(observed, z, level[:, None]).astype(z.dtype)


def nearest(z: Float[np.ndarray, "d s c"], fill: Fill = 0.0) -> Float[np.ndarray, "d s c"]:
  """The observed value nearest in time, the earlier one of two equally near.

  Raises:
    ValueError: if z is not a floating-point array [days, steps, channels].
  """
  return _from_neighbours(z, fill, _take_nearest)


def locf(z: Float[np.ndarray, "d s c"], fill: Fill = 0.0) -> Float[np.ndarray, "d s c"]:
  """The last observation carried forward; before the first one, that one.

  Raises:
    ValueError: if z is not a floating-point array [days, steps, channels].
  """
  return _from_neighbours(z, fill, _take_last)


def linear(z: Float[np.ndarray, "d s c"], fill: Fill = 0.0) -> Float[np.ndarray, "d s c"]:
  """The line between the observed values before and after; before the first and after the last, that value.

  Raises:
    ValueError: if z is not a floating-point array [days, steps, channels].
  """
  return _from_neighbours(z, fill, _take_line)


def time_of_day_mean(
  z: Float[np.ndarray, "d s c"], means: Float[np.ndarray, "s c"] | Float[np.ndarray, "d s c"]
) -> Float[np.ndarray, "d s c"]:
  """The mean of the same step over other days.

  Args:
    z: days, NaN where missing.
    means: finite, over the training days [s c] or for each day [d s c] (`person_means`).

  Raises:
    ValueError: if z is not a floating-point array [days, steps, channels], or if the means have another shape or are
      not finite.
  """
  observed = _observed(z)
  if means.shape not in (z.shape, z.shape[1:]) or not np.isfinite(means).all():
    raise ValueError(
      f"time-of-day means have shape {means.shape}, expected {z.shape[1:]} or {z.shape}, all values finite"
    )
  return np.where(observed, z, means).astype(z.dtype)


def person_means(days: Float[np.ndarray, "d s c"], means: Float[np.ndarray, "s c"]) -> Float[np.ndarray, "d s c"]:
  """The mean of the same step over the person's other days, for each day of one person.

  The day itself takes no part, so nothing that is hidden in it leaks.

  Args:
    days: all days of the person, NaN where missing.
    means: used where none of the other days has an observation.

  Returns:
    float32, finite.
  """
  observed = ~np.isnan(days)
  filled = np.where(observed, days, 0).astype(np.float64)
  out = np.empty(days.shape, np.float32)
  for d in range(len(days)):
    # Summed anew, not subtracted from the sum of all days: that would leave the day's rounding errors.
    others = np.arange(len(days)) != d
    count = observed[others].sum(axis=0)
    out[d] = np.where(count > 0, filled[others].sum(axis=0) / np.maximum(count, 1), means)
  return out


def imputers(time_of_day: Float[np.ndarray, "s c"], fill: Fill = 0.0) -> dict[str, Imputer]:
  """The imputers that need only the day and training means, by name, ready to be called with z alone.

  Args:
    time_of_day: training mean of each step, finite.
    fill: training mean of a channel, one number or [C].
  """
  return {
    "mean": functools.partial(mean, fill=fill),
    "nearest": functools.partial(nearest, fill=fill),
    "linear": functools.partial(linear, fill=fill),
    "locf": functools.partial(locf, fill=fill),
    "time_of_day_mean": functools.partial(time_of_day_mean, means=time_of_day),
  }


def _observed(z: np.ndarray) -> np.ndarray:
  if z.ndim != 3 or z.dtype.kind != "f":
    raise ValueError(f"imputer: days are {z.dtype} {z.shape}, expected floating point [days, steps, channels]")
  return ~np.isnan(z)


def _from_neighbours(z: np.ndarray, fill: Fill, take: Callable[..., np.ndarray]) -> np.ndarray:
  """Fills each hole by `take(step, before, after, value_before, value_after)`, all 1-D over the holes.

  before and after are the steps of the nearest observed values; where one side has none, both are the other side's.
  """
  observed = _observed(z)
  filled = np.where(observed.any(axis=1, keepdims=True), z, np.asarray(fill, z.dtype))
  hole = np.isnan(filled)
  if not hole.any():
    return filled
  steps = z.shape[1]
  step = np.arange(steps, dtype=np.int32)[:, None]
  # Running maximum and minimum of the observed steps: -1 and `steps` where there is none on that side.
  before = np.maximum.accumulate(np.where(observed, step, -1), axis=1)[hole]
  after = np.minimum.accumulate(np.where(observed, step, steps)[:, ::-1], axis=1)[:, ::-1][hole]
  before, after = np.where(before < 0, after, before), np.where(after == steps, before, after)
  days, at, channels = np.nonzero(hole)
  filled[hole] = take(at, before, after, z[days, before, channels], z[days, after, channels])
  return filled


def _take_nearest(
  at: np.ndarray, before: np.ndarray, after: np.ndarray, value_before: np.ndarray, value_after: np.ndarray
) -> np.ndarray:
  return np.where(np.abs(at - before) <= np.abs(after - at), value_before, value_after)


def _take_last(
  at: np.ndarray, before: np.ndarray, after: np.ndarray, value_before: np.ndarray, value_after: np.ndarray
) -> np.ndarray:
  return value_before


def _take_line(
  at: np.ndarray, before: np.ndarray, after: np.ndarray, value_before: np.ndarray, value_after: np.ndarray
) -> np.ndarray:
  share = (at - before) / np.maximum(after - before, 1)
  # At an edge both sides are the same value, whatever the share.
  return value_before + share * (value_after.astype(np.float64) - value_before)
