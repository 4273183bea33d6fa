"""Embeddings of windows of a day: the mean over the observed tokens that overlap them."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Shaped

from aim.common.config_files import ConfigError
from aim.inference.day_functions import DayFunctions, EncodedTokens
from aim.inference.day_runner import Days
from aim.inference.pretrained import Pretrained
from aim.model.buffer_sizes import BufferSizes
from aim.model.lsm2 import Architecture
from data_pipelines.errors import SchemaError
from data_pipelines.in_memory.plain_arrays import check_unmasked

# Whole numbers [n] as callers have them; what does not fit is refused in one line.
Whole = Shaped[np.ndarray, "..."] | Sequence

_POOLS = ("mean", "channel")


def embed_windows(
  trained: Pretrained,
  values: Days,
  day: Whole,
  start: Whole,
  end: Whole,
  pool: str = "mean",
) -> Float[np.ndarray, "n e"]:
  """Embeds windows of days by the mean of their tokens; every token is encoded with its whole day.

  A token counts if it is observed and shares a step with the window. A window without such a token gets the mean of
  its day. In LSM-1, which sees imputed days, every token counts, as in Pretrained.embed.

  Args:
    trained: the model.
    values: days in physical units, NaN where missing, each with an observed value.
    day: the row of `values` that each window belongs to, from 0; at least one window.
    start: its first step, from 0.
    end: the step after its last, at most the steps of a day.
    pool: "mean" over all tokens, e = width; or "channel", one mean per channel (of LSM-1: per group of channels), NaN
      where the channel has no token in the window, e = channels * width.

  Returns:
    float64 [n, e].

  Raises:
    SchemaError: days as embed() refuses them, no windows, or a window that is not one of whole steps within its day.
    ConfigError: pool is unknown.
    CheckpointError: the result is NaN or Inf, because the model's parameters are.
  """
  a = trained.architecture
  if pool not in _POOLS:
    raise ConfigError(f"pool is {pool!r}, expected one of {', '.join(_POOLS)}")
  values = trained.checked_days(values, "embed_windows", empty_days=False)
  day, start, end = _checked_windows(day, start, end, values.shape)
  function = functools.partial(_sums, trained.functions, pool)
  by_time = trained.map_days(f"sums by time, {pool}", function, values, whole_day=True)  # [d, g, length, width + 1]
  trained.check_result("embed_windows", by_time.reshape(len(by_time), 1, -1))
  first, last = start // a.patch, -(-end // a.patch)
  sums = np.empty((len(day), by_time.shape[1], by_time.shape[3]))
  for d in np.unique(day):
    windows = np.flatnonzero(day == d)
    until = np.cumsum(by_time[d], axis=1, dtype=np.float64)
    until = np.concatenate([np.zeros_like(until[:, :1]), until], axis=1)  # sums before each time
    within = (until[:, last[windows]] - until[:, first[windows]]).swapaxes(0, 1)
    is_empty = within[:, :, -1].sum(1) == 0
    sums[windows] = np.where(is_empty[:, None, None], until[:, -1], within)
  count = sums[:, :, -1:]
  mean = np.divide(sums[:, :, :-1], count, out=np.full_like(sums[:, :, :-1], np.nan), where=count > 0)
  return mean.reshape(len(day), -1)


def _checked_windows(
  day: Any, start: Any, end: Any, shape: tuple[int, ...]
) -> tuple[Int[np.ndarray, " n"], Int[np.ndarray, " n"], Int[np.ndarray, " n"]]:
  """The windows as int64 arrays, once they are known to lie in days [d, s, c] of this shape.

  Raises:
    SchemaError: they do not; the message names the first window that does not.
  """
  windows = {}
  for name, given in {"day": day, "start": start, "end": end}.items():
    check_unmasked(given, "embed_windows", f"the numbers of {name}")
    try:
      array = np.asarray(given)
    except ValueError:  # rows of different lengths
      raise SchemaError(f"embed_windows: {name} is no array of whole numbers, expected [windows]") from None
    if array.ndim != 1 or (len(array) and array.dtype.kind not in "iu"):
      raise SchemaError(f"embed_windows: {name} is {array.dtype} {array.shape}, expected whole numbers [windows]")
    windows[name] = array.astype(np.int64)
  lengths = {name: len(array) for name, array in windows.items()}
  if len({*lengths.values()}) > 1 or not lengths["day"]:
    given_lengths = ", ".join(f"{length} of {name}" for name, length in lengths.items())
    raise SchemaError(f"embed_windows: {given_lengths}, expected as many of each, and at least one")
  first, last, row = windows["start"], windows["end"], windows["day"]
  for wrong, expected in (
    ((row < 0) | (row >= shape[0]), f"a day from 0 to {shape[0] - 1}"),
    ((first < 0) | (last > shape[1]), f"steps within [0, {shape[1]})"),
    (first >= last, "a window that starts before it ends"),
  ):
    if wrong.any():
      n = int(wrong.argmax())
      raise SchemaError(
        f"embed_windows: window {n} is steps [{first[n]}, {last[n]}) of day {row[n]}, expected {expected}"
      )
  return row, first, last


def _sums(
  functions: DayFunctions, pool: str, params: dict[str, Array], values: Float[Array, "b s c"], sizes: BufferSizes
) -> Float[Array, "b g length w"]:
  """sums_by_time of days, per channel or, for "mean", of all channels together (g = 1)."""
  sums = sums_by_time(functions.encode(params, values, sizes), functions.architecture)
  return sums if pool == "channel" else sums.sum(1, keepdims=True)


def sums_by_time(tokens: EncodedTokens, architecture: Architecture) -> Float[Array, "b g length w"]:
  """Places encoded tokens at their channel (or group of channels, g) and patch of the day.

  Returns:
    float32 [b, g, length, w] with w = d + 1: the embedding, then 1, where there is a token; 0 everywhere else. Sums
    over channels or times therefore give sums of embeddings and, last, how many there are.
  """
  a = architecture
  embeddings, positions, lengths = tokens
  is_token = jnp.arange(positions.shape[1]) < lengths[:, None]
  counted = jnp.concatenate([embeddings, jnp.ones((*positions.shape, 1))], axis=-1)
  # Slots without a token hold arbitrary numbers, perhaps NaN, and are dropped.
  place = jnp.where(is_token, positions, a.tokens)
  sums = jnp.zeros((len(positions), a.tokens, counted.shape[-1]))
  sums = sums.at[jnp.arange(len(positions))[:, None], place].add(counted, mode="drop")
  return sums.reshape(len(positions), a.channel_groups, a.length, -1)
