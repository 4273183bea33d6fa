"""The loss on people who are not trained on, every so many steps of a run; days, masks and batches stay the same.

The days are of the split "tune", so that the tables at the end, on the split "eval", are of people whom nobody looked
at during training. It is scored with the parameters that inference uses, the moving average if there is one.
"""

from __future__ import annotations

import math
import pathlib
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import jax
import ml_collections
import numpy as np
from jaxtyping import Float, Shaped

from aim.runtime import compile_options, sharding
from aim.training.contrastive_step import ContrastiveStep
from aim.training.masked_step import MaskedStep
from aim.training.metrics_writer import earlier_lines
from aim.training.train_state import TrainState
from data_pipelines.context.other_days import OtherDays
from data_pipelines.context.profile import Profile
from data_pipelines.dataset import Dataset
from data_pipelines.errors import CorruptError
from data_pipelines.subset import chosen_days, day_owners
from data_pipelines.text_files import counted

SPLIT = "tune"
NAME = "heldout_loss"  # in metrics.jsonl
SEED = 0  # of the masks; not config.seed, so that runs with other seeds have the same ones
TIMES = 20  # per run, with evaluate_every -1
PATIENCE = 3  # scores after the lowest one, from which on the loss may have turned
RISE = 0.01  # and has, if one of them is above the lowest by this share
WEIGHTS = ("params", "ema")  # what it depends on of a train state


def open_curve(
  config: ml_collections.ConfigDict,
  dataset: Dataset,
  step: MaskedStep | ContrastiveStep,
  mesh: jax.sharding.Mesh,
  workdir: pathlib.Path,
  start: int,
) -> HeldoutCurve | None:
  """Reads the days and prints what is scored and when; if nothing is, prints why and returns None.

  Args:
    config: the whole experiment config.
    dataset: the run's.
    step: of the run.
    mesh: of the run.
    workdir: its metrics.jsonl has the losses before `start`.
    start: steps completed before.

  Raises:
    DatasetError: a day cannot be read and config.data.on_corrupt is "stop".
  """
  every = period(config)
  if not every:
    return None
  if not dataset.num_days(SPLIT):
    print(f"no held-out loss: {dataset.name} has no days in split {SPLIT!r}", flush=True)
    return None
  values, people, profiles = _read_days(config, dataset)
  size = _batch_size(config, step, mesh, len(values))
  count = len(values) // size * size if size and isinstance(step, ContrastiveStep) else len(values)
  if not size or not count:
    held_out = counted(len(values), "day")
    print(f"no held-out loss: split {SPLIT!r} has {held_out}, too few for {counted(mesh.size, 'device')}", flush=True)
    return None
  days = f"{counted(count, 'day')} of {counted(len(set(people[:count])), 'person')}"
  print(f"held-out loss every {counted(every, 'step')}, on {days} of split {SPLIT!r}")
  profile = Profile.stacked(profiles[:count]) if profiles else None
  return HeldoutCurve(every, values[:count], size, step, mesh, earlier_lines(workdir, start), profile)


def period(config: ml_collections.ConfigDict) -> int:
  """Steps between scores, from config.evaluate_every; 0: never."""
  return max(1, config.total_steps // TIMES) if config.evaluate_every == -1 else config.evaluate_every


def _read_days(
  config: ml_collections.ConfigDict, dataset: Dataset
) -> tuple[list[Float[np.ndarray, "steps channels"]], list[str], list[Profile]]:
  """The values of the days, whose they are, and the profiles of the person's other days, if the model reads them.

  All processes read all of them, and so agree on which can be read.
  """
  source, owners = dataset.days(SPLIT), day_owners(dataset, SPLIT)[0]
  most, on_corrupt = config.model.context_days, config.data.on_corrupt
  others = OtherDays(dataset, SPLIT, most, on_corrupt=on_corrupt) if most else None
  values, people, profiles = [], [], []
  for i in chosen_days(dataset, SPLIT, max_days=config.evaluate_days):
    try:
      values.append(source[int(i)]["values"])
    except CorruptError as error:
      if config.data.on_corrupt == "stop":
        raise
      print(f"{error}; left out of the held-out loss (config.data.on_corrupt)", file=sys.stderr, flush=True)
      continue
    people.append(str(owners[i]))
    profiles += [others.profile(others.nearest(int(i)))] if others else []
  return values, people, profiles


def _batch_size(
  config: ml_collections.ConfigDict, step: MaskedStep | ContrastiveStep, mesh: jax.sharding.Mesh, count: int
) -> int:
  """Days per batch over all processes, at most a microbatch of the run.

  A masked step's batch may be filled up with days without any value. A contrastive one must not, because its loss
  compares the days of a batch; it is 0 if there are too few days for the devices.
  """
  multiple = math.lcm(mesh.shape["data"] * mesh.shape["fsdp"], jax.process_count())
  microbatch = config.batch_size // config.optimizer.accumulate
  whole = count // multiple if isinstance(step, ContrastiveStep) else -(-count // multiple)
  return min(whole, max(1, microbatch // multiple)) * multiple


class HeldoutCurve:
  """The held-out losses of a run so far, and the program that computes the next one.

  Attributes:
    batches: this process's part of each batch: days [local, steps, channels] in physical units, their places and, if
      the model reads other days, the fields of their profiles.
    losses: [(steps completed, loss)] so far, of this process and of those before it.
  """

  def __init__(
    self,
    every: int,
    days: list[Float[np.ndarray, "steps channels"]],
    size: int,
    step: MaskedStep | ContrastiveStep,
    mesh: jax.sharding.Mesh,
    lines: Iterable[Mapping[str, Any]] = (),
    profile: Profile | None = None,
  ):
    """Nothing is compiled yet.

    Args:
      every: steps between scores.
      days: in physical units, NaN where missing.
      size: days per batch over all processes.
      step: of the run.
      mesh: of the run.
      lines: of metrics.jsonl, from the processes before this one.
      profile: of the person's other days, for each of the days, if the model reads them.
    """
    self.every, self.step, self.mesh = every, step, mesh
    self.batches = _local_parts(days, size, profile)
    self.losses = [(int(line["step"]), float(line[NAME])) for line in lines if line.get(NAME) is not None]
    self._program: Any = None

  def compile(self, state: TrainState, shardings: Any) -> None:
    """Compiles the program, for a train state of these shapes and shardings."""
    shape = lambda leaf, placement: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=placement)
    weights = {name: jax.tree.map(shape, state[name], shardings[name]) for name in WEIGHTS}
    by_window, replicated = sharding.batch_sharding(self.mesh), shardings["step"]
    whole = lambda x: shape(jax.ShapeDtypeStruct((jax.process_count() * len(x), *x.shape[1:]), x.dtype), by_window)
    score = jax.jit(
      lambda *arguments: self.step.heldout(jax.random.key(SEED), *arguments),
      out_shardings=(replicated, replicated),
      compiler_options=compile_options.compiler_options(),
    )
    self._program = score.lower(weights, *map(whole, self.batches[0])).compile()

  def due(self, step: int) -> bool:
    """True if the loss is scored after so many completed steps."""
    return step % self.every == 0

  def score(self, state: TrainState) -> float:
    """The loss with the parameters of a train state; waits for them. NaN if the days have no value to score."""
    weights = {name: state[name] for name in WEIGHTS}
    # Each is dispatched before the first result is read.
    parts = [self._program(weights, *(sharding.put_batch(x, self.mesh) for x in batch)) for batch in self.batches]
    total, count = np.sum([[float(x) for x in part] for part in parts], axis=0)
    return float(total / count) if count else math.nan

  def add(self, step: int, loss: float) -> str | None:
    """Keeps a loss. Returns a line if it is the first that shows that the curve has turned, or if it is no number."""
    if not math.isfinite(loss):
      return f"step {step}: no held-out loss: no value of these days can be scored, or their error overflows"
    before = turned(self.losses)
    self.losses.append((step, loss))
    lowest = turned(self.losses)
    if lowest is None or lowest == before:
      return None
    return f"step {step}: the held-out loss has turned: {loss:.4f}, lowest at step {lowest[0]} with {lowest[1]:.4f}"

  @property
  def text(self) -> str:
    """The last loss, and the lowest if that is another one."""
    step, least = lowest(self.losses)
    last = self.losses[-1][1]
    return f"{last:.4f}" if last == least else f"{last:.4f}, lowest {least:.4f} at step {step}"


def lowest(losses: Sequence[tuple[int, float]]) -> tuple[int, float]:
  """The (step, loss) with the lowest loss, the first of several."""
  return min(losses, key=lambda entry: entry[1])


def turned(losses: Sequence[tuple[int, float]]) -> tuple[int, float] | None:
  """The lowest (step, loss), if the curve has risen for a while since; None if not.

  It has if, after it, the PATIENCE-th loss or a later one is above it by the share RISE.
  """
  if not losses:
    return None
  step, least = lowest(losses)
  later = [loss for at, loss in losses if at > step]
  return (step, least) if any(loss - least > RISE * abs(least) for loss in later[PATIENCE - 1 :]) else None


def _local_parts(
  days: list[Float[np.ndarray, "steps channels"]], size: int, profile: Profile | None
) -> list[tuple[Shaped[np.ndarray, "local ..."], ...]]:
  """This process's part of each batch of `size` days, their places and profiles; filled up with empty days."""
  local, nothing = size // jax.process_count(), np.full_like(days[0], np.nan)
  firsts = range(jax.process_index() * local, len(days) + jax.process_index() * local, size)
  places = [np.arange(first, first + local, dtype=np.int32) for first in firsts]
  parts: list[tuple[np.ndarray, ...]] = [
    (np.stack([days[i] if i < len(days) else nothing for i in part]), part) for part in places
  ]
  if profile is None:
    return parts
  # The days that fill up have the last day's profile, of which nothing is scored.
  return [(*arrays, *profile.at(np.minimum(arrays[1], len(days) - 1))) for arrays in parts]
