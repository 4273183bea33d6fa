"""LSM-2: a masked autoencoder over sets of (patch, position) tokens, each a patch of one channel.

Encoder and decoder take *sets* of tokens in token buffers (aim/model/token_buffers.py), never a grid. Dropping,
trimming, packing and reordering tokens are up to the caller and change nothing for the tokens that remain.
Notation: g groups of r (or s) slots, p values per patch, d the width of a tower.
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float, Int

from aim.model import person_context
from aim.model.interpolation_skip import CURVES, EMBEDDED, KNOTS, head_outputs, skip_output
from aim.model.layers import Dense, LayerNorm, gelu, initializer
from aim.model.positions import token_positions
from aim.model.token_buffers import TokenBuffer, buffer_attention, move
from aim.runtime import devices

DECODER_TOKENS = ("all", "present", "observed", "refined", "visible")


@dataclasses.dataclass(frozen=True)
class Tower:
  """The dimensions of an encoder or a decoder; `mlp` is the width of the hidden layer of its MLPs."""

  width: int
  mlp: int
  heads: int
  layers: int


@dataclasses.dataclass(frozen=True)
class Projection:
  """The head of a contrastive model: the dimensions of its MLP and the number of prototypes, 0 for none."""

  hidden: int
  width: int
  layers: int
  prototypes: int


@dataclasses.dataclass(frozen=True)
class Architecture:
  """Everything that determines the model's function and parameters. Built by from_config.architecture.

  Attributes:
    channels, length, patch: channels, patches per day, and steps per patch.
    places: the number that stands for each channel (or group of channels) in the position code; 0, 1, 2, ... as
      published.
    encoder, decoder: dimensions of the two towers.
    observed_flags: whether the patch embedding also gets a flag per value that says whether it was observed, so that a
      missing minute in a visible token is not read as an average one. Not in the published layout.
    interpolation_skip: whether the decoder also sees the line between visible values and the channel's level, and adds
      a learned mixture of the two to its output (aim/model/interpolation_skip.py). Not in the published layout.
    skip_evidence: what that skip mixes and how, one of interpolation_skip.KINDS.
    evidence_embedding: where the decoder's tokens are given what the skip knows: "before" its layers, which then learn
      one channel from another late, or "after" them, so that the head alone reads it.
    context_days: the most of a person's other days that the skip also has the means of (aim/model/person_context.py);
      0, as published, for none. Parameters and function depend only on whether it is 0.
    binary: which channels are binary, bool [channels].
    qk_init: above 0, queries and keys of a layer start as the same random projection with this SD, so that tokens
      attend to tokens at similar positions from the first step (after Trockman and Kolter 2023, "Mimetic
      initialization"). 0 is the published start: independent, SD 0.02.
    decoder_tokens: what a token attends to in the decoder, one of DECODER_TOKENS. "all": every position of the day,
      with the mask token at those not visible (published). "present": every position of the channels that were observed
      at any time of the day, so that a channel that a data set does not have costs nothing. "observed": all positions
      but those that the sensor lost. "refined": the visible tokens, which go through the same layers, so that what is
      predicted for a position depends on no other position that is asked for. "visible": the visible tokens as the
      encoder left them, by cross-attention (after Fu et al. 2024, "Rethinking patch dependence for masked
      autoencoders").
    attention: backend of aim/model/attention.
    dtype: compute type. Parameters and softmax statistics are float32.
    remat: whether each block's activations are recomputed in the backward pass.
    scan_layers: whether a tower's equal blocks are one block that the compiled program repeats. Results and parameters
      are the same.
    patch_channels: channels per patch: 1 in LSM-2, 5 in LSM-1. The last group is filled up with channels that are never
      observed and never scored.
    projection: None for a masked autoencoder; otherwise the head that replaces the decoder.
  """

  channels: int
  length: int
  patch: int
  places: tuple[int, ...]
  encoder: Tower
  decoder: Tower
  observed_flags: bool
  interpolation_skip: bool
  skip_evidence: str
  evidence_embedding: str
  context_days: int
  binary: tuple[bool, ...]
  qk_init: float
  decoder_tokens: str
  attention: str
  dtype: str
  remat: bool
  scan_layers: bool
  patch_channels: int
  projection: Projection | None

  @property
  def channel_groups(self) -> int:
    """Number of groups of patch_channels channels; the token grid is channel_groups x length."""
    return -(-self.channels // self.patch_channels)

  @property
  def patch_values(self) -> int:
    """Values per patch: steps x channels."""
    return self.patch * self.patch_channels

  @property
  def tokens(self) -> int:
    """Tokens per day."""
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
    self,
    x: Float[Array, "g r d"],
    buffer: TokenBuffer,
    memory: Float[Array, "g s d"] | None,
    memory_buffer: TokenBuffer,
  ) -> Float[Array, "g r d"]:
    """Lets each token of x attend to its window's tokens in `memory`, or in x itself if that is None."""
    if self.backend == "splash":
      # A TPU would copy parts of a fused product, whose heads do not fill registers. Products of their own need none.
      source = x if memory is None else memory
      q, k, v = (self.qkv(y, slice(i, i + 1))[:, :, 0] for i, y in enumerate((x, source, source)))
    elif memory is None:
      qkv = self.qkv(x)
      q, k, v = (qkv[:, :, i] for i in range(3))
    else:
      q, kv = self.qkv(x, slice(0, 1))[:, :, 0], self.qkv(memory, slice(1, 3))
      k, v = (kv[:, :, i] for i in range(2))
    return self.out(buffer_attention(q, k, v, buffer, memory_buffer, self.backend))


class Mlp(nnx.Module):
  """Two linear layers with an exact (erf) GELU between them."""

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
    buffer: TokenBuffer,
    memory: Float[Array, "g s d"] | None = None,
    memory_buffer: TokenBuffer | None = None,
  ) -> Float[Array, "g r d"]:
    """x after attending to `memory`, or to itself if that is None."""
    if memory is not None:
      memory = self.norm1(memory)
    x = x + self.attention(self.norm1(x), buffer, memory, memory_buffer or buffer)
    return x + self.mlp(self.norm2(x))


class Transformer(nnx.Module):
  """Transformer blocks and a final LayerNorm."""

  def __init__(self, tower: Tower, a: Architecture, rngs: nnx.Rngs):
    self.blocks = nnx.List([TransformerBlock(tower, a, rngs) for _ in range(tower.layers)])
    self.norm = LayerNorm(tower.width)
    self.remat = a.remat
    self.scan_layers = a.scan_layers
    self.dtype = jnp.dtype(a.dtype)

  def __call__(
    self,
    x: Float[Array, "g r d"],
    buffer: TokenBuffer,
    targets: TokenBuffer | None = None,
    read: TokenBuffer | None = None,
  ) -> Float[Array, "g s d"]:
    """Self-attention. With `targets`, the last block computes the outputs of those tokens only.

    With `read`, which holds a part of each window's tokens, all tokens attend to those alone.
    """
    source = lambda x: None if read is None else move(x, buffer, read)
    attend = lambda block, x: block(x, buffer, source(x), read)
    if targets is None:
      return self.norm(self._run(self.blocks, x, attend))
    x = self._run(self.blocks[:-1], x, attend)
    memory = x if read is None else move(x, buffer, read)
    last = lambda block, x: block(x, targets, memory, read or buffer)
    return self.norm(self._run(self.blocks[-1:], move(x, buffer, targets), last))

  def attend(
    self, x: Float[Array, "g r d"], buffer: TokenBuffer, memory: Float[Array, "g s d"], memory_buffer: TokenBuffer
  ) -> Float[Array, "g r d"]:
    """Cross-attention: in every block x attends to `memory`, never to itself."""
    return self.norm(self._run(self.blocks, x, lambda block, x: block(x, buffer, memory, memory_buffer)))

  def _run(
    self,
    blocks: Sequence[TransformerBlock],
    x: Float[Array, "g r d"],
    apply: Callable[[TransformerBlock, Array], Array],
  ) -> Float[Array, "g r d"]:
    """x after `apply` with each of the blocks in turn, which differ only in their parameters."""
    states = [nnx.split(block)[1] for block in blocks]
    graph = nnx.graphdef(self.blocks[0])
    scan = self.scan_layers and len(states) > 1
    step = lambda x, state: apply(nnx.merge(graph, state), x)
    if self.remat:
      # The backward pass computes the activations again instead of keeping them. Inside a loop the compiler cannot
      # merge that with the forward pass anyway, so it need not be prevented.
      step = jax.checkpoint(step, prevent_cse=not scan)
    if scan:
      return jax.lax.scan(lambda x, state: (step(x, state), None), x, _stacked(states, self.dtype))[0]
    for state in states:
      x = step(x, state)
    return x


def _stacked(states: Sequence[nnx.State], dtype: Any) -> Any:
  """The parameters of several blocks with the blocks as an axis in front.

  Kernels are stacked in the compute type, in which they are used, so that the copy is no larger than need be. The copy
  exists inside the step only: train states and checkpoints have the blocks one by one.
  """

  def stack(path: tuple, *leaves: Array) -> Array:
    is_kernel = any(getattr(key, "key", None) == "kernel" for key in path)
    return jnp.stack([leaf.astype(dtype) if is_kernel else leaf for leaf in leaves])

  return jax.tree_util.tree_map_with_path(stack, *states)


class Encoder(nnx.Module):
  """The part that all models share: patch embedding and encoder."""

  def __init__(self, architecture: Architecture, rngs: nnx.Rngs):
    a = self.architecture = architecture
    self.patch_embedding = Dense(
      a.patch_values * (2 if a.observed_flags else 1), a.encoder.width, jnp.dtype(a.dtype), rngs
    )
    self.encoder = Transformer(a.encoder, a, rngs)

  def encode(
    self, values: Float[Array, "g r p"], visible: Bool[Array, "g r p"], token: Int[Array, "g r"], buffer: TokenBuffer
  ) -> Float[Array, "g r d"]:
    """Encodes sets of tokens.

    Args:
      values: z-scores, read only where `visible`.
      visible: the values that may be read.
      token: each token's grid position, channel (or group of channels) * length + time.
      buffer: the layout of the tokens, at least one per window. Outputs in empty slots have no meaning.
    """
    a = self.architecture
    x = jnp.where(visible, values, 0.0)
    if a.observed_flags:
      x = jnp.concatenate([x, visible.astype(x.dtype)], axis=-1)
    x = self.patch_embedding(x)
    x = x + _position_embedding(token, a, a.encoder.width).astype(x.dtype)
    return self.encoder(x, buffer)


class Lsm2(Encoder):
  """The masked autoencoder of LSM-2 (ViT-1D, patch x 1 channel) and of LSM-1 (patch x 5 channels)."""

  def __init__(self, architecture: Architecture, rngs: nnx.Rngs):
    super().__init__(architecture, rngs)
    a, dtype = architecture, jnp.dtype(architecture.dtype)
    self.bridge = Dense(a.encoder.width, a.decoder.width, dtype, rngs)
    self.mask_token = nnx.Param(initializer(rngs.params(), (a.decoder.width,)))
    self.decoder = Transformer(a.decoder, a, rngs)
    outputs = a.patch_values
    if a.interpolation_skip:
      self.evidence_embedding = Dense(EMBEDDED * a.patch_values, a.decoder.width, dtype, rngs)
      outputs = head_outputs(a.patch_values, a.skip_evidence)
      if a.skip_evidence == "smooth":
        self.skip_curves = nnx.Param(jnp.zeros((a.channel_groups * a.patch_channels, CURVES, len(KNOTS))))
    self.head = Dense(a.decoder.width, outputs, jnp.float32, rngs)
    if a.context_days:
      self.context_embedding = Dense(person_context.EMBEDDED * a.patch_values, a.decoder.width, dtype, rngs)
      self.context_head = Dense(a.decoder.width, person_context.SHIFTS, jnp.float32, rngs)
      shape = (a.channel_groups * a.patch_channels, person_context.CURVES, len(person_context.KNOTS))
      self.context_curves = nnx.Param(jnp.zeros(shape))

  def decode(
    self,
    encoded: Float[Array, "g r d"],
    encoder_buffer: TokenBuffer,
    order: Int[Array, "b n"],
    decoder_buffer: TokenBuffer,
    targets: TokenBuffer | None = None,
    evidence: Float[Array, "b n p features"] | None = None,
    context: Float[Array, "b n p more"] | None = None,
  ) -> Float[Array, "g s p"]:
    """Predicts tokens from the encoded ones.

    Args:
      encoded: the output of encode().
      encoder_buffer: its layout.
      order: the grid positions of each window's tokens, in the token order that all buffers refer to.
      decoder_buffer: the tokens in the decoder: those that take part or, with decoder_tokens "visible", those to
        predict. Tokens that are not encoded are replaced by the learned mask token.
      targets: the tokens to predict; by default all in decoder_buffer.
      evidence: loss.token_evidence; given exactly if the architecture has interpolation_skip.
      context: loss.token_context; given exactly if the architecture has context_days.

    Returns:
      float32 z-scores (logits on binary channels) in the slots of `targets`, or of decoder_buffer.
    """
    a = self.architecture
    place = lambda buffer: _position_embedding(buffer.take(order), a, a.decoder.width)
    encoded = self.bridge(encoded)
    mask_token = self.mask_token.get_value().astype(encoded.dtype)
    cross_attention = a.decoder_tokens == "visible"
    if cross_attention:
      decoder_buffer, targets = targets or decoder_buffer, None
    x = move(encoded, encoder_buffer, decoder_buffer)
    x = jnp.where(encoder_buffer.covers(decoder_buffer)[:, :, None], x, mask_token)
    x = x + place(decoder_buffer).astype(x.dtype)
    if a.evidence_embedding == "before":
      x = self._with_evidence(x, decoder_buffer, evidence, context)
    if cross_attention:
      memory = encoded + place(encoder_buffer).astype(encoded.dtype)
      x = self.decoder.attend(x, decoder_buffer, memory, encoder_buffer)
    else:
      x = self.decoder(x, decoder_buffer, targets, encoder_buffer if a.decoder_tokens == "refined" else None)
    predicted = targets or decoder_buffer
    if a.evidence_embedding == "after":
      x = self._with_evidence(x, predicted, evidence, context)
    out = self.head(x.astype(jnp.float32))
    if evidence is None:
      return out
    order = predicted.take(order)
    curves = self._of_channels(self.skip_curves, order) if a.skip_evidence == "smooth" else None
    value, correction = skip_output(out, predicted.take(evidence), curves)
    if context is None:
      return value
    shifts = self.context_head(x.astype(jnp.float32))
    curves = self._of_channels(self.context_curves, order)
    return person_context.with_context(value, correction, shifts, predicted.take(context), curves)

  def _with_evidence(
    self,
    x: Float[Array, "g r d"],
    buffer: TokenBuffer,
    evidence: Float[Array, "b n p features"] | None,
    context: Float[Array, "b n p more"] | None,
  ) -> Float[Array, "g r d"]:
    """Adds to the tokens of `buffer` what there is of evidence and context."""
    flat = lambda features: features.reshape(*features.shape[:2], -1)
    if evidence is not None:
      x = x + self.evidence_embedding(flat(buffer.take(evidence[..., :EMBEDDED])))
    if context is not None:
      x = x + self.context_embedding(flat(person_context.embedded(buffer.take(context))))
    return x

  def _of_channels(self, curves: nnx.Param, order: Int[Array, "g r"]) -> Float[Array, "g r channels m k"]:
    """Curves [channels, m, k], for the channels of each slot's patch."""
    a = self.architecture
    group = jax.nn.one_hot(order // a.length, a.channel_groups)
    # A product, because the gradient of a look-up is a slow scatter.
    table = curves.get_value()
    own = jnp.matmul(group, table.reshape(a.channel_groups, -1), precision=jax.lax.Precision.HIGHEST)
    return own.reshape(*own.shape[:2], a.patch_channels, *table.shape[1:])


class Projector(Encoder):
  """The encoder with the head of SimCLR, DINO or MSN: an MLP on the mean token, and prototypes to compare with.

  The input of every layer is standardised over the batch, as in the heads of SimCLR and MSN. Most of a day's mean token
  is common to all days, and without this the outputs of DINO and MSN soon became equal for all days.
  """

  def __init__(self, architecture: Architecture, rngs: nnx.Rngs):
    super().__init__(architecture, rngs)
    head = architecture.projection
    assert head is not None  # build() makes sure of it
    widths = [architecture.encoder.width, *[head.hidden] * (head.layers - 1), head.width]
    self.projection = nnx.List([Dense(*pair, jnp.float32, rngs) for pair in itertools.pairwise(widths)])
    if head.prototypes:
      self.prototypes = nnx.Param(jax.random.normal(rngs.params(), (head.prototypes, head.width)))

  def project(self, embedding: Float[Array, "b v d"]) -> Float[Array, "b v e"]:
    """Projects the mean tokens of a batch's views of one crop to unit vectors."""
    x = embedding
    for i, layer in enumerate(self.projection):
      x = _standardised(x)
      x = layer(gelu(x) if i else x)
    return unit_vectors(x)

  def unit_prototypes(self) -> Float[Array, "k e"]:
    """The prototypes as unit vectors; [0, e] if the method has none."""
    head = self.architecture.projection
    assert head is not None
    return unit_vectors(self.prototypes.get_value()) if head.prototypes else jnp.zeros((0, head.width))


def _standardised(x: Float[Array, "b v d"]) -> Float[Array, "b v d"]:
  """Standardises over batch and views (Ioffe and Szegedy 2015, without scale, shift or running average)."""
  centred = x - x.mean((0, 1), keepdims=True)
  return centred * jax.lax.rsqrt(jnp.square(centred).mean((0, 1), keepdims=True) + 1e-5)


def unit_vectors(x: Float[Array, "... d"]) -> Float[Array, "... d"]:
  """Scales vectors to length 1. The small constant keeps the gradient finite at 0."""
  return x * jax.lax.rsqrt(jnp.square(x).sum(-1, keepdims=True) + 1e-12)


def _position_embedding(token: Int[Array, "g r"], a: Architecture, width: int) -> Float[Array, "g r d"]:
  # A table lookup, because there are far more slots than positions and sines are slow. On a CPU the table is a
  # constant: the compiler would otherwise compute its sines again for every slot, which takes ten times as long. While
  # a program is compiled for devices that are not here, nothing can be computed.
  constant = jax.ensure_compile_time_eval() if devices.platform() == "cpu" else contextlib.nullcontext()
  with constant:
    table = token_positions(jnp.arange(a.tokens), a.length, width, a.places)
  return table[token]


def count_parameters(params: Any) -> int:
  """Number of parameters in a tree of arrays."""
  return sum(leaf.size for leaf in jax.tree.leaves(params))


def pooled(encoded: Float[Array, "b k d"], lengths: Int[Array, " b"], pool: str = "mean") -> Float[Array, "b e"]:
  """The mean of each window's first lengths[i] tokens; for pool "mean_std", with their standard deviation appended."""
  valid = (jnp.arange(encoded.shape[1]) < lengths[:, None])[:, :, None]
  mean = jnp.where(valid, encoded, 0.0).sum(1) / lengths[:, None]
  if pool == "mean":
    return mean
  variance = jnp.where(valid, jnp.square(encoded - mean[:, None]), 0.0).sum(1) / lengths[:, None]
  return jnp.concatenate([mean, jnp.sqrt(variance)], axis=-1)


def pooled_by_channel(
  encoded: Float[Array, "b k d"], lengths: Int[Array, " b"], channel: Int[Array, "b k"], channels: int
) -> Float[Array, "b e"]:
  """The mean of each channel's tokens among the first lengths[i], concatenated: e = channels * d.

  NaN if a channel has no token. All channels share one patch embedding, so a mean over several channels would confuse
  them.
  """
  valid = jnp.arange(encoded.shape[1]) < lengths[:, None]
  is_channel = jax.nn.one_hot(jnp.where(valid, channel, -1), channels)
  sums = jnp.einsum("bkc,bkd->bcd", is_channel, jnp.where(valid[:, :, None], encoded, 0.0))
  count = is_channel.sum(1)[:, :, None]
  return jnp.where(count > 0, sums / jnp.maximum(count, 1), jnp.nan).reshape(len(encoded), -1)


def build(architecture: Architecture, rngs: nnx.Rngs) -> Encoder:
  """The model of this architecture with new parameters."""
  return Lsm2(architecture, rngs) if architecture.projection is None else Projector(architecture, rngs)


def split(model: Encoder) -> tuple[nnx.GraphDef, dict[str, Any]]:
  """Splits a model into a static graph and its parameters, a flat {"encoder/blocks/0/mlp/up/kernel": array}."""
  graph, state = nnx.split(model, nnx.Param)
  return graph, {"/".join(map(str, path)): leaf.get_value() for path, leaf in nnx.to_flat_state(state)}


def merge(graph: nnx.GraphDef, params: dict[str, Any]) -> Any:
  """The inverse of split(): a model of the class that was split."""
  part = lambda name: int(name) if name.isdigit() else name
  flat = [(tuple(part(p) for p in name.split("/")), nnx.Param(leaf)) for name, leaf in params.items()]
  return nnx.merge(graph, nnx.from_flat_state(flat))


def abstract(architecture: Architecture) -> tuple[nnx.GraphDef, dict[str, Any]]:
  """split() of a model of this architecture, with shapes in place of parameters."""
  model = nnx.eval_shape(lambda: build(architecture, nnx.Rngs(0)))
  return split(model)
