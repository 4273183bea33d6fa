"""Embeddings of stretches of a day: the mean over the observed tokens that overlap them."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from aim import compiler, model
from aim.pretrained import Pretrained
from aim.sizes import Sizes


def embed_windows(
  trained: Pretrained,
  values: Float[np.ndarray, "d s c"],
  day: Int[np.ndarray, " n"],
  start: Int[np.ndarray, " n"],
  end: Int[np.ndarray, " n"],
) -> Float[np.ndarray, "n width"]:
  """The mean embedding of each window's tokens; every token is encoded with its whole day.

  Args:
    trained: the model.
    values: days in physical units, NaN where missing, each with an observed value.
    day, start, end: of each window: which day, and its steps [start, end).

  Returns:
    float64 [n, width]. A token counts if it is observed and shares a step with the window; a window without one has
    the mean of its day. A model of imputed days (LSM-1) has every token, as in Pretrained.embed.
  """
  a = trained.architecture
  by_time = trained._run(_by_time(trained), values, None, whole=True)  # [d, length, width + 1]: sums, and how many
  until = np.cumsum(by_time, axis=1, dtype=np.float64)
  until = np.concatenate([np.zeros_like(until[:, :1]), until], axis=1)  # before each time
  first, last = start // a.patch, -(-end // a.patch)
  sums = until[day, last] - until[day, first]
  sums = np.where(sums[:, -1:] > 0, sums, until[day, -1])
  return sums[:, :-1] / sums[:, -1:]


@functools.cache
def _by_time(trained: Pretrained) -> Callable[[Any, Any, Sizes], Any]:
  """Sums over the observed tokens of each time of day, and their number in the last place."""
  a = trained.architecture
  graph = model.abstract(a)[0]

  def by_time(params: dict[str, Array], values: Float[Array, "b s c"], sizes: Sizes) -> Float[Array, "b length w"]:
    tokens = trained._tokens(values, whole=True)
    rows = sizes.visible_rows(tokens)
    order = rows.take(tokens.order)
    encoded = model.merge(graph, params).encode(rows.take(tokens.values), rows.take(tokens.shown), order, rows)
    valid = jnp.arange(order.shape[1]) < tokens.visible_lengths[:, None]
    encoded = jnp.concatenate([encoded.astype(jnp.float32), jnp.ones((*order.shape, 1))], axis=-1)
    # A token's place is group of channels * length + time.
    at = jax.nn.one_hot(jnp.where(valid, order % a.length, -1), a.length)
    return jnp.einsum("bkt,bkw->btw", at, jnp.where(valid[:, :, None], encoded, 0.0))

  return jax.jit(by_time, static_argnums=2, compiler_options=compiler.options())
