"""Channels in which a device writes 0 where it measured nothing."""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Bool, Shaped


def without_zeros(
  values: Shaped[Any, "*days channels"], channels: Bool[np.ndarray, " channels"] | bool
) -> Shaped[Any, "*days channels"]:
  """Values with NaN for each 0 of some channels.

  Args:
    values: a NumPy or JAX array; integers become float64 if any channel is among them.
    channels: which ones; True for all.
  """
  if not np.any(channels):
    return values
  xp = values.__array_namespace__()
  return xp.where((values == 0) & channels, xp.nan, values)
