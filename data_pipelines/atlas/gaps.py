"""Gaps: runs of missing steps of one channel and day."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Int64

# Upper bounds of the bins of gap lengths, in minutes; a gap of a whole day falls into the last.
LENGTHS = (2, 5, 10, 30, 60, 180, 360, 720, 1440)


def runs(cells: Bool[np.ndarray, "s"]) -> list[tuple[int, int]]:
  """[start, end) of each run of True."""
  edges = np.flatnonzero(np.diff(np.concatenate([[0], cells.astype(np.int8), [0]])))
  return [(int(start), int(end)) for start, end in edges.reshape(-1, 2)]


def lengths(hole: Bool[np.ndarray, "n s c"]) -> tuple[Int64[np.ndarray, "g"], Int64[np.ndarray, "g"]]:
  """Channel and length in steps of every gap of n days."""
  # One line of cells, every day of every channel ended by a cell that is not missing: no run crosses it.
  days, steps, channels = hole.shape
  line = np.zeros((channels, days, steps + 1), np.int8)
  line[..., :steps] = hole.transpose(2, 0, 1)
  edges = np.flatnonzero(np.diff(line.ravel(), prepend=0)).reshape(-1, 2)
  return edges[:, 0] // (days * (steps + 1)), edges[:, 1] - edges[:, 0]


def bin_of(length: Int64[np.ndarray, "g"], minutes_per_step: int) -> Int64[np.ndarray, "g"]:
  """Index into LENGTHS of lengths in steps."""
  return np.searchsorted(LENGTHS, length * minutes_per_step)


def bin_names(minutes_per_step: int) -> dict[int, str]:
  """The bins that a gap of such steps can fall into, by index."""
  name = lambda minutes: f"{minutes} min" if minutes < 60 else f"{minutes // 60} h"
  return {i: name(minutes) for i, minutes in enumerate(LENGTHS) if minutes >= minutes_per_step}
