"""A simulated cohort: people with traits, their days of 26 channels, and what a real watch loses of them."""

from data_pipelines.simulator.source import Simulation

__all__ = ["Simulation"]
