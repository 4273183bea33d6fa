"""The cohort that the tests of this folder share."""

from __future__ import annotations

import pytest

from data_pipelines.simulator.simulation import Simulation
from tests.data_pipelines.simulator.cohort import Cohort


@pytest.fixture(scope="package")
def cohort() -> Cohort:
  """Many people, for two days each."""
  return Cohort.of(Simulation(participants=220, days=2, seed=7))
