"""What a probe on embeddings is compared with: features that anyone would compute of a day or of a stretch of it."""

from __future__ import annotations

import warnings

import numpy as np
from jaxtyping import Bool, Float, Int

HOURS = 24


def mask(values: Float[np.ndarray, "d s c"]) -> Float[np.ndarray, "d f"]:
  """What the pattern of holes alone tells: the observed share of each hour and channel, then of the day's channels."""
  observed = ~np.isnan(values)
  return np.concatenate([_by_hour(observed, np.mean), observed.mean(axis=1)], axis=1).astype(np.float32)


def hourly(values: Float[np.ndarray, "d s c"]) -> Float[np.ndarray, "d f"]:
  """Mean, SD and observed share of each hour and channel; NaN where an hour has no value."""
  parts = [_by_hour(values, np.nanmean), _by_hour(values, np.nanstd), _by_hour(~np.isnan(values), np.mean)]
  return np.concatenate(parts, axis=1).astype(np.float32)


def _by_hour(values: np.ndarray, statistic) -> np.ndarray:
  parts = np.array_split(values, min(HOURS, values.shape[1]), axis=1)
  with warnings.catch_warnings():
    warnings.simplefilter("ignore", RuntimeWarning)  # hours without a value are NaN, as meant
    return np.concatenate([statistic(part, axis=1) for part in parts], axis=1)


def window_mask(
  values: Float[np.ndarray, "d s c"],
  day: Int[np.ndarray, " n"],
  start: Int[np.ndarray, " n"],
  end: Int[np.ndarray, " n"],
) -> Float[np.ndarray, "n f"]:
  """The observed share of each channel in each window [start, end) of a day and in the hour around it; its time."""
  observed = ~np.isnan(values)
  rows = [_around(observed[d], s, e, _share) for d, s, e in zip(day, start, end, strict=True)]
  return _with_clock(rows, start, end, values.shape[1])


def window(
  values: Float[np.ndarray, "d s c"],
  day: Int[np.ndarray, " n"],
  start: Int[np.ndarray, " n"],
  end: Int[np.ndarray, " n"],
) -> Float[np.ndarray, "n f"]:
  """Mean, SD and observed share of each channel in each window and in the hour around it; its time and length."""
  with warnings.catch_warnings():
    warnings.simplefilter("ignore", RuntimeWarning)
    rows = [_around(values[d], s, e, _moments) for d, s, e in zip(day, start, end, strict=True)]
  return _with_clock(rows, start, end, values.shape[1])


def _around(day: np.ndarray, start: int, end: int, summary) -> np.ndarray:
  hour = max(len(day) // HOURS, 1)
  middle = (start + end) // 2
  near = day[max(min(start, middle - hour // 2), 0) : max(end, middle + hour // 2)]
  return np.concatenate([summary(day[start:end]), summary(near)])


def _share(observed: Bool[np.ndarray, "s c"]) -> np.ndarray:
  return observed.mean(axis=0)


def _moments(values: Float[np.ndarray, "s c"]) -> np.ndarray:
  return np.concatenate([np.nanmean(values, axis=0), np.nanstd(values, axis=0), _share(~np.isnan(values))])


def _with_clock(rows: list[np.ndarray], start: np.ndarray, end: np.ndarray, steps: int) -> np.ndarray:
  """Rows with the hour of day as an angle, and the length of the window."""
  angle = np.pi * (start + end) / steps
  clock = np.stack([np.sin(angle), np.cos(angle), (end - start) / steps], axis=1)
  return np.concatenate([np.array(rows).reshape(len(start), -1), clock], axis=1).astype(np.float32)
