"""Which blocks of a packed buffer attend to which: all that a block-sparse kernel of attention computes, and no more.

Kernels on TPUs compute whole blocks of BLOCK queries and BLOCK keys. A block of one side needs those blocks of the
other side that hold tokens of its windows. Windows lie in the same order on both sides, so these are a stretch.

Everything here takes NumPy arrays or JAX arrays, and returns the same kind.
Notation: g groups of w windows, n blocks per group.
"""

from __future__ import annotations

from typing import TypeVar

import jax
import numpy as np

# Smaller blocks follow the windows more closely, but a kernel's time per step of its grid hardly depends on the block.
BLOCK = 512
Integers = TypeVar("Integers", jax.Array, np.ndarray)


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
) -> tuple[Integers, Integers]:
  """The blocks of the other side that each block's windows reach.

  Args:
    starts, lengths: first slots and numbers of slots of the windows on this side, [g, w].
    other_starts, other_lengths: the same on the other side.
    blocks: n, blocks on this side.
    block: slots per block, on both sides.

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
  begin = low // block
  count = (high - 1) // block - begin + 1
  reaches = high > low
  return xp.where(reaches, begin, 0), xp.where(reaches, count, 0)


def most_for_self_attention(longest: int, slots: int, block: int) -> int:
  """The most blocks that a block can reach in its own buffer, whose windows have at most `longest` tokens.

  Its first window may begin `longest` - 1 slots before it, and its last one may end as far after it.
  """
  return min(block_count(slots, block), max(block + 2 * longest - 4, 0) // block + 2)
