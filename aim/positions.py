"""Fixed sine-cosine positions of (channel, time) tokens."""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Array, Float, Int


def sincos(position: Int[Array, "..."], width: int) -> Float[Array, "... width"]:
  """[sin(p w_k)..., cos(p w_k)...] with w_k = 10000^(-k / (width / 2)), k = 0 .. width / 2 - 1 (Vaswani 2017, 3.5)."""
  frequency = 10000.0 ** (-jnp.arange(width // 2) / (width // 2))
  angle = position[..., None].astype(jnp.float32) * frequency
  return jnp.concatenate([jnp.sin(angle), jnp.cos(angle)], axis=-1)


def positions(token: Int[Array, "b n"], length: int, width: int) -> Float[Array, "b n width"]:
  """Positions of tokens token = channel * length + time: half the width for the channel, then half for the time."""
  return jnp.concatenate([sincos(token // length, width // 2), sincos(token % length, width // 2)], axis=-1)
