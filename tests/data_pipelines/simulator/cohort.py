"""A simulated cohort as arrays, for the tests of this folder."""

from __future__ import annotations

import dataclasses

import numpy as np

from data_pipelines.lsm2_schema import LSM2_SCHEMA
from data_pipelines.simulator.simulation import Simulation
from data_pipelines.source import Person

INDEX = {name: c for c, name in enumerate(LSM2_SCHEMA.names)}
SENSORS = np.array([channel.sensor for channel in LSM2_SCHEMA.channels])


@dataclasses.dataclass(frozen=True)
class Cohort:
  """All days of a simulation as arrays.

  Attributes:
    simulation: the simulation.
    people: all of its people.
    truth: [people, days, 1440, 26], the values before anything was lost.
    values: the same, NaN where lost.
    cause: why a value was lost.
  """

  simulation: Simulation
  people: list[Person]
  truth: np.ndarray
  values: np.ndarray
  cause: np.ndarray

  @classmethod
  def of(cls, simulation: Simulation) -> Cohort:
    """Draws all people of a simulation."""
    people = [simulation.person(participant) for participant in simulation.participants]
    truth = np.stack([simulation.truth(participant) for participant in simulation.participants])
    values = np.stack([np.stack([day.values for day in person.days]) for person in people])
    cause = np.stack([np.stack([day.cause for day in person.days]) for person in people])
    return cls(simulation, people, truth, values, cause)

  def minutes(self, name: str, after: int = 0) -> np.ndarray:
    """bool [people, days, 1440]: minutes of events called `name`, from `after` minutes after their start."""
    inside = np.zeros(self.values.shape[:3], bool)
    for p, person in enumerate(self.people):
      for event in person.events:
        if event.name == name:
          inside[p, event.day, event.start + after : event.end] = True
    return inside

  @property
  def rest(self) -> np.ndarray:
    """bool [people, days, 1440]: minutes of rest: more than an hour away from the end of any event, with few steps."""
    busy = np.zeros(self.values.shape[:3], bool)
    for p, person in enumerate(self.people):
      for event in person.events:
        busy[p, event.day, event.start : event.end + 60] = True
    return ~busy & (self.truth[..., INDEX["step_count"]] < 5)
