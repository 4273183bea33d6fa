"""Attention on NVIDIA GPUs: cuDNN's fused attention, which takes the length of each window."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from aim.runtime import devices

LARGEST_HEAD = 128  # limit of the backward pass on every generation
OLDEST = 8  # major compute capability; 8 is Ampere


def unavailable(head_dim: int, dtype: str) -> str | None:
  """The reason why cuDNN cannot run here with this head size and compute type; None if it can."""
  capability = devices.compute_capability()
  if capability is None:
    return f"it needs an NVIDIA GPU, this is {jax.local_devices()[0].device_kind}"
  if int(capability.split(".")[0]) < OLDEST:
    return f"it needs compute capability {OLDEST}.0 or higher, this GPU has {capability}"
  if dtype != "bfloat16":
    return f"it computes in bfloat16 only, config.model.dtype is {dtype}"
  if head_dim % 8 or head_dim > LARGEST_HEAD:
    return f"it takes head sizes up to {LARGEST_HEAD} that are multiples of 8, not {head_dim}"
  return None


def cudnn_attention(
  q: Float[Array, "b n h d"],
  k: Float[Array, "b m h d"],
  v: Float[Array, "b m h d"],
  q_lengths: Int[Array, " b"],
  kv_lengths: Int[Array, " b"],
) -> Float[Array, "b n h d"]:
  """Attention of each window's first q_lengths[i] queries to its first kv_lengths[i] keys (at least 1), in bfloat16.

  Lengths are passed rather than a mask, because a mask becomes a bias [n, m] per head and padding is then computed too.
  """
  # JAX supports the gradient for even numbers of tokens only, although cuDNN takes any.
  even = lambda x: jnp.pad(x, ((0, 0), (0, x.shape[1] % 2), (0, 0), (0, 0)))
  out = jax.nn.dot_product_attention(
    even(q),
    even(k),
    even(v),
    # A window without queries gets one whose result is discarded, because a length of 0 is not supported.
    query_seq_lengths=jnp.maximum(q_lengths, 1),
    key_value_seq_lengths=kv_lengths,
    implementation="cudnn",
  )
  return out[:, : q.shape[1]]
