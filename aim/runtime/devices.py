"""What a device can do, by its maker's data sheet, and which platform programs are being made for."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator

import jax


@dataclasses.dataclass(frozen=True)
class DataSheet:
  """One device's data sheet.

  Attributes:
    flops: dense bfloat16 peak, FLOP/s.
    memory: bytes of its memory (GB as makers count them, 1e9).
    bandwidth: bytes/s of its memory.
    network: bytes/s that it sends to its peers (and receives, at the same time), all links together.
    box: devices that the network joins; None: the whole slice.
    beyond: bytes/s that it sends outside the box, or to another slice.
  """

  flops: float
  memory: float
  bandwidth: float
  network: float
  box: int | None
  beyond: float


# By the beginning of JAX's device_kind; the longest one that fits counts. Interconnects are stated for both directions
# together, so half of that here. Between TPU slices: a host's network cards, shared by its chips (200 Gbit/s by 8 chips
# of v5e and v6e, by 4 of v4 and v5p).
_V5E = DataSheet(197e12, 16e9, 819e9, 200e9, None, 3.1e9)  # cloud.google.com/tpu/docs/v5e: ICI 400 GB/s
_V5P = DataSheet(459e12, 95e9, 2765e9, 600e9, None, 6.2e9)  # cloud.google.com/tpu/docs/v5p: ICI 1200 GB/s
_V6E = DataSheet(
  918e12, 32e9, 1638e9, 400e9, None, 6.2e9
)  # cloud.google.com/tpu/docs/v6e: ICI 800 GB/s, 4 x 200 Gbit/s
_V4 = DataSheet(275e12, 32e9, 1228e9, 300e9, None, 6.2e9)  # cloud.google.com/tpu/docs/v4: ICI 2400 Gbit/s
# NVIDIA A100 data sheet, SXM: NVLink 600 GB/s; DGX A100: one 200 Gbit/s adapter a GPU.
_A100 = DataSheet(312e12, 40e9, 1555e9, 300e9, 8, 25e9)
_A100_80 = dataclasses.replace(_A100, memory=80e9, bandwidth=2039e9)
# NVIDIA H100 and H200 data sheets, SXM, without sparsity: NVLink 900 GB/s; DGX H100: one 400 Gbit/s adapter a GPU.
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
  """Of a JAX device_kind; None where it is not known (a CPU)."""
  known = [name for name in SHEETS if kind.startswith(name)]
  return SHEETS[max(known, key=len)] if known else None


_planned: str | None = None


def platform() -> str:
  """ "cpu", "gpu" or "tpu": what programs are made for. That of the devices here, unless inside target_platform()."""
  return _planned or jax.default_backend()


@contextlib.contextmanager
def target_platform(name: str) -> Iterator[None]:
  """Programs traced inside are for the platform `name`, which need not be here."""
  global _planned
  before, _planned = _planned, name
  try:
    yield
  finally:
    _planned = before
