"""Host overhead of the training loop: the share of its time that is not spent in the compiled functions.

  python -m benchmarks.overhead [--config=experiments/lsm2_tiny.py] [--steps=60]

Every compiled call inside the real loop is timed and waited for. This prevents the overlap of host and device that
training has, so the result is an upper bound on the overhead.
"""

from __future__ import annotations

import functools
import pathlib
import tempfile
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
from absl import app, flags
from ml_collections import config_flags

from aim import commands
from aim.runtime import sharding
from aim.training.pretrain import TrainingRun

CONFIG = config_flags.DEFINE_config_file("config", "experiments/lsm2_tiny.py")
STEPS = flags.DEFINE_integer("steps", 60, "Steps to time, after the same number of warm-up steps.")


def main(argv: Sequence[str]) -> None:
  config = CONFIG.value
  config.total_steps = 2 * STEPS.value
  config.checkpoint.every_steps = 10 * config.total_steps
  dataset = commands.open_dataset(config)
  with tempfile.TemporaryDirectory() as folder, jax.set_mesh(sharding.make_mesh(**config.mesh)):
    training = TrainingRun(config, pathlib.Path(folder), dataset)
    clock, compiled = Clock(), training.compiled
    compiled.draw, compiled.train = clock.timed(compiled.draw), clock.timed(compiled.train)  # type: ignore[method-assign]
    training.run()
  calls = clock.calls[-2 * STEPS.value :]
  inside, total = sum(end - start for start, end in calls), calls[-1][1] - calls[0][0]
  print(f"{STEPS.value} steps: {total:.2f} s, {inside:.2f} s of them in compiled functions")
  print(f"host overhead {100 * (1 - inside / total):.2f} %, {1000 * (total - inside) / STEPS.value:.2f} ms per step")


class Clock:
  """Records the start and end of every call of the functions that it wraps."""

  def __init__(self) -> None:
    self.calls: list[tuple[float, float]] = []

  def timed(self, function: Callable[..., Any]) -> Callable[..., Any]:
    """The function, which waits for its result and records the time of every call."""

    @functools.wraps(function)
    def call(*arguments: Any) -> Any:
      start = time.perf_counter()
      result = jax.block_until_ready(function(*arguments))
      self.calls.append((start, time.perf_counter()))
      return result

    return call


if __name__ == "__main__":
  app.run(main)
