"""Writing a dataset: the TFDS builder of day windows, its shards, and who writes them.

TFDS requires a builder to be a module NAME/NAME_dataset_builder.py, hence the name of this package.
"""

from data_pipelines.day_windows.day_windows_dataset_builder import Builder, DayWindowsConfig
from data_pipelines.day_windows.duplicates import DuplicateDetector, check_disjoint
from data_pipelines.day_windows.runners import Processes, Runner, in_this_process

# Beam is left out because apache-beam is an optional extra: see data_pipelines.day_windows.beam.
__all__ = [
  "Builder",
  "DayWindowsConfig",
  "DuplicateDetector",
  "Processes",
  "Runner",
  "check_disjoint",
  "in_this_process",
]
