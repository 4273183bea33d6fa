"""When a device was worn, told from its readings, where it does not say so itself.

Long runs without a count: Troiano et al., "Physical activity in the United States measured by accelerometer", Med Sci
Sports Exerc 40 (2008) 181-188: at least 60 minutes of zeros, up to 2 minutes in a row of at most 100 counts allowed
for. Choi et al., "Validation of accelerometer wear and nonwear time classification algorithm", Med Sci Sports Exerc 43
(2011) 357-364: at least 90 minutes of zeros, up to 2 minutes in a row allowed for that have 30 minutes of zeros before
and after.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float

from data_pipelines.ingest.gridding.recipe import Recipe

_SPIKE = 2  # minutes in a row
_SPIKE_COUNTS = 100  # Troiano's, a minute
_QUIET = 30  # Choi's, minutes before and after a spike
_RUN = {"zeros": 60, "choi": 90}


def worn(
  values: Float[np.ndarray, "t c"], recipe: Recipe, had_heart: bool = False
) -> tuple[Bool[np.ndarray, "t"], Bool[np.ndarray, "t"]]:
  """In which steps the device was worn, and in which not; neither where that cannot be told.

  Args:
    values: whole days one after another, NaN where nothing was read.
    had_heart: the person's device measures the heart: rule "auto" may conclude from a day without.
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
  """Counts of which the device writes zeros all the time, worn or not."""
  return np.array([s.rule == "sum" and not s.quiet and not s.zero_is_missing for s in recipe.signals])


def _by_zeros(counts: Float[np.ndarray, "t"], recipe: Recipe) -> tuple[Bool[np.ndarray, "t"], Bool[np.ndarray, "t"]]:
  """Steps with counts outside the long runs without any, and those runs."""
  minutes, choi = recipe.minutes_per_step, recipe.worn.rule == "choi"
  observed, zero = ~np.isnan(counts), counts == 0
  most = np.inf if choi else _SPIKE_COUNTS * minutes
  spikes = _spikes(counts, _SPIKE // minutes, most, -(-_QUIET // minutes) if choi else 1)
  run = recipe.worn.run or _RUN["choi" if choi else "zeros"]
  off = _runs_of(zero | spikes, -(-run // minutes))
  return observed & ~off, off


def _edges(where: Bool[np.ndarray, "t"]) -> tuple[np.ndarray, np.ndarray]:
  """Start and end of each run of True."""
  change = np.diff(np.concatenate([[0], where.astype(np.int8), [0]]))
  return np.flatnonzero(change == 1), np.flatnonzero(change == -1)


def _filled(starts: np.ndarray, ends: np.ndarray, length: int) -> Bool[np.ndarray, "t"]:
  marks = np.zeros(length + 1, np.int64)
  np.add.at(marks, starts, 1)
  np.add.at(marks, ends, -1)
  return marks[:-1].cumsum() > 0


def _runs_of(where: Bool[np.ndarray, "t"], least: int) -> Bool[np.ndarray, "t"]:
  """The runs of True that are `least` steps long or longer."""
  starts, ends = _edges(where)
  kept = ends - starts >= least
  return _filled(starts[kept], ends[kept], len(where))


def _spikes(counts: Float[np.ndarray, "t"], longest: int, most: float, around: int) -> Bool[np.ndarray, "t"]:
  """Runs of up to `longest` steps of at most `most` counts that have `around` steps of zeros before and after."""
  starts, ends = _edges(counts > 0)
  zeros, high = (np.concatenate([[0], np.cumsum(where)]) for where in (counts == 0, counts > most))
  before, after = np.maximum(starts - around, 0), np.minimum(ends + around, len(counts))
  kept = (ends - starts <= longest) & (high[ends] == high[starts])
  kept &= (zeros[starts] - zeros[before] == around) & (zeros[after] - zeros[ends] == around)
  return _filled(starts[kept], ends[kept], len(counts))


def _near(observed: Bool[np.ndarray, "t"], steps: int) -> Bool[np.ndarray, "t"]:
  """Steps at most `steps` from an observed one."""
  places = np.flatnonzero(observed)
  return _filled(np.maximum(places - steps, 0), np.minimum(places + steps + 1, len(observed)), len(observed))
