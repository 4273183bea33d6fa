"""Fits of L(x) = a x^-b + c recover what made-up data were made of."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aim.studies.scaling import power_law
from aim.studies.scaling.power_law import Power


def interval(x, y, draws, seed=0):
  """The fit with its own misfit's intervals."""
  law = power_law.fit(x, y)
  return law, *power_law.intervals(law, x, y, draws, *power_law.misfit(law, x, y), seed)


numbers = {"a": st.floats(0.05, 20), "b": st.floats(0.03, 1.5), "c": st.floats(0, 2)}


@settings(max_examples=15, deadline=None)
@given(**numbers, first=st.sampled_from([1.0, 24.0, 1e12]))
def test_exact_data_give_the_exponent_within_5_percent(a, b, c, first):
  x = first * np.geomspace(1, 300, 7)
  law = Power(a * first**b, b, c)
  fitted = power_law.fit(x, law(x))
  assert fitted.b == pytest.approx(b, rel=0.05)
  np.testing.assert_allclose(fitted(x), law(x), rtol=1e-4)


@pytest.mark.parametrize("b", [0.12, 0.3, 0.7])
def test_noisy_data_give_the_exponent_within_5_percent(b):
  x = np.geomspace(10, 1e5, 60)
  law = Power(2.0, b, 0.3)
  y = law(x) * np.exp(np.random.default_rng(3).normal(0, 0.003, len(x)))
  fitted, low, high = interval(x, y, np.tile(y, (40, 1)))
  assert fitted.b == pytest.approx(b, rel=0.05)
  assert low.b < fitted.b < high.b and low.c < fitted.c < high.c
  assert high.b - low.b < 0.2 * b


@pytest.mark.slow
def test_intervals_hold_the_truth_as_often_as_they_say():
  x, law, rng = np.geomspace(10, 1000, 6), Power(1.0, 0.4, 0.5), np.random.default_rng(0)
  inside = []
  for seed in range(16):
    y = law(x) * np.exp(rng.normal(0, 0.01, len(x)))
    _, low, high = interval(x, y, np.tile(y, (25, 1)), seed)
    inside.append(low.b <= law.b <= high.b)
  assert np.mean(inside) > 0.8, "about 95 % of them; few points and few draws make it less"


def test_who_is_scored_widens_the_intervals():
  x, law = np.geomspace(10, 1000, 6), Power(1.0, 0.4, 0.5)
  people = np.random.default_rng(0).normal(0, 0.1, (40, 1))  # harder and easier people, the same for all points
  _, low, high = interval(x, law(x), law(x) * np.exp(people))
  assert high.c - low.c > 0.1
  assert low.b == pytest.approx(0.4, rel=1e-3) and high.b == pytest.approx(0.4, rel=1e-3), "the shape is the same"


def test_a_loss_that_rises_or_stays():
  x = np.geomspace(1, 100, 6)
  assert power_law.fit(x, 0.5 + 0.1 * x**0.3).b < 0
  flat = power_law.fit(x, np.full(6, 0.7))
  np.testing.assert_allclose(flat(x), 0.7, rtol=1e-6)


def test_too_few_points_are_no_curve():
  with pytest.raises(ValueError, match="3 different points, a fit needs 4"):
    power_law.fit([1, 2, 3, 3], [4, 3, 2, 2])
  with pytest.raises(ValueError, match="numbers above 0"):
    power_law.fit([1, 2, 3, 4], [4, 3, 2, np.nan])


@settings(max_examples=50)
@given(st.lists(st.tuples(st.integers(1, 9), st.integers(1, 9)), min_size=1, max_size=12))
def test_the_front_is_what_nothing_beats(runs):
  cost, loss = (np.array(column, float) for column in zip(*runs, strict=True))
  envelope = power_law.front(cost, loss)
  assert (np.diff(cost[envelope]) > 0).all() and (np.diff(loss[envelope]) < 0).all()
  for i in range(len(cost)):
    cheaper = [k for k in envelope if cost[k] <= cost[i]]
    assert min(loss[cheaper]) <= loss[i], "of every run there is one on the front as cheap and as good"
