"""The best score that is possible on a simulated cohort, from its days without holes and its people's traits."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Shaped

from aim.evaluation.probing.label_tasks import LabelTask
from aim.evaluation.probing.learners import FitData
from data_pipelines.ground_truth import GroundTruth, draw_people

_STRANGERS, _STRANGERS_SEED = 10_000, 2**31 + 1


def trait_inputs(
  truth: GroundTruth, participant: Shaped[np.ndarray, " d"], target: str
) -> Float[np.ndarray, "d traits"]:
  """Every lasting trait of each person except `target`, float32."""
  return np.array([_without(truth.traits(person), target) for person in participant.tolist()], np.float32)


def strangers(task: LabelTask) -> FitData:
  """Traits and labels of 10,000 simulated people outside the cohort, from which the simulator's own rule is learnt.

  The simulator draws an illness by a logistic rule of some traits, and it shifts other traits, which are normal with
  the same SD in the ill and the healthy. The posterior given all other traits is therefore logistic in them, and 10,000
  people determine it to about 0.01 in AUROC. A day is made of traits and noise, so it adds to them only where a label
  marks the day directly: anxiety causes stress and awakenings, age sets awakenings and the highest heart rate.
  """
  people = draw_people(_STRANGERS, _STRANGERS_SEED)
  labels = [known[task.name] for _, known in people]
  truth = [float(v) if task.kind == "regression" else float(task.classes.index(str(v))) for v in labels]  # type: ignore[arg-type]
  inputs = np.array([_without(traits, task.name) for traits, _ in people], np.float32)
  names = np.array([f"stranger{i}" for i in range(len(people))])
  return FitData(inputs, np.array(truth), names, np.zeros(len(people), bool))


def _without(traits: dict[str, float], target: str) -> list[float]:
  return [value for name, value in traits.items() if name != target]
