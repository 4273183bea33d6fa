"""What the visible values alone say about a hidden one: the line between its neighbours, and the channel's daily level.

The decoder can use both as a skip connection (config.model.interpolation_skip) and then predicts the difference from a
mixture of them. Nothing imputed enters the encoder, and no hidden value is read.
"""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from aim.model import interpolation

FEATURES = 4


def interpolation_evidence(
  z: Float[Array, "b s c"], visible: Bool[Array, "b s c"], binary: Bool[Array, " c"]
) -> Float[Array, "b s c features"]:
  """Four features per step: line, level, nearness of the previous visible step, nearness of the next.

  The line interpolates between visible steps and is constant beyond the first and last (interpolation.line). The level
  is the mean of the channel's visible steps. Both are logits on binary channels, and 0 in a channel without visible
  steps. Nearness is 1 / (1 + hours), and 0 if there is no such step.
  """
  steps = z.shape[1]
  clock = jnp.arange(steps, dtype=jnp.float32)[None, :, None]
  line, before, after = interpolation.line(z, visible)
  count = visible.sum(axis=1, keepdims=True)
  level = jnp.where(visible, z, 0.0).sum(axis=1, keepdims=True) / jnp.maximum(count, 1)
  level = jnp.broadcast_to(level, z.shape)
  line, level = (jnp.where(count > 0, jnp.where(binary, _logit(x), x), 0.0) for x in (line, level))
  hour = steps / 24
  near = lambda distance: 1.0 / (1.0 + distance / hour)
  return jnp.stack([line, level, near(clock - before), near(after - clock)], axis=-1)


def _logit(p: Float[Array, "..."]) -> Float[Array, "..."]:
  p = jnp.clip(p, 0.02, 0.98)
  return jnp.log(p) - jnp.log1p(-p)
