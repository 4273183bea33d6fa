"""Embeddings of stretches of a day: the mean over the observed tokens that overlap them."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from aim.inference.pretrained import EncodedTokens, Pretrained
from aim.model.buffer_sizes import BufferSizes
from aim.model.lsm2 import Architecture
from aim.runtime import compile_options


def embed_windows(
  trained: Pretrained,
  values: Float[np.ndarray, "d s c"],
  day: Int[np.ndarray, " n"],
  start: Int[np.ndarray, " n"],
  end: Int[np.ndarray, " n"],
  pool: str = "mean",
) -> Float[np.ndarray, "n e"]:
  """The mean embedding of each window's tokens; every token is encoded with its whole day.

  Args:
    trained: the model.
    values: days in physical units, NaN where missing, each with an observed value.
    day, start, end: of each window: which day, and its steps [start, end).
    pool: "mean" of all tokens, e = width, or "channel", a mean for every channel (or group of channels of LSM-1), NaN
      where it has no token in the window, e = channels * width.

  Returns:
    float64 [n, e]. A token counts if it is observed and shares a step with the window; a window without one has
    the mean of its day. A model of imputed days (LSM-1) has every token, as in Pretrained.embed.
  """
  a = trained.architecture
  by_time = trained.map_days(_by_time(trained, pool), values, whole=True)  # [d, channels, length, width + 1]
  first, last = start // a.patch, -(-end // a.patch)
  found = np.empty((len(day), by_time.shape[1], by_time.shape[3]))
  for d in np.unique(day):
    rows = np.flatnonzero(day == d)
    until = np.cumsum(by_time[d], axis=1, dtype=np.float64)
    until = np.concatenate([np.zeros_like(until[:, :1]), until], axis=1)  # before each time
    sums = (until[:, last[rows]] - until[:, first[rows]]).swapaxes(0, 1)
    nothing = sums[:, :, -1].sum(1) == 0
    found[rows] = np.where(nothing[:, None, None], until[:, -1], sums)
  count = found[:, :, -1:]
  return np.divide(found[:, :, :-1], count, out=np.full_like(found[:, :, :-1], np.nan), where=count > 0).reshape(
    len(day), -1
  )


@functools.cache
def _by_time(trained: Pretrained, pool: str) -> Callable[[Any, Any, BufferSizes], Any]:
  """sums_by_time of days, of each channel or, for "mean", of all channels together."""
  a = trained.architecture

  def by_time(
    params: dict[str, Array], values: Float[Array, "b s c"], sizes: BufferSizes
  ) -> Float[Array, "b g length w"]:
    sums = sums_by_time(trained.encode(params, values, sizes), a)
    return sums if pool == "channel" else sums.sum(1, keepdims=True)

  return jax.jit(by_time, static_argnums=2, compiler_options=compile_options.compiler_options())


def sums_by_time(tokens: EncodedTokens, architecture: Architecture) -> Float[Array, "b g length w"]:
  """The first lengths[i] encoded tokens at their channel (or group of channels, g) and time of day, float32.

  In the last place, w = d + 1, is 1 where there is a token; 0 everywhere where there is none.
  """
  a = architecture
  embeddings, positions, lengths = tokens
  valid = jnp.arange(positions.shape[1]) < lengths[:, None]
  counted = jnp.concatenate([embeddings, jnp.ones((*positions.shape, 1))], axis=-1)
  # A token's place is group of channels * length + time; rows without one hold anything, NaN too, and are dropped.
  place = jnp.where(valid, positions, a.tokens)
  sums = jnp.zeros((len(positions), a.tokens, counted.shape[-1]))
  sums = sums.at[jnp.arange(len(positions))[:, None], place].add(counted, mode="drop")
  return sums.reshape(len(positions), a.tokens // a.length, a.length, -1)
