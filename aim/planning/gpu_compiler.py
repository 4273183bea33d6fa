"""XLA's CUDA compiler without a GPU: the devices that it compiles for, made from a description of the hardware."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import importlib.util

import jax
from jax.experimental import topologies

from aim.runtime.devices import DataSheet

PLUGINS = ("jax_cuda13_plugin", "jax_cuda12_plugin")  # jax[cuda13], which is our extra `cuda`, and jax[cuda12]
CUDNN = ("nvidia-cudnn-cu13", "nvidia-cudnn-cu12")  # the packages that they bring cuDNN with


class Unavailable(Exception):
  """There is no CUDA compiler here, or it does not start; the message is one line with the reason."""


@dataclasses.dataclass(frozen=True)
class Chip:
  """Properties of a GPU that the compiler needs beyond its data sheet.

  Attributes:
    capability: compute capability, major and minor.
    multiprocessors: streaming multiprocessors.
    lanes: float32 lanes per multiprocessor.
    shared: bytes of shared memory per multiprocessor.
    cache: bytes of the L2 cache.
    clock: boost clock in GHz, with which `lanes` x 2 x `multiprocessors` x `clock` is the float32 peak.
  """

  capability: tuple[int, int]
  multiprocessors: int
  lanes: int
  shared: int
  cache: int
  clock: float


# NVIDIA's white papers on the A100 and H100 architectures; the clock of the H100 follows from the 67 TFLOP/s in float32
# of its data sheet. The H200 is the same GPU with other memory.
_A100 = Chip((8, 0), 108, 64, 164 * 1024, 40 * 2**20, 1.41)
_H100 = Chip((9, 0), 132, 128, 228 * 1024, 50 * 2**20, 1.98)
CHIPS = {"NVIDIA A100": _A100, "NVIDIA A100 80GB": _A100, "NVIDIA H100": _H100, "NVIDIA H200": _H100}


def compile_only_devices(kind: str, sheet: DataSheet, count: int) -> tuple[jax.Device, ...]:
  """Devices that programs can be compiled for, but not run on.

  Args:
    kind: a key of CHIPS.
    sheet: its data sheet.
    count: number of devices, in boxes as the data sheet has them if that divides it, otherwise in one.

  Raises:
    Unavailable: the compiler is not installed or does not start.
  """
  check_installed()
  box = sheet.box if sheet.box and count % sheet.box == 0 else count
  try:
    described = topologies.get_topology_desc(
      platform="cuda", target_config=target_config(kind, sheet), topology=f"1x{count // box}x{box}"
    )
  except Exception as error:  # the plugin can raise anything, also if it is not of this JAX's version
    reason = next(iter(str(error).splitlines()), "") or type(error).__name__
    raise Unavailable(f"the CUDA compiler does not start: {reason}") from None
  return tuple(described.devices)


def check_installed() -> None:
  """Raises Unavailable if the compiler is not installed."""
  if not any(importlib.util.find_spec(name) for name in PLUGINS):
    raise Unavailable('the CUDA compiler is not installed: pip install -e ".[cuda]"')


def capability(kind: str) -> str:
  """The compute capability of a GPU of CHIPS as JAX writes it, such as "9.0"."""
  return ".".join(map(str, CHIPS[kind].capability))


def target_config(kind: str, sheet: DataSheet) -> str:
  """A GPU as the text of XLA's GpuTargetConfigProto.

  The limits that are no field of a Chip are those of compute capabilities 8.0 and 9.0 alike in NVIDIA's CUDA C++
  programming guide ("technical specifications per compute capability").
  """
  chip = CHIPS[kind]
  major, minor = chip.capability
  features = "feature_extension: ACCELERATED_FEATURES" if major == 9 else ""  # sm_90a, which a run on one has too
  return f"""
    gpu_device_info {{
      cuda_compute_capability {{ major: {major} minor: {minor} {features} }}
      core_count: {chip.multiprocessors}
      fpus_per_core: {chip.lanes}
      clock_rate_ghz: {chip.clock}
      device_memory_size: {sheet.memory:.0f}
      memory_bandwidth: {sheet.bandwidth:.0f}
      l2_cache_size: {chip.cache}
      shared_memory_per_core: {chip.shared}
      shared_memory_per_block_optin: {chip.shared - 1024}
      shared_memory_per_block: {48 * 1024}
      registers_per_core_limit: {64 * 1024}
      registers_per_block_limit: {64 * 1024}
      threads_per_warp: 32
      threads_per_block_limit: 1024
      threads_per_core_limit: 2048
      thread_dim_limit_x: 1024
      thread_dim_limit_y: 1024
      thread_dim_limit_z: 64
      block_dim_limit_x: {2**31 - 1}
      block_dim_limit_y: {2**16 - 1}
      block_dim_limit_z: {2**16 - 1}
    }}
    platform_name: "CUDA"
    {_cudnn_version()}
    device_description_str: "{kind}"
  """


def _cudnn_version() -> str:
  """The field with the version of the installed cuDNN, on which some of the compiler's choices depend."""
  for package in CUDNN:
    try:
      major, minor, patch = importlib.metadata.version(package).split(".")[:3]
    except importlib.metadata.PackageNotFoundError:
      continue
    return f"dnn_version_info {{ major: {major} minor: {minor} patch: {patch} }}"
  return ""  # cuDNN is not from a package
