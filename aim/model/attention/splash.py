"""Attention on TPUs: JAX's splash kernel, over padded windows or over windows laid end to end.

The kernel computes whole blocks of queries and keys, and inside a block masks pairs of different segments. Padding keys
are in a segment that no query belongs to. In a packed buffer each window is a segment, and blocks that no window needs
are skipped: which ones is a matter of the data, so the kernel gets lists that the program makes from the windows'
starts and lengths. (Segments alone would mask nearly all of what it computes, and save nothing.)
"""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from aim.model.attention.blocks import block_count, stretches
from aim.runtime import devices

LANES = 128  # the kernel's blocks are multiples of this
# Block sizes in lanes. Small blocks leave the matrix unit idle; float32 scores [1024, 1024] overflow a TPU v4's 16 MB.
BLOCKS = range(3, 7)


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


def block_and_padded_length(length: int) -> tuple[int, int]:
  """Length of a block and of the padded array: the least padding, then the largest block."""
  lanes = math.ceil(length / LANES)
  padded = lambda block: math.ceil(lanes / block) * block
  block = lanes if lanes < BLOCKS.start else min(BLOCKS, key=lambda block: (padded(block), -block))
  return block * LANES, padded(block) * LANES


def varlen_attention(
  q: Float[Array, "rows_q h d"],
  k: Float[Array, "rows_k h d"],
  v: Float[Array, "rows_k h d"],
  q_starts: Int[Array, " b"],
  q_lengths: Int[Array, " b"],
  kv_starts: Int[Array, " b"],
  kv_lengths: Int[Array, " b"],
  most: tuple[int, int] | None,
  block: int,
  interpret: bool | None = None,
) -> Float[Array, "rows_q h d"]:
  """Scaled dot-product attention of windows laid end to end, as native.varlen_attention, computed block by block.

  Rows outside every window, and queries without keys, give exactly 0 and get a gradient of exactly 0, whatever they
  hold. The kernel does not go block by block through all of the other side, but through `most` blocks. Should that ever
  be too few, the whole output is NaN, because the kernel itself would leave out keys and say nothing.

  Args:
    q, k, v: rows of queries, keys and values.
    q_starts, q_lengths: rows of each window's queries; windows must be in order and may not overlap.
    kv_starts, kv_lengths: rows of its keys.
    most: upper bounds on the key blocks that a query block reaches and on the query blocks that a key block reaches
      (aim/model/attention/blocks.py); None for all there are.
    block: rows per block, a multiple of 128.
    interpret: run the kernel operation by operation instead of compiling it, by default on everything but a TPU.
  """
  from jax.experimental.pallas.ops.tpu.splash_attention import splash_attention_kernel as kernels

  interpret = devices.platform() != "tpu" if interpret is None else interpret
  q_blocks, kv_blocks = block_count(len(q), block), block_count(len(k), block)
  kv_most, q_most = (kv_blocks, q_blocks) if most is None else (min(most[0], kv_blocks), min(most[1], q_blocks))
  spans = q_starts[None], q_lengths[None], kv_starts[None], kv_lengths[None]
  kv_first, kv_count = stretches(*spans, q_blocks, block)
  q_first, q_count = stretches(*spans[2:], *spans[:2], kv_blocks, block)
  # A block of nothing but padding queries computes one block all the same: without any, the kernel divides by 0.
  forward = _block_lists(kv_first, jnp.maximum(kv_count, 1), kv_most)
  backward = _block_lists(q_first, q_count, q_most)
  q_window, q_inside = _windows(q_starts, q_lengths, q_blocks * block)
  kv_window, kv_inside = _windows(kv_starts, kv_lengths, kv_blocks * block)
  # A padding query is part of some window, because it must have keys, unlike a padding key, which has no query.
  segments = kernels.SegmentIds(q_window, jnp.where(kv_inside, kv_window, -1))
  kernel = kernels.SplashAttentionKernel(
    forward,
    forward,
    backward._replace(data_next=backward.data_next.swapaxes(1, 2), block_mask=backward.block_mask.swapaxes(1, 2)),
    block_sizes=_block_sizes(block, block),
    is_mqa=False,
    save_residuals=False,
    mask_value=kernels.DEFAULT_MASK_VALUE,
    attn_logits_soft_cap=None,
    residual_checkpoint_name=None,
    mask_function=None,
    interpret=interpret,
  )

  def by_head(x: Array, inside: Array) -> Array:
    x = jnp.pad(x, ((0, len(inside) - len(x)), (0, 0), (0, 0)))
    return jnp.where(inside[:, None, None], x, 0).swapaxes(0, 1)  # 0 times NaN is NaN: padding must not be read

  scaled = q * q.shape[-1] ** -0.5  # the kernel does not scale
  out: Any = kernel(by_head(scaled, q_inside), by_head(k, kv_inside), by_head(v, kv_inside), segments)
  has_keys = q_inside & (kv_lengths[q_window] > 0)
  out = jnp.where(has_keys[:, None, None], out.swapaxes(0, 1), 0)[: len(q)]
  enough = (kv_count.max() <= kv_most) & (q_count.max() <= q_most)
  return jnp.where(enough, out, jnp.nan)


def _block_lists(first: Int[Array, "1 n"], count: Int[Array, "1 n"], most: int) -> Any:
  """The kernel's lists: for each block, which block of the other side comes next, and whether to compute it."""
  from jax.experimental.pallas.ops.tpu.splash_attention import splash_attention_mask_info as mask_info

  step = jnp.arange(most)
  # Past the last one the same block is named again, so that nothing is fetched for it.
  following = first[:, :, None] + jnp.minimum(step, jnp.maximum(count - 1, 0)[:, :, None])
  computed = jnp.where(step < count[:, :, None], 2, 0)  # 2: without a mask from memory; segments mask enough
  return mask_info.MaskInfo(following.astype(jnp.int32), None, computed.astype(jnp.int32), None, None, True)


def _windows(
  starts: Int[Array, " b"], lengths: Int[Array, " b"], rows: int
) -> tuple[Int[Array, " rows"], Bool[Array, " rows"]]:
  """The window of each row, or the one before it if the row is in none, and whether the row is in a window."""
  row = jnp.arange(rows)[:, None]
  begun = (row >= starts) & (lengths > 0)
  window = jnp.where(begun, jnp.arange(len(starts)), 0).max(axis=1)
  inside = (begun & (row < starts + lengths)).any(axis=1)
  return window.astype(jnp.int32), inside


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
