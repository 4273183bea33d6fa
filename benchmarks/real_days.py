"""AIM on the real days of people never seen, in folds of people, beside the trivial imputers.

  python -m benchmarks.real_days --input=../shared/data/t1d_uom.npz --folds=4 --run=0,1,2 --output=runs/real/t1d_uom \
      [--config=real_days] [--config.total_steps=1000 ...]

For each fold a model is trained on all other people and scored on those of the fold; then all folds are pooled. A
repeated command continues where it stopped. It writes <output>/generative.csv (the common columns, with paired
differences), channels.csv (the errors of every channel), against_linear.csv (the model against linear interpolation,
channel by channel), generative.png and differences.csv (the model against each
imputer, paired over people).
"""

from __future__ import annotations

import csv
import pathlib
from collections.abc import Sequence

from absl import flags

from aim.evaluation import results
from aim.evaluation.generative import score_files, scores, summary
from aim.evaluation.generative.figures import generative_chart
from benchmarks import programs
from data_pipelines.text_files import read_json

INPUT = flags.DEFINE_string("input", None, "npz file of days.", required=True)
OUTPUT = flags.DEFINE_string("output", None, "Folder for datasets, runs and results.", required=True)
FOLDS = flags.DEFINE_integer("folds", 4, "People are cut into this many folds.")
RUN = flags.DEFINE_list("run", None, "Folds to run; default: all.")
CONFIG = flags.DEFINE_string("config", "real_days", "Experiment: a shipped one or a .py file.")


def main(argv: Sequence[str]) -> None:
  """argv[1:] are overrides such as --config.total_steps=1000."""
  overrides, output = list(argv[1:]), pathlib.Path(OUTPUT.value)
  parts, seed = [], 0
  for fold in RUN.value or [str(i) for i in range(FOLDS.value)]:
    name, workdir = f"fold{fold}", output / f"fold{fold}"
    fold_of = ["--source=npz", f"--input={INPUT.value}", f"--folds={FOLDS.value}", f"--fold={fold}"]
    programs.run_module("data_pipelines.build", *fold_of, f"--data_dir={output / 'data'}", f"--name={name}")
    common = [f"--config={CONFIG.value}", f"--config.data.dir={output / 'data'}", f"--config.data.name={name}",
              f"--workdir={workdir}", *overrides]  # fmt: skip
    programs.run_module("aim.main", *common)
    if not (workdir / "evaluate" / "people.csv").exists():
      programs.run_module("aim.main", *common, "--mode=evaluate")
    seed = read_json(workdir / "config.json")["seed"]
    parts.append(score_files.load_people(workdir / "evaluate" / "people.csv"))
  pooled = scores.merge(parts)
  rows = pooled.table()
  score_files.write_channels(output / "channels.csv", rows)
  contest = summary.contest_results(pooled, pathlib.Path(INPUT.value).stem, seed, n_bootstrap=1000, seed=0)
  results.write_csv(output / "generative.csv", contest)
  generative_chart(rows, output / "generative.png")
  print(score_files.format_table(rows))
  by_channel = summary.channel_results(pooled, pathlib.Path(INPUT.value).stem, seed, n_bootstrap=1000, seed=0)
  results.write_csv(output / summary.BY_CHANNEL, by_channel)
  print("\n".join(summary.channel_notes(by_channel)))
  _differences(pooled, output / "differences.csv")


def _differences(pooled: scores.Scores, path: pathlib.Path) -> None:
  with path.open("w", newline="") as file:
    writer = csv.writer(file)
    writer.writerow(["task", "level", "other", "percent", "ci_low", "ci_high"])
    model = pooled.methods[0]
    for other in pooled.methods:
      if other == model:
        continue
      for task, difference in pooled.differences(model, other).items():
        percents = (difference.value, difference.ci_low, difference.ci_high)
        writer.writerow([task.name, task.level, other, *(f"{percent:.1f}" for percent in percents)])
        if other in ("linear", "time_of_day_mean"):
          print(f"{task.label}: {difference.against}: {difference.verdict}")


if __name__ == "__main__":
  programs.run_main(main)
