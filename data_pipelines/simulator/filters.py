"""First-order filters along time, without a loop over minutes."""

from __future__ import annotations

import numpy as np


def _recurse(x: np.ndarray, factor: float) -> np.ndarray:
  """Solves y[t] = x[t] + factor * y[t-1] in place, by doubling: after k rounds y holds the last 2**k terms."""
  lag = 1
  while lag < len(x) and factor > 1e-5:
    x[lag:] += np.float32(factor) * x[:-lag]
    factor *= factor
    lag *= 2
  return x


def relax(x: np.ndarray, minutes: float) -> np.ndarray:
  """Low-pass of float32 [t] with time constant `minutes` and unit gain, at equilibrium with x[0] at the start."""
  factor = float(np.exp(-1.0 / minutes))
  y = x * np.float32(1 - factor)
  y[0] = x[0]
  return _recurse(y, factor)


def wander(rng: np.random.Generator, n: int, minutes: float) -> np.ndarray:
  """Stationary first-order autoregression float32 [n]: mean 0, SD 1, correlation time `minutes`."""
  factor = float(np.exp(-1.0 / minutes))
  y = white(rng, n)
  y[1:] *= np.float32(np.sqrt(1 - factor * factor))
  return _recurse(y, factor)


def white(rng: np.random.Generator, n: int) -> np.ndarray:
  """Independent standard normal noise, float32 [n]."""
  return rng.standard_normal(n, dtype=np.float32)


def logistic(x: np.ndarray) -> np.ndarray:
  return 1 / (1 + np.exp(-x))
