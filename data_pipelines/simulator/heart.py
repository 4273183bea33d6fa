"""The optical (PPG) channels: heart rate and its variability."""

from __future__ import annotations

import math

import numpy as np
from jaxtyping import Float32

from data_pipelines.simulator.activities import Motion
from data_pipelines.simulator.filters import logistic, relax, wander, white
from data_pipelines.simulator.people import Traits
from data_pipelines.simulator.rhythm import Rhythm


def _calm_rate(
  rng: np.random.Generator, traits: Traits, rhythm: Rhythm, arousal: Float32[np.ndarray, " minutes"]
) -> Float32[np.ndarray, " minutes"]:
  """Heart rate without exertion, in bpm: falls with depth of sleep; rises in REM, in the afternoon and with arousal."""
  awake = relax((~rhythm.asleep).astype(np.float32), 12)
  level = -10.0 * (1 - awake) - 3.0 * rhythm.depth + 3.0 * rhythm.rem
  level += 2.0 * rhythm.circadian + 3.4 * arousal + 2.2 * wander(rng, rhythm.minutes, 120)
  return traits.resting_heart_rate + relax(level, 3)


def heart(
  rng: np.random.Generator,
  traits: Traits,
  rhythm: Rhythm,
  motion: Motion,
  arousal: Float32[np.ndarray, " minutes"],
) -> dict[str, Float32[np.ndarray, " minutes"]]:
  """Draws the ten PPG channels, by name.

  Exertion moves the heart rate towards its share of the reserve: four fifths of the way with a time constant of two
  minutes, and one fifth with half an hour (drift, and the slow part of recovery). The RR features describe the beats in
  the calmer part of a minute, the only part that yields valid intervals, so they follow 60000 / (heart rate there).
  """
  n = rhythm.minutes
  calm = _calm_rate(rng, traits, rhythm, arousal)
  effort = motion.effort * (1 - 0.1 * min(max(traits.fitness, -2.5), 2.5))
  strain = 0.8 * relax(effort, 2.0) + 0.2 * relax(effort, 30)
  rate = calm + strain * (traits.max_heart_rate - calm)
  rate += 1.6 * wander(rng, n, 4) + 1.1 * white(rng, n)
  rate = np.clip(rate, 36, traits.max_heart_rate + 8)

  vagal = -0.022 * (rate - traits.resting_heart_rate) - 0.16 * arousal + 0.12 * rhythm.depth
  log_rmssd = math.log(traits.rmssd) + vagal + 0.26 * wander(rng, n, 8) + 0.16 * white(rng, n)
  rmssd = np.clip(np.exp(log_rmssd), 3, 220)
  sdnn = np.exp(0.85 * log_rmssd + 0.80 + 0.10 * (1 - rhythm.depth) + 0.15 * white(rng, n))
  sdnn = np.clip(sdnn, 5, 230)

  beats = calm + 0.4 * (relax(rate, 2.0) - calm)
  median = 60000 / beats * (1 + 0.010 * white(rng, n))
  half = np.minimum(1.05 * sdnn, 0.16 * median)
  valid = logistic(-1.6 + 2.6 * (0.14 - motion.movement) / 0.14 + 0.3 * traits.fit + 0.8 * wander(rng, n, 15))
  entropy = 3.30 + 0.62 * (np.log(sdnn) - 3.68) + 0.13 * white(rng, n)
  difference_entropy = 3.00 + 0.62 * (log_rmssd - 3.38) + 0.13 * white(rng, n)
  at_rest = relax(calm + 0.35 * (rate - calm), 25) + 7.0 - 2.5 * rhythm.circadian
  return {
    "heart_rate": rate,
    "heart_rate_at_rest": at_rest + 0.8 * white(rng, n),
    "rr_percent_valid": np.clip(valid + 0.04 * white(rng, n), 0, 1),
    "rr_80th_percentile": median + half * (1 + 0.08 * white(rng, n)),
    "rr_20th_percentile": median - half * (1 + 0.08 * white(rng, n)),
    "rr_median": median,
    "shannon_entropy_rr": np.clip(entropy, 0.5, 5),
    "shannon_entropy_rr_differences": np.clip(difference_entropy, 0.5, 5),
    "rmssd": rmssd,
    "sdnn": sdnn,
  }
