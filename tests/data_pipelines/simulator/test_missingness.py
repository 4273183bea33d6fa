"""Simulated losses: shares and gaps near the published ones, and modes with their own sensors and reasons."""

from __future__ import annotations

import numpy as np

from data_pipelines.simulator.activities import ACTIVITIES
from data_pipelines.simulator.missingness import gap_lengths
from data_pipelines.source import MISSINGNESS_MODES
from tests.data_pipelines.simulator.cohort import INDEX, SENSORS, Cohort


def test_values_are_nan_where_a_cause_is_given_and_untouched_elsewhere(cohort: Cohort) -> None:
  missing = cohort.cause > 0
  assert np.array_equal(np.isnan(cohort.values), missing)
  assert np.array_equal(cohort.values[~missing], cohort.truth[~missing])
  assert np.isfinite(cohort.truth).all()
  assert set(np.unique(cohort.cause)) == set(range(len(MISSINGNESS_MODES) + 1))


def test_missing_share_of_a_day_is_near_the_published(cohort: Cohort) -> None:
  shares = 100 * (cohort.cause > 0).mean(axis=(2, 3))
  assert abs(shares.mean() - 49) < 3 and abs(np.median(shares) - 48) < 3 and abs(shares.std() - 15) < 2.5
  assert shares.min() >= 2 and shares.max() <= 80


def test_people_differ_in_what_they_lose(cohort: Cohort) -> None:
  shares = (cohort.cause > 0).mean(axis=(2, 3))
  assert 0.2 < np.corrcoef(shares[:, 0], shares[:, 1])[0, 1] < 0.8


def test_gaps_of_the_whole_device_have_real_lengths(cohort: Cohort) -> None:
  """The wear masks of NHANES have 2.07 gaps per day, with median 284 and 90th percentile 592 minutes."""
  lengths = gap_lengths((cohort.cause > 0).all(axis=3).reshape(-1, 1440))
  assert 1.5 < len(lengths) / cohort.simulation.n_days < 3
  assert 140 < np.median(lengths) < 350 and 400 < np.percentile(lengths, 90) < 700


def test_each_mode_hits_its_own_sensors(cohort: Cohort) -> None:
  allowed = {
    "motion_artefact": {"PPG"},
    "loose_fit": {"PPG", "EDA", "TEMP"},
    "environment": {"EDA", "TEMP", "ALT"},
  }
  for code, mode in enumerate(MISSINGNESS_MODES, start=1):
    lost = cohort.cause == code
    assert set(SENSORS[lost.any(axis=(0, 1, 2))]) == allowed.get(mode, {"PPG", "ACC", "ALT", "EDA", "TEMP"})
    assert lost.mean() > 0.002, mode
  off = np.isin(cohort.cause, (1, 2)).any(axis=3)
  assert (cohort.cause[off] > 0).all()  # a device that is not worn records nothing


def test_modes_have_their_reasons(cohort: Cohort) -> None:
  artefact = (cohort.cause == 4).any(axis=3)
  energy = cohort.truth[..., INDEX["log_energy"]]
  assert energy[artefact].mean() > 2 * energy.mean()
  loose, contact = (cohort.cause == 3).any(axis=3), cohort.truth[..., INDEX["lead_contact_counts"]]
  assert contact[loose].mean() < contact.mean() - 30
  saved = cohort.cause == 5
  assert np.median(gap_lengths(saved.any(axis=3).reshape(-1, 1440))) > 60
  exercise = np.any([cohort.minutes(activity.name) for activity in ACTIVITIES], axis=0)
  exposed = (cohort.cause == 6).any(axis=3)
  assert exercise[exposed].mean() > 2 * exercise.mean()


def test_gap_lengths_counts_runs() -> None:
  rows = np.array([[1, 1, 0, 1], [0, 0, 0, 0], [1, 1, 1, 1]], bool)
  assert gap_lengths(rows).tolist() == [2, 1, 4]
