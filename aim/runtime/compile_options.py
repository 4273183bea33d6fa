"""Options for XLA's compiler on each platform. Options set in XLA_FLAGS take precedence."""

from __future__ import annotations

import functools
import os

import jax

from aim.runtime import devices

CPU = {
  # Give only matrix products to the YNNPACK library. By default the compiler gives it reductions too and writes out
  # their broadcast operands: the XS step then takes 13 % longer, and twice as long to compile (jax 0.10.2).
  "xla_cpu_experimental_ynn_fusion_type": "LIBRARY_FUSION_TYPE_INDIVIDUAL_DOT",
}


def compiler_options() -> dict[str, str]:
  """compiler_options for jax.jit, without those that this XLA version does not know or the user has set."""
  return _cpu_options() if devices.platform() == "cpu" else {}


@functools.cache
def _cpu_options() -> dict[str, str]:
  not_set_by_user = {name: value for name, value in CPU.items() if name not in os.environ.get("XLA_FLAGS", "")}
  return {name: value for name, value in not_set_by_user.items() if _is_known(name, value)}


def _is_known(name: str, value: str) -> bool:
  try:
    jax.jit(lambda x: x + 1, compiler_options={name: value}).lower(1.0).compile()
  except jax.errors.JaxRuntimeError:
    return False
  return True
