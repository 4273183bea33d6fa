"""Windows per second of two processes with one device each, against one process with both devices.

  python -m benchmarks.processes [--config=lsm2_xs] [--repeats=3] [--steps=40] [--config.key=value ...]

Both are whole runs of the command line on this machine's CPU, with Gloo collectives between processes. They take turns.
A repeat counts as the median over intervals of its steps, without the first interval.
"""

from __future__ import annotations

import os
import pathlib
import socket
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence

from absl import flags

from aim import commands
from aim.common import config_files
from aim.common.tables import csv_field, write_rows
from benchmarks import programs
from data_pipelines.text_files import read_json_lines

CONFIG = flags.DEFINE_string("config", "lsm2_xs", "Experiment: a shipped one or a .py file.")
REPEATS = flags.DEFINE_integer("repeats", 3, "Runs of each kind.", lower_bound=1)
STEPS = flags.DEFINE_integer("steps", 40, "Steps per run.", lower_bound=2)
BATCH_SIZE = flags.DEFINE_integer("batch_size", 8, "Windows per step, over both devices.", lower_bound=2)
OUTPUT = flags.DEFINE_string("output", "benchmarks/results/processes.csv", "Where to write the table.")
COLUMNS = ("repeat", "processes", "windows_per_second")
INTERVALS = 8  # per run


def main(argv: Sequence[str]) -> None:
  rows: list[tuple[int, int, float]] = []
  with tempfile.TemporaryDirectory() as folder:
    config = config_files.load(CONFIG.value)
    config.data.dir = folder
    commands.open_dataset(config)  # built once, before several processes open it
    for repeat in range(REPEATS.value):
      for processes in (1, 2) if repeat % 2 == 0 else (2, 1):
        workdir = pathlib.Path(folder, f"{repeat}_{processes}")
        run(processes, [f"--config.data.dir={folder}", f"--workdir={workdir}", *argv[1:]])
        rows.append((repeat, processes, windows_per_second(workdir)))
        print("repeat {}, {} process(es): {:.2f} windows/s".format(*rows[-1]), flush=True)
  one, two = ([rate for _, processes, rate in rows if processes == count] for count in (1, 2))
  print("| processes | devices each | windows/s, median (least to most) |\n|---|---|---|")
  for count, rates in ((1, one), (2, two)):
    print(f"| {count} | {2 // count} | {statistics.median(rates):.2f} ({min(rates):.2f} to {max(rates):.2f}) |")
  ratio = statistics.median(two) / statistics.median(one)
  print(f"two processes against one: {ratio:.3f}, a loss of {100 * (1 - ratio):+.1f} %")
  write_rows(OUTPUT.value, COLUMNS, [[csv_field(value) for value in row] for row in rows])
  print(f"wrote {OUTPUT.value}")


def run(processes: int, arguments: Sequence[str]) -> None:
  """Runs a training on two devices to its end."""
  interval = max(1, STEPS.value // INTERVALS)
  overrides = {"batch_size": BATCH_SIZE.value, "total_steps": STEPS.value, "log.every_steps": interval}
  overrides |= {"optimizer.accumulate": 1, "sizes": 2, "checkpoint.every_steps": 10 * STEPS.value}
  command = [sys.executable, "-m", "aim.main", f"--config={CONFIG.value}"]
  command += [*(f"--config.{key}={value}" for key, value in overrides.items()), *arguments]
  environment = os.environ | {"JAX_PLATFORMS": "cpu", "JAX_NUM_CPU_DEVICES": str(2 // processes)}
  join = [f"--coordinator=localhost:{_port()}", f"--num_processes={processes}"] if processes > 1 else []
  commands_of_all = [[*command, *join, *([f"--process_id={i}"] if join else [])] for i in range(processes)]
  running = [
    subprocess.Popen(one, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    for one in commands_of_all
  ]
  errors = [process.communicate()[1] for process in running]
  if any(process.returncode for process in running):
    sys.exit("\n".join(errors))


def windows_per_second(workdir: pathlib.Path) -> float:
  """The median over the intervals of metrics.jsonl, without the first."""
  lines = [line for _, line in read_json_lines(workdir / "metrics.jsonl")]
  rates = [line["windows_per_second"] for line in lines if "windows_per_second" in line]
  return statistics.median(rates[1:] or rates)


def _port() -> int:
  with socket.socket() as free:
    free.bind(("localhost", 0))
    return free.getsockname()[1]


if __name__ == "__main__":
  programs.run_main(main)
