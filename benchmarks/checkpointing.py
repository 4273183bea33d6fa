"""Time that asynchronous checkpoints add to the steps of a run.

  python -m benchmarks.checkpointing [--config=experiments/lsm2_xs.py] [--stretch=20] [--pairs=6]

One real run is cut into stretches of steps, and a checkpoint is saved at the start of every other stretch. What a save
adds is the median over pairs of neighbouring stretches. Time in the background counts too, as long as the write ends
within its stretch, so a stretch should be longer than a write.
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
STRETCH = flags.DEFINE_integer("stretch", 20, "Steps of a stretch.", lower_bound=2)
PAIRS = flags.DEFINE_integer("pairs", 6, "Pairs of a stretch with a save and one without.", lower_bound=1)
BATCH_SIZE = flags.DEFINE_integer("batch_size", 8, "Windows per step; few, because a short step makes the test strict.")
OUTPUT = flags.DEFINE_string("output", "benchmarks/results/checkpointing.csv", "Where to write the table.")
COLUMNS = ("pair", "with_save_s", "without_s", "added_percent")


def main(argv: Sequence[str]) -> None:
  logging.set_verbosity(logging.WARNING)  # Orbax raises it at import
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
  """A list to which the program appends the time at which it starts each step."""
  train, starts = compiled.train, []

  def timed(*arguments: Any) -> Any:
    starts.append(time.perf_counter())
    return train(*arguments)

  compiled.train = timed
  return starts


def _row(starts: Sequence[float], pair: int, stretch: int) -> tuple[int, float, float, float]:
  # A save happens after the last step of an even stretch has been dispatched and before the next step is.
  first = 2 * pair * stretch - 1
  saved = starts[first + stretch] - starts[first]
  plain = starts[first + 2 * stretch] - starts[first + stretch]
  return pair, saved, plain, 100 * (saved / plain - 1)


if __name__ == "__main__":
  app.run(main)
