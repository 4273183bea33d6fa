"""Attention of windows laid end to end on TPUs: Pallas kernels of our own for the result and its gradients.

Each kernel walks a list of pairs (block of rows here, block of rows of the other side) that the program makes from the
windows' starts and lengths (aim/model/attention/blocks.py). Its grid is as long as the list, so that no step is empty.
Rows lie as the projections write and read them, [rows, heads * d]: nothing is transposed, and heads of 64 are not
padded to the 128 lanes of a register. A step computes as many heads as fill the lanes; groups of heads are the other,
parallel axis of the grid, which chips with two cores share.
Notation: n rows per block, d the size of a head.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from aim.model.attention import blocks
from aim.model.attention.blocks import FIRST, LANES, LAST, PARTIAL, WORK, BlockList
from aim.runtime import devices

SUBLANES = 8  # a register of 32-bit numbers is SUBLANES x LANES
MASKED = -1e30  # the score of a pair of different windows; less than any real one, and finite
NN, NT = (((1,), (0,)), ((), ())), (((1,), (1,)), ((), ()))  # x @ y and x @ y.T
_dot = functools.partial(jax.lax.dot_general, preferred_element_type=jnp.float32)


def varlen_attention(
  q: Float[Array, "rows_q h d"],
  k: Float[Array, "rows_k h d"],
  v: Float[Array, "rows_k h d"],
  q_starts: Int[Array, " b"],
  q_lengths: Int[Array, " b"],
  kv_starts: Int[Array, " b"],
  kv_lengths: Int[Array, " b"],
  longest: tuple[int, int],
  block: tuple[int, int],
  interpret: bool | None = None,
) -> Float[Array, "rows_q h d"]:
  """Scaled dot-product attention of windows laid end to end, as native.varlen_attention, computed block by block.

  Rows outside every window, and queries without keys, give exactly 0 and get a gradient of exactly 0, whatever they
  hold.

  Args:
    q, k, v: rows of queries, keys and values.
    q_starts, q_lengths: rows of each window's queries; windows must be in order and may not overlap.
    kv_starts, kv_lengths: rows of its keys.
    longest: upper bounds on q_lengths and kv_lengths, which determine how long the lists can become.
    block: rows per block of queries and of keys, multiples of 128.
    interpret: run the kernels operation by operation instead of compiling them, by default on everything but a TPU.
  """
  interpret = devices.platform() != "tpu" if interpret is None else interpret
  rows_q, rows_k = (blocks.block_count(len(x), size) * size for x, size in zip((q, k), block, strict=True))
  spans = q_starts, q_lengths, kv_starts, kv_lengths
  q_window = blocks.window_of_rows(q_starts, q_lengths, rows_q, outside=-1)
  kv_window = blocks.window_of_rows(kv_starts, kv_lengths, rows_k, outside=-2)
  by_query = blocks.block_list(*spans, q_window, kv_window, longest[1], *block)
  by_key = blocks.block_list(*spans[2:], *spans[:2], kv_window, q_window, longest[0], *block[::-1])

  def flat(x: Array, window: Array) -> Array:
    x = jnp.pad(x.reshape(len(x), -1), ((0, len(window) - len(x)), (0, 0)))
    return jnp.where(window[:, None] >= 0, x, 0)  # 0 times NaN is NaN: what is outside must not be read

  scaled = q * q.shape[-1] ** -0.5
  operands = flat(scaled, q_window), flat(k, kv_window), flat(v, kv_window)
  windows = jnp.broadcast_to(q_window, (SUBLANES, rows_q)), jnp.broadcast_to(kv_window, (SUBLANES, rows_k))
  out = _attend(*operands, windows, by_query, by_key, (block, q.shape[1], interpret))
  # The kernel gives 0 outside of windows. The select does the same to the gradient that comes back.
  return jnp.where(q_window[:, None] >= 0, out, 0)[: len(q)].reshape(q.shape)


@functools.partial(jax.custom_vjp, nondiff_argnums=(6,))
def _attend(
  q: Float[Array, "rows_q hd"],
  k: Float[Array, "rows_k hd"],
  v: Float[Array, "rows_k hd"],
  windows: tuple[Int[Array, "8 rows_q"], Int[Array, "8 rows_k"]],
  by_query: BlockList,
  by_key: BlockList,
  static: tuple[tuple[int, int], int, bool],
) -> Float[Array, "rows_q hd"]:
  return _forward(q, k, v, windows, by_query, by_key, static)[0]


def _forward(
  q: Array, k: Array, v: Array, windows: tuple[Array, Array], by_query: BlockList, by_key: BlockList, static: tuple
) -> tuple[Array, tuple]:
  block, heads, interpret = static
  shape = _HeadGroups(q.shape[1], heads, *block)
  out, lse = shape.call(
    _forward_kernel,
    by_query,
    [shape.here, shape.there, shape.there, shape.window_here, shape.window_there],
    (q, k, v, *windows),
    [(shape.here, q), (shape.statistics_here, shape.statistics(len(q)))],
    [shape.column, *[shape.column] * shape.heads, *[shape.accumulator(extended=True)] * shape.heads],
    interpret,
  )
  return out, (q, k, v, out, lse, windows, by_query, by_key)


def _backward(static: tuple, saved: tuple, gradient: Array) -> tuple:
  block, heads, interpret = static
  q, k, v, out, lse, windows, by_query, by_key = saved
  shape = _HeadGroups(q.shape[1], heads, *block)
  dq, dots = shape.call(
    _dq_kernel,
    by_query,
    [
      *[shape.here, shape.there, shape.there, shape.here, shape.here],
      *[shape.statistics_here, shape.window_here, shape.window_there],
    ],
    (q, k, v, out, gradient, lse, *windows),
    [(shape.here, q), (shape.statistics_here, shape.statistics(len(q)))],
    [shape.column, *[shape.column] * 2 * shape.heads, shape.accumulator()],
    interpret,
  )
  shape = _HeadGroups(q.shape[1], heads, *block[::-1])
  dk, dv = shape.call(
    _dkv_kernel,
    by_key,
    [
      *[shape.there, shape.here, shape.here, shape.there],
      *[shape.statistics_there, shape.statistics_there, shape.window_there, shape.window_here],
    ],
    (q, k, v, gradient, lse, dots, *windows),
    [(shape.here, k), (shape.here, v)],
    [shape.column, shape.accumulator(), shape.accumulator()],
    interpret,
  )
  return dq, dk, dv, None, None, None


_attend.defvjp(_forward, _backward)


class _HeadGroups:
  """Division of the heads of [rows, heads * d] into groups, and the blocks that a step of the grid gets.

  A step of the grid is a group and an entry of the list. Block specs: `here` and `there` are blocks of rows of the two
  sides of the entry; statistics are one number per row and head, [groups, 8, rows].
  """

  def __init__(self, width: int, heads: int, block: int, other_block: int):
    from jax.experimental import pallas as pl
    from jax.experimental.pallas import tpu as pltpu

    self.block, self.depth = block, width // heads
    fill = LANES // self.depth if LANES % self.depth == 0 else 0
    self.heads = fill if fill and heads % fill == 0 else heads  # per group
    self.groups, self.lanes = heads // self.heads, self.heads * self.depth
    self.statistic_rows = -(-self.heads // SUBLANES) * SUBLANES
    sides = (0, block), (1, other_block)

    def specs(shape: Callable[[int], tuple], place: Callable[[Any, Any], tuple]) -> list[Any]:
      at = lambda side: lambda group, t, entries: place(group, entries[side, t])
      return [pl.BlockSpec(shape(rows), at(side)) for side, rows in sides]

    self.here, self.there = specs(lambda rows: (rows, self.lanes), lambda group, i: (i, group))
    self.window_here, self.window_there = specs(lambda rows: (SUBLANES, rows), lambda group, i: (0, i))
    self.statistics_here, self.statistics_there = specs(
      lambda rows: (None, self.statistic_rows, rows), lambda group, i: (group, 0, i)
    )
    self.column = pltpu.VMEM((block, LANES), jnp.float32)  # a number per row, in all lanes

  def statistics(self, rows: int) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct((self.groups, self.statistic_rows, rows), jnp.float32)

  def accumulator(self, extended: bool = False) -> Any:
    from jax.experimental.pallas import tpu as pltpu

    return pltpu.VMEM((self.block, (self.depth // LANES + 1) * LANES if extended else self.lanes), jnp.float32)

  def call(
    self,
    kernel: Callable[..., None],
    pairs: BlockList,
    specs: Sequence[Any],
    operands: Sequence[Array],
    results: Sequence[tuple[Any, Any]],
    scratch: Sequence[Any],
    interpret: bool,
  ) -> Sequence[Array]:
    """Runs the kernel for each group of heads over the list; results are pairs of a block spec and a shape."""
    from jax.experimental import pallas as pl
    from jax.experimental.pallas import tpu as pltpu

    grid = pltpu.PrefetchScalarGridSpec(
      num_scalar_prefetch=1,
      grid=(self.groups, pairs.used),
      in_specs=list(specs),
      out_specs=[spec for spec, _ in results],
      scratch_shapes=list(scratch),
    )
    run = pl.pallas_call(
      functools.partial(kernel, depth=self.depth, heads=self.heads),
      grid_spec=grid,
      out_shape=[jax.ShapeDtypeStruct(like.shape, like.dtype) for _, like in results],
      interpret=interpret,
      name=kernel.__name__.strip("_"),
      compiler_params=pltpu.CompilerParams(dimension_semantics=("parallel", "arbitrary")),
    )
    return run(pairs.entries, *operands)


def _flags(entries_ref: Any) -> Any:
  from jax.experimental import pallas as pl

  return entries_ref[2, pl.program_id(1)]


def _each_kind(flags: Any, work: Callable[[bool], None]) -> None:
  """Calls work(masked) where there is work: blocks within one window need no mask."""
  from jax.experimental import pallas as pl

  pl.when(flags & (WORK | PARTIAL) == WORK)(lambda: work(False))
  pl.when(flags & (WORK | PARTIAL) == WORK | PARTIAL)(lambda: work(True))


def _column(row: Any) -> Any:
  """Numbers in lanes, [n], as rows of LANES equal numbers."""
  return jnp.broadcast_to(jnp.expand_dims(row, -1), (row.shape[0], LANES))


def _as_lanes(columns: Sequence[Any], rows: int) -> Any:
  """Columns of equal lanes [n, 128] as the first of `rows` rows of n lanes each."""
  lane = jax.lax.broadcasted_iota(jnp.int32, columns[0].shape, 1)
  merged = jnp.zeros_like(columns[0])
  for i, column in enumerate(columns):
    merged = jnp.where(lane == i, column, merged)
  return merged.T[:rows]


def _over(column: Any, lanes: int) -> Any:
  """A column of equal lanes, as many lanes wide."""
  return jnp.tile(column, (1, lanes // LANES))


def _forward_kernel(
  entries_ref: Any,
  q_ref: Any,
  k_ref: Any,
  v_ref: Any,
  q_window_ref: Any,
  kv_window_ref: Any,
  out_ref: Any,
  lse_ref: Any,
  window_ref: Any,
  *scratch: Any,
  depth: int,
  heads: int,
) -> None:
  from jax.experimental import pallas as pl

  flags, (highest, sums) = _flags(entries_ref), (scratch[:heads], scratch[heads:])
  lanes = sums[0].shape[1]

  @pl.when(flags & FIRST != 0)
  def _() -> None:
    window_ref[...] = _column(q_window_ref[0].astype(jnp.float32))
    for h in range(heads):
      highest[h][...], sums[h][...] = jnp.full_like(highest[h], MASKED), jnp.zeros_like(sums[h])

  def work(masked: bool) -> None:
    keys = k_ref.shape[0]
    keep = _over(window_ref[...], keys) == kv_window_ref[:1, :].astype(jnp.float32) if masked else None
    # The matrix unit is LANES wide and a head is not: ones beside the values add up the weights for nothing.
    ones = jnp.ones((keys, lanes - depth), v_ref.dtype)
    for h in range(heads):
      at = slice(h * depth, (h + 1) * depth)
      score = _dot(q_ref[:, at], k_ref[:, at], NT)
      score = score if keep is None else jnp.where(keep, score, MASKED)
      before = highest[h][...]
      now = jnp.maximum(before, score.max(axis=-1, keepdims=True))
      highest[h][...] = now
      weight = jnp.exp(score - _over(now, keys)).astype(v_ref.dtype)
      extended = jnp.concatenate([v_ref[:, at], ones], axis=1)
      sums[h][...] = _over(jnp.exp(before - now), lanes) * sums[h][...] + _dot(weight, extended, NN)

  _each_kind(flags, work)

  @pl.when(flags & LAST != 0)
  def _() -> None:
    logs = []
    for h in range(heads):
      # Padding queries have no keys, and no weights but those of masked pairs.
      some = highest[h][...] > MASKED / 2
      total = jnp.where(some, sums[h][:, depth : depth + 1], 1.0)
      logs.append(jnp.where(some, highest[h][...] + jnp.log(total), 0.0))
      out = jnp.where(some[:, :1], sums[h][:, :depth] / total[:, :1], 0.0)
      out_ref[:, h * depth : (h + 1) * depth] = out.astype(out_ref.dtype)
    lse_ref[...] = _as_lanes(logs, lse_ref.shape[0])


def _dq_kernel(
  entries_ref: Any,
  q_ref: Any,
  k_ref: Any,
  v_ref: Any,
  out_ref: Any,
  gradient_ref: Any,
  lse_ref: Any,
  q_window_ref: Any,
  kv_window_ref: Any,
  dq_ref: Any,
  dots_ref: Any,
  window_ref: Any,
  *scratch: Any,
  depth: int,
  heads: int,
) -> None:
  from jax.experimental import pallas as pl

  flags, (lse, dots, (sum_ref,)) = _flags(entries_ref), (scratch[:heads], scratch[heads : 2 * heads], scratch[-1:])

  @pl.when(flags & FIRST != 0)
  def _() -> None:
    window_ref[...] = _column(q_window_ref[0].astype(jnp.float32))
    sum_ref[...] = jnp.zeros_like(sum_ref)
    for h in range(heads):
      at = slice(h * depth, (h + 1) * depth)
      lse[h][...] = _column(lse_ref[h])
      product = out_ref[:, at].astype(jnp.float32) * gradient_ref[:, at].astype(jnp.float32)
      dots[h][...] = jnp.broadcast_to(product.sum(axis=-1, keepdims=True), dots[h].shape)
    dots_ref[...] = _as_lanes([column[...] for column in dots], dots_ref.shape[0])

  def work(masked: bool) -> None:
    keys = k_ref.shape[0]
    keep = _over(window_ref[...], keys) == kv_window_ref[:1, :].astype(jnp.float32) if masked else None
    for h in range(heads):
      at = slice(h * depth, (h + 1) * depth)
      weight = jnp.exp(_dot(q_ref[:, at], k_ref[:, at], NT) - _over(lse[h][...], keys))
      weight = weight if keep is None else jnp.where(keep, weight, 0.0)
      change = weight * (_dot(gradient_ref[:, at], v_ref[:, at], NT) - _over(dots[h][...], keys))
      sum_ref[:, at] += _dot(change.astype(k_ref.dtype), k_ref[:, at], NN)

  _each_kind(flags, work)

  @pl.when(flags & LAST != 0)
  def _() -> None:
    dq_ref[...] = sum_ref[...].astype(dq_ref.dtype)


def _dkv_kernel(
  entries_ref: Any,
  q_ref: Any,
  k_ref: Any,
  v_ref: Any,
  gradient_ref: Any,
  lse_ref: Any,
  dots_ref: Any,
  q_window_ref: Any,
  kv_window_ref: Any,
  dk_ref: Any,
  dv_ref: Any,
  window_ref: Any,
  dk_sum_ref: Any,
  dv_sum_ref: Any,
  *,
  depth: int,
  heads: int,
) -> None:
  """Keys are rows here and queries lanes, so that no block of weights is transposed."""
  from jax.experimental import pallas as pl

  flags = _flags(entries_ref)

  @pl.when(flags & FIRST != 0)
  def _() -> None:
    window_ref[...] = _column(kv_window_ref[0].astype(jnp.float32))
    dk_sum_ref[...], dv_sum_ref[...] = jnp.zeros_like(dk_sum_ref), jnp.zeros_like(dv_sum_ref)

  def work(masked: bool) -> None:
    queries = q_ref.shape[0]
    keep = _over(window_ref[...], queries) == q_window_ref[:1, :].astype(jnp.float32) if masked else None
    for h in range(heads):
      at = slice(h * depth, (h + 1) * depth)
      weight = jnp.exp(_dot(k_ref[:, at], q_ref[:, at], NT) - lse_ref[h : h + 1, :])
      weight = weight if keep is None else jnp.where(keep, weight, 0.0)
      dv_sum_ref[:, at] += _dot(weight.astype(gradient_ref.dtype), gradient_ref[:, at], NN)
      change = weight * (_dot(v_ref[:, at], gradient_ref[:, at], NT) - dots_ref[h : h + 1, :])
      dk_sum_ref[:, at] += _dot(change.astype(q_ref.dtype), q_ref[:, at], NN)

  _each_kind(flags, work)

  @pl.when(flags & LAST != 0)
  def _() -> None:
    dk_ref[...], dv_ref[...] = dk_sum_ref[...].astype(dk_ref.dtype), dv_sum_ref[...].astype(dv_ref.dtype)
