"""Learning curves: the score against the share of labels, as a picture and in words."""

from __future__ import annotations

import itertools
import pathlib
import re
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from aim.common.plotting import INK, as_words, bare_axes, method_style, new_figure, save_figure
from aim.evaluation.difference import model_label
from aim.evaluation.metrics import HEADLINE
from aim.evaluation.results import Result

LEVEL = re.compile(r"([\d.e+-]+) % of labels, (\w+)")
FINEST = ("person", "window", "day")  # what a task is drawn and told at: the first that it has


def share(result: Result) -> float:
  """Percent of the labels that a row of finetune/results.csv was trained on."""
  match = LEVEL.fullmatch(result.level)
  return float(match[1]) if match else float("nan")


def headlines(lines: Sequence[Result]) -> dict[tuple[str, int], tuple[str, str, list[Result]]]:
  """{(task, seed): (metric, level, rows)}: each task's headline metric and its differences, at persons where it has."""
  found = {}
  key = lambda r: (r.task, r.seed)
  for which, group in itertools.groupby(sorted(lines, key=key), key=key):
    rows = [r for r in group if LEVEL.fullmatch(r.level)]
    level = next(name for name in FINEST if any(r.level.endswith(f", {name}") for r in rows))
    rows = [r for r in rows if r.level.endswith(f", {level}")]
    there = {r.metric for r in rows}
    metric = next(m for m in HEADLINE.values() if m in there and (m != "auroc" or "f1" in there))
    found[which] = metric, level, [r for r in rows if r.metric == metric or r.metric.startswith(f"{metric} vs ")]
  return found


def verdicts(lines: Sequence[Result], ours: str) -> list[str]:
  """One line per task and other model: our model against it at every share of the labels, paired over people."""
  sentences = []
  for (task, _), (metric, level, rows) in headlines(lines).items():
    pairs: dict[str, list[Result]] = {}
    for r in sorted((r for r in rows if r.compares_models and r.model == ours), key=share):
      pairs.setdefault(r.compared_with, []).append(r)
    for other, of_other in pairs.items():
      by_share = "; ".join(f"{share(r):g} % of labels: {r.difference.verdict}" for r in of_other if r.difference)
      sentences.append(f"{task}, {level}, {metric}: {ours} against {model_label(other)}: {by_share}")
  return sentences


def learning_curves(lines: Sequence[Result], path: str | pathlib.Path) -> None:
  """PNG with a panel per task: the headline metric against the share of labels, a line and interval per model.

  Args:
    lines: of finetune/results.csv; with several seeds the first one's are drawn.
    path: of the PNG.

  Raises:
    ValueError: there is nothing to draw.
  """
  first: dict[str, tuple[str, str, list[Result]]] = {}
  for (task, _), drawn in headlines(lines).items():
    first.setdefault(task, drawn)
  if not first:
    raise ValueError("learning curves: no scores to draw")
  models = list(dict.fromkeys(r.model for _, _, rows in first.values() for r in rows))
  columns = min(len(first), 4)
  rows_of_panels = -(-len(first) // columns)
  figure = new_figure(max(5.0, 1.2 + 2.9 * columns), 0.7 + 3.2 * rows_of_panels)
  panels = figure.subplots(rows_of_panels, columns, squeeze=False).ravel()
  for panel, (task, (metric, level, rows)) in zip(panels, first.items(), strict=False):
    _panel(panel, [r for r in rows if r.metric == metric], models)
    panel.set_title(as_words(task), fontsize=10, color=INK)
    panel.set_ylabel(f"{as_words(metric)}, {level}", fontsize=9, color=INK)
    panel.set_xlabel("people with labels, %", fontsize=9, color=INK)
  for panel in panels[len(first) :]:
    panel.set_visible(False)
  handles = [Line2D([], [], label=name, **method_style(models, name)) for name in models]
  figure.legend(handles=handles, loc="outside upper center", ncols=len(models), frameon=False, fontsize=9)
  save_figure(figure, path)


def _panel(panel: Axes, rows: Sequence[Result], models: Sequence[str]) -> None:
  """Shares stand evenly spaced, models a little apart so that intervals do not overlap."""
  shares = sorted({share(r) for r in rows})
  for i, model in reversed(list(enumerate(models))):
    mine = sorted((r for r in rows if r.model == model and np.isfinite(r.value)), key=share)
    if not mine:
      continue
    places = np.array([shares.index(share(r)) for r in mine]) + 0.25 * ((i + 0.5) / len(models) - 0.5)
    style = method_style(models, model)
    panel.plot(places, [r.value for r in mine], zorder=3 if i == 0 else 2, **style)
    panel.vlines(
      places, [r.ci_low for r in mine], [r.ci_high for r in mine], color=style["color"], lw=1.4, alpha=0.6, zorder=1
    )
  panel.set_xticks(range(len(shares)), [f"{number:g}" for number in shares])
  panel.set_xlim(-0.5, len(shares) - 0.5)
  panel.grid(axis="y", color="#e6e6e6", lw=0.7)
  bare_axes(panel)
