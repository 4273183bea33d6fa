"""A planned run: its step, buffer sizes and programs, for devices that need not be here."""

from __future__ import annotations

import concurrent.futures
import dataclasses
import functools
import os
import pathlib
import re
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np

from aim.model import buffer_sizes, flops
from aim.model.buffer_sizes import BufferSizes
from aim.planning.topology import Topology
from aim.runtime import sharding
from aim.runtime.devices import DataSheet
from aim.training.masked_step import MaskedStep
from aim.training.pretrain import TrainingRun
from data_pipelines.dataset import Dataset
from data_pipelines.errors import UserError
from data_pipelines.text_files import counted

MASKS_PER_DAY = 4  # drawn to choose the buffer sizes
PROGRESS_SECONDS = 20  # between lines of progress while compiling


@dataclasses.dataclass(frozen=True)
class Program:
  """A step compiled for one size of its buffers.

  Attributes:
    compiled: the executable; None if it does not fit into the device's memory.
    needs: bytes per device, without batches that are read ahead.
    code: how many of them the program itself takes; 0 if unknown.
    seconds: time that compiling took.
  """

  size: BufferSizes
  compiled: Any
  needs: int
  code: int
  seconds: float


class Plan(TrainingRun):
  """The planned run. Nothing of it is executed, except with --topology=local."""

  def __init__(
    self,
    config: ml_collections.ConfigDict,
    workdir: pathlib.Path,
    dataset: Dataset,
    days: np.ndarray,
    on: Topology,
    planned: jax.sharding.Mesh,
  ):
    """Plans the run.

    Args:
      days: float32 [days, steps, channels], NaN where missing; the buffer sizes are chosen from them.
      on: the hardware to compile for.
      planned: the mesh of its devices.
    """
    super().__init__(config, workdir, dataset, planned)
    self.on, self.days = on, days
    self.made: list[Program] = []
    self.device = on.sheet or measured_device(len(on.devices))
    # A key on a device here cannot be passed to a program for devices that are elsewhere.
    self.shape_of_key = jax.eval_shape(lambda: self.key)

  def sample_token_counts(self) -> np.ndarray:
    """Token counts of the windows that the buffer sizes are chosen from, int [windows, 3]; see count()."""
    return self.counts

  def count(self) -> None:
    """Draws masks for the days and counts their tokens, on a device here, whatever hardware is planned."""
    step = self.step  # with buffers for any number of windows
    step = dataclasses.replace(step, groups=0, accumulate=1) if isinstance(step, MaskedStep) else step

    def draw(key: jax.Array, i: int, values: jax.Array) -> tuple[jax.Array, jax.Array]:
      if not isinstance(step, MaskedStep):
        return step.draw(key, i, values)[2], jnp.float32(0)
      tokens, _, counts = step.draw(key, i, values)
      return counts, flops.useful_flops(step.architecture, buffer_sizes.token_counts(tokens))

    cpu = jax.local_devices(backend="cpu")[0] if self.on.name != "local" else None
    compiled = jax.jit(draw)
    with jax.default_device(cpu):
      drawn = [jax.device_get(compiled(self.key, i, self.days)) for i in range(MASKS_PER_DAY)]
    self.counts = np.concatenate([counts for counts, _ in drawn])
    self.useful = sum(float(useful) for _, useful in drawn) / len(self.counts)

  @property
  def fixed(self) -> dict[str, int]:
    """Bytes per device that do not depend on the batch: parameters, optimiser state and moving average."""
    size = lambda name: sharding.bytes_per_device(self.abstract_state[name], self.shardings[name])
    return {"parameters": size("params"), "optimizer": size("optimizer"), "average": size("ema")}

  @functools.cached_property
  def tokens(self) -> Any:
    """Shapes of the token sets of a step."""
    return self.compiled.token_shapes(self.shape_of_key, *self.batch_shapes())

  def programs(self, sizes: Sequence[BufferSizes], say: Callable[[str], None]) -> list[Program]:
    """Compiles the step for each of the sizes, several at a time, and reports progress to `say`."""
    lowered = []
    for size in sizes:
      say(f"  tracing {counted(size.encoder, 'slot')} to encode")
      lowered.append(self.compiled.lower(size, self.abstract_state, self.tokens))
    with concurrent.futures.ThreadPoolExecutor(min(len(lowered), os.cpu_count() or 1)) as pool:
      waiting = [pool.submit(_compile, *pair) for pair in zip(lowered, sizes, strict=True)]
      while concurrent.futures.wait(waiting, timeout=PROGRESS_SECONDS).not_done:
        say(f"  compiled: {sum(future.done() for future in waiting)} of {counted(len(waiting), 'program')}")
      self.made = [future.result() for future in waiting]
    return self.made

  def executed(self, size: BufferSizes) -> float:
    """FLOPs per window in buffers of this size, as flops.executed_flops counts them."""
    accumulate, batch = self.config.optimizer.accumulate, self.config.batch_size
    return flops.executed_flops(self.step.architecture, size, batch // accumulate) * accumulate / batch

  def in_form(self, form: str) -> Plan:
    """The same run in another form, with the masks that were drawn for this one."""
    config = self.config.copy_and_resolve_references()
    config.form = form
    other = Plan(config, self.workdir, self.dataset, self.days, self.on, self.mesh)
    other.counts, other.useful = self.counts, self.useful
    return other

  def parts(self, size: BufferSizes) -> dict[str, float]:
    """flops.executed_parts of buffers of this size."""
    windows = self.config.batch_size // self.config.optimizer.accumulate
    return flops.executed_parts(self.step.architecture, size, windows, self.counts)

  def recomputes(self, size: BufferSizes) -> bool:
    """True if the backward pass of the program for this size computes activations again."""
    windows = self.config.batch_size // self.config.optimizer.accumulate
    step = self.step
    return step.recomputes(size, windows) if isinstance(step, MaskedStep) else step.architecture.remat

  def textbook(self) -> float | None:
    """FLOPs per window of AIM's step as published, with N - D tokens in the encoder and all N in the decoder.

    None for a contrastive method.
    """
    a = self.step.architecture
    if not isinstance(self.step, MaskedStep):
      return None
    size = buffer_sizes.textbook(a.tokens, self.step.masking.dropped_count(a.channel_groups, a.length), "all")
    return flops.executed_flops(dataclasses.replace(a, decoder_tokens="all"), size, 1)


def _compile(lowered: Any, size: BufferSizes) -> Program:
  began = time.perf_counter()
  try:
    compiled = lowered.compile()
  except jax.errors.JaxRuntimeError as error:  # the TPU compiler refuses a program that does not fit
    return Program(size, None, overflow(str(error)), 0, time.perf_counter() - began)
  memory = compiled.memory_analysis()
  needs = memory.argument_size_in_bytes + memory.output_size_in_bytes - memory.alias_size_in_bytes
  needs += memory.temp_size_in_bytes + memory.generated_code_size_in_bytes
  return Program(size, compiled, needs, memory.generated_code_size_in_bytes, time.perf_counter() - began)


def overflow(message: str) -> int:
  """Bytes that a program would have needed, from the message with which the compiler refused it.

  Raises:
    UserError: the message is about something else.
  """
  used = re.search(r"Used ([\d.]+)([KMGT]?)i?B? of [\d.]+[KMGT]?i?B? hbm", message)
  if "RESOURCE_EXHAUSTED" not in message or not used:
    raise UserError(f"the compiler cannot build this step: {message.splitlines()[0]}")
  return int(float(used[1]) * 1024 ** " KMGT".index(used[2] or " "))


def measured_device(count: int) -> DataSheet:
  """A data sheet for a device that has none, such as a CPU, from measurements.

  Args:
    count: number of devices that JAX divides this machine into; they share what was measured.
  """
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
  return DataSheet(
    share(flops.measured_flops()), share(memory), share(bandwidth), share(bandwidth), None, share(bandwidth)
  )
