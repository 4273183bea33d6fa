"""Progress bars, shown by the first of several processes."""

from __future__ import annotations

from tqdm import tqdm

from aim.runtime import processes
from data_pipelines.progress import progress_bar as data_progress_bar


def progress_bar(total: int, description: str, unit: str, initial: int = 0, disable: bool = False) -> tqdm:
  """data_pipelines.progress, of the first process alone."""
  return data_progress_bar(total, description, unit, initial, disable or not processes.is_first_process())
