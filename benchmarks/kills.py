"""Kills a run with SIGKILL at random moments, restarts it, and compares its end with a run that was never killed.

  python -m benchmarks.kills --kills=20 --output=benchmarks/results/kills.csv
  python -m benchmarks.kills --kills=20 --phase=compile --steps=200 --output=benchmarks/results/kills_compile.csv
  python -m benchmarks.kills --kills=20 --phase=save --output=benchmarks/results/kills_save.csv

A quarter of the kills hits a process that starts, compiles or restores, the others one that trains or saves. With
--phase=compile every kill comes before the first step, and programs are compiled anew each time; with --phase=save
every step is saved, so that a kill nearly always hits a save. In the end every line of metrics.jsonl (loss, gradient
norm, held-out loss) and every array of the last checkpoint must equal those of the unbroken run, bit for bit. Builds
and evaluations are killed by benchmarks/command_kills.py.
"""

from __future__ import annotations

import dataclasses
import math
import os
import pathlib
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence

import jax
import numpy as np
import orbax.checkpoint.experimental.v1 as ocp
from absl import app, flags
from tqdm import tqdm

from aim.common.tables import write_rows
from aim.training import checkpoint, heldout_curve
from benchmarks.programs import TINY_RUN, kill_after
from data_pipelines.text_files import parse_json_object, read_json_lines

SMALL = TINY_RUN | {"checkpoint.every_steps": 25, "log.every_steps": 1}
STARTING = {"any": 0.25, "compile": 1.0, "save": 0.1}  # share of the kills that hit a process before its first step


@dataclasses.dataclass(frozen=True)
class Kill:
  """One kill.

  Attributes:
    kill: its number, from 1.
    seconds: time after the start of the process, or after its first new step.
    told: the last step in metrics.jsonl.
    saved: the newest complete checkpoint.
    redone: steps that must be repeated.
  """

  kill: int
  seconds: float
  told: int
  saved: int
  redone: int


def main(argv: Sequence[str]) -> None:
  with tempfile.TemporaryDirectory() as folder:
    changes = SMALL | {"total_steps": flags.FLAGS.steps, "data.dir": f"{folder}/data"}
    command = [sys.executable, "-m", "aim.main", "--config=experiments/lsm2_tiny.py"]
    changes |= {"checkpoint.every_steps": 1} if flags.FLAGS.phase == "save" else {}
    command += [f"--config.{key}={value}" for key, value in changes.items()]
    kills = trial(
      command, pathlib.Path(folder), flags.FLAGS.steps, flags.FLAGS.kills, flags.FLAGS.seed, flags.FLAGS.phase
    )
  for kill in kills:
    print(kill)
  if flags.FLAGS.output:
    columns = [field.name for field in dataclasses.fields(Kill)]
    write_rows(flags.FLAGS.output, columns, [dataclasses.astuple(kill) for kill in kills])
  redone = [kill.redone for kill in kills]
  print(
    f"{len(kills)} kills, {len(kills)} resumes: all {flags.FLAGS.steps:,} lines of metrics and all arrays equal to the "
    f"bit; {sum(redone):,} steps repeated, at most {max(redone)} after one kill"
  )


def trial(
  command: Sequence[str], folder: pathlib.Path, steps: int, kills: int, seed: int, phase: str = "any"
) -> list[Kill]:
  """Runs `command` twice below `folder`, once with `kills` kills; AssertionError unless both end alike."""
  unbroken, broken = folder / "unbroken", folder / "broken"
  cache = folder / "compiled" if phase == "compile" else None
  if cache:
    os.environ["JAX_COMPILATION_CACHE_DIR"] = str(cache)
  starting, training = _timed(command, unbroken, steps, cache)
  chance, killed = random.Random(seed), []
  for number in tqdm(range(1, kills + 1), "kills", unit="kill", disable=None):
    early = chance.random() < STARTING[phase]
    if cache and number % 2:  # the others start with what a killed process left there
      shutil.rmtree(cache, ignore_errors=True)
    # A share of the training, counted from the first step after this start; together they are less than the run.
    seconds = (starting if early else training / kills) * chance.random()
    killed.append(_killed(command, broken, number, seconds, early))
  assert killed[-1].told < steps, f"the run ended before the last kill: {killed[-1]}"
  _finish(_start(command, broken))
  same_end(broken, unbroken, steps)
  return killed


def _start(command: Sequence[str], workdir: pathlib.Path) -> subprocess.Popen[bytes]:
  return subprocess.Popen([*command, f"--workdir={workdir}"], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


def _finish(process: subprocess.Popen[bytes]) -> None:
  error = process.communicate()[1]
  assert process.returncode == 0, error.decode()


def _timed(
  command: Sequence[str], workdir: pathlib.Path, steps: int, cache: pathlib.Path | None
) -> tuple[float, float]:
  """Seconds to the first step of a run, and from there to its last; compiled programs are found, unless in `cache`."""
  for _ in range(2):
    if cache:
      shutil.rmtree(cache, ignore_errors=True)
    if workdir.exists():
      workdir.rename(workdir.with_name(f"{workdir.name}_first"))
    began = time.monotonic()
    process = _start(command, workdir)
    while not _last_step(workdir) and process.poll() is None:
      time.sleep(0.05)
    first = time.monotonic()
    _finish(process)
  return first - began, time.monotonic() - first


def _killed(command: Sequence[str], workdir: pathlib.Path, number: int, seconds: float, early: bool) -> Kill:
  """Starts the command and kills it `seconds` after its start, or after the first step that it logs."""
  metrics = workdir / "metrics.jsonl"
  before, restored = _written_at(metrics), max(checkpoint.complete_steps(workdir), default=0)
  # A resumed run first removes the lines of steps after its checkpoint.
  trains = lambda: _written_at(metrics) > before and _last_step(workdir) > restored
  process, began = _start(command, workdir), time.monotonic()
  # With programs that its predecessor compiled it may train sooner than expected: then an early kill comes at once.
  until = began + seconds if early else math.inf
  while time.monotonic() < until and not trains() and process.poll() is None:
    time.sleep(0.02)
  kill_after(process, 0 if early else seconds)
  if early:
    seconds = time.monotonic() - began
  told, saved = _last_step(workdir), max(checkpoint.complete_steps(workdir), default=0)
  # A process that never reached its first step has lost none; the lines of the file are its predecessor's.
  return Kill(number, round(seconds, 2), told, saved, max(0, told - saved) if trains() else 0)


def _written_at(metrics: pathlib.Path) -> int:
  """Time at which the file was last written, in nanoseconds; 0 if it does not exist."""
  return metrics.stat().st_mtime_ns if metrics.exists() else 0


def _last_step(workdir: pathlib.Path) -> int:
  """The last step in metrics.jsonl; 0 if there is none."""
  path = workdir / "metrics.jsonl"
  lines = [line for line in path.read_text().splitlines(keepends=True) if line.endswith("\n")] if path.exists() else []
  return parse_json_object(lines[-1], str(path))["step"] if lines else 0


def same_end(ours: pathlib.Path, theirs: pathlib.Path, steps: int) -> None:
  """AssertionError unless two workdirs have the same line for every step, once, and the same last checkpoint."""
  our_lines, their_lines = _lines(ours), _lines(theirs)
  assert our_lines == their_lines
  assert [line["step"] for line in our_lines if "loss" in line] == list(range(1, steps + 1))
  states = [ocp.load_checkpointables(workdir / "checkpoints" / str(steps)) for workdir in (ours, theirs)]
  parts = ({key: state[key] for key in ("params", "ema", "training")} for state in states)
  leaves = [jax.tree_util.tree_leaves_with_path(part) for part in parts]
  assert len(leaves[0]) == len(leaves[1])
  for (path, array), (_, other) in zip(*leaves, strict=True):
    assert np.asarray(array).tobytes() == np.asarray(other).tobytes(), jax.tree_util.keystr(path)


def _lines(workdir: pathlib.Path) -> list[dict[str, float]]:
  """The values of each line of metrics.jsonl that must be equal: all but times and speeds."""
  keys = ("step", "loss", "gradient_norm", heldout_curve.NAME)
  lines = read_json_lines(workdir / "metrics.jsonl")
  return [{key: line[key] for key in keys if key in line} for _, line in lines]


def define_flags() -> None:
  """Defines the flags of this command; not on import, so that tests can import several benchmarks."""
  flags.DEFINE_integer("kills", 20, "How often to kill the run.", lower_bound=1)
  flags.DEFINE_integer("steps", 1000, "Steps of the run.", lower_bound=1)
  flags.DEFINE_enum("phase", "any", ["any", "compile", "save"], "What the kills should hit.")
  flags.DEFINE_integer("seed", 0, "Seed of the moments.")
  flags.DEFINE_string("output", None, "CSV file with a row for every kill.")


if __name__ == "__main__":
  define_flags()
  app.run(main)
