"""The electrodermal and skin temperature channels."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float32

from data_pipelines.simulator.activities import Motion
from data_pipelines.simulator.filters import logistic, relax, wander, white
from data_pipelines.simulator.people import Traits
from data_pipelines.simulator.rhythm import Rhythm


def skin(
  rng: np.random.Generator,
  traits: Traits,
  rhythm: Rhythm,
  motion: Motion,
  arousal: Float32[np.ndarray, " minutes"],
) -> dict[str, Float32[np.ndarray, " minutes"]]:
  """Draws the three EDA channels and the two TEMP channels, by name.

  Sweat follows arousal within minutes, and exertion within a quarter of an hour unless air or water cools the skin. The
  electrodes read low where contact is poor. Skin warms during sleep (vasodilation) and after the first minutes of
  exercise.
  """
  n = rhythm.minutes
  asleep = relax(rhythm.asleep.astype(np.float32), 20)
  hot = relax(motion.effort * (motion.chill < 2), 15)
  contact = 0.03 + 0.96 * logistic(7 * (wander(rng, n, 50) + 1.35 + 0.3 * traits.fit - 0.25 * motion.movement))

  sweat = 0.32 * arousal + 7.5 * hot - 0.35 * asleep + 0.45 * rhythm.depth * wander(rng, n, 10)
  drift = 0.6 * wander(rng, n, 400)
  level = traits.conductance * np.exp(relax(sweat, 3) + drift + 0.02 * white(rng, n))
  level = np.clip(level * (0.25 + 0.75 * contact), 0.03, 160)
  growth = np.diff(np.log(level), prepend=np.log(level[:1])) * 60  # relative change per hour

  warmth = 0.9 * asleep - 0.15 * rhythm.circadian + 5.0 * relax(hot, 8) - 0.15 * arousal
  warmth += 1.4 * wander(rng, n, 90) - 1.0 * relax(motion.chill, 10) - 0.7 * relax(motion.effort, 3)
  temperature = traits.skin_temperature + relax(warmth, 4) + 0.17 * white(rng, n)
  return {
    "skin_conductance_level": level,
    "skin_conductance_slope": 3.24 + 1.15 * np.arcsinh(growth / 1.1) + 0.15 * white(rng, n),
    "lead_contact_counts": np.round(np.clip(255 * contact + 3 * white(rng, n), 0, 255)),
    "skin_temperature": np.clip(temperature, 20, 39),
    "skin_temperature_slope": np.diff(temperature, prepend=temperature[:1]) * 60 + 0.27,
  }
