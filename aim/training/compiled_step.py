"""The step's compiled programs: all of them are made before the first step and none during the run."""

from __future__ import annotations

import concurrent.futures
import math
import os
import time
from typing import Any

import jax

from aim.common.progress import progress_bar
from aim.model.buffer_sizes import BufferSizes
from aim.runtime import compile_options, sharding
from aim.runtime.compile_time import compile_seconds
from aim.training.contrastive_step import ContrastiveStep
from aim.training.masked_step import MaskedStep
from aim.training.train_state import TrainState
from data_pipelines.text_files import counted

NOTABLE_SECONDS = 10  # compiling that takes longer is announced
_count = 0


def _listen(event: str, duration_secs: float, **kwargs: str | int) -> None:
  global _count
  _count += event == "/jax/core/compile/backend_compile_duration"


jax.monitoring.register_event_duration_secs_listener(_listen)


def compilations() -> int:
  """Number of programs this process has compiled so far; it stays constant once training is under way."""
  return _count


class CompiledStep:
  """A step's draw() as one compiled program, and its train() as one per buffer size."""

  def __init__(self, step: MaskedStep | ContrastiveStep, shardings: Any):
    """Wraps the step in jit; nothing is compiled yet.

    Args:
      step: what to compile.
      shardings: placements of the train state.
    """
    replicated = shardings["step"]  # every process reads the counts of all windows
    self._by_window = sharding.batch_sharding(replicated.mesh)
    draw_shardings = (self._by_window, replicated, replicated)
    self._draw = jax.jit(step.draw, out_shardings=draw_shardings, compiler_options=compile_options.compiler_options())
    self._compiled_draw: Any = None  # made by the first call, because all batches of a run have the same shape
    self._train = jax.jit(
      step.train,
      static_argnums=0,
      donate_argnums=1,
      out_shardings=(shardings, None),
      compiler_options=compile_options.compiler_options(),
    )
    self._shardings = shardings
    self._programs: dict[BufferSizes, Any] = {}

  @property
  def sizes(self) -> tuple[BufferSizes, ...]:
    """The sizes that train() is compiled for, in the order in which compile() got them."""
    return tuple(self._programs)

  def draw(self, key: jax.Array, step: int, *batch: jax.Array) -> Any:
    """The step's draw() on a whole batch, arrays [batch_size, steps per day, channels]."""
    return self.draw_program(key, *batch)(key, step, *batch)

  def draw_program(self, key: jax.Array, *batch: jax.Array | jax.ShapeDtypeStruct) -> Any:
    """The compiled draw() for arguments of such shapes."""
    if self._compiled_draw is None:
      self._compiled_draw = self._draw.lower(key, 0, *batch).compile()
    return self._compiled_draw

  def token_shapes(self, key: jax.Array, *batch: jax.ShapeDtypeStruct) -> Any:
    """Shapes and shardings of the token sets of a batch shaped like this one; nothing is compiled."""
    shapes = jax.eval_shape(self._draw, key, 0, *batch)[0]
    return jax.tree.map(lambda leaf: _shape(leaf, self._by_window), shapes)

  def lower(self, size: BufferSizes, state: TrainState, tokens: Any) -> Any:
    """train() in buffers of that size, traced for arguments of such shapes and not yet compiled."""
    return self._train.lower(size, jax.tree.map(_shape, state, self._shardings), tokens)

  def compile(
    self, sizes: tuple[BufferSizes, ...], key: jax.Array, state: TrainState, *batch: jax.ShapeDtypeStruct
  ) -> None:
    """Compiles draw() and, several sizes at a time, train(); shows a progress bar.

    If that takes long, a line says so once the first program is compiled, and how long it took at the end.

    Args:
      sizes: buffer sizes to compile train() for.
      key: any key.
      state: a train state or its shapes.
      batch: shapes and shardings of the arrays of a batch.
    """
    compiled_before = compile_seconds()
    tokens = self.token_shapes(key, *batch)
    self.draw_program(key, *batch)
    lowered = {size: self.lower(size, state, tokens) for size in sizes}
    workers = min(len(sizes), os.cpu_count() or 1)
    began = time.perf_counter()
    with (
      progress_bar(len(sizes), "compiling the step", "size", of_compiling=True) as bar,
      concurrent.futures.ThreadPoolExecutor(workers) as pool,
    ):
      futures = {size: pool.submit(program.compile) for size, program in lowered.items()}
      for future in concurrent.futures.as_completed(futures.values()):
        future.result()  # an error ends the wait
        bar.update()
        first = time.perf_counter() - began
        left = first * (math.ceil(len(sizes) / workers) - 1)
        if bar.n == 1 and left > NOTABLE_SECONDS:  # a bar that is not shown does not count
          bar.write(
            f"compiling: one of {counted(len(sizes), 'program')} took {first:.0f} s; "
            f"the others take about {left:.0f} s more"
          )
      seconds = compile_seconds() - compiled_before
      if bar.n and seconds > NOTABLE_SECONDS:
        bar.write(f"compiled {len(sizes)} program{'s' * (len(sizes) > 1)} in {seconds:.0f} s")
    self._programs = {size: future.result() for size, future in futures.items()}

  def train(self, size: BufferSizes, state: TrainState, tokens: Any) -> tuple[TrainState, dict[str, jax.Array]]:
    """The step's train() by the program of that size; `state` is donated and cannot be used afterwards."""
    return self._programs[size](state, tokens)


def _shape(leaf: Any, placement: jax.sharding.Sharding) -> jax.ShapeDtypeStruct:
  return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=placement)
