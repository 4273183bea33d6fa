"""Layouts of the tokens of several windows in one array: padded to one length, or packed one window after another.

Layers that work token by token see only slots. Attention is per window and needs to know which slots belong to which.
Padded and packed buffers differ only in their numbers, which is why the textbook, trimmed and packed steps share one
code path.
Notation: b windows in g groups of w consecutive ones, r slots per group. A group is what one device holds, or one
window.
"""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Shaped

from aim.model.attention import blocks
from aim.model.attention.backends import PACKED, packed_attention, padded_attention


@dataclasses.dataclass(frozen=True)
class TokenBuffer:
  """The layout of a stretch of each window's token order in a buffer [g, r].

  Attributes:
    first: int32 [g, w], the first token of each window that is in the buffer.
    lengths: int32 [g, w], the number of its tokens in the buffer.
    starts: int32 [g, w], the slot of the first one.
    count: r, slots per group.
    longest: an upper bound on every length.
    block: slots per block, for attention that computes block by block.
  """

  first: Int[Array, "g w"]
  lengths: Int[Array, "g w"]
  starts: Int[Array, "g w"]
  count: int
  longest: int
  block: int

  @classmethod
  def padded(cls, first: Int[Array, " b"], lengths: Int[Array, " b"], longest: int) -> TokenBuffer:
    """One window per group, with `longest` slots each."""
    zeros = jnp.zeros_like(lengths)[:, None]
    return cls(first[:, None], lengths[:, None], zeros, longest, longest, blocks.BLOCK)

  @classmethod
  def packed(
    cls, first: Int[Array, " b"], lengths: Int[Array, " b"], groups: int, count: int, longest: int
  ) -> TokenBuffer:
    """Windows one after another in `groups` groups of `count` slots, which must hold all tokens of their windows."""
    first, lengths = first.reshape(groups, -1), lengths.reshape(groups, -1)
    return cls(first, lengths, jnp.cumsum(lengths, axis=1) - lengths, count, longest, blocks.BLOCK)

  @classmethod
  def aligned(cls, first: Int[Array, " b"], lengths: Int[Array, " b"], groups: int, longest: int) -> TokenBuffer:
    """Windows packed in groups, each of which begins a block and has room for `longest` tokens."""
    block, stride = blocks.block_and_padded_length(longest)
    first, lengths = first.reshape(groups, -1), lengths.reshape(groups, -1)
    starts = jnp.broadcast_to(jnp.arange(first.shape[1]) * stride, first.shape)
    return cls(first, lengths, starts, first.shape[1] * stride, longest, block)

  @property
  def is_padded(self) -> bool:
    """True if each group has one window."""
    return self.lengths.shape[1] == 1

  @property
  def window(self) -> Int[Array, "g r"]:
    """Each slot's window within its group. Slots past the last token count as the last window's."""
    slot = jnp.arange(self.count)
    inside = slot[None, :, None] >= self.starts[:, None, :]
    return (
      jnp.maximum(inside.sum(-1) - 1, 0) if not self.is_padded else jnp.zeros((self.starts.shape[0], self.count), int)
    )

  @property
  def position(self) -> Int[Array, "g r"]:
    """Each slot's place in the token order of its window; past the window's last token if the slot is empty."""
    window = self.window
    pick = lambda x: jnp.take_along_axis(x, window, axis=1)
    return jnp.arange(self.count) - pick(self.starts) + pick(self.first)

  def take(self, x: Shaped[Array, "b n ..."]) -> Shaped[Array, "g r ..."]:
    """Per-token data laid out in this buffer, 0 in empty slots. For data, not activations: it has no gradient."""
    groups, n = self.starts.shape[0], x.shape[1]
    flat = x.reshape(groups, -1, *x.shape[2:])
    index, valid = self._sources(jnp.arange(self.starts.shape[1]) * n, jnp.zeros_like(self.first), n)
    return _gather(jax.lax.stop_gradient(flat), index, valid)

  def covers(self, other: TokenBuffer) -> Bool[Array, "g s"]:
    """True for the slots of `other` whose token this buffer holds too."""
    return other._sources(self.starts, self.first, self.lengths)[1]

  def _sources(
    self, starts: Int[Array, "..."], first: Int[Array, "g w"], lengths: Int[Array, "..."] | int
  ) -> tuple[Int[Array, "g r"], Array]:
    """The slot that each token of this buffer has in another with these attributes, and whether it is there."""
    window, position = self.window, self.position
    pick = lambda x: jnp.take_along_axis(jnp.broadcast_to(x, self.first.shape), window, axis=1)
    offset = position - pick(first)
    here = (position >= pick(self.first)) & (position < pick(self.first + self.lengths))
    valid = here & (offset >= 0) & (offset < pick(jnp.asarray(lengths)))
    return jnp.where(valid, pick(starts) + offset, 0), valid


def move(x: Float[Array, "g r ..."], source: TokenBuffer, target: TokenBuffer) -> Float[Array, "g s ..."]:
  """Lays activations of `source` out as `target`; tokens that only `target` holds are 0.

  A token has at most one slot in each buffer, so the gradient is a move in the other direction: a gather, where
  automatic differentiation of a gather would give a scatter.
  """
  forward = target._sources(source.starts, source.first, source.lengths)
  backward = source._sources(target.starts, target.first, target.lengths)
  return _exchange(x, forward, backward)


@jax.custom_vjp
def _exchange(x: Array, forward: tuple[Array, Array], backward: tuple[Array, Array]) -> Array:
  return _gather(x, *forward)


_exchange.defvjp(
  lambda x, forward, backward: (_gather(x, *forward), backward),
  lambda backward, gradient: (_gather(gradient, *backward), None, None),
)


def _gather(x: Shaped[Array, "g r ..."], index: Int[Array, "g s"], valid: Array) -> Shaped[Array, "g s ..."]:
  trailing = (1,) * (x.ndim - 2)
  tokens = jnp.take_along_axis(x, index.reshape(*index.shape, *trailing), axis=1)
  return jnp.where(valid.reshape(*valid.shape, *trailing), tokens, jnp.zeros((), x.dtype))


def buffer_attention(
  q: Float[Array, "g r h d"],
  k: Float[Array, "g s h d"],
  v: Float[Array, "g s h d"],
  queries: TokenBuffer,
  keys: TokenBuffer,
  backend: str,
) -> Float[Array, "g r h d"]:
  """Attention of each window's queries to its own keys (aim/model/attention); 0 in slots that hold no query."""
  if backend == "native" or (backend in PACKED and not queries.is_padded):
    spans = queries.starts, queries.lengths, keys.starts, keys.lengths
    bounds, block = (queries.longest, keys.longest), (queries.block, keys.block)
    return packed_attention(q, k, v, *spans, backend, bounds, block)
  if queries.is_padded:
    return padded_attention(q, k, v, queries.lengths[:, 0], keys.lengths[:, 0], backend)
  query_windows, key_windows = unpacked(queries), unpacked(keys)
  split = lambda x, buffer: x.reshape(-1, buffer.longest, *x.shape[2:])
  out = padded_attention(
    split(move(q, queries, query_windows), query_windows),
    split(move(k, keys, key_windows), key_windows),
    split(move(v, keys, key_windows), key_windows),
    queries.lengths.reshape(-1),
    keys.lengths.reshape(-1),
    backend,
  )
  return move(out.reshape(len(q), -1, *out.shape[2:]), query_windows, queries)


def unpacked(buffer: TokenBuffer) -> TokenBuffer:
  """The same tokens with `longest` slots for every window."""
  windows = buffer.starts.shape[1]
  starts = jnp.broadcast_to(jnp.arange(windows) * buffer.longest, buffer.starts.shape)
  return dataclasses.replace(buffer, starts=starts, count=windows * buffer.longest)
