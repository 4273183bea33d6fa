"""Peak memory of the modes that read a whole dataset, against its number of days; and of a long training.

  python -m benchmarks.memory [--days=1000,10000,100000] [--modes=embed,evaluate,heldout,probe,finetune]
  python -m benchmarks.memory --days=1000 --train_steps=2000

Days are random numbers of 8 channels x 96 steps (3 kB) with holes, half of them of people to be scored, so that each
split has its share of the growth. The model is tiny and trained for a few steps: memory does not depend on weights.
Every mode is a process of its own, whose peak is what the kernel reports when it ends.

The training is one process, which saves a checkpoint and scores held-out people every 100 steps. What it holds is read
from the kernel while it runs; of 100 steps the least counts.
"""

from __future__ import annotations

import dataclasses
import math
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence

import numpy as np
from absl import app, flags

from aim.common.tables import csv_field, write_rows
from benchmarks.programs import TINY_TOWERS
from data_pipelines import build, splits
from data_pipelines.schema import Channel, Schema
from data_pipelines.source import Day, Person
from data_pipelines.text_files import parse_json_object

DAYS = flags.DEFINE_list("days", ["1000", "10000", "100000"], "Numbers of days.")
MODES = flags.DEFINE_list("modes", ["embed", "evaluate", "heldout", "probe", "finetune"], "Modes to measure.")
TRAIN_STEPS = flags.DEFINE_integer("train_steps", 0, "Measure a training of this length instead.", lower_bound=0)
DATA_DIR = flags.DEFINE_string("data_dir", None, "Where datasets are kept; by default a temporary folder.")
OUTPUT = flags.DEFINE_string("output", None, "CSV file; by default memory.csv or training_memory.csv in the results.")
COLUMNS = ("mode", "days", "peak_mb")
TRAIN_COLUMNS = ("step", "held_mb")

CHANNELS, STEPS, DAYS_PER_PERSON = 8, 96, 20
EVERY = 100  # training steps between checkpoints, scores and rows
SETTLED = 0.2  # of the training: growth is counted from here on, once everything was allocated
SMALL = TINY_TOWERS | {
  "batch_size": 16,
  "total_steps": 4,
  "optimizer.accumulate": 1,
  "form": "textbook",
  "model.patch_minutes": 240,
  "masking.random.unit_minutes": 0,
  "evaluate.batch_size": 64,
  "evaluate.random_percent": "(50,)",
  "evaluate.interpolation_minutes": "(60,)",
  "evaluate.extrapolation_minutes": "(60,)",
  "evaluate.sensor_channels": "(2,)",
  "evaluate.gap_minutes": "()",
  "evaluate.random_patch_minutes": 60,
  "evaluate.days_a_task": 2000,  # scored; all are read
  "evaluate.imputers": "('linear', 'person_time_of_day_mean')",
  "evaluate.bootstrap": 20,
  "probe.tasks": "('age',)",
  "probe.forest_trees": 5,
  "probe.strengths": "(10.0,)",
  "probe.bootstrap": 20,
  "finetune.tasks": "('age',)",
  "finetune.label_percent": 100,
  "finetune.compare": "()",
  "finetune.steps": 40,
  "finetune.bootstrap": 20,
}


@dataclasses.dataclass(frozen=True)
class RandomDays:
  """A data_pipelines Source of random days; a person's level depends on their age."""

  n_days: int

  @property
  def schema(self) -> Schema:
    """Steps of a quarter of an hour."""
    return Schema(1440 // STEPS, tuple(Channel(f"c{i}") for i in range(CHANNELS)))

  @property
  def participants(self) -> Sequence[str]:
    """DAYS_PER_PERSON days each."""
    return [f"p{i:06d}" for i in range(self.n_days // DAYS_PER_PERSON)]

  def person(self, participant: str) -> Person:
    """A person with an age and their days, a tenth of whose values are missing."""
    rng = np.random.default_rng(int(participant[1:]))
    age = float(rng.integers(20, 80))
    values = rng.normal(age, 10, (DAYS_PER_PERSON, STEPS, CHANNELS)).astype(np.float32)
    values[rng.random(values.shape) < 0.1] = np.nan
    return Person(participant, [Day(day, participant, d) for d, day in enumerate(values)], {"age": age})


def main(argv: Sequence[str]) -> None:
  if len(argv) > 1:
    raise app.UsageError(f"unexpected argument {argv[1]!r}")
  with tempfile.TemporaryDirectory() as scratch:
    folder = pathlib.Path(DATA_DIR.value or scratch).absolute()
    if TRAIN_STEPS.value:
      measure_training(folder, pathlib.Path(scratch))
    else:
      measure_modes(folder, pathlib.Path(scratch))


def measure_modes(folder: pathlib.Path, scratch: pathlib.Path) -> None:
  """One row for each mode and number of days."""
  rows: list[tuple[str, int, float]] = []
  for count in map(int, DAYS.value):
    dataset(folder, count)
    workdir = scratch / str(count)
    run("pretrain", folder, count, workdir)
    for mode in MODES.value:
      rows.append((mode, count, run(mode, folder, count, workdir)))
      print("{} of {:,} days: {:.0f} MB".format(*rows[-1]), flush=True)
  _write("benchmarks/results/memory.csv", COLUMNS, rows)
  counts = list(map(int, DAYS.value))
  print(f"\n| mode | {' | '.join(f'{count:,} days, MB' for count in counts)} |\n|---|{'---|' * len(counts)}")
  for mode in MODES.value:
    print(f"| {mode} | {' | '.join(f'{row[2]:.0f}' for row in rows if row[0] == mode)} |")


def dataset(folder: pathlib.Path, count: int) -> None:
  """Builds random_COUNT unless it is there: half of the people to learn from, half of them to be scored."""
  request = {"source": "benchmarks.memory", "days": count, "steps": STEPS, "channels": CHANNELS}
  build.build(RandomDays(count), folder, f"random_{count}", split=splits.HashSplit((0.5, 0.1, 0.4)), request=request)


def run(mode: str, folder: pathlib.Path, count: int, workdir: pathlib.Path) -> float:
  """Runs a mode in a process of its own; returns its peak memory in MB."""
  if mode == "embed":
    arguments = [f"--data=random_{count}", f"--data_dir={folder}", f"--output={workdir}/embeddings.parquet"]
    arguments.append(f"--checkpoint={workdir}")
  else:
    settings = SMALL | {"data.dir": folder, "data.name": f"random_{count}"}
    arguments = ["--config=lsm2_tiny", *(f"--config.{key}={value}" for key, value in settings.items())]
    arguments.append(f"--workdir={workdir}")
  process = _start(mode, arguments)
  _, status, usage = os.wait4(process.pid, 0)
  process.returncode = os.waitstatus_to_exitcode(status)
  _check(process)
  return usage.ru_maxrss / 1024


def measure_training(folder: pathlib.Path, workdir: pathlib.Path) -> None:
  """One row for every EVERY steps of a training."""
  count = int(DAYS.value[0])
  dataset(folder, count)
  settings = SMALL | {"data.dir": folder, "data.name": f"random_{count}", "total_steps": TRAIN_STEPS.value}
  settings |= {"checkpoint.every_steps": EVERY, "evaluate_every": EVERY, "log.every_steps": EVERY // 10}
  arguments = ["--config=lsm2_tiny", *(f"--config.{key}={value}" for key, value in settings.items())]
  process = _start("pretrain", [*arguments, f"--workdir={workdir}"])
  rows: list[tuple[int, float]] = []
  least = math.inf  # since the last row: what a save or a score holds for a moment is not what is kept
  while process.poll() is None:
    step, held = _last_step(workdir), _held_mb(process.pid)
    least = min(least, held or math.inf)
    if held and step >= EVERY * (len(rows) + 1):
      rows.append((step, least))
      least = math.inf
    time.sleep(0.05)
  _check(process)
  _write("benchmarks/results/training_memory.csv", TRAIN_COLUMNS, rows)
  settled = [held for step, held in rows if step > SETTLED * TRAIN_STEPS.value]
  quarter = len(settled) // 4
  before, after = statistics.median(settled[:quarter]), statistics.median(settled[-quarter:])
  print(
    f"{before:.1f} MB in the first quarter of the steps after {SETTLED * TRAIN_STEPS.value:.0f}, {after:.1f} MB in the "
    f"last, growth {100 * (after / before - 1):+.2f} %"
  )


def _last_step(workdir: pathlib.Path) -> int:
  """The step of the last complete line of metrics.jsonl; 0 before there is one."""
  path = workdir / "metrics.jsonl"
  lines = path.read_text().split("\n")[:-1] if path.exists() else []
  return parse_json_object(lines[-1], str(path))["step"] if lines else 0


def _held_mb(pid: int) -> float:
  """Memory of a process without what it shares with its files, in MB; 0 if it has ended."""
  try:
    lines = pathlib.Path(f"/proc/{pid}/status").read_text().splitlines()
  except OSError:
    return 0.0
  return sum(int(line.split()[1]) for line in lines if line.startswith("RssAnon:")) / 1024


def _start(mode: str, arguments: Sequence[str]) -> subprocess.Popen[bytes]:
  command = [sys.executable, "-m", "aim.main", f"--mode={mode}", *arguments]
  environment = os.environ | {"JAX_PLATFORMS": "cpu"}
  return subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def _check(process: subprocess.Popen[bytes]) -> None:
  """Ends this program if the process failed."""
  if process.returncode:
    sys.exit(f"exit code {process.returncode} of: {' '.join(map(str, process.args))}")  # type: ignore[arg-type]


def _write(path: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
  path = OUTPUT.value or path
  write_rows(path, columns, [[csv_field(value) for value in row] for row in rows])
  print(f"wrote {path}")


if __name__ == "__main__":
  app.run(main)
