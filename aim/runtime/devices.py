"""A device's capabilities according to its maker's data sheet, and the platform that programs are compiled for."""

from __future__ import annotations

import contextlib
import dataclasses
import os
from collections.abc import Iterator

import jax
import jax.extend.backend

from data_pipelines.errors import UserError


@dataclasses.dataclass(frozen=True)
class DataSheet:
  """The maker's figures for one device.

  Attributes:
    flops: dense bfloat16 peak, FLOP/s.
    memory: bytes of memory (GB as makers count them, 1e9).
    bandwidth: memory bandwidth, bytes/s.
    network: bytes/s sent to peers over all links together; as much can be received at the same time.
    box: number of devices that the network joins; None for a whole TPU slice.
    beyond: bytes/s sent out of the box, or to another slice.
  """

  flops: float
  memory: float
  bandwidth: float
  network: float
  box: int | None
  beyond: float


# Looked up by the beginning of JAX's device_kind; the longest match counts. Makers state interconnects for both
# directions together, so `network` is half of that. TPU slices talk over the network cards of the hosts, which a host's
# chips share (200 Gbit/s for 8 chips of v5e and v6e, for 4 of v4 and v5p).
_V5E = DataSheet(197e12, 16e9, 819e9, 200e9, None, 3.1e9)  # cloud.google.com/tpu/docs/v5e: ICI 400 GB/s
_V5P = DataSheet(459e12, 95e9, 2765e9, 600e9, None, 6.2e9)  # cloud.google.com/tpu/docs/v5p: ICI 1200 GB/s
_V6E = DataSheet(
  918e12, 32e9, 1638e9, 400e9, None, 6.2e9
)  # cloud.google.com/tpu/docs/v6e: ICI 800 GB/s, 4 x 200 Gbit/s
_V4 = DataSheet(275e12, 32e9, 1228e9, 300e9, None, 6.2e9)  # cloud.google.com/tpu/docs/v4: ICI 2400 Gbit/s
# NVIDIA A100 data sheet, SXM: NVLink 600 GB/s; DGX A100: one 200 Gbit/s adapter per GPU.
_A100 = DataSheet(312e12, 40e9, 1555e9, 300e9, 8, 25e9)
_A100_80 = dataclasses.replace(_A100, memory=80e9, bandwidth=2039e9)
# NVIDIA H100 and H200 data sheets, SXM, without sparsity: NVLink 900 GB/s; DGX H100: one 400 Gbit/s adapter per GPU.
_H100 = DataSheet(989e12, 80e9, 3350e9, 450e9, 8, 50e9)
_H200 = dataclasses.replace(_H100, memory=141e9, bandwidth=4800e9)
SHEETS = {
  "TPU v4": _V4,
  "TPU v5 lite": _V5E,
  "TPU v5e": _V5E,
  "TPU v5": _V5P,
  "TPU v5p": _V5P,
  "TPU v6 lite": _V6E,
  "TPU v6e": _V6E,
  "NVIDIA A100": _A100,
  "NVIDIA A100-SXM4-80GB": _A100_80,
  "NVIDIA A100 80GB": _A100_80,
  "NVIDIA H100": _H100,
  "NVIDIA H200": _H200,
}


def data_sheet(kind: str) -> DataSheet | None:
  """The data sheet for a JAX device_kind; None if it is unknown, as for a CPU."""
  matches = [name for name in SHEETS if kind.startswith(name)]
  return SHEETS[max(matches, key=len)] if matches else None


def check_platform() -> None:
  """Asks JAX for its devices, before anything is read or compiled for them.

  Raises:
    UserError: the platform that JAX_PLATFORMS names is not there.
  """
  try:
    jax.devices()
  except Exception as error:  # JAX has no error of its own for this; some plugins fail with an empty AssertionError
    reason = str(error).partition(" (set JAX_PLATFORMS")[0].replace("\n", " ") or type(error).__name__
    chosen = os.environ.get("JAX_PLATFORMS", "")
    raise UserError(
      f"JAX_PLATFORMS={chosen}: no such device can be used here: {reason}; JAX_PLATFORMS= takes what there is"
    ) from None


def use_cpu_alone() -> None:
  """Leaves accelerators to other processes. It has to come before this process asks JAX for its devices."""
  jax.config.update("jax_platforms", "cpu")


@dataclasses.dataclass(frozen=True)
class _Target:
  platform: str
  capability: str | None


_target: _Target | None = None


def platform() -> str:
  """The platform that programs are compiled for, "cpu", "gpu" or "tpu"; see target_platform()."""
  return _target.platform if _target else jax.default_backend()


def compute_capability() -> str | None:
  """That of the NVIDIA GPUs that programs are compiled for, such as "9.0"; None if they are for other devices."""
  if _target:
    return _target.capability
  if jax.default_backend() != "gpu" or "cuda" not in jax.extend.backend.get_backend().platform_version:
    return None
  return jax.local_devices()[0].compute_capability


@contextlib.contextmanager
def target_platform(name: str, capability: str | None = None) -> Iterator[None]:
  """Programs traced inside this context are for the platform `name`, which need not be present.

  Args:
    capability: compute capability of the NVIDIA GPUs; None for other platforms, and for CPU devices that stand in for
      GPUs, whose own kernels cannot be compiled.
  """
  global _target
  previous, _target = _target, _Target(name, capability)
  try:
    yield
  finally:
    _target = previous
