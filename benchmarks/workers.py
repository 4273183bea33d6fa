"""Measures training steps of several competitors side by side: one process each, in turns, on the same batches.

Each competitor prepares itself in a process of its own. Then all take turns, one step each per round, so that changes
of the machine's speed affect all alike. A competitor is described by a dict, its spec:

  {"framework": "torch", "form": "textbook", "dtype": "bfloat16", "options": {...}}

With torch, form is "textbook" or "strongest" (benchmarks/torch_aim.py), `options` are arguments of that class, and
`precision` and `compiled` those of the trainer. With jax, form is config.form, and `options` are config overrides.

  from benchmarks import workers
  rows = workers.measure(specs, layout="xs", batch=16, repeats=8)
  workers.write_csv("xs.csv", rows)
"""

from __future__ import annotations

import contextlib
import csv
import dataclasses
import datetime
import importlib
import importlib.metadata
import json
import os
import pathlib
import platform
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import types
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

Spec = Mapping[str, Any]
Step = Callable[[int], float]

ROOT = pathlib.Path(__file__).resolve().parent.parent
# {layout: (experiment, channels of the simulated day, config overrides)}. A layout such as "28x5" is the XS model on 28
# channels with five-minute patches.
LAYOUTS: dict[str, tuple[str, int, dict[str, Any]]] = {
  "tiny": ("lsm2_xxs", 3, {"model.patch_minutes": 120}),
  "xs": ("lsm2_xs", 13, {}),
  "lsm2": ("lsm2_base", 26, {}),
}
BATCHES = 4  # different ones, used in turn; a spec with `batches` uses fewer of them
# Keeps freed memory: every step needs the same again, and fresh pages cost as much time as the arithmetic.
KEEP_MEMORY = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str(1 << 40), "MALLOC_TOP_PAD_": str(64 << 20)}


class Failure(Exception):
  """A competitor failed; the message is one line."""


# In the parent process.


def measure(
  specs: Sequence[Spec],
  layout: str,
  batch: int,
  repeats: int = 8,
  timeout: float = 1800.0,
  environment: Mapping[str, str] | None = None,
  together: bool = False,
) -> list[dict[str, Any]]:
  """One row per competitor; the row of one that fails has an `error`, and the others continue.

  Args:
    specs: competitors, see above.
    layout: a key of LAYOUTS, or CHANNELSxMINUTES.
    batch: windows per step.
    repeats: rounds, at least 5; every competitor has used all batches before the first.
    timeout: seconds that a competitor may take to prepare itself, or for a step.
    environment: environment variables of all competitors; by default KEEP_MEMORY.
    together: prepare all at once, which is faster, but makes their compile and warm-up times meaningless.
  """
  environment = KEEP_MEMORY if environment is None else environment
  with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
    path = pathlib.Path(folder) / "batches.npz"
    make = {"inputs": str(path), "layout": layout, "batch": batch}
    with Worker(make, {"JAX_PLATFORMS": "cpu"}, timeout) as maker:
      maker.ask("go")
    start = lambda spec: stack.enter_context(
      Worker({**spec, "layout": layout, "batch": batch, "path": str(path)}, environment, timeout)
    )
    rows = [_described(i, spec, layout, batch) for i, spec in enumerate(specs)]
    workers = [start(spec) for spec in specs] if together else []
    for i, spec in enumerate(specs):
      if not together:
        workers.append(start(spec))
      rows[i] |= _ask(workers[i], rows[i], "ready")
    seconds: list[list[float]] = [[] for _ in specs]
    for turn in range(repeats):
      for worker, row, times in zip(workers, rows, seconds, strict=True):
        times += _ask(worker, row, "go", turn).values()
    for worker, row, times in zip(workers, rows, seconds, strict=True):
      row |= _ask(worker, row, "end")
      if times:
        row |= {"median_s": statistics.median(times), "min_s": min(times), "max_s": max(times), "repeats": len(times)}
        row["windows_per_second"] = batch / row["median_s"]
  return rows


def layout_of(name: str) -> tuple[str, int, dict[str, Any]]:
  """(experiment, channels, config overrides) of a layout."""
  if name in LAYOUTS:
    return LAYOUTS[name]
  channels, minutes = (int(number) for number in name.split("x"))
  return "lsm2_xs", channels, {"model.patch_minutes": minutes}


def _described(index: int, spec: Spec, layout: str, batch: int) -> dict[str, Any]:
  _, channels, changes = layout_of(layout)
  tokens = channels * 1440 // changes.get("model.patch_minutes", 10)
  name = spec.get("name") or f"{index}: {spec['framework']} {spec['form']} {spec['dtype']}"
  return {
    "name": name,
    **{key: spec.get(key, "") for key in ("framework", "form", "dtype", "precision", "compiled")},
    "options": json.dumps(spec.get("options", {})),
    **{"layout": layout, "tokens": tokens, "batch": batch, "error": ""},
  }


def _ask(worker: Worker, row: dict[str, Any], *words: object) -> dict[str, Any]:
  """The worker's answer; {} if it has failed, which is then noted in its row."""
  if row["error"]:
    return {}
  try:
    return worker.ask(*words)
  except Failure as failure:
    row["error"] = str(failure)
    return {}


COLUMNS = (
  *("name", "framework", "form", "dtype", "precision", "compiled", "options", "layout", "tokens", "batch", "repeats"),
  *("median_s", "min_s", "max_s", "windows_per_second", "peak_mb", "device_peak_mb", "step_mb"),
  *("executed_gflops", "useful_gflops", "peak_gflops", "compile_s", "warmup_s", "loss", "error"),
  *("device", "cpu", "cores", "versions", "date"),
)


def write_csv(path: str | pathlib.Path, rows: Sequence[Mapping[str, Any]]) -> None:
  """Writes the rows of `measure`, with the machine and the versions of the libraries."""
  path = pathlib.Path(path)
  path.parent.mkdir(parents=True, exist_ok=True)
  versions = []
  for name in ("jax", "flax", "torch"):
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
      versions.append(f"{name} {importlib.metadata.version(name)}")
  machine = {"cpu": cpu_model(), "cores": cores(), "versions": "; ".join(versions), "date": datetime.date.today()}
  rounded = lambda x: f"{x:.5g}" if isinstance(x, float) else x
  with path.open("w", newline="") as file:
    writer = csv.DictWriter(file, COLUMNS, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows({key: rounded(value) for key, value in {**row, **machine}.items()} for row in rows)


def cpu_model() -> str:
  """The name of this machine's processor."""
  info = pathlib.Path("/proc/cpuinfo")
  lines = info.read_text().splitlines() if info.exists() else []
  models = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
  return models[0] if models else platform.processor() or platform.machine()


def cores() -> int:
  """Number of cores that this process may use."""
  return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class Worker:
  """A competitor in a process of its own, which waits for input while the others work."""

  def __init__(self, spec: Spec, environment: Mapping[str, str], timeout: float) -> None:
    self.timeout = timeout
    self.log = tempfile.TemporaryFile("w+")  # noqa: SIM115 closed by __exit__
    variables = {**os.environ, "XLA_PYTHON_CLIENT_PREALLOCATE": "false", **environment}
    self.process = subprocess.Popen(
      [sys.executable, "-m", "benchmarks.workers", json.dumps(spec)],
      cwd=ROOT,
      env=variables,
      stdin=subprocess.PIPE,
      stdout=subprocess.PIPE,
      stderr=self.log,
      text=True,
    )

  def __enter__(self) -> Worker:
    return self

  def __exit__(self, *_: object) -> None:
    self.process.kill()
    self.process.communicate()
    self.log.close()

  def ask(self, *words: object) -> dict[str, Any]:
    """Sends "ready", "go" TURN or "end" and returns the answer; Failure if it is an error or late."""
    assert self.process.stdin and self.process.stdout
    alarm = threading.Timer(self.timeout, self.process.kill)
    alarm.start()
    line = ""
    try:
      print(*words, file=self.process.stdin, flush=True)
      line = self.process.stdout.readline()
    except BrokenPipeError:
      pass
    finally:
      alarm.cancel()
    if not line:
      raise Failure(self._last_line())
    answer = json.loads(line)
    if "error" in answer:
      raise Failure(answer["error"])
    return answer

  def _last_line(self) -> str:
    code = self.process.wait()
    self.log.seek(0)
    lines = self.log.read().strip().splitlines()
    return f"ended with status {code}, within at most {self.timeout:.0f} s: {lines[-1] if lines else 'no message'}"


# In the competitors' processes.


def main(spec: dict[str, Any]) -> None:
  """Answers the lines of standard input, one at a time: ready, go TURN, end."""
  answers = os.fdopen(os.dup(1), "w")
  os.dup2(2, 1)  # anything else that is printed must not be taken for an answer
  answer = lambda message: print(json.dumps(message), file=answers, flush=True)
  try:
    if "inputs" in spec:
      sys.stdin.readline()
      return answer(write_inputs(pathlib.Path(spec["inputs"]), spec["layout"], spec["batch"]))
    with np.load(spec["path"]) as file:
      arrays = dict(file)
    started = time.perf_counter()
    step, describe = {"jax": jax_competitor, "torch": torch_competitor}[spec["framework"]](spec, arrays)
    batches = spec.get("batches", BATCHES)
    losses = [step(i) for i in range(batches)]
    for line in sys.stdin:
      word, *turn = line.split()
      if word == "ready":
        answer({"warmup_s": time.perf_counter() - started, "loss": losses[0]})
      elif word == "go":
        began = time.perf_counter()
        step(int(turn[0]) % batches)
        answer({"seconds": time.perf_counter() - began})
      else:
        return answer({"peak_mb": peak_mb(), **describe()})
  except Exception as error:
    import traceback

    traceback.print_exc()
    message = (str(error).strip().splitlines() or ["no message"])[0]
    answer({"error": f"{type(error).__name__}: {message}"})


def peak_mb() -> float:
  """The largest resident memory of this process so far, in 2^20 bytes."""
  status = pathlib.Path("/proc/self/status")
  if status.exists():  # ru_maxrss may count the parent before exec
    (line,) = [line for line in status.read_text().splitlines() if line.startswith("VmHWM")]
    return int(line.split()[1]) / 1024
  import resource

  peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
  return peak / (1 << 20 if sys.platform == "darwin" else 1024)


def make_step(layout: str, options: Mapping[str, Any]) -> tuple[Any, Any, Any]:
  """(MaskedStep, days float32 [days, steps, channels], config) of a layout with config overrides."""
  from aim.model import from_config
  from aim.model.patches import Scale
  from aim.training.masked_step import MaskedStep
  from aim.training.optimizer import make_optimizer
  from data_pipelines.schema import Schema
  from data_pipelines.simulator import Simulation

  module, channels, changes = layout_of(layout)
  config = importlib.import_module(f"experiments.{module}").get_config()
  # Nothing is computed twice unless a spec says so, so that plain memory and time are compared.
  defaults = {"model.remat": False, "optimizer.accumulate": 1, "optimizer.warmup_share": 0.0}
  config.update_from_flattened_dict({**defaults, **changes, **options})
  source = Simulation(participants=32, days=2, seed=0)
  known = len(source.schema.channels)
  named = [
    dataclasses.replace(c, name=f"{c.name}{i}") for i in range(-(-channels // known)) for c in source.schema.channels
  ]
  schema = Schema(source.schema.minutes_per_step, tuple(named[:channels]))
  days = np.stack([d.values for p in source.participants for d in source.person(p).days])
  days = np.tile(days, (1, 1, -(-channels // known)))[:, :, :channels]
  over = dict(axis=(0, 1), dtype=np.float64)
  statistics_of_days = {"mean": np.nanmean(days, **over), "std": np.nanstd(days, **over)}
  statistics_of_days |= {"min": np.nanmin(days, (0, 1)), "max": np.nanmax(days, (0, 1))}
  a = from_config.architecture(config, schema)
  config.form = from_config.form(config, a)
  step = MaskedStep(
    a,
    from_config.masking(config, schema),
    Scale.from_statistics(schema, statistics_of_days),
    make_optimizer(config.optimizer, config.total_steps),
    accumulate=config.optimizer.accumulate,
    groups=int(config.form == "packed"),
    ema=0.0,
    impute="none",
  )
  return step, days, config


def part(arrays: Mapping[str, np.ndarray], name: str) -> dict[str, np.ndarray]:
  """The arrays that write_inputs wrote under name/."""
  return {key.removeprefix(f"{name}/"): array for key, array in arrays.items() if key.startswith(f"{name}/")}


def write_inputs(path: pathlib.Path, layout: str, batch: int) -> dict[str, Any]:
  """Writes an npz with BATCHES TokenSets of simulated days, the architecture and the initial weights."""
  import jax
  import jax.numpy as jnp

  step, days, config = make_step(layout, {})
  a = step.architecture
  sizes = dataclasses.asdict(a) | {"kept": a.tokens - step.masking.dropped_count(a.channels, a.length)}
  arrays = {"architecture": np.array(json.dumps(sizes))}
  params = step.init(jax.random.key(config.seed))["params"]
  arrays |= {f"params/{name}": np.asarray(array) for name, array in params.items()}
  rng = np.random.default_rng(0)
  draw = jax.jit(step.draw)  # the tokens are its first output
  for i in range(BATCHES):
    rows = rng.choice(len(days), batch, replace=batch > len(days))
    tokens = draw(jax.random.key(0), jnp.int32(i), jnp.asarray(days[rows]))[0]
    known = {name: array for name, array in tokens._asdict().items() if array is not None}
    arrays |= {f"{i}/{name}": np.asarray(array) for name, array in known.items()}
  np.savez(path, **arrays)
  return {}


def jax_competitor(spec: Spec, arrays: Mapping[str, np.ndarray]) -> tuple[Step, Callable[[], dict[str, Any]]]:
  """Our own training step: a function of the batch number, and one that describes the step."""
  import jax
  import jax.numpy as jnp

  from aim.model import buffer_sizes, flops
  from aim.model.masking import TokenSet
  from aim.runtime import compile_options

  options = {"form": spec["form"], "model.dtype": spec["dtype"], **spec.get("options", {})}
  step, days, config = make_step(spec["layout"], options)
  sets = [jax.device_put(TokenSet(**part(arrays, str(i)))) for i in range(spec.get("batches", BATCHES))]
  a, windows = step.architecture, spec["batch"] // step.accumulate
  dropped = step.masking.dropped_count(a.channels, a.length)
  if config.form == "textbook":
    chosen = [buffer_sizes.textbook(a.tokens, dropped, a.decoder_tokens)] * len(sets)
  else:  # with buffer sizes that were chosen on other windows, as in a run
    counts = np.asarray(jax.jit(step.draw)(jax.random.key(1), jnp.int32(0), jnp.asarray(days))[2])
    ladder = buffer_sizes.ladder(
      counts, a.tokens, dropped, a.decoder_tokens, windows, step.groups, step.accumulate, config.sizes
    )
    needs = [
      buffer_sizes.needed(buffer_sizes.slot_counts(tokens, a.decoder_tokens), step.groups, step.accumulate)
      for tokens in sets
    ]
    chosen = [buffer_sizes.smallest(ladder, np.asarray(need)) for need in needs]
  train = jax.jit(step.train, static_argnums=0, donate_argnums=1, compiler_options=compile_options.compiler_options())
  state = jax.jit(step.init)(jax.random.key(config.seed))
  began = time.perf_counter()
  programs = {size: train.lower(size, state, sets[0]).compile() for size in set(chosen)}
  compile_s = (time.perf_counter() - began) / len(programs)
  useful = np.mean([flops.useful_flops(a, buffer_sizes.token_counts(tokens)) for tokens in sets])
  work = np.mean([flops.executed_flops(a, size, windows) for size in chosen]) * step.accumulate
  memory = max(program.memory_analysis().temp_size_in_bytes for program in programs.values())

  def run(i: int) -> float:
    nonlocal state
    state, metrics = programs[chosen[i]](state, sets[i])
    jax.block_until_ready(state)
    return float(metrics["loss"])

  device = jax.devices()[0]

  def describe() -> dict[str, Any]:
    peak = (device.memory_stats() or {}).get("peak_bytes_in_use")
    description = {
      "device": device.device_kind,
      "compile_s": compile_s,
      "step_mb": memory / (1 << 20),
      "executed_gflops": work / 1e9,
      "useful_gflops": float(useful) / 1e9,
      "peak_gflops": (flops.peak_flops() or 0) / 1e9 or "",
    }
    return description | ({"device_peak_mb": peak / (1 << 20)} if peak else {})

  return run, describe


def torch_competitor(spec: Spec, arrays: Mapping[str, np.ndarray]) -> tuple[Step, Callable[[], dict[str, Any]]]:
  """As jax_competitor, for a form of benchmarks/torch_aim.py with the initial weights of our model."""
  import torch

  from benchmarks import torch_aim

  device = "cuda" if torch.cuda.is_available() else "cpu"
  sizes = json.loads(str(arrays["architecture"]))
  kept, towers = sizes.pop("kept"), {name: types.SimpleNamespace(**sizes[name]) for name in ("encoder", "decoder")}
  a = types.SimpleNamespace(**{**sizes, **towers}, tokens=sizes["channels"] * sizes["length"])
  form = {"textbook": torch_aim.Textbook, "strongest": torch_aim.Strongest}[spec["form"]]
  model = form(a, kept, **spec.get("options", {}))  # type: ignore[arg-type]
  model.load(part(arrays, "params"))
  trainer = torch_aim.Trainer(model, spec.get("precision", spec["dtype"]), spec.get("compiled", False), device)
  sets = [torch_aim.Batch.of(part(arrays, str(i)), device) for i in range(BATCHES)]

  def run(i: int) -> float:
    loss = trainer.step(sets[i])
    if device == "cuda":
      torch.cuda.synchronize()
    return float(loss)

  def describe() -> dict[str, Any]:
    if device == "cpu":
      return {"device": "cpu"}
    return {"device": torch.cuda.get_device_name(), "device_peak_mb": torch.cuda.max_memory_allocated() / (1 << 20)}

  return run, describe


if __name__ == "__main__":
  main(json.loads(sys.argv[1]))
