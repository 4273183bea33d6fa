"""Linear interpolation in time between observed steps, on the device. LSM-1 fills its days with it before training."""

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
  clock = jnp.arange(z.shape[1], dtype=jnp.float32)[None, :, None]
  before = jax.lax.cummax(jnp.where(known, clock, -jnp.inf), axis=1)
  after = jax.lax.cummin(jnp.where(known, clock, jnp.inf), axis=1, reverse=True)
  value_before, value_after = (_value_at(z, time) for time in (before, after))
  has_before, has_after = jnp.isfinite(before), jnp.isfinite(after)
  span = jnp.where(has_before & has_after & (after > before), after - before, 1.0)
  weight = jnp.where(has_before & has_after, jnp.where(has_before, clock - before, 0.0) / span, 0.0)
  value = jnp.where(has_before & has_after, value_before + weight * (value_after - value_before), 0.0)
  value = jnp.where(has_before & ~has_after, value_before, jnp.where(has_after & ~has_before, value_after, value))
  return Line(value, before, after)


def fill_linearly(
  z: Float[Array, "b s c"], observed: Bool[Array, "b s c"], fill: Float[np.ndarray, " c"]
) -> Float[Array, "b s c"]:
  """z with holes interpolated, and `fill` where a channel has no observed value that day.

  Equals linear() in aim/evaluation/generative/imputers.py.
  """
  return jnp.where(observed, z, jnp.where(observed.any(1, keepdims=True), line(z, observed).value, fill))


def _value_at(z: Float[Array, "b s c"], time: Float[Array, "b s c"]) -> Float[Array, "b s c"]:
  return jnp.take_along_axis(z, jnp.clip(jnp.nan_to_num(time), 0, z.shape[1] - 1).astype(jnp.int32), axis=1)
