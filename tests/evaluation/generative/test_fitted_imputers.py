"""KNN and MICE use the other channels, and KNN equals a slow search."""

import numpy as np
import pytest

from aim.evaluation.generative import fitted_imputers


def rhythm(days: int, seed: int, steps: int = 144) -> np.ndarray:
  """Two channels, the second twice the first; the first has noise."""
  rng = np.random.default_rng(seed)
  clock = 2 * np.pi * np.arange(steps) / steps
  first = np.sin(clock + rng.uniform(0, 6, (days, 1))) + 0.05 * rng.normal(size=(days, steps))
  return np.stack([first, 2 * first], axis=-1).astype(np.float32)


@pytest.mark.parametrize("name", fitted_imputers.FITTED)
def test_fitted_imputers_use_the_other_channel(name):
  impute = fitted_imputers.FittedImputer(name, rhythm(20, 0), rows=500, seed=0)
  truth = rhythm(3, 1)
  holed = truth.copy()
  holed[:, :, 1] = np.nan
  scored = np.isnan(holed)
  filled = impute(holed, scored)
  assert filled.dtype == truth.dtype and np.isfinite(filled).all()
  np.testing.assert_array_equal(filled[~scored], truth[~scored])
  assert np.mean((filled - truth)[scored] ** 2) < 0.05 * np.var(truth[scored])
  assert impute(holed, scored).tobytes() == filled.tobytes()


def test_nearest_neighbours_equal_a_slow_search():
  train, day = rhythm(8, 0), rhythm(1, 1)
  day[0, 50:60, 0] = np.nan
  impute = fitted_imputers.FittedImputer("knn", train, rows=10**6, seed=0)
  filled = impute(day, np.isnan(day))
  rows = fitted_imputers.features(train, 1).reshape(-1, 8)
  day_rows = fitted_imputers.features(day, 1)[0]
  for step in range(50, 60):
    both = ~np.isnan(rows) & ~np.isnan(day_rows[step])
    squares = np.where(both, (rows - day_rows[step]) ** 2, 0).sum(axis=1) * 8 / both.sum(axis=1)
    nearest = np.argsort(squares, kind="stable")[: fitted_imputers.NEIGHBOURS]
    weights = 1 / np.sqrt(squares[nearest])
    assert filled[0, step, 0] == pytest.approx((weights * rows[nearest, 0]).sum() / weights.sum(), rel=1e-3, abs=1e-3)
