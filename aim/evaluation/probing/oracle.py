"""The best that can be reached on the simulated cohort: what its days without holes and its people's traits tell."""

from __future__ import annotations

import dataclasses
import functools

import numpy as np

from aim.evaluation.probing.label_tasks import LabelTask
from aim.evaluation.probing.learners import FitData
from data_pipelines.dataset import Dataset
from data_pipelines.simulator.people import Traits, draw_traits
from data_pipelines.simulator.simulation import Simulation

_STRANGERS, _STRANGERS_SEED = 10_000, 2**31 + 1


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
    """float32 [d, traits]: every lasting trait of each person but `target`, also those that no label tells."""
    return np.array([_numbers(self._traits(person), target) for person in participant.tolist()], np.float32)

  @functools.cache  # noqa: B019 lives as long as one evaluation
  def _traits(self, person: str) -> Traits:
    return self.simulation.traits(person)


def strangers(task: LabelTask) -> FitData:
  """Traits and labels of many simulated people beside the cohort's, to learn the simulator's own rule from.

  The simulator draws illness by a logistic rule of some traits and shifts others by it, normal with the same SD in the
  ill and the healthy; so the posterior given all other traits is a logistic function of them, which as many people
  as these tell to about a hundredth in AUROC. Days are made of traits and noise: beyond this a day tells of a label
  only what it marks by itself: stress and awakenings of the anxious, awakenings and the highest heart rate of an age.
  """
  rng = np.random.default_rng(_STRANGERS_SEED)
  people = [draw_traits(rng) for _ in range(_STRANGERS)]
  known = [person.labels[task.name] for person in people]
  truth = [float(v) if task.kind == "regression" else float(task.classes.index(str(v))) for v in known]  # type: ignore[arg-type]
  inputs = np.array([_numbers(person, task.name) for person in people], np.float32)
  names = np.array([f"stranger{i}" for i in range(len(people))])
  return FitData(inputs, np.array(truth), names, np.zeros(len(people), bool))


def _numbers(traits: Traits, target: str) -> list[float]:
  """What is normally distributed in the simulator is given on that scale."""
  values = {field.name: getattr(traits, field.name) for field in dataclasses.fields(Traits)}
  values["sex"] = values["sex"] == "F"
  for name in ("rmssd", "conductance", "bouts_per_day"):
    values[f"log_{name}"] = np.log(values[name])
  return [float(value) for name, value in values.items() if name != target]
