"""The best that can be reached on the simulated cohort: what its days without holes and its people's traits tell."""

from __future__ import annotations

import dataclasses
import functools

import numpy as np

from data_pipelines.dataset import Dataset
from data_pipelines.simulator import Simulation
from data_pipelines.simulator.people import Traits


class Oracle:
  """The simulation behind a dataset: its days before anything was lost, and the traits that made them."""

  def __init__(self, simulation: Simulation):
    self.simulation = simulation
    self._days = functools.lru_cache(maxsize=2)(simulation.truth)  # days come person by person

  @classmethod
  def of(cls, dataset: Dataset) -> Oracle | None:
    """That of a simulated dataset; None for others, whose truth nobody knows."""
    request = dataset.request.get("request") or {}
    if request.get("source") != "simulate":
      return None
    return cls(Simulation(request["participants"], request["days"], request["seed"]))

  def days(self, participant: np.ndarray, day: np.ndarray) -> np.ndarray:
    """float32 [d, steps, channels]: the days without holes."""
    return np.stack([self._days(p)[n] for p, n in zip(participant.tolist(), day.tolist(), strict=True)])

  def traits(self, participant: np.ndarray, target: str) -> np.ndarray:
    """float32 [d, traits]: every trait of each person but `target`, also those that no label tells.

    Days are a function of traits and of noise. The marks that a label leaves on them are mostly by way of the
    other traits, so what these tell of it is close to the most that any number of days could.
    """
    return np.array([self._traits(person, target) for person in participant.tolist()], np.float32)

  @functools.cache  # noqa: B019 lives as long as one evaluation
  def _traits(self, person: str, target: str) -> list[float]:
    traits = self.simulation.traits(person)
    values = {field.name: getattr(traits, field.name) for field in dataclasses.fields(Traits)}
    values["sex"] = values["sex"] == "F"
    values["log_rmssd"] = np.log(traits.rmssd)
    values["log_conductance"] = np.log(traits.conductance)
    return [float(value) for name, value in values.items() if name != target]


def best_auroc(probability: np.ndarray) -> float:
  """AUROC of a binary label drawn with known probabilities [n], scored by them: no predictor has a higher expected one.

  The expectation over labels: pairs in the order of their probabilities, each weighted with the chance that its
  members differ (Neyman and Pearson 1933: ranking by the posterior is optimal).
  """
  p = np.sort(np.asarray(probability, np.float64))
  below, ties = np.cumsum(1 - p) - (1 - p), p * (1 - p)
  # A row against itself is no pair.
  pairs = p.sum() * (1 - p).sum() - ties.sum()
  return float((p * below).sum() / pairs)
