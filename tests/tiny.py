"""Tiny days, models and runs of the real command line, for tests of whole processes."""

from __future__ import annotations

import os
import pathlib
import subprocess
import sys
import tempfile
from collections.abc import Sequence

import numpy as np

from data_pipelines.build import build, npz_request
from data_pipelines.dataset import Dataset
from data_pipelines.npz import NpzSource
from data_pipelines.splits import ListSplit

ROOT = pathlib.Path(__file__).resolve().parent.parent
CONFIG = "experiments/lsm2_tiny.py"

# Two layers, sixteen wide, on days of 24 steps: seconds, whatever the shipped config.
MODEL = {
  "model.patch_minutes": 120,
  "model.encoder.width": 16,
  "model.encoder.mlp": 32,
  "model.encoder.heads": 2,
  "model.encoder.layers": 2,
  "model.decoder.width": 16,
  "model.decoder.mlp": 32,
  "model.decoder.heads": 2,
  "model.decoder.layers": 1,
}
RUN = MODEL | {
  "batch_size": 4,
  "optimizer.accumulate": 1,
  "log.every_steps": 1,
  "evaluate.random_patch_minutes": 60,
  "evaluate.batch_size": 8,
  "evaluate.bootstrap": 20,
  "evaluate.days": 0,
}


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


def dataset(folder: pathlib.Path, name: str = "tiny", evaluated: int = 3, **arguments) -> Dataset:
  """Dataset `name` in folder/data, built from folder/NAME.npz; its last `evaluated` people are the eval split."""
  path = write_npz(folder / f"{name}.npz", **arguments)
  people = list(NpzSource(path).participants)
  cut = len(people) - evaluated
  split = ListSplit(tuple(people[:cut]), (), tuple(people[cut:]))
  return build(NpzSource(path), folder / "data", name, split=split, request=npz_request(path))


def overrides(**changes) -> list[str]:
  """RUN as flags, after `changes`, whose __ stands for a dot."""
  settings = RUN | {key.replace("__", "."): value for key, value in changes.items()}
  return [f"--config.{key}={value}" for key, value in settings.items()]


def environment() -> dict[str, str]:
  """One device, one thread, and compiled programs shared by all runs."""
  cache = pathlib.Path(tempfile.gettempdir()) / f"lsm2_aim_tests_{os.getuid()}"
  return {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"} | {
    "JAX_PLATFORMS": "cpu",
    "JAX_COMPILATION_CACHE_DIR": str(cache),
    "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    "PYTHONPATH": str(ROOT),
    "PYTHONUNBUFFERED": "1",
  }


def command(*arguments: str | pathlib.Path) -> list[str]:
  return [sys.executable, "-m", "aim.main", *map(str, arguments)]


def run(*arguments: str | pathlib.Path, cwd: pathlib.Path = ROOT) -> subprocess.CompletedProcess[str]:
  """The command line in a process of its own."""
  return subprocess.run(
    command(*arguments), cwd=cwd, env=environment(), capture_output=True, text=True, timeout=120, check=False
  )
