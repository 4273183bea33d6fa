"""The channels before any loss: marginals near the reference, and couplings as in real physiology."""

from __future__ import annotations

import numpy as np
import pytest

from data_pipelines.lsm2_schema import LSM2_REFERENCE, LSM2_SCHEMA
from data_pipelines.simulator.simulation import Simulation
from tests.data_pipelines.simulator.cohort import INDEX, SENSORS, Cohort


@pytest.mark.parametrize("name", LSM2_SCHEMA.names)
def test_marginals_are_near_the_reference(cohort: Cohort, name: str) -> None:
  mean, sd = LSM2_REFERENCE[name]
  values = cohort.values[..., INDEX[name]].astype(np.float64)
  assert abs(np.nanmean(values) - mean) < 0.35 * sd
  assert 0.6 < np.nanstd(values) / sd < 1.6


def test_a_run_against_rest(cohort: Cohort) -> None:
  run, rest = cohort.minutes("run", after=12), cohort.rest
  assert run.sum() > 200
  truth = cohort.truth

  def contrast(name: str) -> float:
    return float((truth[run, INDEX[name]].mean() - truth[rest, INDEX[name]].mean()) / LSM2_REFERENCE[name][1])

  for name in ("heart_rate", "step_count", "log_energy", "sleep_coefficient", "skin_conductance_level"):
    assert contrast(name) > 0.8, name
  assert contrast("skin_temperature") > 0.3
  lowered = ("rmssd", "sdnn", "rr_median", "rr_percent_valid", "shannon_entropy_rr", "shannon_entropy_rr_differences")
  for name in lowered:
    assert contrast(name) < -0.5, name
  assert truth[run, INDEX["step_count"]].mean() > 130 and truth[run, INDEX["heart_rate"]].mean() > 120


def test_heart_rate_relaxes_after_a_run(cohort: Cohort) -> None:
  curves = []
  for p, person in enumerate(cohort.people):
    for event in person.events:
      if event.name == "run" and event.end + 30 < 1440 and event.end - event.start > 15:
        curves.append(cohort.truth[p, event.day, event.end - 1 : event.end + 30, INDEX["heart_rate"]])
  curve = np.mean(curves, axis=0)
  left = (curve - curve[-5:].mean()) / (curve[0] - curve[-5:].mean())
  assert left[1] > 0.5 and 0.1 < left[3] < 0.5 and left[12] < 0.15


def test_sleep_against_waking(cohort: Cohort) -> None:
  sleep, rest = cohort.minutes("sleep"), cohort.rest
  for name, sign in (
    ("heart_rate", -1),
    ("rmssd", 1),
    ("rr_percent_valid", 1),
    ("sleep_coefficient", -1),
    ("skin_temperature", 1),
  ):
    difference = cohort.truth[sleep, INDEX[name]].mean() - cohort.truth[rest, INDEX[name]].mean()
    assert sign * difference / LSM2_REFERENCE[name][1] > 0.25, name
  assert cohort.truth[sleep, INDEX["step_count"]].mean() < 0.3


def test_intervals_follow_the_rate_and_each_other(cohort: Cohort) -> None:
  calm = cohort.rest | cohort.minutes("sleep")
  day = cohort.truth[calm]
  assert np.corrcoef(60000 / day[:, INDEX["heart_rate"]], day[:, INDEX["rr_median"]])[0, 1] > 0.95
  everywhere = cohort.truth.reshape(-1, 26)
  below = everywhere[:, INDEX["rr_20th_percentile"]] < everywhere[:, INDEX["rr_median"]]
  assert below.all() and (everywhere[:, INDEX["rr_median"]] < everywhere[:, INDEX["rr_80th_percentile"]]).all()
  assert np.corrcoef(np.log(day[:, INDEX["sdnn"]]), day[:, INDEX["shannon_entropy_rr"]])[0, 1] > 0.8
  assert np.corrcoef(np.log(day[:, INDEX["rmssd"]]), day[:, INDEX["shannon_entropy_rr_differences"]])[0, 1] > 0.8


def test_the_temperature_slope_is_the_change_of_temperature(cohort: Cohort) -> None:
  temperature, slope = cohort.truth[..., INDEX["skin_temperature"]], cohort.truth[..., INDEX["skin_temperature_slope"]]
  unclipped = (temperature > 20.5) & (temperature < 38.5)
  within = unclipped[..., 1:] & unclipped[..., :-1]
  assert np.allclose(np.diff(temperature, axis=2)[within] * 60 + 0.27, slope[..., 1:][within], atol=0.01)


def test_values_are_continuous_over_midnight() -> None:
  simulation = Simulation(40, 3, seed=5)
  rates = np.stack([simulation.truth(p)[..., INDEX["heart_rate"]] for p in simulation.participants])
  across = np.abs(rates[:, 1:, 0] - rates[:, :-1, -1]).mean()
  assert across < 1.5 * np.abs(np.diff(rates[:, :, :60], axis=2)).mean()


def test_other_sensors_predict_a_lost_channel(cohort: Cohort) -> None:
  """R^2 of a linear fit on the channels of the other sensors, on held-out people."""
  scaled = np.stack([(cohort.truth[..., c] - m) / s for c, (m, s) in enumerate(LSM2_REFERENCE.values())], axis=-1)
  train, test = scaled[:150, :, ::7].reshape(-1, 26), scaled[150:, :, ::7].reshape(-1, 26)
  floor = {"heart_rate": 0.35, "rr_percent_valid": 0.3, "log_energy": 0.4, "sleep_coefficient": 0.3}
  for name, least in floor.items():
    c = INDEX[name]
    others = SENSORS[c] != SENSORS
    x = np.column_stack([train[:, others], np.ones(len(train))])
    fit = np.linalg.lstsq(x, train[:, c], rcond=None)[0]
    guess = np.column_stack([test[:, others], np.ones(len(test))]) @ fit
    assert 1 - np.var(test[:, c] - guess) / np.var(test[:, c]) > least, name


def test_traits_shape_physiology(cohort: Cohort) -> None:
  labels = [person.labels for person in cohort.people]
  design = np.column_stack(
    [
      np.ones(len(labels)),
      [(label["age"] - 45) / 10 for label in labels],
      [label["sex"] == "F" for label in labels],
      [(label["bmi"] - 27) / 5 for label in labels],
      [label["hypertension"] for label in labels],
      [label["anxiety"] for label in labels],
      [label["fitness"] for label in labels],
    ]
  )
  sleep = cohort.minutes("sleep")

  def effects(name: str, where: np.ndarray, log: bool) -> dict[str, float]:
    """t value of each trait in a regression of people's means."""
    x = np.log(cohort.truth[..., INDEX[name]]) if log else cohort.truth[..., INDEX[name]].astype(float)
    y = np.array([a[b].mean() for a, b in zip(x, where, strict=True)])
    beta = np.linalg.lstsq(design, y, rcond=None)[0]
    noise = np.sum((y - design @ beta) ** 2) / (len(y) - design.shape[1])
    t = beta / np.sqrt(noise * np.diag(np.linalg.inv(design.T @ design)))
    return dict(zip(("one", "age", "female", "bmi", "hypertension", "anxiety", "fitness"), t, strict=True))

  rate = effects("heart_rate", sleep, log=False)
  assert rate["fitness"] < -3 and rate["hypertension"] > 1.5 and rate["anxiety"] > 1.5 and rate["bmi"] > 1
  variability = effects("rmssd", sleep, log=True)
  assert variability["age"] < -4 and variability["hypertension"] < -2 and variability["anxiety"] < -1.5
  assert effects("skin_conductance_level", sleep, log=True)["anxiety"] > 1.5
  prevalence = np.mean([[label["hypertension"], label["anxiety"]] for label in labels], axis=0)
  assert 0.2 < prevalence[0] < 0.5 and 0.1 < prevalence[1] < 0.35
  assert all(18 <= label["age"] <= 85 and 16 < label["bmi"] < 56 and label["sex"] in ("F", "M") for label in labels)
