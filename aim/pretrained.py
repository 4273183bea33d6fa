"""A trained model for use: embeddings and imputation of NaN-holed days of its schema."""

from __future__ import annotations

import functools
import pathlib
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from aim import checkpoint, imputers, loss, metrics, model, patches, settings
from aim.masking import observed_tokens
from aim.step import encoder_buckets
from data_pipelines.dataset import Dataset
from data_pipelines.schema import Schema, SchemaError

POOLS = ("mean", "mean_std")
SHORT_HOLES = ("decode", "interpolate")


def load(path: str | pathlib.Path, batch_size: int = 32, short_holes: str | None = None) -> Pretrained:
  """The trained model of a workdir or of one checkpoint; CheckpointError (one line) if there is none.

  short_holes tells what fills a hole inside a patch that is partly observed: "decode" (the model) or "interpolate"
  (a straight line in time); by default what the model was trained for, config.impute.short_holes.
  """
  return Pretrained(checkpoint.read(path), batch_size, short_holes)


class Pretrained:
  """A checkpoint's function on day windows of its `schema`.

  Days are float [days, steps, channels] in physical units, NaN where missing. Only observed steps are read.
  """

  def __init__(self, restored: checkpoint.Restored, batch_size: int = 32, short_holes: str | None = None):
    self.schema: Schema = restored.schema
    self.scale, self.config, self.trained_steps = restored.scale, restored.config, restored.step
    self.architecture, self.params, self.batch_size = restored.architecture, restored.params, batch_size
    self.masking = settings.masking(restored.config, restored.schema)
    self.short_holes = short_holes or restored.config.impute.short_holes
    if self.short_holes not in SHORT_HOLES:
      raise settings.ConfigError(
        f"config.impute.short_holes is {self.short_holes!r}, expected one of {', '.join(SHORT_HOLES)}"
      )
    self._graph = model.abstract(self.architecture)[0]
    self._sizes = encoder_buckets(self.architecture.tokens, 0, "trimmed")

  def embed(self, values: np.ndarray, pool: str = "mean", progress: bool = False) -> np.ndarray:
    """Embeddings float32 [days, width]: the mean over a day's observed tokens (AIM, "evaluation").

    pool="mean_std" appends their standard deviation: [days, 2 * width]. SchemaError for days of another shape, infinite
    values, or a day with nothing observed.
    """
    if pool not in POOLS:
      raise settings.ConfigError(f"pool is {pool!r}, expected one of {', '.join(POOLS)}")
    self.check(values, "embed", empty_days=False)
    return np.concatenate(list(self._batches(self._embed(pool), values, "embed" if progress else None)))

  def impute(self, values: np.ndarray, progress: bool = False) -> np.ndarray:
    """The days with their holes filled, float32 [days, steps, channels]; observed values are returned bit for bit.

    Binary channels are filled with 0 or 1; others with the expected value, within the range seen in training.
    A day with nothing observed is filled with the model's day without evidence.
    """
    self.check(values, "impute")
    filled = np.array(values, np.float32)
    start = 0
    for z in self._reconstructions(values, "impute" if progress else None):
      part = filled[start : start + len(z)]
      holes = np.isnan(part)
      part[holes] = self.physical(z)[holes]
      start += len(z)
    return filled

  def reconstruct(self, values: np.ndarray, progress: bool = False) -> np.ndarray:
    """What the model expects at every step, z-scored [days, steps, channels]; probabilities on binary channels."""
    self.check(values, "reconstruct")
    return np.concatenate(list(self._reconstructions(values, "reconstruct" if progress else None)))

  def _reconstructions(self, values: np.ndarray, description: str | None) -> Iterator[np.ndarray]:
    start = 0
    for z in self._batches(self._reconstruct, values, description):
      yield z if self.short_holes == "decode" else self._interpolated(z, values[start : start + len(z)])
      start += len(z)

  def _interpolated(self, z: np.ndarray, values: np.ndarray) -> np.ndarray:
    """z with a straight line at the missing steps of partly observed patches."""
    known, observed = (np.asarray(array) for array in self.scale.normalise(values))
    patch = self.architecture.patch
    blocks = observed.reshape(len(z), -1, patch, observed.shape[2])
    partly = np.repeat(blocks.any(2) & ~blocks.all(2), patch, axis=1)
    line = imputers.linear(np.where(observed, known, np.nan).astype(np.float32))
    return np.where(partly & ~observed, line, z)

  def physical(self, z: np.ndarray) -> np.ndarray:
    """reconstruct()'s output in the schema's units."""
    continuous = np.clip(z * self.scale.std + self.scale.mean, self.scale.low, self.scale.high)
    return np.where(self.scale.binary, z >= 0.5, continuous).astype(np.float32)

  def check(self, values: np.ndarray, where: str, empty_days: bool = True) -> None:
    """SchemaError unless values are days of this model's schema."""
    if isinstance(values, np.ndarray) and values.ndim != 3:
      expected = (self.schema.steps, len(self.schema.channels))
      raise SchemaError(f"{where}: values have shape {values.shape}, expected [days, {expected[0]}, {expected[1]}]")
    self.schema.check(values, where)
    if not len(values):
      raise SchemaError(f"{where}: there are no days")
    if not empty_days:
      empty = np.flatnonzero(np.isnan(values).all(axis=(1, 2)))
      if len(empty):
        raise SchemaError(f"{where}: row {empty[0]} has no observed value; a day needs at least one")

  def check_dataset(self, dataset: Dataset) -> None:
    """SchemaError unless the dataset is of this model's schema."""
    difference = self.schema.difference(dataset.schema)
    if difference:
      raise SchemaError(f"dataset {dataset.name!r} does not fit the checkpoint: {difference}")

  def _batches(
    self, function: Callable[[Any, Any, int], Any], values: np.ndarray, description: str | None
  ) -> Iterator[np.ndarray]:
    """function of every batch of days, the last one padded to the static shape."""
    # Powers of two: few shapes to compile, whatever numbers of days are asked for.
    size = min(self.batch_size, 1 << max(len(values) - 1, 0).bit_length())
    with metrics.progress(len(values), description or "", "day", disable=description is None) as bar:
      for start in range(0, len(values), size):
        batch = np.asarray(values[start : start + size], np.float32)
        real = len(batch)
        batch = np.pad(batch, ((0, size - real), (0, 0), (0, 0)), constant_values=np.nan)
        largest = int(self._visible(batch))
        encoder_tokens = next(k for k in self._sizes if k >= largest)
        yield np.asarray(function(self.params, batch, encoder_tokens))[:real]
        bar.update(real)

  def _tokens(self, values: Float[Array, "b s c"]) -> Any:
    z, observed = self.scale.normalise(values)
    return observed_tokens(self.masking, z, observed, self.architecture.patch)

  @functools.cached_property
  def _visible(self) -> Callable[[Any], Any]:
    return jax.jit(lambda values: self._tokens(values).visible_lengths.max())

  @functools.cached_property
  def _reconstruct(self) -> Callable[[Any, Any, int], Any]:
    a = self.architecture

    def reconstruct(params: dict[str, Array], values: Float[Array, "b s c"], encoder_tokens: int) -> Array:
      tokens = self._tokens(values)
      lsm2 = model.merge(self._graph, params)
      sorted_prediction = loss.forward(lsm2, tokens, encoder_tokens, a.tokens, all_positions=True)
      grid = jnp.argsort(tokens.order, axis=1)
      z = patches.unpatchify(jnp.take_along_axis(sorted_prediction, grid[:, :, None], axis=1), a.channels)
      return jnp.where(self.scale.binary, jax.nn.sigmoid(z), jnp.clip(z, -self.scale.clip, self.scale.clip))

    return jax.jit(reconstruct, static_argnums=2)

  @functools.cache  # noqa: B019 a handful of models live as long as the program
  def _embed(self, pool: str) -> Callable[[Any, Any, int], Any]:
    def embed(params: dict[str, Array], values: Float[Array, "b s c"], encoder_tokens: int) -> Array:
      tokens = self._tokens(values)
      lsm2 = model.merge(self._graph, params)
      k = encoder_tokens
      encoded = lsm2.encode(tokens.values[:, :k], tokens.shown[:, :k], tokens.order[:, :k], tokens.visible_lengths)
      return pooled(encoded.astype(jnp.float32), tokens.visible_lengths, pool)

    return jax.jit(embed, static_argnums=2)


def pooled(encoded: Float[Array, "b k d"], lengths: Array, pool: str) -> Float[Array, "b e"]:
  """Mean over the first lengths[i] tokens, with their standard deviation appended for "mean_std"."""
  valid = (jnp.arange(encoded.shape[1]) < lengths[:, None])[:, :, None]
  mean = jnp.where(valid, encoded, 0.0).sum(1) / lengths[:, None]
  if pool == "mean":
    return mean
  variance = jnp.where(valid, jnp.square(encoded - mean[:, None]), 0.0).sum(1) / lengths[:, None]
  return jnp.concatenate([mean, jnp.sqrt(variance)], axis=-1)
