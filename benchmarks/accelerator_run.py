"""A short training run on the accelerator of this machine: its losses beside those of a CPU, its speed and memory.

  JAX_PLATFORMS=cpu python -m benchmarks.accelerator_run --output=benchmarks/results/losses_cpu.csv
  python -m benchmarks.accelerator_run --reference=benchmarks/results/losses_cpu.csv \
      --output=benchmarks/results/losses_gpu.csv

The first command writes the losses of a CPU, the second compares those of the accelerator with them. Both train on the
same simulated days with the same masks: only the order and precision of sums, the form of the step and the attention
kernel differ. --config and --config.key=value choose another run, which has to be the same in both.
"""

from __future__ import annotations

import csv
import json
import pathlib
import statistics
import tempfile
from collections.abc import Sequence
from typing import Any

import jax
from absl import app, flags, logging
from ml_collections import config_flags

from aim import commands
from aim.runtime import sharding
from aim.training.pretrain import TrainingRun

CONFIG = config_flags.DEFINE_config_file("config", "experiments/lsm2_xs.py")
STEPS = flags.DEFINE_integer("steps", 200, "Steps to train.", lower_bound=2)
BATCH = flags.DEFINE_integer("batch", 16, "Days per step.", lower_bound=1)
REFERENCE = flags.DEFINE_string("reference", None, "Losses of another machine, as this command wrote them.")
OUTPUT = flags.DEFINE_string("output", None, "Where to write the losses.", required=True)

COLUMNS = ("step", "loss", "windows_per_second", "mfu_useful", "mfu_executed")


def main(argv: Sequence[str]) -> None:
  if len(argv) > 1:
    raise app.UsageError(f"unexpected argument {argv[1]!r}")
  logging.set_verbosity(logging.WARNING)  # checkpoints log every step of theirs
  config = CONFIG.value
  config.update({"total_steps": STEPS.value, "batch_size": BATCH.value, "evaluate_every": 0})
  config.optimizer.accumulate = 1  # memory and speed of whole batches
  config.checkpoint.every_steps = STEPS.value
  config.log.every_steps = max(1, STEPS.value // 20)
  # Read before the run, which takes minutes.
  reference = read_losses(pathlib.Path(REFERENCE.value)) if REFERENCE.value else {}
  lines, peak = train(config)
  write_losses(pathlib.Path(OUTPUT.value), lines)
  device = jax.devices()[0]
  settled = lines[len(lines) // 4 :]  # the first steps compile
  median = lambda name: statistics.median(line[name] for line in settled)
  print(f"{device.device_kind}: {median('windows_per_second'):.1f} days/s, the median after a quarter of the steps")
  if settled[0]["mfu_useful"] is not None:
    print(f"MFU: useful {100 * median('mfu_useful'):.1f} %, executed {100 * median('mfu_executed'):.1f} %")
  if peak:
    print(f"memory: {peak / 1e9:.1f} GB at most")
  print(f"wrote {OUTPUT.value}")
  if reference:
    print(comparison({line["step"]: line["loss"] for line in lines}, reference, REFERENCE.value))


def train(config: Any) -> tuple[list[dict[str, Any]], int]:
  """The lines of metrics.jsonl of a run from nothing, and its peak of device memory in bytes, 0 where none is told."""
  dataset = commands.open_dataset(config)
  with tempfile.TemporaryDirectory() as folder, jax.set_mesh(sharding.make_mesh(**config.mesh)):
    TrainingRun(config, pathlib.Path(folder), dataset).run()
    written = (pathlib.Path(folder) / "metrics.jsonl").read_text().splitlines()
  lines = [line for line in map(json.loads, written) if "loss" in line]
  memory = jax.devices()[0].memory_stats() or {}
  return lines, memory.get("peak_bytes_in_use", 0)


def write_losses(path: pathlib.Path, lines: Sequence[dict[str, Any]]) -> None:
  """Writes a row per logged step."""
  path.parent.mkdir(parents=True, exist_ok=True)
  with path.open("w", newline="") as file:
    writer = csv.DictWriter(file, COLUMNS, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)


def read_losses(path: pathlib.Path) -> dict[int, float]:
  """{step: loss} of a file of write_losses; ValueError if it is absent or no such file."""
  if not path.is_file():
    raise ValueError(f"{path}: no such file; the first command of this module's text makes it")
  with path.open(newline="") as file:
    reader = csv.DictReader(file)
    if not {"step", "loss"} <= set(reader.fieldnames or ()):
      raise ValueError(f"{path}: expected the columns step and loss")
    return {int(row["step"]): float(row["loss"]) for row in reader}


def comparison(losses: dict[int, float], reference: dict[int, float], name: str) -> str:
  """Deviation of the losses from the reference, in words.

  Args:
    losses: {step: loss} of this machine.
    reference: those of another one.
    name: the reference's file, for messages.

  Raises:
    ValueError: they were logged at other steps.
  """
  if list(losses) != list(reference):
    steps = [f"{min(each)} to {max(each)}" for each in (reference, losses)]
    raise ValueError(f"{name}: losses of steps {steps[0]}, expected {steps[1]}; make it with the same --steps")
  shares = {step: losses[step] / reference[step] - 1 for step in losses}
  worst = max(shares, key=lambda step: abs(shares[step]))
  first, *_, last = losses
  return (
    f"losses against {name}: {100 * shares[first]:+.3f} % at step {first}, {100 * shares[last]:+.3f} % at "
    f"step {last}, at most {100 * shares[worst]:+.3f} %, at step {worst}"
  )


if __name__ == "__main__":
  app.run(main)
