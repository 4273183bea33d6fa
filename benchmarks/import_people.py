"""People per second of an import, with one process and with several, and the memory of each of them.

  python -m benchmarks.import_people [--people=24] [--days=14] [--workers=1,2] [--repeats=3] [--output=FILE.csv]

It makes a Takeout of Fitbit for each person (a heart rate every five seconds, three values a minute) and builds a
dataset from all of them with each number of processes, in turns, each build in a process of its own. All datasets must
have the same content. Seconds and people per second are medians of the repeats.
"""

from __future__ import annotations

import concurrent.futures
import csv
import multiprocessing
import os
import pathlib
import platform
import resource
import statistics
import tempfile
import time

from absl import app, flags

from benchmarks import made_fitbit

_PEOPLE = flags.DEFINE_integer("people", 24, "Number of people.", lower_bound=1)
_DAYS = flags.DEFINE_integer("days", 14, "Days per person.", lower_bound=1)
_WORKERS = flags.DEFINE_list("workers", ["1", "2"], "Numbers of processes.")
_REPEATS = flags.DEFINE_integer("repeats", 3, "Builds with each number of processes.", lower_bound=1)
_OUTPUT = flags.DEFINE_string("output", "benchmarks/results/import_people.csv", "Where to write the table.")


def timed_build(export: str, data_dir: str, workers: int) -> tuple[float, int, int, str]:
  """Seconds of a build, peak bytes of its process and of the largest worker, and the digest of the dataset."""
  from data_pipelines.build import main as build_main
  from data_pipelines.dataset import Dataset

  arguments = ["--source=fitbit", f"--input={export}", f"--data_dir={data_dir}", "--name=made"]
  arguments += ["--timezone=UTC", "--person_by=folder", f"--workers={workers}"]
  started = time.perf_counter()
  if build_main(["build", *arguments]):
    raise ValueError("the build failed")
  seconds = time.perf_counter() - started
  own, largest = (resource.getrusage(who).ru_maxrss * 1024 for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
  return seconds, own, largest, Dataset.open(data_dir, "made").digest


def main(_: list[str]) -> None:
  found: dict[int, list[tuple[float, int, int, str]]] = {int(workers): [] for workers in _WORKERS.value}
  with tempfile.TemporaryDirectory() as folder:
    export = pathlib.Path(folder, "export")
    made_fitbit.study(export, _PEOPLE.value, _DAYS.value)
    size = sum(path.stat().st_size for path in export.rglob("*.json"))
    for repeat in range(_REPEATS.value):
      for workers, builds in found.items():
        data_dir = f"{folder}/data-{workers}-{repeat}"
        spawn = multiprocessing.get_context("spawn")
        with concurrent.futures.ProcessPoolExecutor(1, mp_context=spawn) as fresh:
          builds.append(fresh.submit(timed_build, str(export), data_dir, workers).result())
        print(f"{workers} workers: {builds[-1][0]:.1f} s", flush=True)
  digests = {digest for builds in found.values() for *_, digest in builds}
  if len(digests) > 1:
    raise ValueError(f"{len(digests)} datasets of the same exports differ")
  output = pathlib.Path(_OUTPUT.value)
  output.parent.mkdir(parents=True, exist_ok=True)
  with output.open("w", newline="") as file:
    table = csv.writer(file, lineterminator="\n")
    columns = "people days megabytes workers repeats seconds people_per_second peak_mb worker_peak_mb cores machine"
    table.writerow(columns.split())
    for workers, builds in found.items():
      seconds = statistics.median(seconds for seconds, *_ in builds)
      own, largest = (round(max(build[place] for build in builds) / 1e6) for place in (1, 2))
      row = [_PEOPLE.value, _PEOPLE.value * _DAYS.value, round(size / 1e6), workers, len(builds), round(seconds, 1)]
      table.writerow([*row, round(_PEOPLE.value / seconds, 3), own, largest, os.cpu_count(), platform.machine()])
  print(output.read_text())


if __name__ == "__main__":
  app.run(main)
