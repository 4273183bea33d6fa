"""--mode=preflight: what a run will need and how fast it can be, from the real compiler, without the hardware.

The step of the run, with its shardings, kernels and buffer sizes, is compiled for the devices of --topology. What
comes out is the compiler's word on memory, traffic and exchanges, our count of FLOPs, and from these a lower bound of
the step's time. For GPUs, whose compiler needs one, CPU devices stand in: exchanges are the same, memory is
an estimate.
"""

from __future__ import annotations

import concurrent.futures
import dataclasses
import json
import math
import os
import pathlib
import re
import time
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import ml_collections
import numpy as np

from aim import collectives, devices, flops, mesh, sizes
from aim.devices import Device
from aim.model import count_parameters
from aim.pretrain import Training
from aim.roofline import Roofline
from aim.sizes import Sizes, ViewSizes
from aim.step import Step
from aim.topology import Topology
from data_pipelines.dataset import Dataset
from data_pipelines.schema import UserError
from data_pipelines.simulator import Simulation
from data_pipelines.statistics import Accumulator

PEOPLE, DAYS = 52, 5  # simulated where there is no dataset
MASKS = 4  # drawn of each day
READ_AHEAD = 3  # batches on the device: two in the queue and one being masked (data_pipelines/loader.py)
MEASURED = 5  # steps of --topology=local


@dataclasses.dataclass(frozen=True)
class Program:
  """A compiled step, or None and what it would have needed where it does not fit.

  Attributes:
    windows: a step.
    needs: bytes of a device, without what is read ahead.
  """

  size: Sizes
  windows: int
  compiled: Any
  needs: int
  seconds: float


class Plan(Training):
  """The run that is planned; nothing of it runs, but for --topology=local."""

  def __init__(
    self,
    config: ml_collections.ConfigDict,
    workdir: pathlib.Path,
    dataset: Dataset,
    days: np.ndarray,
    on: Topology,
    planned: jax.sharding.Mesh,
  ):
    """days: float32 [days, S, C], NaN where missing, of which sizes are chosen."""
    super().__init__(config, workdir, dataset, planned)
    self.on, self.days = on, days
    self.device = on.sheet or _measured(len(on.devices))
    # Keys that are here cannot be given to programs for devices that are not.
    self.shape_of_key = jax.eval_shape(lambda: self.key)

  def sample(self) -> np.ndarray:
    return self.counts

  def count(self) -> None:
    """Draws masks on the device that is here, whatever the plan is for."""
    step = dataclasses.replace(self.step, accumulate=1, **({"groups": 0} if isinstance(self.step, Step) else {}))
    draw = jax.jit(lambda key, i, values: step.draw(key, i, values)[2])
    cpu = jax.local_devices(backend="cpu")[0] if self.on.name != "local" else None
    with jax.default_device(cpu):
      self.counts = np.concatenate([np.asarray(draw(self.key, i, self.days)) for i in range(MASKS)])
    useful = 0.0
    if isinstance(self.step, Step):
      useful = float(flops.useful_flops(self.step.architecture, self.counts)) / len(self.counts)
    self.useful = useful

  @property
  def fixed(self) -> dict[str, int]:
    """Bytes of a device that do not depend on the batch."""
    size = lambda name: mesh.bytes_per_device(self.abstract[name], self.shardings[name])
    return {"parameters": size("params"), "optimizer": size("optimizer"), "average": size("ema")}

  def programs(self, wanted: Sequence[tuple[Sizes, int]]) -> Iterator[Program]:
    """The steps of such sizes and windows, as they are compiled, several at a time."""
    tokens, self.drawing = self.compiled.tokens(self.shape_of_key, self.batch_shape())
    self.tokens = tokens
    lowered = []
    for size, windows in wanted:
      part = jax.tree.map(lambda x, n=windows: _resized(x, n, self.config.batch_size), tokens)
      lowered.append(self.compiled.lower(size, self.abstract, part))
    with concurrent.futures.ThreadPoolExecutor(min(len(lowered), os.cpu_count() or 1)) as pool:
      yield from pool.map(_compile, lowered, wanted)

  def executed(self, size: Sizes) -> float:
    """FLOPs of a window in the buffers of that size, as flops.executed_flops counts."""
    accumulate, batch = self.config.optimizer.accumulate, self.config.batch_size
    return flops.executed_flops(self.step.architecture, size, batch // accumulate) * accumulate / batch

  def textbook(self) -> float | None:
    """Of AIM's step as published: N - D tokens in the encoder, all in the decoder."""
    a = self.step.architecture
    if not isinstance(self.step, Step):
      return None
    size = sizes.textbook(a.tokens, self.step.masking.dropped(a.groups, a.length), "all")
    return flops.executed_flops(dataclasses.replace(a, decoder_tokens="all"), size, 1)


def preflight(config: ml_collections.ConfigDict, workdir: pathlib.Path, dataset: Dataset | None, on: Topology) -> dict:
  """Compiles the run of `config` for `on`, prints what it needs, writes preflight.json; returns what that holds.

  dataset: whose missingness sets the buffer sizes; None: a simulated cohort's.
  """
  began = time.perf_counter()
  say = lambda text: print(f"[{time.perf_counter() - began:4.0f} s] {text}", flush=True)
  planned = mesh.make_mesh(**config.mesh, planned=on.devices)
  say("drawing days" if dataset is None else f"reading days of {dataset.name}")
  dataset, days = _simulated() if dataset is None else (dataset, _days(dataset))
  with devices.planning(on.platform):
    plan = Plan(config, workdir, dataset, days, on, planned)
    say(f"{100 * np.isnan(days).mean():.0f} % of {len(days)} days are missing; drawing masks")
    plan.count()
    with jax.set_mesh(planned):
      found = _report(plan, say)
    if on.name == "local":
      say(f"measuring {MEASURED} steps")
      with jax.set_mesh(planned):
        found["measured"] = _measure(plan, found)
  found["seconds"] = round(time.perf_counter() - began, 1)
  (workdir / "parameters.txt").write_text(plan.table + "\n")
  (workdir / "preflight.json").write_text(json.dumps(found, indent=2) + "\n")
  if config.log.parameters:
    print(plan.table)
  print(text(found))
  print(f"{workdir / 'preflight.json'}\n{workdir / 'parameters.txt'}")
  return found


def _report(plan: Plan, say: Any) -> dict[str, Any]:
  config, a = plan.config, plan.step.architecture
  ladder = plan.ladder()
  typical, largest = ladder[(len(ladder) - 1) // 2], ladder[-1]
  batch, other = config.batch_size, _other(plan)
  wanted = list(dict.fromkeys([(typical, batch), (largest, batch), (_grouped(largest, other, batch), other)]))
  say(
    f"compiling {len(wanted)} programs for {len(plan.on.devices)} x {plan.on.kind}: "
    f"{count_parameters(plan.abstract['params']) / 1e6:.1f}M parameters, {a.attention} attention, {a.dtype}, "
    f"{plan.form} form"
  )
  made = []
  for program in plan.programs(wanted):
    fits = "" if program.compiled is not None else ", which does not fit"
    say(f"  {program.windows} windows in {_rows(program.size)}: {program.needs / 1e9:.2f} GB a device{fits}")
    made.append(program)
  first, whole, part = made[0], made[-2 if len(made) > 1 else 0], made[-1]
  plan.made = made
  ahead = READ_AHEAD * _held(plan.batch_shape()) + plan.drawing.memory_analysis().output_size_in_bytes
  return {
    "topology": plan.on.name,
    "device": {"kind": plan.on.kind, **dataclasses.asdict(plan.device), "sheet": plan.on.sheet is not None},
    "devices": len(plan.on.devices),
    "hosts": plan.on.hosts,
    "mesh": dict(plan.mesh.shape) | {"slices": config.mesh.get("slices", 1)},
    "config": {
      "batch_size": batch,
      "accumulate": config.optimizer.accumulate,
      "total_steps": config.total_steps,
      "form": plan.form,
      "attention": a.attention,
      "dtype": a.dtype,
      "remat": a.remat,
      "decoder_tokens": a.decoder_tokens,
    },
    "parameters": count_parameters(plan.abstract["params"]),
    "sizes": {"typical": _rows(typical), "largest": _rows(largest)},
    "memory": _memory(plan, whole, ahead),
    "largest_batch": _largest_batch(plan, whole, part, ahead),
    **_speed(plan, first),
    "compile_seconds": [round(program.seconds, 1) for program in made],
  }


def _memory(plan: Plan, whole: Program, ahead: int) -> dict[str, Any]:
  """Of the largest program of a run, which must fit whether or not a step needs it."""
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


def _largest_batch(plan: Plan, whole: Program, part: Program, ahead: int) -> dict[str, Any]:
  """By a line through the needs of two programs."""
  shared = plan.mesh.shape["data"] * plan.mesh.shape["fsdp"] * plan.config.optimizer.accumulate
  if whole.windows == part.windows:
    return {"windows": None, "how": "not searched: one program was compiled"}
  slope = (whole.needs - part.needs) / (whole.windows - part.windows) + ahead / whole.windows
  if slope <= 0:
    return {"windows": None, "how": "not found: twice the windows need no more memory"}
  room = plan.device.memory - (whole.needs + ahead - slope * whole.windows)
  most = max(0, math.floor(room / slope / shared) * shared)
  told: dict[str, Any] = {
    "windows": most,
    "bytes_per_window_and_device": slope,
    "how": f"a line through {part.windows} and {whole.windows} windows of the largest buffers",
  }
  if most < whole.windows:
    told["fits_with_accumulate"] = _accumulate(plan, most)
  return told


def _accumulate(plan: Plan, most: int) -> int | None:
  """The least config.optimizer.accumulate with which the batch fits: most / accumulate windows at a time do now."""
  config = plan.config
  now, shared = config.optimizer.accumulate, plan.mesh.shape["data"] * plan.mesh.shape["fsdp"]
  options = (n for n in range(now, config.batch_size // shared + 1) if config.batch_size % (n * shared) == 0)
  return next((n for n in options if config.batch_size / n <= most / now), None)


def _speed(plan: Plan, program: Program) -> dict[str, Any]:
  """FLOPs, traffic, exchanges and the time they take at least; those that need the program are null without one."""
  config, count, batch = plan.config, len(plan.on.devices), plan.config.batch_size
  executed, textbook = plan.executed(program.size), plan.textbook()
  # Blocks are computed once more in the backward pass; what kernels recompute inside does not count.
  recomputed = executed * (4 / 3 if plan.step.architecture.remat else 1)
  per_window = {
    "useful": plan.useful or None,
    "executed": executed,
    "with_recomputation": recomputed,
    "textbook": textbook,
  }
  told: dict[str, Any] = {"flops_per_window": per_window}
  if textbook:
    told["executed_to_textbook"] = executed / textbook
  if program.compiled is None:
    return told | {"collectives": None, "bytes_moved": None, "roofline": None, "data": None}
  moved = _moved(plan, program.compiled)
  exchanges = collectives.read(program.compiled.as_text(), count)
  slices = config.mesh.get("slices", 1)
  box = count // slices if slices > 1 else plan.device.box
  line = Roofline.of(plan.device, recomputed * batch / count, moved, exchanges, box)
  rate = batch / line.seconds
  peak = count * plan.device.flops
  a_window = 4 * plan.dataset.schema.steps * len(plan.dataset.schema.channels)
  return told | {
    "bytes_moved": moved,
    "collectives": [
      {
        "kind": c.kind,
        "count": c.count,
        "bytes": c.bytes,
        "devices": len(c.group),
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
    },
    "data": {
      "windows_per_second_and_host": rate / plan.on.hosts,
      "bytes_per_second_and_host": rate * a_window / plan.on.hosts,
    },
  }


def _moved(plan: Plan, compiled: Any) -> float:
  """Bytes of a device's memory traffic in a step, by the compiler's count, which takes all that programs read and write
  for traffic: an upper bound where values stay in caches. It counts the body of a loop once: here, a microbatch."""
  cost = compiled.cost_analysis()
  counted = float((cost[0] if isinstance(cost, list) else cost).get("bytes accessed", 0.0))
  update = min(counted, 2.0 * sum(plan.fixed.values()))  # read and written once, outside the loop
  return counted + (plan.config.optimizer.accumulate - 1) * (counted - update)


def _measure(plan: Plan, found: dict[str, Any]) -> dict[str, Any]:
  """Some real steps, masks drawn too, on the devices here; all of them by the program for the largest buffers."""
  program = next(p for p in reversed(plan.made) if p.windows == plan.config.batch_size)
  repeats = -(-plan.config.batch_size // len(plan.days))
  values = np.concatenate([plan.days] * repeats)[: plan.config.batch_size]
  batch = jax.device_put(values, mesh.batch_sharding(plan.mesh))
  state = jax.jit(plan.step.init, out_shardings=plan.shardings)(plan.key)
  seconds = []
  for step in range(MEASURED + 1):
    began = time.perf_counter()
    tokens = plan.drawing(plan.key, step, batch)[0]
    state, metrics = jax.block_until_ready(program.compiled(state, tokens))
    seconds.append(time.perf_counter() - began)
  median = float(np.median(seconds[1:]))  # the first one warms up
  # The stated time is of the typical buffers, the measured one of the largest.
  stated = found["roofline"]["seconds_per_step"] * plan.executed(program.size) / found["flops_per_window"]["executed"]
  return {
    "seconds_per_step": median,
    "stated_seconds_per_step": stated,
    "measured_to_stated": median / stated,
    "loss": float(metrics["loss"]),
    "steps": MEASURED,
  }


def _compile(lowered: Any, wanted: tuple[Sizes, int]) -> Program:
  began = time.perf_counter()
  try:
    compiled = lowered.compile()
  except jax.errors.JaxRuntimeError as error:  # TPU's compiler refuses what does not fit
    return Program(*wanted, None, overflow(str(error)), time.perf_counter() - began)
  m = compiled.memory_analysis()
  needs = m.argument_size_in_bytes + m.output_size_in_bytes - m.alias_size_in_bytes
  needs += m.temp_size_in_bytes + m.generated_code_size_in_bytes
  return Program(*wanted, compiled, needs, time.perf_counter() - began)


def overflow(message: str) -> int:
  """Bytes that a program would have needed, from the compiler's refusal; UserError with any other complaint."""
  used = re.search(r"Used ([\d.]+)([KMGT]?)i?B? of [\d.]+[KMGT]?i?B? hbm", message)
  if "RESOURCE_EXHAUSTED" not in message or not used:
    raise UserError(f"the compiler cannot make this step: {message.splitlines()[0]}")
  return int(float(used[1]) * 1024 ** " KMGT".index(used[2] or " "))


def _resized(leaf: jax.ShapeDtypeStruct, windows: int, batch: int) -> jax.ShapeDtypeStruct:
  return jax.ShapeDtypeStruct((leaf.shape[0] * windows // batch, *leaf.shape[1:]), leaf.dtype, sharding=leaf.sharding)


def _other(plan: Plan) -> int:
  """Windows of the second program: half as many, or twice where a device has but one at a time."""
  shared = plan.mesh.shape["data"] * plan.mesh.shape["fsdp"] * plan.config.optimizer.accumulate
  batch = plan.config.batch_size
  return batch // 2 if batch % (2 * shared) == 0 else 2 * batch


def _grouped(size: Sizes, windows: int, batch: int) -> Sizes:
  """The buffers of another number of windows; padded ones are of one window each."""
  if not size.groups:
    return size
  scale = lambda rows: -(-rows * windows // batch)
  return dataclasses.replace(size, encoder=scale(size.encoder), decoder=scale(size.decoder), wanted=scale(size.wanted))


def _held(leaf: jax.ShapeDtypeStruct) -> int:
  return math.prod(leaf.sharding.shard_shape(leaf.shape)) * leaf.dtype.itemsize


def _rows(size: Sizes) -> str:
  if isinstance(size, ViewSizes):
    return f"{size.encoder} rows of views"
  where = "a group" if size.groups else "a window"
  return f"{size.encoder} rows to encode, {size.decoder} to decode, {size.wanted} to predict {where}"


def _measured(count: int) -> Device:
  """Of a device without data sheet, a CPU: what it does now, shared by as many devices as JAX was told to see."""
  x = np.ones(2**24, np.float32)
  y = np.empty_like(x)
  seconds = []
  for _ in range(5):
    began = time.perf_counter()
    np.copyto(y, x)
    seconds.append(time.perf_counter() - began)
  bandwidth = 2 * x.nbytes / min(seconds)
  memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
  share = lambda whole: whole / count
  return Device(
    share(flops.measured_flops()), share(memory), share(bandwidth), share(bandwidth), None, share(bandwidth)
  )


def _simulated() -> tuple[Dataset, np.ndarray]:
  """A dataset that is in no folder, and its days."""
  source = Simulation(PEOPLE, DAYS, 0)
  days = np.stack([day.values for name in source.participants for day in source.person(name).days])
  statistics = Accumulator(source.schema)
  statistics.add(days)
  return Dataset(pathlib.Path(), "simulated days", source.schema, statistics.finish()[0]), days


def _days(dataset: Dataset) -> np.ndarray:
  """Days of the training people, evenly."""
  source = dataset.source("pretrain")
  chosen = np.unique(np.linspace(0, len(source) - 1, PEOPLE * DAYS).astype(int))
  return np.stack([source[int(i)]["values"] for i in chosen])


def text(found: dict[str, Any]) -> str:
  """preflight.json for people."""
  gb = lambda size: f"{size / 1e9:.3g} GB"
  device, memory, line, work = found["device"], found["memory"], found["roofline"], found["flops_per_window"]
  source = "data sheet" if device["sheet"] else "measured here"
  rows = [
    ("devices", f"{found['devices']} x {device['kind']} on {found['hosts']} host(s), mesh {found['mesh']}"),
    (
      "a device",
      f"{device['flops'] / 1e12:.3g} TFLOP/s, {gb(device['memory'])}, {gb(device['bandwidth'])}/s ({source})",
    ),
    ("parameters", f"{found['parameters']:,}"),
    ("buffers", f"typical: {found['sizes']['typical']}; largest: {found['sizes']['largest']}"),
  ]
  names = ("parameters", "optimizer", "average", "tokens", "read_ahead", "gradients_and_activations")
  rows += [(f"  {name.replace('_', ' ')}", gb(memory[name])) for name in names]
  fits = "fits" if memory["fits"] else "DOES NOT FIT"
  rows.append(
    ("memory", f"{gb(memory['total'])} of {gb(memory['capacity'])}: {fits}, headroom {100 * memory['headroom']:.0f} %")
  )
  rows.append(("largest batch", _batch_text(found["largest_batch"])))
  told = [f"{name.replace('_', ' ')} {x / 1e9:.4g}" for name, x in work.items() if x]
  share = (
    f"; executed are {found['executed_to_textbook']:.2f} of the textbook's" if "executed_to_textbook" in found else ""
  )
  rows.append(("GFLOPs a window", ", ".join(told) + share))
  if line is None:
    rows.append(("time", "not known: the step does not compile for this memory"))
  else:
    rows += _time_rows(found, line)
  if measured := found.get("measured"):
    stated, ratio = measured["stated_seconds_per_step"], measured["measured_to_stated"]
    rows.append(("measured", f"{measured['seconds_per_step']:.3g} s a step: {ratio:.2f} x the stated {stated:.3g} s"))
  rows.append(("took", f"{found['seconds']:.0f} s"))
  width = max(len(name) for name, _ in rows)
  return "\n".join(f"{name.ljust(width)}  {value}" for name, value in rows)


def _batch_text(found: dict[str, Any]) -> str:
  if found["windows"] is None:
    return found["how"]
  more = ""
  if "fits_with_accumulate" in found:
    accumulate = found["fits_with_accumulate"]
    more = (
      f"; the batch fits with --config.optimizer.accumulate={accumulate}" if accumulate else "; no accumulate helps"
    )
  return f"{found['windows']:,} windows ({found['how']}){more}"


def _time_rows(found: dict[str, Any], line: dict[str, Any]) -> list[tuple[str, str]]:
  ms = lambda seconds: f"{1000 * seconds:.3g} ms"
  rows = [("memory traffic", f"{found['bytes_moved'] / 1e9:.3g} GB a step and device")]
  by_kind: dict[tuple[str, int], list[dict]] = {}
  for c in found["collectives"]:
    by_kind.setdefault((c["kind"], c["devices"]), []).append(c)
  for (kind, size), several in by_kind.items():
    count, sent = sum(c["count"] for c in several), sum(c["count"] * c["bytes"] for c in several)
    took = ms(sum(c["seconds"] for c in several))
    rows.append((f"  {kind}", f"{count} a step among {size} devices, {sent / 1e6:.4g} MB in all, {took}"))
  useful = f", useful {100 * line['mfu_ceiling_useful']:.0f} %" if line["mfu_ceiling_useful"] else ""
  rows += [
    (
      "step, at least",
      f"{ms(line['seconds_per_step'])}: compute {ms(line['compute'])}, memory {ms(line['memory'])}, network "
      f"{ms(line['network'])}; {line['limit']} limits",
    ),
    ("MFU, at most", f"executed {100 * line['mfu_ceiling_executed']:.0f} %{useful}"),
    (
      "speed, at most",
      f"{line['windows_per_second']:,.0f} windows/s; {found['config']['total_steps']:,} steps in "
      f"{line['days']:.3g} days",
    ),
    (
      "data, a host",
      f"{found['data']['windows_per_second_and_host']:,.0f} windows/s, "
      f"{found['data']['bytes_per_second_and_host'] / 1e6:,.0f} MB/s",
    ),
  ]
  return rows
