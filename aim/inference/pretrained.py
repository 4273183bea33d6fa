"""A trained model for use: embeddings and imputation of NaN-holed days of its schema."""

from __future__ import annotations

import functools
import math
import pathlib
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from aim.common import config_files
from aim.common.progress import progress_bar
from aim.model import from_config, interpolation, loss, lsm2, patches
from aim.model.buffer_sizes import BufferSizes
from aim.model.masking import TokenSet, evaluation_token_set, inherited_missing
from aim.model.token_buffers import TokenBuffer, move
from aim.runtime import compile_options
from aim.training import checkpoint
from data_pipelines.dataset import Dataset
from data_pipelines.errors import SchemaError
from data_pipelines.schema import Schema

POOLS = ("mean", "mean_std", "channel")
SHORT_HOLES = ("decode", "interpolate")


def load(path: str | pathlib.Path, batch_size: int = 32, short_holes: str | None = None) -> Pretrained:
  """The trained model of a workdir or of one checkpoint; CheckpointError (one line) if there is none.

  short_holes tells what fills a hole inside a patch that is partly observed: "decode" (the model) or "interpolate"
  (a straight line in time); by default what the model was trained for, config.impute.short_holes.
  """
  return Pretrained(checkpoint.read(path), batch_size, short_holes)


class EncodedTokens(NamedTuple):
  """The encoder's output for a batch of days, in token buffers.

  Attributes:
    embeddings: float32; of each day only the first `lengths` tokens mean anything.
    positions: each token's place on the day's grid, channel (or group of channels) * patches per day + patch.
    lengths: how many tokens each day has.
  """

  embeddings: Float[Array, "b k d"]
  positions: Int[Array, "b k"]
  lengths: Int[Array, " b"]


class Pretrained:
  """A checkpoint's function on day windows of its `schema`.

  Days are float [days, steps, channels] in physical units, NaN where missing. Only observed steps are read.
  """

  def __init__(self, restored: checkpoint.Restored, batch_size: int = 32, short_holes: str | None = None):
    self.schema: Schema = restored.schema
    self.scale, self.config, self.trained_steps = restored.scale, restored.config, restored.step
    self.architecture, self.params, self.batch_size = restored.architecture, restored.params, batch_size
    self.name = restored.config.name  # in tables and figures
    self.masking = from_config.masking(restored.config, restored.schema)
    self.imputation = from_config.imputation(restored.config)
    # A hole in a visible token of an imputed day is no hole to the model: it has the imputed value.
    self.short_holes = "interpolate" if self.imputes_input else short_holes or restored.config.impute.short_holes
    if self.short_holes not in SHORT_HOLES:
      raise config_files.ConfigError(
        f"config.impute.short_holes is {self.short_holes!r}, expected one of {', '.join(SHORT_HOLES)}"
      )
    self._graph = lsm2.abstract(self.architecture)[0]

  @property
  def has_decoder(self) -> bool:
    """Whether there is a decoder: SimCLR, DINO and MSN reconstruct nothing."""
    return self.architecture.projection is None

  def check_has_decoder(self, where: str) -> None:
    """UserError unless the model reconstructs days."""
    if not self.has_decoder:
      raise SchemaError(f"{where}: {self.name} has no decoder, it makes embeddings alone; use a masked autoencoder")

  @property
  def imputes_input(self) -> bool:
    """Whether days are imputed before the model sees them (LSM-1)."""
    return self.imputation != "none"

  def embed(self, values: np.ndarray, pool: str = "mean", progress: bool = False) -> np.ndarray:
    """Embeddings float32 [days, width]: the mean over a day's observed tokens (AIM, "evaluation").

    A model of imputed days (LSM-1) sees every token, observed or imputed.

    pool="mean_std" appends their standard deviation: [days, 2 * width]. pool="channel" has a mean for every channel (of
    LSM-1, every group of channels), NaN where nothing of it was observed: [days, channels * width]. SchemaError for
    days of another shape, infinite values, or a day with nothing observed.
    """
    self.embedding_width(pool)
    self.check_days(values, "embed", empty_days=False)
    return self.map_days(self._embed(pool), values, "embed" if progress else None, whole=True)

  def embedding_width(self, pool: str) -> int:
    """Numbers in an embedding of embed(pool=pool); ConfigError for an unknown pool."""
    if pool not in POOLS:
      raise config_files.ConfigError(f"pool is {pool!r}, expected one of {', '.join(POOLS)}")
    a = self.architecture
    return a.encoder.width * {"mean": 1, "mean_std": 2, "channel": a.tokens // a.length}[pool]

  def impute(self, values: np.ndarray, progress: bool = False) -> np.ndarray:
    """The days with their holes filled, float32 [days, steps, channels]; observed values are returned bit for bit.

    Binary channels are filled with 0 or 1; others with the expected value, within the range seen in training.
    A day with nothing observed is filled with the model's day without evidence.
    """
    self.check_has_decoder("impute")
    self.check_days(values, "impute")
    filled = np.array(values, np.float32)
    holes = np.isnan(filled)
    filled[holes] = self.physical(self.reconstruct(values, holes, progress))[holes]
    return filled

  def reconstruct(self, values: np.ndarray, wanted: np.ndarray | None = None, progress: bool = False) -> np.ndarray:
    """What the model expects at every step, z-scored [days, steps, channels]; probabilities on binary channels.

    wanted, bool [days, steps, channels]: where an answer is asked for; elsewhere the result means nothing. The fewer
    tokens have such a step, the sooner it is done.

    A model of imputed days (LSM-1): a token without any observed cell is masked and decoded; every other is visible,
    its holes on a straight line in time as in training, and there the line is the answer: it is what the model has.
    """
    self.check_has_decoder("reconstruct")
    self.check_days(values, "reconstruct")
    wanted = np.ones(values.shape, bool) if wanted is None else wanted
    if wanted.shape != values.shape or wanted.dtype != bool:
      raise SchemaError(f"reconstruct: wanted is {wanted.dtype} {wanted.shape}, expected bool {values.shape}")
    z = self.map_days(self._reconstruct, values, "reconstruct" if progress else None, wanted=wanted)
    return self._short_holes(z, values)

  def _short_holes(self, z: np.ndarray, values: np.ndarray) -> np.ndarray:
    return z if self.short_holes == "decode" else self._interpolated(z, values)

  def _interpolated(self, z: np.ndarray, values: np.ndarray) -> np.ndarray:
    """z with a straight line at the missing steps of partly observed patches."""
    known, observed = (np.asarray(array) for array in self.scale.normalise(values))
    a = self.architecture
    tokens = np.asarray(patches.patchify(jnp.asarray(observed), a.patch, a.patch_channels))
    partly = np.broadcast_to(tokens.any(2, keepdims=True), tokens.shape)
    partly = np.asarray(patches.unpatchify(jnp.asarray(partly), a.channels, a.patch_channels))
    line = np.asarray(interpolation.fill_linearly(jnp.asarray(known), jnp.asarray(observed), self.scale.training_mean))
    return np.where(partly & ~observed, line, z)

  def physical(self, z: np.ndarray) -> np.ndarray:
    """reconstruct()'s output in the schema's units."""
    continuous = np.clip(z * self.scale.std + self.scale.mean, self.scale.low, self.scale.high)
    return np.where(self.scale.binary, z >= 0.5, continuous).astype(np.float32)

  def check_days(self, values: np.ndarray, where: str, empty_days: bool = True) -> None:
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

  def map_days(
    self,
    function: Callable[..., Any],
    values: np.ndarray,
    description: str | None = None,
    whole: bool = False,
    wanted: np.ndarray | None = None,
  ) -> np.ndarray:
    """function(parameters, days, BufferSizes) of every day, or of (parameters, days, wanted, BufferSizes).

    `whole` as in _readable.

    Days are taken in the order of their observed tokens, so that a batch pads little.
    """
    visible, targets = self._counts(values, whole, wanted)
    order = np.argsort(visible, kind="stable")
    # Powers of two: few shapes to compile, whatever numbers of days are asked for.
    size = min(self.batch_size, 1 << max(len(values) - 1, 0).bit_length())
    out: np.ndarray | None = None
    with progress_bar(len(values), description or "", "day", disable=description is None) as bar:
      for start in range(0, len(values), size):
        days = order[start : start + size]
        rest = ((0, size - len(days)), (0, 0), (0, 0))
        batch = [np.pad(np.asarray(values[days], np.float32), rest, constant_values=np.nan)]
        if wanted is not None:
          batch.append(np.pad(wanted[days], rest))
        sizes = self.padded_sizes(int(visible[days].max()), int(targets[days].max()))
        found = np.asarray(function(self.params, *batch, sizes))
        out = np.empty((len(values), *found.shape[1:]), found.dtype) if out is None else out
        out[days] = found[: len(days)]
        bar.update(len(days))
    assert out is not None  # there is at least one day
    return out

  def _counts(self, values: np.ndarray, whole: bool, wanted: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Observed tokens of each day, and tokens with a wanted step."""
    a = self.architecture
    tokens = lambda cells: patches.patchify(cells, a.patch, a.patch_channels)
    visible = ~inherited_missing(
      tokens(self._readable(jnp.asarray(~np.isnan(values)), whole)), self.masking.min_observed_share
    )
    targets = np.zeros(len(values), int) if wanted is None else tokens(jnp.asarray(wanted)).any(-1).sum(1)
    return np.asarray(visible.sum(1)), np.asarray(targets)

  def encoder_sizes(self, *days: np.ndarray) -> BufferSizes:
    """Buffers for encode() that hold the observed tokens of every one of `days`, arrays [days, steps, channels]."""
    return self.padded_sizes(max(int(self._counts(values, whole=True)[0].max()) for values in days), 1)

  def encode(self, params: dict[str, Array], values: Float[Array, "b s c"], sizes: BufferSizes) -> EncodedTokens:
    """Encodes each day's observed tokens (of LSM-1: all of them, imputed): a pure function that may be jitted and
    differentiated.

    Args:
      params: the model's own (self.params) or others of the same architecture; only the encoder's are read.
      values: days in physical units, NaN where missing.
      sizes: buffers that are large enough for every day; see encoder_sizes.
    """
    tokens = self._tokens(values, whole=True)
    rows = sizes.visible_buffer(tokens)
    positions = rows.take(tokens.order)
    network = lsm2.merge(self._graph, params)
    encoded = network.encode(rows.take(tokens.values), rows.take(tokens.visible), positions, rows)
    return EncodedTokens(encoded.astype(jnp.float32), positions, tokens.visible_lengths)

  def padded_sizes(self, visible: int, targets: int) -> BufferSizes:
    """Padded buffers for batches of at most so many observed tokens and tokens to predict.

    Few sizes, because each is compiled: eighths of the grid to encode; an eighth, half or all of it to predict.
    """
    n = self.architecture.tokens
    unit = 128 if n >= 1024 else 8
    rows = lambda eighths: min(n, math.ceil(eighths * n / 8 / unit) * unit)
    least = lambda count, of: rows(next(eighths for eighths in of if 8 * count <= eighths * n))
    return BufferSizes(
      0, least(visible, range(1, 9)), n, least(targets, (1, 4, 8)), n, n, self.architecture.decoder_tokens
    )

  def _tokens(
    self, values: Float[Array, "b s c"], whole: bool = False, wanted: Bool[Array, "b s c"] | None = None
  ) -> TokenSet:
    a = self.architecture
    z = patches.normalised_days(self.scale, values, self.imputation)[0]
    readable = self._readable(~jnp.isnan(values), whole)
    fold = lambda cells: patches.fold(cells, a.patch_channels)
    return evaluation_token_set(
      self.masking, fold(z), fold(readable), a.patch_values, None if wanted is None else fold(wanted)
    )

  def _readable(self, observed: Bool[Array, "b s c"], whole: bool) -> Bool[Array, "b s c"]:
    """The cells that tokens may be made of: the observed ones. Of an imputed day those of tokens with an observed cell;
    all of them where the `whole` day is meant."""
    if not self.imputes_input:
      return observed
    if whole:
      return jnp.ones_like(observed)
    a = self.architecture
    tokens = patches.patchify(observed, a.patch, a.patch_channels)
    seen = ~inherited_missing(tokens, self.masking.min_observed_share)
    return patches.unpatchify(jnp.broadcast_to(seen[:, :, None], tokens.shape), a.channels, a.patch_channels)

  @functools.cached_property
  def _reconstruct(self) -> Callable[..., Any]:
    a = self.architecture

    def reconstruct(
      params: dict[str, Array], values: Float[Array, "b s c"], asked: Bool[Array, "b s c"], sizes: BufferSizes
    ) -> Array:
      tokens = self._tokens(values, wanted=asked)
      network = lsm2.merge(self._graph, params)
      wanted = sizes.target_buffer(tokens)
      prediction = loss.forward(network, tokens, sizes, wanted)
      # Places of tokens that were not asked for are 0.
      in_order = TokenBuffer.padded(jnp.zeros_like(tokens.target_ends), tokens.target_ends, a.tokens)
      grid = jnp.argsort(tokens.order, axis=1)
      z = jnp.take_along_axis(move(prediction, wanted, in_order), grid[:, :, None], axis=1)
      z = patches.unpatchify(z, a.channels, a.patch_channels)
      return jnp.where(self.scale.binary, jax.nn.sigmoid(z), jnp.clip(z, -self.scale.clip, self.scale.clip))

    return jax.jit(reconstruct, static_argnums=3, compiler_options=compile_options.compiler_options())

  @functools.cache  # noqa: B019 a handful of models live as long as the program
  def _embed(self, pool: str) -> Callable[[Any, Any, BufferSizes], Any]:
    def embed(params: dict[str, Array], values: Float[Array, "b s c"], sizes: BufferSizes) -> Array:
      encoded, positions, lengths = self.encode(params, values, sizes)
      if pool == "channel":
        a = self.architecture
        return lsm2.pooled_by_channel(encoded, lengths, positions // a.length, a.channel_groups)
      return lsm2.pooled(encoded, lengths, pool)

    return jax.jit(embed, static_argnums=2, compiler_options=compile_options.compiler_options())
