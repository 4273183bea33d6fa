"""Estimates of hidden values from the visible ones alone: lines and curves between neighbours, local and daily means.

The decoder can use them as a skip connection (config.model.interpolation_skip) and then predicts the difference from a
mixture of them. Nothing imputed enters the encoder, and no hidden value is read.
"""

from __future__ import annotations

from collections.abc import Sequence

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

  Kind "smooth" has four more: the logarithm of the distance (log_distance), the cubic between the neighbours
  (interpolation.cubic) and the local means of MEAN_MINUTES.
  """
  steps = z.shape[1]
  clock = jnp.arange(steps, dtype=jnp.float32)[None, :, None]
  line, before, after = interpolation.line(z, visible)
  count = visible.sum(axis=1, keepdims=True)
  level = jnp.where(visible, z, 0.0).sum(axis=1, keepdims=True) / jnp.maximum(count, 1)
  level = jnp.broadcast_to(level, z.shape)
  in_units = lambda x: jnp.where(count > 0, jnp.where(binary, logit(x), x), 0.0)
  hour = steps / 24
  near = lambda distance: 1.0 / (1.0 + distance / hour)
  features = [in_units(line), in_units(level), near(clock - before), near(after - clock)]
  if kind == "smooth":
    features += [
      log_distance(before, after, steps),
      in_units(interpolation.cubic(z, visible)),
      *(in_units(interpolation.local_mean(z, visible, minutes)) for minutes in MEAN_MINUTES),
    ]
  return jnp.stack(features, axis=-1)


def log_distance(before: Float[Array, "b s c"], after: Float[Array, "b s c"], steps: int) -> Float[Array, "b s c"]:
  """The logarithm of the distance, in half hours, of each step from those at or before and at or after it.

  It is 1 / (1 / a + 1 / b) for neighbours at a and b, as the variance of a random walk between them, and a if there is
  none at b; a day if there is neither.
  """
  clock = jnp.arange(steps, dtype=jnp.float32)[None, :, None]
  per_step = HALF_HOUR * steps / 1440  # steps in half an hour
  farness = 1 / (1 / jnp.maximum(clock - before, 0.1) + 1 / jnp.maximum(after - clock, 0.1))
  return jnp.log(jnp.clip(farness / per_step, 1e-2, 48.0))


def skip_output(
  out: Float[Array, "g r n"], evidence: Float[Array, "g r p features"], curves: Float[Array, "g r channels m k"] | None
) -> tuple[Float[Array, "g r p"], Float[Array, "g r p"]]:
  """The prediction from the head's outputs and the evidence, and the part of it that is the decoder's own correction.

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
    return correction + level + jax.nn.sigmoid(weight) * (line - level), correction
  correction, shifts = out[..., : line.shape[2]], out[..., line.shape[2] :]
  distance = evidence[..., 4]
  log_tau, weight, *shares = at_distance(CURVE_SCALE * curves, distance, KNOTS)
  log_tau, weight = log_tau + shifts[..., :1], weight + shifts[..., 1:]
  nearness = jax.nn.sigmoid(distance - log_tau)
  value = line + nearness * (correction + jax.nn.sigmoid(weight) * (level - line))
  for i, share in enumerate(shares, start=5):
    value += share * (evidence[..., i] - line)
  return value, nearness * correction


def at_distance(
  curves: Float[Array, "g r channels m k"], distance: Float[Array, "g r p"], knots: Sequence[float]
) -> Float[Array, "m g r p"]:
  """The curves at every value of a patch; its values are those of its first step in all channels, then the second's.

  Args:
    curves: their values at the knots; linear in the logarithm between them, and constant beyond.
    distance: log_distance of each value.
    knots: in minutes; equal steps of the logarithm.
  """
  first, ratio = np.log(knots[0] / HALF_HOUR), np.log(knots[1] / knots[0])
  place = jnp.clip((distance - first) / ratio, 0, len(knots) - 1)
  weights = jnp.maximum(0, 1 - jnp.abs(place[..., None] - jnp.arange(len(knots))))
  weights = weights.reshape(*weights.shape[:2], -1, curves.shape[2], len(knots))
  values = jnp.einsum("grcmk,grsck->mgrsc", curves, weights, precision=jax.lax.Precision.HIGHEST)
  return values.reshape(-1, *distance.shape)


def logit(p: Float[Array, "..."]) -> Float[Array, "..."]:
  """The logit of a share; of those beyond 0.02 and 0.98, that of these."""
  p = jnp.clip(p, 0.02, 0.98)
  return jnp.log(p) - jnp.log1p(-p)
