"""What the visible steps say about a hidden one without any model: the line between its neighbours and the day's level.

Used as an optional skip connection of the decoder (config.model.interpolation_skip): the model then predicts what
differs from a mixture of the two. Nothing imputed enters the encoder, and nothing hidden is read.
"""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from aim.model import interpolation

FEATURES = 4


def interpolation_evidence(
  z: Float[Array, "b s c"], shown: Bool[Array, "b s c"], binary: Bool[Array, " c"]
) -> Float[Array, "b s c features"]:
  """[line, level, nearness of the last step shown, nearness of the next] at every step.

  The line joins the shown steps before and after in time and is flat beyond the first and last; the level is the mean
  of the channel's shown steps; both are logits on binary channels, and 0 where a channel shows nothing.
  Nearness is 1 / (1 + hours), 0 where there is no such step.
  """
  steps = z.shape[1]
  clock = jnp.arange(steps, dtype=jnp.float32)[None, :, None]
  line, before, after = interpolation.line(z, shown)
  count = shown.sum(axis=1, keepdims=True)
  level = jnp.where(shown, z, 0.0).sum(axis=1, keepdims=True) / jnp.maximum(count, 1)
  level = jnp.broadcast_to(level, z.shape)
  line, level = (jnp.where(count > 0, jnp.where(binary, _logit(x), x), 0.0) for x in (line, level))
  hour = steps / 24
  near = lambda distance: 1.0 / (1.0 + distance / hour)
  return jnp.stack([line, level, near(clock - before), near(after - clock)], axis=-1)


def _logit(p: Float[Array, "..."]) -> Float[Array, "..."]:
  p = jnp.clip(p, 0.02, 0.98)
  return jnp.log(p) - jnp.log1p(-p)
