"""The simulated cohort as a source: reproducible people, valid days and events."""

from __future__ import annotations

import datetime

import numpy as np
import pytest

from data_pipelines.lsm2_schema import LSM2_SCHEMA
from data_pipelines.simulator.simulation import Simulation
from data_pipelines.source import Person
from tests.data_pipelines.simulator.cohort import SENSORS, Cohort


def same(a: Person, b: Person) -> bool:
  """True if two people are equal, to the last bit of their values."""
  days = [
    np.array_equal(x.values, y.values, equal_nan=True) and np.array_equal(x.cause, y.cause) and x.date == y.date
    for x, y in zip(a.days, b.days, strict=True)
  ]
  return all(days) and a.labels == b.labels and a.events == b.events and a.participant == b.participant


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
