"""Kills builds and evaluations with SIGKILL at random moments, repeats them, and compares their results.

  python -m benchmarks.command_kills --kills=20 --output=benchmarks/results/command_kills.csv

After every kill of a build there is no dataset of its name or the whole one. In the end the digest of the dataset, and
every byte of the files of scores, must equal those of a command that was never killed. benchmarks/kills.py kills
trainings.
"""

from __future__ import annotations

import pathlib
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence

from absl import app, flags
from tqdm import tqdm

from aim.common.tables import write_rows
from benchmarks.programs import TINY_RUN, kill_after
from data_pipelines.dataset import Dataset, dataset_names

SCORES = ("generative.csv", "evaluate/channels.csv", "evaluate/people.csv", "evaluate/generative.png")


def main(argv: Sequence[str]) -> None:
  rows = []
  with tempfile.TemporaryDirectory() as name:
    folder = pathlib.Path(name)
    for phase, command, place, result in (_build(folder), _evaluation(folder)):
      rows += [(phase, *kill) for kill in trial(phase, command, place, result, flags.FLAGS.kills, flags.FLAGS.seed)]
  if flags.FLAGS.output:
    write_rows(flags.FLAGS.output, ("command", "kill", "seconds", "of"), rows)
  print(f"{len(rows)} kills: every command that was repeated ended with the result of one that was never killed")


def trial(
  name: str,
  command: Sequence[str],
  place: pathlib.Path,
  result: Callable[[], object],
  kills: int,
  seed: int,
) -> list[tuple[int, float, float]]:
  """Runs a command whole, then kills it `kills` times and repeats it; AssertionError unless both results are equal.

  Args:
    name: of the command, for the progress bar.
    command: the program and its arguments.
    place: the folder that it writes.
    result: what it has written there; None if there is nothing yet.
    kills: how often it is killed.
    seed: of the moments, which are spread over the time that the command takes.

  Returns:
    (number, seconds after its start, seconds that the whole command takes) of every kill.
  """
  _run(command)  # so that what it compiles is found from now on
  _clear(place)
  began = time.monotonic()
  _run(command)
  whole, expected = time.monotonic() - began, result()
  assert expected is not None
  _clear(place)
  chance, killed = random.Random(seed), []
  for number in tqdm(range(1, kills + 1), f"kills of {name}", unit="kill", disable=None):
    seconds = whole * chance.uniform(0.2, 1)
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    kill_after(process, seconds)
    assert result() in (None, expected), f"kill {number} of {name} left something else than nothing or the whole result"
    if result() == expected:
      _clear(place)  # the next kill has work to hit
    killed.append((number, round(seconds, 2), round(whole, 2)))
  _run(command)
  assert result() == expected, name
  return killed


def _build(folder: pathlib.Path) -> tuple[str, list[str], pathlib.Path, Callable[[], object]]:
  data = folder / "built"
  command = [sys.executable, "-m", "data_pipelines.build", "--source=simulate", "--participants=100", "--days=3"]
  digest = lambda: Dataset.open(data, "x").digest if "x" in dataset_names(data) else None
  return "build", [*command, f"--data_dir={data}", "--name=x"], data, digest


def _evaluation(folder: pathlib.Path) -> tuple[str, list[str], pathlib.Path, Callable[[], object]]:
  workdir, scores = folder / "run", folder / "scores"
  changes = (
    TINY_RUN
    | {"checkpoint.every_steps": 25, "log.every_steps": 1}
    | {"total_steps": 20, "data.dir": str(folder / "data"), "evaluate.days": 4}
  )
  command = [sys.executable, "-m", "aim.main", "--config=experiments/lsm2_tiny.py"]
  command += [f"--config.{key}={value}" for key, value in changes.items()]
  _run([*command, f"--workdir={workdir}"])
  command += ["--mode=evaluate", f"--checkpoint={workdir}", f"--workdir={scores}"]

  def files() -> object:
    paths = [scores / name for name in SCORES]
    return [path.read_bytes() for path in paths] if all(path.exists() for path in paths) else None

  return "evaluate", command, scores, files


def _run(command: Sequence[str]) -> None:
  done = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
  assert done.returncode == 0, done.stderr.decode()


def _clear(place: pathlib.Path) -> None:
  shutil.rmtree(place, ignore_errors=True)


def define_flags() -> None:
  """Defines the flags of this command; not on import, so that tests can import several benchmarks."""
  flags.DEFINE_integer("kills", 20, "How often to kill each command.", lower_bound=1)
  flags.DEFINE_integer("seed", 0, "Seed of the moments.")
  flags.DEFINE_string("output", None, "CSV file with a row for every kill.")


if __name__ == "__main__":
  define_flags()
  app.run(main)
