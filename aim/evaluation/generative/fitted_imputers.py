"""Imputers that learn from the training people with scikit-learn: nearest neighbours and chained equations.

A row is a stretch of BLOCK_MINUTES of a day: the channels' means in it, the nearest observed means before and after it,
and the time of day. So a row knows other channels at its time and the same channel around it, however long the gap. The
imputers are fitted on a bounded random sample of rows of training people, in which nothing is hidden but what the
sensors lost, and fill each hidden cell with the mean that they expect of its stretch.
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

BLOCK_MINUTES = 10
DAYS = 100  # of training people, at most, that rows are drawn from
NEIGHBOURS = 10
FITTED = ("knn", "mice")


class FittedImputer:
  """KNN (Troyanskaya et al. 2001) or MICE (van Buuren 1999, without draws), fitted on rows of days."""

  def __init__(self, name: str, days: Float[np.ndarray, "d s c"], rows: int, seed: int):
    """Fits on at most `rows` rows of `days`, z-scores with NaN where missing."""
    self.block = block_steps(days.shape[1])
    table = features(days, self.block).reshape(-1, 3 * days.shape[2] + 2)
    known = np.flatnonzero(~np.isnan(table[:, : days.shape[2]]).all(axis=1))
    chosen = np.random.default_rng(seed).permutation(known)[:rows]
    if name == "knn":
      self.model = KNNImputer(n_neighbors=NEIGHBOURS, weights="distance", keep_empty_features=True)
    else:
      self.model = IterativeImputer(max_iter=5, random_state=seed, keep_empty_features=True)
    with warnings.catch_warnings():
      warnings.simplefilter("ignore", ConvergenceWarning)  # five rounds are its definition here
      self.model.fit(table[chosen])

  def __call__(self, z: Float[np.ndarray, "d s c"], wanted: Bool[np.ndarray, "d s c"]) -> Float[np.ndarray, "d s c"]:
    """z with its wanted holes filled; other holes get 0, the training mean."""
    days, _, channels = z.shape
    of_blocks = wanted.reshape(days, -1, self.block, channels).any(axis=(2, 3))
    expected = np.zeros((*of_blocks.shape, channels), z.dtype)
    if of_blocks.any():
      table = features(z, self.block)[of_blocks]
      expected[of_blocks] = self.model.transform(table)[:, :channels]
    return np.where(np.isnan(z), np.repeat(expected, self.block, axis=1), z)


def fitted(names: Sequence[str], days: Float[np.ndarray, "d s c"], rows: int, seed: int) -> dict[str, FittedImputer]:
  return {name: FittedImputer(name, days, rows, seed) for name in names}


def block_steps(steps: int) -> int:
  """Steps of a stretch: BLOCK_MINUTES, as nearly as steps divide it and the day."""
  wanted = max(1, steps * BLOCK_MINUTES // 1440)
  return next(block for block in range(wanted, 0, -1) if steps % block == 0)


def features(z: Float[np.ndarray, "d s c"], block: int) -> Float[np.ndarray, "d b f"]:
  """[days, blocks, 3 * channels + 2]: means, nearest means before and after, sine and cosine of the time of day."""
  days, steps, channels = z.shape
  blocks = z.reshape(days, -1, block, channels)
  count = (~np.isnan(blocks)).sum(axis=2)
  means = np.where(count > 0, np.nansum(blocks, axis=2) / np.maximum(count, 1), np.nan)
  nothing = np.full((days, 1, channels), np.nan)
  before = np.concatenate([nothing, _carried(means)[:, :-1]], axis=1)
  after = np.concatenate([_carried(means[:, ::-1])[:, ::-1][:, 1:], nothing], axis=1)
  angle = 2 * np.pi * (np.arange(steps // block) + 0.5) / (steps // block)
  clock = np.broadcast_to(np.stack([np.sin(angle), np.cos(angle)], axis=-1), (days, steps // block, 2))
  return np.concatenate([means, before, after, clock], axis=-1)


def _carried(means: np.ndarray) -> np.ndarray:
  """[D, B, C] with each mean carried forward; NaN before the first."""
  seen = np.maximum.accumulate(~np.isnan(means), axis=1)
  return np.where(seen, imputers.locf(means), np.nan)
