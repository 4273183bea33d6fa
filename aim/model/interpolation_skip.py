"""What the visible values alone say about a hidden one: lines and curves between its neighbours, local and daily means.

The decoder can use them as a skip connection (config.model.interpolation_skip) and then predicts the difference from a
mixture of them. Nothing imputed enters the encoder, and no hidden value is read.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from aim.model import interpolation

KINDS = ("line", "smooth")
MEAN_MINUTES = (10, 30)  # widths of the local means
EMBEDDED = 4  # features that the decoder's tokens are given, the first ones
FEATURES = {"line": 4, "smooth": 6 + len(MEAN_MINUTES)}  # per step
HALF_HOUR = 30  # minutes; where a fresh model's correction has half its size
# A channel's curves over the distance of the evidence: log tau, the level's weight, and the shares of cubic and means.
CURVES = 3 + len(MEAN_MINUTES)
KNOTS = (0.6, 1.5, 3.75, 9.375, 23.4375, 58.59375)  # minutes; equal steps of the logarithm
CURVE_SCALE = 4  # of the curves' parameters: Adam moves each by about the learning rate, and log tau has far to go
TOKEN_SHIFTS = 2  # that the head predicts per token: of log tau and of the level's weight


def head_outputs(patch_values: int, kind: str) -> int:
  """The numbers that the decoder's head predicts per token with the skip: those that skip_output reads."""
  return 2 * patch_values if kind == "line" else patch_values + TOKEN_SHIFTS


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
  out: Float[Array, "g r n"], evidence: Float[Array, "g r p features"], curves: Float[Array, "g r channels m k"] | None
) -> Float[Array, "g r p"]:
  """The prediction from the head's outputs and the evidence.

  Without curves, kind "line": the correction is added to a mixture of line and level, whose weight the head predicts.

  With curves, kind "smooth": cubic and local means enter by shares, as differences from the line; correction and level
  times d / (d + tau), where d is the distance of the evidence. The shares, the logarithm of tau and the weight of the
  level depend on channel and distance; the head adds what depends on the token to the last two. So what the decoder
  says of its own vanishes next to visible values of a smooth channel, and need not in a noisy one.

  Args:
    out: head_outputs per slot.
    evidence: interpolation_evidence of the values of each slot's patch.
    curves: of the channels of each slot's patch; linear in log d between their values at KNOTS, and constant beyond.
  """
  line, level = evidence[..., 0], evidence[..., 1]
  if curves is None:
    correction, weight = jnp.split(out, 2, axis=-1)
    return correction + level + jax.nn.sigmoid(weight) * (line - level)
  correction, shifts = out[..., : line.shape[2]], out[..., line.shape[2] :]
  log_distance = evidence[..., 4]
  log_tau, weight, *shares = _at_distance(CURVE_SCALE * curves, log_distance)
  log_tau, weight = log_tau + shifts[..., :1], weight + shifts[..., 1:]
  value = line + jax.nn.sigmoid(log_distance - log_tau) * (correction + jax.nn.sigmoid(weight) * (level - line))
  for i, share in enumerate(shares, start=5):
    value += share * (evidence[..., i] - line)
  return value


def _at_distance(
  curves: Float[Array, "g r channels m k"], log_distance: Float[Array, "g r p"]
) -> Float[Array, "m g r p"]:
  """The curves at every value of a patch; its values are those of its first step in all channels, then the second's."""
  first, ratio = np.log(KNOTS[0] / HALF_HOUR), np.log(KNOTS[1] / KNOTS[0])
  place = jnp.clip((log_distance - first) / ratio, 0, len(KNOTS) - 1)
  weights = jnp.maximum(0, 1 - jnp.abs(place[..., None] - jnp.arange(len(KNOTS))))
  weights = weights.reshape(*weights.shape[:2], -1, curves.shape[2], len(KNOTS))
  values = jnp.einsum("grcmk,grsck->mgrsc", curves, weights, precision=jax.lax.Precision.HIGHEST)
  return values.reshape(CURVES, *log_distance.shape)


def _logit(p: Float[Array, "..."]) -> Float[Array, "..."]:
  p = jnp.clip(p, 0.02, 0.98)
  return jnp.log(p) - jnp.log1p(-p)
