"""Attention on the CPU: a C++ kernel, native.cc, compiled for this machine at first use.

XLA's own CPU programs reach a third of its speed, because they keep all scores in memory and compute padding too.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import importlib.metadata
import os
import pathlib
import platform
import shlex
import shutil
import subprocess
import sys
import uuid

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from aim.runtime import devices
from data_pipelines import text_files
from data_pipelines.remote.cache_dir import cache_folder

SOURCE = pathlib.Path(__file__).with_name("native.cc")
COMPILERS = ("c++", "g++", "clang++")
# No -ffast-math, because NaN must reach the outputs, where bad gradients are detected.
FLAGS = (
  "-std=c++17",
  "-O3",
  "-march=native",
  "-fno-math-errno",
  "-fno-trapping-math",
  "-ffp-contract=fast",
  "-fPIC",
  "-shared",
)
HANDLERS = ("varlen_attention_forward", "varlen_attention_backward")


class Unavailable(Exception):
  """The kernel cannot be used; the message is one line with the reason."""


def unavailable(head_dim: int, dtype: str) -> str | None:
  """The reason, in one line, why the kernel cannot run here; None if it can. Compiles it if necessary."""
  if dtype not in ("float32", "bfloat16"):
    return f"the native attention kernel computes in float32 or bfloat16, not {dtype}"
  if devices.platform() != "cpu":
    return f"the native attention kernel is for the CPU, the default device is a {devices.platform()}"
  return load_kernel()


@functools.cache
def load_kernel() -> str | None:
  """Compiles, loads and registers the kernel, once per process. Returns the reason if that fails, otherwise None."""
  try:
    library = ctypes.CDLL(str(built_library()))
  except (Unavailable, OSError) as e:
    return str(e).splitlines()[0]
  for name in HANDLERS:
    jax.ffi.register_ffi_target(name, jax.ffi.pycapsule(getattr(library, name)), platform="cpu")
  return None


def built_library() -> pathlib.Path:
  """The path of the compiled kernel, taken from the cache folder if possible.

  Raises:
    Unavailable: if there is no compiler or it fails.
  """
  command = _compiler()
  fingerprint = "\n".join([SOURCE.read_text(), *command, *FLAGS, importlib.metadata.version("jaxlib"), _cpu()])
  folder = cache_folder("native") / hashlib.sha256(fingerprint.encode()).hexdigest()[:16]
  library, digest = folder / "native.so", folder / "native.blake2b"
  try:
    if digest.read_text() == _digest(library):
      return library
    print(f"note: {library}: was damaged", file=sys.stderr)
  except (OSError, ValueError):  # one of them is missing, or cannot be read
    pass
  print(f"compiling the CPU attention kernel into {folder} (once, about 20 seconds)", file=sys.stderr, flush=True)
  folder.mkdir(parents=True, exist_ok=True)
  # Compiled in a temporary folder and renamed, because another process may build or load it at the same time.
  text_files.remove_abandoned(folder, f"build{text_files.UNFINISHED}")
  with text_files.unfinished(folder / f"build.{uuid.uuid4().hex}.new", folder=True) as scratch:
    compiled = scratch / "native.so"
    command = [*command, *FLAGS, f"-I{jax.ffi.include_dir()}", str(SOURCE), "-o", str(compiled)]
    result = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    if result.returncode:
      lines = result.stderr.splitlines()
      error = next((line for line in lines if "error" in line), lines[0] if lines else f"exit {result.returncode}")
      raise Unavailable(f"the CPU attention kernel does not compile: {error.strip()}")
    (scratch / digest.name).write_text(_digest(compiled))
    library.unlink(missing_ok=True)  # a process that looks in between finds no library and compiles one too
    (scratch / digest.name).replace(digest)
    compiled.replace(library)
  return library


def _digest(library: pathlib.Path) -> str:
  return hashlib.blake2b(library.read_bytes(), digest_size=16).hexdigest()


def _compiler() -> list[str]:
  """$CXX, or the first compiler on the path."""
  from_environment = shlex.split(os.environ.get("CXX", ""))
  candidates = [from_environment] if from_environment else [[name] for name in COMPILERS]
  for command in candidates:
    if shutil.which(command[0]):
      return command
  names = ", ".join(command[0] for command in candidates)
  raise Unavailable(f"no C++ compiler ({names}) on the path")


def _cpu() -> str:
  """The CPU's features, which -march=native depends on; in the cache key, because machines may share a home folder."""
  try:
    lines = pathlib.Path("/proc/cpuinfo").read_text().splitlines()
  except OSError:
    return f"{platform.machine()} {platform.processor()}"
  fields = ("vendor_id", "cpu family", "model", "flags", "Features", "CPU implementer", "CPU part")
  return "\n".join(sorted({line for line in lines if line.startswith(fields)}))


def varlen_attention(
  q: Float[Array, "rows_q h d"],
  k: Float[Array, "rows_k h d"],
  v: Float[Array, "rows_k h d"],
  q_starts: Int[Array, " b"],
  q_lengths: Int[Array, " b"],
  kv_starts: Int[Array, " b"],
  kv_lengths: Int[Array, " b"],
  matrix_unit: bool = True,
) -> Float[Array, "rows_q h d"]:
  """Scaled dot-product attention of windows laid end to end: a packed buffer, or a padded batch flattened to rows.

  The queries of window i are the q_lengths[i] rows from q_starts[i] on, its keys the kv_lengths[i] rows from
  kv_starts[i] on. Windows may not overlap. Rows outside every window, and queries without keys, give exactly 0 and get
  a gradient of exactly 0, whatever they hold, and cost no time. q, k and v are all float32 or all bfloat16; sums are
  float32. bfloat16 is multiplied in the CPU's matrix unit (AMX) if there is one, unless `matrix_unit` is False.

  Results are reproducible to the bit on one kind of CPU, by one kind of arithmetic. Works under jit, grad, scan,
  checkpoint and shard_map, but not under vmap, which is not needed because a window may start at any row.

  Raises:
    RuntimeError: if unavailable() gives a reason; when the program runs, if windows overlap or exceed the rows.
    TypeError: for other dtypes.
  """
  if q.dtype not in (jnp.float32, jnp.bfloat16) or not q.dtype == k.dtype == v.dtype:
    raise TypeError(f"varlen_attention: q {q.dtype}, k {k.dtype}, v {v.dtype}; expected all float32 or all bfloat16")
  reason = unavailable(q.shape[-1], q.dtype.name)
  if reason is not None:
    raise RuntimeError(reason)
  spans = (x.astype(jnp.int32) for x in (q_starts, q_lengths, kv_starts, kv_lengths))
  return _attention(matrix_unit, q, k, v, *spans)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _attention(matrix_unit: bool, q: Array, k: Array, v: Array, *spans: Array) -> Array:
  return _forward(matrix_unit, q, k, v, *spans)[0]


def _forward(matrix_unit: bool, q: Array, k: Array, v: Array, *spans: Array) -> tuple[Array, tuple]:
  lse = q[:, :, 0].T.astype(jnp.float32)  # never computed; gives the result's type, also inside shard_map
  out, lse = jax.ffi.ffi_call(HANDLERS[0], (jax.typeof(q), jax.typeof(lse)))(q, k, v, *spans, matrix_unit=matrix_unit)
  return out, (q, k, v, out, lse, spans)


def _backward(matrix_unit: bool, saved: tuple, cotangent: Array) -> tuple:
  q, k, v, out, lse, spans = saved
  call = jax.ffi.ffi_call(HANDLERS[1], (jax.typeof(q), jax.typeof(k), jax.typeof(v)))
  return *call(q, k, v, out, lse, cotangent, *spans, matrix_unit=matrix_unit), *(None for _ in spans)


_attention.defvjp(_forward, _backward)
