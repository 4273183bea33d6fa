"""Preflight: what is read from HLO, the arithmetic of the roofline, unknown hardware, and whole commands."""

import importlib.util
import json
import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from aim.planning import collectives, gpu_compiler, planned_run, topology
from aim.planning.collectives import Collective, Roofline
from aim.planning.hlo import Module
from aim.runtime import devices, sharding
from aim.runtime.devices import DataSheet
from data_pipelines.errors import UserError
from tests import tiny

try:
  gpu_compiler.check_installed()
  NO_CUDA = None
except gpu_compiler.Unavailable as reason:
  NO_CUDA = str(reason)

# As TPU compilers print it: tuples with comments, layouts, asynchronous pairs, a loop, and groups in all notations.
HLO = """HloModule jit_train

%add (a: f32[], b: f32[]) -> f32[] {
  %a = f32[] parameter(0)
  %b = f32[] parameter(1)
  ROOT %sum = f32[] add(%a, %b)
}

%body (x: (s32[], f32[64])) -> (s32[], f32[64]) {
  %x = (s32[], f32[64]{0}) parameter(0)
  %inner = f32[64]{0} get-tuple-element(%x), index=1
  %scatter = f32[16]{0:T(128)} reduce-scatter(%inner), channel_id=5, replica_groups=[2,4]<=[4,2]T(1,0), to_apply=%add
  ROOT %out = (s32[], f32[64]{0}) tuple(%x, %inner)
}

%cond (x: (s32[], f32[64])) -> pred[] {
  ROOT %x.1 = pred[] constant(true)
}

%wrapped (p: bf16[4,8]) -> bf16[8,8] {
  %p = bf16[4,8]{1,0} parameter(0)
  ROOT %inside = bf16[8,8]{1,0:T(8,128)(2,1)} all-gather(%p), replica_groups={{0,4},{1,5}}, dimensions={0}
}

ENTRY %main.1 (p: f32[64]) -> f32[64] {
  %p.1 = f32[64]{0} parameter(0)
  %r = (f32[48]{0:T(128)S(1)}, /*index=1*/bf16[64,48]{0,1:T(8,128)(2,1)S(1)}) all-reduce(%p.1, %p.1), replica_groups=mesh['axis_0'=8,'axis_1'=1] {'axis_0'}, use_global_device_ids=true, to_apply=%add, metadata={op_name="x"}
  %start = (f32[10]{0}, f32[20]{0}) all-gather-start(%p.1), replica_groups={{0,1},{2,3}}, dimensions={0}
  %done = f32[20]{0} all-gather-done(%start)
  %permute = (f32[6]{0}, f32[6]{0}, u32[]{:S(2)}, u32[]{:S(2)}) collective-permute-start(%p.1), source_target_pairs={{0,1},{1,0}}
  %async = ((bf16[4,8]), bf16[8,8]) async-start(%p.1), calls=%wrapped
  %async.1 = bf16[8,8] async-done(%async)
  %alone = f32[1000]{0} all-reduce(%p.1), replica_groups={{0},{1}}, to_apply=%add
  ROOT %loop = (s32[], f32[64]{0}) while(%p.1), condition=%cond, body=%body, backend_config={"known_trip_count":{"n":"3"}}
}
"""  # noqa: E501


def test_collectives_of_every_notation():
  by_kind = {c.kind + ("" if c.bytes != 128 else " inside"): c for c in collectives.read(Module.read(HLO), 8)}
  assert by_kind == {
    "all-reduce": Collective("all-reduce", 1, 48 * 4 + 64 * 48 * 2, tuple(range(8))),
    "all-gather": Collective("all-gather", 1, 80, (0, 1)),
    "all-gather inside": Collective("all-gather", 1, 128, (0, 4)),
    "collective-permute": Collective("collective-permute", 1, 24, (0, 1)),
    "reduce-scatter": Collective("reduce-scatter", 3, 256, (0, 2, 4, 6)),
  }


@pytest.mark.parametrize("shape", [(8, 1, 1), (1, 8, 1), (2, 2, 2)])
def test_collectives_of_a_real_program(shape):
  """A matrix product whose summed dimension is split needs one all-reduce over the devices that split it."""
  device_mesh = sharding.make_mesh(*shape)
  split = lambda *spec: NamedSharding(device_mesh, PartitionSpec(*spec))
  x = jax.ShapeDtypeStruct((16, 32), jnp.float32, sharding=split(None, ("data", "fsdp")))
  y = jax.ShapeDtypeStruct((32, 24), jnp.float32, sharding=split(("data", "fsdp"), None))
  program = jax.jit(lambda x, y: x @ y, out_shardings=split()).lower(x, y).compile()
  (collective,) = collectives.read(Module.read(program.as_text()), 8)
  assert (collective.kind, collective.count, collective.bytes) == ("all-reduce", 1, 16 * 24 * 4)
  assert len(collective.group) == shape[0] * shape[1]


DEVICE = DataSheet(flops=100.0, memory=1000.0, bandwidth=10.0, network=4.0, box=None, beyond=1.0)


@pytest.mark.parametrize(
  ("kind", "seconds"),
  [
    ("all-reduce", 2 * 80 * 3 / 4 / 4.0),
    ("all-gather", 80 * 3 / 4 / 4.0),
    ("reduce-scatter", 80 * 3 / 4 / 4.0),
    ("collective-permute", 80 / 4.0),
  ],
)
def test_seconds_of_a_ring(kind, seconds):
  assert Collective(kind, 5, 80, (0, 1, 2, 3)).seconds(DEVICE) == pytest.approx(5 * seconds)


def test_a_group_across_boxes_uses_the_slow_network_for_its_part():
  """Boxes of two devices share halves inside, then each device sends its half to its partner in the other box."""
  across = Collective("all-reduce", 1, 80, (0, 1, 2, 3)).seconds(DEVICE, box=2)
  assert across == pytest.approx(2 * 80 / 2 / 4.0 + 2 * 40 / 2 / 1.0)
  inside = Collective("all-reduce", 1, 80, (2, 3))
  assert inside.seconds(DEVICE, box=2) == inside.seconds(DEVICE)


def test_the_longest_term_limits():
  exchange = [Collective("all-gather", 1, 80, (0, 1))]
  line = Roofline.of(DEVICE, flops=500.0, moved=20.0, collectives=exchange, box=None)
  assert (line.compute, line.memory, line.network) == (5.0, 2.0, 10.0)
  assert (line.seconds, line.limit) == (10.0, "network")
  assert Roofline.of(DEVICE, 500.0, 20.0, [], None).limit == "compute"
  assert Roofline.of(DEVICE, 500.0, 60.0, [], None).limit == "memory"


def test_sheets_by_the_longest_name():
  assert devices.data_sheet("TPU v5 lite").memory == 16e9
  assert devices.data_sheet("TPU v5").memory == 95e9
  assert devices.data_sheet("NVIDIA A100-SXM4-80GB").memory == 80e9
  assert devices.data_sheet("NVIDIA A100-SXM4-40GB").memory == 40e9
  assert devices.data_sheet("NVIDIA H100 80GB HBM3").flops == 989e12
  assert devices.data_sheet("cpu") is None


def test_the_target_platform_ends_with_its_block():
  with pytest.raises(ZeroDivisionError), devices.target_platform("tpu"):
    assert devices.platform() == "tpu"
    raise ZeroDivisionError
  assert devices.platform() == "cpu"


def test_the_memory_that_was_missing_is_read_from_the_compilers_message():
  refusal = "RESOURCE_EXHAUSTED: Ran out of memory in memory space hbm. Used 20.50G of 15.75G hbm. Exceeded by 4.75G."
  assert planned_run.overflow(refusal) == int(20.5 * 2**30)
  with pytest.raises(UserError, match="the compiler cannot build this step: INTERNAL: no"):
    planned_run.overflow("INTERNAL: no\nat all")


@pytest.mark.parametrize("name", ["v9:2x2", "v5e", "v5e:", "v5e:2x4x2x2", "h100", "h100:0", "b12:8", ""])
def test_unknown_hardware_is_one_line_with_what_is_known(name):
  with pytest.raises(UserError, match=r"unknown; expected v5e:2x4, v5e:8x16.*local") as error:
    topology.find(name)
  assert "\n" not in str(error.value)


def test_without_libtpu_the_error_says_what_to_install(monkeypatch):
  find_spec = importlib.util.find_spec
  monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "libtpu" else find_spec(name))
  with pytest.raises(
    UserError, match=r"--topology=v5e:2x4: compiling for TPUs needs libtpu: pip install -e \"\.\[tpu\]\""
  ):
    topology.find("v5e:2x4")


@pytest.mark.parametrize(
  ("name", "message"),
  [
    ("h100:1000000000000", "expected at most 1,024 GPUs"),
    ("h100:1025", "expected at most 1,024 GPUs"),
    *((name, "unknown; expected v5e:2x4") for name in ("h100:0", "h100:٨", "v5e:0x8", "v5e:٨x٨", "v5e:8")),
  ],
)
def test_a_topology_that_cannot_be_is_one_line(name, message):
  with pytest.raises(UserError, match=f"^--topology={name}: {message}"):
    topology.find(name)


def test_the_table_shows_where_parameters_live():
  device_mesh = sharding.make_mesh(2, 2, 2)
  shapes = {
    "mlp/up/kernel": jax.ShapeDtypeStruct((8, 32), jnp.float32),
    "norm/scale": jax.ShapeDtypeStruct((8,), jnp.float32),
  }
  lines = sharding.sharding_table(shapes, sharding.state_shardings(shapes, shapes, device_mesh)).splitlines()
  assert lines[1].split() == ["mlp/up/kernel", "8x32", "fsdp,", "tensor", "256"]
  assert lines[2].split() == ["norm/scale", "8", "replicated", "32"]
  assert lines[3].split() == ["all", "264", "288"]


CHECKED = ("parameters", "memory", "roofline", "flops_per_window", "data", "largest_batch")


@pytest.mark.slow
@pytest.mark.parametrize("context_days", [0, 3])
def test_local_end_to_end(context_days, tmp_path):
  """On two fake devices the report is complete and consistent, and steps are measured."""
  data = tiny.dataset(tmp_path)
  context = {"interpolation_skip": True, "skip_evidence": "smooth", "context_days": context_days}
  flags = tiny.overrides(form="trimmed", batch_size=8, **{f"model__{key}": value for key, value in context.items()})
  ended = tiny.run(
    *("--mode=preflight", f"--config={tiny.CONFIG}", *flags, *tiny.on(data)),
    *("--topology=local", f"--workdir={tmp_path}/run"),
    devices=2,
  )
  assert ended.code == 0, ended.err
  report = json.loads((tmp_path / "run/preflight.json").read_text())
  assert all(report[key] for key in CHECKED)
  memory = report["memory"]
  parts = ("parameters", "optimizer", "average", "tokens", "read_ahead", "gradients_and_activations")
  assert sum(memory[name] for name in parts) == memory["total"] and memory["fits"]
  assert memory["parameters"] == 4 * report["parameters"]
  assert 2 * memory["parameters"] <= memory["optimizer"] <= 2 * memory["parameters"] + 100  # two moments and counters
  kinds = {c["kind"] for c in report["collectives"]}
  assert "all-reduce" in kinds and all(c["devices"] == 2 for c in report["collectives"])
  exchanged = sum(c["bytes"] * c["count"] for c in report["collectives"] if c["kind"] == "all-reduce")
  assert exchanged >= memory["parameters"], "gradients are summed over the devices"
  work = report["flops_per_window"]
  assert 0 < work["useful"] < work["executed"] <= work["with_recomputation"]
  line = report["roofline"]
  assert line["seconds_per_step"] == max(line["compute"], line["memory"], line["network"]) == line[line["limit"]]
  assert line["windows_per_second"] == pytest.approx(8 / line["seconds_per_step"])
  measured = report["measured"]
  assert np.isfinite(measured["loss"]) and measured["seconds_per_step"] > 0
  assert measured["measured_to_stated"] > 0.3, "no step is faster than three times what the machine can do"
  assert (
    "x the stated" in ended.out and "encoder/blocks/0/mlp/up/kernel" in (tmp_path / "run/parameters.txt").read_text()
  )


@pytest.mark.parametrize("printed", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_training_writes_where_parameters_live(printed, tmp_path):
  data = tiny.dataset(tmp_path)
  flags = [*tiny.overrides(total_steps=1), *tiny.on(data), f"--config.log.parameters={printed}"]
  ended = tiny.run(f"--config={tiny.CONFIG}", *flags, f"--workdir={tmp_path}/run")
  assert ended.code == 0, ended.err
  table = (tmp_path / "run/parameters.txt").read_text()
  assert "encoder/blocks/0/mlp/up/kernel" in table and table.splitlines()[-1].startswith("all")
  assert (table in ended.out) == printed


def test_a_mesh_that_does_not_divide_is_one_line(tmp_path):
  ended = tiny.run(
    *("--mode=preflight", f"--config={tiny.CONFIG}", "--topology=h100:8", "--config.mesh.tensor=3"),
    f"--workdir={tmp_path}",
  )
  assert ended.code == 2
  assert ended.err.strip() == "error: config.mesh: data -1 x fsdp 1 x tensor 3 does not equal 8 devices"
  assert ("CPU devices stand in for NVIDIA H100" in ended.out) == (NO_CUDA is not None)


def h100(count, tmp_path):
  """The output of preflight for so many H100s, and what preflight.json holds."""
  data = tiny.dataset(tmp_path)
  ended = tiny.run(
    *("--mode=preflight", f"--config={tiny.CONFIG}", *tiny.overrides(form="trimmed", batch_size=8), *tiny.on(data)),
    *(f"--topology=h100:{count}", f"--workdir={tmp_path}/run"),
  )
  assert ended.code == 0, ended.err
  report = json.loads((tmp_path / "run/preflight.json").read_text())
  assert report["device"]["sheet"] and report["device"]["flops"] == 989e12 and report["devices"] == count
  assert report["config"]["dtype"] == "bfloat16" and "measured" not in report
  return ended.out, report


@pytest.mark.slow
@pytest.mark.skipif(NO_CUDA is None, reason="the CUDA compiler is installed here")
def test_gpus_by_their_data_sheet(tmp_path):
  out, report = h100(4, tmp_path)
  assert report["config"]["attention"] == "xla" and report["bytes_counted_by"] == "compiler"
  assert report["stand_in"] == NO_CUDA and f"memory and traffic are estimates: {NO_CUDA}" in out


@pytest.mark.slow
@pytest.mark.skipif(NO_CUDA is not None, reason=str(NO_CUDA))
def test_gpus_by_their_own_compiler(tmp_path):
  """Attention is cuDNN's, forward and backward once per layer, and the gradients are summed over the GPUs."""
  out, report = h100(2, tmp_path)
  assert report["config"]["attention"] == "cudnn" and report["stand_in"] is None
  assert "stand in" not in out and "only a GPU shows" in out
  kernels, towers = report["kernels"], 2  # of one layer each
  assert kernels["__cudnn$fmhaSoftmaxBackward"] == towers <= kernels["__cudnn$fmhaSoftmax"] <= 2 * towers
  reduced = sum(c["bytes"] * c["count"] for c in report["collectives"] if c["kind"] == "all-reduce")
  assert reduced >= 2 * report["parameters"], "gradients are summed in bfloat16 at least"
  assert all(c["devices"] == 2 for c in report["collectives"])
  assert report["memory"]["fits"] and report["bytes_counted_by"] == "text" and report["bytes_moved"] > 0


@pytest.mark.slow
@pytest.mark.parametrize(
  ("config", "name"),
  [("b", "v5e:2x4"), ("l", "v5e:2x4"), ("base", "v5e:8x16"), ("base", "v6e:8x8")],
)
def test_published_sizes_compile_for_tpus(config, name, tmp_path):
  """Batches of 32 windows per device, as base has on v5e:8x16."""
  if importlib.util.find_spec("libtpu") is None:
    pytest.skip('no libtpu here: pip install -e ".[tpu]"')
  count = int(np.prod([int(x) for x in name.partition(":")[2].split("x")]))
  command = [sys.executable, "-m", "aim.main", f"--config=experiments/lsm2_{config}.py", "--mode=preflight"]
  command += [
    f"--topology={name}",
    f"--workdir={tmp_path}",
    f"--config.batch_size={count * (32 if config == 'base' else 4)}",
  ]
  environment = os.environ | {"XLA_FLAGS": "", "JAX_PLATFORMS": "cpu"}
  ended = subprocess.run(command, cwd=tiny.ROOT, env=environment, capture_output=True, text=True, check=False)
  assert ended.returncode == 0, ended.stderr
  report = json.loads((tmp_path / "preflight.json").read_text())
  assert report["devices"] == count and report["config"]["attention"] == "splash"
  assert report["memory"]["fits"], ended.stdout
  assert report["hosts"] == count // 4
  reduced = sum(c["bytes"] * c["count"] for c in report["collectives"] if c["kind"] == "all-reduce")
  assert reduced >= 2 * report["parameters"], "gradients are summed in bfloat16 at least"


@pytest.mark.slow
@pytest.mark.parametrize(
  ("name", "decoder_tokens", "executed", "moved"),
  [
    ("v5e:2x4", "refined", 0.38, 66e9),
    ("v5p:2x2x1", "refined", 0.38, 53e9),
    ("v6e:2x4", "refined", 0.38, 66e9),
    ("v5e:2x4", "all", 0.61, 74e9),
  ],
)
def test_the_packed_step_keeps_what_it_saves(name, decoder_tokens, executed, moved, tmp_path):
  """base, 32 windows per chip: FLOPs of textbook and bytes per step at most so many, at the compiler's least effort."""
  if importlib.util.find_spec("libtpu") is None:
    pytest.skip('no libtpu here: pip install -e ".[tpu]"')
  count = int(np.prod([int(x) for x in name.partition(":")[2].split("x")]))
  command = [sys.executable, "-m", "aim.main", "--config=lsm2_base", "--mode=preflight", f"--topology={name}"]
  command += [
    f"--workdir={tmp_path}",
    f"--config.batch_size={32 * count}",
    f"--config.model.decoder.tokens={decoder_tokens}",
  ]
  environment = os.environ | {"XLA_FLAGS": "", "JAX_PLATFORMS": "cpu", "JAX_EXEC_TIME_OPTIMIZATION_EFFORT": "-1"}
  ended = subprocess.run(command, cwd=tiny.ROOT, env=environment, capture_output=True, text=True, check=False)
  assert ended.returncode == 0, ended.stderr
  report = json.loads((tmp_path / "preflight.json").read_text())
  assert report["config"]["form"] == "packed" and report["memory"]["fits"], ended.stdout
  assert report["executed_to_textbook"] <= executed and report["bytes_moved"] <= moved
