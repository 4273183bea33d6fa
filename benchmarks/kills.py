"""Kills a run with -9 at random moments and starts it again, then holds its end against a run that nothing broke.

  python -m benchmarks.kills --kills=20 --output=benchmarks/results/kills.csv

Some kills hit a process that starts, compiles or restores, the others one that trains or saves. In the end every line
of metrics.jsonl (loss, gradient norm) and every array of the last checkpoint must be what the unbroken run left, to the
bit.
"""

from __future__ import annotations

import dataclasses
import json
import pathlib
import random
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
from aim.training import checkpoint

KILLS = flags.DEFINE_integer("kills", 20, "How often the run is killed.", lower_bound=1)
STEPS = flags.DEFINE_integer("steps", 1000, "Of the run.", lower_bound=1)
SEED = flags.DEFINE_integer("seed", 0, "Of the moments.")
OUTPUT = flags.DEFINE_string("output", None, "CSV with a line for every kill.")

# Steps of milliseconds, whatever the shipped config.
TOWER = {"width": 16, "mlp": 32, "heads": 2, "layers": 1}
SMALL = {
  "data.participants": 20,
  "data.days": 2,
  "batch_size": 4,
  "sizes": 1,
  "optimizer.accumulate": 1,
  "model.patch_minutes": 240,
  "checkpoint.every_steps": 25,
  "log.every_steps": 1,
}
SMALL |= {f"model.{side}.{key}": value for side in ("encoder", "decoder") for key, value in TOWER.items()}
STARTING = 0.25  # of the kills hit a process before its first step


@dataclasses.dataclass(frozen=True)
class Kill:
  """One kill: seconds after the start or the first new step, the last step told of, the newest complete checkpoint, and
  steps to be done anew."""

  kill: int
  seconds: float
  told: int
  saved: int
  redone: int


def main(argv: Sequence[str]) -> None:
  with tempfile.TemporaryDirectory() as folder:
    changes = SMALL | {"total_steps": STEPS.value, "data.dir": f"{folder}/data"}
    command = [sys.executable, "-m", "aim.main", "--config=experiments/lsm2_tiny.py"]
    command += [f"--config.{key}={value}" for key, value in changes.items()]
    kills = trial(command, pathlib.Path(folder), STEPS.value, KILLS.value, SEED.value)
  for kill in kills:
    print(kill)
  if OUTPUT.value:
    columns = [field.name for field in dataclasses.fields(Kill)]
    write_rows(OUTPUT.value, columns, [dataclasses.astuple(kill) for kill in kills])
  redone = [kill.redone for kill in kills]
  print(
    f"{len(kills)} kills, {len(kills)} resumes: all {STEPS.value:,} lines of metrics and all arrays equal to the bit; "
    f"{sum(redone):,} steps done twice, {max(redone)} at most after a kill"
  )


def trial(command: Sequence[str], folder: pathlib.Path, steps: int, kills: int, seed: int) -> list[Kill]:
  """Runs `command` twice below `folder`, once killed so often; AssertionError unless both end alike."""
  unbroken, broken = folder / "unbroken", folder / "broken"
  starting, training = _timed(command, unbroken, steps)
  chance, found = random.Random(seed), []
  for number in tqdm(range(1, kills + 1), "kills", unit="kill", disable=None):
    early = chance.random() < STARTING
    # A share of the training, counted from the first step of this start: all of them together are less than the run.
    seconds = (starting if early else training / kills) * chance.random()
    found.append(_killed(command, broken, number, seconds, early))
  assert found[-1].told < steps, f"the run ended before the last kill: {found[-1]}"
  _finish(_start(command, broken))
  same_end(broken, unbroken, steps)
  return found


def _start(command: Sequence[str], workdir: pathlib.Path) -> subprocess.Popen[bytes]:
  return subprocess.Popen([*command, f"--workdir={workdir}"], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


def _finish(process: subprocess.Popen[bytes]) -> None:
  error = process.communicate()[1]
  assert process.returncode == 0, error.decode()


def _timed(command: Sequence[str], workdir: pathlib.Path, steps: int) -> tuple[float, float]:
  """Seconds that a run takes to its first step and from there to its last, once what it compiles is cached."""
  for _ in range(2):
    if workdir.exists():
      workdir.rename(workdir.with_name(f"{workdir.name}_first"))
    began = time.monotonic()
    process = _start(command, workdir)
    while not _told(workdir) and process.poll() is None:
      time.sleep(0.05)
    first = time.monotonic()
    _finish(process)
  return first - began, time.monotonic() - first


def _killed(command: Sequence[str], workdir: pathlib.Path, number: int, seconds: float, early: bool) -> Kill:
  """Starts the command and kills it so many seconds after its start, or after the first step that it tells of."""
  metrics = workdir / "metrics.jsonl"
  before, restored = _told_at(metrics), max(checkpoint.complete_steps(workdir), default=0)
  # A run that goes on first cuts off what was told of steps after the checkpoint.
  trains = lambda: _told_at(metrics) > before and _told(workdir) > restored
  process = _start(command, workdir)
  while not early and not trains() and process.poll() is None:
    time.sleep(0.02)
  try:
    _, error = process.communicate(timeout=seconds)
    assert process.returncode == 0, error.decode()
  except subprocess.TimeoutExpired:
    process.kill()
    process.communicate()
  told, saved = _told(workdir), max(checkpoint.complete_steps(workdir), default=0)
  # A process that never came to its first step has lost none; what the file tells is its predecessor's.
  return Kill(number, round(seconds, 2), told, saved, max(0, told - saved) if trains() else 0)


def _told_at(metrics: pathlib.Path) -> int:
  """When the file was last written, in nanoseconds; 0 if it is not there."""
  return metrics.stat().st_mtime_ns if metrics.exists() else 0


def _told(workdir: pathlib.Path) -> int:
  """The last step that metrics.jsonl tells of."""
  path = workdir / "metrics.jsonl"
  lines = [line for line in path.read_text().splitlines(keepends=True) if line.endswith("\n")] if path.exists() else []
  return json.loads(lines[-1])["step"] if lines else 0


def same_end(ours: pathlib.Path, theirs: pathlib.Path, steps: int) -> None:
  """AssertionError unless two workdirs tell the same of every step, once, and hold the same last checkpoint."""
  told = [_lines(workdir) for workdir in (ours, theirs)]
  assert told[0] == told[1] and [line[0] for line in told[0]] == list(range(1, steps + 1))
  states = [ocp.load_checkpointables(workdir / "checkpoints" / str(steps)) for workdir in (ours, theirs)]
  parts = ({key: state[key] for key in ("params", "ema", "training")} for state in states)
  leaves = [jax.tree_util.tree_leaves_with_path(part) for part in parts]
  assert len(leaves[0]) == len(leaves[1])
  for (path, array), (_, other) in zip(*leaves, strict=True):
    assert np.asarray(array).tobytes() == np.asarray(other).tobytes(), jax.tree_util.keystr(path)


def _lines(workdir: pathlib.Path) -> list[tuple[int, float, float]]:
  lines = map(json.loads, (workdir / "metrics.jsonl").read_text().splitlines())
  return [(line["step"], line["loss"], line["gradient_norm"]) for line in lines]


if __name__ == "__main__":
  app.run(main)
