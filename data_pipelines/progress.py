"""The progress bar of programs that run as a single process."""

from __future__ import annotations

import sys

from tqdm import tqdm


def progress_bar(
  total: int, description: str, unit: str, initial: int = 0, disable: bool = False, bar: type[tqdm] = tqdm
) -> tqdm:
  """Returns a progress bar with a time estimate; without a terminal it prints a line every ten seconds.

  Every process that calls this shows a bar; aim.common.progress wraps it to show that of the first process only.

  Args:
    total: number of units at the end.
    description: text in front of the bar.
    unit: name of a unit, such as "day".
    initial: units that are already finished.
    disable: show nothing.
    bar: class of the bar.
  """
  interval = 0.2 if sys.stderr.isatty() else 10.0
  return bar(
    total=total,
    initial=initial,
    desc=description,
    unit=unit,
    mininterval=interval,
    dynamic_ncols=True,
    smoothing=0.1,
    disable=disable,
  )
