"""The step's compiled programs: all of them made before the first step, none during the run."""

from __future__ import annotations

import concurrent.futures
import os
from typing import Any

import jax

from aim.common.progress import progress_bar
from aim.model.buffer_sizes import BufferSizes
from aim.runtime import compile_options, sharding
from aim.training.contrastive_step import ContrastiveStep
from aim.training.masked_step import MaskedStep

_count = 0


def _listen(event: str, duration_secs: float, **kwargs: str | int) -> None:
  global _count
  _count += event == "/jax/core/compile/backend_compile_duration"


jax.monitoring.register_event_duration_secs_listener(_listen)


def compilations() -> int:
  """Programs compiled since this one started: constant once training is under way."""
  return _count


class CompiledStep:
  """MaskedStep.draw, and MaskedStep.train for each of some sizes."""

  def __init__(self, step: MaskedStep | ContrastiveStep, shardings: Any):
    """shardings: of the train state."""
    everywhere = shardings["step"]  # every host reads the counts of all windows
    self._by_window = sharding.batch_sharding(everywhere.mesh)
    split = (self._by_window, everywhere, everywhere)
    self._draw = jax.jit(step.draw, out_shardings=split, compiler_options=compile_options.compiler_options())
    self._drawing: Any = None  # its program, compiled by the first call: all batches of a run are alike
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
    """That train() is compiled for, in the order they were given."""
    return tuple(self._programs)

  def draw(self, key: jax.Array, step: int, values: jax.Array) -> Any:
    """MaskedStep.draw of a whole batch."""
    return self.draw_program(key, values)(key, step, values)

  def draw_program(self, key: jax.Array, values: jax.Array | jax.ShapeDtypeStruct) -> Any:
    """The program that draws."""
    if self._drawing is None:
      self._drawing = self._draw.lower(key, 0, values).compile()
    return self._drawing

  def token_shapes(self, key: jax.Array, values: jax.ShapeDtypeStruct) -> Any:
    """Shapes and shardings of the token sets of such a batch; nothing is compiled."""
    shapes = jax.eval_shape(self._draw, key, 0, values)[0]
    return jax.tree.map(lambda leaf: _shape(leaf, self._by_window), shapes)

  def lower(self, size: BufferSizes, state: Any, tokens: Any) -> Any:
    """The step of that size, traced and not yet compiled, for arguments of such shapes."""
    return self._train.lower(size, jax.tree.map(_shape, state, self._shardings), tokens)

  def compile(self, sizes: tuple[BufferSizes, ...], key: jax.Array, state: Any, values: jax.ShapeDtypeStruct) -> None:
    """Compiles the step for batches of the shape and sharding of `values`, several sizes at a time, with a bar."""
    tokens = self.token_shapes(key, values)
    self.draw_program(key, values)
    lowered = {size: self.lower(size, state, tokens) for size in sizes}
    with (
      progress_bar(len(sizes), "compiling the step", "size") as bar,
      concurrent.futures.ThreadPoolExecutor(min(len(sizes), os.cpu_count() or 1)) as pool,
    ):
      waiting = {size: pool.submit(low.compile) for size, low in lowered.items()}
      for done in concurrent.futures.as_completed(waiting.values()):
        done.result()  # an error ends the waiting
        bar.update()
    self._programs = {size: done.result() for size, done in waiting.items()}

  def train(self, size: BufferSizes, state: Any, tokens: Any) -> tuple[Any, dict[str, jax.Array]]:
    """One update by the program of that size. The state given is used up."""
    return self._programs[size](state, tokens)


def _shape(leaf: Any, placement: jax.sharding.Sharding) -> jax.ShapeDtypeStruct:
  return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=placement)
