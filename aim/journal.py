"""The journal of a training run: a progress bar, metrics.jsonl, and the guard that names a bad gradient."""

from __future__ import annotations

import time
from typing import Any

import jax
import ml_collections
import numpy as np

from aim import flops, metrics
from aim.model import Architecture
from data_pipelines.schema import UserError


class TrainingError(UserError):
  """Training cannot go on."""


class Journal:
  """Told of every step one step late, so that reading its metrics never makes the device wait."""

  def __init__(
    self,
    config: ml_collections.ConfigDict,
    writer: metrics.MetricsWriter,
    architecture: Architecture,
    parameters: list[str],
    learning_rates: np.ndarray,
    start: int,
  ):
    """parameters: names in the order of metrics["bad"]; learning_rates: one a step."""
    self.config, self.writer, self.architecture = config, writer, architecture
    self.parameters, self.learning_rates = sorted(parameters), learning_rates
    self.bar = metrics.progress(config.total_steps, "pretrain", "step", initial=start)
    self.peak = flops.peak_flops()
    self.skipped = 0
    self.last: dict[str, float | None] = {}
    self._pending: tuple[int, int, dict[str, jax.Array]] | None = None
    self._start_interval()

  def _start_interval(self) -> None:
    self.clock, self.waited = time.perf_counter(), 0.0
    self.steps: list[dict[str, Any]] = []

  def compiling(self, size: int) -> None:
    self.bar.set_postfix_str(f"compiling the step for {size} visible tokens a day", refresh=True)

  def record(self, step: int, size: int, fresh: dict[str, jax.Array]) -> None:
    """Takes the metrics of `step` (encoder length `size`), still being computed, and reads those of the one before."""
    self.flush()
    self._pending = (step, size, fresh)

  def flush(self) -> None:
    """Reads the step still pending: checks it, and writes a line when an interval is full."""
    if self._pending is None:
      return
    (step, size, fresh), self._pending = self._pending, None
    values = {name: np.asarray(value) for name, value in fresh.items()}
    self._guard(step, values)
    self.steps.append(values | {"size": size})
    self.bar.update()
    if (step + 1) % self.config.log.every_steps == 0 or step + 1 == self.config.total_steps:
      self._write(step)

  def _guard(self, step: int, values: dict[str, np.ndarray]) -> None:
    if values["ok"]:
      return
    bad = [name for name, is_bad in zip(self.parameters, values["bad"], strict=True) if is_bad]
    what = f"gradient of {bad[0]}" if bad else "loss"
    line = f"step {step}: the {what} is NaN or Inf ({len(bad)} of {len(self.parameters)} gradients are)"
    if self.config.optimizer.on_nan == "stop":
      raise TrainingError(f"{line}; the update was left out. To go on past such steps: --config.optimizer.on_nan=skip")
    self.skipped += 1
    self.writer.write(step + 1, {"skipped": line})
    self.bar.write(f"{line}; skipped")

  def _write(self, step: int) -> None:
    seconds, steps = time.perf_counter() - self.clock, self.steps
    good = [values for values in steps if values["ok"]] or steps
    windows, a = self.config.batch_size, self.architecture
    visible = np.mean([values["visible_tokens"] for values in steps]) / windows
    scored = np.mean([values["scored_tokens"] for values in steps]) / windows
    size = float(np.mean([values["size"] for values in steps]))
    useful = flops.step_flops(a, windows, visible, scored) * len(steps) / seconds
    executed = flops.step_flops(a, windows, size, a.tokens) * len(steps) / seconds
    self.last = {
      "loss": float(np.mean([values["loss"] for values in good])),
      "learning_rate": float(self.learning_rates[step]),
      "gradient_norm": float(np.mean([values["gradient_norm"] for values in good])),
      "windows_per_second": windows * len(steps) / seconds,
      "seconds_per_step": seconds / len(steps),
      "data_wait_share": self.waited / seconds,
      "visible_tokens": float(visible),
      "encoder_tokens": size,
      "useful_gflops_per_second": useful / 1e9,
      "executed_gflops_per_second": executed / 1e9,
      "mfu_useful": useful / self.peak if self.peak else None,
      "mfu_hardware": executed / self.peak if self.peak else None,
      "skipped_steps": self.skipped,
      "eta_seconds": seconds / len(steps) * (self.config.total_steps - step - 1),
    }
    self.writer.write(step + 1, self.last)
    self.bar.set_postfix_str(f"loss {self.last['loss']:.3f}, {self.last['windows_per_second']:.1f} days/s")
    self._start_interval()

  def close(self) -> None:
    self.bar.close()
