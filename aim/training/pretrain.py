"""--mode=pretrain: the training loop, from a config to checkpoints and metrics.jsonl, with exact resume.

`TrainingRun` reads from top to bottom: `run` restores or initialises, `train_from` compiles and opens the logs, `loop`
makes the steps. What a step computes is in masked_step (LSM-1, LSM-2) and contrastive_step (SimCLR, DINO, MSN).
"""

from __future__ import annotations

import contextlib
import dataclasses
import pathlib
import time
from collections.abc import Generator, Iterator, Mapping
from typing import Any

import jax
import ml_collections
import numpy as np
from jaxtyping import Float, Int

import aim.model.defaults
from aim.common import config_files, config_ranges, seen_people
from aim.model import buffer_sizes, flops, from_config, lsm2
from aim.model.buffer_sizes import BufferSizes
from aim.model.contrastive.from_config import view_changes, view_method
from aim.model.lsm2 import Architecture, count_parameters
from aim.model.patches import Scale
from aim.runtime import devices, processes, sharding
from aim.runtime.watchdog import Watchdog
from aim.training import checkpoint, checkpoint_metadata, heldout_curve
from aim.training.checkpoint import Checkpoints
from aim.training.checkpoint_metadata import CheckpointError, DamagedError
from aim.training.compiled_step import CompiledStep
from aim.training.contrastive_step import ContrastiveStep
from aim.training.defaults import RANGES
from aim.training.heldout_curve import HeldoutCurve
from aim.training.masked_step import MaskedStep
from aim.training.metrics_writer import MetricsWriter, check_sinks, earlier_lines
from aim.training.optimizer import make_optimizer, schedule
from aim.training.starting_weights import start_of
from aim.training.step_profile import StepProfile, span
from aim.training.train_log import TrainLog
from aim.training.train_state import TrainState
from data_pipelines.dataset import Dataset
from data_pipelines.loader import Batch, device_prefetch, train_loader
from data_pipelines.subset import chosen_days
from data_pipelines.text_files import counted

SAMPLED_WINDOWS = 256  # the buffer sizes are chosen from so many windows, at least
ROOM = 0.85  # of a device's memory for state, gradients and activations; the rest is for batches, code and the estimate
CPU_SLOWDOWN = 3  # attention and other memory-bound parts keep a CPU at about a third of a matrix product's speed


def pretrain(config: ml_collections.ConfigDict, workdir: pathlib.Path, dataset: Dataset) -> dict[str, float | None]:
  """Trains to config.total_steps, going on from the newest checkpoint of `workdir` if there is one.

  Args:
    config: the whole experiment config.
    workdir: an existing folder for checkpoints, config.json, parameters.txt and metrics.jsonl.
    dataset: its "pretrain" split is trained on.

  Returns:
    The last metrics logged; {} if the workdir is already trained to config.total_steps.

  Raises:
    ConfigError: a config value is out of range.
    CheckpointError: a checkpoint cannot be saved, or this config cannot go on from it.
    TrainingError: the loss or a gradient is NaN or Inf and config.optimizer.on_nan is "stop".
    SystemExit: SIGINT or SIGTERM ended the run, after a save.
  """
  with jax.set_mesh(sharding.make_mesh(**config.mesh)):
    return TrainingRun(config, workdir, dataset).run()


class TrainingRun:
  """One pretraining run: what stays fixed is made at construction, then run() does everything in order.

  Attributes:
    step: the pure training step of config.method.
    compiled: `step` as compiled programs.
    form: how the loss is computed, "textbook", "trimmed" or "packed", or config.method for contrastive methods.
    abstract_state, shardings: shapes and placements of the train state.
    parameter_table: one line of text per parameter.
    metadata: what each checkpoint holds beside its arrays.
  """

  def __init__(
    self,
    config: ml_collections.ConfigDict,
    workdir: pathlib.Path,
    dataset: Dataset,
    planned_mesh: jax.sharding.Mesh | None = None,
  ):
    """Builds the step; nothing is compiled or read yet.

    Args:
      config: the whole experiment config.
      workdir: folder of the run.
      dataset: what to train on.
      planned_mesh: a mesh of devices that are not here, on which nothing can run; by default, the mesh that is set.
    """
    self.workdir, self.dataset = workdir, dataset
    self.mesh = jax.sharding.get_mesh() if planned_mesh is None else planned_mesh
    config_ranges.check(config, RANGES, aim.model.defaults.RANGES)
    _check(config, self.mesh)
    check_sinks(config.log)
    statistics = checkpoint_metadata.run_metadata(config, dataset)["statistics"]
    self.start = start_of(config, workdir, dataset.schema, statistics)
    if self.start is not None or config.model.places == "vocabulary":  # a checkpoint needs neither of them
      places = from_config.places(config, dataset.schema) if self.start is None else self.start.places
      config = from_config.with_places(config, places)
    self.config = config
    self.metadata = checkpoint_metadata.run_metadata(config, dataset)
    if self.start is not None:
      self.metadata |= {"statistics": self.start.statistics, "history": self.start.history}
    architecture = from_config.architecture(config, dataset.schema)
    self.form = from_config.form(config, architecture) if architecture.projection is None else config.method
    step = self.make_step(architecture)
    self.key = jax.random.key(config.seed)
    self.abstract_state = jax.eval_shape(step.init, self.key)
    self.shardings = sharding.state_shardings(self.abstract_state, self.abstract_state["params"], self.mesh)
    self.step = step if isinstance(step, ContrastiveStep) else self._with_room(step)
    self.compiled = CompiledStep(self.step, self.shardings)
    self.parameter_table = sharding.sharding_table(self.abstract_state["params"], self.shardings["params"])
    self.watchdog = Watchdog(lambda: checkpoint.bytes_being_saved(workdir))

  def make_step(self, architecture: Architecture) -> MaskedStep | ContrastiveStep:
    """The training step of config.method, with all that it reads of the config."""
    config, schema = self.config, self.dataset.schema
    rates = None if self.start is None else self.start.rates(list(lsm2.abstract(architecture)[1]))
    common: dict[str, Any] = {
      "architecture": architecture,
      "scale": Scale.from_statistics(
        schema, self.metadata["statistics"], config.data.zero_is_missing, config.data.clip
      ),
      "optimizer": make_optimizer(config.optimizer, config.total_steps, rates),
      "accumulate": config.optimizer.accumulate,
      "ema": config.optimizer.ema,
      "impute": config.data.impute,
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

  def _with_room(self, step: MaskedStep) -> MaskedStep:
    """The step, told how much memory its activations may take."""
    sheet = devices.data_sheet(self.mesh.devices.flat[0].device_kind)
    if sheet is None or self.config.model.remat_when == "always":
      return step
    state = sharding.bytes_per_device(self.abstract_state, self.shardings)
    gradients = sharding.bytes_per_device(self.abstract_state["params"], self.shardings["params"])
    room = ROOM * sheet.memory - state - gradients
    return dataclasses.replace(step, activation_room=room * self.mesh.size)

  # The run, in the order in which things happen.

  def run(self) -> dict[str, float | None]:
    """Restores or initialises the state and trains; the watchdog and checkpoints are closed whatever happens."""
    with contextlib.ExitStack() as cleanup:
      cleanup.callback(self.watchdog.stop)
      # Around the closing of checkpoints, which waits for the other processes.
      cleanup.enter_context(processes.exit_on_lost_process())
      self.watchdog.expect("restoring and compiling", self.config.log.watchdog_compile_seconds)
      subset = config_files.subset(self.config)
      self.metadata |= {"training_data": checkpoint_metadata.training_data(self.dataset, subset)}
      checkpoints = Checkpoints(self.workdir, self.config.checkpoint.every_steps, self.config.checkpoint.keep)
      cleanup.callback(checkpoints.close)
      # And again inside, so that a lost process ends this one before the closing would wait for it.
      cleanup.enter_context(processes.exit_on_lost_process())
      state = self.initial_state(checkpoints)
      return self.train_from(state, int(state["step"]), checkpoints)

  def initial_state(self, checkpoints: Checkpoints) -> TrainState:
    """The newest checkpoint that can be read; without one, fresh parameters, or those of config.init.checkpoint.

    Raises:
      CheckpointError: this config cannot go on from the checkpoint, or all checkpoints are damaged.
    """
    targets = jax.tree.map(
      lambda leaf, placement: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=placement),
      self.abstract_state,
      self.shardings,
    )
    while (newest := checkpoints.latest) is not None:
      try:
        saved = checkpoints.metadata()
        where = f"{self.workdir}: checkpoint at step {newest}"
        checkpoint_metadata.check_resumable(saved, self.metadata, where)
        before, now = (config["data"] for config in (saved["config"], self.metadata["config"]))
        same_days = all(before.get(key, now[key]) == now[key] for key in config_files.subset(self.config))
        self.metadata["training_data"] = seen_people.went_on(
          saved.get("training_data"), self.metadata["training_data"], same_days
        )
        return checkpoints.restore(targets)
      except DamagedError as error:
        checkpoints.set_aside(newest, error)
    if checkpoints.damaged:
      raise CheckpointError(f"{self.workdir}: no checkpoint is left to go on from; repeat to start anew")
    state = jax.jit(self.step.init, out_shardings=self.shardings)(jax.random.fold_in(self.key, 2**31 - 1))
    return state if self.start is None else self.start.applied(state, self.shardings)

  def train_from(self, state: TrainState, start: int, checkpoints: Checkpoints) -> dict[str, float | None]:
    """Compiles the step and trains from `start` completed steps to config.total_steps."""
    if start >= self.config.total_steps:
      print(f"{self.workdir}: already trained for {counted(start, 'step')}; raise --config.total_steps to go on")
      return {}
    if start:
      print(f"{self.workdir}: checkpoint at step {start}: going on from there")
    if processes.is_first_process():
      config_files.write(self.config, self.workdir / "config.json")
    sizes = self.ladder()
    self.announce(start, sizes)
    stop = processes.StopSignals(start)
    curve = heldout_curve.open_curve(self.config, self.dataset, self.step, self.mesh, self.workdir, start)
    self.compiled.compile(sizes, self.key, self.abstract_state, *self.batch_shapes())
    if curve is not None:
      curve.compile(self.abstract_state, self.shardings)
    with contextlib.closing(MetricsWriter(self.workdir, self.config.log, start)) as writer:
      last_metrics = self.loop(state, start, stop, checkpoints, writer, curve)
    self.watchdog.expect("the last save", self.config.log.watchdog_seconds)
    loss = last_metrics["loss"]
    ending = "the last ones were skipped" if loss is None or not np.isfinite(loss) else f"loss {loss:.4f}"
    heldout = f", on held-out people {curve.text}" if curve is not None and curve.losses else ""
    print(f"{self.workdir}: trained for {counted(self.config.total_steps, 'step')}; {ending}{heldout}")
    return last_metrics

  def loop(
    self,
    state: TrainState,
    start: int,
    stop: processes.StopSignals,
    checkpoints: Checkpoints,
    writer: MetricsWriter,
    curve: HeldoutCurve | None,
  ) -> dict[str, float | None]:
    """Makes the steps; returns the last metrics logged.

    The loop never waits for the step that it has just started: metrics are read one step late, and each batch is
    masked one step ahead, so that its buffer size is known when its turn comes.
    """
    config, total = self.config, self.config.total_steps
    with stop, contextlib.closing(self.batches(start)) as batches:
      about = (self.step.architecture, list(state["params"]), _learning_rates(config))
      log = TrainLog(config, writer, *about, start, earlier_lines(self.workdir, start))
      profile = StepProfile(config, self.workdir, start)
      try:
        next_draw = self.draw(batches, start, log)
        for step in range(start, total):
          # The first step ends in the second turn, once the slowest process has compiled.
          patience = config.log.watchdog_compile_seconds if step < start + 2 else config.log.watchdog_seconds
          self.watchdog.expect(f"step {step + 1}", patience)
          tokens, needed = next_draw
          if step + 1 < total:
            next_draw = self.draw(batches, step + 1, log)
          # Reading `needed` waits for this step's mask, which was drawn while the previous step was computed.
          size = buffer_sizes.smallest(self.compiled.sizes, np.asarray(needed))
          with profile.step(step + 1):
            state, metrics = self.compiled.train(size, state, tokens)
          log.record(step, size, metrics)
          log.say(profile.end(step + 1, metrics))
          received = stop.signal_after(step + 1)  # read once; a later signal belongs to the next step
          is_last = step + 1 == total or received is not None
          if is_last:
            log.flush()
            log.check_learnt()
          if curve is not None and curve.due(step + 1):
            self.score_heldout(step + 1, state, curve, log)  # before the save, which a resumed run may start from
          checkpoints.save(step + 1, state, self.metadata, force=is_last, first=log.flush)
          if received is not None and step + 1 < total:
            checkpoints.close()
            log.close()
            print(f"{self.workdir}: {received.name}: saved step {step + 1}; repeat the command to go on")
            raise SystemExit(128 + received)
      finally:
        log.say(profile.close())
        log.close()
    return log.last

  def score_heldout(self, step: int, state: TrainState, curve: HeldoutCurve, log: TrainLog) -> None:
    """Scores people who are not trained on, after so many completed steps."""
    log.flush()
    began = time.perf_counter()
    loss = curve.score(state)
    turned = curve.add(step, loss)
    log.write_heldout(step, heldout_curve.NAME, loss, time.perf_counter() - began, turned)

  # What the loop reads.

  def batches(self, start: int) -> Generator[tuple[tuple[jax.Array, ...], int]]:
    """Yields the batches of steps start, start + 1, ..., read ahead in a thread until the generator is closed.

    Each is (the arrays of batch_shapes() on the devices, how many of this process's days stand in for one that cannot
    be read). Which days they are depends on config.seed and the step alone.
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
      context_days=self.config.model.context_days,
      **config_files.subset(self.config),
    )
    names = ("values", "context_mean", "context_count") if self.config.model.context_days else ("values",)

    def put(batch: Batch) -> tuple[tuple[jax.Array, ...], int]:
      return tuple(sharding.put_batch(batch[name], self.mesh) for name in names), int(batch["corrupt"].sum())

    return device_prefetch(loader, put)

  def draw(
    self, batches: Iterator[tuple[tuple[jax.Array, ...], int]], step: int, log: TrainLog
  ) -> tuple[Any, jax.Array]:
    """Draws the masks or views of a step's batch; returns its token sets and the buffer sizes that they need."""
    began = time.perf_counter()
    arrays, corrupt = next(batches)
    log.waited += time.perf_counter() - began
    log.corrupt += corrupt
    return self.compiled.draw(self.key, step, *arrays)[:2]

  # What is decided before the first step.

  def ladder(self) -> tuple[BufferSizes, ...]:
    """The buffer sizes that the step is compiled for (aim/model/buffer_sizes.py), in ascending order."""
    if isinstance(self.step, ContrastiveStep):
      return (self.step.size,)
    a, config = self.step.architecture, self.config
    dropped = self.step.masking.dropped_count(a.channel_groups, a.length)
    if self.form == "textbook":
      return (buffer_sizes.textbook(a.tokens, dropped, a.decoder_tokens),)
    counts = self.sample_token_counts()
    groups, accumulate = self.step.groups, config.optimizer.accumulate
    windows = config.batch_size // accumulate
    if self.step.impute != "none" and self.step.masking.hides_equal_counts(a.channel_groups):
      size = buffer_sizes.exact(counts[0], a.tokens, dropped, a.decoder_tokens, windows, groups, self.step.skips_blocks)
      return (size,)
    return buffer_sizes.ladder(
      counts,
      a.tokens,
      dropped,
      a.decoder_tokens,
      windows,
      groups,
      accumulate,
      config.sizes,
      self.step.skips_blocks,
    )

  def sample_token_counts(self) -> Int[np.ndarray, "windows 3"]:
    """Token counts of the run's first windows (at least SAMPLED_WINDOWS of them).

    They are the same on every process and whatever step the run goes on from, so that all choose the same sizes.
    """
    with contextlib.closing(self.batches(0)) as batches:
      steps = range(-(-SAMPLED_WINDOWS // self.config.batch_size))
      return np.concatenate([self.compiled.draw(self.key, step, *next(batches)[0])[2] for step in steps])

  def batch_shapes(self) -> tuple[jax.ShapeDtypeStruct, ...]:
    """Shapes, dtypes and shardings of a whole step's values and, with context, of mean and count of other days."""
    shape = (self.config.batch_size, self.dataset.schema.steps, self.step.architecture.channels)
    dtypes = (np.float32, np.float32, np.uint8) if self.step.architecture.context_days else (np.float32,)
    by_window = sharding.batch_sharding(self.mesh)
    return tuple(jax.ShapeDtypeStruct(shape, dtype, sharding=by_window) for dtype in dtypes)

  def announce(self, start: int, sizes: tuple[BufferSizes, ...]) -> None:
    """Prints what is about to run and, without an accelerator, how long it should take; writes parameters.txt."""
    a, config = self.step.architecture, self.config
    subset = config_files.subset(config)
    chosen, available = len(chosen_days(self.dataset, "pretrain", **subset)), self.dataset.num_days("pretrain")
    if chosen < available:
      print(f"kept {chosen:,} of {counted(available, 'day')}: {_subset_text(subset)}")
    if a.patch_channels > a.channels:  # LSM-1's groups of 5 on data of fewer channels
      print(
        f"config.model.patch_channels is {a.patch_channels} and the data have {a.channels}: one group, padded with "
        f"{a.patch_channels - a.channels} that are never observed"
      )
    print(
      f"pretraining {count_parameters(self.abstract_state['params']) / 1e6:.2f}M parameters on "
      f"{counted(chosen, 'day')} of {self.dataset.name}: {_grid_text(a)} = "
      f"{a.tokens} tokens per day, {counted(config.batch_size, 'day')} per step, "
      f"steps {start} to {config.total_steps}, {jax.device_count()} device(s) of kind {jax.devices()[0].device_kind}; "
      f"{self.form} form, {a.attention} attention, {a.dtype}",
      flush=True,
    )
    if self.start is not None and not start:
      print(self.start.text, flush=True)
    if processes.is_first_process():
      texts = [self.parameter_table] + ([] if self.start is None else ["", self.start.text])
      (self.workdir / "parameters.txt").write_text("\n".join(texts) + "\n")
    if config.log.parameters:
      print(self.parameter_table)
    if flops.peak_flops() is None:
      windows = config.batch_size // config.optimizer.accumulate
      work = flops.executed_flops(a, sizes[0], windows) * config.optimizer.accumulate
      seconds = CPU_SLOWDOWN * work / flops.measured_flops()
      total_seconds = seconds * (config.total_steps - start)
      print(
        f"no accelerator: expect about {_duration(seconds)} per step, {_duration(total_seconds)} in all, after "
        f"compiling {len(sizes)} program{'s' * (len(sizes) > 1)}: minutes for a large model, seconds if cached",
        flush=True,
      )
      if total_seconds > 6 * 3600:
        print("  suited to a CPU: --config=lsm2_tiny (minutes) or lsm2_xs", flush=True)


def _learning_rates(config: ml_collections.ConfigDict) -> Float[np.ndarray, " steps"]:
  """float32 [total_steps + 1], computed once: jnp arithmetic between steps would stall them."""
  rate = schedule(config.optimizer, config.total_steps)
  return np.asarray(jax.jit(jax.vmap(rate))(np.arange(config.total_steps + 1)))


def _check(config: ml_collections.ConfigDict, mesh: jax.sharding.Mesh) -> None:
  """Raises ConfigError for values that do not fit the devices or each other."""
  span(config.log.profile_steps, config.total_steps)
  multiple = mesh.shape["data"] * mesh.shape["fsdp"] * config.optimizer.accumulate
  if config.batch_size % multiple:
    raise config_files.ConfigError(
      f"config.batch_size is {config.batch_size}, expected a multiple of {multiple} (data x fsdp x accumulate)"
    )


def _subset_text(subset: Mapping[str, float]) -> str:
  """Describes the days that config_files.subset keeps."""
  parts = []  # in the order in which they apply
  if subset["max_participants"]:
    parts.append(f"at most {subset['max_participants']:,} participants")
  if subset["max_missing"] < 1:
    parts.append(f"those that miss at most {100 * subset['max_missing']:g} %")
  if subset["max_days"]:
    parts.append(f"at most {subset['max_days']:,} days")
  return ", ".join(parts)


def _grid_text(a: Architecture) -> str:
  grouped = f" in {a.channel_groups} groups" if a.patch_channels > 1 else ""
  return f"{counted(a.channels, 'channel')}{grouped} x {a.length} patches"


def _duration(seconds: float) -> str:
  for unit, size in (("days", 86400), ("h", 3600), ("min", 60)):
    if seconds >= 2 * size:
      return f"{seconds / size:.0f} {unit}"
  return f"{seconds:.1f} s" if seconds >= 1 else f"{1000 * seconds:.0f} ms"
