"""The progress bar of every program."""

from __future__ import annotations

import sys

from tqdm import tqdm


def progress_bar(total: int, description: str, unit: str, initial: int = 0, disable: bool = False) -> tqdm:
  """A progress bar with ETA; off a terminal a line every ten seconds instead of redrawing."""
  interval = 0.2 if sys.stderr.isatty() else 10.0
  return tqdm(
    total=total,
    initial=initial,
    desc=description,
    unit=unit,
    mininterval=interval,
    dynamic_ncols=True,
    smoothing=0.1,
    disable=disable,
  )
