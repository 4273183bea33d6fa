"""Pairs of blocks of packed buffers that share a window: all that a block-sparse attention kernel has to compute.

Kernels on TPUs compute whole blocks of queries and keys. A block of one side needs those blocks of the other side that
hold tokens of its windows. Windows lie in the same order on both sides, so these are a stretch, in which there may also
be windows that have tokens on the other side alone.

Everything here takes NumPy arrays or JAX arrays, and returns the same kind.
Notation: g groups of w windows, n blocks per group.
"""

from __future__ import annotations

import math
from typing import NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Int

LANES = 128  # blocks are multiples of this
# Block sizes in lanes. Small blocks leave the matrix unit idle; float32 scores [1024, 1024] overflow a TPU v4's 16 MB.
BLOCKS = range(3, 7)
# Slots per block where windows lie end to end: smaller blocks follow the windows more closely, larger ones take fewer
# instructions per pair (docs/decisions/069-form-and-blocks-on-tpus.md).
BLOCK = 384
Integers = TypeVar("Integers", jax.Array, np.ndarray)


def block_and_padded_length(length: int) -> tuple[int, int]:
  """Length of a block and of the padded array: the least padding, then the largest block."""
  lanes = math.ceil(length / LANES)
  padded = lambda block: math.ceil(lanes / block) * block
  block = lanes if lanes < BLOCKS.start else min(BLOCKS, key=lambda block: (padded(block), -block))
  return block * LANES, padded(block) * LANES


def block_count(slots: int, block: int) -> int:
  """Blocks in a buffer of so many slots, the last of which may be cut off."""
  return -(-slots // block)


def stretches(
  starts: Integers,
  lengths: Integers,
  other_starts: Integers,
  other_lengths: Integers,
  blocks: int,
  block: int,
  other_block: int,
) -> tuple[Integers, Integers]:
  """The blocks of the other side that each block's windows reach.

  Args:
    starts, lengths: first slots and numbers of slots of the windows on this side, [g, w].
    other_starts, other_lengths: the same on the other side.
    blocks: n, blocks on this side.
    block, other_block: slots per block on the two sides.

  Returns:
    The first block of the other side and the number of blocks, [g, n]; both 0 where there is none.
  """
  xp = starts.__array_namespace__()
  first_slot = xp.arange(blocks)[:, None] * block
  here = lambda x: x[:, None, :]
  inside = (here(starts) < first_slot + block) & (here(starts + lengths) > first_slot)
  inside = inside & here(lengths > 0) & here(other_lengths > 0)
  ends = other_starts + other_lengths
  low = xp.where(inside, here(other_starts), np.iinfo(np.int32).max).min(axis=-1)
  high = xp.where(inside, here(ends), 0).max(axis=-1)
  begin = low // other_block
  count = (high - 1) // other_block - begin + 1
  reaches = high > low
  return xp.where(reaches, begin, 0), xp.where(reaches, count, 0)


# What the kernel does with an entry of a list, as bits: the first or last of its block; whether there is anything to
# compute, and whether some of its pairs are of different windows or padding.
FIRST, LAST, WORK, PARTIAL = 1, 2, 4, 8


class BlockList(NamedTuple):
  """Pairs of blocks in the order in which a kernel computes them.

  Attributes:
    entries: int32 [3, capacity]: the block here, the block of the other side, and flags.
    used: how many of the entries count.
  """

  entries: Int[jax.Array, "3 capacity"]
  used: Int[jax.Array, ""]


def window_of_rows(
  starts: Int[jax.Array, " w"], lengths: Int[jax.Array, " w"], rows: int, outside: int
) -> Int[jax.Array, " rows"]:
  """The window of each row, or `outside` if it is in none."""
  row = jnp.arange(rows)[:, None]
  inside = (row >= starts) & (row < starts + lengths)
  return jnp.where(inside, jnp.arange(len(starts)) - outside, 0).sum(axis=1).astype(jnp.int32) + outside


def block_list(
  starts: Int[jax.Array, " w"],
  lengths: Int[jax.Array, " w"],
  other_starts: Int[jax.Array, " w"],
  other_lengths: Int[jax.Array, " w"],
  window: Int[jax.Array, " rows"],
  other_window: Int[jax.Array, " other_rows"],
  other_longest: int,
  block: int,
  other_block: int,
) -> BlockList:
  """Every pair of blocks that share a window, block by block on this side; a block without any has an idle entry.

  Args:
    starts, lengths, other_starts, other_lengths: of the windows on both sides, as in stretches().
    window, other_window: window_of_rows() of both sides, whole numbers of blocks.
    other_longest: an upper bound on other_lengths.
    block, other_block: rows per block on the two sides.
  """
  count, other_count = len(window) // block, len(other_window) // other_block
  as_group = lambda x: jnp.asarray(x)[None]
  here_spans, other_spans = (as_group(starts), as_group(lengths)), (as_group(other_starts), as_group(other_lengths))
  first, reached = (x[0] for x in stretches(*here_spans, *other_spans, count, block, other_block))
  used = jnp.maximum(reached, 1)
  ends = jnp.cumsum(used)
  entry = jnp.arange(count + longest_list(count, other_count, len(starts), other_longest, other_block))
  here = jnp.minimum((entry[:, None] >= ends).sum(axis=1), count - 1)
  step = entry - (ends - used)[here]
  there = jnp.clip(first[here] + step, 0, other_count - 1)
  alone, other_alone = _only_window(window, block), _only_window(other_window, other_block)
  whole = (alone[here] >= 0) & (alone[here] == other_alone[there])
  flags = FIRST * (step == 0) + LAST * (step == used[here] - 1) + WORK * (reached[here] > 0) + PARTIAL * ~whole
  return BlockList(jnp.stack([here, there, flags]).astype(jnp.int32), ends[-1].astype(jnp.int32))


def longest_list(count: int, other_count: int, windows: int, other_longest: int, other_block: int) -> int:
  """The most pairs that `windows` windows of at most `other_longest` rows on the other side can have.

  Windows begin or continue in a block at most count + windows times, each time with all of their other blocks.
  """
  return min(count * other_count, (count + windows) * ((other_longest + 2 * other_block - 2) // other_block))


def _only_window(window: Int[jax.Array, " rows"], block: int) -> Int[jax.Array, " n"]:
  """The window that a block lies in with all of its rows; negative if there is none."""
  rows = window.reshape(-1, block)
  return jnp.where(rows.min(axis=1) == rows.max(axis=1), rows[:, 0], -1)
