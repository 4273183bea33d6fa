"""--mode=preflight: what a run will need and how fast it can be, from the real compiler, without the hardware.

The step of the run, with its shardings, kernels and buffer sizes, is compiled for the devices of --topology. The
result is the compiler's account of memory, traffic and exchanges, our count of FLOPs, and from these a lower bound on
the time per step. Where the CUDA compiler is not installed, CPU devices stand in for GPUs: the exchanges are the same,
and the memory is an estimate.
"""

from __future__ import annotations

import dataclasses
import math
import pathlib
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import ml_collections
import numpy as np

from aim.model.buffer_sizes import BufferSizes, ViewBufferSizes
from aim.model.lsm2 import count_parameters
from aim.planning import collectives, forms, preflight_text
from aim.planning.collectives import Roofline
from aim.planning.hlo import Module
from aim.planning.planned_run import Plan, Program
from aim.planning.topology import Topology
from aim.runtime import devices, sharding
from data_pipelines.dataset import Dataset
from data_pipelines.simulator.simulation import Simulation
from data_pipelines.statistics import Accumulator
from data_pipelines.text_files import counted, json_text

PEOPLE, DAYS = 52, 5  # simulated when there is no dataset
READ_AHEAD = 3  # batches on the device: two in the queue and one being masked (data_pipelines/loader.py)
ALIKE = 0.95  # above this ratio of FLOPs, one program stands for both sizes
MEASURED_STEPS = 5  # with --topology=local


def preflight(
  config: ml_collections.ConfigDict,
  workdir: pathlib.Path,
  dataset: Dataset | None,
  on: Topology,
  compared: Sequence[str] = (),
) -> dict[str, Any]:
  """Compiles the run of a config, prints what it needs, and writes parameters.txt and preflight.json.

  With forms to be compared, it compiles the typical program of each, prints a table of them and draws forms.png.

  Args:
    dataset: its missing values determine the buffer sizes; None: those of a simulated cohort do.
    on: the hardware to compile for.
    compared: names of forms.

  Returns:
    What preflight.json holds.

  Raises:
    UserError: a form is unknown, or the method is contrastive and has none.
  """
  forms.check_forms(compared, config.method)
  began = time.perf_counter()
  say = lambda text: print(f"[{time.perf_counter() - began:4.0f} s] {text}", flush=True)
  if on.stand_in:
    say(f"CPU devices stand in for {on.kind}, so memory and traffic are estimates: {on.stand_in}")
  planned = sharding.make_mesh(**config.mesh, planned=on.devices)
  say("drawing days" if dataset is None else f"reading days of {dataset.name}")
  dataset, days = _simulated() if dataset is None else (dataset, _days(dataset))
  with devices.target_platform(on.platform, on.capability):
    plan = Plan(config, workdir, dataset, days, on, planned)
    say(f"{100 * np.isnan(days).mean():.0f} % of {counted(len(days), 'day')} is missing; drawing masks")
    plan.count()
    plans = {name: plan if name == plan.form else plan.in_form(name) for name in compared}
    with jax.set_mesh(planned):  # of devices that may not be here: nothing may be computed under it
      report = _report(plan, say)
      if compared:
        report["forms"] = {name: _form(each, say) for name, each in plans.items()}
    if on.name == "local":
      say(f"measuring {MEASURED_STEPS} steps")
      with jax.set_mesh(planned):
        report["measured"] = _measure(plan, report)
  report["seconds"] = round(time.perf_counter() - began, 1)
  (workdir / "parameters.txt").write_text(plan.parameter_table + "\n")
  (workdir / "preflight.json").write_text(json_text(report, indent=2) + "\n")
  if config.log.parameters:
    print(plan.parameter_table)
  print(preflight_text.text(report))
  if compared:
    title = f"{config.name}, {report['parameters'] / 1e6:.1f}M parameters, {config.batch_size:,} windows on {on.name}"
    print(forms.text(report["forms"]))
    forms.draw_forms(report["forms"], title, workdir / "forms.png")
    print(workdir / "forms.png")
  print(f"{workdir / 'preflight.json'}\n{workdir / 'parameters.txt'}")
  return report


def _report(plan: Plan, say: Callable[[str], None]) -> dict[str, Any]:
  config, a = plan.config, plan.step.architecture
  ladder = plan.ladder()
  typical, largest = _typical(ladder), ladder[-1]
  batch = config.batch_size
  # Compiling takes most of the time, so one program stands for both sizes if they are nearly the same.
  stand_in = largest if plan.executed(typical) > ALIKE * plan.executed(largest) else typical
  sizes = list(dict.fromkeys([stand_in, largest]))
  say(
    f"compiling {len(sizes)} program(s) for {len(plan.on.devices)} x {plan.on.kind}: "
    f"{count_parameters(plan.abstract_state['params']) / 1e6:.1f}M parameters, {a.attention} attention, {a.dtype}, "
    f"{plan.form} form"
  )
  programs = plan.programs(sizes, say)
  for program in programs:
    fits = "" if program.compiled is not None else ", which does not fit"
    say(f"  {counted(batch, 'window')} in {describe(program.size)}: {program.needs / 1e9:.2f} GB per device{fits}")
  first, whole = programs[0], programs[-1]
  tokens = sum(_held(leaf) for leaf in jax.tree.leaves(plan.tokens))
  ahead = READ_AHEAD * sum(_held(array) for array in plan.batch_shapes()) + tokens
  return {
    "topology": plan.on.name,
    "device": {"kind": plan.on.kind, **dataclasses.asdict(plan.device), "sheet": plan.on.sheet is not None},
    "stand_in": plan.on.stand_in,
    "devices": len(plan.on.devices),
    "hosts": plan.on.hosts,
    "mesh": dict(plan.mesh.shape) | {"slices": config.mesh.slices},
    "config": {
      "name": config.name,
      "batch_size": batch,
      "accumulate": config.optimizer.accumulate,
      "total_steps": config.total_steps,
      "form": plan.form,
      "attention": a.attention,
      "dtype": a.dtype,
      "remat": plan.recomputes(largest),
      "decoder_tokens": a.decoder_tokens,
    },
    "parameters": count_parameters(plan.abstract_state["params"]),
    "sizes": {"typical": describe(typical), "largest": describe(largest)},
    "memory": _memory(plan, whole, ahead),
    "largest_batch": _largest_batch(plan, whole, ahead),
    **_speed(plan, first, typical),
    "compile_seconds": [round(program.seconds, 1) for program in programs],
  }


def _form(plan: Plan, say: Callable[[str], None]) -> dict[str, Any]:
  """Cost of one form in its typical buffers; the program of the run's own form is already compiled."""
  size = _typical(plan.ladder())
  if not plan.made:
    say(f"compiling the {plan.form} form")
    plan.programs([size], say)
  program = plan.made[0]
  return forms.row(plan.parts(size), _speed(plan, program, size), describe(size), program.needs)


def _typical(ladder: Sequence[BufferSizes]) -> BufferSizes:
  return ladder[(len(ladder) - 1) // 2]


def _memory(plan: Plan, whole: Program, ahead: int) -> dict[str, Any]:
  """Memory of the largest program of the run, which must fit whether or not a step needs it."""
  fixed, capacity = plan.fixed, plan.device.memory
  tokens = sum(_held(leaf) for leaf in jax.tree.leaves(plan.tokens))
  total = whole.needs + ahead
  rest = {
    "tokens": tokens,
    "read_ahead": ahead,
    "gradients_and_activations": total - sum(fixed.values()) - tokens - ahead,
  }
  return {
    **fixed,
    **rest,
    "total": total,
    "capacity": capacity,
    "headroom": 1 - total / capacity,
    "fits": whole.compiled is not None and total <= capacity,
  }


def _largest_batch(plan: Plan, whole: Program, ahead: int) -> dict[str, Any]:
  """The largest batch that fits, if all memory other than state, gradients and code grows with the windows.

  Some of that memory does not grow, so the estimate is cautious above the planned batch and optimistic below it.
  """
  shared = plan.mesh.shape["data"] * plan.mesh.shape["fsdp"] * plan.config.optimizer.accumulate
  batch, fixed = plan.config.batch_size, sum(plan.fixed.values()) + plan.fixed["parameters"] + whole.code
  slope = max(0, whole.needs + ahead - fixed) / batch
  if not slope:
    return {"windows": None, "how": "unknown: the step needs no more than its state"}
  most = max(0, math.floor((plan.device.memory - fixed) / slope / shared) * shared)
  largest: dict[str, Any] = {
    "windows": most,
    "bytes_per_window_and_device": slope,
    "how": "all but state, gradients and code grows with the windows",
  }
  if most < batch:
    largest["fits_with_accumulate"] = _accumulate(plan, most)
  return largest


def _accumulate(plan: Plan, most: int) -> int | None:
  """The least config.optimizer.accumulate with which the batch fits; now `most` / accumulate windows fit at a time."""
  config = plan.config
  now, shared = config.optimizer.accumulate, plan.mesh.shape["data"] * plan.mesh.shape["fsdp"]
  options = (n for n in range(now, config.batch_size // shared + 1) if config.batch_size % (n * shared) == 0)
  return next((n for n in options if config.batch_size / n <= most / now), None)


def _speed(plan: Plan, program: Program, typical: BufferSizes) -> dict[str, Any]:
  """FLOPs, traffic, exchanges and the least time they take; what needs the program is null without one."""
  config, count, batch = plan.config, len(plan.on.devices), plan.config.batch_size
  executed, textbook = plan.executed(typical), plan.textbook()
  # With remat the backward pass computes the forward pass again; recomputation inside kernels does not count.
  recomputed = executed * (4 / 3 if plan.recomputes(program.size) else 1)
  per_window = {
    "useful": plan.useful or None,
    "executed": executed,
    "with_recomputation": recomputed,
    "textbook": textbook,
  }
  speed: dict[str, Any] = {"flops_per_window": per_window}
  if textbook:
    speed["executed_to_textbook"] = executed / textbook
  if program.compiled is None:
    return speed | {"kernels": None, "collectives": None, "bytes_moved": None, "roofline": None, "data": None}
  module = Module.read(program.compiled.as_text())
  moved, counted_by = _moved(module, program.compiled)
  exchanges = collectives.read(module, count)
  slices = config.mesh.slices
  box = count // slices if slices > 1 else plan.device.box
  line = Roofline.of(plan.device, recomputed * batch / count, moved, exchanges, box)
  rate = batch / line.seconds
  peak = count * plan.device.flops
  window_bytes = 4 * plan.dataset.schema.steps * len(plan.dataset.schema.channels)
  return speed | {
    "bytes_moved": moved,
    "bytes_counted_by": counted_by,
    "kernels": module.kernels(),
    "collectives": [
      {
        "kind": c.kind,
        "count": c.count,
        "bytes": c.bytes,
        "devices": len(c.group),
        "stride": c.group[1] - c.group[0],
        "seconds": c.seconds(plan.device, box),
      }
      for c in exchanges
    ],
    "roofline": {
      **dataclasses.asdict(line),
      "seconds_per_step": line.seconds,
      "limit": line.limit,
      "mfu_ceiling_executed": executed * rate / peak,
      "mfu_ceiling_useful": plan.useful * rate / peak if plan.useful else None,
      "windows_per_second": rate,
      "days": line.seconds * config.total_steps / 86400,
      "chip_hours": line.seconds * config.total_steps / 3600 * count,
    },
    "data": {
      "windows_per_second_and_host": rate / plan.on.hosts,
      "bytes_per_second_and_host": rate * window_bytes / plan.on.hosts,
      "stored_bytes_per_window": stored_bytes_per_window(plan.dataset),
    },
  }


def stored_bytes_per_window(dataset: Dataset) -> float | None:
  """Bytes that a training day takes in the files of a dataset; None for simulated days, which are in no file."""
  shards = [shard for each in dataset.stored for shard in each.path.glob("day_windows-pretrain.array_record*")]
  return sum(shard.stat().st_size for shard in shards) / dataset.num_days("pretrain") if shards else None


def _moved(module: Module, compiled: Any) -> tuple[float, str]:
  """Bytes of memory traffic per device and step, and who counted them: "compiler", or "text" for ourselves.

  The compiler counts all that its kernels read and write, which is an upper bound where values stay in caches. It
  counts the body of a loop once, so its count is scaled by ours, with each loop as often as it runs and once. The CUDA
  compiler counts nothing, so for its programs ours is taken as it is.
  """
  cost = compiled.cost_analysis()
  cost = cost[0] if isinstance(cost, list) else cost
  counted = float((cost or {}).get("bytes accessed", 0.0))
  if not counted:
    return module.bytes_moved(), "text"
  return counted * module.bytes_moved() / max(module.bytes_moved(once=True), 1), "compiler"


def _measure(plan: Plan, report: dict[str, Any]) -> dict[str, Any]:
  """Times real steps on the devices here, mask drawing included, all with the program for the largest buffers."""
  program, drawing = plan.made[-1], plan.compiled.draw_program(plan.key, *plan.batch_shapes())
  repeats = -(-plan.config.batch_size // len(plan.days))
  values = np.concatenate([plan.days] * repeats)[: plan.config.batch_size]
  # No other days, so no mean is known.
  others = [np.full(s.shape, np.nan if s.dtype.kind == "f" else 0, s.dtype) for s in plan.batch_shapes()[1:]]
  batch = jax.device_put((values, *others), sharding.batch_sharding(plan.mesh))
  state = jax.jit(plan.step.init, out_shardings=plan.shardings)(plan.key)
  seconds = []
  for step in range(MEASURED_STEPS + 1):
    began = time.perf_counter()
    tokens = drawing(plan.key, step, *batch)[0]
    state, metrics = jax.block_until_ready(program.compiled(state, tokens))
    seconds.append(time.perf_counter() - began)
  median = float(np.median(seconds[1:]))  # without the first, which warms up
  # The stated time is for the typical buffers, so it is scaled to the largest, which were measured.
  stated = report["roofline"]["seconds_per_step"] * plan.executed(program.size) / report["flops_per_window"]["executed"]
  return {
    "seconds_per_step": median,
    "stated_seconds_per_step": stated,
    "measured_to_stated": median / stated,
    "loss": float(metrics["loss"]),
    "steps": MEASURED_STEPS,
  }


def _held(leaf: jax.ShapeDtypeStruct) -> int:
  return math.prod(leaf.sharding.shard_shape(leaf.shape)) * leaf.dtype.itemsize


def describe(size: BufferSizes) -> str:
  """The size of a step's buffers as text."""
  if isinstance(size, ViewBufferSizes):
    return f"{counted(size.encoder, 'slot')} for views"
  where = "per group" if size.groups else "per window"
  return f"{counted(size.encoder, 'slot')} to encode, {size.decoder} to decode, {size.targets} to predict {where}"


def _simulated() -> tuple[Dataset, np.ndarray]:
  """A simulated dataset, which is in no folder, and its days [days, steps, channels]."""
  source = Simulation(PEOPLE, DAYS, 0)
  days = np.stack([day.values for name in source.participants for day in source.person(name).days])
  statistics = Accumulator(source.schema)
  statistics.add(days)
  return Dataset(pathlib.Path(), "simulated days", source.schema, statistics.finish()[0]), days


def _days(dataset: Dataset) -> np.ndarray:
  """Training days [days, steps, channels], evenly spread."""
  source = dataset.days("pretrain")
  chosen = np.unique(np.linspace(0, len(source) - 1, PEOPLE * DAYS).astype(int))
  return np.stack([source[int(i)]["values"] for i in chosen])
