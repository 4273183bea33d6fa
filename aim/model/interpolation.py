"""Interpolation in time between observed steps, on the device: lines, cubics and local means.

LSM-1 fills its days with the line before training; the decoder's interpolation skip uses all of them.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float


class Line(NamedTuple):
  """The interpolation at every step of every channel.

  Attributes:
    value: linear between the nearest known steps, constant before the first and after the last; 0 if there are none.
    before, after: index of the nearest known step at or before, and at or after, each step; -inf and inf if none.
  """

  value: Float[Array, "b s c"]
  before: Float[Array, "b s c"]
  after: Float[Array, "b s c"]


def line(z: Float[Array, "b s c"], known: Bool[Array, "b s c"]) -> Line:
  """Interpolates between the known steps; no other value of z is read."""
  clock, before, after = _neighbours(known)
  value_before, value_after = (_value_at(z, time) for time in (before, after))
  has_before, has_after = jnp.isfinite(before), jnp.isfinite(after)
  span = jnp.where(has_before & has_after & (after > before), after - before, 1.0)
  weight = jnp.where(has_before & has_after, jnp.where(has_before, clock - before, 0.0) / span, 0.0)
  value = jnp.where(has_before & has_after, value_before + weight * (value_after - value_before), 0.0)
  value = jnp.where(has_before & ~has_after, value_before, jnp.where(has_after & ~has_before, value_after, value))
  return Line(value, before, after)


def cubic(z: Float[Array, "b s c"], known: Bool[Array, "b s c"]) -> Float[Array, "b s c"]:
  """The Catmull-Rom cubic between the neighbours of each step, through uneven distances.

  The slope at a neighbour is that from the known step behind it to the neighbour on the other side, so noise of two
  close steps is not extrapolated into a long gap. Without a known step behind it is the line's slope. Equals `line`
  where a step has a neighbour on one side only.
  """
  clock, before, after = _neighbours(known)
  # The known step before a known one. It rises with time, so its largest value so far is that of the last known step.
  earlier = jnp.concatenate([jnp.full_like(before[:, :1], -jnp.inf), before[:, :-1]], axis=1)
  later = jnp.concatenate([after[:, 1:], jnp.full_like(after[:, :1], jnp.inf)], axis=1)
  earlier = jax.lax.cummax(jnp.where(known, earlier, -jnp.inf), axis=1)
  later = jax.lax.cummin(jnp.where(known, later, jnp.inf), axis=1, reverse=True)
  times = (earlier, before, after, later)
  known_times = [jnp.isfinite(time) for time in times]
  between = known_times[1] & known_times[2] & (after > before)
  x0, x1, x2, x3 = (jnp.where(has, time, 0.0) for has, time in zip(known_times, times, strict=True))
  y0, y1, y2, y3 = jnp.split(_value_at(z, jnp.concatenate(times, axis=1)), 4, axis=1)
  span = jnp.where(between, x2 - x1, 1.0)
  u = jnp.where(between, (clock - x1) / span, 0.0)
  rise = y2 - y1  # slopes are per span
  rise1 = jnp.where(between & known_times[0], (y2 - y0) * span / jnp.where(known_times[0], x2 - x0, 1.0), rise)
  rise2 = jnp.where(between & known_times[3], (y3 - y1) * span / jnp.where(known_times[3], x3 - x1, 1.0), rise)
  # A cubic Hermite spline, as the line and what bends it.
  bend = u * (1 - u) * ((1 - u) * (rise1 - rise) - u * (rise2 - rise))
  return line(z, known).value + jnp.where(between, bend, 0.0)


def local_mean(z: Float[Array, "b s c"], known: Bool[Array, "b s c"], minutes: float) -> Float[Array, "b s c"]:
  """The mean of the known values, each with weight 1 / (1 + (distance / minutes)^2); 0 if there are none.

  Where values are near, those within `minutes` count; in a long gap the weights widen to its edges by themselves, and
  no weight underflows.
  """
  steps = z.shape[1]
  clock = jnp.arange(steps) * (1440 / steps / minutes)
  weight = 1 / (1 + jnp.square(clock[:, None] - clock))
  both = jnp.concatenate([jnp.where(known, z, 0.0), known.astype(z.dtype)], axis=-1)
  total, count = jnp.split(jnp.einsum("st,btc->bsc", weight, both, precision=jax.lax.Precision.HIGHEST), 2, axis=-1)
  return jnp.where(count > 0, total / jnp.where(count > 0, count, 1.0), 0.0)


def fill_linearly(
  z: Float[Array, "b s c"], observed: Bool[Array, "b s c"], fill: Float[np.ndarray, " c"]
) -> Float[Array, "b s c"]:
  """z with holes interpolated, and `fill` where a channel has no observed value that day.

  Equals linear() in aim/evaluation/generative/imputers.py.
  """
  return jnp.where(observed, z, jnp.where(observed.any(1, keepdims=True), line(z, observed).value, fill))


def _neighbours(
  known: Bool[Array, "b s c"],
) -> tuple[Float[Array, "1 s 1"], Float[Array, "b s c"], Float[Array, "b s c"]]:
  """The index of each step, and of the known steps at or before and at or after it; -inf and inf if none."""
  clock = jnp.arange(known.shape[1], dtype=jnp.float32)[None, :, None]
  before = jax.lax.cummax(jnp.where(known, clock, -jnp.inf), axis=1)
  return clock, before, jax.lax.cummin(jnp.where(known, clock, jnp.inf), axis=1, reverse=True)


def _value_at(z: Float[Array, "b s c"], time: Float[Array, "b n c"]) -> Float[Array, "b n c"]:
  return jnp.take_along_axis(z, jnp.clip(jnp.nan_to_num(time), 0, z.shape[1] - 1).astype(jnp.int32), axis=1)
