"""TPU and GPU kernels equal plain attention in outputs and gradients; a backend that cannot run gives its reason."""

import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from aim.model.attention import blocks, cudnn, splash
from aim.model.attention.backends import padded_attention
from aim.runtime.sharding import make_mesh

B = 3


def operands(n, m, d, heads=2, dtype=jnp.float32, windows=B):
  """q, k and v, 0 past the lengths; weights for summing the output, also 0 there; and the lengths."""
  rng = np.random.default_rng(n * 1000 + m)
  q_lengths, kv_lengths = rng.integers(1, n + 1, windows), rng.integers(1, m + 1, windows)
  q_lengths[:2], kv_lengths[:2] = (n, 1), (1, m)
  within = lambda rows, lengths: (np.arange(rows) < lengths[:, None])[:, :, None, None]
  draw = lambda rows, lengths: jnp.asarray(
    np.where(within(rows, lengths), rng.normal(0, 1, (windows, rows, heads, d)), 0), dtype
  )
  q, k, v, weights = (draw(*shape) for shape in ((n, q_lengths), (m, kv_lengths), (m, kv_lengths), (n, q_lengths)))
  return (q, k, v), weights, (jnp.asarray(q_lengths, jnp.int32), jnp.asarray(kv_lengths, jnp.int32))


def reference(q, k, v, q_lengths, kv_lengths):
  scores = jnp.einsum("bnhd,bmhd->bhnm", *(x.astype(jnp.float32) for x in (q, k))) / q.shape[-1] ** 0.5
  scores = jnp.where(jnp.arange(k.shape[1]) < kv_lengths[:, None, None, None], scores, -jnp.inf)
  return jnp.einsum("bhnm,bmhd->bnhd", jax.nn.softmax(scores), v.astype(jnp.float32))


def results(function, qkv, weights, lengths):
  """The output where its weight is not 0, and the gradients of q, k and v."""

  def score(*qkv):
    out = function(*qkv, *lengths)
    return (out.astype(jnp.float32) * weights).sum(), jnp.where(weights == 0, 0, out)

  (_, out), gradients = jax.jit(jax.value_and_grad(score, (0, 1, 2), has_aux=True))(*qkv)
  return dict(zip("oqkv", (out, *gradients), strict=True))


def assert_equal(kernel, qkv, weights, lengths, tolerance):
  got, expected = results(kernel, qkv, weights, lengths), results(reference, qkv, weights, lengths)
  for name, value in got.items():
    np.testing.assert_allclose(np.float32(value), np.float32(expected[name]), tolerance, tolerance, err_msg=name)


@pytest.mark.parametrize(
  ("n", "m", "d", "dtype", "lanes"),
  [
    (1, 5, 32, jnp.float32, blocks.BLOCKS),
    (200, 130, 64, jnp.float32, blocks.BLOCKS),
    (130, 200, 48, jnp.float32, range(1, 2)),  # two blocks of queries and of keys
    (130, 200, 48, jnp.bfloat16, range(1, 2)),
  ],
)
def test_splash_equals_plain_attention(n, m, d, dtype, lanes, monkeypatch):
  monkeypatch.setattr(blocks, "BLOCKS", lanes)
  tolerance = 2e-5 if dtype == jnp.float32 else 4e-2
  assert_equal(splash.splash_attention, *operands(n, m, d, dtype=dtype), tolerance)


@pytest.mark.parametrize(
  ("length", "block", "padded"),
  [(1, 128, 128), (128, 128, 128), (300, 384, 384), (769, 512, 1024), (1664, 640, 1920), (3744, 768, 3840)],
)
def test_splash_blocks_divide_the_padded_length(length, block, padded):
  assert blocks.block_and_padded_length(length) == (block, padded)
  assert padded % block == 0


def test_splash_on_a_mesh_with_garbage_past_the_lengths():
  qkv, weights, lengths = operands(9, 21, 32, windows=8)
  garbage = tuple(jnp.where(x == 0, jnp.nan, x) for x in qkv)
  with jax.set_mesh(make_mesh(data=2, fsdp=2, tensor=2)):
    got = results(lambda *arguments: padded_attention(*arguments, backend="splash"), garbage, weights, lengths)
  expected = results(reference, qkv, weights, lengths)
  for name, value in got.items():
    np.testing.assert_allclose(value, expected[name], 2e-5, 2e-5, err_msg=name)


def lowered(kernel, platform, n, m, d, dtype):
  """The gradient's program for a platform that this machine does not have."""
  qkv, weights, lengths = operands(n, m, d, dtype=dtype)
  score = lambda *qkv: (kernel(*qkv, *lengths) * weights).sum()
  return jax.jit(jax.grad(score, (0, 1, 2))).trace(*qkv).lower(lowering_platforms=(platform,)).as_text()


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_splash_lowers_for_tpu(dtype):
  kernel = lambda *arguments: splash.splash_attention(*arguments, interpret=False)
  program = lowered(kernel, "tpu", 130, 1000, 48, dtype)
  assert program.count("@tpu_custom_call(") == 3  # forward, gradient of q, gradients of k and v


def test_cudnn_lowers_for_cuda(monkeypatch):
  """Odd numbers of tokens lower too, although JAX's own check of the shapes refuses them."""
  # Private, because nothing public lowers for a GPU that is absent: JAX asks the installed cuDNN for its version.
  fused = pytest.importorskip("jax._src.cudnn.fused_attention_stablehlo")
  monkeypatch.setattr(fused, "check_cudnn_version", lambda: 91000)
  program = lowered(cudnn.cudnn_attention, "cuda", 9, 21, 48, jnp.bfloat16)
  assert program.count("@__cudnn$fmhaSoftmax(") == program.count("@__cudnn$fmhaSoftmaxBackward(") == 1
  assert '"mask_type": "PADDING"' in program.replace("\\22", '"')


@pytest.mark.skipif(jax.default_backend() != "gpu", reason="no GPU")
@pytest.mark.parametrize(("n", "m", "d"), [(1, 5, 32), (64, 64, 64), (131, 299, 48), (300, 130, 128)])
def test_cudnn_equals_plain_attention(n, m, d):
  if why := cudnn.unavailable(d, "bfloat16"):
    pytest.skip(why)
  kernel = lambda *arguments: padded_attention(*arguments, backend="cudnn")
  assert_equal(kernel, *operands(n, m, d, dtype=jnp.bfloat16), 4e-2)


def test_refusals_here():
  if jax.default_backend() != "cpu":
    pytest.skip("the refusals of a CPU")
  assert splash.unavailable(64, "bfloat16") == "it needs a TPU, this is cpu"
  assert cudnn.unavailable(64, "bfloat16") == "it needs an NVIDIA GPU, this is cpu"


@pytest.mark.parametrize(
  ("head_dim", "dtype", "capability", "version", "reason"),
  [
    (48, "bfloat16", "9.0", "cuda 13000", None),
    (128, "bfloat16", "8.6", "cuda 13000", None),
    (12, "bfloat16", "9.0", "cuda 13000", "it takes head sizes up to 128 that are multiples of 8, not 12"),
    (192, "bfloat16", "9.0", "cuda 13000", "it takes head sizes up to 128 that are multiples of 8, not 192"),
    (64, "float32", "9.0", "cuda 13000", "it computes in bfloat16 only, config.model.dtype is float32"),
    (64, "bfloat16", "7.5", "cuda 13000", "it needs compute capability 8.0 or higher, this GPU has 7.5"),
    (64, "bfloat16", "gfx942", "rocm 70000", "it needs an NVIDIA GPU, this is Some GPU"),
  ],
)
def test_refusals_of_cudnn(head_dim, dtype, capability, version, reason, monkeypatch):
  device = types.SimpleNamespace(device_kind="Some GPU", compute_capability=capability)
  monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
  monkeypatch.setattr(jax, "local_devices", lambda: [device])
  monkeypatch.setattr(jax.extend.backend, "get_backend", lambda: types.SimpleNamespace(platform_version=version))
  assert cudnn.unavailable(head_dim, dtype) == reason


def test_splash_runs_on_a_tpu(monkeypatch):
  monkeypatch.setattr(jax, "default_backend", lambda: "tpu")
  assert splash.unavailable(12, "float32") is None
