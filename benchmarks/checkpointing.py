"""What asynchronous checkpoints add to the steps of a run.

  python -m benchmarks.checkpointing [--config=experiments/lsm2_xs.py] [--stretch=20] [--pairs=6]

One real run in stretches of steps: a checkpoint is saved at the beginning of every other one, and what it adds is the
median over pairs of neighbours. Saving is timed from the call to the end of the stretch, so what is written in the
background counts too; a stretch should be longer than a write takes.
"""

from __future__ import annotations

import pathlib
import statistics
import tempfile
import time
from collections.abc import Sequence
from typing import Any

import jax
from absl import app, flags, logging
from ml_collections import config_flags

from aim import commands
from aim.common.tables import csv_field, write_rows
from aim.runtime import sharding
from aim.training.pretrain import TrainingRun

CONFIG = config_flags.DEFINE_config_file("config", "experiments/lsm2_xs.py")
STRETCH = flags.DEFINE_integer("stretch", 20, "Steps between a save and the stretch without.", lower_bound=2)
PAIRS = flags.DEFINE_integer("pairs", 6, "Stretches with a save, and as many without.", lower_bound=1)
BATCH_SIZE = flags.DEFINE_integer("batch_size", 8, "Windows of a step, all at once: a short one, to be strict.")
OUTPUT = flags.DEFINE_string("output", "benchmarks/results/checkpointing.csv", "Where to write the table.")
COLUMNS = ("pair", "with_save_s", "without_s", "added_percent")


def main(argv: Sequence[str]) -> None:
  logging.set_verbosity(logging.WARNING)  # Orbax turned it up
  config, stretch, pairs = CONFIG.value, STRETCH.value, PAIRS.value
  usual = config.checkpoint.every_steps
  config.batch_size, config.optimizer.accumulate, config.sizes = BATCH_SIZE.value, 1, 2
  config.checkpoint.every_steps, config.total_steps = 2 * stretch, 2 * stretch * (1 + pairs)
  with tempfile.TemporaryDirectory() as folder:
    config.data.dir = folder
    dataset = commands.open_dataset(config)
    with jax.set_mesh(sharding.make_mesh(**config.mesh)):
      training = TrainingRun(config, pathlib.Path(folder, "run"), dataset)
      starts = _starts(training.compiled)
      training.run()
  rows = [_row(starts, pair, stretch) for pair in range(1, pairs + 1)]
  print("| pair | steps with a save, s | without, s | added, % |\n|---|---|---|---|")
  for row in rows:
    print("| {} | {:.3f} | {:.3f} | {:+.2f} |".format(*row))
  added = statistics.median(saved - plain for _, saved, plain, _ in rows)
  step = statistics.median(plain for _, _, plain, _ in rows) / stretch
  share = lambda every: f"{100 * added / (every * step):+.2f} % of the steps with one every {every}"
  print(f"a save adds {added:.3f} s (median of {pairs}) to steps of {step:.3f} s: {share(stretch)}, {share(usual)}")
  write_rows(OUTPUT.value, COLUMNS, [[csv_field(value) for value in row] for row in rows])
  print(f"wrote {OUTPUT.value}")


def _starts(compiled: Any) -> list[float]:
  """Fills with the times at which the program starts the steps."""
  train, starts = compiled.train, []

  def timed(*arguments: Any) -> Any:
    starts.append(time.perf_counter())
    return train(*arguments)

  compiled.train = timed
  return starts


def _row(starts: Sequence[float], pair: int, stretch: int) -> tuple[int, float, float, float]:
  # Saved is after the last step of an even stretch has been given to the device, and before the next one is.
  first = 2 * pair * stretch - 1
  saved = starts[first + stretch] - starts[first]
  plain = starts[first + 2 * stretch] - starts[first + stretch]
  return pair, saved, plain, 100 * (saved / plain - 1)


if __name__ == "__main__":
  app.run(main)
