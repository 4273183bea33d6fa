"""The best score that is possible on a simulated cohort."""

from __future__ import annotations

import numpy as np
from sklearn.metrics import roc_auc_score

from aim.evaluation.probing import learners, oracle
from aim.evaluation.probing.label_tasks import LabelTask
from data_pipelines.ground_truth import GroundTruth
from data_pipelines.simulator import Simulation
from experiments import default


def test_the_oracle_of_traits_is_the_posterior():
  """Learning from strangers is as good as Bayes' rule with the numbers of data_pipelines/simulator/people.py."""
  task = LabelTask("hypertension", "binary", "day", ("False", "True"))
  simulation = Simulation(participants=4000, days=1, seed=1)
  people = [simulation.traits(person) for person in simulation.participants]
  truth = np.array([p.hypertension for p in people])
  config = default.get_config().probe
  config.strengths = (1.0,)
  fitted = learners.fit_linear(config, task, oracle.strangers(task))
  inputs = oracle.trait_inputs(GroundTruth(simulation), np.array(simulation.participants), "hypertension")
  probability = fitted.predict(inputs)[:, 1]
  best = roc_auc_score(truth, [hypertension_odds(p) for p in people])
  assert 0.75 < best < 0.95
  assert best - 0.01 < roc_auc_score(truth, probability) < best + 0.005


def hypertension_odds(p) -> float:
  """Log odds of the prior plus the log likelihood ratios of resting heart rate and log RMSSD."""
  decades, weight, female = (p.age - 45) / 10, (p.bmi - 27) / 5, p.sex == "F"
  prior = -0.9 + 0.75 * decades + 0.55 * weight - 0.2 * p.fitness
  healthy = 74.8 + 2.5 * (female - 0.5) + 1.6 * weight - 3.2 * p.fitness + 3.5 * p.anxiety
  calm = 3.46 - 0.17 * decades + 0.14 * p.fitness - 0.18 * p.anxiety
  ratio = lambda x, mean, shift, sd: ((x - mean) ** 2 - (x - mean - shift) ** 2) / (2 * sd**2)
  return prior + ratio(p.resting_heart_rate, healthy, 3.0, 5.2) + ratio(np.log(p.rmssd), calm, -0.22, 0.32)


def test_the_target_is_not_among_the_inputs():
  simulation = Simulation(participants=2, days=1, seed=3)
  truth, people = GroundTruth(simulation), np.array(simulation.participants)
  assert oracle.trait_inputs(truth, people, "age").shape == (2, len(truth.traits(people[0])) - 1)
