"""A trace of some steps of a run, for TensorBoard and XProf: config.log.profile_steps."""

from __future__ import annotations

import contextlib
import pathlib
from typing import Any

import jax
import ml_collections

from aim.common.config_files import ConfigError
from aim.runtime import processes

NAME = "train"  # of a step in the trace


def span(text: str, total_steps: int) -> tuple[int, int] | None:
  """The first and the last step of FIRST:LAST; None for an empty text.

  Raises:
    ConfigError: the run has no such steps.
  """
  if not text:
    return None
  first, last = map(int, text.split(":"))
  if not first <= last <= total_steps:
    raise ConfigError(
      f"config.log.profile_steps is {text!r}, expected steps FIRST:LAST of the run, from 1 to config.total_steps, "
      f"{total_steps}, in this order"
    )
  return first, last


class StepProfile:
  """Traces the steps FIRST to LAST, numbered as in metrics.jsonl, into WORKDIR/profile.

  Only the first process writes, about the devices of its host. A run that goes on inside the span traces what is left.
  """

  def __init__(self, config: ml_collections.ConfigDict, workdir: pathlib.Path, start: int):
    """Prints a line if the span has passed.

    Args:
      config: the whole experiment config.
      workdir: of the run.
      start: steps completed before.
    """
    self.folder = workdir / "profile"
    self._span = span(config.log.profile_steps, config.total_steps) if processes.is_first_process() else None
    self._running = False
    if self._span and self._span[1] <= start:
      text = config.log.profile_steps
      print(f"config.log.profile_steps is {text}: this run goes on from step {start}, so there is no trace")
      self._span = None

  def step(self, number: int) -> contextlib.AbstractContextManager[Any]:
    """Around the dispatch of a step: starts the trace at the first one of the span, and names the step in it."""
    if self._span is None or not self._span[0] <= number <= self._span[1]:
      return contextlib.nullcontext()
    if not self._running:
      options = jax.profiler.ProfileOptions()
      options.python_tracer_level = 0  # every call of Python would hide the steps
      jax.profiler.start_trace(self.folder, profiler_options=options)
      self._running = True
    return jax.profiler.StepTraceAnnotation(NAME, step_num=number)

  def end(self, number: int, results: Any) -> str | None:
    """After a step: if it is the last of the span, waits for its `results` and writes the trace.

    Returns:
      A line that says where the trace is, if it has been written.
    """
    if not self._running or self._span is None or number < self._span[1]:
      return None
    jax.block_until_ready(results)
    return self.close()

  def close(self) -> str | None:
    """Writes the trace of a run that ends inside the span; returns as end()."""
    if not self._running:
      return None
    self._running = False
    jax.profiler.stop_trace()
    return f"trace of steps: {self.folder}; tensorboard --logdir={self.folder} shows it (with the package xprof)"
