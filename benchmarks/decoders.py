"""The quality of each config.model.decoder.tokens on real days of people never seen, at equal steps or equal time.

  python -m benchmarks.decoders --input=../shared/data/t1d_uom.npz,../shared/data/mss.npz,../shared/data/nhanes.npz \
      --seeds=3 --steps=400 --output=runs/decoders [--equal_time] [--config.optimizer.learning_rate=0.001 ...]

Seed s trains on all people except fold s of 4 and is scored on that fold, so every seed is scored on other people.
--equal_time gives each decoder as many steps as it manages in the time that "all" takes for --steps, according to the
metrics.jsonl of the runs at equal steps, which must exist. A repeated command continues where it stopped. It writes
<output>/<data>/decoders.csv and prints each decoder against "all", paired over people.
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

INPUT = flags.DEFINE_list("input", None, "npz files of days.", required=True)
OUTPUT = flags.DEFINE_string("output", "runs/decoders", "Folder for runs and results.")
SEEDS = flags.DEFINE_integer("seeds", 3, "Seeds, each scored on other people.", lower_bound=1, upper_bound=4)
STEPS = flags.DEFINE_integer("steps", 400, "Training steps.", lower_bound=1)
EQUAL_TIME = flags.DEFINE_boolean("equal_time", False, "Give every decoder the time that 'all' takes.")


def main(argv: Sequence[str]) -> None:
  """argv[1:] are overrides such as --config.optimizer.learning_rate=0.001."""
  for source in INPUT.value:
    folder = pathlib.Path(OUTPUT.value) / pathlib.Path(source).stem
    for seed in range(SEEDS.value):
      for tokens in DECODER_TOKENS:
        train(source, folder, tokens, seed, argv[1:])
    report(folder)


def run_folder(folder: pathlib.Path, tokens: str, seed: int, equal_time: bool) -> pathlib.Path:
  """The folder of one decoder's run with one seed."""
  return folder / (f"{tokens}_equal_time" if equal_time else tokens) / f"seed{seed}"


def train(source: str, folder: pathlib.Path, tokens: str, seed: int, overrides: Sequence[str]) -> None:
  """Trains and scores one decoder, unless its results exist."""
  output = run_folder(folder, tokens, seed, EQUAL_TIME.value and tokens != "all")
  if (output / "generative.csv").exists():
    return
  steps = STEPS.value
  if EQUAL_TIME.value:
    ours, reference = (step_seconds(run_folder(folder, name, seed, False), seed) for name in (tokens, "all"))
    steps = round(steps * reference / ours)
  command = ["benchmarks.real_days", f"--input={source}", "--folds=4", f"--run={seed}", f"--output={output}"]
  options = {"total_steps": steps, "seed": seed, "model.decoder.tokens": tokens, "sizes": 2}
  options |= {"evaluate.bootstrap": 100, "evaluate.days": 150}
  settings = [f"--config.{name}={value}" for name, value in options.items()]
  programs.run_module(*command, *settings, *overrides)


def step_seconds(output: pathlib.Path, seed: int) -> float:
  """The median seconds per step of a run."""
  lines = read_json_lines(output / f"fold{seed}" / "metrics.jsonl")
  return statistics.median(line["seconds_per_step"] for _, line in lines)


def report(folder: pathlib.Path) -> None:
  """Writes and prints the tables of a dataset, with all seeds pooled."""
  parts = []
  for tokens in DECODER_TOKENS:
    for seed in range(SEEDS.value):
      output = run_folder(folder, tokens, seed, EQUAL_TIME.value and tokens != "all")
      parts.append(renamed(output / f"fold{seed}" / "evaluate" / "people.csv", tokens))
  pooled = scores.merge(parts)
  rows = pooled.table()
  score_files.write_channels(folder / ("decoders_equal_time.csv" if EQUAL_TIME.value else "decoders.csv"), rows)
  print(f"{folder.name}\n{score_files.format_table(rows)}")
  for tokens in DECODER_TOKENS[1:]:
    differences = pooled.differences(tokens, "all")
    verdicts = "; ".join(f"{task.label}: {difference.verdict}" for task, difference in differences.items())
    mean = statistics.mean(difference.value for difference in differences.values())
    print(f"{tokens} against all: mean {mean:+.1f} %; {verdicts}")


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
