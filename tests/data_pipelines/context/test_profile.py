"""Profiles against NumPy, and the choice of the nearest days against its definition."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_pipelines.context.profile import Profile, nearest, profiles_of_rows

SHAPE = (4, 2)


def days(count: int, seed: int = 0) -> np.ndarray:
  rng = np.random.default_rng(seed)
  values = rng.normal(60, 10, (count, *SHAPE)).astype(np.float32)
  values[rng.random(values.shape) < 0.4] = np.nan
  return values


def mean_and_number(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """Step by step, in float64."""
  mean, number = np.full(SHAPE, np.nan), np.zeros(SHAPE, int)
  for place in np.ndindex(SHAPE):
    seen = [float(day[place]) for day in values if not np.isnan(day[place])]
    number[place] = len(seen)
    mean[place] = sum(seen) / len(seen) if seen else np.nan
  return mean, number


@given(st.integers(0, 30), st.data(), st.integers(0, 40))
def test_the_nearest_days_are_the_nearest(count, data, most):
  """Never the day itself; no day that is left out is nearer than one that is taken, or as near and earlier."""
  places = [10 * i + 3 for i in range(count + 1)]
  own = data.draw(st.integers(0, count))
  taken = nearest(places, own, most)
  assert taken == sorted({*taken}) and {*taken} <= {*places} - {places[own]}
  assert len(taken) == min(most, count)
  rank = lambda place: (abs(places.index(place) - own), place)
  left = {*places} - {*taken, places[own]}
  assert not taken or not left or max(map(rank, taken)) < min(map(rank, left))


@pytest.mark.parametrize("count", [0, 1, 3, 255])
def test_a_profile_is_the_mean_of_what_was_observed(count):
  values = days(count)
  profile = Profile.of(values, SHAPE)
  mean, number = mean_and_number(values)
  assert profile.mean.dtype == np.float32 and profile.days.dtype == np.uint8
  np.testing.assert_array_equal(profile.days, number)
  np.testing.assert_allclose(profile.mean, mean, rtol=1e-6)


@settings(max_examples=30)
@given(st.lists(st.integers(0, 3), min_size=1, max_size=12), st.integers(1, 5), st.integers(0, 100))
def test_rows_have_the_days_of_their_person_but_never_themselves(people, most, seed):
  """Changing a day, even to nothing, changes the profiles of others but not its own."""
  values, row = days(len(people), seed), seed % len(people)
  profile = profiles_of_rows(values, people, most)
  for i, person in enumerate(people):
    rows = [j for j, other in enumerate(people) if other == person and (j == i or not np.isnan(values[j]).all())]
    others = nearest(rows, rows.index(i), most)
    mean, number = mean_and_number(values[others])
    np.testing.assert_array_equal(profile.days[i], number)
    np.testing.assert_allclose(profile.mean[i], mean, rtol=1e-6)
  changed = values.copy()
  changed[row] = np.where(np.isnan(values[row]), 5, np.nan)
  after = profiles_of_rows(changed, people, most)
  np.testing.assert_array_equal(after.mean[row], profile.mean[row])
  np.testing.assert_array_equal(after.days[row], profile.days[row])
  others = [i for i, person in enumerate(people) if person != people[row]]
  np.testing.assert_array_equal(after.at(others).mean, profile.at(others).mean)


def test_a_day_of_nothing_takes_no_place_of_another():
  values = days(6)
  values[[1, 4]] = np.nan
  recorded = [0, 2, 3, 5]
  profile, expected = profiles_of_rows(values, ["a"] * 6, 1), profiles_of_rows(values[recorded], ["a"] * 4, 1)
  np.testing.assert_array_equal(profile.at(recorded).mean, expected.mean)
  for row, nearest_row in ((1, 0), (4, 3)):
    np.testing.assert_array_equal(profile.mean[row], values[nearest_row])


def test_dates_say_which_days_are_near():
  values = np.arange(4, dtype=np.float32)[:, None, None] * np.ones((1, *SHAPE), np.float32)
  dates = ["2024-03-01", "2024-01-01", "2024-01-02", "2024-02-01"]
  by_date = profiles_of_rows(values, ["a"] * 4, 1, dates)
  assert by_date.mean[:, 0, 0].tolist() == [3, 2, 1, 2]
  assert profiles_of_rows(values, ["a"] * 4, 1).mean[:, 0, 0].tolist() == [1, 0, 1, 2]


def test_no_days_have_no_profiles():
  profile = profiles_of_rows(days(0), [], 2, [])
  assert profile.mean.shape == profile.days.shape == (0, *SHAPE) and profile.known.shape == (0,)


def test_a_profile_is_known_where_a_day_has_a_value():
  values = days(3)
  values[1] = np.nan
  assert profiles_of_rows(values, ["a", "a", "b"], 2).known.tolist() == [False, True, False]
