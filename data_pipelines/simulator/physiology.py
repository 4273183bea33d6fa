"""All 26 channels of a person's days, before the device loses anything."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float32

from data_pipelines.lsm2_schema import LSM2_SCHEMA
from data_pipelines.simulator.activities import Motion
from data_pipelines.simulator.filters import relax, wander
from data_pipelines.simulator.heart import heart
from data_pipelines.simulator.people import Traits
from data_pipelines.simulator.rhythm import Rhythm
from data_pipelines.simulator.skin import skin
from data_pipelines.simulator.wrist import wrist


def _arousal(rng: np.random.Generator, traits: Traits, rhythm: Rhythm) -> Float32[np.ndarray, " minutes"]:
  """Stress and excitement, about -1 to 3: slow and fast waves, higher at work and in anxious people, low in sleep."""
  n = rhythm.minutes
  waves = 0.6 * wander(rng, n, 180) + 0.6 * wander(rng, n, 25)
  awake = relax((~rhythm.asleep).astype(np.float32), 10)
  lasting = np.where(rhythm.working, np.float32(0.35), np.float32(0)) + 0.55 * traits.anxiety
  return (waves * (1 + 0.3 * traits.anxiety) + lasting) * (0.25 + 0.75 * awake)


def draw_physiology(
  rng: np.random.Generator, traits: Traits, rhythm: Rhythm, motion: Motion
) -> Float32[np.ndarray, "minutes 26"]:
  """Draws all channels, in the units and the order of LSM2_SCHEMA; every value is finite."""
  arousal = _arousal(rng, traits, rhythm)
  channels = {
    **heart(rng, traits, rhythm, motion, arousal),
    **wrist(rng, rhythm, motion),
    **skin(rng, traits, rhythm, motion, arousal),
  }
  values = np.empty((rhythm.minutes, len(LSM2_SCHEMA.channels)), np.float32)
  for c, name in enumerate(LSM2_SCHEMA.names):
    values[:, c] = channels[name]
  return values
