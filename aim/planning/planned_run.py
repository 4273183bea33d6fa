"""A run that is planned: its step, sizes and programs for devices that need not be here."""

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

MASKS = 4  # drawn of each day
WORD = 20  # seconds between words while compiling


@dataclasses.dataclass(frozen=True)
class Program:
  """A compiled step, or None and what it would have needed where it does not fit.

  Attributes:
    needs: bytes of a device, without what is read ahead.
    code: bytes of them that the program itself takes; 0 where it is not known.
  """

  size: BufferSizes
  compiled: Any
  needs: int
  code: int
  seconds: float


class Plan(TrainingRun):
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
    self.device = on.sheet or measured_device(len(on.devices))
    # Keys that are here cannot be given to programs for devices that are not.
    self.shape_of_key = jax.eval_shape(lambda: self.key)

  def sample(self) -> np.ndarray:
    return self.counts

  def count(self) -> None:
    """Draws masks on the device that is here, whatever the plan is for."""
    step = self.step  # of any number of windows
    step = dataclasses.replace(step, groups=0, accumulate=1) if isinstance(step, MaskedStep) else step
    draw = jax.jit(lambda key, i, values: step.draw(key, i, values)[2])
    cpu = jax.local_devices(backend="cpu")[0] if self.on.name != "local" else None
    with jax.default_device(cpu):
      self.counts = np.concatenate([np.asarray(draw(self.key, i, self.days)) for i in range(MASKS)])
    useful = 0.0
    if isinstance(self.step, MaskedStep):
      useful = float(flops.useful_flops(self.step.architecture, jnp.asarray(self.counts))) / len(self.counts)
    self.useful = useful

  @property
  def fixed(self) -> dict[str, int]:
    """Bytes of a device that do not depend on the batch."""
    size = lambda name: sharding.bytes_per_device(self.abstract_state[name], self.shardings[name])
    return {"parameters": size("params"), "optimizer": size("optimizer"), "average": size("ema")}

  @functools.cached_property
  def tokens(self) -> Any:
    """Shapes of a step's token sets."""
    return self.compiled.token_shapes(self.shape_of_key, self.batch_shape())

  def programs(self, wanted: Sequence[BufferSizes], say: Callable[[str], None]) -> list[Program]:
    """The steps of such sizes, several compiled at a time."""
    lowered = []
    for size in wanted:
      say(f"  tracing {size.encoder} rows to encode")
      lowered.append(self.compiled.lower(size, self.abstract_state, self.tokens))
    with concurrent.futures.ThreadPoolExecutor(min(len(lowered), os.cpu_count() or 1)) as pool:
      waiting = [pool.submit(_compile, *pair) for pair in zip(lowered, wanted, strict=True)]
      while concurrent.futures.wait(waiting, timeout=WORD).not_done:
        say(f"  {sum(one.done() for one in waiting)} of {len(waiting)} programs are compiled")
      self.made = [one.result() for one in waiting]
    return self.made

  def executed(self, size: BufferSizes) -> float:
    """FLOPs of a window in the buffers of that size, as flops.executed_flops counts."""
    accumulate, batch = self.config.optimizer.accumulate, self.config.batch_size
    return flops.executed_flops(self.step.architecture, size, batch // accumulate) * accumulate / batch

  def textbook(self) -> float | None:
    """Of AIM's step as published: N - D tokens in the encoder, all in the decoder."""
    a = self.step.architecture
    if not isinstance(self.step, MaskedStep):
      return None
    size = buffer_sizes.textbook(a.tokens, self.step.masking.dropped_count(a.channel_groups, a.length), "all")
    return flops.executed_flops(dataclasses.replace(a, decoder_tokens="all"), size, 1)


def _compile(lowered: Any, size: BufferSizes) -> Program:
  began = time.perf_counter()
  try:
    compiled = lowered.compile()
  except jax.errors.JaxRuntimeError as error:  # TPU's compiler refuses what does not fit
    return Program(size, None, overflow(str(error)), 0, time.perf_counter() - began)
  m = compiled.memory_analysis()
  needs = m.argument_size_in_bytes + m.output_size_in_bytes - m.alias_size_in_bytes
  needs += m.temp_size_in_bytes + m.generated_code_size_in_bytes
  return Program(size, compiled, needs, m.generated_code_size_in_bytes, time.perf_counter() - began)


def overflow(message: str) -> int:
  """Bytes that a program would have needed, from the compiler's refusal; UserError with any other complaint."""
  used = re.search(r"Used ([\d.]+)([KMGT]?)i?B? of [\d.]+[KMGT]?i?B? hbm", message)
  if "RESOURCE_EXHAUSTED" not in message or not used:
    raise UserError(f"the compiler cannot make this step: {message.splitlines()[0]}")
  return int(float(used[1]) * 1024 ** " KMGT".index(used[2] or " "))


def measured_device(count: int) -> DataSheet:
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
  return DataSheet(
    share(flops.measured_flops()), share(memory), share(bandwidth), share(bandwidth), None, share(bandwidth)
  )
