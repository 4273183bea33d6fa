"""Attention in plain XLA, which runs everywhere. Long sets are processed in blocks of queries."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

# Up to this many scores per window are computed in one piece; above, memory matters more than one kernel less.
LARGEST_SCORES = 2**22
BLOCK = 512  # queries


def xla_attention(
  q: Float[Array, "b n h d"],
  k: Float[Array, "b m h d"],
  v: Float[Array, "b m h d"],
  q_lengths: Int[Array, " b"],
  kv_lengths: Int[Array, " b"],
) -> Float[Array, "b n h d"]:
  """Attention of every query, valid or not, to the first kv_lengths[i] keys of its window (at least 1)."""
  n, m, heads = q.shape[1], k.shape[1], q.shape[2]
  q, k, v = (x.swapaxes(1, 2) for x in (q, k, v))  # heads before tokens: plain batched matrix products
  visible = jnp.arange(m) < kv_lengths[:, None]
  bias = jnp.where(visible, 0.0, jnp.finfo(jnp.float32).min)[:, None, None, :]
  if n * m * heads <= LARGEST_SCORES or n <= BLOCK:
    return _attend(q, k, v, bias).swapaxes(1, 2)
  count = math.ceil(n / BLOCK)
  q = jnp.pad(q, ((0, 0), (0, 0), (0, count * BLOCK - n), (0, 0)))
  blocks = jnp.moveaxis(q.reshape(*q.shape[:2], count, BLOCK, -1), 2, 0)
  # The backward pass computes the scores of a block again instead of keeping those of all blocks.
  out = jax.lax.map(jax.checkpoint(lambda block: _attend(block, k, v, bias)), blocks)
  return jnp.moveaxis(out, 0, 2).reshape(*q.shape)[:, :, :n].swapaxes(1, 2)


def _attend(
  q: Float[Array, "b h n d"], k: Float[Array, "b h m d"], v: Float[Array, "b h m d"], bias: Float[Array, "b 1 1 m"]
) -> Float[Array, "b h n d"]:
  scores = jnp.einsum("bhnd,bhmd->bhnm", q * q.shape[-1] ** -0.5, k, preferred_element_type=jnp.float32) + bias
  weights = jnp.exp(scores - jax.lax.stop_gradient(scores.max(axis=-1, keepdims=True)))
  # Dividing the output rather than the weights saves two passes over [n, m] and is as exact.
  total = weights.sum(axis=-1, keepdims=True)
  out = jnp.einsum("bhnm,bhmd->bhnd", weights.astype(v.dtype), v, preferred_element_type=jnp.float32) / total
  return out.astype(v.dtype)


def unavailable(head_dim: int, dtype: str) -> str | None:
  """None, because this backend runs everywhere."""
  return None
