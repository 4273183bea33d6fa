"""Exercise: every published activity occurs, and climbing ones move the altimeter."""

from __future__ import annotations

import numpy as np
import pytest

from data_pipelines.lsm2_schema import LSM2_ACTIVITIES
from data_pipelines.simulator.activities import ACTIVITIES
from data_pipelines.simulator.simulation import Simulation
from data_pipelines.source import Event
from tests.data_pipelines.simulator.cohort import INDEX

Record = tuple[list[Event], np.ndarray]  # a person's events, and the altimeter [days, 1440] before any loss


@pytest.fixture(scope="module")
def records() -> list[Record]:
  """Sixty people for two weeks each, enough for every activity to occur."""
  simulation = Simulation(participants=60, days=14, seed=1)
  altimeter = lambda participant: simulation.truth(participant)[..., INDEX["altimeter_sd"]].copy()
  return [(list(simulation.person(p).events), altimeter(p)) for p in simulation.participants]


def test_every_activity_occurs_under_its_published_name(records: list[Record]) -> None:
  published = (
    "walk, bike, sports, run, aerobics, elliptical, spinning, weightlifting, swim, hike, tennis, CrossFit, pilates, "
    "stairclimber, dancing, indoor climbing, golf, skiing, snowboarding, kayaking"
  )
  assert [activity.name for activity in ACTIVITIES] == published.split(", ")
  names = {event.name for events, _ in records for event in events}
  assert names == {*published.split(", "), "sleep"}


def test_the_activities_are_those_of_lsm2() -> None:
  assert tuple(activity.name for activity in ACTIVITIES) == LSM2_ACTIVITIES


def test_the_altimeter_follows_climbing(records: list[Record]) -> None:
  climbing, flat = [], []
  for events, altimeter in records:
    for event in events:
      if event.name in ("skiing", "snowboarding", "hike", "indoor climbing"):
        climbing.append(altimeter[event.day, event.start : event.end].mean())
      elif event.name in ("spinning", "swim", "pilates"):
        flat.append(altimeter[event.day, event.start : event.end].mean())
  assert len(climbing) > 5 and len(flat) > 5
  assert np.mean(climbing) > 0.05 and np.mean(flat) < 0.01
