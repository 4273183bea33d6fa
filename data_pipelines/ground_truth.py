"""Ground truth of a simulated dataset, beyond its files: its days without gaps, and the traits of its people.

Evaluations reach the simulator only through this module, which has no ground truth for a dataset that was not
simulated.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int, Shaped

from data_pipelines.dataset import Dataset
from data_pipelines.simulator.people import Traits, draw_traits
from data_pipelines.simulator.simulation import Simulation
from data_pipelines.source import Label

_LOGNORMAL = ("rmssd", "conductance", "bouts_per_day")


class GroundTruth:
  """A simulated cohort before its devices lost anything."""

  def __init__(self, simulation: Simulation):
    self._truth = functools.lru_cache(maxsize=2)(simulation.truth)  # days are requested person by person
    self._traits = functools.cache(lambda participant: numeric_traits(simulation.traits(participant)))

  @classmethod
  def of_dataset(cls, dataset: Dataset) -> GroundTruth | None:
    """The ground truth of a simulated dataset, from its stored request; None for any other dataset."""
    request = dataset.request.get("request") or {}
    if request.get("source") != "simulate":
      return None
    return cls(Simulation(request["participants"], request["days"], request["seed"]))

  def days(
    self, participant: Shaped[np.ndarray, " days"], day: Int[np.ndarray, " days"]
  ) -> Float[np.ndarray, "days steps channels"]:
    """The requested days before anything was lost, float32.

    Args:
      participant: ids of the people, one per day.
      day: number of each day within the person's record.
    """
    return np.stack([self._truth(p)[n] for p, n in zip(participant.tolist(), day.tolist(), strict=True)])

  def traits(self, participant: str) -> dict[str, float]:
    """A person's lasting traits, including those that no label reveals; see `numeric_traits`."""
    return self._traits(participant)


def numeric_traits(traits: Traits) -> dict[str, float]:
  """Traits as numbers: sex is 1 for women; log-normal traits also appear as their logarithms, which are normal."""
  values = {field.name: getattr(traits, field.name) for field in dataclasses.fields(Traits)}
  values["sex"] = values["sex"] == "F"
  logs = {f"log_{name}": np.log(values[name]) for name in _LOGNORMAL}
  return {name: float(value) for name, value in (values | logs).items()}


def draw_people(count: int, seed: int) -> Sequence[tuple[dict[str, float], dict[str, Label]]]:
  """Draws people from the simulated population who belong to no cohort: (traits, labels) of each."""
  rng = np.random.default_rng(seed)
  people = [draw_traits(rng) for _ in range(count)]
  return [(numeric_traits(person), person.labels) for person in people]
