"""Writing a dataset: the TFDS builder of day windows, and its shards.

TFDS requires a builder to be a module NAME/NAME_dataset_builder.py, hence the name of this package.
"""

from data_pipelines.day_windows.day_windows_dataset_builder import Builder, DayWindowsConfig
from data_pipelines.day_windows.duplicates import DuplicateDetector, check_disjoint

__all__ = [
  "Builder",
  "DayWindowsConfig",
  "DuplicateDetector",
  "check_disjoint",
]
