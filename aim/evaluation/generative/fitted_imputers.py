"""Imputers that learn from the training people with scikit-learn: nearest neighbours and chained equations.

A row of their table is a stretch of STRETCH_MINUTES of a day: the channels' means in it, the nearest observed means
before and after it, and the time of day. A row therefore knows the other channels at its time and the same channel
around it, however long the gap. The imputers are fitted on a bounded random sample of rows of training people, in which
only what the sensors lost is missing, and fill each hidden value with the mean that they expect of its stretch.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float
from sklearn.exceptions import ConvergenceWarning
from sklearn.experimental import enable_iterative_imputer  # noqa: F401
from sklearn.impute import IterativeImputer, KNNImputer

from aim.evaluation.generative import imputers

STRETCH_MINUTES = 10
DAYS = 100  # days of training people that rows are drawn from, at most
NEIGHBOURS = 10
FITTED = ("knn", "mice")


class FittedImputer:
  """KNN (Troyanskaya et al. 2001) or MICE (van Buuren 1999, without draws), fitted on rows of days."""

  def __init__(self, name: str, days: Float[np.ndarray, "d s c"], rows: int, seed: int) -> None:
    """Fits the imputer `name`, one of FITTED, on at most `rows` rows of `days`, z-scores with NaN where missing."""
    self.stretch = stretch_steps(days.shape[1])
    table = features(days, self.stretch).reshape(-1, 3 * days.shape[2] + 2)
    known = np.flatnonzero(~np.isnan(table[:, : days.shape[2]]).all(axis=1))
    chosen = np.random.default_rng(seed).permutation(known)[:rows]
    if name == "knn":
      self.model = KNNImputer(n_neighbors=NEIGHBOURS, weights="distance", keep_empty_features=True)
    else:
      self.model = IterativeImputer(max_iter=5, random_state=seed, keep_empty_features=True)
    with warnings.catch_warnings():
      warnings.simplefilter("ignore", ConvergenceWarning)  # five rounds are its definition here
      self.model.fit(table[chosen])

  def __call__(self, z: Float[np.ndarray, "d s c"], scored: Bool[np.ndarray, "d s c"]) -> Float[np.ndarray, "d s c"]:
    """z with its holes filled in stretches with a scored value; other holes get 0, the training mean."""
    days, _, channels = z.shape
    stretches = scored.reshape(days, -1, self.stretch, channels).any(axis=(2, 3))
    expected = np.zeros((*stretches.shape, channels), z.dtype)
    if stretches.any():
      table = features(z, self.stretch)[stretches]
      expected[stretches] = self.model.transform(table)[:, :channels]
    return np.where(np.isnan(z), np.repeat(expected, self.stretch, axis=1), z)


def fit(names: Sequence[str], days: Float[np.ndarray, "d s c"], rows: int, seed: int) -> dict[str, FittedImputer]:
  """The imputers of these names, each fitted on the same days."""
  return {name: FittedImputer(name, days, rows, seed) for name in names}


def stretch_steps(steps: int) -> int:
  """Steps of a stretch: as many as fit in STRETCH_MINUTES and divide the day's steps."""
  most = max(1, steps * STRETCH_MINUTES // 1440)
  return next(length for length in range(most, 0, -1) if steps % length == 0)


def features(z: Float[np.ndarray, "d s c"], stretch: int) -> Float[np.ndarray, "d b f"]:
  """The rows of each day: means, nearest means before and after, sine and cosine of the time of day.

  Args:
    z: z-scores, NaN where missing.
    stretch: steps per row.

  Returns:
    [days, rows, 3 * channels + 2], NaN where unknown.
  """
  days, steps, channels = z.shape
  stretches = z.reshape(days, -1, stretch, channels)
  count = (~np.isnan(stretches)).sum(axis=2)
  means = np.where(count > 0, np.nansum(stretches, axis=2) / np.maximum(count, 1), np.nan)
  nothing = np.full((days, 1, channels), np.nan)
  before = np.concatenate([nothing, _carried(means)[:, :-1]], axis=1)
  after = np.concatenate([_carried(means[:, ::-1])[:, ::-1][:, 1:], nothing], axis=1)
  angle = 2 * np.pi * (np.arange(steps // stretch) + 0.5) / (steps // stretch)
  clock = np.broadcast_to(np.stack([np.sin(angle), np.cos(angle)], axis=-1), (days, steps // stretch, 2))
  return np.concatenate([means, before, after, clock], axis=-1)


def _carried(means: np.ndarray) -> np.ndarray:
  """Each mean carried forward, [D, rows, C]; NaN before the first."""
  seen = np.maximum.accumulate(~np.isnan(means), axis=1)
  return np.where(seen, imputers.locf(means), np.nan)
