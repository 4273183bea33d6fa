"""Figures of the generative contest: error against level, public scenarios, gap lengths, channels."""

from __future__ import annotations

import pathlib
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from aim.common.plotting import INK, as_words, bare_axes, legend_above, method_style, new_figure, save_figure
from aim.evaluation.generative import scenarios
from aim.evaluation.generative.scores import ALL, ScoreRow
from aim.evaluation.generative.tasks import GenerativeTask

YLABEL = "mean squared error, z-scored\n(95 % interval over people)"


def scenario_chart(rows: Sequence[ScoreRow], path: str | pathlib.Path) -> bool:
  """PNG of the public scenarios, one column of points each.

  Args:
    rows: of `Scores.table`.
    path: of the PNG.

  Returns:
    False if none was scored; no file is written then.
  """
  methods = _methods(rows)
  shown = [row for row in rows if row.task in scenarios.UNITS and row.channel == ALL and np.isfinite(row.mse)]
  if not shown:
    return False
  names = list(dict.fromkeys(GenerativeTask(row.task, row.level).label for row in shown))
  figure = new_figure(max(5.0, 2 + 1.5 * len(names)), 3.9)
  panel = figure.subplots()
  for i, method in enumerate(methods):
    method_rows = [row for row in shown if row.method == method]
    places = [
      names.index(GenerativeTask(row.task, row.level).label) + 0.7 * ((i + 0.5) / len(methods) - 0.5)
      for row in method_rows
    ]
    _points(panel, np.array(places), method_rows, methods, method, line=False)
  panel.set_xticks(range(len(names)), [as_words(name).replace(" ", "\n", 1) for name in names])
  return _finish(figure, panel, methods, path)


def gap_chart(rows: Sequence[ScoreRow], path: str | pathlib.Path) -> bool:
  """PNG of the error against the length of a gap, on a log scale.

  Args:
    rows: of `Scores.table`.
    path: of the PNG.

  Returns:
    False if fewer than two lengths were scored; no file is written then.
  """
  methods = _methods(rows)
  shown = [row for row in rows if row.task == "interpolation" and row.channel == ALL and np.isfinite(row.mse)]
  lengths = sorted({row.level for row in shown})
  if len(lengths) < 2:
    return False
  figure = new_figure(6.4, 3.9)
  panel = figure.subplots()
  panel.set_xscale("log")
  for i, method in enumerate(methods):
    method_rows = sorted((row for row in shown if row.method == method), key=lambda row: row.level)
    apart = 1.012 ** (i - len(methods) / 2)  # intervals do not overlap
    _points(panel, np.array([row.level for row in method_rows]) * apart, method_rows, methods, method, line=True)
  panel.set_xticks(lengths, [str(length) for length in lengths])
  panel.set_xticks([], minor=True)
  panel.set_xlabel("length of the gap, minutes", fontsize=9, color=INK)
  return _finish(figure, panel, methods, path)


def channel_chart(rows: Sequence[ScoreRow], path: str | pathlib.Path) -> None:
  """PNG with one line per channel: its mse as the mean over the tasks, one point per method.

  Args:
    rows: of `Scores.table`.
    path: of the PNG.
  """
  methods = _methods(rows)
  channels = [name for name in dict.fromkeys(row.channel for row in rows) if name != ALL]
  figure = new_figure(7.5, 1.6 + 0.26 * len(channels))
  panel = figure.subplots()
  for method in reversed(methods):
    means = [_mean([row.mse for row in rows if (row.channel, row.method) == (name, method)]) for name in channels]
    style = method_style(methods, method) | {"ls": ""}
    panel.plot(means, range(len(channels)), zorder=3 if method == methods[0] else 2, **style)
  panel.set_yticks(range(len(channels)), [as_words(name) for name in channels])
  panel.invert_yaxis()
  panel.set_xlim(left=0)
  panel.grid(axis="y", color="#e6e6e6", lw=0.7)
  bare_axes(panel)
  panel.set_xlabel("mean squared error, z-scored, mean over the tasks", fontsize=9, color=INK)
  _legend(figure, methods)
  save_figure(figure, path)


def _methods(rows: Sequence[ScoreRow]) -> list[str]:
  return list(dict.fromkeys(row.method for row in rows))


def _mean(numbers: Sequence[float]) -> float:
  known = [number for number in numbers if np.isfinite(number)]
  return float(np.mean(known)) if known else np.nan


def _points(
  panel: Axes, places: np.ndarray, rows: Sequence[ScoreRow], methods: Sequence[str], method: str, line: bool
) -> None:
  if not len(rows):
    return
  style = method_style(methods, method) | ({} if line else {"ls": ""})
  panel.plot(places, [row.mse for row in rows], zorder=3 if method == methods[0] else 2, **style)
  low, high = np.array([[row.ci_low, row.ci_high] for row in rows]).T
  panel.vlines(places, low, high, color=style["color"], lw=1.2, alpha=0.6, zorder=1)


def _finish(figure: Figure, panel: Axes, methods: Sequence[str], path: str | pathlib.Path) -> bool:
  panel.set_ylim(bottom=0)
  panel.grid(axis="y", color="#e6e6e6", lw=0.7)
  bare_axes(panel)
  panel.set_ylabel(YLABEL, fontsize=9, color=INK)
  _legend(figure, methods)
  save_figure(figure, path)
  return True


def _legend(figure: Figure, methods: Sequence[str]) -> None:
  handles = [Line2D([], [], label=as_words(method), **method_style(methods, method)) for method in methods]
  legend_above(figure, handles)


AXES_TITLES = {
  "random": "random patches",
  "interpolation": "interpolation: one gap",
  "extrapolation": "extrapolation: end of the day",
  "sensor": "lost channels",
}
LEVEL_TITLES = {"random": "hidden, %", "interpolation": "minutes", "extrapolation": "minutes", "sensor": "channels"}


def generative_chart(rows: Sequence[ScoreRow], path: str | pathlib.Path) -> None:
  """PNG with one panel per task: mse (mean over channels) against level, a line with 95 % intervals per method.

  Args:
    rows: of `Scores.table`. Only rows of channel "all" with an mse are drawn, the first method boldest; the public
      scenarios are drawn by `scenario_chart`.
    path: of the PNG.

  Raises:
    ValueError: there is nothing to draw.
  """
  rows = [row for row in rows if row.channel == ALL and np.isfinite(row.mse) and row.task in AXES_TITLES]
  if not rows:
    raise ValueError("generative chart: no scores to draw")
  tasks = [task for task in AXES_TITLES if any(row.task == task for row in rows)]
  methods = list(dict.fromkeys(row.method for row in rows))
  figure = new_figure(max(5.0, 1.2 + 2.9 * len(tasks)), 3.9)
  panels = figure.subplots(1, len(tasks), squeeze=False)[0]
  for panel, task in zip(panels, tasks, strict=True):
    _task_panel(panel, [row for row in rows if row.task == task], methods)
    panel.set_title(AXES_TITLES[task], fontsize=10, color=INK)
    panel.set_xlabel(LEVEL_TITLES[task], fontsize=9, color=INK)
  panels[0].set_ylabel("mean squared error, z-scored\n(95 % interval over people)", fontsize=9, color=INK)
  _legend(figure, methods)
  save_figure(figure, path)


def _task_panel(panel: Axes, rows: Sequence[ScoreRow], methods: Sequence[str]) -> None:
  """Draws the levels evenly spaced (10 to 180 minutes are not) and the methods side by side."""
  levels = sorted({row.level for row in rows})
  for i, method in reversed(list(enumerate(methods))):
    method_rows = sorted((row for row in rows if row.method == method), key=lambda row: row.level)
    if not method_rows:
      continue
    places = np.array([levels.index(row.level) for row in method_rows]) + 0.4 * ((i + 0.5) / len(methods) - 0.5)
    mse = np.array([row.mse for row in method_rows])
    bounds = np.array([[row.ci_low, row.ci_high] for row in method_rows]).T
    style = method_style(methods, method)
    panel.plot(places, mse, zorder=3 if i == 0 else 2, **style)
    panel.vlines(places, *bounds, color=style["color"], lw=1.2 if i else 1.8, alpha=0.6, zorder=1)
  panel.set_xticks(range(len(levels)), [str(level) for level in levels])
  panel.set_xlim(-0.5, len(levels) - 0.5)
  panel.set_ylim(bottom=0)
  panel.grid(axis="y", color="#e6e6e6", lw=0.7)
  bare_axes(panel)
