"""Attention on the CPU: a C++ kernel, native.cc, compiled for this machine when first used.

XLA's CPU programs reach a third of its speed: they hold all scores in memory and compute the padding too.
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
import tempfile

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from aim.runtime import cache_dir, devices

SOURCE = pathlib.Path(__file__).with_name("native.cc")
COMPILERS = ("c++", "g++", "clang++")
# Not -ffast-math: NaN must reach the outputs, where bad gradients are found.
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
  """The kernel cannot be used; the one line says why."""


def unavailable(head_dim: int, dtype: str) -> str | None:
  """None if the kernel can be used here, which compiles it if need be; otherwise one line that says why not."""
  if dtype not in ("float32", "bfloat16"):
    return f"the native attention kernel computes in float32 or bfloat16, not {dtype}"
  if devices.platform() != "cpu":
    return f"the native attention kernel is for the CPU, the default device is a {devices.platform()}"
  return _load()


@functools.cache
def _load() -> str | None:
  """Compiles, loads and registers the kernel, once a process."""
  try:
    library = ctypes.CDLL(str(_build()))
  except (Unavailable, OSError) as e:
    return str(e).splitlines()[0]
  for name in HANDLERS:
    jax.ffi.register_ffi_target(name, jax.ffi.pycapsule(getattr(library, name)), platform="cpu")
  return None


def _build() -> pathlib.Path:
  """The compiled kernel, from the cache folder if it is there. Unavailable if there is no compiler or it fails."""
  command = _compiler()
  built = "\n".join([SOURCE.read_text(), *command, *FLAGS, importlib.metadata.version("jaxlib"), _cpu()])
  folder = cache_dir.cache_folder("native") / hashlib.sha256(built.encode()).hexdigest()[:16]
  library = folder / "native.so"
  if library.is_file():
    return library
  print(f"compiling the CPU attention kernel into {folder} (once, about 20 seconds)", file=sys.stderr, flush=True)
  folder.mkdir(parents=True, exist_ok=True)
  # Compiled under a name of its own and renamed: another process may build, or load, at the same time.
  with tempfile.TemporaryDirectory(dir=folder) as scratch:
    made = pathlib.Path(scratch) / "native.so"
    command = [*command, *FLAGS, f"-I{jax.ffi.include_dir()}", str(SOURCE), "-o", str(made)]
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    if done.returncode:
      lines = done.stderr.splitlines()
      error = next((line for line in lines if "error" in line), lines[0] if lines else f"exit {done.returncode}")
      raise Unavailable(f"the CPU attention kernel does not compile: {error.strip()}")
    made.replace(library)
  return library


def _compiler() -> list[str]:
  """$CXX, or the first compiler on the path."""
  named = shlex.split(os.environ.get("CXX", ""))
  found = [named] if named else [[name] for name in COMPILERS]
  for command in found:
    if shutil.which(command[0]):
      return command
  names = ", ".join(command[0] for command in found)
  raise Unavailable(f"no C++ compiler ({names}) on the path")


def _cpu() -> str:
  """What -march=native depends on: a home folder may be shared by unequal machines."""
  try:
    lines = pathlib.Path("/proc/cpuinfo").read_text().splitlines()
  except OSError:
    return f"{platform.machine()} {platform.processor()}"
  kept = ("vendor_id", "cpu family", "model", "flags", "Features", "CPU implementer", "CPU part")
  return "\n".join(sorted({line for line in lines if line.startswith(kept)}))


def varlen_attention(
  q: Float[Array, "rows_q h d"],
  k: Float[Array, "rows_k h d"],
  v: Float[Array, "rows_k h d"],
  q_starts: Int[Array, " b"],
  q_lengths: Int[Array, " b"],
  kv_starts: Int[Array, " b"],
  kv_lengths: Int[Array, " b"],
) -> Float[Array, "rows_q h d"]:
  """Scaled dot-product attention of windows laid end to end: a packed buffer, or a padded batch seen as rows.

  Window i's queries are rows q_starts[i] .. + q_lengths[i], its keys rows kv_starts[i] .. + kv_lengths[i]. Windows may
  not overlap. Rows of no window, and queries without keys, give exactly 0 and have gradients of exactly 0, whatever
  they hold; the time is that of the rows of windows. float32 or bfloat16, all three alike; sums are float32.

  Results repeat to the bit. Works under jit, grad, scan, checkpoint and shard_map; not under vmap, which rows that
  start anywhere make needless. RuntimeError where unavailable() gives a reason, TypeError for other types; windows that
  overlap or leave the rows are an error when the program runs.
  """
  if q.dtype not in (jnp.float32, jnp.bfloat16) or not q.dtype == k.dtype == v.dtype:
    raise TypeError(f"varlen_attention: q {q.dtype}, k {k.dtype}, v {v.dtype}; expected all float32 or all bfloat16")
  reason = unavailable(q.shape[-1], q.dtype.name)
  if reason is not None:
    raise RuntimeError(reason)
  spans = (x.astype(jnp.int32) for x in (q_starts, q_lengths, kv_starts, kv_lengths))
  return _attention(q, k, v, *spans)


@jax.custom_vjp
def _attention(q, k, v, *spans):
  return _forward(q, k, v, *spans)[0]


def _forward(q, k, v, *spans):
  lse = q[:, :, 0].T.astype(jnp.float32)  # not computed: its type is that of the result, inside a shard_map too
  out, lse = jax.ffi.ffi_call(HANDLERS[0], (jax.typeof(q), jax.typeof(lse)))(q, k, v, *spans)
  return out, (q, k, v, out, lse, spans)


def _backward(saved, cotangent):
  q, k, v, out, lse, spans = saved
  call = jax.ffi.ffi_call(HANDLERS[1], (jax.typeof(q), jax.typeof(k), jax.typeof(v)))
  return *call(q, k, v, out, lse, cotangent, *spans), *(None for _ in spans)


_attention.defvjp(_forward, _backward)
