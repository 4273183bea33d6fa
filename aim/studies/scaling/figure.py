"""The picture of --mode=scaling: loss against participants, hours, parameters and compute, with power laws."""

from __future__ import annotations

import pathlib
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import LogLocator, NullFormatter, ScalarFormatter

from aim.common.plotting import INK, bare_axes, method_style, new_figure, save_figure
from aim.studies.scaling.curves import Curve
from aim.studies.scaling.points import ScalingPoint
from data_pipelines.text_files import counted

AXES = {
  "participants": "training people",
  "hours": "hours of training data",
  "parameters": "parameters",
  "compute": "useful training FLOPs",
}
ROWS = {
  "mse": "random 80 % hidden: mean\nsquared error, z-scored",
  "loss": "each model's own objective:\nslopes compare, heights do not",
}


def draw_scaling(points: Sequence[ScalingPoint], curves: Sequence[Curve], path: str | pathlib.Path) -> None:
  """Draws a row per measure and a panel per axis: points with 95 % intervals over people, power laws, exponents.

  In the panels of compute every training is a faint dot, and the front is a line.

  Args:
    points, curves: those of one dataset.
    path: the PNG file.

  Raises:
    ValueError: there is nothing to draw.
  """
  if not points:
    raise ValueError("scaling chart: no points to draw")
  models = list(dict.fromkeys(point.model for point in points))
  figure = new_figure(15, 7.4)
  panels = figure.subplots(len(ROWS), len(AXES), squeeze=False, sharey="row")
  for row, measure in zip(panels, ROWS, strict=True):
    for panel, axis in zip(row, AXES, strict=True):
      if axis == "compute":
        _cloud(panel, points, measure, models)
      for curve in curves:
        if (curve.measure, curve.axis) == (measure, axis) and curve.x:
          _draw(panel, curve, points, models)
      _finish(panel, axis)
    row[0].set_ylabel(ROWS[measure], fontsize=9, color=INK)
    _ticks(row[0])
  people = max(point.people for point in points)
  figure.suptitle(
    f"{points[0].dataset}: loss on {counted(people, 'person')} never seen in training; "
    f"lines: a·x$^{{-b}}$ + c, intervals: 95 %",
    fontsize=12,
    color=INK,
  )
  save_figure(figure, path)


def _cloud(panel: Axes, points: Sequence[ScalingPoint], measure: str, models: Sequence[str]) -> None:
  """A dot for each training on all the data."""
  most = max(point.hours for point in points)
  for model in models:
    mine = [point for point in points if point.model == model and point.hours == most]
    style = method_style(models, model)
    x, y = [p.compute for p in mine], [p.value[measure] for p in mine]
    panel.plot(x, y, style["marker"], color=style["color"], ms=4, alpha=0.3)


def _draw(panel: Axes, curve: Curve, points: Sequence[ScalingPoint], models: Sequence[str]) -> None:
  style = method_style(models, curve.model)
  panel.plot(curve.x, curve.y, style["marker"], color=style["color"], ms=6, zorder=3, label=_legend(curve))
  values = {(getattr(p, curve.axis), p.value[curve.measure]): p for p in points if p.model == curve.model}
  for x, y in zip(curve.x, curve.y, strict=True):
    point = values.get((x, y))  # a mean over seeds is no training of its own
    if point:
      panel.vlines(x, *point.interval(curve.measure), color=style["color"], lw=1.2, alpha=0.4, zorder=1)
  if curve.law is not None:
    along = np.geomspace(min(curve.x), max(curve.x), 100)
    panel.plot(along, curve.law(along), color=style["color"], lw=1.6, zorder=2)


def _legend(curve: Curve) -> str:
  if curve.law is None or curve.low is None or curve.high is None:
    return f"{curve.model}: no fit ({counted(len(set(curve.x)), 'point')})"
  return f"{curve.model}: x$^{{{-curve.law.b:.2g}}}$ [{-curve.high.b:.2g}, {-curve.low.b:.2g}], c = {curve.law.c:.2g}"


def _finish(panel: Axes, axis: str) -> None:
  panel.set_xscale("log")
  panel.set_yscale("log")
  panel.set_xlabel(AXES[axis], fontsize=9, color=INK)
  panel.xaxis.set_minor_formatter(NullFormatter())
  panel.grid(axis="y", which="both", color="#ececec", lw=0.6)
  if panel.get_legend_handles_labels()[0]:
    panel.legend(frameon=False, fontsize=8, loc="lower left", bbox_to_anchor=(0, 1.0), borderaxespad=0.2)
  bare_axes(panel)


def _ticks(panel: Axes) -> None:
  """Losses span less than a decade: numbers at minor ticks, as they are."""
  low, high = panel.get_ylim()
  panel.yaxis.set_major_formatter(ScalarFormatter())
  step = 1.0 if high / low > 3 else 0.5 if high / low > 1.6 else 0.2
  panel.yaxis.set_minor_locator(LogLocator(subs=[1 + step * i for i in range(1, round(9 / step))]))
  panel.yaxis.set_minor_formatter(ScalarFormatter())
  panel.tick_params(axis="y", which="minor", labelsize=8, colors=INK, length=3)
