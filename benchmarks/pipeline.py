"""People and days per second of a build, from simulated days to array_record, and how this grows with people.

  python -m benchmarks.pipeline [--people=100,300,1000] [--days=30] [--workers=1,2,4] [--output=FILE.csv]

The days have 26 channels x 1,440 minutes. It times `data_pipelines.build.build` with everything that it writes. The row
with 0 workers only simulates the same days, which bounds the rate of one process. Processor time is that of all
processes, because wall time means little where others use the cores too.
"""

from __future__ import annotations

import csv
import os
import pathlib
import platform
import resource
import tempfile
import time
from collections.abc import Callable

from absl import app, flags

from data_pipelines.build import build, simulate_request
from data_pipelines.runners import Processes
from data_pipelines.simulator import Simulation

_PEOPLE = flags.DEFINE_list("people", ["100", "300", "1000"], "Numbers of people to simulate.")
_DAYS = flags.DEFINE_integer("days", 30, "Days per person.", lower_bound=1)
_WORKERS = flags.DEFINE_list("workers", ["0", "1", "2", "4"], "Numbers of processes; 0: only simulate.")
_OUTPUT = flags.DEFINE_string("output", "benchmarks/results/pipeline.csv", "Where to write the table.")


def _processor_seconds() -> float:
  """Processor seconds of this process and of its children that have ended."""
  usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
  return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def timed(work: Callable[[], object]) -> tuple[float, float]:
  """Wall and processor seconds of a call."""
  started, spent = time.perf_counter(), _processor_seconds()
  work()
  return time.perf_counter() - started, _processor_seconds() - spent


def measure(people: int, days: int, workers: int) -> dict[str, object]:
  """One row of the table."""
  source = Simulation(participants=people, days=days, seed=0)
  with tempfile.TemporaryDirectory() as folder:
    if workers:
      request = simulate_request(people, days, 0)
      wall, processor = timed(lambda: build(source, folder, "x", request=request, runner=Processes(workers)))
    else:
      wall, processor = timed(lambda: [source.person(participant).participant for participant in source.participants])
    stored = sum(path.stat().st_size for path in pathlib.Path(folder).rglob("*.array_record*"))
  total = people * days
  row: dict[str, object] = {"people": people, "days": total, "workers": workers, "seconds": round(wall, 1)}
  row |= {"people_per_second": round(people / wall, 2), "days_per_second": round(total / wall)}
  row |= {"days_per_processor_second": round(total / processor), "bytes_per_day": round(stored / total)}
  return row | {"cpu": platform.machine(), "cores": os.cpu_count()}


def main(argv: list[str]) -> None:
  if len(argv) > 1:
    raise app.UsageError(f"unexpected argument {argv[1]!r}")
  rows = []
  for people in map(int, _PEOPLE.value):
    for workers in map(int, _WORKERS.value):
      rows.append(measure(people, _DAYS.value, workers))
      print("  ".join(f"{key} {value}" for key, value in rows[-1].items()), flush=True)
  output = pathlib.Path(_OUTPUT.value)
  output.parent.mkdir(parents=True, exist_ok=True)
  with output.open("w", newline="") as file:
    writer = csv.DictWriter(file, fieldnames=list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
  print(f"wrote {output}")


if __name__ == "__main__":
  app.run(main)
