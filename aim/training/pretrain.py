"""--mode=pretrain: AIM pretraining with exact resume."""

from __future__ import annotations

import contextlib
import pathlib
import time
from collections.abc import Generator, Iterator, Mapping
from typing import Any

import jax
import ml_collections
import numpy as np

from aim.common import config_files
from aim.model import buffer_sizes, flops, from_config
from aim.model.buffer_sizes import BufferSizes
from aim.model.contrastive.from_config import view_changes, view_method
from aim.model.lsm2 import Architecture, count_parameters
from aim.model.patches import Scale
from aim.runtime import processes, sharding
from aim.runtime.watchdog import Watchdog
from aim.training import checkpoint, metrics_writer
from aim.training.checkpoint import Checkpoints
from aim.training.compiled_step import CompiledStep
from aim.training.contrastive_step import ContrastiveStep
from aim.training.masked_step import MaskedStep
from aim.training.optimizer import make_optimizer, schedule
from aim.training.train_log import TrainLog
from data_pipelines.dataset import Dataset
from data_pipelines.loader import device_prefetch, train_loader
from data_pipelines.subset import chosen_days

SAMPLE = 256  # windows that the buffer sizes are chosen from


def pretrain(config: ml_collections.ConfigDict, workdir: pathlib.Path, dataset: Dataset) -> dict[str, float | None]:
  """Trains to config.total_steps, going on from the newest checkpoint of `workdir` where there is one.

  Returns the last logged metrics; {} on a workdir that is already finished.
  """
  with jax.set_mesh(sharding.make_mesh(**config.mesh)):
    return TrainingRun(config, workdir, dataset).run()


class TrainingRun:
  """One pretraining run: what is fixed, then run() in the order things happen."""

  def __init__(
    self,
    config: ml_collections.ConfigDict,
    workdir: pathlib.Path,
    dataset: Dataset,
    planned: jax.sharding.Mesh | None = None,
  ):
    """planned: a mesh of devices that are not here, on which nothing can run; by default the one that is set."""
    self.config, self.workdir, self.dataset = config, workdir, dataset
    self.mesh = jax.sharding.get_mesh() if planned is None else planned
    _check(config, self.mesh)
    schema, self.metadata = dataset.schema, checkpoint.metadata(config, dataset)
    architecture = from_config.architecture(config, schema)
    self.form = from_config.form(config, architecture) if architecture.projection is None else config.method
    self.step = self.make_step(architecture)
    self.key = jax.random.key(config.seed)
    self.abstract_state = jax.eval_shape(self.step.init, self.key)
    self.shardings = sharding.state_shardings(self.abstract_state, self.abstract_state["params"], self.mesh)
    self.compiled = CompiledStep(self.step, self.shardings)
    self.parameter_table = sharding.sharding_table(self.abstract_state["params"], self.shardings["params"])
    self.watchdog = Watchdog(lambda: checkpoint.bytes_being_saved(workdir))

  def make_step(self, architecture: Architecture) -> MaskedStep | ContrastiveStep:
    """The step of config.method."""
    config, schema = self.config, self.dataset.schema
    common: dict[str, Any] = {
      "architecture": architecture,
      "scale": Scale.from_statistics(schema, self.metadata["statistics"]),
      "optimizer": make_optimizer(config.optimizer, config.total_steps),
      "accumulate": config.optimizer.accumulate,
      "ema": config.optimizer.ema,
      "impute": from_config.imputation(config),
    }
    if architecture.projection is None:
      groups = self.mesh.shape["data"] * self.mesh.shape["fsdp"] if self.form == "packed" else 0
      return MaskedStep(masking=from_config.masking(config, schema), groups=groups, **common)
    return ContrastiveStep(
      method=view_method(config, architecture),
      changes=view_changes(config, schema),
      total_steps=config.total_steps,
      momentum=config.views.momentum,
      **common,
    )

  def run(self) -> dict[str, float | None]:
    """Trains; what it leaves is closed whatever happens."""
    with contextlib.ExitStack() as ending:
      ending.callback(self.watchdog.stop)
      ending.enter_context(
        processes.exit_on_lost_process()
      )  # around the closing of checkpoints, which waits for the others
      self.watchdog.expect("restoring and compiling", self.config.log.watchdog_compile_seconds)
      checkpoints = Checkpoints(self.workdir, self.config.checkpoint.every_steps, self.config.checkpoint.keep)
      ending.callback(checkpoints.close)
      ending.enter_context(processes.exit_on_lost_process())  # and before it, where it would wait for one that is gone
      state = self.initial_state(checkpoints)
      return self.train_from(state, int(state["step"]), checkpoints)

  def train_from(self, state: dict[str, Any], start: int, checkpoints: Checkpoints) -> dict[str, float | None]:
    """Trains from `start` steps on."""
    if start >= self.config.total_steps:
      print(f"{self.workdir}: already trained for {start} steps; raise --config.total_steps to go on")
      return {}
    if start:
      print(f"{self.workdir}: checkpoint at step {start}: going on from there")
    if processes.is_first_process():
      config_files.write(self.config, self.workdir / "config.json")
    ladder = self.ladder()
    self.announce(start, ladder[0])
    stop = processes.StopSignals(start)
    self.compiled.compile(ladder, self.key, self.abstract_state, self.batch_shape())
    with contextlib.closing(metrics_writer.MetricsWriter(self.workdir, self.config.log, start)) as writer:
      last = self.loop(state, start, stop, checkpoints, writer)
    self.watchdog.expect("the last save", self.config.log.watchdog_seconds)
    print(f"{self.workdir}: trained for {self.config.total_steps} steps; loss {last['loss']:.4f}")
    return last

  def initial_state(self, checkpoints: Checkpoints) -> dict[str, Any]:
    """Fresh parameters, or those of the newest checkpoint that can be read, if it is of this model and data."""
    shapes = jax.tree.map(
      lambda leaf, placement: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=placement),
      self.abstract_state,
      self.shardings,
    )
    while (newest := checkpoints.latest) is not None:
      where = f"{self.workdir}: checkpoint at step {newest}"
      checkpoint.check_resumable(checkpoints.metadata(), self.metadata, where)
      try:
        return checkpoints.restore(shapes)
      except checkpoint.DamagedError as error:
        checkpoints.set_aside(newest, error)
    if checkpoints.damaged:
      raise checkpoint.CheckpointError(f"{self.workdir}: no checkpoint is left to go on from; repeat to start anew")
    return jax.jit(self.step.init, out_shardings=self.shardings)(jax.random.fold_in(self.key, 2**31 - 1))

  def ladder(self) -> tuple[BufferSizes, ...]:
    """The sizes that the step may need."""
    if isinstance(self.step, ContrastiveStep):
      return (self.step.size,)
    a, config = self.step.architecture, self.config
    dropped = self.step.masking.dropped_count(a.channel_groups, a.length)
    if self.form == "textbook":
      return (buffer_sizes.textbook(a.tokens, dropped, a.decoder_tokens),)
    counts = self.sample()
    groups, accumulate = self.step.groups, config.optimizer.accumulate
    windows = config.batch_size // accumulate
    if self.step.impute != "none" and self.step.masking.hides_equal_counts(a.channel_groups):
      return (buffer_sizes.exact(counts[0], a.tokens, dropped, a.decoder_tokens, windows, groups),)
    return buffer_sizes.ladder(counts, a.tokens, dropped, a.decoder_tokens, windows, groups, accumulate, config.sizes)

  def sample(self) -> np.ndarray:
    """Token counts [windows, 3] of some windows: the same whatever step a run goes on from, and on every host, so that
    all choose the same sizes."""
    with contextlib.closing(self.batches(0)) as batches:
      steps = range(-(-SAMPLE // self.config.batch_size))
      return np.concatenate([self.compiled.draw(self.key, step, next(batches)[0])[2] for step in steps])

  def batch_shape(self) -> jax.ShapeDtypeStruct:
    """Of the values of a whole step."""
    shape = (self.config.batch_size, self.dataset.schema.steps, self.step.architecture.channels)
    return jax.ShapeDtypeStruct(shape, np.float32, sharding=sharding.batch_sharding(self.mesh))

  def announce(self, start: int, size: BufferSizes) -> None:
    """What is about to run and, without an accelerator, how long a step will take."""
    a, config = self.step.architecture, self.config
    chosen = config_files.subset(config)
    kept, days = len(chosen_days(self.dataset, "pretrain", **chosen)), self.dataset.num_days("pretrain")
    if kept < days:
      print(f"kept {kept:,} of {days:,} days: {_spoken(chosen)}")
    print(
      f"pretraining {count_parameters(self.abstract_state['params']) / 1e6:.2f}M parameters on "
      f"{self.dataset.num_days('pretrain')} days of {self.dataset.name}: {_grid(a)} = "
      f"{a.tokens} tokens a day, {config.batch_size} days a step, steps {start} to {config.total_steps}, "
      f"{jax.device_count()} device(s) of kind {jax.devices()[0].device_kind}; "
      f"{self.form} form, {a.attention} attention, {a.dtype}",
      flush=True,
    )
    if processes.is_first_process():
      (self.workdir / "parameters.txt").write_text(self.parameter_table + "\n")
    if config.log.parameters:
      print(self.parameter_table)
    if flops.peak_flops() is None:
      # Attention and other memory-bound parts keep a CPU at about a third of a plain matrix product's speed.
      windows = config.batch_size // config.optimizer.accumulate
      work = flops.executed_flops(a, size, windows) * config.optimizer.accumulate
      seconds = 3 * work / flops.measured_flops()
      hours = seconds * (config.total_steps - start) / 3600
      print(f"no accelerator: expect about {_duration(seconds)} a step, {_duration(hours * 3600)} in all", flush=True)
      if hours > 6:
        print("  what suits a CPU: --config=experiments/lsm2_tiny.py (minutes) or experiments/lsm2_xs.py", flush=True)

  def loop(
    self,
    state: dict[str, Any],
    start: int,
    stop: processes.StopSignals,
    checkpoints: Checkpoints,
    writer: metrics_writer.MetricsWriter,
  ) -> dict[str, float | None]:
    config, total = self.config, self.config.total_steps
    with stop, contextlib.closing(self.batches(start)) as batches:
      train_log = TrainLog(
        config, writer, self.step.architecture, list(state["params"]), _learning_rates(config), start
      )
      try:
        # Each batch is masked one step ahead: its size is known when its turn comes, and no device waits.
        ahead = self.masked(batches, start, train_log)
        for step in range(start, total):
          # The first step ends in the second turn, once the slowest process has compiled.
          patient = config.log.watchdog_compile_seconds if step < start + 2 else config.log.watchdog_seconds
          self.watchdog.expect(f"step {step + 1}", patient)
          tokens, rows = ahead
          if step + 1 < total:
            ahead = self.masked(batches, step + 1, train_log)
          # Reading the rows waits for the mask of this step, drawn while the step before was computed.
          state, fresh = self.compiled.train(
            buffers := buffer_sizes.smallest(self.compiled.sizes, np.asarray(rows)), state, tokens
          )
          train_log.record(step, buffers, fresh)
          received = stop.signal_after(step + 1)  # looked at once: a signal after this line is the next step's
          last = step + 1 == total or received is not None
          if last:
            train_log.flush()
          checkpoints.save(step + 1, state, self.metadata, force=last)
          if received is not None and step + 1 < total:
            checkpoints.close()
            train_log.close()
            print(f"{self.workdir}: {received.name}: saved step {step + 1}; repeat the command to go on")
            raise SystemExit(128 + received)
      finally:
        train_log.close()
    return train_log.last

  def batches(self, start: int) -> Generator[tuple[jax.Array, int]]:
    """The device batches of steps start, start + 1, ..., read ahead in a thread until closed.

    With each, how many of this process's days stand in for one that cannot be read.
    """
    loader = train_loader(
      self.dataset,
      split="pretrain",
      batch_size=self.config.batch_size,
      seed=self.config.seed,
      start_step=start,
      process_index=jax.process_index(),
      process_count=jax.process_count(),
      workers=self.config.data.workers,
      on_corrupt=self.config.data.on_corrupt,
      **config_files.subset(self.config),
    )
    put = lambda batch: (sharding.put_batch(batch["values"], self.mesh), int(batch["corrupt"].sum()))
    return device_prefetch(loader, put)

  def masked(self, batches: Iterator[tuple[jax.Array, int]], step: int, train_log: TrainLog) -> tuple[Any, jax.Array]:
    """The token sets of a step's batch and the rows they need."""
    began = time.perf_counter()
    values, corrupt = next(batches)
    train_log.waited += time.perf_counter() - began
    train_log.corrupt += corrupt
    return self.compiled.draw(self.key, step, values)[:2]


def _learning_rates(config: ml_collections.ConfigDict) -> np.ndarray:
  """float32 [total_steps + 1], computed once: jnp maths between steps would stall them."""
  rate = schedule(config.optimizer, config.total_steps)
  return np.asarray(jax.jit(jax.vmap(rate))(np.arange(config.total_steps + 1)))


def _check(config: ml_collections.ConfigDict, device_mesh: jax.sharding.Mesh) -> None:
  counts = ("optimizer.accumulate", "checkpoint.every_steps", "checkpoint.keep", "log.every_steps", "total_steps")
  for key, value in config_files.leaves(config):
    if key in counts and value < 1:
      raise config_files.ConfigError(f"config.{key} is {value}, expected at least 1")
  multiple = device_mesh.shape["data"] * device_mesh.shape["fsdp"] * config.optimizer.accumulate
  for key in ("watchdog_seconds", "watchdog_compile_seconds"):
    if config.log[key] < 0:
      raise config_files.ConfigError(f"config.log.{key} is {config.log[key]}, expected seconds, or 0 for no watchdog")
  if config.batch_size < 1 or config.batch_size % multiple:
    raise config_files.ConfigError(
      f"config.batch_size is {config.batch_size}, expected a multiple of {multiple} (data x fsdp x accumulate)"
    )
  if not 0 <= config.optimizer.ema < 1:
    raise config_files.ConfigError(f"config.optimizer.ema is {config.optimizer.ema}, expected 0 to less than 1")
  if config.optimizer.on_nan not in ("stop", "skip"):
    raise config_files.ConfigError(f"config.optimizer.on_nan is {config.optimizer.on_nan!r}, expected 'stop' or 'skip'")
  if config.data.on_corrupt not in ("stop", "skip"):
    raise config_files.ConfigError(f"config.data.on_corrupt is {config.data.on_corrupt!r}, expected 'stop' or 'skip'")


def _spoken(chosen: Mapping[str, float]) -> str:
  """What settings.subset leaves, in words."""
  parts = [f"those that miss at most {100 * chosen['max_missing']:g} %"] if chosen["max_missing"] < 1 else []
  parts += [f"at most {chosen[f'max_{what}']:,} {what}" for what in ("participants", "days") if chosen[f"max_{what}"]]
  return ", ".join(parts)


def _grid(a: Architecture) -> str:
  grouped = f" in {a.channel_groups} groups" if a.patch_channels > 1 else ""
  return f"{a.channels} channels{grouped} x {a.length} patches"


def _duration(seconds: float) -> str:
  for unit, size in (("days", 86400), ("h", 3600), ("min", 60)):
    if seconds >= 2 * size:
      return f"{seconds / size:.0f} {unit}"
  return f"{seconds:.1f} s" if seconds >= 1 else f"{1000 * seconds:.0f} ms"
