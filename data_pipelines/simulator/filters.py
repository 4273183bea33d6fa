"""First-order filters and noise along time, without a loop over minutes."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Float32


def _recurse(x: Float32[np.ndarray, " minutes"], factor: float) -> Float32[np.ndarray, " minutes"]:
  """Solves y[t] = x[t] + factor * y[t-1] in place by doubling: after k rounds, y[t] contains the last 2**k terms."""
  lag = 1
  while lag < len(x) and factor > 1e-5:
    x[lag:] += np.float32(factor) * x[:-lag]
    factor *= factor
    lag *= 2
  return x


def relax(x: Float32[np.ndarray, " minutes"], minutes: float) -> Float32[np.ndarray, " minutes"]:
  """Low-pass filter with time constant `minutes` and unit gain, which starts in equilibrium with x[0]."""
  factor = float(np.exp(-1.0 / minutes))
  y = x * np.float32(1 - factor)
  y[0] = x[0]
  return _recurse(y, factor)


def wander(rng: np.random.Generator, n: int, minutes: float) -> Float32[np.ndarray, " n"]:
  """Draws a stationary first-order autoregression with mean 0, SD 1 and correlation time `minutes`."""
  factor = float(np.exp(-1.0 / minutes))
  y = white(rng, n)
  y[1:] *= np.float32(np.sqrt(1 - factor * factor))
  return _recurse(y, factor)


def white(rng: np.random.Generator, n: int) -> Float32[np.ndarray, " n"]:
  """Draws independent standard normal noise."""
  return rng.standard_normal(n, dtype=np.float32)


def logistic(x: Float[np.ndarray, "*shape"]) -> Float[np.ndarray, "*shape"]:
  """The logistic function, 1 / (1 + exp(-x))."""
  return 1 / (1 + np.exp(-x))
