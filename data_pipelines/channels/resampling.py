"""Values of one clock on another clock: shorter steps are aggregated, longer ones stand at one step each.

Nothing is invented: a step without enough observed minutes stays missing, and a value that stands for a quarter of an
hour is placed at the first step of it and leaves the others missing.
"""

from __future__ import annotations

import math
import warnings

import numpy as np
from jaxtyping import Bool, Float, Shaped

from data_pipelines.channels.vocabulary import RULES
from data_pipelines.errors import SchemaError, is_whole
from data_pipelines.schema import MINUTES_PER_DAY

MIN_SHARE = 0.5  # of a longer step's minutes that have to be observed


def resample(
  values: Float[np.ndarray, "days _"], minutes: int, to: int, rule: str, min_share: float = MIN_SHARE
) -> Float[np.ndarray, "days _"]:
  """Observed values on another clock.

  A longer step gets the mean, sum, maximum or last of its observed values, if at least `min_share` of its minutes are
  observed. A sum is scaled to the whole step, as if the minutes that are missing were like the others; otherwise gaps
  would look like rest. A shorter step gets the value of the longer one that begins in it, and the other shorter
  steps stay missing; a sum is divided among them in proportion to time, so that it remains a rate.

  Args:
    values: one channel, one value per step, NaN where missing.
    minutes: length of a step of `values`, a divisor of 1440.
    to: length of a step of the result, a divisor of 1440.
    rule: "mean", "sum", "max" or "last".
    min_share: see above.

  Returns:
    [days, 1440 / to], NaN where missing; `values` themselves if the clocks are equal.

  Raises:
    SchemaError: the rule is unknown, a clock does not divide a day, or the values are of another one.
  """
  if rule not in RULES:
    raise SchemaError(f"resample: rule is {rule!r}, expected one of {', '.join(RULES)}")
  if minutes == to:
    return values
  _check(values, minutes, to)
  if minutes > to:
    result = np.full((len(values), values.shape[1] * minutes // to), np.nan, values.dtype)
    first = np.arange(values.shape[1]) * minutes // to  # all differ, because a step is longer than one of the result
    result[:, first] = values * (to / minutes) if rule == "sum" else values
    return result
  return _aggregated(*_held(values, minutes, to, rule), to, rule, min_share)


def _check(values: Shaped[np.ndarray, "..."], minutes: int, to: int) -> None:
  for clock in (minutes, to):
    if not is_whole(clock) or clock < 1 or MINUTES_PER_DAY % clock:
      raise SchemaError(f"resample: a step of {clock!r} minutes, expected a divisor of {MINUTES_PER_DAY}")
  if values.ndim != 2 or values.shape[1] * minutes != MINUTES_PER_DAY:
    raise SchemaError(f"resample: values have shape {values.shape}, expected [days, {MINUTES_PER_DAY // minutes}]")


def spread(values: Float[np.ndarray, "days _"], minutes: int, to: int, rule: str) -> Float[np.ndarray, "days _"]:
  """Reconstructed values on another clock: as `resample`, but every shorter step gets the value of the longer one."""
  return values if minutes == to else _aggregated(*_held(values, minutes, to, rule), to, rule, 0.0)


def resample_mask(mask: Bool[np.ndarray, "days _"], minutes: int, to: int) -> Bool[np.ndarray, "days _"]:
  """True in every step of the other clock that overlaps a step where `mask` is True."""
  common = math.gcd(minutes, to)
  return np.repeat(mask, minutes // common, axis=1).reshape(len(mask), -1, to // common).max(axis=2)


def _held(values: Float[np.ndarray, "days _"], minutes: int, to: int, rule: str) -> tuple[np.ndarray, int]:
  """Values on the greatest clock that both clocks are multiples of, and the length of its step."""
  common = math.gcd(minutes, to)
  held = np.repeat(values, minutes // common, axis=1)
  return (held * (common / minutes) if rule == "sum" else held), common


def _aggregated(
  values: Float[np.ndarray, "days _"], minutes: int, to: int, rule: str, min_share: float
) -> Float[np.ndarray, "days _"]:
  """Values of steps whose length divides that of the result's."""
  parts = values.reshape(len(values), -1, to // minutes)
  observed = ~np.isnan(parts)
  count = observed.sum(axis=2)
  enough = (count > 0) & (count >= min_share * parts.shape[2])
  if rule == "last":
    last = parts.shape[2] - 1 - observed[:, :, ::-1].argmax(axis=2)
    result = np.take_along_axis(parts, last[:, :, None], axis=2)[:, :, 0]
  else:
    with warnings.catch_warnings(action="ignore", category=RuntimeWarning):  # steps without any observed value
      result = np.asarray(np.nanmax(parts, axis=2) if rule == "max" else np.nanmean(parts, axis=2, dtype=np.float64))
    if rule == "sum":
      result = result * parts.shape[2]
  return np.where(enough, result, np.nan).astype(values.dtype)
