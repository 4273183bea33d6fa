"""Sleep and work."""

from __future__ import annotations

import datetime

import numpy as np

from data_pipelines.simulator.simulation import Simulation


def test_workers_rise_later_on_weekends() -> None:
  simulation = Simulation(40, 14, seed=2)
  rises: dict[bool, list[int]] = {False: [], True: []}
  for participant in simulation.participants:
    if simulation.traits(participant).works:
      for event in simulation.person(participant).events:
        if event.name == "sleep" and event.end < 1000:
          rises[datetime.date.fromisoformat(event.date).weekday() >= 5].append(event.end)
  assert np.mean(rises[True]) > np.mean(rises[False]) + 30
