"""Channels that a day does not have: with decoder_tokens "present" they cost nothing and reach no other channel."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aim.model import buffer_sizes, loss, lsm2
from aim.model.buffer_sizes import BufferSizes
from aim.model.lsm2 import Architecture, Tower
from aim.model.masking import sorted_token_set
from tests import tiny

PLACES = (4, 30, 9, 2, 17)
LENGTH, PATCH, WINDOWS = 4, 3, 2
TOKENS = LENGTH * 5
# The same slots for both models, so that sums run in the same order.
BUFFERS = BufferSizes(0, 12, 12, 12, 12, 12, "present")


@functools.cache
def architecture(channels: tuple[int, ...]) -> Architecture:
  """A model of these of five channels, of which the first is binary, with their places."""
  a = tiny.architecture(len(channels), LENGTH, PATCH, Tower(8, 16, 2, 1), Tower(8, 16, 2, 2))
  binary, places = tuple(c == 0 for c in channels), tuple(PLACES[c] for c in channels)
  return dataclasses.replace(a, interpolation_skip=True, decoder_tokens="present", binary=binary, places=places)


@functools.cache
def params() -> dict[str, np.ndarray]:
  rng = np.random.default_rng(0)
  shapes = lsm2.abstract(architecture((0, 1, 2)))[1]
  return {name: rng.normal(0, 0.3, leaf.shape).astype(np.float32) for name, leaf in sorted(shapes.items())}


@functools.cache
def predict(channels: tuple[int, ...]):
  a = architecture(channels)
  graph = lsm2.abstract(a)[0]

  def predictions(z, observed, hidden, shuffle):
    tokens = sorted_token_set(tiny.masking((1, 1, 1, 1)), z, observed, PATCH, hidden, shuffle)
    targets = BUFFERS.target_buffer(tokens)
    return loss.forward(lsm2.merge(graph, params()), tokens, BUFFERS, targets), targets.take(tokens.target), tokens

  return jax.jit(predictions)


@pytest.mark.parametrize("channels", [(0, 1, 2), (1, 2, 4)])
@given(missing=st.floats(0, 0.9), share=st.floats(0.1, 0.9), seed=st.integers(0, 2**32 - 1))
@settings(max_examples=15)
def test_nothing_of_an_absent_channel_reaches_another(channels, missing, share, seed):
  """A day of three channels among five: the predictions are those of the model of three channels, to rounding."""
  rng = np.random.default_rng(seed)
  z = rng.normal(0, 3, (WINDOWS, LENGTH * PATCH, 5)).astype(np.float32)  # garbage in the absent ones
  observed = (rng.random(z.shape) >= missing) & np.isin(np.arange(5), channels)
  observed[:, 0, channels] = True  # every channel of the three is there
  hidden = np.repeat(rng.random((WINDOWS, 5, LENGTH, 1)) < share, PATCH, axis=3)
  shuffle = rng.random((WINDOWS, 5, LENGTH)).astype(np.float32)
  grid = lambda x, keep: x[:, keep].reshape(WINDOWS, len(keep) * LENGTH, *x.shape[3:])
  many, few = (
    predict(keep)(z[..., keep], observed[..., keep], grid(hidden, list(keep)), grid(shuffle, list(keep)))
    for keep in ((0, 1, 2, 3, 4), channels)
  )
  for i in range(WINDOWS):
    count = int(few[2].target_ends[i] - few[2].target_starts[i])
    np.testing.assert_array_equal(many[1][i, :count], few[1][i, :count])
    scale = np.abs(few[0][i, :count]).max(initial=1)
    np.testing.assert_allclose(many[0][i, :count], few[0][i, :count], rtol=0, atol=2e-6 * scale)
  for name in ("visible_lengths", "target_starts", "target_ends", "present_ends"):
    np.testing.assert_array_equal(getattr(many[2], name), getattr(few[2], name))
  assert (np.asarray(many[2].present_ends) == 3 * LENGTH).all()


def test_what_is_asked_of_an_absent_channel_is_decoded():
  """The targets of a channel without a value are in the decoder, and no other of its tokens."""
  observed = jnp.zeros((1, LENGTH * PATCH, 5), bool).at[:, :PATCH, 1:3].set(True)
  target = jnp.zeros((1, TOKENS, PATCH), bool).at[0, 3 * LENGTH + 2].set(True)
  nothing = jnp.zeros((1, TOKENS, PATCH), bool)
  grid = jnp.arange(TOKENS)[None] / TOKENS
  masks = tiny.masking((1, 1, 1, 1))
  tokens = sorted_token_set(masks, jnp.zeros(observed.shape), observed, PATCH, nothing, grid, target)
  assert buffer_sizes.slot_counts(tokens, "present").tolist() == [[2, 2 * LENGTH + 1, 1]]
  assert buffer_sizes.slot_counts(tokens, "observed").tolist() == [[2, 3, 1]]
  expected = [LENGTH, 2 * LENGTH, 3 * LENGTH + 2, *range(LENGTH + 1, 2 * LENGTH), *range(2 * LENGTH + 1, 3 * LENGTH)]
  assert tokens.order[0, : 2 * LENGTH + 1].tolist() == expected
