"""Where the tokens of windows stand in a buffer of rows: padded to one length, or packed one window after another.

Token-wise layers see rows and nothing else. Attention is per window, so it needs to know whose rows are whose. Padded
and packed buffers are the same thing with other numbers, which is why the textbook, trimmed and packed steps are one
code path. Notation: b windows in g groups of w consecutive ones, r rows a group. A group is what one device holds, or
one window.
"""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Shaped

from aim.model.attention.backends import packed_attention, padded_attention


@dataclasses.dataclass(frozen=True)
class TokenBuffer:
  """A stretch of each window's token order, laid out in a buffer [g, r].

  Attributes:
    first: int32 [g, w], the first token of each window that is there.
    lengths: int32 [g, w], how many of its tokens are.
    starts: int32 [g, w], the row of the first one.
    count: r, rows a group.
    longest: no length is above this.
  """

  first: Int[Array, "g w"]
  lengths: Int[Array, "g w"]
  starts: Int[Array, "g w"]
  count: int
  longest: int

  @classmethod
  def padded(cls, first: Int[Array, " b"], lengths: Int[Array, " b"], longest: int) -> TokenBuffer:
    """One window a group, `longest` rows each."""
    zeros = jnp.zeros_like(lengths)[:, None]
    return cls(first[:, None], lengths[:, None], zeros, longest, longest)

  @classmethod
  def packed(
    cls, first: Int[Array, " b"], lengths: Int[Array, " b"], groups: int, count: int, longest: int
  ) -> TokenBuffer:
    """`count` rows a group, which the caller knows to be enough for the lengths of its windows."""
    first, lengths = first.reshape(groups, -1), lengths.reshape(groups, -1)
    return cls(first, lengths, jnp.cumsum(lengths, axis=1) - lengths, count, longest)

  @property
  def is_padded(self) -> bool:
    return self.lengths.shape[1] == 1

  @property
  def window(self) -> Int[Array, "g r"]:
    """The window of each row in its group; rows past the end belong to the last one."""
    row = jnp.arange(self.count)
    inside = row[None, :, None] >= self.starts[:, None, :]
    return jnp.maximum(inside.sum(-1) - 1, 0) if not self.is_padded else jnp.zeros((len(self.starts), self.count), int)

  @property
  def position(self) -> Int[Array, "g r"]:
    """Each row's place in the token order of its window; past the window's last token on rows that hold none."""
    window = self.window
    pick = lambda x: jnp.take_along_axis(x, window, axis=1)
    return jnp.arange(self.count) - pick(self.starts) + pick(self.first)

  def take(self, x: Shaped[Array, "b n ..."]) -> Shaped[Array, "g r ..."]:
    """Per-token data in these rows, 0 where a row holds no token. Not differentiable: for data, not activations."""
    groups, n = len(self.starts), x.shape[1]
    flat = x.reshape(groups, -1, *x.shape[2:])
    index, valid = self._source(jnp.arange(self.starts.shape[1]) * n, jnp.zeros_like(self.first), n)
    return _gather(jax.lax.stop_gradient(flat), index, valid)

  def covers(self, other: TokenBuffer) -> Bool[Array, "g s"]:
    """Which rows of `other` hold a token that is here too."""
    return other._source(self.starts, self.first, self.lengths)[1]

  def _source(
    self, starts: Int[Array, "..."], first: Int[Array, "g w"], lengths: Int[Array, "..."] | int
  ) -> tuple[Int[Array, "g r"], Array]:
    """Row of another buffer, so described, that holds the token of each row here, and whether there is one."""
    window, position = self.window, self.position
    pick = lambda x: jnp.take_along_axis(jnp.broadcast_to(x, self.first.shape), window, axis=1)
    offset = position - pick(first)
    here = (position >= pick(self.first)) & (position < pick(self.first + self.lengths))
    valid = here & (offset >= 0) & (offset < pick(jnp.asarray(lengths)))
    return jnp.where(valid, pick(starts) + offset, 0), valid


def move(x: Float[Array, "g r ..."], source: TokenBuffer, target: TokenBuffer) -> Float[Array, "g s ..."]:
  """The rows of `source` laid out as `target`; tokens that only `target` has are 0.

  A token has at most one row in either, so the gradient is a move the other way: a gather, where the derivative of
  a gather would be a scatter.
  """
  there = target._source(source.starts, source.first, source.lengths)
  back = source._source(target.starts, target.first, target.lengths)
  return _exchange(x, there, back)


@jax.custom_vjp
def _exchange(x: Array, there: tuple[Array, Array], back: tuple[Array, Array]) -> Array:
  return _gather(x, *there)


_exchange.defvjp(
  lambda x, there, back: (_gather(x, *there), back),
  lambda back, gradient: (_gather(gradient, *back), None, None),
)


def _gather(x: Shaped[Array, "g r ..."], index: Int[Array, "g s"], valid: Array) -> Shaped[Array, "g s ..."]:
  trailing = (1,) * (x.ndim - 2)
  rows = jnp.take_along_axis(x, index.reshape(*index.shape, *trailing), axis=1)
  return jnp.where(valid.reshape(*valid.shape, *trailing), rows, jnp.zeros((), x.dtype))


def buffer_attention(
  q: Float[Array, "g r h d"],
  k: Float[Array, "g s h d"],
  v: Float[Array, "g s h d"],
  queries: TokenBuffer,
  keys: TokenBuffer,
  backend: str,
) -> Float[Array, "g r h d"]:
  """Attention of each window's queries to its own keys (aim/model/attention), 0 on rows that hold no query."""
  if backend == "native":
    return packed_attention(q, k, v, queries.starts, queries.lengths, keys.starts, keys.lengths)
  if queries.is_padded:
    return padded_attention(q, k, v, queries.lengths[:, 0], keys.lengths[:, 0], backend)
  q_windows, kv_windows = unpacked(queries), unpacked(keys)
  split = lambda x, rows: x.reshape(-1, rows.longest, *x.shape[2:])
  out = padded_attention(
    split(move(q, queries, q_windows), q_windows),
    split(move(k, keys, kv_windows), kv_windows),
    split(move(v, keys, kv_windows), kv_windows),
    queries.lengths.reshape(-1),
    keys.lengths.reshape(-1),
    backend,
  )
  return move(out.reshape(len(q), -1, *out.shape[2:]), q_windows, queries)


def unpacked(rows: TokenBuffer) -> TokenBuffer:
  """The same tokens with every window on a stretch of `longest` rows."""
  windows = rows.starts.shape[1]
  starts = jnp.broadcast_to(jnp.arange(windows) * rows.longest, rows.starts.shape)
  return dataclasses.replace(rows, starts=starts, count=windows * rows.longest)
