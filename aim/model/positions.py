"""Fixed sine-cosine position embeddings of (channel, time) tokens."""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Real

PATCHES_PER_DAY = 144  # of ten minutes, as published


def sincos(position: Real[Array, "..."], width: int) -> Float[Array, "... width"]:
  """[sin(p w_k)..., cos(p w_k)...] with w_k = 10000^(-k / (width / 2)), k = 0 .. width / 2 - 1 (Vaswani 2017, 3.5)."""
  frequency = 10000.0 ** (-jnp.arange(width // 2) / (width // 2))
  angle = position[..., None].astype(jnp.float32) * frequency
  return jnp.concatenate([jnp.sin(angle), jnp.cos(angle)], axis=-1)


def token_positions(
  token: Int[Array, "..."], length: int, width: int, places: tuple[int, ...]
) -> Float[Array, "... width"]:
  """Position embeddings of token = channel * length + time: half the width for the channel, half for the time.

  A channel is embedded by its place, not by its index, so that it may keep its code among other channels.

  Time is counted in units of ten minutes for every patch length, which for the published ten-minute patch is its index.
  If 24 one-hour patches were counted 0 to 23, most frequencies would hardly change over the day, and attention would
  learn the hour only slowly.
  """
  time = (token % length) * (PATCHES_PER_DAY / length)
  place = jnp.asarray(places)[token // length]
  return jnp.concatenate([sincos(place, width // 2), sincos(time, width // 2)], axis=-1)
