"""The hardware of --topology, such as v5e:8x16, h100:8 or local, which programs are compiled for without having it."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.util
import os
import re

import jax
from jax.experimental import topologies

from aim.planning import gpu_compiler
from aim.runtime import devices
from aim.runtime.devices import DataSheet
from data_pipelines.errors import UserError

TPUS = {"v5e": "TPU v5e", "v5p": "TPU v5p", "v6e": "TPU v6e"}
GPUS = {"a100": "NVIDIA A100", "a100-80gb": "NVIDIA A100 80GB", "h100": "NVIDIA H100", "h200": "NVIDIA H200"}
MOST_GPUS = 1024
KNOWN = (
  "v5e:2x4, v5e:8x16, v5p:2x2x4, v6e:8x8 and other shapes of these TPUs, a100:8, a100-80gb:8, h100:8, h200:8, local"
)


class TopologyError(UserError):
  """Hardware that is unknown or that cannot be compiled for here."""


@dataclasses.dataclass(frozen=True)
class Topology:
  """Devices that programs are compiled for.

  Attributes:
    platform: "cpu", "gpu" or "tpu".
    devices: descriptions of TPUs or GPUs, the devices here, or CPU devices that stand in for GPUs.
    hosts: number of machines that hold them.
    kind: the maker's name of a device.
    sheet: data sheet of one device; None if the maker's is unknown.
    capability: compute capability of GPUs that their own compiler compiles for, such as "9.0".
    stand_in: why CPU devices stand in for GPUs; None if none do.
  """

  name: str
  platform: str
  devices: tuple[jax.Device, ...]
  hosts: int
  kind: str
  sheet: DataSheet | None
  capability: str | None = None
  stand_in: str | None = None


def find(name: str, slices: int = 1) -> Topology:
  """The topology that --topology names, `slices` times in the case of TPUs.

  Raises:
    TopologyError: it is unknown, or cannot be compiled for here.
  """
  kind, _, shape = name.partition(":")
  if name == "local":
    local = jax.devices()
    kind = local[0].device_kind
    sheet, capability = devices.data_sheet(kind), devices.compute_capability()
    return Topology(name, jax.default_backend(), tuple(local), jax.process_count(), kind, sheet, capability)
  if kind in TPUS and re.fullmatch(r"[1-9][0-9]*(x[1-9][0-9]*){1,2}", shape):
    return _tpu(name, TPUS[kind], slices)
  if kind in GPUS and re.fullmatch(r"[1-9][0-9]*", shape):
    if len(shape) > 9 or int(shape) > MOST_GPUS:
      raise TopologyError(
        f"--topology={name}: expected at most {MOST_GPUS:,} GPUs, for each of which a CPU device may stand in"
      )
    return _gpu(name, GPUS[kind], int(shape))
  raise TopologyError(f"--topology={name}: unknown; expected {KNOWN}")


def _tpu(name: str, kind: str, slices: int) -> Topology:
  if importlib.util.find_spec("libtpu") is None:
    raise TopologyError(f'--topology={name}: compiling for TPUs needs libtpu: pip install -e ".[tpu]"')
  # Only the compiler is needed: it must not look for chips or a metadata server, nor report that there are none.
  quiet = {
    "TPU_SKIP_MDS_QUERY": "1",
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
    "TPU_ACCELERATOR_TYPE": "",
    "TPU_WORKER_HOSTNAMES": "localhost",
  }
  os.environ.update(quiet | {"TPU_STDERR_LOG_LEVEL": "3", "TPU_MIN_LOG_LEVEL": "3"})
  _on_cpu(1)
  several = {"num_slices": slices} if slices > 1 else {}
  try:
    chips = topologies.get_topology_desc(topology_name=name, platform="tpu", **several).devices
  except Exception as error:  # the plugin can raise anything
    raise TopologyError(f"--topology={name}: {str(error).splitlines()[0]}; expected {KNOWN}") from None
  hosts = len({(getattr(device, "process_index", 0), getattr(device, "slice_index", 0)) for device in chips})
  return Topology(name, "tpu", tuple(chips), hosts, kind, devices.data_sheet(kind))


def _gpu(name: str, kind: str, count: int) -> Topology:
  sheet = devices.data_sheet(kind)
  assert sheet is not None and sheet.box is not None
  hosts = -(-count // sheet.box)
  _on_cpu(count)  # all of them, because JAX cannot have more once it has started
  try:
    chips = gpu_compiler.compile_only_devices(kind, sheet, count)
    return Topology(name, "gpu", chips, hosts, kind, sheet, gpu_compiler.capability(kind))
  except gpu_compiler.Unavailable as reason:
    if jax.device_count("cpu") < count:
      raise TopologyError(
        f"--topology={name}: JAX has already started, with {jax.device_count('cpu')} CPU devices"
      ) from None
    return Topology(name, "gpu", tuple(jax.devices("cpu")[:count]), hosts, kind, sheet, stand_in=str(reason))


def _on_cpu(count: int) -> None:
  """Makes JAX compute on this many CPU devices, without looking for an accelerator."""
  with contextlib.suppress(RuntimeError):  # JAX has already started, as in tests
    jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_num_cpu_devices", count)
