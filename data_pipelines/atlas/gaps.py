"""Gaps: runs of missing steps within one channel of one day."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Int64

# Upper bounds of the bins of gap lengths, in minutes; a gap of a whole day falls into the last bin.
LENGTHS = (2, 5, 10, 30, 60, 180, 360, 720, 1440)


def runs(flags: Bool[np.ndarray, " steps"]) -> list[tuple[int, int]]:
  """[start, end) of each run of True."""
  edges = np.flatnonzero(np.diff(np.concatenate([[0], flags.astype(np.int8), [0]])))
  return [(int(start), int(end)) for start, end in edges.reshape(-1, 2)]


def lengths(
  missing: Bool[np.ndarray, "days steps channels"],
) -> tuple[Int64[np.ndarray, " gaps"], Int64[np.ndarray, " gaps"]]:
  """Channel index and length, in steps, of every gap."""
  # All channels of all days are laid out in one line. One step that is not missing ends each of them, so that no run
  # crosses from one to the next.
  days, steps, channels = missing.shape
  line = np.zeros((channels, days, steps + 1), np.int8)
  line[..., :steps] = missing.transpose(2, 0, 1)
  edges = np.flatnonzero(np.diff(line.ravel(), prepend=0)).reshape(-1, 2)
  return edges[:, 0] // (days * (steps + 1)), edges[:, 1] - edges[:, 0]


def bin_of(length: Int64[np.ndarray, " gaps"], minutes_per_step: int) -> Int64[np.ndarray, " gaps"]:
  """Index into LENGTHS of gaps with these lengths in steps."""
  return np.searchsorted(LENGTHS, length * minutes_per_step)


def bin_names(minutes_per_step: int) -> dict[int, str]:
  """Names of the bins by their index into LENGTHS, without the bins that are shorter than a step."""
  name = lambda minutes: f"{minutes} min" if minutes < 60 else f"{minutes // 60} h"
  return {i: name(minutes) for i, minutes in enumerate(LENGTHS) if minutes >= minutes_per_step}
