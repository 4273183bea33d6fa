"""What the program asks of XLA's compiler on each platform. XLA_FLAGS, where set, have the last word."""

from __future__ import annotations

import functools
import os

import jax

from aim.runtime import devices

CPU = {
  # Only matrix products go to the YNNPACK library. Left to itself the compiler hands it reductions too and writes out
  # their broadcast operands: the XS step takes 13 % longer, and twice as long to compile (jax 0.10.2).
  "xla_cpu_experimental_ynn_fusion_type": "LIBRARY_FUSION_TYPE_INDIVIDUAL_DOT",
}


def compiler_options() -> dict[str, str]:
  """compiler_options for jax.jit, without those that this version of XLA does not have or the user has set."""
  return _cpu() if devices.platform() == "cpu" else {}


@functools.cache
def _cpu() -> dict[str, str]:
  chosen = {name: value for name, value in CPU.items() if name not in os.environ.get("XLA_FLAGS", "")}
  return {name: value for name, value in chosen.items() if _known(name, value)}


def _known(name: str, value: str) -> bool:
  try:
    jax.jit(lambda x: x + 1, compiler_options={name: value}).lower(1.0).compile()
  except jax.errors.JaxRuntimeError:
    return False
  return True
