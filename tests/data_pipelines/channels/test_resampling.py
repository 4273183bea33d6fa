"""Aggregation by rule over observed minutes, and longer steps as single observed ones, against slow loops."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_pipelines.channels.resampling import resample, resample_mask, spread
from data_pipelines.channels.vocabulary import RULES

CLOCKS = (1, 2, 3, 4, 5, 10, 15, 60)


def day(minutes, seed=0, missing=0.3):
  rng = np.random.default_rng(seed)
  values = rng.integers(0, 50, (2, 1440 // minutes)).astype(np.float32)
  values[rng.random(values.shape) < missing] = np.nan
  return values


def slowly(values, minutes, to, rule, min_share=0.5):
  """One step at a time over single minutes; a sum's value is spread evenly over its minutes."""
  result = np.full((len(values), 1440 // to), np.nan)
  for d in range(len(values)):
    for step in range(1440 // to):
      parts = [values[d, m // minutes] for m in range(step * to, (step + 1) * to)]
      seen = [float(x) for x in parts if not math.isnan(x)]
      if seen and len(seen) >= min_share * to:
        mean = sum(seen) / len(seen)
        result[d, step] = {"mean": mean, "sum": mean * to / minutes, "max": max(seen), "last": seen[-1]}[rule]
  return result


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("minutes, to", [(m, t) for m in CLOCKS for t in CLOCKS if m < t])
def test_longer_steps_are_aggregated_over_the_observed_minutes(minutes, to, rule):
  values = day(minutes)
  np.testing.assert_allclose(resample(values, minutes, to, rule), slowly(values, minutes, to, rule), rtol=1e-5)


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("minutes, to", [(m, t) for m in CLOCKS for t in CLOCKS if m > t])
def test_a_longer_steps_value_stands_at_one_step_and_the_others_stay_missing(minutes, to, rule):
  values = day(minutes)
  result = resample(values, minutes, to, rule)
  assert result.shape == (2, 1440 // to) and (~np.isnan(result)).sum() == (~np.isnan(values)).sum()
  for d, step in np.argwhere(~np.isnan(values)):
    expected = values[d, step] * (to / minutes if rule == "sum" else 1)
    assert result[d, step * minutes // to] == pytest.approx(expected)


def test_a_sum_with_gaps_is_scaled_and_too_few_minutes_are_missing():
  minutes = np.full((1, 1440), np.nan, np.float32)
  minutes[0, :3] = 10  # three of five minutes
  minutes[0, 5:7] = 10  # two of five
  steps = resample(minutes, 1, 5, "sum")
  assert steps[0, 0] == 50 and np.isnan(steps[0, 1:]).all()
  assert resample(minutes, 1, 5, "sum", min_share=0.4)[0, 1] == 50


def test_nothing_missing_keeps_the_sum_of_a_day():
  values = day(1, missing=0)
  for to in CLOCKS:
    np.testing.assert_allclose(resample(values, 1, to, "sum").sum(1), values.sum(1), rtol=1e-5)
    np.testing.assert_allclose(spread(resample(values, 1, to, "sum"), to, 1, "sum").sum(1), values.sum(1), rtol=1e-4)


def test_equal_clocks_return_the_values_themselves():
  values = day(5)
  assert resample(values, 5, 5, "mean") is values and spread(values, 5, 5, "sum") is values


@given(st.sampled_from(CLOCKS), st.sampled_from(CLOCKS), st.sampled_from(RULES), st.integers(0, 99))
def test_spread_leaves_nothing_missing_and_stays_in_range(minutes, to, rule, seed):
  values = day(minutes, seed, missing=0)
  result = spread(values, minutes, to, rule)
  assert result.shape == (2, 1440 // to) and not np.isnan(result).any()
  scale = to / minutes if rule == "sum" else 1
  assert (result >= values.min() * scale - 1e-4).all() and (result <= values.max() * scale + 1e-4).all()


@given(st.sampled_from(CLOCKS), st.sampled_from(CLOCKS), st.integers(0, 99))
def test_a_mask_covers_every_step_that_overlaps(minutes, to, seed):
  mask = np.isnan(day(minutes, seed))
  expected = np.repeat(mask, minutes, axis=1).reshape(2, -1, to).any(2)
  np.testing.assert_array_equal(resample_mask(mask, minutes, to), expected)
