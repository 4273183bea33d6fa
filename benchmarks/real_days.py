"""AIM on real days of people never seen: k-fold over people, all folds pooled, beside the trivial imputers.

  python -m benchmarks.real_days --input=../shared/data/t1d_uom.npz --folds=4 --run=0,1,2 --output=runs/real/t1d_uom \
      [--config=experiments/real_days.py] [--config.total_steps=1000 ...]

Each fold trains on all other people and is scored on its own. Resumable: a repeated command goes on where it stopped.
Writes <output>/generative.csv (the common columns, paired differences among them), channels.csv (errors of every
channel), generative.png and differences.csv (the model against each imputer, paired over people).
"""

from __future__ import annotations

import csv
import json
import pathlib
from collections.abc import Sequence

from absl import flags

from aim.evaluation import results
from aim.evaluation.generative import score_files, scores, summary
from aim.evaluation.generative.figures import generative_chart
from benchmarks import experiments

INPUT = flags.DEFINE_string("input", None, "npz of days.", required=True)
OUTPUT = flags.DEFINE_string("output", None, "Folder of datasets, runs and results.", required=True)
FOLDS = flags.DEFINE_integer("folds", 4, "People are cut into this many folds.")
RUN = flags.DEFINE_list("run", None, "Folds to run; default all.")
CONFIG = flags.DEFINE_string("config", "experiments/real_days.py", "Experiment config.")


def main(argv: Sequence[str]) -> None:
  """argv[1:] are overrides such as --config.total_steps=1000."""
  overrides, output = list(argv[1:]), pathlib.Path(OUTPUT.value)
  parts, seed = [], 0
  for fold in RUN.value or [str(i) for i in range(FOLDS.value)]:
    name, workdir = f"fold{fold}", output / f"fold{fold}"
    fold_of = ["--source=npz", f"--input={INPUT.value}", f"--folds={FOLDS.value}", f"--fold={fold}"]
    experiments.run("data_pipelines.build", *fold_of, f"--data_dir={output / 'data'}", f"--name={name}")
    common = [f"--config={CONFIG.value}", f"--config.data.dir={output / 'data'}", f"--config.data.name={name}",
              f"--workdir={workdir}", *overrides]  # fmt: skip
    experiments.run("aim.main", *common)
    if not (workdir / "evaluate" / "people.csv").exists():
      experiments.run("aim.main", *common, "--mode=evaluate")
    seed = json.loads((workdir / "config.json").read_text())["seed"]
    parts.append(score_files.load_people(workdir / "evaluate" / "people.csv"))
  pooled = scores.merge(parts)
  rows = pooled.table()
  score_files.write_channels(output / "channels.csv", rows)
  found = summary.contest_results(pooled, pathlib.Path(INPUT.value).stem, seed, n_bootstrap=1000, seed=0)
  results.write_csv(output / "generative.csv", found)
  generative_chart(rows, output / "generative.png")
  print(score_files.format_table(rows))
  _differences(pooled, output / "differences.csv")


def _differences(pooled: scores.Scores, path: pathlib.Path) -> None:
  with path.open("w", newline="") as file:
    writer = csv.writer(file)
    writer.writerow(["task", "level", "other", "percent", "ci_low", "ci_high"])
    model = pooled.methods[0]
    for other in pooled.methods:
      if other == model:
        continue
      for task, d in pooled.differences(model, other).items():
        writer.writerow([task.name, task.level, other, f"{d.value:.1f}", f"{d.ci_low:.1f}", f"{d.ci_high:.1f}"])
        if other in ("linear", "time_of_day_mean"):
          print(f"{task.label}: {d.against}: {d.verdict}")


if __name__ == "__main__":
  experiments.main(main)
