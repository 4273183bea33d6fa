"""Compiling for GPUs: when their own compiler does it, what it is told of them, and when CPU devices stand in."""

import importlib.util
import math
import types

import jax
import pytest

from aim.model.attention import choose_backend
from aim.planning import gpu_compiler, topology
from aim.runtime import devices

NOT_INSTALLED = 'the CUDA compiler is not installed: pip install -e ".[cuda]"'


@pytest.fixture
def installed(monkeypatch):
  """Sets whether one of the plugins can be imported."""
  find_spec = importlib.util.find_spec

  def install(*names):
    plugin = lambda name: types.SimpleNamespace() if name in names else None
    monkeypatch.setattr(
      importlib.util, "find_spec", lambda name: plugin(name) if name in gpu_compiler.PLUGINS else find_spec(name)
    )

  return install


@pytest.fixture
def described(monkeypatch):
  """Lists what is asked of the compiler, which answers with as many devices."""
  requests = []

  def describe(**request):
    requests.append(request)
    count = math.prod(map(int, request["topology"].split("x")))
    return types.SimpleNamespace(devices=jax.devices("cpu")[:1] * count)

  monkeypatch.setattr(gpu_compiler.topologies, "get_topology_desc", describe)
  return requests


def test_without_the_extra_cpu_devices_stand_in(installed, described):
  installed()
  found = topology.find("h100:4")
  assert found.stand_in == NOT_INSTALLED and found.capability is None
  assert found.devices == tuple(jax.devices("cpu")[:4]) and found.platform == "gpu" and found.kind == "NVIDIA H100"
  assert described == [], "nothing is asked of a compiler that is not there"


@pytest.mark.parametrize(
  ("error", "reason"),
  [
    (NotImplementedError("topology not implemented for cuda\nmore"), "topology not implemented for cuda"),
    (AssertionError(), "AssertionError"),
  ],
)
def test_a_compiler_that_does_not_start_is_named_in_one_line(error, reason, installed, monkeypatch):
  """JAX does not register a plugin of another version."""

  def fail(**request):
    raise error

  installed("jax_cuda13_plugin")
  monkeypatch.setattr(gpu_compiler.topologies, "get_topology_desc", fail)
  found = topology.find("h100:2")
  assert found.stand_in == f"the CUDA compiler does not start: {reason}"
  assert found.devices == tuple(jax.devices("cpu")[:2])


@pytest.mark.parametrize("plugin", gpu_compiler.PLUGINS)
@pytest.mark.parametrize(
  ("name", "boxes", "hosts"),
  [("h100:2", "1x1x2", 1), ("h200:8", "1x1x8", 1), ("h100:16", "1x2x8", 2), ("a100:12", "1x1x12", 2)],
)
def test_the_compiler_is_asked_for_whole_boxes(plugin, name, boxes, hosts, installed, described):
  installed(plugin)
  found = topology.find(name)
  assert [request["topology"] for request in described] == [boxes] and described[0]["platform"] == "cuda"
  assert (found.hosts, found.capability, found.stand_in) == (hosts, "8.0" if "a100" in name else "9.0", None)
  assert len(found.devices) == int(name.partition(":")[2])


@pytest.mark.parametrize("kind", topology.GPUS.values())
def test_every_gpu_is_described_by_its_data_sheet(kind):
  sheet = devices.data_sheet(kind)
  text = gpu_compiler.target_config(kind, sheet)
  assert text.count("{") == text.count("}") and f'device_description_str: "{kind}"' in text
  assert f"device_memory_size: {int(sheet.memory)}\n" in text and f"memory_bandwidth: {int(sheet.bandwidth)}\n" in text


@pytest.mark.parametrize(("kind", "tflops"), [("NVIDIA A100", 19.5), ("NVIDIA H100", 67), ("NVIDIA H200", 67)])
def test_lanes_and_clock_give_the_float32_peak_of_the_data_sheet(kind, tflops):
  chip = gpu_compiler.CHIPS[kind]
  assert 2 * chip.multiprocessors * chip.lanes * chip.clock / 1000 == pytest.approx(tflops, rel=0.01)


def test_attention_is_what_a_run_on_these_gpus_would_choose():
  chosen = lambda dtype: choose_backend("auto", (64, 48), dtype)
  with devices.target_platform("gpu", "9.0"):
    assert chosen("bfloat16") == "cudnn" and chosen("float32") == "xla"
  with devices.target_platform("gpu", "7.0"):
    assert chosen("bfloat16") == "xla"
  with devices.target_platform("gpu"):  # CPU devices that stand in
    assert chosen("bfloat16") == "xla"
