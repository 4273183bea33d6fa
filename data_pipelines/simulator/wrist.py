"""The accelerometer and altimeter channels."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float32

from data_pipelines.simulator.activities import Motion
from data_pipelines.simulator.filters import wander, white
from data_pipelines.simulator.rhythm import Rhythm


def _posture(rng: np.random.Generator, motion: Motion) -> Float32[np.ndarray, " minutes"]:
  """Draws the posture of the arm, with SD 1; it stays the same until a movement changes it."""
  n = len(motion.movement)
  changes = rng.random(n, np.float32) < 0.01 + 0.25 * motion.movement
  return white(rng, n)[np.maximum.accumulate(np.where(changes, np.arange(n), 0))]


def wrist(rng: np.random.Generator, rhythm: Rhythm, motion: Motion) -> dict[str, Float32[np.ndarray, " minutes"]]:
  """Draws the ten ACC channels and the altimeter channel, by name.

  Most of them are 8-bit codes in the released data. Here they are smooth functions of how much the wrist moves
  (movement), how regularly it moves (rhythm) and the posture of the arm.
  """
  n = rhythm.minutes
  movement = np.clip(motion.movement + 0.015 * white(rng, n), 0, 1)
  regularity = np.clip(motion.rhythm + 0.10 * wander(rng, n, 10), 0, 1)
  posture = _posture(rng, motion)
  still = np.exp(-movement / 0.07)
  texture = wander(rng, n, 12)

  def code(level: Float32[np.ndarray, " minutes"], noise: float) -> Float32[np.ndarray, " minutes"]:
    return np.clip(level + noise * white(rng, n), 0, 255)

  return {
    "step_count": np.round(np.maximum(motion.steps * (1 + 0.04 * white(rng, n)), 0)),
    "jerk_autocorrelation": code(
      196 + 50 * (regularity - 0.25) + 26 * still - 40 * movement + 20 * texture + 8 * posture, 10
    ),
    "log_energy": code(6 + 268 * movement, 6),
    "log_energy_ratio": code(30 + 60 * regularity - 30 * still * regularity + 14 * posture + 6 * texture, 8),
    "covariance_condition": code(43 + 14 * (regularity - 0.25) + 9 * posture + 7 * texture, 5),
    "zero_crossing_sd": code(158 - 55 * movement + 16 * still + 15 * texture - 10 * posture, 9),
    "zero_crossing_average": code(10 + 92 * still + 22 * (1 - regularity) * (1 - movement) + 10 * texture, 8),
    "axis_mean": code(121 + 18 * posture + 12 * movement, 6),
    "kurtosis": code(55 + 130 * (1 - regularity) * (0.25 + still) - 40 * movement + 62 * np.abs(texture) - 38, 20),
    "sleep_coefficient": np.clip(15 * movement**2 / (movement**2 + 0.013) + 0.7 * white(rng, n), 0, 15),
    "altimeter_sd": motion.climb + 0.0004 * np.abs(white(rng, n)),
  }
