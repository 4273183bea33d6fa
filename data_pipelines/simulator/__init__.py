"""A simulated cohort: people with lasting traits, their days of 26 channels, and what a real watch would lose of them.

`Simulation` is the source that a dataset is built from; its method `person` combines all other modules.
"""

from data_pipelines.simulator.activities import ACTIVITIES
from data_pipelines.simulator.missingness import gap_lengths
from data_pipelines.simulator.people import Traits, draw_traits
from data_pipelines.simulator.simulation import Simulation

__all__ = ["ACTIVITIES", "Simulation", "Traits", "draw_traits", "gap_lengths"]
