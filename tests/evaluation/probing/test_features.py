"""Hand-made features: NumPy's NaN statistics to the last bit, without their warnings."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

from aim.evaluation.probing import features


@pytest.mark.parametrize("missing", [0.0, 0.3, 0.95, 1.0])
@pytest.mark.parametrize("shape", [(3, 60, 5), (2, 61, 1), (5, 1, 3)])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_mean_and_sd_are_numpys(shape, missing, dtype):
  rng = np.random.default_rng(0)
  values = rng.normal(60, 20, shape).astype(dtype)
  values[rng.random(shape) < missing] = np.nan
  with warnings.catch_warnings():
    warnings.simplefilter("ignore", RuntimeWarning)  # NumPy warns where nothing was observed
    mean, sd = np.nanmean(values, axis=1), np.nanstd(values, axis=1)
  with warnings.catch_warnings():
    warnings.simplefilter("error")
    ours = features.observed_mean(values, 1), features.observed_sd(values, 1)
  np.testing.assert_array_equal(ours[0], mean)
  np.testing.assert_array_equal(ours[1], sd)
  assert ours[0].dtype == ours[1].dtype == dtype


def test_features_of_days_and_windows_with_holes_raise_no_warning():
  values = np.arange(2 * 48 * 2, dtype=np.float32).reshape(2, 48, 2)
  values[0, :6] = np.nan
  values[1, :, 1] = np.nan
  day, start, end = np.array([0, 1]), np.array([0, 4]), np.array([3, 8])
  with warnings.catch_warnings():
    warnings.simplefilter("error")
    hourly, window = features.hourly(values), features.window(values, day, start, end)
  assert hourly.shape == (2, 24 * 2 * 3) and window.shape == (2, 2 * 2 * 3 + 3)
  assert np.isnan(hourly[0, :6]).all() and hourly[0, 6] == np.float32(13)  # steps 6 and 7 of the first channel
  assert np.isnan(window[0, :4]).all() and window[0, 4:6].tolist() == [0, 0]
  np.testing.assert_allclose(window[1, :4], [105 + 2, np.nan, np.std([104, 106, 108, 110]), np.nan])
