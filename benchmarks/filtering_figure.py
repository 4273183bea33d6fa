"""The figure of docs/results/filtering.md: what LSM-2 fills in, by the number of people and by which of their days.

python -m benchmarks.filtering_figure --input=runs/compare_filtering/comparison.csv --output=filtering.png
"""

from __future__ import annotations

import collections
import re
from collections.abc import Sequence

from absl import flags

from aim.common.plotting import INK, bare_axes, method_style, new_figure, save_figure
from aim.evaluation import results
from benchmarks import programs

TASKS = {("random", "80 %"): "random 80 %", ("interpolation", "60 min"): "a gap of 60 min",
         ("sleep", "360 min"): "six hours of sleep"}  # fmt: skip
ALL_PEOPLE = 93  # of a fold of nhanes
NAME = re.compile(r"LSM-2 on (all|fuller) days of (all|\d+) people")
LABELS = {"all": "all days", "fuller": "the fuller fifth of the days"}


def main(argv: Sequence[str]) -> None:
  del argv
  errors = collections.defaultdict(list)  # by (task, level), days and people: of all seeds
  for line in results.read_csv(flags.FLAGS.input):
    name = NAME.fullmatch(line.model)
    if name and line.metric == "mse" and (line.task, line.level) in TASKS:
      people = ALL_PEOPLE if name[2] == "all" else int(name[2])
      errors[line.task, line.level, name[1], people].append(line.value)
  figure = new_figure(8.4, 3.2)
  panels = figure.subplots(1, len(TASKS), squeeze=False)[0]
  for panel, ((task, level), title) in zip(panels, TASKS.items(), strict=True):
    for days, label in LABELS.items():
      counts = sorted(people for t, a, d, people in errors if (t, a, d) == (task, level, days))
      of_seeds = [errors[task, level, days, people] for people in counts]
      style = method_style(list(LABELS), days)
      panel.plot(counts, [sum(values) / len(values) for values in of_seeds], label=label, **style)
      panel.vlines(counts, [min(v) for v in of_seeds], [max(v) for v in of_seeds], color=style["color"], lw=1)
    panel.set_xscale("log")
    panel.set_xticks(counts, [str(count) for count in counts])
    panel.minorticks_off()
    panel.set_title(title, fontsize=10, color=INK)
    panel.set_xlabel("people trained on", fontsize=9, color=INK)
    bare_axes(panel)
  panels[0].set_ylabel("mean squared error, z-scored", fontsize=9, color=INK)
  panels[0].legend(frameon=False, fontsize=8)
  save_figure(figure, flags.FLAGS.output)
  print(flags.FLAGS.output)


if __name__ == "__main__":
  flags.DEFINE_string("input", None, "comparison.csv of compare_filtering.", required=True)
  flags.DEFINE_string("output", None, "PNG file to write.", required=True)
  programs.run_main(main)
