"""The blocks that a block reaches are those with a pair of a query and a key of one window between them."""

import jax.numpy as jnp
import numpy as np
from hypothesis import given
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
  return blocks.stretches(starts(lengths), lengths, starts(others), others, count, BLOCK)


@given(windows=LENGTHS)
def test_a_stretch_is_what_shares_a_window(windows):
  lengths, others = zip(*windows, strict=True)
  first, count = (x[0].tolist() for x in stretches(lengths, others))
  expected = [*reached(lengths, others), set()]  # the last block holds padding only
  for begin, number, pairs in zip(first, count, expected, strict=True):
    if not pairs:
      assert (begin, number) == (0, 0)
    else:  # empty windows do not add to it, and nothing lies between
      assert (begin, begin + number - 1) == (min(pairs), max(pairs)) and len(pairs) == number


@given(lengths=st.lists(st.integers(0, 30), min_size=1, max_size=8))
def test_the_bound_for_self_attention_holds(lengths):
  count = stretches(lengths, lengths)[1]
  assert count.max() <= blocks.most_for_self_attention(max(lengths), sum(lengths) + BLOCK, BLOCK)


def test_the_bound_for_self_attention_is_tight():
  """Slots 16 to 23 have the last token of a window and the first of another, which together are 7 to 32."""
  lengths = [7, 10, 6, 10, 15]
  assert stretches(lengths, lengths)[1].max() == blocks.most_for_self_attention(10, 48, BLOCK) == 5


def test_both_kinds_of_arrays_give_the_same():
  lengths, others = np.array([[5, 0, 20], [1, 1, 1]], np.int32), np.array([[3, 9, 11], [0, 4, 2]], np.int32)
  starts = lambda x: x.cumsum(axis=1) - x
  arguments = starts(lengths), lengths, starts(others), others
  on_device = blocks.stretches(*map(jnp.asarray, arguments), 4, BLOCK)
  for ours, theirs in zip(blocks.stretches(*arguments, 4, BLOCK), on_device, strict=True):
    np.testing.assert_array_equal(ours, theirs)
