"""The CPU attention kernel equals attention written out, and keeps its other promises."""

import concurrent.futures
import functools
import pathlib
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.sharding import AxisType, PartitionSpec

from aim.model.attention import native

REASON = native.unavailable(64, "float32")
needs_kernel = pytest.mark.skipif(REASON is not None, reason=str(REASON))
ERRORS = {jnp.float32: 1e-5, jnp.bfloat16: 2e-2}  # largest error, over the largest value


class Kind(NamedTuple):
  """A kind of arithmetic. Without AMX, or permission to use it, the last two are the same."""

  dtype: Any
  matrix_unit: bool

  def attend(self, *arguments):
    """The kernel with this arithmetic."""
    return native.varlen_attention(*arguments, matrix_unit=self.matrix_unit)


KINDS = [Kind(jnp.float32, False), Kind(jnp.bfloat16, False), Kind(jnp.bfloat16, True)]
of_every_kind = pytest.mark.parametrize("kind", KINDS, ids=["float32", "bfloat16", "bfloat16-matrix-unit"])


def reference(q, k, v, q_starts, q_lengths, kv_starts, kv_lengths):
  """Attention in float32, window by window."""
  q, k, v = (x.astype(jnp.float32) for x in (q, k, v))
  out = jnp.zeros_like(q)
  for first, n, key, m in zip(q_starts, q_lengths, kv_starts, kv_lengths, strict=True):
    if n and m:
      scores = jnp.einsum("nhd,mhd->hnm", q[first : first + n], k[key : key + m]) / np.sqrt(q.shape[-1])
      window = jnp.einsum("hnm,mhd->nhd", jax.nn.softmax(scores, axis=-1), v[key : key + m])
      out = out.at[first : first + n].set(window)
  return out


@functools.partial(jax.jit, static_argnums=0)
def with_gradients(attend, q, k, v, g, *spans):
  out, pull = jax.vjp(lambda q, k, v: attend(q, k, v, *spans), q, k, v)
  return out, *pull(g.astype(out.dtype))


def layout(lengths, gaps):
  """Start of each window, given their lengths and the gaps before them, and the number of rows in all."""
  starts = np.cumsum(gaps) + np.cumsum([0, *lengths[:-1]])
  return starts.astype(np.int32), int(starts[-1] + lengths[-1] + gaps[0])


def normal(seed, *shape):
  return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def rows_of(starts, lengths, rows):
  inside = np.zeros(rows, bool)
  for first, n in zip(starts, lengths, strict=True):
    inside[first : first + n] = True
  return inside


def compare(q_lengths, kv_lengths, heads, d, kind, gap=0):
  """Kernel and reference agree; NaN in padding has no effect, and outputs and gradients there are 0."""
  dtype, gaps = kind.dtype, [gap] * len(q_lengths)
  (q_starts, rows_q), (kv_starts, rows_k) = layout(q_lengths, gaps), layout(kv_lengths, gaps[::-1])
  spans = [np.asarray(x, np.int32) for x in (q_starts, q_lengths, kv_starts, kv_lengths)]
  q, g = normal(0, rows_q, heads, d), normal(1, rows_q, heads, d)
  k, v = normal(2, rows_k, heads, d), normal(3, rows_k, heads, d)
  q_inside = rows_of(q_starts, q_lengths, rows_q)
  k_inside = rows_of(kv_starts, kv_lengths, rows_k)
  # A window without keys or without queries has outputs and gradients of 0.
  both = [n and m for n, m in zip(q_lengths, kv_lengths, strict=True)]
  q_counts = rows_of(q_starts, [n if b else 0 for n, b in zip(q_lengths, both, strict=True)], rows_q)
  k_counts = rows_of(kv_starts, [m if b else 0 for m, b in zip(kv_lengths, both, strict=True)], rows_k)
  at = lambda x, inside: jnp.asarray(np.where(inside[:, None, None], x, np.nan), dtype)
  clean = lambda x, inside: jnp.asarray(np.where(inside[:, None, None], x, 0), dtype)
  mine = with_gradients(kind.attend, at(q, q_inside), at(k, k_inside), at(v, k_inside), at(g, q_inside),
                        *map(jnp.asarray, spans))  # fmt: skip
  static = tuple(tuple(map(int, x)) for x in spans)
  theirs = with_gradients(
    Reference(static), clean(q, q_inside), clean(k, k_inside), clean(v, k_inside), clean(g, q_inside)
  )
  for name, x, y, counts in zip(
    ("out", "dq", "dk", "dv"), mine, theirs, (q_counts, q_counts, k_counts, k_counts), strict=True
  ):
    assert x.dtype == dtype, name
    x, y = np.asarray(x, np.float32), np.asarray(y, np.float32)
    assert not np.any(x[~counts]), name
    # The gradient of a single key or query is a difference of equal numbers, so 0 except for rounding.
    np.testing.assert_allclose(x, y, rtol=0, atol=ERRORS[dtype] * max(1, np.abs(y).max(initial=0)), err_msg=name)


class Reference(tuple):
  """reference() for these windows, as a hashable function, so that jit compiles equal windows once."""

  def __call__(self, q, k, v):
    return reference(q, k, v, *self)


@needs_kernel
@given(
  windows=st.lists(st.tuples(st.integers(0, 70), st.sampled_from([0, 1, 2, 17, 64, 131])), min_size=1, max_size=3),
  heads=st.integers(1, 3),
  d=st.sampled_from([8, 16, 24, 32, 48, 64, 80]),
  kind=st.sampled_from(KINDS),
  gap=st.integers(0, 5),
)
@settings(max_examples=20)  # each example compiles
def test_any_windows(windows, heads, d, kind, gap):
  compare(*zip(*windows, strict=True), heads, d, kind, gap)


@needs_kernel
@of_every_kind
@pytest.mark.parametrize("d", [16, 24, 32, 48, 64])
def test_any_width(kind, d):
  compare((33, 150), (47, 290), 2, d, kind)


@needs_kernel
@of_every_kind
def test_long_windows_in_several_parts(kind):
  compare((600, 3), (1100, 2100), 2, 48, kind)


@needs_kernel
@of_every_kind
@pytest.mark.parametrize("which", [0, 1, 2, 3])
def test_nan_reaches_its_window_and_no_other(kind, which):
  spans = [jnp.asarray(x, jnp.int32) for x in ([0, 40], [40, 30], [0, 50], [50, 20])]
  arrays = [normal(i, rows, 2, 16) for i, rows in enumerate((70, 70, 70, 70))]
  arrays[which][10, 1, 3] = np.nan
  q, k, v, g = (jnp.asarray(x, kind.dtype) for x in arrays)
  out, dq, dk, dv = (np.isnan(np.asarray(x, np.float32)) for x in with_gradients(kind.attend, q, k, v, g, *spans))
  for x, first in ((out, 40), (dq, 40), (dk, 50), (dv, 50)):
    assert not x[first:].any() and not x[:, 0].any()  # the other window, the other head
  if which < 3:
    assert out[10, 1].any() and dk[:50, 1].any()
  assert dq[10, 1].any()


@needs_kernel
@of_every_kind
def test_infinite_scores_are_not_hidden(kind):
  q, k, v = (jnp.asarray(normal(i, 20, 1, 16), kind.dtype) for i in range(3))
  zero, twenty = jnp.zeros(1, jnp.int32), jnp.full(1, 20, jnp.int32)
  out = kind.attend(q.at[3].set(jnp.inf), k, v, zero, twenty, zero, twenty)
  assert np.isnan(np.asarray(out[3], np.float32)).all() and np.isfinite(np.asarray(out[:3], np.float32)).all()


@needs_kernel
def test_large_scores_do_not_overflow():
  q, k, v = (jnp.asarray(normal(i, 20, 1, 16)) for i in range(3))
  zero, twenty = jnp.zeros(1, jnp.int32), jnp.full(1, 20, jnp.int32)
  spans = (zero, twenty, zero, twenty)
  for shift in (-1e3, 1e3):  # added to every score
    moved = k + shift * jnp.ones_like(k)
    ones = jnp.abs(q) + 1
    np.testing.assert_allclose(
      native.varlen_attention(ones, moved, v, *spans), reference(ones, moved, v, [0], [20], [0], [20]), atol=2e-3
    )


@needs_kernel
@of_every_kind
def test_repeats_to_the_bit_from_several_threads(kind):
  lengths = np.asarray([700, 90, 1300, 5], np.int32)  # the third falls into parts whose sums are added at the end
  starts, rows = layout(lengths, [0] * 4)
  arrays = [jnp.asarray(normal(i, rows, 2, 16), kind.dtype) for i in range(4)]
  call = lambda _=None: [
    np.asarray(x, np.float32) for x in with_gradients(kind.attend, *arrays, starts, lengths, starts, lengths)
  ]
  first = call()
  with concurrent.futures.ThreadPoolExecutor(4) as pool:
    for again in pool.map(call, range(8)):
      for x, y in zip(first, again, strict=True):
        np.testing.assert_array_equal(x, y)


@needs_kernel
def test_windows_outside_the_rows_or_overlapping_are_errors():
  q = jnp.zeros((10, 1, 8))
  for start, length in ((5, 6), (-1, 3)):
    spans = [jnp.asarray([x], jnp.int32) for x in (0, 3, start, length)]
    with pytest.raises(Exception, match="leave the 10 rows"):
      jax.block_until_ready(native.varlen_attention(q, q, q, *spans))
  spans = [jnp.asarray(x, jnp.int32) for x in ([0, 2], [3, 3], [0, 5], [2, 2])]
  with pytest.raises(Exception, match="windows overlap"):
    jax.block_until_ready(native.varlen_attention(q, q, q, *spans))
  with pytest.raises(TypeError, match="all float32 or all bfloat16"):
    native.varlen_attention(q, q.astype(jnp.bfloat16), q, *spans)


def test_the_matrix_unit_is_used_where_there_is_one():
  """Its sums have another order than those of vectors, so that some bit differs."""
  cpu = pathlib.Path("/proc/cpuinfo")
  if not cpu.exists() or not {"amx_bf16", "avx512_bf16"} <= set(cpu.read_text().split()):
    pytest.skip("no AMX")
  q, k, v = (jax.random.normal(jax.random.key(i), (300, 2, 48), jnp.bfloat16) for i in range(3))
  spans = [jnp.asarray([x], jnp.int32) for x in (0, 300, 0, 300)]
  by_vectors, by_tiles = (np.asarray(kind.attend(q, k, v, *spans), np.float32) for kind in KINDS[1:])
  assert 0 < np.abs(by_vectors - by_tiles).max() < 0.02


def layers(q, k, v, starts, lengths):
  """Three rematerialised attention layers in a scan."""

  @jax.checkpoint
  def layer(x, _):
    return x + native.varlen_attention(x, k, v, starts, lengths, starts, lengths), None

  return jax.lax.scan(layer, q, None, length=3)[0]


@needs_kernel
def test_inside_scan_and_checkpoint():
  starts, lengths = jnp.asarray([0, 20], jnp.int32), jnp.asarray([13, 20], jnp.int32)
  q, k, v, g = (jnp.asarray(normal(i, 40, 2, 16)) for i in range(4))

  def plain(q, k, v):
    for _ in range(3):
      q = q + reference(q, k, v, (0, 20), (13, 20), (0, 20), (13, 20))
    return q

  mine = with_gradients(layers, q, k, v, g, starts, lengths)
  for x, y in zip(mine, with_gradients(plain, q, k, v, g), strict=True):
    np.testing.assert_allclose(x, y, atol=2e-5)


@needs_kernel
@pytest.mark.parametrize("check_vma", [False, True])
def test_inside_shard_map_over_eight_devices(check_vma):
  mesh = jax.make_mesh((8,), ("data",), axis_types=(AxisType.Auto,))
  lengths = np.asarray([13, 20, 1, 40, 0, 7, 33, 40], np.int32)
  q, k, v, g = (jnp.asarray(normal(i, 8 * 40, 2, 16)) for i in range(4))
  zeros, spec = np.zeros(8, np.int32), PartitionSpec("data")
  mapped = jax.shard_map(layers, mesh=mesh, in_specs=(spec,) * 5, out_specs=spec, check_vma=check_vma)
  mine = with_gradients(mapped, q, k, v, g, zeros, lengths)
  whole = with_gradients(layers, q, k, v, g, 40 * np.arange(8, dtype=np.int32), lengths)
  for x, y in zip(mine, whole, strict=True):
    np.testing.assert_array_equal(x, y)


@pytest.fixture
def nothing_built(tmp_path, monkeypatch):
  """An empty cache folder, as if nothing were loaded in this process."""
  monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
  monkeypatch.delenv("CXX", raising=False)
  monkeypatch.setattr(native, "load_kernel", functools.cache(native.load_kernel.__wrapped__))
  return tmp_path


def test_a_missing_compiler_is_reported(nothing_built, monkeypatch):
  monkeypatch.setenv("PATH", str(nothing_built))
  assert native.unavailable(64, "float32") == "no C++ compiler (c++, g++, clang++) on the path"
  with pytest.raises(RuntimeError, match=r"no C\+\+ compiler"):
    native.varlen_attention(*[jnp.zeros((1, 1, 8))] * 3, *[jnp.zeros(1, jnp.int32)] * 4)


def test_a_failing_compiler_is_reported(nothing_built, monkeypatch, capsys):
  failing = nothing_built / "failing"
  failing.write_text("#!/bin/sh\necho 'note: x' >&2\necho 'native.cc:1: error: no such thing' >&2\nexit 1\n")
  failing.chmod(0o755)
  monkeypatch.setenv("CXX", f"{failing} -m64")
  assert (
    native.unavailable(64, "float32") == "the CPU attention kernel does not compile: native.cc:1: error: no such thing"
  )
  assert capsys.readouterr().err.count("\n") == 1
  assert not list(nothing_built.glob("cache/**/*.so"))


def test_other_types_are_refused():
  assert "not float16" in native.unavailable(64, "float16")


@needs_kernel
@pytest.mark.parametrize("name", ["native.so", pytest.param("native.blake2b", marks=pytest.mark.slow)])
def test_a_damaged_kernel_is_compiled_again(tmp_path, monkeypatch, name, capfd):
  monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
  monkeypatch.setattr(native, "FLAGS", (*(flag for flag in native.FLAGS if flag != "-O3"), "-O0"))  # in less time
  build = native.built_library
  library = build()
  whole, path = library.read_bytes(), library.with_name(name)
  path.write_bytes(path.read_bytes()[:20])
  assert build() == library and library.read_bytes() == whole
  assert "was damaged" in capfd.readouterr().err
  assert build() == library and capfd.readouterr().err == ""
