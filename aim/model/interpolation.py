"""The straight line in time between observed steps, on the device: what LSM-1 fills its days with before it learns."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

IMPUTATIONS = ("none", "linear")


class Line(NamedTuple):
  """At every step of every channel.

  Attributes:
    value: on the line between the shown steps before and after; flat beyond the first and last; 0 where a channel shows
      nothing.
    before, after: those steps, the step itself where it is shown; -inf and inf where there is none.
  """

  value: Float[Array, "b s c"]
  before: Float[Array, "b s c"]
  after: Float[Array, "b s c"]


def line(z: Float[Array, "b s c"], shown: Bool[Array, "b s c"]) -> Line:
  """The line through the shown steps. Nothing else of z is read."""
  clock = jnp.arange(z.shape[1], dtype=jnp.float32)[None, :, None]
  before = jax.lax.cummax(jnp.where(shown, clock, -jnp.inf), axis=1)
  after = jax.lax.cummin(jnp.where(shown, clock, jnp.inf), axis=1, reverse=True)
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
  """z with its holes on the line, as imputers.linear; `fill` where a channel has no observation that day."""
  return jnp.where(observed, z, jnp.where(observed.any(1, keepdims=True), line(z, observed).value, fill))


def _value_at(z: Float[Array, "b s c"], time: Float[Array, "b s c"]) -> Float[Array, "b s c"]:
  return jnp.take_along_axis(z, jnp.clip(jnp.nan_to_num(time), 0, z.shape[1] - 1).astype(jnp.int32), axis=1)
