"""Calibration by gravity: while a device lies still it measures 1 g, whatever its position.

Van Hees et al., "Autocalibration of accelerometer data for free-living physical activity assessment using local gravity
and temperature", J Appl Physiol 117 (2014) 738-744, without temperature: offset and gain of each axis that bring the
means of still ten-second windows closest to a sphere of 1 g.
"""

from __future__ import annotations

import dataclasses

import numpy as np
from jaxtyping import Float64

_SPREAD = 0.3  # g: each axis must have been below its negative and above it
_GOOD = 0.01  # g: the mean distance from the sphere that a calibration must reach
_MOST_WINDOWS, _LEAST_WINDOWS = 100_000, 50
_ROUNDS, _SETTLED = 1000, 1e-10
_HEAVIEST = 100.0  # weight of a window on the sphere


@dataclasses.dataclass(frozen=True)
class Calibration:
  """Calibration of measured acceleration (g): gain * measured + offset, by axis."""

  gain: Float64[np.ndarray, "3"]
  offset: Float64[np.ndarray, "3"]

  def applied(self, samples: Float64[np.ndarray, "n 3"]) -> Float64[np.ndarray, "n 3"]:
    """The calibrated samples."""
    return samples * self.gain + self.offset


def fit(means: Float64[np.ndarray, "n 3"]) -> Calibration | None:
  """The calibration that the means of still windows give; None if they are too few, too alike or fit no sphere."""
  means = means[(np.abs(means) < 2).all(axis=1)][:_MOST_WINDOWS]
  if len(means) < _LEAST_WINDOWS or (means.min(axis=0) > -_SPREAD).any() or (means.max(axis=0) < _SPREAD).any():
    return None
  gain, offset, before = np.ones(3), np.zeros(3), np.inf
  weight = np.ones(len(means))
  for _ in range(_ROUNDS):
    points = means * gain + offset
    size = np.sqrt((points**2).sum(axis=1, keepdims=True))
    nearest = points / np.maximum(size, 1e-6)
    slope, intercept = _lines(points, nearest, weight)
    gain, offset = gain * slope, offset * slope + intercept
    distance = np.abs(size[:, 0] - 1)
    weight = np.minimum(1 / np.maximum(distance, 1e-9), _HEAVIEST)
    error = float((weight * distance).sum() / weight.sum())
    if abs(before - error) < _SETTLED:
      break
    before = error
  found = Calibration(gain, offset)
  left = _distance(found.applied(means))
  return found if left < _GOOD and left < _distance(means) else None


def _lines(
  x: Float64[np.ndarray, "n 3"], y: Float64[np.ndarray, "n 3"], weight: Float64[np.ndarray, "n"]
) -> tuple[Float64[np.ndarray, "3"], Float64[np.ndarray, "3"]]:
  """Slope and intercept of the weighted regression of y on x, by axis."""
  share = (weight / weight.sum())[:, None]
  x_mean, y_mean = (share * x).sum(axis=0), (share * y).sum(axis=0)
  slope = (share * (x - x_mean) * (y - y_mean)).sum(axis=0) / (share * (x - x_mean) ** 2).sum(axis=0)
  return slope, y_mean - slope * x_mean


def _distance(points: Float64[np.ndarray, "n 3"]) -> float:
  """Mean distance from the sphere."""
  return float(np.abs(np.sqrt((points**2).sum(axis=1)) - 1).mean())
