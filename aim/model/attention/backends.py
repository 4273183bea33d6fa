"""Chooses the attention backend and calls it. Each window attends only to itself.

| backend | where | how |
|---|---|---|
| `xla` | everywhere | batched products; long sets in blocks of queries |
| `native` | CPU | a C++ kernel, compiled at first use, that skips padding |
| `cudnn` | NVIDIA GPU | cuDNN's fused attention with sequence lengths, bfloat16 |
| `splash` | TPU | JAX's Pallas kernel over padded windows, our own ones over packed windows |
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec
from jaxtyping import Array, Float, Int

from aim.model.attention import blocks, cudnn, native, packed_kernel, splash, xla
from data_pipelines.errors import UserError

BACKENDS = {"native": native, "cudnn": cudnn, "splash": splash, "xla": xla}
PACKED = ("native", "splash")  # backends that take windows laid end to end, and for which that is the fastest form


def choose_backend(backend: str, head_dims: tuple[int, ...], dtype: str) -> str:
  """Returns `backend`, or for "auto" the fastest one that supports these head sizes and this compute type here.

  Raises:
    UserError: if `backend` cannot run here, with the reason.
  """

  def reason(name: str) -> str | None:
    return next((why for why in (BACKENDS[name].unavailable(size, dtype) for size in head_dims) if why), None)

  if backend == "auto":
    return next(name for name in BACKENDS if reason(name) is None)
  if why := reason(backend):
    raise UserError(f"config.model.attention is {backend!r}, which cannot run here: {why}")
  return backend


def padded_attention(
  q: Float[Array, "b n h d"],
  k: Float[Array, "b m h d"],
  v: Float[Array, "b m h d"],
  q_lengths: Int[Array, " b"],
  kv_lengths: Int[Array, " b"],
  backend: str = "xla",
) -> Float[Array, "b n h d"]:
  """softmax(q k^T / sqrt(d)) v for each window's first q_lengths[i] queries over its first kv_lengths[i] keys.

  Scores and softmax statistics are float32. Slots past a length are never read; their outputs and gradients are 0.
  kv_lengths[i] must be at least 1 wherever q_lengths[i] is.
  """
  if backend == "native":
    zeros = jnp.zeros_like(q_lengths)[:, None]
    return packed_attention(q, k, v, zeros, q_lengths[:, None], zeros, kv_lengths[:, None])
  within = lambda x, lengths: (jnp.arange(x.shape[1]) < lengths[:, None])[:, :, None, None]
  # A select rather than a product, because a slot past a length may hold NaN, and 0 times NaN is NaN.
  q = jnp.where(within(q, q_lengths), q, 0)
  k, v = (jnp.where(within(x, kv_lengths), x, 0) for x in (k, v))
  kernel = {"xla": xla.xla_attention, "cudnn": cudnn.cudnn_attention, "splash": splash.splash_attention}[backend]
  if backend != "xla":  # the compiler can split products over devices, but not a kernel
    kernel = _per_device(kernel, q.shape)
  out = kernel(q, k, v, q_lengths, jnp.maximum(kv_lengths, 1))
  return jnp.where(within(out, q_lengths), out, 0)


def packed_attention(
  q: Float[Array, "g r h d"],
  k: Float[Array, "g s h d"],
  v: Float[Array, "g s h d"],
  q_starts: Int[Array, "g w"],
  q_lengths: Int[Array, "g w"],
  kv_starts: Int[Array, "g w"],
  kv_lengths: Int[Array, "g w"],
  backend: str = "native",
  longest: tuple[int, int] | None = None,
  block: tuple[int, int] = (blocks.BLOCK, blocks.BLOCK),
) -> Float[Array, "g r h d"]:
  """padded_attention() for windows packed one after another (aim/model/token_buffers.py), by a backend of PACKED.

  Args:
    longest: upper bounds on the lengths of queries and keys, by default all slots of a group.
    block: slots per block of queries and of keys, for backends that compute block by block.
  """
  units = block if backend == "splash" else (1, 1)

  def kernel(
    q: Array, k: Array, v: Array, q_starts: Array, q_lengths: Array, kv_starts: Array, kv_lengths: Array
  ) -> Array:
    # Groups become parts of one long buffer, each a whole number of blocks.
    rows_q, rows_k = (-(-x.shape[1] // unit) * unit for x, unit in zip((q, k), units, strict=True))
    groups = jnp.arange(len(q), dtype=jnp.int32)[:, None]

    def flat(x: Array, rows: int) -> Array:
      return jnp.pad(x, ((0, 0), (0, rows - x.shape[1]), (0, 0), (0, 0))).reshape(-1, *x.shape[2:])

    operands = (
      flat(q, rows_q),
      flat(k, rows_k),
      flat(v, rows_k),
      (q_starts + groups * rows_q).reshape(-1).astype(jnp.int32),
      q_lengths.reshape(-1).astype(jnp.int32),
      (kv_starts + groups * rows_k).reshape(-1).astype(jnp.int32),
      kv_lengths.reshape(-1).astype(jnp.int32),
    )
    if backend == "splash":
      bounds = longest or (q.shape[1], k.shape[1])
      out = packed_kernel.varlen_attention(*operands, longest=bounds, block=block)
    else:
      out = native.varlen_attention(*operands)
    return out.reshape(len(q), rows_q, *q.shape[2:])[:, : q.shape[1]]

  return _per_device(kernel, q.shape)(q, k, v, q_starts, q_lengths, kv_starts, kv_lengths)


def _per_device(kernel: Callable[..., Array], shape: tuple[int, ...]) -> Callable[..., Array]:
  """Runs the kernel on each device's own windows and heads if a mesh is set and the program is for all of it."""
  mesh = jax.sharding.get_abstract_mesh()
  if mesh.empty or mesh.size == 1 or mesh.are_all_axes_manual:
    return kernel
  batch = ("data", "fsdp") if shape[0] % (mesh.shape["data"] * mesh.shape["fsdp"]) == 0 else None
  heads = "tensor" if shape[2] % mesh.shape["tensor"] == 0 else None
  slots, lengths = PartitionSpec(batch, None, heads, None), PartitionSpec(batch)

  def mapped(q: Array, k: Array, v: Array, *integers: Array) -> Array:
    specs = (slots,) * 3 + (lengths,) * len(integers)
    # check_vma is off because kernels do not declare over which axes their results are replicated.
    return jax.shard_map(kernel, in_specs=specs, out_specs=slots, check_vma=False)(q, k, v, *integers)

  return mapped
