"""AIM on real days of people never seen: k-fold over people, all folds pooled, beside the trivial imputers.

  python -m benchmarks.real_days --input=../shared/data/t1d_uom.npz --folds=4 --run=0,1,2 --output=runs/real/t1d_uom \
      [--config=experiments/real_days.py] [--config.total_steps=1000 ...]

Each fold trains on all other people and is scored on its own. Resumable: a repeated command goes on where it stopped.
Writes <output>/generative.csv, generative.png and differences.csv (AIM against each imputer, paired over people).
"""

from __future__ import annotations

import csv
import pathlib
from collections.abc import Sequence

from absl import flags

from aim import figures, scores
from benchmarks import experiments

INPUT = flags.DEFINE_string("input", None, "npz of days.", required=True)
OUTPUT = flags.DEFINE_string("output", None, "Folder of datasets, runs and results.", required=True)
FOLDS = flags.DEFINE_integer("folds", 4, "People are cut into this many folds.")
RUN = flags.DEFINE_list("run", None, "Folds to run; default all.")
CONFIG = flags.DEFINE_string("config", "experiments/real_days.py", "Experiment config.")


def main(argv: Sequence[str]) -> None:
  """argv[1:] are overrides such as --config.total_steps=1000."""
  overrides, output = list(argv[1:]), pathlib.Path(OUTPUT.value)
  parts = []
  for fold in RUN.value or [str(i) for i in range(FOLDS.value)]:
    name, workdir = f"fold{fold}", output / f"fold{fold}"
    fold_of = ["--source=npz", f"--input={INPUT.value}", f"--folds={FOLDS.value}", f"--fold={fold}"]
    experiments.run("data_pipelines.build", *fold_of, f"--data_dir={output / 'data'}", f"--name={name}")
    common = [f"--config={CONFIG.value}", f"--config.data.dir={output / 'data'}", f"--config.data.name={name}",
              f"--workdir={workdir}", *overrides]  # fmt: skip
    experiments.run("aim.main", *common)
    if not (workdir / "evaluate" / "people.csv").exists():
      experiments.run("aim.main", *common, "--mode=evaluate")
    parts.append(scores.load_people(workdir / "evaluate" / "people.csv"))
  pooled = scores.merge(parts)
  rows = pooled.table()
  scores.write_csv(output / "generative.csv", rows)
  figures.generative_chart(rows, output / "generative.png")
  print(scores.format_table(rows))
  _differences(pooled, output / "differences.csv")


def _differences(pooled: scores.Scores, path: pathlib.Path) -> None:
  with path.open("w", newline="") as file:
    writer = csv.writer(file)
    writer.writerow(["task", "level", "other", "percent", "ci_low", "ci_high"])
    model = pooled.methods[0]
    for other in pooled.methods:
      if other == model:
        continue
      for d in pooled.difference(model, other):
        writer.writerow([d.task, d.level, other, f"{d.percent:.1f}", f"{d.ci_low:.1f}", f"{d.ci_high:.1f}"])
        if other in ("linear", "time_of_day_mean"):
          word = "yes" if d.ci_high < 0 else "no" if d.percent >= 0 else "not surely"
          interval = f"[{d.ci_low:+.0f}, {d.ci_high:+.0f}]"
          print(f"{d.task} {d.level}: below {other}? {word}, {d.percent:+.0f} % {interval}")


if __name__ == "__main__":
  experiments.main(main)
