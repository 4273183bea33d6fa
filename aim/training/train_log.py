"""The log of a training run: progress bar, lines of metrics.jsonl, and the guard that names a bad gradient."""

from __future__ import annotations

import collections
import math
import statistics
import time
from collections.abc import Iterable, Mapping
from typing import Any

import jax
import ml_collections
import numpy as np
from jax.experimental import multihost_utils
from jaxtyping import Float

from aim.common.progress import progress_bar
from aim.model import flops
from aim.model.buffer_sizes import BufferSizes
from aim.model.lsm2 import Architecture
from aim.runtime import processes
from aim.training.compiled_step import compilations
from aim.training.metrics_writer import MetricsWriter
from data_pipelines.errors import UserError
from data_pipelines.text_files import counted, plain_number

DIVERGED = "diverged"  # in metrics.jsonl
SMOOTHED = 20  # steps
RISE = 3.0


class TrainingError(UserError):
  """Training cannot go on: the loss, a gradient or an update is NaN or Inf."""


class Divergence:
  """Notices a loss that is finite but grows, as with too high a learning rate, and reports it once per run.

  The loss is smoothed as the median of the last SMOOTHED steps, which a few odd batches do not move. It diverges when
  that is more than RISE times its lowest so far, the loss of the first step included, and above what no training gives:
  1 for a reconstruction (0, the mean of z-scores, everywhere), the loss of the first step otherwise.
  """

  def __init__(self, config: ml_collections.ConfigDict, earlier: Iterable[Mapping[str, Any]]):
    """Starts from the lines of metrics.jsonl before a resumed run's first step.

    Args:
      config: the whole experiment config.
      earlier: those lines.
    """
    lines = list(earlier)
    self.optimizer = config.optimizer
    self.reported = any(DIVERGED in line for line in lines)
    losses = [float(line["loss"]) for line in lines if line.get("loss") is not None]
    self.lowest = min(losses, default=math.inf)
    self.untrained = 1.0 if config.method == "mae" else losses[0] if losses else math.inf
    self.recent: collections.deque[float] = collections.deque(maxlen=SMOOTHED)

  def add(self, step: int, loss: float) -> str | None:
    """Takes the loss of a step, counted from 0; returns the line to report, or None."""
    if self.reported:
      return None
    if math.isinf(self.untrained):
      self.untrained = loss
    if math.isinf(self.lowest):
      self.lowest = loss
    self.recent.append(loss)
    if len(self.recent) < SMOOTHED:
      return None
    smoothed = statistics.median_low(self.recent)
    if smoothed <= max(RISE * self.lowest, self.untrained):
      self.lowest = min(self.lowest, smoothed)
      return None
    self.reported = True
    return (
      f"step {step + 1}: the loss diverges: {plain_number(smoothed)} (median of {SMOOTHED} steps), after "
      f"{plain_number(self.lowest)} at best, and {plain_number(self.untrained)} without any training; lower "
      f"config.optimizer.learning_rate (now {self.optimizer.learning_rate:g}) or config.optimizer.clip_norm "
      f"(now {self.optimizer.clip_norm:g})"
    )


class TrainLog:
  """Records every step's metrics, one step late, so that reading them never makes the device wait.

  Attributes:
    waited: seconds that the loop waited for data since the last line; the loop adds to it.
    corrupt: days of this process so far that stand in for one that cannot be read; the loop adds to it.
    last: the last line written, {name: value}.
  """

  def __init__(
    self,
    config: ml_collections.ConfigDict,
    writer: MetricsWriter,
    architecture: Architecture,
    parameters: list[str],
    learning_rates: Float[np.ndarray, " steps"],
    start: int,
    earlier: Iterable[Mapping[str, Any]] = (),
  ):
    """Starts the progress bar.

    Args:
      config: the whole experiment config.
      writer: gets the lines.
      architecture: for FLOP counts.
      parameters: their names; sorted, they are in the order of metrics["bad"].
      learning_rates: one per step of the run.
      start: steps completed before.
      earlier: the lines of metrics.jsonl of those steps.
    """
    self.divergence = Divergence(config, earlier)
    self.config, self.writer, self.architecture = config, writer, architecture
    self.parameters, self.learning_rates = sorted(parameters), learning_rates
    self.bar = progress_bar(config.total_steps, "pretrain", "step", initial=start)
    self.peak = flops.peak_flops()
    self.skipped = self.read = 0
    self.reason = ""
    self.corrupt = 0
    self.last: dict[str, float | None] = {}
    self._pending: tuple[int, BufferSizes, dict[str, jax.Array]] | None = None
    self._start_interval()

  def _start_interval(self) -> None:
    self.clock, self.waited = time.perf_counter(), 0.0
    self.steps: list[dict[str, Any]] = []

  def record(self, step: int, sizes: BufferSizes, metrics: dict[str, jax.Array]) -> None:
    """Accepts the metrics of `step`, which may still be computing, and reads those of the step before.

    Raises:
      TrainingError: the step before had a bad gradient or loss and config.optimizer.on_nan is "stop".
    """
    self.flush()
    self._pending = (step, sizes, metrics)

  def flush(self) -> None:
    """Reads and checks the pending step, and writes a line if it completes an interval (log.every_steps).

    Raises:
      TrainingError: as in record().
    """
    if self._pending is None:
      return
    (step, sizes, metrics), self._pending = self._pending, None
    values = {name: np.asarray(value) for name, value in metrics.items()}
    self.read += 1
    self._guard(step, values)
    if values["ok"] and (line := self.divergence.add(step, float(values["loss"]))):
      self.writer.write(step + 1, {DIVERGED: line})
      self.say(line)
    self.steps.append(values | {"sizes": sizes})
    self.bar.update()
    if (step + 1) % self.config.log.every_steps == 0 or step + 1 == self.config.total_steps:
      self._write(step)

  def check_learnt(self) -> None:
    """Refuses to save what no step has changed.

    Raises:
      TrainingError: every step since the start was skipped.
    """
    if self.read and self.skipped == self.read:
      raise TrainingError(
        f"all {counted(self.read, 'step')} of this run were skipped, so nothing was learnt and nothing is saved; "
        f"the last one, {self.reason}"
      )

  def _guard(self, step: int, values: dict[str, np.ndarray]) -> None:
    if values["ok"]:
      return
    bad = [name for name, is_bad in zip(self.parameters, values["bad"], strict=True) if is_bad]
    what = f"gradient of {bad[0]}" if bad else "update" if np.isfinite(values["loss"]) else "loss"
    line = f"step {step}: the {what} is NaN or Inf ({len(bad)} of {len(self.parameters)} gradients are)"
    if self.config.optimizer.on_nan == "stop":
      raise TrainingError(f"{line}; the update was left out. To go on past such steps: --config.optimizer.on_nan=skip")
    self.skipped += 1
    self.reason = line
    self.writer.write(step + 1, {"skipped": line})
    self.bar.write(f"{line}; skipped")

  def _write(self, step: int) -> None:
    seconds, steps = time.perf_counter() - self.clock, self.steps
    good = [values for values in steps if values["ok"]] or steps
    config, a = self.config, self.architecture
    windows, accumulate = config.batch_size, config.optimizer.accumulate
    visible = float(np.sum([values["visible_tokens"] for values in steps]))
    executed = accumulate * np.sum([flops.executed_flops(a, v["sizes"], windows // accumulate) for v in steps])
    useful = float(np.sum([values["useful_flops"] for values in steps]))
    slots = accumulate * np.sum([v["sizes"].encoder * (v["sizes"].groups or windows // accumulate) for v in steps])
    self.last = {
      "loss": float(np.mean([values["loss"] for values in good])),
      "learning_rate": float(self.learning_rates[step]),
      "gradient_norm": float(np.mean([values["gradient_norm"] for values in good])),
      "windows_per_second": windows * len(steps) / seconds,
      "tokens_per_second": visible / seconds,
      "seconds_per_step": seconds / len(steps),
      "data_wait_share": self.waited / seconds,
      "visible_tokens": visible / (windows * len(steps)),
      "padding_share": 1 - visible / slots,
      "useful_flops_share": useful / executed,
      "useful_gflops_per_second": useful / seconds / 1e9,
      "executed_gflops_per_second": executed / seconds / 1e9,
      "mfu_useful": useful / seconds / self.peak if self.peak else None,
      "mfu_executed": executed / seconds / self.peak if self.peak else None,
      "compilations": compilations(),
      "skipped_steps": self.skipped,
      "corrupt_days": self._all_corrupt_days(),
      "eta_seconds": seconds / len(steps) * (self.config.total_steps - step - 1),
    }
    if "embedding_spread" in steps[0]:
      self.last["embedding_spread"] = float(np.mean([values["embedding_spread"] for values in good]))
    self.writer.write(step + 1, self.last)
    speed = (
      f"{100 * useful / seconds / self.peak:.0f} % MFU" if self.peak else f"{useful / seconds / 1e9:.0f} useful GFLOP/s"
    )
    self.bar.set_postfix_str(f"loss {self.last['loss']:.3f}, {self.last['windows_per_second']:.1f} days/s, {speed}")
    self._start_interval()

  def write_heldout(self, step: int, name: str, loss: float, seconds: float, turned: str | None) -> None:
    """Writes a line with the held-out loss after so many completed steps, once the lines of those steps are written.

    Args:
      step: steps completed.
      name: of the loss.
      loss: the loss.
      seconds: time that scoring took, which does not count as training.
      turned: a line to print; None for none.
    """
    self.writer.write(step, {name: loss, "heldout_seconds": seconds})
    self.clock += seconds
    self.say(turned)

  def say(self, line: str | None) -> None:
    """Prints a line above the progress bar; None is no line."""
    if line:
      self.bar.write(line)

  def _all_corrupt_days(self) -> int:
    """`corrupt` summed over all processes, which all call this at the same step; there are none unless on_corrupt is
    "skip"."""
    if self.config.data.on_corrupt == "stop" or not processes.is_multi_process():
      return self.corrupt
    return int(multihost_utils.process_allgather(np.int32(self.corrupt)).sum())

  def close(self) -> None:
    """Closes the progress bar."""
    self.bar.close()
