"""LSM-2: a masked autoencoder over sets of (patch, position) tokens, one patch of one channel each.

Both halves take a *set* of tokens with the valid ones in front and a length, never a grid: dropping, trimming and
reordering tokens are the caller's choice and change nothing for the tokens that stay.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float, Int

from aim.attention import attention
from aim.evidence import FEATURES
from aim.positions import positions

initial = nnx.initializers.truncated_normal(0.02)


@dataclasses.dataclass(frozen=True)
class Tower:
  """Sizes of an encoder or a decoder."""

  width: int
  mlp: int
  heads: int
  layers: int


@dataclasses.dataclass(frozen=True)
class Architecture:
  """All that fixes the model's function and parameters.

  Attributes:
    channels, length, patch: the token grid: channels x patches a day, and steps a patch.
    observed_flags: give the patch embedding the per-step observed flags beside the values, so that a missing minute
      of a visible token is not read as an average one. The published layout has none.
    interpolation_skip: the decoder also sees, and adds to its output a learned mixture of, the line between the shown
      steps around each step and the level of the channel's shown steps (aim/evidence.py). Not in the published layout.
    binary: which channels are binary, bool [channels].
    qk_init: above 0, queries and keys of a layer start as the same random projection of this SD, so that tokens attend
      to tokens at like positions from the first step (after Trockman and Kolter 2023, "Mimetic initialization"). 0 is
      the published start: independent, SD 0.02.
    dtype: compute type; parameters and softmax statistics are float32.
    remat: recompute each block's activations in the backward pass.
  """

  channels: int
  length: int
  patch: int
  encoder: Tower
  decoder: Tower
  observed_flags: bool = True
  interpolation_skip: bool = False
  binary: tuple[bool, ...] = ()
  qk_init: float = 0.0
  dtype: str = "float32"
  remat: bool = False

  @property
  def tokens(self) -> int:
    return self.channels * self.length


class Attention(nnx.Module):
  """Multi-head self-attention with one fused projection in the order q, k, v."""

  def __init__(self, width: int, heads: int, qk_init: float, dtype: Any, rngs: nnx.Rngs):
    make: dict[str, Any] = dict(kernel_init=initial, dtype=dtype, rngs=rngs)
    self.qkv = nnx.LinearGeneral(width, (3, heads, width // heads), **make)
    if qk_init:
      both = qk_init * jax.random.normal(rngs.params(), (width, 1, heads, width // heads))
      self.qkv.kernel.set_value(self.qkv.kernel.get_value().at[:, :2].set(both))
    self.out = nnx.LinearGeneral((heads, width // heads), width, axis=(-2, -1), **make)

  def __call__(self, x: Float[Array, "b n d"], lengths: Int[Array, " b"]) -> Float[Array, "b n d"]:
    qkv = self.qkv(x)
    return self.out(attention(qkv[:, :, 0], qkv[:, :, 1], qkv[:, :, 2], lengths))


class Mlp(nnx.Module):
  """Two layers with an exact (erf) GELU between."""

  def __init__(self, width: int, hidden: int, dtype: Any, rngs: nnx.Rngs):
    self.up = nnx.Linear(width, hidden, kernel_init=initial, dtype=dtype, rngs=rngs)
    self.down = nnx.Linear(hidden, width, kernel_init=initial, dtype=dtype, rngs=rngs)

  def __call__(self, x: Float[Array, "b n d"]) -> Float[Array, "b n d"]:
    return self.down(jax.nn.gelu(self.up(x), approximate=False))


class Block(nnx.Module):
  """A pre-LN transformer block."""

  def __init__(self, tower: Tower, qk_init: float, dtype: Any, rngs: nnx.Rngs):
    self.norm1 = _norm(tower.width, rngs)
    self.attention = Attention(tower.width, tower.heads, qk_init, dtype, rngs)
    self.norm2 = _norm(tower.width, rngs)
    self.mlp = Mlp(tower.width, tower.mlp, dtype, rngs)

  def __call__(self, x: Float[Array, "b n d"], lengths: Int[Array, " b"]) -> Float[Array, "b n d"]:
    x = x + self.attention(self.norm1(x), lengths)
    return x + self.mlp(self.norm2(x))


class Transformer(nnx.Module):
  """Blocks and a final LayerNorm."""

  def __init__(self, tower: Tower, qk_init: float, dtype: Any, remat: bool, rngs: nnx.Rngs):
    self.blocks = nnx.List([Block(tower, qk_init, dtype, rngs) for _ in range(tower.layers)])
    self.norm = _norm(tower.width, rngs)
    self.remat = remat

  def __call__(self, x: Float[Array, "b n d"], lengths: Int[Array, " b"]) -> Float[Array, "b n d"]:
    for block in self.blocks:
      x = _recomputed(block, x, lengths) if self.remat else block(x, lengths)
    return self.norm(x)


def _recomputed(block: Block, x: Float[Array, "b n d"], lengths: Int[Array, " b"]) -> Float[Array, "b n d"]:
  """The block without keeping its activations for the backward pass."""
  graph, state = nnx.split(block)
  return jax.checkpoint(lambda state, x: nnx.merge(graph, state)(x, lengths))(state, x)


class Lsm2(nnx.Module):
  """The masked autoencoder of LSM-2 (ViT-1D, patch x 1 channel)."""

  def __init__(self, architecture: Architecture, rngs: nnx.Rngs):
    a = self.architecture = architecture
    dtype = jnp.dtype(a.dtype)
    inputs = a.patch * (2 if a.observed_flags else 1)
    make: dict[str, Any] = dict(kernel_init=initial, dtype=dtype, rngs=rngs)
    self.patch_embedding = nnx.Linear(inputs, a.encoder.width, **make)
    self.encoder = Transformer(a.encoder, a.qk_init, dtype, a.remat, rngs)
    self.bridge = nnx.Linear(a.encoder.width, a.decoder.width, **make)
    self.mask_token = nnx.Param(initial(rngs.params(), (a.decoder.width,)))
    self.decoder = Transformer(a.decoder, a.qk_init, dtype, a.remat, rngs)
    outputs = a.patch
    if a.interpolation_skip:
      self.evidence_embedding = nnx.Linear(FEATURES * a.patch, a.decoder.width, **make)
      outputs = 2 * a.patch  # what is added to the mixture, and its weights
    self.head = nnx.Linear(a.decoder.width, outputs, kernel_init=initial, rngs=rngs)

  def encode(
    self,
    values: Float[Array, "b k p"],
    shown: Bool[Array, "b k p"],
    token: Int[Array, "b k"],
    lengths: Int[Array, " b"],
  ) -> Float[Array, "b k d"]:
    """Encodes sets of tokens.

    Args:
      values: z-scores; read only where `shown`.
      shown: the steps that may be read.
      token: each token's grid position, channel * length + time.
      lengths: the first lengths[i] >= 1 tokens of window i are real; outputs past them mean nothing.
    """
    a = self.architecture
    x = jnp.where(shown, values, 0.0)
    if a.observed_flags:
      x = jnp.concatenate([x, shown.astype(x.dtype)], axis=-1)
    x = self.patch_embedding(x)
    x = x + positions(token, a.length, a.encoder.width).astype(x.dtype)
    return self.encoder(x, lengths)

  def decode(
    self,
    encoded: Float[Array, "b k d"],
    encoded_lengths: Int[Array, " b"],
    token: Int[Array, "b m"],
    lengths: Int[Array, " b"],
    evidence: Float[Array, "b m p features"] | None = None,
  ) -> Float[Array, "b m p"]:
    """Predicts the tokens `token`, of which the first encoded_lengths[i] are the encoded ones, in their order.

    The learned mask token stands at every other position; the decoder attends to the first lengths[i] tokens.
    `evidence` (aim/evidence.py) is needed by an architecture with interpolation_skip, and only by it.
    Returns float32 z-scores (logits for binary channels) [b, m, p].
    """
    a = self.architecture
    m, k = token.shape[1], min(encoded.shape[1], token.shape[1])
    x = self.bridge(encoded[:, :k])
    x = jnp.pad(x, ((0, 0), (0, m - k), (0, 0)))
    is_encoded = jnp.arange(m) < encoded_lengths[:, None]
    x = jnp.where(is_encoded[:, :, None], x, self.mask_token.get_value().astype(x.dtype))
    x = x + positions(token, a.length, a.decoder.width).astype(x.dtype)
    if evidence is None:
      return self.head(self.decoder(x, lengths).astype(jnp.float32))
    x = x + self.evidence_embedding(evidence.reshape(*evidence.shape[:2], -1))
    out = self.head(self.decoder(x, lengths).astype(jnp.float32))
    line, level = evidence[..., 0], evidence[..., 1]
    return out[..., : a.patch] + level + jax.nn.sigmoid(out[..., a.patch :]) * (line - level)


def _norm(width: int, rngs: nnx.Rngs) -> nnx.LayerNorm:
  # Statistics in float32 whatever the compute type; eps as in the public weights of this layout.
  return nnx.LayerNorm(width, epsilon=1e-5, rngs=rngs)


def count_parameters(params: Any) -> int:
  return sum(leaf.size for leaf in jax.tree.leaves(params))


def split(model: Lsm2) -> tuple[nnx.GraphDef, dict[str, Any]]:
  """The model as a static graph and a flat {"encoder/blocks/0/mlp/up/kernel": array} of its parameters."""
  graph, state = nnx.split(model, nnx.Param)
  return graph, {"/".join(map(str, path)): leaf.get_value() for path, leaf in nnx.to_flat_state(state)}


def merge(graph: nnx.GraphDef, params: dict[str, Any]) -> Lsm2:
  """The inverse of split."""
  part = lambda name: int(name) if name.isdigit() else name
  flat = [(tuple(part(p) for p in name.split("/")), nnx.Param(leaf)) for name, leaf in params.items()]
  return nnx.merge(graph, nnx.from_flat_state(flat))


def abstract(architecture: Architecture) -> tuple[nnx.GraphDef, dict[str, Any]]:
  """split() of a model whose parameters are shapes only."""
  model = nnx.eval_shape(lambda: Lsm2(architecture, nnx.Rngs(0)))
  return split(model)
