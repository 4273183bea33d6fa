"""LSM-2: a masked autoencoder over sets of (patch, position) tokens, one patch of one channel each.

Both halves take *sets* of tokens in buffers of rows (aim/model/token_buffers.py), never a grid: dropping, trimming, packing and
reordering tokens are the caller's choice and change nothing for the tokens that stay.
"""

from __future__ import annotations

import dataclasses
import itertools
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float, Int

from aim.model.interpolation_skip import FEATURES
from aim.model.layers import Dense, LayerNorm, gelu, initial
from aim.model.positions import token_positions
from aim.model.token_buffers import TokenBuffer, buffer_attention, move

DECODER_TOKENS = ("all", "observed", "visible")


@dataclasses.dataclass(frozen=True)
class Tower:
  """Sizes of an encoder or a decoder."""

  width: int
  mlp: int
  heads: int
  layers: int


@dataclasses.dataclass(frozen=True)
class Projection:
  """The head of a model that compares views: sizes of its MLP, and how many prototypes there are, 0 for none."""

  hidden: int
  width: int
  layers: int
  prototypes: int


@dataclasses.dataclass(frozen=True)
class Architecture:
  """All that fixes the model's function and parameters.

  Attributes:
    channels, length, patch: channels, patches a day, and steps a patch.
    observed_flags: give the patch embedding the per-step observed flags beside the values, so that a missing minute
      of a visible token is not read as an average one. The published layout has none.
    interpolation_skip: the decoder also sees, and adds to its output a learned mixture of, the line between the shown
      steps around each step and the level of the channel's shown steps (aim/model/interpolation_skip.py). Not in the published layout.
    binary: which channels are binary, bool [channels].
    qk_init: above 0, queries and keys of a layer start as the same random projection of this SD, so that tokens attend
      to tokens at like positions from the first step (after Trockman and Kolter 2023, "Mimetic initialization"). 0 is
      the published start: independent, SD 0.02.
    decoder_tokens: what a token attends to in the decoder, one of DECODER_TOKENS. "all": every position of the day,
      the mask token at those not seen (published). "observed": all but what the sensor lost. "visible": the visible
      ones alone, by cross-attention (after Fu et al. 2024, "Rethinking patch dependence for masked autoencoders").
    attention: backend of aim/model/attention.
    dtype: compute type; parameters and softmax statistics are float32.
    remat: recompute each block's activations in the backward pass.
    patch_channels: channels of a patch, 1 in LSM-2 and 5 in LSM-1. The last group of channels is filled up with some
      that are never observed and never scored.
    projection: None for a masked autoencoder; otherwise there is no decoder but this head.
  """

  channels: int
  length: int
  patch: int
  encoder: Tower
  decoder: Tower
  observed_flags: bool
  interpolation_skip: bool
  binary: tuple[bool, ...]
  qk_init: float
  decoder_tokens: str
  attention: str
  dtype: str
  remat: bool
  patch_channels: int
  projection: Projection | None

  @property
  def channel_groups(self) -> int:
    """Rows of the token grid: groups of patch_channels channels."""
    return -(-self.channels // self.patch_channels)

  @property
  def patch_values(self) -> int:
    """Numbers in a patch: steps x channels."""
    return self.patch * self.patch_channels

  @property
  def tokens(self) -> int:
    return self.channel_groups * self.length


class Attention(nnx.Module):
  """Multi-head attention with one fused projection in the order q, k, v."""

  def __init__(self, width: int, heads: int, qk_init: float, dtype: Any, backend: str, rngs: nnx.Rngs):
    self.backend = backend
    self.qkv = Dense(width, (3, heads, width // heads), dtype, rngs)
    if qk_init:
      both = qk_init * jax.random.normal(rngs.params(), (width, 1, heads, width // heads))
      self.qkv.kernel.set_value(self.qkv.kernel.get_value().at[:, :2].set(both))
    self.out = Dense((heads, width // heads), width, dtype, rngs)

  def __call__(
    self, x: Float[Array, "g r d"], rows: TokenBuffer, memory: Float[Array, "g s d"] | None, memory_buffer: TokenBuffer
  ) -> Float[Array, "g r d"]:
    """Each token of x attends to its window's tokens in `memory`, or in x itself where that is None."""
    if memory is None:
      qkv = self.qkv(x)
      q, k, v = (qkv[:, :, i] for i in range(3))
    else:
      q, kv = self.qkv(x, slice(0, 1))[:, :, 0], self.qkv(memory, slice(1, 3))
      k, v = (kv[:, :, i] for i in range(2))
    return self.out(buffer_attention(q, k, v, rows, memory_buffer, self.backend))


class Mlp(nnx.Module):
  """Two layers with an exact (erf) GELU between."""

  def __init__(self, width: int, hidden: int, dtype: Any, rngs: nnx.Rngs):
    self.up = Dense(width, hidden, dtype, rngs)
    self.down = Dense(hidden, width, dtype, rngs)

  def __call__(self, x: Float[Array, "g r d"]) -> Float[Array, "g r d"]:
    return self.down(gelu(self.up(x)))


class TransformerBlock(nnx.Module):
  """A pre-LN transformer block."""

  def __init__(self, tower: Tower, a: Architecture, rngs: nnx.Rngs):
    dtype = jnp.dtype(a.dtype)
    self.norm1 = LayerNorm(tower.width)
    self.attention = Attention(tower.width, tower.heads, a.qk_init, dtype, a.attention, rngs)
    self.norm2 = LayerNorm(tower.width)
    self.mlp = Mlp(tower.width, tower.mlp, dtype, rngs)

  def __call__(
    self,
    x: Float[Array, "g r d"],
    rows: TokenBuffer,
    memory: Float[Array, "g s d"] | None = None,
    memory_buffer: TokenBuffer | None = None,
  ) -> Float[Array, "g r d"]:
    """x after attending to `memory`, or to itself where that is None."""
    if memory is not None:
      memory = self.norm1(memory)
    x = x + self.attention(self.norm1(x), rows, memory, memory_buffer or rows)
    return x + self.mlp(self.norm2(x))


class Transformer(nnx.Module):
  """Blocks and a final LayerNorm."""

  def __init__(self, tower: Tower, a: Architecture, rngs: nnx.Rngs):
    self.blocks = nnx.List([TransformerBlock(tower, a, rngs) for _ in range(tower.layers)])
    self.norm = LayerNorm(tower.width)
    self.remat = a.remat

  def __call__(
    self, x: Float[Array, "g r d"], rows: TokenBuffer, wanted: TokenBuffer | None = None
  ) -> Float[Array, "g s d"]:
    """Self-attention of x; with `wanted` only the outputs of those tokens, and only their last block, are computed."""
    for block in self.blocks[:-1]:
      x = self._run(block, x, rows)
    if wanted is None:
      return self.norm(self._run(self.blocks[-1], x, rows))
    return self.norm(self._run(self.blocks[-1], move(x, rows, wanted), wanted, x, rows))

  def attend(
    self, x: Float[Array, "g r d"], rows: TokenBuffer, memory: Float[Array, "g s d"], memory_buffer: TokenBuffer
  ) -> Float[Array, "g r d"]:
    """Cross-attention: x attends to `memory` in every block and never to itself."""
    for block in self.blocks:
      x = self._run(block, x, rows, memory, memory_buffer)
    return self.norm(x)

  def _run(
    self,
    block: TransformerBlock,
    x: Float[Array, "g r d"],
    rows: TokenBuffer,
    memory: Float[Array, "g s d"] | None = None,
    memory_buffer: TokenBuffer | None = None,
  ) -> Float[Array, "g r d"]:
    if not self.remat:
      return block(x, rows, memory, memory_buffer)
    # Activations are computed again in the backward pass instead of kept.
    graph, state = nnx.split(block)
    again = jax.checkpoint(lambda state, x, memory: nnx.merge(graph, state)(x, rows, memory, memory_buffer))
    return again(state, x, memory)


class Encoder(nnx.Module):
  """What all models share: the patch embedding and the encoder."""

  def __init__(self, architecture: Architecture, rngs: nnx.Rngs):
    a = self.architecture = architecture
    self.patch_embedding = Dense(
      a.patch_values * (2 if a.observed_flags else 1), a.encoder.width, jnp.dtype(a.dtype), rngs
    )
    self.encoder = Transformer(a.encoder, a, rngs)

  def encode(
    self, values: Float[Array, "g r p"], shown: Bool[Array, "g r p"], token: Int[Array, "g r"], rows: TokenBuffer
  ) -> Float[Array, "g r d"]:
    """Encodes sets of tokens.

    Args:
      values: z-scores; read only where `shown`.
      shown: the steps that may be read.
      token: each token's grid position, channel (or group of channels) * length + time.
      rows: whose tokens these are, at least one a window; outputs on rows without a token mean nothing.
    """
    a = self.architecture
    x = jnp.where(shown, values, 0.0)
    if a.observed_flags:
      x = jnp.concatenate([x, shown.astype(x.dtype)], axis=-1)
    x = self.patch_embedding(x)
    x = x + _place(token, a, a.encoder.width).astype(x.dtype)
    return self.encoder(x, rows)


class Lsm2(Encoder):
  """The masked autoencoder of LSM-2 (ViT-1D, patch x 1 channel) and of LSM-1 (patch x 5 channels)."""

  def __init__(self, architecture: Architecture, rngs: nnx.Rngs):
    super().__init__(architecture, rngs)
    a, dtype = architecture, jnp.dtype(architecture.dtype)
    self.bridge = Dense(a.encoder.width, a.decoder.width, dtype, rngs)
    self.mask_token = nnx.Param(initial(rngs.params(), (a.decoder.width,)))
    self.decoder = Transformer(a.decoder, a, rngs)
    outputs = a.patch_values
    if a.interpolation_skip:
      self.evidence_embedding = Dense(FEATURES * a.patch_values, a.decoder.width, dtype, rngs)
      outputs = 2 * a.patch_values  # what is added to the mixture, and its weights
    self.head = Dense(a.decoder.width, outputs, jnp.float32, rngs)

  def decode(
    self,
    encoded: Float[Array, "g r d"],
    encoder_buffer: TokenBuffer,
    order: Int[Array, "b n"],
    decoder_buffer: TokenBuffer,
    wanted: TokenBuffer | None = None,
    evidence: Float[Array, "b n p features"] | None = None,
  ) -> Float[Array, "g s p"]:
    """Predicts tokens from the encoded ones.

    Args:
      encoded, encoder_buffer: encode()'s output.
      order: the grid positions of each window's tokens, in the token order that all TokenBuffer count in.
      decoder_buffer: the tokens in the decoder: those that take part or, with decoder_tokens "visible", those to predict.
        The learned mask token stands for what is not encoded.
      wanted: which of them to predict; None: all.
      evidence: aim/model/interpolation_skip.py, needed by an architecture with interpolation_skip, and only by it.

    Returns float32 z-scores (logits for binary channels) in the rows of `wanted`, or of decoder_buffer.
    """
    a = self.architecture
    place = lambda rows: _place(rows.take(order), a, a.decoder.width)
    encoded = self.bridge(encoded)
    mask_token = self.mask_token.get_value().astype(encoded.dtype)
    cross = a.decoder_tokens == "visible"
    if cross:
      decoder_buffer, wanted = wanted or decoder_buffer, None
    x = move(encoded, encoder_buffer, decoder_buffer)
    x = jnp.where(encoder_buffer.covers(decoder_buffer)[:, :, None], x, mask_token)
    x = x + place(decoder_buffer).astype(x.dtype)
    if evidence is not None:
      seen = decoder_buffer.take(evidence)
      x = x + self.evidence_embedding(seen.reshape(*seen.shape[:2], -1))
    if cross:
      memory = encoded + place(encoder_buffer).astype(encoded.dtype)
      x = self.decoder.attend(x, decoder_buffer, memory, encoder_buffer)
    else:
      x = self.decoder(x, decoder_buffer, wanted)
    out = self.head(x.astype(jnp.float32))
    if evidence is None:
      return out
    seen = (wanted or decoder_buffer).take(evidence)
    line, level = seen[..., 0], seen[..., 1]
    return out[..., : a.patch_values] + level + jax.nn.sigmoid(out[..., a.patch_values :]) * (line - level)


class Projector(Encoder):
  """The encoder with the head of SimCLR, DINO or MSN: an MLP on the mean token, and prototypes to compare with.

  Every layer's input is standardised over the batch, as in SimCLR's and MSN's heads, by the batch's own statistics: a
  day's mean token is mostly what all days have in common, and without this the outputs of DINO and MSN soon were alike.
  """

  def __init__(self, architecture: Architecture, rngs: nnx.Rngs):
    super().__init__(architecture, rngs)
    head = architecture.projection
    assert head is not None  # build()
    widths = [architecture.encoder.width, *[head.hidden] * (head.layers - 1), head.width]
    self.projection = nnx.List([Dense(*pair, jnp.float32, rngs) for pair in itertools.pairwise(widths)])
    if head.prototypes:
      self.prototypes = nnx.Param(jax.random.normal(rngs.params(), (head.prototypes, head.width)))

  def project(self, embedding: Float[Array, "b v d"]) -> Float[Array, "b v e"]:
    """Unit vectors of the mean tokens of a batch's views of one crop."""
    x = embedding
    for i, layer in enumerate(self.projection):
      x = _standardised(x)
      x = layer(gelu(x) if i else x)
    return unit(x)

  def unit_prototypes(self) -> Float[Array, "k e"]:
    """The prototypes, of length 1: [0, e] where the method has none."""
    head = self.architecture.projection
    assert head is not None
    return unit(self.prototypes.get_value()) if head.prototypes else jnp.zeros((0, head.width))


def _standardised(x: Float[Array, "b v d"]) -> Float[Array, "b v d"]:
  """Mean 0 and variance 1 over batch and views (Ioffe and Szegedy 2015, with no scale, shift or running average)."""
  centred = x - x.mean((0, 1), keepdims=True)
  return centred * jax.lax.rsqrt(jnp.square(centred).mean((0, 1), keepdims=True) + 1e-5)


def unit(x: Float[Array, "... d"]) -> Float[Array, "... d"]:
  """Vectors of length 1; the square root's gradient is finite at 0."""
  return x * jax.lax.rsqrt(jnp.square(x).sum(-1, keepdims=True) + 1e-12)


def _place(token: Int[Array, "g r"], a: Architecture, width: int) -> Float[Array, "g r d"]:
  # Looked up: there are far more rows than positions, and sines are slow.
  return token_positions(jnp.arange(a.tokens), a.length, width)[token]


def count_parameters(params: Any) -> int:
  return sum(leaf.size for leaf in jax.tree.leaves(params))


def pooled(encoded: Float[Array, "b k d"], lengths: Int[Array, " b"], pool: str = "mean") -> Float[Array, "b e"]:
  """Mean over the first lengths[i] tokens, with their standard deviation appended for "mean_std"."""
  valid = (jnp.arange(encoded.shape[1]) < lengths[:, None])[:, :, None]
  mean = jnp.where(valid, encoded, 0.0).sum(1) / lengths[:, None]
  if pool == "mean":
    return mean
  variance = jnp.where(valid, jnp.square(encoded - mean[:, None]), 0.0).sum(1) / lengths[:, None]
  return jnp.concatenate([mean, jnp.sqrt(variance)], axis=-1)


def pooled_by_channel(
  encoded: Float[Array, "b k d"], lengths: Int[Array, " b"], channel: Int[Array, "b k"], channels: int
) -> Float[Array, "b e"]:
  """The mean over each channel's tokens among the first lengths[i], one channel after another: e = channels * d.

  NaN where a channel has no token. The patch embedding is shared by all channels, so that a mean over tokens of
  several channels confuses them.
  """
  valid = jnp.arange(encoded.shape[1]) < lengths[:, None]
  of = jax.nn.one_hot(jnp.where(valid, channel, -1), channels)
  sums = jnp.einsum("bkc,bkd->bcd", of, jnp.where(valid[:, :, None], encoded, 0.0))
  count = of.sum(1)[:, :, None]
  return jnp.where(count > 0, sums / jnp.maximum(count, 1), jnp.nan).reshape(len(encoded), -1)


def build(architecture: Architecture, rngs: nnx.Rngs) -> Encoder:
  """The model of an architecture, with fresh parameters."""
  return Lsm2(architecture, rngs) if architecture.projection is None else Projector(architecture, rngs)


def split(model: Encoder) -> tuple[nnx.GraphDef, dict[str, Any]]:
  """The model as a static graph and a flat {"encoder/blocks/0/mlp/up/kernel": array} of its parameters."""
  graph, state = nnx.split(model, nnx.Param)
  return graph, {"/".join(map(str, path)): leaf.get_value() for path, leaf in nnx.to_flat_state(state)}


def merge(graph: nnx.GraphDef, params: dict[str, Any]) -> Any:
  """The inverse of split: a model of the class that was split."""
  part = lambda name: int(name) if name.isdigit() else name
  flat = [(tuple(part(p) for p in name.split("/")), nnx.Param(leaf)) for name, leaf in params.items()]
  return nnx.merge(graph, nnx.from_flat_state(flat))


def abstract(architecture: Architecture) -> tuple[nnx.GraphDef, dict[str, Any]]:
  """split() of a model whose parameters are shapes only."""
  model = nnx.eval_shape(lambda: build(architecture, nnx.Rngs(0)))
  return split(model)
