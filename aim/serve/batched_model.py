"""A trained model whose days, from many threads, are computed together in batches of a few shapes compiled before."""

from __future__ import annotations

import concurrent.futures
import dataclasses
import itertools
import math
import os
import pathlib
import threading
import time
from collections.abc import Callable, Collection, Sequence
from typing import Any

import jax
import numpy as np
from jaxtyping import Bool, Shaped

from aim.common.config_files import ConfigError
from aim.common.progress import progress_bar
from aim.inference.pretrained import Pretrained
from aim.model import patches
from aim.model.buffer_sizes import BufferSizes
from aim.training import checkpoint
from aim.training.trained import source
from data_pipelines.channels import vocabulary
from data_pipelines.errors import is_number

EMBED, IMPUTE = FUNCTIONS = ("embed", "impute")
# Eighths of a day's tokens that buffers are compiled for. Full batches of days to embed have more of them, because
# there padding costs most.
_FINE, _COARSE = range(1, 9), (4, 8)


@dataclasses.dataclass(eq=False)
class _Job:
  """The days of one call of map_days(), and where their results go."""

  name: str
  function: Callable[..., Any]
  values: Shaped[np.ndarray, "days steps channels"]
  whole_day: bool
  target: Bool[np.ndarray, "days steps channels"] | None
  more: tuple[Shaped[np.ndarray, "days ..."], ...]
  arrived: float
  result: concurrent.futures.Future


class BatchedModel(Pretrained):
  """A Pretrained for many threads at once; its methods give the same results.

  Each call waits for its days. A thread of the model takes the calls that wait for the same function, as many as fill a
  batch, in the order in which they came; while it computes, the next ones gather.
  """

  def __init__(
    self,
    restored: checkpoint.Restored,
    batch_size: int = 32,
    wait_seconds: float = 0.002,
    devices: Sequence[jax.Device] | None = None,
  ):
    """Wraps a checkpoint that was read, and starts the thread.

    Args:
      restored: see Pretrained.
      batch_size: days that each device computes at a time, at most.
      wait_seconds: how long a call may wait for others while nothing is computed.
      devices: see Pretrained.

    Raises:
      ConfigError: see Pretrained; or wait_seconds is no number of at least 0.
    """
    super().__init__(restored, batch_size, devices=devices)
    if not is_number(wait_seconds) or not 0 <= wait_seconds < math.inf:
      raise ConfigError(f"wait_seconds is {wait_seconds!r}, expected a number of at least 0")
    self._wait_seconds = wait_seconds
    self._waiting: list[_Job] = []
    self._changed = threading.Condition()
    threading.Thread(target=self._work, daemon=True, name="batches").start()

  def __reduce__(self) -> tuple[Any, ...]:
    """Pickles the checkpoint, as Pretrained does; the copy has a thread of its own."""
    _, (restored, batch_size, *_), state = super().__reduce__()
    return type(self), (restored, batch_size, self._wait_seconds), state

  @property
  def batch_sizes(self) -> tuple[int, ...]:
    """The numbers of days in a batch: others are padded to the next."""
    sizes = {-(-size // self.mesh.size) * self.mesh.size for size in (1, self.days_at_once // 4, self.days_at_once)}
    return tuple(sorted(sizes - {0}))

  @property
  def days_waiting(self) -> int:
    """Days of calls that are not being computed yet."""
    with self._changed:
      return sum(len(job.values) for job in self._waiting)

  def days_per_batch(self, days: int) -> int:
    """See DayRunner; one of batch_sizes."""
    return next((size for size in self.batch_sizes if size >= days), self.batch_sizes[-1])

  def batch_buffers(self, days: int, visible: int, targets: int) -> BufferSizes:
    """See DayRunner; one of few, so that all are compiled before."""
    n = self.architecture.tokens
    rung = lambda count, of: next(eighths for eighths in of if 8 * count <= eighths * n) * n // 8
    finely = days == self.batch_sizes[-1] and not targets
    visible = rung(visible, _FINE if finely else _COARSE)
    return self.functions.padded_sizes(visible, n if targets else 0)

  def compile_all(self, functions: Collection[str] = FUNCTIONS) -> int:
    """Compiles whatever these functions will need, with a progress bar.

    Args:
      functions: of FUNCTIONS.

    Returns:
      The number of programs.
    """
    programs: dict[tuple[int, str, BufferSizes], tuple[int, int]] = {}
    n = self.architecture.tokens
    served = [(name, targets) for name, targets in ((EMBED, 0), (IMPUTE, n)) if name in functions]
    for days, (name, targets), eighths in itertools.product(self.batch_sizes, served, _FINE):
      visible = eighths * n // 8
      if not targets or self.has_decoder:
        programs.setdefault((days, name, self.batch_buffers(days, visible, targets)), (visible, targets))
    with progress_bar(len(programs), "compile", "program") as bar:
      for (days, _, _), (visible, targets) in programs.items():
        self._compile(days, visible, targets)
        bar.update(1)
    return len(programs)

  def _compile(self, days: int, visible: int, targets: int) -> None:
    """Computes so many days with the first `visible` tokens observed, and the last `targets` to be reconstructed."""
    a, scale = self.architecture, self.scale
    token = np.arange(a.tokens)[None, :, None]
    where = lambda tokens: patches.unpatchify(
      np.broadcast_to(tokens, (1, a.tokens, a.patch_values)), a.channels, a.patch_channels
    )
    value = np.where(scale.binary, 1.0, np.where(scale.mean == 0, scale.std, scale.mean))
    repeated = lambda day: np.repeat(day, days, axis=0)
    values = repeated(np.where(where(token < max(visible, 1)), value, np.nan).astype(np.float32))
    if targets:
      target = repeated(where(token >= a.tokens - targets))
      super().map_days("reconstruct", self.functions.decode, values, target=target)
    else:
      self.embed(values)

  def map_days(
    self,
    name: str,
    function: Callable[..., Any],
    values: Shaped[np.ndarray, "days steps channels"],
    description: str | None = None,
    whole_day: bool = False,
    target: Bool[np.ndarray, "days steps channels"] | None = None,
    *more: Shaped[np.ndarray, "days ..."],
  ) -> Shaped[np.ndarray, "days ..."]:
    """See DayRunner; the days are computed together with those of other threads, without a progress bar."""
    job = _Job(name, function, values, whole_day, target, more, time.monotonic(), concurrent.futures.Future())
    with self._changed:
      self._waiting.append(job)
      self._changed.notify()
    return job.result.result()

  def _work(self) -> None:
    while True:
      jobs = self._next_jobs()
      try:
        first = jobs[0]
        values = np.concatenate([job.values for job in jobs])
        target = None if first.target is None else np.concatenate([job.target for job in jobs])
        more = map(np.concatenate, zip(*(job.more for job in jobs), strict=True))
        results = super().map_days(first.name, first.function, values, None, first.whole_day, target, *more)
      except Exception as error:
        for job in jobs:
          job.result.set_exception(error)
        continue
      ends = np.cumsum([len(job.values) for job in jobs])
      for job, end in zip(jobs, ends, strict=True):
        job.result.set_result(results[end - len(job.values) : end])

  def _next_jobs(self) -> list[_Job]:
    """The oldest call, and those for the same function that fill its batch."""
    with self._changed:
      while not self._waiting:
        self._changed.wait()
      oldest = self._waiting[0]
      until = oldest.arrived + self._wait_seconds
      same = lambda: [job for job in self._waiting if job.name == oldest.name]
      while sum(len(job.values) for job in same()) < self.days_at_once and (left := until - time.monotonic()) > 0:
        self._changed.wait(left)
      jobs, days = [oldest], len(oldest.values)
      for job in same()[1:]:
        if days + len(job.values) > self.days_at_once:
          break
        jobs.append(job)
        days += len(job.values)
      self._waiting = [job for job in self._waiting if job not in jobs]
      return jobs


def load(
  path: str | pathlib.Path,
  batch_size: int = 32,
  wait_seconds: float = 0.002,
  own_vocabulary: str | os.PathLike | None = None,
  devices: Sequence[jax.Device] | None = None,
) -> BatchedModel:
  """Loads a trained model to be served.

  Args:
    path, own_vocabulary: see aim.inference.loading.load.
    batch_size, wait_seconds, devices: see BatchedModel.

  Raises:
    CheckpointError, ConfigError, VocabularyError: see aim.inference.loading.load.
  """
  known_channels = vocabulary.load(own_vocabulary)
  model = BatchedModel(source.read(path), batch_size, wait_seconds, devices)
  if own_vocabulary is not None:
    model.vocabulary = known_channels
  return model
