"""What the visible values alone say about a hidden one: lines and curves between its neighbours, local and daily means.

The decoder can use them as a skip connection (config.model.interpolation_skip) and then predicts the difference from a
mixture of them. Nothing imputed enters the encoder, and no hidden value is read.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from aim.model import interpolation

KINDS = ("line", "smooth")
MEAN_MINUTES = (10, 30)  # widths of the local means
EMBEDDED = 4  # features that the decoder's tokens are given, the first ones
# Features per step, and numbers that the head predicts per step: those of skip_output.
FEATURES = {"line": 4, "smooth": 6 + len(MEAN_MINUTES)}
OUTPUTS = {"line": 2, "smooth": 4 + len(MEAN_MINUTES)}
HALF_HOUR = 30  # minutes; where a fresh model's correction has half its size


def interpolation_evidence(
  z: Float[Array, "b s c"], visible: Bool[Array, "b s c"], binary: Bool[Array, " c"], kind: str = "line"
) -> Float[Array, "b s c features"]:
  """Four features per step: line, level, nearness of the previous visible step, nearness of the next.

  The line interpolates between visible steps and is constant beyond the first and last (interpolation.line). The level
  is the mean of the channel's visible steps. Both are logits on binary channels, and 0 in a channel without visible
  steps. Nearness is 1 / (1 + hours), and 0 if there is no such step.

  Kind "smooth" has four more: the logarithm of the distance, in half hours, the cubic between the neighbours
  (interpolation.cubic) and the local means of MEAN_MINUTES. The distance is 1 / (1 / a + 1 / b) for neighbours at a and
  b, as the variance of a random walk between them, and a if there is none at b.
  """
  steps = z.shape[1]
  clock = jnp.arange(steps, dtype=jnp.float32)[None, :, None]
  line, before, after = interpolation.line(z, visible)
  count = visible.sum(axis=1, keepdims=True)
  level = jnp.where(visible, z, 0.0).sum(axis=1, keepdims=True) / jnp.maximum(count, 1)
  level = jnp.broadcast_to(level, z.shape)
  in_units = lambda x: jnp.where(count > 0, jnp.where(binary, _logit(x), x), 0.0)
  hour = steps / 24
  near = lambda distance: 1.0 / (1.0 + distance / hour)
  features = [in_units(line), in_units(level), near(clock - before), near(after - clock)]
  if kind == "smooth":
    per_step = HALF_HOUR * steps / 1440  # steps in half an hour
    farness = 1 / (1 / jnp.maximum(clock - before, 0.1) + 1 / jnp.maximum(after - clock, 0.1))
    features += [
      jnp.log(jnp.clip(farness / per_step, 1e-2, 48.0)),
      in_units(interpolation.cubic(z, visible)),
      *(in_units(interpolation.local_mean(z, visible, minutes)) for minutes in MEAN_MINUTES),
    ]
  return jnp.stack(features, axis=-1)


def skip_output(
  out: Float[Array, "g r n"], evidence: Float[Array, "g r p features"], kind: str
) -> Float[Array, "g r p"]:
  """The prediction from the head's outputs and the evidence.

  "line": the correction is added to a mixture of line and level, whose weight the head predicts.

  "smooth": cubic and local means enter by shares that the head predicts, as differences from the line. Correction and
  level enter times d / (d + tau), where d is the distance of the evidence and the head predicts the logarithm of tau.
  So what the decoder says of its own vanishes next to visible values of a smooth channel, and need not in a noisy one.
  """
  outputs = jnp.split(out, OUTPUTS[kind], axis=-1)
  line, level = evidence[..., 0], evidence[..., 1]
  if kind == "line":
    correction, weight = outputs
    return correction + level + jax.nn.sigmoid(weight) * (line - level)
  correction, weight, log_tau, *shares = outputs
  distant = jax.nn.sigmoid(evidence[..., 4] - log_tau)
  value = line + distant * (correction + jax.nn.sigmoid(weight) * (level - line))
  for i, share in enumerate(shares, start=5):
    value += share * (evidence[..., i] - line)
  return value


def _logit(p: Float[Array, "..."]) -> Float[Array, "..."]:
  p = jnp.clip(p, 0.02, 0.98)
  return jnp.log(p) - jnp.log1p(-p)
