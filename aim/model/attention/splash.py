"""Attention on TPUs over padded windows: JAX's splash kernel. Padding keys are in a segment that no query belongs to.

Windows laid end to end have kernels of their own (packed_kernel.py).
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from aim.model.attention.blocks import block_and_padded_length
from aim.runtime import devices


def unavailable(head_dim: int, dtype: str) -> str | None:
  """The reason why the kernel cannot run here; None if it can, which holds for all head sizes and compute types."""
  return None if devices.platform() == "tpu" else f"it needs a TPU, this is {jax.local_devices()[0].device_kind}"


def splash_attention(
  q: Float[Array, "b n h d"],
  k: Float[Array, "b m h d"],
  v: Float[Array, "b m h d"],
  q_lengths: Int[Array, " b"],
  kv_lengths: Int[Array, " b"],
  interpret: bool | None = None,
) -> Float[Array, "b n h d"]:
  """Attention of every query, valid or not, to the first kv_lengths[i] keys of its window (at least 1).

  `interpret` runs the kernel operation by operation instead of compiling it, by default on everything but a TPU.
  """
  # Imported here because this experimental module is slow to import and only a TPU needs it.
  from jax.experimental.pallas.ops.tpu import splash_attention as pallas

  interpret = devices.platform() != "tpu" if interpret is None else interpret
  (block_q, padded_n), (block_kv, padded_m) = block_and_padded_length(q.shape[1]), block_and_padded_length(k.shape[1])
  blocks = _block_sizes(block_q, block_kv)
  mask = pallas.MultiHeadMask([pallas.FullMask((padded_n, padded_m))] * q.shape[2])
  kernel = pallas.make_splash_mha_single_device(mask, block_sizes=blocks, interpret=interpret)
  # Padding queries attend to the valid keys too, because a query without any key would divide by 0.
  queries = jnp.ones((q.shape[0], padded_n), jnp.int32)
  keys = (jnp.arange(padded_m) < kv_lengths[:, None]).astype(jnp.int32)
  scaled = q * q.shape[-1] ** -0.5  # the kernel does not scale
  operands = _by_head(scaled, padded_n), _by_head(k, padded_m), _by_head(v, padded_m)
  out = jax.vmap(kernel)(*operands, pallas.SegmentIds(queries, keys))
  return out[:, :, : q.shape[1]].swapaxes(1, 2)


def _block_sizes(block_q: int, block_kv: int) -> Any:
  """All of the kernel's blocks; without those of the backward pass it has no gradient."""
  from jax.experimental.pallas.ops.tpu import splash_attention as pallas

  return pallas.BlockSizes(
    block_q=block_q,
    block_kv=block_kv,
    block_kv_compute=block_kv,
    block_q_dkv=block_q,
    block_kv_dkv=block_kv,
    block_kv_dkv_compute=block_kv,
    block_q_dq=block_q,
    block_kv_dq=block_kv,
  )


def _by_head(x: Float[Array, "b n h d"], padded: int) -> Float[Array, "b h padded d"]:
  return jnp.pad(x, ((0, 0), (0, padded - x.shape[1]), (0, 0), (0, 0))).swapaxes(1, 2)
