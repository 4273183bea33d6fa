"""Windows per second of the training loader, and bytes per stored day.

  python -m benchmarks.loader [--data_dir=DIR --name=NAME] [--output=FILE.csv]

Without a dataset, simulated days of 26 channels x 1,440 minutes are built in a temporary directory first. Every row of
the table reads --windows windows after a warm-up batch, so the start of worker processes does not count.
"""

from __future__ import annotations

import csv
import os
import pathlib
import platform
import tempfile
import time

from absl import app, flags

from data_pipelines.build import build, simulate_request
from data_pipelines.dataset import Dataset
from data_pipelines.loader import train_loader

_DATA_DIR = flags.DEFINE_string("data_dir", None, "Directory of datasets; without it days are simulated.")
_NAME = flags.DEFINE_string("name", None, "Name of the dataset.")
_OUTPUT = flags.DEFINE_string("output", "benchmarks/results/loader.csv", "Where to write the table.")
_BATCH_SIZE = flags.DEFINE_integer("batch_size", 32, "Windows per batch.", lower_bound=1)
_WINDOWS = flags.DEFINE_integer("windows", 8192, "Windows to read for each row of the table.", lower_bound=1)
_WORKERS = flags.DEFINE_list("workers", ["0", "1", "2"], "Numbers of worker processes to measure.")

_PEOPLE, _DAYS = 50, 10


def simulated(data_dir: str) -> Dataset:
  """Builds a dataset of simulated days."""
  from data_pipelines.simulator import Simulation

  source = Simulation(participants=_PEOPLE, days=_DAYS, seed=0)
  return build(source, data_dir, "simulated", request=simulate_request(_PEOPLE, _DAYS, 0))


def windows_per_second(dataset: Dataset, workers: int, batch_size: int, windows: int) -> float:
  """Times the reading of at least `windows` windows of the pretrain split."""
  steps = -(-windows // batch_size)
  with train_loader(dataset, batch_size=batch_size, seed=0, workers=workers) as batches:
    next(batches)
    started = time.perf_counter()
    for _ in range(steps):
      next(batches)
    return steps * batch_size / (time.perf_counter() - started)


def measure(dataset: Dataset, workers: list[int], batch_size: int, windows: int) -> list[dict[str, object]]:
  """One row of the table for each number of worker processes."""
  shape = f"{len(dataset.schema.channels)}x{dataset.schema.steps}"
  files = dataset.path.glob("day_windows-pretrain.array_record*")
  stored = sum(path.stat().st_size for path in files) / dataset.num_days("pretrain")
  rows = []
  for count in workers:
    rate = windows_per_second(dataset, count, batch_size, windows)
    row: dict[str, object] = {"window": shape, "workers": count, "batch_size": batch_size}
    row |= {"windows_per_second": round(rate), "bytes_per_day": round(stored), "days": dataset.num_days("pretrain")}
    rows.append(row | {"cpu": platform.machine(), "cores": os.cpu_count()})
    print("  ".join(f"{key} {value:>6}" for key, value in rows[-1].items()), flush=True)
  return rows


def main(argv: list[str]) -> None:
  if len(argv) > 1:
    raise app.UsageError(f"unexpected argument {argv[1]!r}")
  workers = [int(count) for count in _WORKERS.value]
  with tempfile.TemporaryDirectory() as folder:
    dataset = Dataset.open(_DATA_DIR.value, _NAME.value or "") if _DATA_DIR.value else simulated(folder)
    rows = measure(dataset, workers, _BATCH_SIZE.value, _WINDOWS.value)
  output = pathlib.Path(_OUTPUT.value)
  output.parent.mkdir(parents=True, exist_ok=True)
  with output.open("w", newline="") as file:
    writer = csv.DictWriter(file, fieldnames=list(rows[0]))
    writer.writeheader()
    writer.writerows(rows)
  print(f"wrote {output}")


if __name__ == "__main__":
  app.run(main)
