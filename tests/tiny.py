"""Tiny days, models and runs of the real command line, for tests of whole processes."""

from __future__ import annotations

import atexit
import collections
import dataclasses
import functools
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from aim.model import from_config
from aim.model.lsm2 import Architecture, Tower
from aim.model.masking import Masking
from data_pipelines.build import build, npz_request
from data_pipelines.dataset import Dataset
from data_pipelines.errors import CorruptError
from data_pipelines.lsm2_schema import LSM2_SCHEMA
from data_pipelines.npz import NpzSource
from data_pipelines.splits import ListSplit
from experiments import default

ROOT = pathlib.Path(__file__).resolve().parent.parent
CONFIG = "experiments/lsm2_tiny.py"
HANGS_AFTER_SECONDS = 1200  # a tiny run takes some seconds, and several minutes where many programs share two cores

# One layer, 16 wide, on days of 24 steps: a run of any shipped config takes seconds.
MODEL = {
  "model.patch_minutes": 120,
  "model.encoder.width": 16,
  "model.encoder.mlp": 32,
  "model.encoder.heads": 2,
  "model.encoder.layers": 1,
  "model.decoder.width": 16,
  "model.decoder.mlp": 32,
  "model.decoder.heads": 2,
  "model.decoder.layers": 1,
}
RUN = MODEL | {
  "total_steps": 6,
  "batch_size": 4,
  "evaluate_every": 0,  # saves compiling; tests of the held-out loss turn it on
  "optimizer.accumulate": 1,
  "optimizer.ema": 0.9,
  "form": "textbook",
  "masking.random.unit_minutes": 0,
  "masking.gaps.weight": 0,
  "log.every_steps": 1,
  "evaluate.random_patch_minutes": 60,
  "evaluate.batch_size": 8,
  "evaluate.bootstrap": 20,
  "evaluate.days": 0,
}


def masking(weights: Sequence[float], **changes: Any) -> Masking:
  """The default masking of one-minute steps with these weights of random, temporal, sensor and gaps, and `changes`."""
  return dataclasses.replace(_published()[0], weights=tuple(map(float, weights)), **changes)


def architecture(
  channels: int, length: int, patch: int, encoder: Tower, decoder: Tower, **changes: Any
) -> Architecture:
  """The default architecture of these sizes, on continuous channels, by plain attention in float32, with `changes`."""
  plain = {"binary": (False,) * channels, "attention": "xla", "dtype": "float32", "remat": False, "scan_layers": False}
  sizes = {"channels": channels, "length": length, "patch": patch, "encoder": encoder, "decoder": decoder}
  sizes["places"] = tuple(range(channels))
  return dataclasses.replace(_published()[1], **{**plain, **sizes, **changes})


@functools.cache
def _published() -> tuple[Masking, Architecture]:
  config = default.get_config()
  return from_config.masking(config, LSM2_SCHEMA), from_config.architecture(config, LSM2_SCHEMA)


def arrays(
  people: int = 8, days: int = 2, channels: Sequence[str] = ("pulse", "steps", "asleep"), minutes_per_step: int = 60
) -> dict[str, np.ndarray]:
  """Days in the npz layout: smooth rhythms with holes; a channel named asleep is binary."""
  rng = np.random.default_rng(people * 100 + days)
  rows, steps = people * days, 1440 // minutes_per_step
  clock = 2 * np.pi * np.arange(steps) / steps
  shift = rng.uniform(0, 1, (rows, 1, len(channels)))
  values = 60 + 10 * np.sin(clock[None, :, None] + shift) + rng.normal(0, 1, (rows, steps, len(channels)))
  for c, name in enumerate(channels):
    if name == "asleep":
      values[:, :, c] = np.sin(clock + shift[:, :, c]) > 0
  values = values.astype(np.float32)
  for row in values:
    start = rng.integers(0, steps // 2)
    row[start : start + steps // 4, rng.integers(len(channels))] = np.nan
  values[rng.random(values.shape) < 0.1] = np.nan
  return {
    "values": values,
    "channels": np.array(channels),
    "participant": np.array([f"p{row // days}" for row in range(rows)]),
    "day": np.array([row % days for row in range(rows)]),
    "date": np.array([f"2024-01-{1 + row % days:02d}" for row in range(rows)]),
    "minutes_per_step": np.int64(minutes_per_step),
    "labels": np.array('{"p0": {"age": 40}}'),
  }


def write_npz(path: pathlib.Path, **arguments) -> pathlib.Path:
  np.savez(path, **arrays(**arguments))
  return path


def dataset(folder: pathlib.Path, name: str = "tiny", evaluated: int = 3, tuned: int = 0, **arguments) -> Dataset:
  """Dataset `name` in folder/data, built from folder/NAME.npz.

  Its last `evaluated` people are the eval split, and the `tuned` before them the tune split.
  """
  path = write_npz(folder / f"{name}.npz", **arguments)
  people = list(NpzSource(path).participants)
  cut = len(people) - evaluated
  split = ListSplit(tuple(people[: cut - tuned]), tuple(people[cut - tuned : cut]), tuple(people[cut:]))
  return build(NpzSource(path), folder / "data", name, split=split, request=npz_request(path))


class BrokenDays:
  """Days of which one cannot be read, and which count how often they are."""

  def __init__(self, days, broken):
    self.days, self.broken, self.reads = days, broken, collections.Counter()

  def __getitem__(self, place):
    self.reads[place] += 1
    if place == self.broken:
      raise CorruptError(f"shard: record {place} cannot be read")
    return self.days[place]


def without_digests(dataset: Dataset) -> None:
  """Makes a dataset one that was built before there were digests."""
  (dataset.path / "digests.json").unlink()
  request = dataset.path / "request.json"
  request.write_text(
    json.dumps({key: value for key, value in json.loads(request.read_text()).items() if key != "digests"})
  )


def overrides(**changes) -> list[str]:
  """RUN with `changes` as flags; __ stands for a dot."""
  settings = RUN | {key.replace("__", "."): value for key, value in changes.items()}
  return [f"--config.{key}={value}" for key, value in settings.items()]


def on(dataset: Dataset) -> list[str]:
  """The flags that name a dataset."""
  return [f"--config.data.dir={dataset.path.parents[2]}", f"--config.data.name={dataset.name}"]


def environment() -> dict[str, str]:
  """Environment variables for one device and a cache of compiled programs that all runs and test runs share."""
  cache = jax.config.jax_compilation_cache_dir or f"{tempfile.gettempdir()}/lsm2_aim_tests_{os.getuid()}"
  return os.environ | {
    "JAX_PLATFORMS": "cpu",
    "JAX_COMPILATION_CACHE_DIR": cache,
    "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    "PYTHONPATH": os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]),
    "PYTHONUNBUFFERED": "1",
  }


def start(
  *arguments: str | pathlib.Path, cwd: pathlib.Path = ROOT, devices: int = 1, variables: Mapping[str, str] | None = None
) -> subprocess.Popen[str]:
  """Starts the command line in a process of its own, with these environment variables."""
  command = [sys.executable, "-m", "aim.main", *map(str, arguments)]
  pipe = subprocess.PIPE
  environ = environment() | {"JAX_NUM_CPU_DEVICES": str(devices)} | dict(variables or {})
  return subprocess.Popen(command, cwd=cwd, env=environ, stdout=pipe, stderr=pipe, text=True)


class Ended(NamedTuple):
  """Exit code and output of a process that has ended."""

  code: int
  out: str
  err: str


def wait(process: subprocess.Popen[str]) -> Ended:
  out, err = process.communicate(timeout=HANGS_AFTER_SECONDS)
  return Ended(process.returncode, out, err)


def run(
  *arguments: str | pathlib.Path, cwd: pathlib.Path = ROOT, devices: int = 1, variables: Mapping[str, str] | None = None
) -> Ended:
  """Runs the command line in a fork of a process that has done its imports, which saves the seconds they take."""
  with tempfile.TemporaryDirectory() as folder:
    paths = [pathlib.Path(folder) / name for name in ("out", "err")]
    task = {"arguments": arguments, "cwd": cwd, "paths": paths, "devices": devices, "variables": variables or {}}
    server = _server()
    server.stdin.write(json.dumps(task, default=str) + "\n")
    server.stdin.flush()
    code = int(server.stdout.readline())
    return Ended(code, *(path.read_text() for path in paths))


@functools.cache
def _server() -> subprocess.Popen[str]:
  command = [sys.executable, "-c", "from tests import tiny; tiny.serve()"]
  pipe = subprocess.PIPE
  server = subprocess.Popen(command, cwd=ROOT, env=environment(), stdin=pipe, stdout=pipe, text=True)
  atexit.register(server.stdin.close)
  return server


def serve() -> None:
  """Runs the command lines on standard input, each in a fork of this process, and answers with exit codes."""
  import orbax.checkpoint.experimental.v1  # noqa: F401
  import pyarrow.parquet  # noqa: F401

  import aim.evaluation.finetuning.run
  import aim.evaluation.generative.run
  import aim.evaluation.probing.robustness
  import aim.inference.commands
  import aim.main
  import aim.training.pretrain
  import data_pipelines.simulator  # noqa: F401

  for line in sys.stdin:
    task = json.loads(line)
    child = os.fork()
    if child == 0:
      os._exit(_serve(aim.main.run, task))
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)


def _serve(program, task) -> int:
  os.chdir(task["cwd"])
  for stream, path in zip((1, 2), task["paths"], strict=True):
    os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT), stream)
  sys.argv = ["aim.main", *task["arguments"]]
  os.environ.update(task["variables"])
  jax.config.update("jax_num_cpu_devices", task["devices"])
  code = 0
  try:
    program()
  except SystemExit as end:
    code = end.code or 0
  except BaseException:
    traceback.print_exc()
    code = 1
  sys.stdout.flush()
  sys.stderr.flush()
  return code
