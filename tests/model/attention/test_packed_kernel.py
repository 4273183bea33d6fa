"""Splash over windows laid end to end, interpreted: equal to attention in float64 and to the other backends."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from aim.model.attention import packed_kernel
from aim.model.attention.backends import packed_attention, padded_attention
from aim.runtime.sharding import make_mesh

BLOCK, WINDOWS, HEADS, DEPTH = 128, 8, 2, 8
ROWS_Q, ROWS_K = 3 * BLOCK - 5, 4 * BLOCK - 30  # the last blocks are cut off


@functools.partial(jax.jit, static_argnums=0)
def with_gradients(block, q, k, v, g, *spans):
  longest = len(q), len(k)
  attend = lambda q, k, v: packed_kernel.varlen_attention(q, k, v, *spans, longest=longest, block=block)
  out, pull = jax.vjp(attend, q, k, v)
  return out, *pull(g)


def written_out(q, k, v, g, q_starts, q_lengths, kv_starts, kv_lengths):
  """Output and gradients of attention in float64, window by window; 0 outside of them."""
  q, k, v, g = (np.asarray(x, np.float64) for x in (q, k, v, g))
  results = out, dq, dk, dv = [np.zeros_like(x) for x in (q, q, k, v)]
  for a, n, b, m in zip(q_starts, q_lengths, kv_starts, kv_lengths, strict=True):
    if n and m:
      rows, keys = slice(a, a + n), slice(b, b + m)
      scores = np.einsum("nhd,mhd->hnm", q[rows], k[keys]) / np.sqrt(q.shape[-1])
      weights = np.exp(scores - scores.max(-1, keepdims=True))
      weights /= weights.sum(-1, keepdims=True)
      out[rows] = np.einsum("hnm,mhd->nhd", weights, v[keys])
      back = np.einsum("nhd,mhd->hnm", g[rows], v[keys])
      back = weights * (back - (weights * back).sum(-1, keepdims=True)) / np.sqrt(q.shape[-1])
      dq[rows] = np.einsum("hnm,mhd->nhd", back, k[keys])
      dk[keys] = np.einsum("hnm,nhd->mhd", back, q[rows])
      dv[keys] = np.einsum("hnm,nhd->mhd", weights, g[rows])
  return results


def layout(lengths, rows):
  """Starts and lengths of WINDOWS windows, shrunk to fit the rows; windows at the end may be empty."""
  lengths = np.pad(lengths, (0, WINDOWS - len(lengths)))
  if lengths.sum() > rows:
    lengths = lengths * rows // lengths.sum()
  return (np.cumsum(lengths) - lengths).astype(np.int32), lengths.astype(np.int32)


def operands(q_rows, kv_rows, seed, dtype):
  rng = np.random.default_rng(seed)
  draw = lambda rows: jnp.asarray(rng.normal(0, 1, (rows, HEADS, DEPTH)), dtype)
  return draw(q_rows), draw(kv_rows), draw(kv_rows), draw(q_rows)


def inside(starts, lengths, rows):
  row = np.arange(rows)[:, None]
  return ((row >= starts) & (row < starts + lengths)).any(1)[:, None, None]


def compare(spans, block=(BLOCK, BLOCK), self_attention=False, seed=0, dtype=jnp.float32):
  """NaN outside the windows has no effect, results there are exactly 0, and the others those of float64."""
  rows_k = ROWS_Q if self_attention else ROWS_K
  q, k, v, g = operands(ROWS_Q, rows_k, seed, dtype)
  of_query, of_key = inside(*spans[:2], ROWS_Q), inside(*spans[2:], rows_k)
  poison = lambda x, within: jnp.where(within, x, jnp.nan)
  ours = with_gradients(block, poison(q, of_query), poison(k, of_key), poison(v, of_key), poison(g, of_query), *spans)
  theirs = written_out(q, k, v, np.where(of_query, g, 0), *spans)
  tolerance = 1e-5 if dtype == jnp.float32 else 3e-2
  for name, x, y in zip(("out", "dq", "dk", "dv"), ours, theirs, strict=True):
    x = np.asarray(x, np.float64)
    np.testing.assert_allclose(x, y, rtol=0, atol=tolerance * max(1, np.abs(y).max()), err_msg=name)
    # Queries without keys are outside too, and so are keys without queries.
    both = lambda starts, lengths, rows: inside(starts, np.where(spans[1] * spans[3], lengths, 0), rows)
    within = both(*spans[:2], ROWS_Q) if name in ("out", "dq") else both(*spans[2:], rows_k)
    assert not x[~np.broadcast_to(within, x.shape)].any(), name


SIZES = st.sampled_from([0, 1, 2, 40, 127, 128, 129, 300])


@given(
  windows=st.lists(st.tuples(SIZES, SIZES), min_size=1, max_size=WINDOWS),
  seed=st.integers(0, 99),
)
@example(windows=[(1, 1)] * WINDOWS, seed=0)  # windows of one token
@example(windows=[(0, 40)] * 3, seed=0)  # days without anything to predict
@example(windows=[(0, 1), (300, 1), (0, 300)], seed=0)
@settings(max_examples=6)
def test_any_windows(windows, seed):
  """Queries and keys of different numbers, as in cross-attention and a decoder's last layer."""
  q_lengths, kv_lengths = zip(*windows, strict=True)
  compare((*layout(q_lengths, ROWS_Q), *layout(kv_lengths, ROWS_K)), seed=seed)


@given(lengths=st.lists(SIZES, min_size=1, max_size=WINDOWS), seed=st.integers(0, 99))
@settings(max_examples=6)
def test_any_windows_attend_to_themselves(lengths, seed):
  compare(layout(lengths, ROWS_Q) * 2, self_attention=True, seed=seed)


@pytest.mark.slow
def test_bfloat16():
  compare(layout([100, 0, 1, 150], ROWS_Q) + layout([1, 200, 90, 150], ROWS_K), dtype=jnp.bfloat16)


@pytest.mark.slow
@pytest.mark.parametrize("mesh", [None, (2, 2, 2)])
def test_groups_equal_padded_attention_in_xla(mesh):
  """Four groups of two windows: as parts of one buffer, or each on a device of its own with half of the heads."""
  rng = np.random.default_rng(0)
  groups, longest, rows = 4, 70, 150
  q_lengths, kv_lengths = rng.integers(0, longest + 1, (groups, 2)), rng.integers(1, longest + 1, (groups, 2))
  starts = lambda lengths: np.cumsum(lengths, axis=1) - lengths
  spans = [jnp.asarray(x, jnp.int32) for x in (starts(q_lengths), q_lengths, starts(kv_lengths), kv_lengths)]
  q, k, v, g = (jnp.asarray(rng.normal(0, 1, (groups, rows, HEADS, DEPTH)), jnp.float32) for _ in range(4))

  def padded(q, k, v):
    """The same by xla: each window on its own, and the results put in the places of its queries."""
    window = lambda x, starts: jnp.stack(
      [jax.lax.dynamic_slice_in_dim(x[i], starts[i, w], longest) for i in range(groups) for w in range(2)]
    )
    q_starts, kv_starts = (jnp.asarray(starts(x)) for x in (q_lengths, kv_lengths))
    extra = lambda x: jnp.pad(x, ((0, 0), (0, longest), (0, 0), (0, 0)))
    q, k, v = window(extra(q), q_starts), window(extra(k), kv_starts), window(extra(v), kv_starts)
    each = padded_attention(q, k, v, jnp.asarray(q_lengths.reshape(-1)), jnp.asarray(kv_lengths.reshape(-1)), "xla")
    out = jnp.zeros((groups, rows + longest, HEADS, DEPTH))
    for i in range(groups):
      for w in range(2):
        at = int(starts(q_lengths)[i, w])
        out = out.at[i, at : at + longest].add(each[2 * i + w])
    return out[:, :rows]

  def results(attend):
    out, pull = jax.vjp(attend, q, k, v)
    return out, *pull(g)

  ours = lambda q, k, v: packed_attention(q, k, v, *spans, "splash", (longest, longest), (BLOCK, BLOCK))
  if mesh is None:
    got = jax.jit(lambda: results(ours))()
  else:
    with jax.set_mesh(make_mesh(*mesh)):
      got = jax.jit(lambda: results(ours))()
  expected = jax.jit(lambda: results(padded))()
  for name, x, y in zip(("out", "dq", "dk", "dv"), got, expected, strict=True):
    np.testing.assert_allclose(x, y, rtol=0, atol=2e-5, err_msg=name)


def test_it_lowers_for_tpu():
  spans = [jnp.asarray(x) for x in layout([100, 0, 1, 150], ROWS_Q) + layout([1, 200, 90, 150], ROWS_K)]
  q, k, v, _ = operands(ROWS_Q, ROWS_K, 0, jnp.bfloat16)
  static = {"longest": (ROWS_Q, ROWS_K), "block": (BLOCK, 2 * BLOCK), "interpret": False}
  attend = lambda q, k, v: packed_kernel.varlen_attention(q, k, v, *spans, **static).sum()
  program = jax.jit(jax.grad(attend, (0, 1, 2))).trace(q, k, v).lower(lowering_platforms=("tpu",)).as_text()
  assert program.count("@tpu_custom_call(") == 3  # forward, gradient of q, gradients of k and v
