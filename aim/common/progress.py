"""Progress bars, shown by the first process only."""

from __future__ import annotations

from tqdm import tqdm

import data_pipelines.progress
from aim.runtime import processes


def progress_bar(total: int, description: str, unit: str, initial: int = 0, disable: bool = False) -> tqdm:
  """A progress bar with an ETA, as in data_pipelines.progress; silent in all processes but the first.

  Args:
    total: units of work.
    description: what is being done.
    unit: name of one unit.
    initial: units done before.
    disable: show nothing.
  """
  hidden = disable or not processes.is_first_process()
  return data_pipelines.progress.progress_bar(total, description, unit, initial, hidden)
