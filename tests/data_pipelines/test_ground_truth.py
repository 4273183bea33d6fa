"""A simulated dataset's ground truth agrees with its observed values; other datasets have none."""

from __future__ import annotations

import numpy as np

from data_pipelines.build import build, simulate_request
from data_pipelines.ground_truth import GroundTruth
from data_pipelines.simulator import Simulation
from data_pipelines.splits import FoldSplit
from tests import tiny


def test_days_without_gaps_agree_with_the_observed_values(tmp_path):
  simulation = Simulation(participants=4, days=2, seed=3)
  dataset = build(simulation, tmp_path, "sim", split=FoldSplit(2, 0), request=simulate_request(4, 2, 3))
  truth = GroundTruth.of_dataset(dataset)
  for day in dataset.days("eval"):
    person, number = day["participant"].decode(), int(day["day"])
    complete = truth.days(np.array([person]), np.array([number]))[0]
    assert not np.isnan(complete).any()
    observed = ~np.isnan(day["values"])
    np.testing.assert_array_equal(complete[observed], day["values"][observed])
    assert truth.traits(person)["age"] == simulation.traits(person).age


def test_a_dataset_that_was_not_simulated_has_no_ground_truth(tmp_path):
  assert GroundTruth.of_dataset(tiny.dataset(tmp_path)) is None
