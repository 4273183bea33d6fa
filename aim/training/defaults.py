"""Default config of a training run: the data it reads, the optimiser, the mesh, checkpoints and logs."""

from __future__ import annotations

from ml_collections import ConfigDict

from aim.common.config_ranges import DECAY, SEED, TEXT, Range, Row, Several, Spelled, number, one_of, whole


def defaults() -> ConfigDict:
  """The keys name, seed, total_steps, batch_size, evaluate_every and evaluate_days, and several groups."""
  config = ConfigDict()
  config.name = "LSM-2"  # of the model, in tables and figures
  config.seed = 0
  config.total_steps = 50_000
  config.batch_size = 4096  # windows per step, over all processes
  # Steps between scores of the loss on people of the split "tune", who are not trained on (heldout_loss in
  # metrics.jsonl; aim/training/heldout_curve.py). -1: 20 times per run; 0: never.
  config.evaluate_every = -1
  config.evaluate_days = 256  # at most so many days of theirs
  config.data = _data()
  config.init = _init()
  config.optimizer = _optimizer()
  config.mesh = ConfigDict({"data": -1, "fsdp": 1, "tensor": 1})  # -1: all remaining devices
  # TPU slices, or GPU machines, that the data axis spans; fsdp and tensor stay inside one of them.
  config.mesh.slices = 1
  config.checkpoint = ConfigDict({"every_steps": 1000, "keep": 3})
  config.log = _log()
  return config


def _data() -> ConfigDict:
  data = ConfigDict()
  data.dir = "data"  # folder of the datasets
  data.name = ""  # a dataset in data.dir; empty: the simulated cohort below, built on first use
  # Several datasets at once, each with a weight, such as (("t1d_uom", 1.0), ("nhanes", 0.5)): days are drawn from each
  # in proportion to its weight, in the schema of all their channels (docs/data.md). Empty: data.name alone.
  data.mix = ()
  data.minutes_per_step = 0  # clock of a mix, to which finer ones are aggregated; 0: the coarsest of its datasets
  # What to do if a run goes on with other weights of the same datasets: "stop", or "continue" with the new ones.
  data.on_changed_mix = "stop"
  data.participants = 200  # size of the simulated cohort
  data.days = 5  # per simulated participant
  data.seed = 0  # of the simulation
  # Train on the simulated cohort although there are several accelerators. Without this, a run there must name its data.
  data.simulate = False
  # A YAML file that adds channels of one's own to the vocabulary (data_pipelines/channels/vocabulary.py); empty: none.
  data.vocabulary = ""
  # How holes are filled before masking: "none" (AIM: they stay holes) or "linear" interpolation in time, as LSM-1 is
  # trained. Filled values then count as observed: the model sees them and learns from them.
  data.impute = "none"
  data.clip = True  # cut z-scores off at each channel's own bound, by default 5 SDs
  # Names of channels in which 0 is what a device writes where it measured nothing, such as a heart rate.
  data.zero_is_missing = ()
  # Train only on days that miss at most this share of their values. Below 1 this mimics a pipeline that discards
  # incomplete days. Normalisation stays that of all training days.
  data.max_missing = 1.0
  # Train on at most this many people, who are chosen whatever their days miss, and on at most this many of their days
  # that max_missing leaves; 0: no limit. The choice is by keyed hash, so that a smaller selection is part of every
  # larger one (data_pipelines/subset.py).
  data.max_participants = 0
  data.max_days = 0
  # A day that cannot be read because a file is damaged: "stop" the run, or "skip" it. When skipped, another day of the
  # split, chosen by the damaged day's number, replaces it, and the order of all others stays the same. metrics.jsonl
  # counts replacements as corrupt_days.
  data.on_corrupt = "stop"
  data.workers = 0  # loader processes; 0 reads in a thread
  return data


def _init() -> ConfigDict:
  """Starting from the weights of another run (aim/training/starting_weights.py)."""
  init = ConfigDict()
  init.checkpoint = ""  # a workdir, a checkpoint, or whatever else aim.load takes; empty: random weights
  init.parts = "all"  # what is taken: "all" parameters, or those of the "encoder" with its patch embedding
  # What normalises channels that the checkpoint knows: its statistics, or those of the "data".
  init.statistics = "checkpoint"
  init.learning_rate = 1.0  # factor of optimizer.learning_rate for the parameters that are taken
  init.frozen = ()  # parameters that get no update, by how their names begin, such as ("patch_embedding", "encoder")
  return init


def _optimizer() -> ConfigDict:
  """AdamW (aim/training/optimizer.py)."""
  optimizer = ConfigDict()
  optimizer.learning_rate = 5e-4
  optimizer.warmup_share = 0.05  # of total_steps: linear warm-up, then a cosine to 0
  optimizer.b1 = 0.9
  optimizer.b2 = 0.95
  optimizer.weight_decay = 1e-4
  optimizer.clip_norm = 1.0
  optimizer.accumulate = 1  # microbatches per step
  optimizer.ema = 0.0  # decay of the moving average of the parameters that inference uses; 0: no average
  optimizer.on_nan = "stop"  # or "skip": leave out an update with a NaN or Inf and continue
  return optimizer


def _log() -> ConfigDict:
  log = ConfigDict()
  log.every_steps = 50
  log.tensorboard = False
  log.wandb = ""  # project name; empty: off
  # Steps FIRST:LAST, such as "100:110", of which a trace for TensorBoard or XProf is written to WORKDIR/profile; empty:
  # none.
  log.profile_steps = ""
  log.parameters = False  # print where each parameter lives; WORKDIR/parameters.txt always has it
  # When no step finishes for this many seconds, the stacks of all threads are printed and the process exits with code
  # 75; 0: never. A running save gets its time. Restoring and compiling have a limit of their own.
  log.watchdog_seconds = 1800.0
  log.watchdog_compile_seconds = 7200.0
  return log


# The range of every key, checked before anything is built (aim/common/config_ranges.py).
RANGES: dict[str, Range] = {
  "name": TEXT,
  "seed": SEED,
  "total_steps": whole(1, 100_000_000),
  "batch_size": whole(1, 1_000_000),
  "evaluate_every": whole(0, 100_000_000, instead={-1: "20 times per run"}),
  "evaluate_days": whole(1, 1_000_000),
  "data.dir": TEXT,
  "data.name": TEXT,
  "data.mix": Several(Row((TEXT, number(0, 1_000_000, above=True)))),
  "data.minutes_per_step": whole(0, 1440),
  "data.on_changed_mix": one_of("stop", "continue"),
  "data.participants": whole(1, 10_000_000),
  "data.days": whole(1, 10_000),
  "data.seed": SEED,
  "data.vocabulary": TEXT,
  "data.zero_is_missing": Several(TEXT),
  "data.impute": one_of("none", "linear"),
  "data.max_missing": number(0, 1),
  "data.max_participants": whole(0, 1_000_000_000),
  "data.max_days": whole(0, 1_000_000_000),
  "data.on_corrupt": one_of("stop", "skip"),
  "data.workers": whole(0, 1000),
  "init.checkpoint": TEXT,
  "init.parts": one_of("all", "encoder"),
  "init.statistics": one_of("checkpoint", "data"),
  "init.learning_rate": number(0, 1000, above=True),
  "init.frozen": Several(TEXT),
  "optimizer.learning_rate": number(0, 1000, above=True),
  "optimizer.warmup_share": number(0, 1),
  "optimizer.b1": DECAY,
  "optimizer.b2": DECAY,
  "optimizer.weight_decay": number(0, 1000),
  "optimizer.clip_norm": number(1e-6, 1e9),  # a large one never clips
  "optimizer.accumulate": whole(1, 100_000),
  "optimizer.ema": DECAY,
  "optimizer.on_nan": one_of("stop", "skip"),
  "mesh.data": whole(1, 1_000_000, instead={-1: "all remaining devices"}),
  "mesh.fsdp": whole(1, 1_000_000),
  "mesh.tensor": whole(1, 1_000_000),
  "mesh.slices": whole(1, 1_000_000),
  "checkpoint.every_steps": whole(1, 100_000_000),
  "checkpoint.keep": whole(1, 1_000_000),
  "log.every_steps": whole(1, 100_000_000),
  "log.wandb": TEXT,
  "log.profile_steps": Spelled(r"(|[1-9]\d*:[1-9]\d*)", "steps FIRST:LAST, such as 100:110, or nothing"),
  "log.watchdog_seconds": number(0, 10_000_000),
  "log.watchdog_compile_seconds": number(0, 10_000_000),
}
