"""Evidence on a hidden value from a person's other days: the usual value at this time, moved to the level of today.

The decoder can use them beside the visible values of the day (config.model.context_days). They are means over days
(data_pipelines/context) and join the interpolation skip (aim/model/interpolation_skip.py) as evidence: nothing of them
enters the encoder, and no hidden value is read.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Shaped

from aim.model import interpolation
from aim.model.interpolation_skip import CURVE_SCALE, at_distance, log_distance, logit
from aim.model.patches import Scale

FEATURES = 6  # per step
EMBEDDED = 3  # features that the decoder's tokens are given, the first ones
SMOOTH_MINUTES = 60  # a mean over few days is noisy from step to step, and a person's usual day is smoother
# A channel's curves over the distance of the evidence: the weight of the person's other days, that of the level of
# today, the logarithm of the distance at which what is visible today counts half, and the share of the mean that is not
# smoothed.
CURVES = 4
SHIFTS = 3  # that the decoder predicts per token: of the first three curves
KNOTS = tuple(6 * 240 ** (i / 5) for i in range(6))  # minutes, from 6 to a whole day; equal steps of the logarithm
START = (-4.0, -3.0, -2.0, -1.0, 0.0, 1.0)  # of the first curve: what is near is interpolated at first


class Context(NamedTuple):
  """The profile of a person's other days, normalised.

  Attributes:
    mean: z-scores, of binary channels the share of ones; 0 where unknown.
    days: number of days behind each mean, 0 where unknown.
  """

  mean: Float[Array, "b s c"]
  days: Shaped[Array, "b s c"]

  @classmethod
  def normalised(cls, scale: Scale, mean: Float[Array, "b s c"], days: Shaped[Array, "b s c"]) -> Context:
    """A profile in physical units, NaN where unknown (data_pipelines/context/profile.py), on the model's scale."""
    z, known = scale.normalise(mean)
    return cls(z, jnp.where(known, days, jnp.zeros_like(days)))

  @classmethod
  def none(cls, like: Float[Array, "b s c"]) -> Context:
    """No other days."""
    return cls(jnp.zeros_like(like), jnp.zeros_like(like))


def context_evidence(
  z: Float[Array, "b s c"], visible: Bool[Array, "b s c"], binary: Bool[Array, " c"], context: Context
) -> Float[Array, "b s c features"]:
  """Features per step: usual, log days, deviation, mean of the step itself, deviation of the day, log distance.

  *Usual* is the person's mean at this time of day over the other days, smoothed over SMOOTH_MINUTES; *log days* the
  logarithm of the number of days behind it, smoothed alike, so that it is small where only times further off are known.
  The *deviation* is that of today's visible values from usual, interpolated between them (interpolation.line); its mean
  over them is that of the day. All but log days are in logits on binary channels. Without any mean of a channel, all
  but the distance are 0, and log days is minus infinity, which nothing but a comparison may read.

  Args:
    z: z-scores; read where visible.
    visible: the values that may be read.
    binary: which channels are binary.
    context: of the same days.
  """
  steps = z.shape[1]
  count = context.days.astype(jnp.float32)
  clock = jnp.arange(steps) * (1440 / steps / SMOOTH_MINUTES)
  weight = 1 / jnp.square(1 + jnp.square(clock[:, None] - clock))
  both = jnp.concatenate([count * context.mean, count], axis=-1)
  total, days = jnp.split(jnp.einsum("st,btc->bsc", weight, both, precision=jax.lax.Precision.HIGHEST), 2, axis=-1)
  known = days > 0
  usual = jnp.where(known, total / jnp.where(known, days, 1.0), 0.0)
  days = days / weight.sum(axis=1)[:, None]
  own = jnp.where(count > 0, context.mean, usual)
  today = visible & known
  line, before, after = interpolation.line(jnp.where(today, z - usual, 0.0), today)
  number = today.sum(axis=1, keepdims=True)
  level = jnp.where(today, z - usual, 0.0).sum(axis=1, keepdims=True) / jnp.maximum(number, 1)
  in_units = lambda x: jnp.where(binary, logit(x), x)
  beside = lambda x: jnp.where(known & (number > 0), in_units(usual + x) - in_units(usual), 0.0)
  return jnp.stack(
    [
      jnp.where(known, in_units(usual), 0.0),
      jnp.where(known, jnp.log(jnp.where(known, days, 1.0)), -jnp.inf),
      beside(line),
      jnp.where(known, in_units(own), 0.0),
      beside(level),
      log_distance(before, after, steps),
    ],
    axis=-1,
  )


def embedded(evidence: Float[Array, "g r p features"]) -> Float[Array, "g r p 3"]:
  """Inputs to the decoder's tokens: usual, the deviation of today, and how far usual is known, from 0 to 1."""
  usual, log_days, deviation = (evidence[..., i] for i in range(3))
  return jnp.stack([usual, deviation, jax.nn.sigmoid(log_days)], axis=-1)


def with_context(
  value: Float[Array, "g r p"],
  correction: Float[Array, "g r p"],
  shifts: Float[Array, "g r shifts"],
  evidence: Float[Array, "g r p features"],
  curves: Float[Array, "g r channels m k"],
) -> Float[Array, "g r p"]:
  """Moves a prediction from the day alone towards what is expected from the person's other days.

  That is usual plus today's deviation: near visible values the one between them, far from them a share of the day's.
  What the decoder corrects is kept. The weight is n / (n + k) for n days, where k depends on channel, distance and
  token; it is exactly 0 where nothing is known.

  Args:
    value: from interpolation_skip.skip_output.
    correction: the part of it that is the decoder's own.
    shifts: SHIFTS per slot, from the decoder.
    evidence: context_evidence of the values of each slot's patch.
    curves: of the channels of each slot's patch.
  """
  usual, log_days, deviation, own, level, distance = (evidence[..., i] for i in range(FEATURES))
  start = np.zeros((CURVES, len(KNOTS)), np.float32)
  start[0] = START
  trust, level_share, log_tau, own_share = at_distance(CURVE_SCALE * curves + start, distance, KNOTS)
  trust, level_share, log_tau = (x + shifts[..., i : i + 1] for i, x in enumerate((trust, level_share, log_tau)))
  faded = jax.nn.sigmoid(distance - log_tau) * (jax.nn.sigmoid(level_share) * level - deviation)
  expected = usual + own_share * (own - usual) + deviation + faded
  return value + jax.nn.sigmoid(trust + log_days) * (expected + correction - value)
