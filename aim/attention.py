"""Attention of token sets whose valid keys are a prefix."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int


def attention(
  q: Float[Array, "b n h d"], k: Float[Array, "b m h d"], v: Float[Array, "b m h d"], kv_lengths: Int[Array, " b"]
) -> Float[Array, "b n h d"]:
  """Scaled dot-product attention in which window i sees only its first kv_lengths[i] keys.

  Scores and softmax statistics are float32. Every kv_lengths[i] must be at least 1: a row without keys is undefined.
  """
  q, k, v = (x.swapaxes(1, 2) for x in (q, k, v))  # heads before tokens: plain batched matrix products
  visible = jnp.arange(k.shape[2]) < kv_lengths[:, None]
  bias = jnp.where(visible, 0.0, jnp.finfo(jnp.float32).min)[:, None, None, :]
  scores = jnp.einsum("bhnd,bhmd->bhnm", q * q.shape[-1] ** -0.5, k, preferred_element_type=jnp.float32) + bias
  weights = jnp.exp(scores - jax.lax.stop_gradient(scores.max(axis=-1, keepdims=True)))
  # Dividing the output instead of the weights saves two passes over [n, m], and is as exact.
  total = weights.sum(axis=-1, keepdims=True)
  out = jnp.einsum("bhnm,bhmd->bhnd", weights.astype(v.dtype), v, preferred_element_type=jnp.float32) / total
  return out.astype(v.dtype).swapaxes(1, 2)
