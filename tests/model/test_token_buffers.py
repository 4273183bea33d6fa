"""TokenBuffer against loops over groups, windows and tokens: layouts, moves between them, and attention."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aim.model.attention.backends import BACKENDS
from aim.model.token_buffers import TokenBuffer, buffer_attention, move, unpacked

WINDOWS, TOKENS, WIDTH = 6, 8, 3
GROUPS = (0, 1, 2, 6)  # 0: padded


def make(groups: int, stretch, spare: int = 3) -> TokenBuffer:
  """The buffer of a stretch, given as first [b] and lengths [b]."""
  first, lengths = (jnp.asarray(x, jnp.int32) for x in stretch)
  if not groups:
    return TokenBuffer.padded(first, lengths, TOKENS)
  return TokenBuffer.packed(first, lengths, groups, WINDOWS // groups * TOKENS + spare, TOKENS)


def places(groups: int, stretch) -> dict[tuple[int, int], tuple[int, int]]:
  """{(group, slot): (window, token)} of every slot that holds a token."""
  slots = {}
  ends = [0] * (groups or WINDOWS)
  for window, (first, length) in enumerate(zip(*stretch, strict=True)):
    group = window // (WINDOWS // (groups or WINDOWS))
    for token in range(first, first + length):
      slots[group, ends[group]] = (window, token)
      ends[group] += 1
  return slots


@st.composite
def stretches(draw) -> tuple[np.ndarray, np.ndarray]:
  """first [b] and lengths [b]; some lengths are 0, some the whole window."""
  lengths = np.array(draw(st.lists(st.integers(0, TOKENS), min_size=WINDOWS, max_size=WINDOWS)))
  shares = np.array(draw(st.lists(st.floats(0, 1), min_size=WINDOWS, max_size=WINDOWS)))
  return np.floor(shares * (TOKENS - lengths)).astype(int), lengths


@functools.partial(jax.jit, static_argnums=0)
def _there_and_back(groups, source, target, x, weights):
  """The move, the move back, the gradient of a weighted sum of the move, and the move by way of unpacked()."""
  source, target = make(groups, source), make(groups, target, spare=5)
  moved, backward = jax.vjp(lambda x: move(x, source, target), x)
  apart = unpacked(target)
  return moved, move(moved, target, source), backward(weights)[0], move(move(x, source, apart), apart, target)


@pytest.mark.parametrize("groups", GROUPS)
@given(source=stretches(), target=stretches(), seed=st.integers(0, 2**32 - 1))
def test_a_move_keeps_the_tokens_that_both_buffers_hold(groups, source, target, seed):
  rng = np.random.default_rng(seed)
  here, there = places(groups, source), places(groups, target)
  # Empty slots may hold anything, NaN included.
  x = np.full((groups or WINDOWS, make(groups, source).count, WIDTH), np.nan, np.float32)
  for place in here:
    x[place] = rng.normal(size=WIDTH)
  weights = rng.normal(size=(len(x), make(groups, target, 5).count, WIDTH)).astype(np.float32)
  slot_of = {token: place for place, token in here.items()}
  moved, back, gradient, by_windows = _there_and_back(groups, source, target, x, weights)
  expected, expected_back, expected_gradient = np.zeros_like(weights), np.zeros_like(x), np.zeros_like(x)
  for place, token in there.items():
    if token in slot_of:
      expected[place] = x[slot_of[token]]
      expected_back[slot_of[token]] = x[slot_of[token]]
      expected_gradient[slot_of[token]] = weights[place]
  np.testing.assert_array_equal(moved, expected)
  np.testing.assert_array_equal(back, expected_back)
  np.testing.assert_array_equal(gradient, expected_gradient)
  np.testing.assert_array_equal(by_windows, expected)


@functools.partial(jax.jit, static_argnums=0)
def _gradients(groups, source, target, x, index, valid, weights):
  source, target = make(groups, source), make(groups, target, spare=5)
  ours = lambda x: (jnp.sin(move(x, source, target)) * weights).sum()
  plain = lambda x: (jnp.sin(jnp.where(valid[..., None], x[jnp.arange(len(x))[:, None], index], 0)) * weights).sum()
  return jax.grad(ours)(x), jax.grad(plain)(x)


@pytest.mark.parametrize("groups", GROUPS)
@given(source=stretches(), target=stretches(), seed=st.integers(0, 2**32 - 1))
@settings(max_examples=10)
def test_the_gradient_is_that_of_a_plain_gather(groups, source, target, seed):
  """Compared with automatic differentiation of x[index], a scatter, with an index made by hand."""
  rng = np.random.default_rng(seed)
  x = rng.normal(size=(groups or WINDOWS, make(groups, source).count, WIDTH)).astype(np.float32)
  weights = rng.normal(size=(len(x), make(groups, target, 5).count, WIDTH)).astype(np.float32)
  slot_of = {token: place[1] for place, token in places(groups, source).items()}
  index, valid = np.zeros(weights.shape[:2], int), np.zeros(weights.shape[:2], bool)
  for place, token in places(groups, target).items():
    index[place], valid[place] = slot_of.get(token, 0), token in slot_of
  ours, plain = _gradients(groups, source, target, x, index, valid, weights)
  np.testing.assert_allclose(ours, plain, rtol=0, atol=1e-6)


@functools.partial(jax.jit, static_argnums=0)
def _described(groups, here, other, data):
  buffer, other = make(groups, here), make(groups, other, spare=5)
  return buffer.window, buffer.position, buffer.take(data), buffer.covers(other)


@pytest.mark.parametrize("groups", GROUPS)
@given(here=stretches(), other=stretches())
def test_slots_hold_their_windows_and_tokens(groups, here, other):
  data = np.arange(1, WINDOWS * TOKENS + 1, dtype=np.int32).reshape(WINDOWS, TOKENS)
  window, position, taken, covered = map(np.asarray, _described(groups, here, other, data))
  held, per_group = places(groups, here), WINDOWS // (groups or WINDOWS)
  expected, expected_covered = np.zeros_like(taken), np.zeros_like(covered)
  for (group, slot), (i, token) in held.items():
    assert group * per_group + window[group, slot] == i and position[group, slot] == token
    expected[group, slot] = data[i, token]
  for place, token in places(groups, other).items():
    expected_covered[place] = token in held.values()
  np.testing.assert_array_equal(taken, expected)
  np.testing.assert_array_equal(covered, expected_covered)
  for (group, slot), at in np.ndenumerate(position):
    if (group, slot) not in held:  # past the end of the last window that it could belong to
      last = group * per_group + window[group, slot]
      assert at >= here[0][last] + here[1][last]


def test_data_is_not_differentiated():
  data = jnp.ones((WINDOWS, TOKENS))
  buffer = make(2, (np.zeros(WINDOWS), np.arange(WINDOWS)))
  assert not jax.grad(lambda x: buffer.take(x).sum())(data).any()


# Attention in buffers.


def reference_attention(q, k, v):
  """Attention of one window in float64: q [n, h, d], k and v [m, h, d]."""
  scores = np.einsum("nhd,mhd->hnm", q, k) / np.sqrt(q.shape[-1])
  weights = np.exp(scores - scores.max(-1, keepdims=True))
  return np.einsum("hnm,mhd->nhd", weights / weights.sum(-1, keepdims=True), v)


@pytest.mark.parametrize("backend", ["xla", "native"])
@pytest.mark.parametrize("groups", GROUPS)
def test_attention_stays_in_its_window(groups, backend):
  """Queries of one stretch attend to keys of another. Some windows have no queries; NaN in empty slots is ignored."""
  if why := BACKENDS[backend].unavailable(4, "float32"):
    pytest.skip(why)
  rng = np.random.default_rng(groups)
  queries = (np.array([2, 0, 1, 0, 4, 3]), np.array([3, 0, 7, 8, 0, 1]))
  keys = (np.zeros(WINDOWS, int), np.array([1, 4, 8, 3, 1, 5]))

  def buffer(stretch):
    x = np.full((groups or WINDOWS, make(groups, stretch).count, 2, 4), np.nan, np.float32)
    for place in places(groups, stretch):
      x[place] = rng.normal(size=(2, 4))
    return x

  q, k, v = buffer(queries), buffer(keys), buffer(keys)
  weights = jnp.nan_to_num(jnp.asarray(buffer(queries)))
  attend = lambda q, k, v: buffer_attention(q, k, v, make(groups, queries), make(groups, keys), backend)
  forward_and_back = lambda q, k, v: (lambda out, back: (out, *back(weights)))(*jax.vjp(attend, q, k, v))
  out, *gradients = jax.jit(forward_and_back)(q, k, v)
  query_slots, key_slots = places(groups, queries), places(groups, keys)
  of = lambda held, i: tuple(
    np.array(index) for index in zip(*[p for p, (w, _) in held.items() if w == i], strict=True)
  )
  expected = np.zeros(q.shape)
  for i in range(WINDOWS):
    if queries[1][i]:
      at, over = of(query_slots, i), of(key_slots, i)
      expected[at] = reference_attention(*(x.astype(np.float64) for x in (q[at], k[over], v[over])))
  np.testing.assert_allclose(out, expected, rtol=0, atol=2e-6)
  for gradient, x in zip(gradients, (q, k, v), strict=True):
    assert (np.asarray(gradient)[np.isnan(x)] == 0).all() and np.isfinite(gradient).all()
  # The values of a window without queries have no gradient; those of the others do.
  for i in range(WINDOWS):
    assert (np.asarray(gradients[2])[of(key_slots, i)] != 0).any() == bool(queries[1][i])


def test_padded_is_packed_with_one_window_per_group():
  stretch = tuple(jnp.asarray(x, jnp.int32) for x in ([2, 0, 1], [3, 0, 7]))
  padded, packed = TokenBuffer.padded(*stretch, TOKENS), TokenBuffer.packed(*stretch, 3, TOKENS, TOKENS)
  assert padded.is_padded and packed.is_padded and not TokenBuffer.packed(*stretch, 1, 3 * TOKENS, TOKENS).is_padded
  for ours, theirs in zip(dataclasses.astuple(padded), dataclasses.astuple(packed), strict=True):
    np.testing.assert_array_equal(ours, theirs)
