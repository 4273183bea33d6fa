"""Infers from its readings when a device was worn.

Rules "zeros" and "choi" find long runs without a count.
Troiano et al., "Physical activity in the United States measured by accelerometer", Med Sci Sports Exerc 40 (2008)
181-188: at least 60 minutes of zeros, allowing up to 2 consecutive minutes of at most 100 counts.
Choi et al., "Validation of accelerometer wear and nonwear time classification algorithm", Med Sci Sports Exerc 43
(2011) 357-364: at least 90 minutes of zeros, allowing up to 2 consecutive minutes of counts that have 30 minutes of
zeros before and after.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float, Int64

from data_pipelines.ingest.gridding.recipe import Recipe

_SPIKE = 2  # consecutive minutes
_SPIKE_COUNTS = 100  # per minute (Troiano)
_QUIET = 30  # minutes before and after a spike (Choi)
_RUN = {"zeros": 60, "choi": 90}  # minutes


def worn_steps(
  values: Float[np.ndarray, "t c"], recipe: Recipe, had_heart: bool = False
) -> tuple[Bool[np.ndarray, "t"], Bool[np.ndarray, "t"]]:
  """Infers in which steps the device was worn, and in which it was not.

  Args:
    values: whole days, one after another; NaN where nothing was read.
    recipe: its `worn` holds the rule.
    had_heart: the person's device is known to measure the heart rate, so rule "auto" may conclude from a day without
      such readings that it was not worn.

  Returns:
    Masks of the steps in which it was worn, and in which it was not. Where both are False, the readings leave it open.
  """
  rule = recipe.worn.rule
  heart, counts = recipe.index(recipe.worn.heart), recipe.index(recipe.worn.counts)
  nowhere = np.zeros(len(values), bool)
  if rule == "flag":
    flag = values[:, recipe.index(recipe.worn.flag)]
    return flag >= 0.5, flag < 0.5
  if rule == "heart" or (rule == "auto" and counts is None and heart is not None and had_heart):
    by_heart = _near(~np.isnan(values[:, heart]), recipe.worn.within // recipe.minutes_per_step)
    return by_heart, ~by_heart
  if rule == "off" or counts is None:
    return nowhere, nowhere
  on, off = _by_zeros(values[:, counts], recipe)
  if rule == "auto" and heart is not None:
    observed = ~np.isnan(values[:, heart])
    by_heart = _near(observed, recipe.worn.within // recipe.minutes_per_step)
    has_heart = observed.reshape(-1, recipe.schema.steps).any(axis=1).repeat(recipe.schema.steps)
    on, off = np.where(has_heart, by_heart, on), np.where(has_heart, ~by_heart, off)
  return on, off


def zero_writers(recipe: Recipe) -> Bool[np.ndarray, "c"]:
  """A mask of the channels that are counts and for which the device keeps writing zeros, worn or not."""
  return np.array([s.rule == "sum" and not s.quiet and not s.zero_is_missing for s in recipe.signals])


def _by_zeros(counts: Float[np.ndarray, "t"], recipe: Recipe) -> tuple[Bool[np.ndarray, "t"], Bool[np.ndarray, "t"]]:
  """The observed steps outside long runs without counts, and those runs."""
  minutes, choi = recipe.minutes_per_step, recipe.worn.rule == "choi"
  observed, zero = ~np.isnan(counts), counts == 0
  most = np.inf if choi else _SPIKE_COUNTS * minutes
  spikes = _spikes(counts, _SPIKE // minutes, most, -(-_QUIET // minutes) if choi else 1)
  run = recipe.worn.run or _RUN["choi" if choi else "zeros"]
  off = _long_runs(zero | spikes, -(-run // minutes))
  return observed & ~off, off


def _edges(where: Bool[np.ndarray, "t"]) -> tuple[Int64[np.ndarray, "r"], Int64[np.ndarray, "r"]]:
  """Start and end of each run of True."""
  change = np.diff(np.concatenate([[0], where.astype(np.int8), [0]]))
  return np.flatnonzero(change == 1), np.flatnonzero(change == -1)


def _filled(starts: Int64[np.ndarray, "r"], ends: Int64[np.ndarray, "r"], length: int) -> Bool[np.ndarray, "t"]:
  """True within each of the ranges, which may overlap."""
  marks = np.zeros(length + 1, np.int64)
  np.add.at(marks, starts, 1)
  np.add.at(marks, ends, -1)
  return marks[:-1].cumsum() > 0


def _long_runs(where: Bool[np.ndarray, "t"], least: int) -> Bool[np.ndarray, "t"]:
  """The runs of True that are at least `least` steps long."""
  starts, ends = _edges(where)
  long = ends - starts >= least
  return _filled(starts[long], ends[long], len(where))


def _spikes(counts: Float[np.ndarray, "t"], longest: int, most: float, around: int) -> Bool[np.ndarray, "t"]:
  """Runs of up to `longest` steps with at most `most` counts each, and `around` steps of zeros before and after."""
  starts, ends = _edges(counts > 0)
  zeros, high = (np.concatenate([[0], np.cumsum(where)]) for where in (counts == 0, counts > most))
  before, after = np.maximum(starts - around, 0), np.minimum(ends + around, len(counts))
  spike = (ends - starts <= longest) & (high[ends] == high[starts])
  spike &= (zeros[starts] - zeros[before] == around) & (zeros[after] - zeros[ends] == around)
  return _filled(starts[spike], ends[spike], len(counts))


def _near(observed: Bool[np.ndarray, "t"], steps: int) -> Bool[np.ndarray, "t"]:
  """Steps that are at most `steps` away from an observed one."""
  places = np.flatnonzero(observed)
  return _filled(np.maximum(places - steps, 0), np.minimum(places + steps + 1, len(observed)), len(observed))
