"""The simulated cohort: reproducible, coupled as physiology is, and as full of holes as published."""

from __future__ import annotations

import dataclasses
import datetime

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_pipelines.lsm2_schema import LSM2_ACTIVITIES, LSM2_REFERENCE, LSM2_SCHEMA
from data_pipelines.simulator import Simulation
from data_pipelines.simulator.activities import ACTIVITIES
from data_pipelines.simulator.filters import relax, wander
from data_pipelines.simulator.missingness import gap_lengths
from data_pipelines.source import MISSINGNESS_MODES, Person

C = {name: c for c, name in enumerate(LSM2_SCHEMA.names)}
SENSORS = np.array([channel.sensor for channel in LSM2_SCHEMA.channels])


@dataclasses.dataclass(frozen=True)
class Cohort:
  simulation: Simulation
  people: list[Person]
  truth: np.ndarray  # [people, days, 1440, 26]
  values: np.ndarray
  cause: np.ndarray

  def minutes(self, name: str, after: int = 0) -> np.ndarray:
    """bool [people, days, 1440]: inside events called `name`, `after` minutes or more after their start."""
    inside = np.zeros(self.values.shape[:3], bool)
    for p, person in enumerate(self.people):
      for event in person.events:
        if event.name == name:
          inside[p, event.day, event.start + after : event.end] = True
    return inside

  @property
  def rest(self) -> np.ndarray:
    """bool [people, days, 1440]: awake, outside every event and an hour after it, few steps."""
    busy = np.zeros(self.values.shape[:3], bool)
    for p, person in enumerate(self.people):
      for event in person.events:
        busy[p, event.day, event.start : event.end + 60] = True
    return ~busy & (self.truth[..., C["step_count"]] < 5)


@pytest.fixture(scope="module")
def cohort() -> Cohort:
  simulation = Simulation(participants=220, days=2, seed=7)
  people = [simulation.person(participant) for participant in simulation.participants]
  truth = np.stack([simulation.truth(participant) for participant in simulation.participants])
  values = np.stack([np.stack([day.values for day in person.days]) for person in people])
  cause = np.stack([np.stack([day.cause for day in person.days]) for person in people])
  return Cohort(simulation, people, truth, values, cause)


def same(a: Person, b: Person) -> bool:
  days = [
    np.array_equal(x.values, y.values, equal_nan=True) and np.array_equal(x.cause, y.cause) and x.date == y.date
    for x, y in zip(a.days, b.days, strict=True)
  ]
  return all(days) and a.labels == b.labels and a.events == b.events and a.participant == b.participant


# A person is a function of the seed and the index.


def test_repeats_exactly_in_any_order_and_number() -> None:
  few, many = Simulation(10, 2, seed=3), Simulation(1000, 2, seed=3)
  forwards = {p: few.person(p) for p in few.participants[:4]}
  backwards = {p: many.person(p) for p in reversed(few.participants[:4])}
  assert all(same(forwards[p], backwards[p]) for p in forwards)
  assert many.participants[:10] == few.participants
  assert many.n_days == 2000 and many.participants[999] == "sim000999"


def test_seeds_and_people_differ() -> None:
  a, b = Simulation(2, 1, seed=3), Simulation(2, 1, seed=4)
  assert not same(a.person("sim000000"), b.person("sim000000"))
  assert a.person("sim000000").labels != a.person("sim000001").labels


def test_labels_do_not_depend_on_the_number_of_days() -> None:
  one, three = Simulation(5, 1, seed=0), Simulation(5, 3, seed=0)
  assert [one.person(p).labels for p in one.participants] == [three.person(p).labels for p in three.participants]
  assert len(three.person("sim000001").days) == 3


@pytest.mark.parametrize("arguments", [(0, 1, 0), (1, 0, 0), (1, 1, -1)])
def test_refuses_bad_sizes(arguments: tuple[int, int, int]) -> None:
  with pytest.raises(ValueError, match=r"^simulation: \w+ is -?\d+, expected at least \d$"):
    Simulation(*arguments)


def test_refuses_unknown_people() -> None:
  with pytest.raises(ValueError, match="unknown participant 'sim000003', expected sim000000 to sim000002"):
    Simulation(3, 1, 0).person("sim000003")


# Schema, records, events.


def test_schema_is_the_published_table(cohort: Cohort) -> None:
  schema = cohort.simulation.schema
  assert schema is LSM2_SCHEMA and schema.steps == 1440 and len(schema.channels) == 26
  assert not schema.binary.any()
  assert [int((s == SENSORS).sum()) for s in ("PPG", "ACC", "ALT", "EDA", "TEMP")] == [10, 10, 1, 3, 2]
  assert schema.names[0] == "heart_rate" and schema.names[25] == "skin_temperature_slope"
  for person in cohort.people[:20]:
    for day in person.days:
      schema.check(day.values, day.participant)
      assert day.values.dtype == np.float32 and day.cause.dtype == np.uint8


def test_days_are_consecutive_dates(cohort: Cohort) -> None:
  weekdays = set()
  for person in cohort.people:
    dates = [datetime.date.fromisoformat(day.date) for day in person.days]
    assert [day.day for day in person.days] == [0, 1] and (dates[1] - dates[0]).days == 1
    weekdays |= {date.weekday() for date in dates}
  assert weekdays == set(range(7))


def test_events_lie_within_their_day_and_do_not_overlap(cohort: Cohort) -> None:
  for person in cohort.people:
    for event in person.events:
      assert 0 <= event.start < event.end <= 1440
      assert event.date == person.days[event.day].date and event.participant == person.participant
    for a, b in zip(person.events[:-1], person.events[1:], strict=True):
      assert b.day > a.day or b.start >= a.end
    assert {event.day for event in person.events if event.name == "sleep"} == {0, 1}


def test_every_activity_occurs_under_its_published_name() -> None:
  published = (
    "walk, bike, sports, run, aerobics, elliptical, spinning, weightlifting, swim, hike, tennis, CrossFit, pilates, "
    "stairclimber, dancing, indoor climbing, golf, skiing, snowboarding, kayaking"
  )
  assert [activity.name for activity in ACTIVITIES] == published.split(", ")
  simulation = Simulation(60, 14, seed=1)
  found = {event.name for p in simulation.participants for event in simulation.person(p).events}
  assert found == {*published.split(", "), "sleep"}


# What is lost, and why.


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
  """NHANES wear masks: 2.07 a day, median 284 minutes, 90th percentile 592."""
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
    mine = cohort.cause == code
    assert set(SENSORS[mine.any(axis=(0, 1, 2))]) == allowed.get(mode, {"PPG", "ACC", "ALT", "EDA", "TEMP"})
    assert mine.mean() > 0.002, mode
  off = np.isin(cohort.cause, (1, 2)).any(axis=3)
  assert (cohort.cause[off] > 0).all()  # a device that is not worn senses nothing


def test_modes_have_their_reasons(cohort: Cohort) -> None:
  artefact = (cohort.cause == 4).any(axis=3)
  energy = cohort.truth[..., C["log_energy"]]
  assert energy[artefact].mean() > 2 * energy.mean()
  loose, contact = (cohort.cause == 3).any(axis=3), cohort.truth[..., C["lead_contact_counts"]]
  assert contact[loose].mean() < contact.mean() - 30
  saved = cohort.cause == 5
  assert np.median(gap_lengths(saved.any(axis=3).reshape(-1, 1440))) > 60
  exercise = np.any([cohort.minutes(activity.name) for activity in ACTIVITIES], axis=0)
  exposed = (cohort.cause == 6).any(axis=3)
  assert exercise[exposed].mean() > 2 * exercise.mean()


def test_gap_lengths_counts_runs() -> None:
  rows = np.array([[1, 1, 0, 1], [0, 0, 0, 0], [1, 1, 1, 1]], bool)
  assert gap_lengths(rows).tolist() == [2, 1, 4]


# Channels: marginals and couplings.


@pytest.mark.parametrize("name", LSM2_SCHEMA.names)
def test_marginals_are_near_the_reference(cohort: Cohort, name: str) -> None:
  mean, sd = LSM2_REFERENCE[name]
  found = cohort.values[..., C[name]].astype(np.float64)
  assert abs(np.nanmean(found) - mean) < 0.35 * sd
  assert 0.6 < np.nanstd(found) / sd < 1.6


def test_a_run_against_rest(cohort: Cohort) -> None:
  run, rest = cohort.minutes("run", after=12), cohort.rest
  assert run.sum() > 200
  truth = cohort.truth

  def contrast(name: str) -> float:
    return float((truth[run, C[name]].mean() - truth[rest, C[name]].mean()) / LSM2_REFERENCE[name][1])

  for name in ("heart_rate", "step_count", "log_energy", "sleep_coefficient", "skin_conductance_level"):
    assert contrast(name) > 0.8, name
  assert contrast("skin_temperature") > 0.3
  lowered = ("rmssd", "sdnn", "rr_median", "rr_percent_valid", "shannon_entropy_rr", "shannon_entropy_rr_differences")
  for name in lowered:
    assert contrast(name) < -0.5, name
  assert truth[run, C["step_count"]].mean() > 130 and truth[run, C["heart_rate"]].mean() > 120


def test_heart_rate_relaxes_after_a_run(cohort: Cohort) -> None:
  curves = []
  for p, person in enumerate(cohort.people):
    for event in person.events:
      if event.name == "run" and event.end + 30 < 1440 and event.end - event.start > 15:
        curves.append(cohort.truth[p, event.day, event.end - 1 : event.end + 30, C["heart_rate"]])
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
    difference = cohort.truth[sleep, C[name]].mean() - cohort.truth[rest, C[name]].mean()
    assert sign * difference / LSM2_REFERENCE[name][1] > 0.25, name
  assert cohort.truth[sleep, C["step_count"]].mean() < 0.3


def test_intervals_follow_the_rate_and_each_other(cohort: Cohort) -> None:
  calm = cohort.rest | cohort.minutes("sleep")
  day = cohort.truth[calm]
  assert np.corrcoef(60000 / day[:, C["heart_rate"]], day[:, C["rr_median"]])[0, 1] > 0.95
  everywhere = cohort.truth.reshape(-1, 26)
  below = everywhere[:, C["rr_20th_percentile"]] < everywhere[:, C["rr_median"]]
  assert below.all() and (everywhere[:, C["rr_median"]] < everywhere[:, C["rr_80th_percentile"]]).all()
  assert np.corrcoef(np.log(day[:, C["sdnn"]]), day[:, C["shannon_entropy_rr"]])[0, 1] > 0.8
  assert np.corrcoef(np.log(day[:, C["rmssd"]]), day[:, C["shannon_entropy_rr_differences"]])[0, 1] > 0.8


def test_the_temperature_slope_is_the_change_of_temperature(cohort: Cohort) -> None:
  temperature, slope = cohort.truth[..., C["skin_temperature"]], cohort.truth[..., C["skin_temperature_slope"]]
  unclipped = (temperature > 20.5) & (temperature < 38.5)
  within = unclipped[..., 1:] & unclipped[..., :-1]
  assert np.allclose(np.diff(temperature, axis=2)[within] * 60 + 0.27, slope[..., 1:][within], atol=0.01)


def test_the_altimeter_follows_climbing() -> None:
  simulation = Simulation(60, 14, seed=1)
  climbing, flat = [], []
  for participant in simulation.participants:
    truth = simulation.truth(participant)[..., C["altimeter_sd"]]
    for event in simulation.person(participant).events:
      if event.name in ("skiing", "snowboarding", "hike", "indoor climbing"):
        climbing.append(truth[event.day, event.start : event.end].mean())
      elif event.name in ("spinning", "swim", "pilates"):
        flat.append(truth[event.day, event.start : event.end].mean())
  assert len(climbing) > 5 and len(flat) > 5
  assert np.mean(climbing) > 0.05 and np.mean(flat) < 0.01


def test_midnight_is_no_break() -> None:
  simulation = Simulation(40, 3, seed=5)
  rates = np.stack([simulation.truth(p)[..., C["heart_rate"]] for p in simulation.participants])
  across = np.abs(rates[:, 1:, 0] - rates[:, :-1, -1]).mean()
  assert across < 1.5 * np.abs(np.diff(rates[:, :, :60], axis=2)).mean()


def test_a_lost_channel_can_be_told_from_the_others(cohort: Cohort) -> None:
  """Held-out R^2 of a linear fit on the other sensors' channels, people kept apart, against nothing at all."""
  scaled = np.stack([(cohort.truth[..., c] - m) / s for c, (m, s) in enumerate(LSM2_REFERENCE.values())], axis=-1)
  train, test = scaled[:150, :, ::7].reshape(-1, 26), scaled[150:, :, ::7].reshape(-1, 26)
  floor = {"heart_rate": 0.35, "rr_percent_valid": 0.3, "log_energy": 0.4, "sleep_coefficient": 0.3}
  for name, least in floor.items():
    c = C[name]
    others = SENSORS[c] != SENSORS
    x = np.column_stack([train[:, others], np.ones(len(train))])
    fit = np.linalg.lstsq(x, train[:, c], rcond=None)[0]
    guess = np.column_stack([test[:, others], np.ones(len(test))]) @ fit
    assert 1 - np.var(test[:, c] - guess) / np.var(test[:, c]) > least, name


# Traits leave their marks.


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
    """t values of each trait on a person's mean."""
    x = np.log(cohort.truth[..., C[name]]) if log else cohort.truth[..., C[name]].astype(float)
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


def test_workers_rise_later_on_weekends() -> None:
  simulation = Simulation(40, 14, seed=2)
  rises: dict[bool, list[int]] = {False: [], True: []}
  for participant in simulation.participants:
    if simulation.traits(participant).works:
      for event in simulation.person(participant).events:
        if event.name == "sleep" and event.end < 1000:
          rises[datetime.date.fromisoformat(event.date).weekday() >= 5].append(event.end)
  assert np.mean(rises[True]) > np.mean(rises[False]) + 30


def test_the_activities_are_those_of_lsm2() -> None:
  assert tuple(activity.name for activity in ACTIVITIES) == LSM2_ACTIVITIES


# Filters.


@settings(max_examples=30, deadline=None)
@given(n=st.integers(1, 300), minutes=st.floats(0.3, 500), seed=st.integers(0, 99))
def test_relax_is_the_recursion(n: int, minutes: float, seed: int) -> None:
  x = np.random.default_rng(seed).normal(size=n).astype(np.float32)
  factor = np.exp(-1 / minutes)
  expected = [float(x[0])]
  for value in x[1:]:
    expected.append(factor * expected[-1] + (1 - factor) * float(value))
  assert np.allclose(relax(x, minutes), expected, atol=1e-3)


def test_wander_is_stationary() -> None:
  waves = np.stack([wander(np.random.default_rng(i), 300, 60.0) for i in range(800)])
  assert np.allclose(waves.std(axis=0), 1, atol=0.12)
  lagged = np.mean(waves[:, 60:] * waves[:, :-60])
  assert abs(lagged - np.exp(-1)) < 0.06
