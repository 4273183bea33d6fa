"""Hand-made features of days and windows: the baselines that a probe on embeddings is compared with."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from jaxtyping import Bool, Float, Int

HOURS = 24


def mask(values: Float[np.ndarray, "d s c"]) -> Float[np.ndarray, "d f"]:
  """The pattern of holes alone as features: each channel's observed share in each hour, then in the whole day."""
  observed = ~np.isnan(values)
  return np.concatenate([_by_hour(observed, np.mean), observed.mean(axis=1)], axis=1).astype(np.float32)


def hourly(values: Float[np.ndarray, "d s c"]) -> Float[np.ndarray, "d f"]:
  """Mean, SD and observed share of each channel in each hour; NaN where an hour has no value."""
  parts = [
    _by_hour(values, observed_mean),
    _by_hour(values, observed_sd),
    _by_hour(~np.isnan(values), np.mean),
  ]
  return np.concatenate(parts, axis=1).astype(np.float32)


def window_mask(
  values: Float[np.ndarray, "d s c"],
  day: Int[np.ndarray, " n"],
  start: Int[np.ndarray, " n"],
  end: Int[np.ndarray, " n"],
) -> Float[np.ndarray, "n f"]:
  """Each channel's observed share in each window [start, end) of a day and in the hour around it; the time of day."""
  observed = ~np.isnan(values)
  rows = [
    _window_and_hour(observed[d], s, e, _observed_share) for d, s, e in zip(*_lists(day, start, end), strict=True)
  ]
  return _with_clock(rows, start, end, values.shape[1])


def window(
  values: Float[np.ndarray, "d s c"],
  day: Int[np.ndarray, " n"],
  start: Int[np.ndarray, " n"],
  end: Int[np.ndarray, " n"],
) -> Float[np.ndarray, "n f"]:
  """Each channel's mean, SD and observed share in each window and in the hour around it; its time and length."""
  windows = zip(*_lists(day, start, end), strict=True)
  rows = [_window_and_hour(values[d], s, e, _moments) for d, s, e in windows]
  return _with_clock(rows, start, end, values.shape[1])


def observed_mean(values: Float[np.ndarray, "..."], axis: int) -> Float[np.ndarray, "..."]:
  """np.nanmean to the last bit, but NaN without a warning where nothing was observed."""
  observed = ~np.isnan(values)
  return _mean(np.where(observed, values, 0), observed.sum(axis=axis, keepdims=True), axis).squeeze(axis)


def observed_sd(values: Float[np.ndarray, "..."], axis: int) -> Float[np.ndarray, "..."]:
  """np.nanstd to the last bit, but NaN without a warning where nothing was observed."""
  observed = ~np.isnan(values)
  count = observed.sum(axis=axis, keepdims=True)
  mean = _mean(np.where(observed, values, 0), count, axis)
  deviation = np.subtract(values, mean, out=np.zeros_like(values), where=observed)
  return np.sqrt(_mean(deviation * deviation, count, axis)).squeeze(axis)


def _mean(filled: np.ndarray, count: np.ndarray, axis: int) -> np.ndarray:
  """The sum of `filled` divided by `count`, in the dtype of `filled`; NaN where the count is 0."""
  total = filled.sum(axis=axis, keepdims=True)
  return np.divide(total, count, out=np.full_like(total, np.nan), where=count > 0, casting="unsafe")


def _by_hour(values: np.ndarray, statistic: Callable[..., np.ndarray]) -> np.ndarray:
  """A statistic of each hour's steps, hour by hour; of each step where a day has fewer than 24."""
  parts = np.array_split(values, min(HOURS, values.shape[1]), axis=1)
  return np.concatenate([statistic(part, axis=1) for part in parts], axis=1)


def _window_and_hour(
  day: np.ndarray, start: int, end: int, summary: Callable[[np.ndarray], np.ndarray]
) -> Float[np.ndarray, " f"]:
  hour = max(len(day) // HOURS, 1)
  middle = (start + end) // 2
  around = day[max(min(start, middle - hour // 2), 0) : max(end, middle + hour // 2)]
  return np.concatenate([summary(day[start:end]), summary(around)])


def _observed_share(observed: Bool[np.ndarray, "s c"]) -> Float[np.ndarray, " c"]:
  return observed.mean(axis=0)


def _moments(values: Float[np.ndarray, "s c"]) -> Float[np.ndarray, " f"]:
  mean, sd = observed_mean(values, axis=0), observed_sd(values, axis=0)
  return np.concatenate([mean, sd, _observed_share(~np.isnan(values))])


def _lists(*arrays: Int[np.ndarray, " n"]) -> list[list[int]]:
  return [array.tolist() for array in arrays]


def _with_clock(
  rows: list[np.ndarray], start: Int[np.ndarray, " n"], end: Int[np.ndarray, " n"], steps: int
) -> Float[np.ndarray, "n f"]:
  """Appends the time of day of each window's middle, as an angle, and the window's length as a share of the day."""
  angle = np.pi * (start + end) / steps
  clock = np.stack([np.sin(angle), np.cos(angle), (end - start) / steps], axis=1)
  return np.concatenate([np.array(rows).reshape(len(start), -1), clock], axis=1).astype(np.float32)
