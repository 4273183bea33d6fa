"""Named hardware that programs are compiled for without having it: --topology=v5e:8x16, h100:8, local."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.util
import os
import re

import jax
from jax.experimental import topologies

from aim.runtime import devices
from aim.runtime.devices import DataSheet
from data_pipelines.errors import UserError

TPUS = {"v5e": "TPU v5e", "v5p": "TPU v5p", "v6e": "TPU v6e"}
GPUS = {"a100": "NVIDIA A100", "a100-80gb": "NVIDIA A100 80GB", "h100": "NVIDIA H100", "h200": "NVIDIA H200"}
KNOWN = (
  "v5e:2x4, v5e:8x16, v5p:2x2x4, v6e:8x8 and other shapes of these TPUs, a100:8, a100-80gb:8, h100:8, h200:8, local"
)


class TopologyError(UserError):
  """Hardware that is not known or cannot be compiled for here."""


@dataclasses.dataclass(frozen=True)
class Topology:
  """Devices that programs are compiled for.

  Attributes:
    platform: "cpu", "gpu" or "tpu".
    devices: descriptions of TPUs, the devices here, or CPU devices that stand for GPUs.
    hosts: machines that hold them.
    sheet: of one device; None where no maker's is known.
  """

  name: str
  platform: str
  devices: tuple[jax.Device, ...]
  hosts: int
  kind: str
  sheet: DataSheet | None


def find(name: str, slices: int = 1) -> Topology:
  """The topology of a --topology; of `slices` such slices of TPUs. TopologyError in one line otherwise."""
  kind, _, shape = name.partition(":")
  if name == "local":
    here = jax.devices()
    kind = here[0].device_kind
    return Topology(name, jax.default_backend(), tuple(here), jax.process_count(), kind, devices.data_sheet(kind))
  if kind in TPUS and re.fullmatch(r"\d+(x\d+){1,2}", shape):
    return _tpu(name, TPUS[kind], slices)
  if kind in GPUS and re.fullmatch(r"[1-9]\d*", shape):
    return _gpu(name, GPUS[kind], int(shape))
  raise TopologyError(f"--topology={name}: not known; expected {KNOWN}")


def _tpu(name: str, kind: str, slices: int) -> Topology:
  if importlib.util.find_spec("libtpu") is None:
    raise TopologyError(f'--topology={name}: compiling for TPUs needs libtpu: pip install -e ".[tpu]"')
  # The compiler alone is wanted: no chips, no metadata server to ask for them, no word about either.
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
    found = topologies.get_topology_desc(topology_name=name, platform="tpu", **several).devices
  except Exception as error:  # the plugin raises what it likes
    raise TopologyError(f"--topology={name}: {str(error).splitlines()[0]}; expected {KNOWN}") from None
  hosts = len({(getattr(device, "process_index", 0), getattr(device, "slice_index", 0)) for device in found})
  return Topology(name, "tpu", tuple(found), hosts, kind, devices.data_sheet(kind))


def _gpu(name: str, kind: str, count: int) -> Topology:
  _on_cpu(count)
  if jax.device_count("cpu") < count:
    raise TopologyError(f"--topology={name}: JAX has started already, with {jax.device_count('cpu')} CPU devices")
  sheet = devices.data_sheet(kind)
  assert sheet is not None and sheet.box is not None
  return Topology(name, "gpu", tuple(jax.devices("cpu")[:count]), -(-count // sheet.box), kind, sheet)


def _on_cpu(count: int) -> None:
  """Whatever is computed, is computed here, and no accelerator is looked for."""
  with contextlib.suppress(RuntimeError):  # JAX has started already, as in tests
    jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_num_cpu_devices", count)
