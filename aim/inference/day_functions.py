"""A trained model's computations, as pure functions of parameters and days, which may be jitted and differentiated."""

from __future__ import annotations

import dataclasses
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Bool, Float, Int, Shaped

from aim.common.config_files import ConfigError
from aim.model import from_config, loss, lsm2, patches
from aim.model.buffer_sizes import BufferSizes
from aim.model.lsm2 import Architecture
from aim.model.masking import Masking, TokenSet, evaluation_token_set, inherited_missing
from aim.model.patches import Arrays, Scale
from aim.model.person_context import Context
from aim.model.token_buffers import TokenBuffer, move
from aim.training.checkpoint import Restored
from aim.training.compatibility import MADE_WITH
from data_pipelines.schema import SchemaError

POOLS = ("mean", "mean_std", "channel")
SHORT_HOLES = ("auto", "decode", "interpolate")


class EncodedTokens(NamedTuple):
  """The encoder's output for a batch of days, in token buffers.

  Attributes:
    embeddings: float32; only the first `lengths` tokens of each day mean anything.
    positions: each token's place on the day's grid, channel (of LSM-1: group of channels) * patches per day + patch.
    lengths: how many tokens each day has.
  """

  embeddings: Float[Array, "b k d"]
  positions: Int[Array, "b k"]
  lengths: Int[Array, " b"]


@dataclasses.dataclass(frozen=True, eq=False)
class DayFunctions:
  """The functions of a trained model: whatever they depend on beside parameters and days.

  Attributes:
    architecture: sizes and options of the network.
    graph: the network without its parameters.
    scale: normalisation by the statistics of the training data.
    masking: the training run's masking, of which min_observed_share only is read.
    imputation: how days are imputed before the network sees them; "none" except for LSM-1.
    short_holes: what fills a missing value inside a patch that is partly observed, "decode" or "interpolate".
    reads_imputed_patches: whether an embedding of an imputed day is also of the patches without any observed value.
  """

  architecture: Architecture
  graph: nnx.GraphDef
  scale: Scale
  masking: Masking
  imputation: str
  short_holes: str
  reads_imputed_patches: bool = True

  @classmethod
  def of(cls, restored: Restored, short_holes: str | None = None, reads_imputed_patches: bool = True) -> DayFunctions:
    """The functions of a checkpoint.

    Args:
      restored: from checkpoint.read.
      short_holes: one of SHORT_HOLES; by default what the model was trained with.
      reads_imputed_patches: see above; it changes a model of imputed days alone.

    Raises:
      ConfigError: short_holes is unknown.
    """
    architecture, config = restored.architecture, restored.config
    masking, imputation = from_config.masking(config, restored.schema), config.data.impute
    trained_for = config.get("impute", {}).get("short_holes", MADE_WITH["impute.short_holes"])
    # A hole in a visible token of an imputed day is no hole to the model, which sees the imputed value.
    chosen = "interpolate" if imputation != "none" else short_holes or trained_for
    if chosen not in SHORT_HOLES:
      raise ConfigError(f"config.impute.short_holes is {chosen!r}, expected one of {', '.join(SHORT_HOLES)}")
    if chosen == "auto":
      chosen = "decode" if masking.trains_short_holes(architecture.patch_values) else "interpolate"
    graph = lsm2.abstract(architecture)[0]
    return cls(architecture, graph, restored.scale, masking, imputation, chosen, reads_imputed_patches)

  @property
  def imputes_input(self) -> bool:
    """True if days are imputed before the network sees them (LSM-1)."""
    return self.imputation != "none"

  def encode(self, params: dict[str, Array], values: Float[Array, "b s c"], sizes: BufferSizes) -> EncodedTokens:
    """Encodes each day's observed tokens (of LSM-1: all tokens, imputed); see Pretrained.encode.

    Raises:
      SchemaError: a day has more tokens than `sizes` have slots, or `sizes` are of no encoder or of another model.
    """
    self._check_sizes(sizes)
    tokens = self._tokens(values, whole_day=True)
    lengths, slots = tokens.visible_lengths, min(sizes.encoder, sizes.largest)
    if not isinstance(lengths, jax.core.Tracer) and len(rows := np.flatnonzero(np.asarray(lengths) > slots)):
      raise SchemaError(
        f"encode: row {rows[0]} has {int(lengths[rows[0]])} tokens, but sizes are buffers of {slots} tokens; "
        "model.encoder_sizes(days), of all days that will be encoded, gives sizes that hold them"
      )
    buffer = sizes.visible_buffer(tokens._replace(visible_lengths=jnp.minimum(lengths, slots)))
    positions = buffer.take(tokens.order)
    network = lsm2.merge(self.graph, params)
    encoded = network.encode(buffer.take(tokens.values), buffer.take(tokens.visible), positions, buffer)
    known = jnp.where((lengths <= slots)[:, None, None], encoded.astype(jnp.float32), jnp.nan)
    return EncodedTokens(known, positions, lengths)

  def embed(
    self, pool: str, params: dict[str, Array], values: Float[Array, "b s c"], sizes: BufferSizes
  ) -> Float[Array, "b features"]:
    """Encodes days and pools their tokens by one of POOLS; see Pretrained.embed."""
    encoded, positions, lengths = self.encode(params, values, sizes)
    if pool == "channel":
      a = self.architecture
      return lsm2.pooled_by_channel(encoded, lengths, positions // a.length, a.channel_groups)
    return lsm2.pooled(encoded, lengths, pool)

  def encode_on_grid(
    self, params: dict[str, Array], values: Float[Array, "b s c"], sizes: BufferSizes
  ) -> Float[Array, "b groups length d"]:
    """Encodes days, each token where it lies in the day, NaN where there is none; see Pretrained.encode_tokens."""
    a = self.architecture
    encoded, positions, lengths = self.encode(params, values, sizes)
    # Slots without a token hold arbitrary numbers; they are dropped.
    positions = jnp.where(jnp.arange(positions.shape[1]) < lengths[:, None], positions, a.tokens)
    grid = jnp.full((len(values), a.tokens, encoded.shape[-1]), jnp.nan)
    grid = grid.at[jnp.arange(len(values))[:, None], positions].set(encoded, mode="drop")
    return grid.reshape(len(values), a.channel_groups, a.length, -1)

  def decode(
    self,
    params: dict[str, Array],
    values: Float[Array, "b s c"],
    target: Bool[Array, "b s c"],
    sizes: BufferSizes,
    context: Context | None = None,
  ) -> Float[Array, "b s c"]:
    """Computes what the model expects where `target` is.

    Args:
      params: of the model, or others of the same architecture.
      values: days in physical units, NaN where missing.
      target: where a reconstruction is needed; elsewhere the result means nothing.
      sizes: buffers that are large enough for every day's tokens and targets, from padded_sizes().
      context: what is known of other days, for a model that reads them; by default nothing.

    Returns:
      z-scores, and probabilities on binary channels.
    """
    a = self.architecture
    tokens = self._tokens(values, target=target)._replace(context=context)
    targets = sizes.target_buffer(tokens)
    prediction = loss.forward(lsm2.merge(self.graph, params), tokens, sizes, targets)
    # From the targets' buffer to the order of the tokens, then to the grid; tokens without a target become 0.
    in_order = TokenBuffer.padded(jnp.zeros_like(tokens.target_ends), tokens.target_ends, a.tokens)
    grid = jnp.argsort(tokens.order, axis=1)
    z = jnp.take_along_axis(move(prediction, targets, in_order), grid[:, :, None], axis=1)
    z = patches.unpatchify(z, a.channels, a.patch_channels)
    z = jnp.where(self.scale.binary, jax.nn.sigmoid(z), jnp.clip(z, -self.scale.clip, self.scale.clip))
    return z if self.short_holes == "decode" else self._with_lines(z, values)

  def decode_in_context(
    self,
    params: dict[str, Array],
    values: Float[Array, "b s c"],
    target: Bool[Array, "b s c"],
    mean: Float[Array, "b s c"],
    days: Shaped[Array, "b s c"],
    sizes: BufferSizes,
  ) -> Float[Array, "b s c"]:
    """As decode(), with mean and number of each person's other days (data_pipelines/context/profile.py)."""
    return self.decode(params, values, target, sizes, Context.normalised(self.scale, mean, days))

  def divided_by_presence(self, values: Arrays, target: Arrays) -> tuple[Arrays, Arrays]:
    """The targets in channels that a day has, and in those it lacks, whole; all in the first where it is no matter.

    With decoder_tokens "present", tokens of a channel without a value are in the decoder only if they are asked for,
    and the others attend to them. Apart, they change nothing of the others, as in training.

    Args:
      values: days in physical units, NaN where missing.
      target: bool of the same shape.
    """
    xp = target.__array_namespace__()
    if self.architecture.decoder_tokens != "present":
      return target, xp.zeros_like(target)
    group = self.architecture.patch_channels
    grouped = lambda x: xp.repeat(x.any(axis=1).reshape(x.shape[0], -1, group).any(axis=2), group, axis=1)
    present = grouped(~xp.isnan(values))[:, None]
    lost = xp.broadcast_to(grouped(target)[:, None] & ~present, target.shape)
    return target & present, lost

  def token_counts(
    self,
    values: Shaped[np.ndarray, "days s c"],
    whole_day: bool,
    target: Bool[np.ndarray, "days s c"] | None = None,
  ) -> tuple[Int[np.ndarray, " days"], Int[np.ndarray, " days"]]:
    """Numbers of visible tokens and of tokens with a target, for each day.

    Args:
      values: days in physical units, NaN where missing.
      whole_day: whether every value of an imputed day (LSM-1) is read, as by encode(), or those alone that are in a
        token with an observed value, as by decode().
      target: see decode(); by default nothing.
    """
    a = self.architecture
    tokens = lambda x: patches.patchify(x, a.patch, a.patch_channels)
    readable = self._readable(~np.isnan(values), whole_day)
    visible = ~inherited_missing(tokens(readable), self.masking)
    targets = np.zeros(len(values), int) if target is None else tokens(target).any(-1).sum(1)
    return np.asarray(visible.sum(1)), np.asarray(targets)

  def padded_sizes(self, visible: int, targets: int) -> BufferSizes:
    """Padded buffers for batches of days with at most so many visible tokens and tokens to predict.

    They come in few sizes because each is compiled: eighths of the grid to encode; an eighth, half or all of it to
    predict.

    Raises:
      SchemaError: no day has so many tokens.
    """
    n = self.architecture.tokens
    for what, count in ("visible", visible), ("targets", targets):
      if not 0 <= count <= n:
        raise SchemaError(f"padded_sizes: {what} is {count}, expected 0 to {n}, the tokens of a day")
    unit = 128 if n >= 1024 else 8
    slots = lambda eighths: min(n, math.ceil(eighths * n / 8 / unit) * unit)
    smallest = lambda count, of: slots(next(eighths for eighths in of if 8 * count <= eighths * n))
    encoder, decoder = smallest(visible, range(1, 9)), smallest(targets, (1, 4, 8))
    return BufferSizes(0, encoder, n, decoder, n, n, self.architecture.decoder_tokens)

  def _check_sizes(self, sizes: BufferSizes) -> None:
    """Raises SchemaError for sizes that are not those of an encoder of this model's days."""
    expected = "expected those that model.encoder_sizes(days) returns"
    if not isinstance(sizes, BufferSizes):
      raise SchemaError(f"encode: sizes are a {type(sizes).__name__}, {expected}")
    if sizes.groups:
      raise SchemaError(f"encode: sizes are of days that are packed in {sizes.groups} buffers, {expected}")
    if sizes.tokens != self.architecture.tokens:
      raise SchemaError(
        f"encode: sizes are of days of {sizes.tokens} tokens, the model's have {self.architecture.tokens}, {expected}"
      )

  def _with_lines(self, z: Float[Array, "b s c"], values: Float[Array, "b s c"]) -> Float[Array, "b s c"]:
    """Replaces z at the missing steps of partly observed patches by the line through the channel's observed steps."""
    a = self.architecture
    line = patches.normalised_days(self.scale, values, "linear")[0]
    observed = ~jnp.isnan(values)
    tokens = patches.patchify(observed, a.patch, a.patch_channels)
    partly = jnp.broadcast_to(tokens.any(2, keepdims=True), tokens.shape)
    partly = patches.unpatchify(partly, a.channels, a.patch_channels)
    return jnp.where(partly & ~observed, line, z)

  def _tokens(
    self, values: Float[Array, "b s c"], whole_day: bool = False, target: Bool[Array, "b s c"] | None = None
  ) -> TokenSet:
    """The tokens that are visible to the encoder, and those with a target."""
    a = self.architecture
    z = patches.normalised_days(self.scale, values, self.imputation)[0]
    readable = self._readable(~jnp.isnan(values), whole_day)
    fold = lambda x: patches.fold(x, a.patch_channels)
    return evaluation_token_set(
      self.masking, fold(z), fold(readable), a.patch_values, None if target is None else fold(target)
    )

  def _readable(self, observed: Arrays, whole_day: bool) -> Arrays:
    """The values that tokens may be made of.

    They are the observed ones. Of an imputed day (LSM-1) they are all values if `whole_day` and if imputed patches are
    read; otherwise those of the tokens with an observed value, so that the others can be reconstructed.
    """
    if not self.imputes_input:
      return observed
    xp = observed.__array_namespace__()
    if whole_day and self.reads_imputed_patches:
      return xp.ones_like(observed)
    a = self.architecture
    tokens = patches.patchify(observed, a.patch, a.patch_channels)
    visible = ~inherited_missing(tokens, self.masking)
    return patches.unpatchify(xp.broadcast_to(visible[:, :, None], tokens.shape), a.channels, a.patch_channels)
