"""The figure of --mode=robustness: each task's score in each setting, beside that on whole days."""

from __future__ import annotations

import pathlib
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from aim.common.plotting import COLOURS, INK, MARKERS, as_words, bare_axes, legend_above, new_figure, save_figure
from aim.evaluation.metrics import HEADLINE, METRICS, lower_is_better
from aim.evaluation.results import Result

WITHOUT = " without "
COLUMNS = 3


def draw(scores: Sequence[Result], path: str | pathlib.Path) -> None:
  """Writes a PNG with a panel per task: its score without each sensor or part of the day, and on whole days.

  Args:
    scores: results of robustness.score_settings, of one or several models; the headline metric of each task is drawn.
    path: where the PNG goes.

  Raises:
    ValueError: there is nothing to draw.
  """
  drawn = [result for result in scores if result.metric in HEADLINE.values() and np.isfinite(result.value)]
  tasks = {result.task: headline(scores, result.task) for result in drawn if WITHOUT not in result.task}
  if not tasks:
    raise ValueError("robustness chart: no scores to draw")
  settings = list(dict.fromkeys(result.task.split(WITHOUT, 1)[1] for result in drawn if WITHOUT in result.task))
  models = list(dict.fromkeys(result.model for result in drawn))
  columns = min(COLUMNS, len(tasks))
  rows = -(-len(tasks) // columns)
  figure = new_figure(1.8 + 2.9 * columns, 0.7 + rows * (0.9 + 0.24 * len(settings)))
  panels = figure.subplots(rows, columns, squeeze=False, sharey=True).ravel()
  for panel, (task, metric) in zip(panels, tasks.items(), strict=False):
    of_metric = [result for result in drawn if result.metric == metric]
    _panel(panel, [result for result in of_metric if result.task.split(WITHOUT)[0] == task], settings, models)
    panel.set_title(as_words(task), fontsize=10, color=INK)
    panel.set_xlabel(
      f"{as_words(metric)}{', lower is better' if lower_is_better(metric) else ''}", fontsize=9, color=INK
    )
  for panel in panels[len(tasks) :]:
    panel.set_axis_off()
  handles = [
    Line2D([], [], color=COLOURS[i], marker=MARKERS[i], ls="", label=f"{model}, without")
    for i, model in enumerate(models)
  ]
  handles += [Line2D([], [], color=COLOURS[i], ls="--", label=f"{model}, whole days") for i, model in enumerate(models)]
  legend_above(figure, handles)
  save_figure(figure, path)


def headline(scores: Sequence[Result], task: str) -> str:
  """The headline metric of a task, recognised by the metrics that it was scored with."""
  metrics = {result.metric for result in scores if result.task == task}
  return next(HEADLINE[kind] for kind, names in METRICS.items() if metrics >= set(names))


def _panel(panel: Axes, scores: Sequence[Result], settings: Sequence[str], models: Sequence[str]) -> None:
  """Draws one task; models stand a little apart so that their intervals do not overlap."""
  for i, model in enumerate(models):
    offset = 0.5 * ((i + 0.5) / len(models) - 0.5)
    for result in (result for result in scores if result.model == model):
      if WITHOUT not in result.task:
        panel.axvline(result.value, color=COLOURS[i], ls="--", lw=1.2, zorder=1)
        continue
      y = settings.index(result.task.split(WITHOUT, 1)[1]) + offset
      panel.hlines(y, result.ci_low, result.ci_high, color=COLOURS[i], lw=1.4, alpha=0.6, zorder=2)
      panel.plot(result.value, y, MARKERS[i], color=COLOURS[i], ms=5, zorder=3)
  panel.set_yticks(range(len(settings)), [as_words(name) for name in settings])
  panel.set_ylim(len(settings) - 0.5, -0.5)
  panel.grid(axis="y", color="#e6e6e6", lw=0.7)
  bare_axes(panel)
