"""Learning curves: the score against the share of labels, as a figure and as sentences."""

from __future__ import annotations

import dataclasses
import itertools
import pathlib
import re
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from aim.common.plotting import INK, as_words, bare_axes, legend_above, method_style, new_figure, save_figure
from aim.evaluation.difference import model_label
from aim.evaluation.metrics import HEADLINE
from aim.evaluation.results import Result, no_better_than_constant

LEVEL = re.compile(r"([\d.e+-]+) % of labels, (\w+)")
SHOWN_LEVELS = ("person", "window", "day")  # a task is shown at the first of these levels that it has


@dataclasses.dataclass(frozen=True)
class Headline:
  """The headline metric of one task, and the results with it that are shown.

  Attributes:
    metric: the task's headline metric.
    level: "person", "window" or "day".
    scores: results with this metric at this level, and their paired differences.
  """

  metric: str
  level: str
  scores: list[Result]


def label_percent(result: Result) -> float:
  """The share of the labels, in %, that a result of finetune/results.csv was trained on; NaN for other results."""
  match = LEVEL.fullmatch(result.level)
  return float(match[1]) if match else float("nan")


def headlines(scores: Sequence[Result]) -> dict[tuple[str, int], Headline]:
  """The headline of each (task, seed)."""
  chosen = {}
  key = lambda r: (r.task, r.seed)
  for task_and_seed, group in itertools.groupby(sorted(scores, key=key), key=key):
    of_task = [r for r in group if LEVEL.fullmatch(r.level)]
    level = next(name for name in SHOWN_LEVELS if any(r.level.endswith(f", {name}") for r in of_task))
    of_level = [r for r in of_task if r.level.endswith(f", {level}")]
    metrics = {r.metric for r in of_level}
    # A multi-class task has an AUROC too, but no "f1"; its headline is another metric.
    metric = next(m for m in HEADLINE.values() if m in metrics and (m != "auroc" or "f1" in metrics))
    shown = [r for r in of_level if r.metric == metric or r.metric.startswith(f"{metric} vs ")]
    chosen[task_and_seed] = Headline(metric, level, shown)
  return chosen


def verdicts(scores: Sequence[Result], ours: str) -> list[str]:
  """One line per task and other model: our model against it at every share of the labels, paired over people.

  Then what no model answers better than a constant.
  """
  sentences, chosen = [], headlines(scores)
  for (task, _), headline in chosen.items():
    pairs: dict[str, list[Result]] = {}
    for r in sorted((r for r in headline.scores if r.compares_models and r.model == ours), key=label_percent):
      pairs.setdefault(r.compared_with, []).append(r)
    for other, of_other in pairs.items():
      by_share = "; ".join(
        f"{label_percent(r):g} % of labels: {r.difference.verdict}" for r in of_other if r.difference
      )
      sentences.append(f"{task}, {headline.level}, {headline.metric}: {ours} against {model_label(other)}: {by_share}")
  return sentences + no_better_than_constant(r for headline in chosen.values() for r in headline.scores)


def draw_learning_curves(scores: Sequence[Result], path: str | pathlib.Path) -> None:
  """Writes a PNG with a panel per task: the headline metric against the share of labels, with intervals, per model.

  Args:
    scores: results of finetune/results.csv; of several seeds, the first is drawn.
    path: where the PNG goes.

  Raises:
    ValueError: there is nothing to draw.
  """
  by_task: dict[str, Headline] = {}
  for (task, _), headline in headlines(scores).items():
    by_task.setdefault(task, headline)
  if not by_task:
    raise ValueError("learning curves: no scores to draw")
  models = list(dict.fromkeys(r.model for headline in by_task.values() for r in headline.scores))
  columns = min(len(by_task), 4)
  rows = -(-len(by_task) // columns)
  figure = new_figure(max(5.0, 1.2 + 2.9 * columns), 0.7 + 3.2 * rows)
  panels = figure.subplots(rows, columns, squeeze=False).ravel()
  for panel, (task, headline) in zip(panels, by_task.items(), strict=False):
    plain = [r for r in headline.scores if r.metric == headline.metric]
    _panel(panel, plain, models)
    panel.set_title(as_words(task), fontsize=10, color=INK)
    panel.set_ylabel(f"{as_words(headline.metric)}, {headline.level}", fontsize=9, color=INK)
    counted = any(r.n_labelled_people is not None for r in plain)
    panel.set_xlabel(f"share of labels, %{' (people)' if counted else ''}", fontsize=9, color=INK)
  for panel in panels[len(by_task) :]:
    panel.set_visible(False)
  handles = [Line2D([], [], label=name, **method_style(models, name)) for name in models]
  legend_above(figure, handles)
  save_figure(figure, path)


def _panel(panel: Axes, scores: Sequence[Result], models: Sequence[str]) -> None:
  """Draws one task: shares evenly spaced, models a little apart so that their intervals do not overlap."""
  shares = sorted({label_percent(r) for r in scores})
  for i, model in reversed(list(enumerate(models))):
    of_model = sorted((r for r in scores if r.model == model and np.isfinite(r.value)), key=label_percent)
    if not of_model:
      continue
    x = np.array([shares.index(label_percent(r)) for r in of_model]) + 0.25 * ((i + 0.5) / len(models) - 0.5)
    style = method_style(models, model)
    panel.plot(x, [r.value for r in of_model], zorder=3 if i == 0 else 2, **style)
    low, high = [r.ci_low for r in of_model], [r.ci_high for r in of_model]
    panel.vlines(x, low, high, color=style["color"], lw=1.4, alpha=0.6, zorder=1)
  panel.set_xticks(range(len(shares)), [_tick(share, scores) for share in shares])
  panel.set_xlim(-0.5, len(shares) - 0.5)
  panel.grid(axis="y", color="#e6e6e6", lw=0.7)
  bare_axes(panel)


def _tick(share: float, scores: Sequence[Result]) -> str:
  """The percentage, and below it in brackets how many people's labels were seen in all, if that is known."""
  of_share = [r for r in scores if label_percent(r) == share]
  counts = [r.n_labelled_people for r in of_share if r.n_labelled_people is not None]
  return f"{share:g}" + (f"\n({max(counts)})" if counts else "")
