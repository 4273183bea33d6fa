"""The blocks that a block reaches are those with a pair of a query and a key of one window between them."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from hypothesis import example, given
from hypothesis import strategies as st

from aim.model.attention import blocks

BLOCK = 8
LENGTHS = st.lists(st.tuples(st.integers(0, 20), st.sampled_from([0, 1, 2, 7, 8, 9, 30])), min_size=1, max_size=8)


def windows_of(lengths) -> np.ndarray:
  return np.repeat(np.arange(len(lengths)), lengths)


def reached(lengths, others) -> list[set[int]]:
  """The blocks of the other side that share a window with each block, pair by pair."""
  here, there = windows_of(lengths), windows_of(others)
  pairs = [set() for _ in range(-(-len(here) // BLOCK))]
  for i, window in enumerate(here):
    pairs[i // BLOCK] |= {int(j) // BLOCK for j in np.flatnonzero(there == window)}
  return pairs


def stretches(lengths, others, spare=1):
  lengths, others = np.array(lengths)[None], np.array(others)[None]
  starts = lambda x: np.cumsum(x, axis=1) - x
  count = blocks.block_count(int(lengths.sum()), BLOCK) + spare
  return blocks.stretches(starts(lengths), lengths, starts(others), others, count, BLOCK, BLOCK)


@given(windows=LENGTHS)
@example(windows=[(1, 1), (0, 30), (1, 1)])
def test_a_stretch_is_what_shares_a_window(windows):
  lengths, others = zip(*windows, strict=True)
  first, count = (x[0].tolist() for x in stretches(lengths, others))
  expected = [*reached(lengths, others), set()]  # the last block holds padding only
  for begin, number, pairs in zip(first, count, expected, strict=True):
    if not pairs:
      assert (begin, number) == (0, 0)
    else:  # what lies between is of windows that have a length on the other side alone
      assert (begin, begin + number - 1) == (min(pairs), max(pairs))
      between = {*range(begin, begin + number)} - pairs
      owners = windows_of(others)
      assert all(lengths[owners[row]] == 0 for j in between for row in range(j * BLOCK, (j + 1) * BLOCK))


@functools.partial(jax.jit, static_argnums=2)
def lists(lengths, others, other_block):
  """The list of up to 8 windows, and the window of each row on both sides, where some blocks are left over."""
  starts = lambda x: jnp.cumsum(x) - x
  window = blocks.window_of_rows(starts(lengths), lengths, 168, outside=-1)
  other = blocks.window_of_rows(starts(others), others, 256, outside=-2)
  spans = starts(lengths), lengths, starts(others), others
  return blocks.block_list(*spans, window, other, 30, BLOCK, other_block), window, other


@given(windows=LENGTHS, other_block=st.sampled_from([8, 16]))
def test_a_list_has_every_pair_of_blocks_once(windows, other_block):
  """The order and the flags count too. A block that shares no window with any has one idle entry."""
  lengths, others = np.pad(np.array(windows, np.int32), ((0, 8 - len(windows)), (0, 0))).T
  made, window, other = (jax.device_get(x) for x in lists(lengths, others, other_block))
  np.testing.assert_array_equal(window[: lengths.sum()], windows_of(lengths))
  assert (window[lengths.sum() :] == -1).all() and (other[others.sum() :] == -2).all()
  expected = []
  for i, mine in enumerate(window.reshape(-1, BLOCK)):
    shared = [j for j, theirs in enumerate(other.reshape(-1, other_block)) if set(mine) & set(theirs)]
    shared = list(range(min(shared), max(shared) + 1)) if shared else []  # also windows without tokens here
    whole = [len(set(mine) | set(other[j * other_block : (j + 1) * other_block])) == 1 for j in shared]
    for n, (j, alone) in enumerate(zip(shared, whole, strict=True)):
      edges = blocks.FIRST * (n == 0) + blocks.LAST * (n == len(shared) - 1)
      expected.append((i, j, edges + blocks.WORK + blocks.PARTIAL * (not alone)))
    if not shared:
      expected.append((i, None, blocks.FIRST + blocks.LAST))
  used, entries = int(made.used), made.entries.T
  assert used == len(expected) <= len(entries)
  for (here, there, flags), (i, j, wanted) in zip(entries[:used].tolist(), expected, strict=True):
    assert here == i and (there, flags) == (j, wanted) if j is not None else not flags & blocks.WORK
    assert 0 <= there < len(other) // other_block


def test_no_list_is_longer_than_its_bound():
  """One that reaches it: a window ends in the block in which the next begins, and both reach two others."""
  lengths, others = np.array([5, 3, 0, 0, 0, 0, 0, 0], np.int32), np.array([9, 7, 0, 0, 0, 0, 0, 0], np.int32)
  idle = 168 // BLOCK - 1
  assert int(lists(lengths, others, 8)[0].used) == blocks.longest_list(1, 2, 2, 9, 8) + idle == 2 + idle


def test_both_kinds_of_arrays_give_the_same():
  lengths, others = np.array([[5, 0, 20], [1, 1, 1]], np.int32), np.array([[3, 9, 11], [0, 4, 2]], np.int32)
  starts = lambda x: x.cumsum(axis=1) - x
  arguments = starts(lengths), lengths, starts(others), others
  on_device = blocks.stretches(*map(jnp.asarray, arguments), 4, BLOCK, BLOCK)
  for ours, theirs in zip(blocks.stretches(*arguments, 4, BLOCK, BLOCK), on_device, strict=True):
    np.testing.assert_array_equal(ours, theirs)
