"""Fixed sine-cosine positions of (channel, time) tokens."""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Real

TEN_MINUTES_A_DAY = 144


def sincos(position: Real[Array, "..."], width: int) -> Float[Array, "... width"]:
  """[sin(p w_k)..., cos(p w_k)...] with w_k = 10000^(-k / (width / 2)), k = 0 .. width / 2 - 1 (Vaswani 2017, 3.5)."""
  frequency = 10000.0 ** (-jnp.arange(width // 2) / (width // 2))
  angle = position[..., None].astype(jnp.float32) * frequency
  return jnp.concatenate([jnp.sin(angle), jnp.cos(angle)], axis=-1)


def token_positions(token: Int[Array, "..."], length: int, width: int) -> Float[Array, "... width"]:
  """Positions of tokens token = channel * length + time: half the width for the channel, then half for the time.

  Time counts in ten minutes whatever the patch: the published layout's patch, so nothing changes for it. With 24
  one-hour patches counted 0 .. 23 most frequencies stand still all day, and attention finds the hour only slowly.
  """
  time = (token % length) * (TEN_MINUTES_A_DAY / length)
  return jnp.concatenate([sincos(token // length, width // 2), sincos(time, width // 2)], axis=-1)
