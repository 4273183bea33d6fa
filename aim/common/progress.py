"""Progress bars, shown by the first process only."""

from __future__ import annotations

from tqdm import tqdm

import data_pipelines.progress
from aim.runtime import processes


def progress_bar(total: int, description: str, unit: str, initial: int = 0, disable: bool = False) -> tqdm:
  """The progress bar of data_pipelines.progress, shown by the first process only.

  Programs of aim use this one, because they may run as several processes, of which all but the first stay silent.

  Args:
    total: units of work.
    description: what is being done.
    unit: name of one unit.
    initial: units done before.
    disable: show nothing.
  """
  hidden = disable or not processes.is_first_process()
  return data_pipelines.progress.progress_bar(total, description, unit, initial, hidden)
