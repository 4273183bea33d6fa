"""The quality of each config.model.decoder.tokens on people never seen, at equal steps or equal time.

  python -m benchmarks.decoders --input=demo,../shared/data/t1d_uom.npz,../shared/data/mss.npz \
      --decoders=all,refined --seeds=3 --output=runs/decoders [--equal_time] [--config.optimizer.ema=0 ...]

On real days (npz files) seed s trains on all people except fold s of 4, for --steps steps, and is scored on that fold,
so every seed is scored on other people. "demo" is the shipped config lsm2_tiny on its simulated people, for its own
number of steps; there all seeds are scored on the same people. --equal_time gives each decoder as many steps as it
manages in the time that the first takes, according to the metrics.jsonl of the runs at equal steps, which must exist.
A repeated command continues where it stopped. It writes <output>/<data>/decoders.csv and prints each decoder against
the first, paired over people.
"""

from __future__ import annotations

import csv
import pathlib
import statistics
import tempfile
from collections.abc import Sequence

from absl import flags

from aim.evaluation.generative import score_files, scores
from aim.model.lsm2 import DECODER_TOKENS
from benchmarks import programs
from data_pipelines.text_files import read_json_lines
from experiments import lsm2_tiny

DEMO = "demo"
INPUT = flags.DEFINE_list("input", None, "npz files of days, or demo.", required=True)
DECODERS = flags.DEFINE_list(
  "decoders", list(DECODER_TOKENS), "Decoders, the first of which the others are held against."
)
OUTPUT = flags.DEFINE_string("output", "runs/decoders", "Folder for runs and results.")
SEEDS = flags.DEFINE_integer("seeds", 3, "Seeds.", lower_bound=1, upper_bound=4)
STEPS = flags.DEFINE_integer("steps", 400, "Training steps on real days.", lower_bound=1)
EQUAL_TIME = flags.DEFINE_boolean("equal_time", False, "Give every decoder the time that the first takes.")
flags.register_validator("decoders", lambda names: set(names) <= set(DECODER_TOKENS), f"of {', '.join(DECODER_TOKENS)}")


def main(argv: Sequence[str]) -> None:
  """argv[1:] are overrides such as --config.optimizer.learning_rate=0.001."""
  for source in INPUT.value:
    folder = pathlib.Path(OUTPUT.value) / pathlib.Path(source).stem
    for seed in range(SEEDS.value):
      for tokens in DECODERS.value:
        train(source, folder, tokens, seed, argv[1:])
    report(folder)


def run_folder(folder: pathlib.Path, tokens: str, seed: int, equal_time: bool) -> pathlib.Path:
  """The folder of one decoder's run with one seed."""
  return folder / (f"{tokens}_equal_time" if equal_time else tokens) / f"seed{seed}"


def workdir(output: pathlib.Path, seed: int) -> pathlib.Path:
  """The work folder of the model in a run's folder: real days have one per fold."""
  return output if output.parts[-3] == DEMO else output / f"fold{seed}"


def train(source: str, folder: pathlib.Path, tokens: str, seed: int, overrides: Sequence[str]) -> None:
  """Trains and scores one decoder, unless its results exist."""
  output = run_folder(folder, tokens, seed, EQUAL_TIME.value and tokens != DECODERS.value[0])
  if (output / "generative.csv").exists():
    return
  steps = lsm2_tiny.get_config().total_steps if source == DEMO else STEPS.value
  if EQUAL_TIME.value:
    ours, reference = (
      step_seconds(run_folder(folder, name, seed, False), seed) for name in (tokens, DECODERS.value[0])
    )
    steps = round(steps * reference / ours)
  options = {"total_steps": steps, "seed": seed, "model.decoder.tokens": tokens, "sizes": 2, "evaluate.bootstrap": 100}
  settings = [*(f"--config.{name}={value}" for name, value in options.items()), *overrides]
  if source == DEMO:
    for mode in ("pretrain", "evaluate"):
      programs.run_module("aim.main", "--config=lsm2_tiny", f"--workdir={output}", f"--mode={mode}", *settings)
  else:
    split = [f"--input={source}", "--folds=4", f"--run={seed}", f"--output={output}"]
    programs.run_module("benchmarks.real_days", *split, "--config.evaluate.days=150", *settings)


def step_seconds(output: pathlib.Path, seed: int) -> float:
  """The median seconds per step of a run."""
  lines = read_json_lines(workdir(output, seed) / "metrics.jsonl")
  return statistics.median(line["seconds_per_step"] for _, line in lines if "seconds_per_step" in line)


def report(folder: pathlib.Path) -> None:
  """Writes and prints the tables of a dataset, with all seeds added up."""
  parts = []
  reference, *others = DECODERS.value
  for tokens in DECODERS.value:
    for seed in range(SEEDS.value):
      output = run_folder(folder, tokens, seed, EQUAL_TIME.value and tokens != reference)
      parts.append(renamed(workdir(output, seed) / "evaluate" / "people.csv", tokens))
  pooled = scores.add(parts)
  rows = pooled.table()
  score_files.write_channels(folder / ("decoders_equal_time.csv" if EQUAL_TIME.value else "decoders.csv"), rows)
  print(f"{folder.name}\n{score_files.format_table(rows)}")
  for tokens in others:
    differences = pooled.differences(tokens, reference)
    verdicts = "; ".join(f"{task.label}: {difference.verdict}" for task, difference in differences.items())
    mean = statistics.mean(difference.value for difference in differences.values())
    print(f"{tokens} against {reference}: mean {mean:+.1f} %; {verdicts}")


def renamed(people: pathlib.Path, method: str) -> scores.Scores:
  """The scores of the model, without those of the imputers, under another name."""
  with people.open(newline="") as file, tempfile.NamedTemporaryFile("w", suffix=".csv", newline="") as copy:
    lines = csv.DictReader(file)
    writer = csv.DictWriter(copy, lines.fieldnames or ())
    writer.writeheader()
    writer.writerows(line | {"method": method} for line in lines if line["method"] == "LSM-2")
    copy.flush()
    return score_files.load_people(copy.name)


if __name__ == "__main__":
  programs.run_main(main)
