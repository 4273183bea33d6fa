"""The figure of --mode=scale_out: throughput, the terms of a step's time, and what hosts must read."""

from __future__ import annotations

import pathlib
from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, NullFormatter, NullLocator

from aim.common.plotting import COLOURS, INK, bare_axes, new_figure, save_figure
from aim.planning.scaled_step import COMPILED, STRONG, WEAK, SliceEstimate

LINES = {WEAK: "-", STRONG: "--"}
TERMS = {"compute": "o", "memory": "s", "network": "^", "loader": "D"}


def draw_scale_out(points: Sequence[SliceEstimate], loader: float, path: str | pathlib.Path) -> None:
  """Draws three panels against the number of chips.

  Args:
    points: curves of models on kinds of chips, and compiled points.
    loader: windows/s that one host reads.
    path: the PNG file.
  """
  names = list(dict.fromkeys((point.model, point.device) for point in points))
  figure = new_figure(14, 4.8)
  speed, host, step = figure.subplots(1, 3)
  for name, colour in zip(names, COLOURS, strict=False):
    mine = [point for point in points if (point.model, point.device) == name]
    for scaling, line in LINES.items():
      some = [point for point in mine if point.scaling == scaling]
      for panel, quantity in ((speed, "windows_per_second"), (host, "windows_per_second_and_host")):
        panel.plot([p.chips for p in some], [getattr(p, quantity) for p in some], line, color=colour, lw=1.6)
    compiled = [point for point in mine if point.scaling == COMPILED]
    rates = [point.windows_per_second for point in compiled]
    speed.plot([p.chips for p in compiled], rates, "o", color=colour, ms=8, mfc="none", mew=1.6)
    strong = [point for point in mine if point.scaling == STRONG]
    for term, marker in TERMS.items():
      milliseconds = [1000 * point.terms[term] for point in strong]
      step.plot([p.chips for p in strong], milliseconds, marker + "--", color=colour, lw=1, ms=5)
  host.axhline(loader, color=INK, lw=1.2, ls=":")
  _finish(speed, "windows/s of the slice", points)
  _finish(host, "windows/s that a host must read", points)
  _finish(step, "strong scaling: ms per step of each alone", points)
  least = min(point.windows_per_second_and_host for point in points)
  host.set_ylim(min(least, loader) / 2, 2 * max(loader, *(p.windows_per_second_and_host for p in points)))
  speed.legend(handles=[_line(" on ".join(name), c) for name, c in zip(names, COLOURS, strict=False)], **_LEGEND)
  kinds = [_line(f"{scaling} scaling", INK, ls=line) for scaling, line in LINES.items()]
  compiled_for = _line("compiled (left)", INK, ls="", marker="o", ms=8, mfc="none", mew=1.6)
  host.legend(handles=[*kinds, compiled_for, _line(f"loader: {loader:,.0f}", INK, ls=":")], ncols=2, **_LEGEND)
  step.legend(
    handles=[_line(term, INK, ls="--", marker=marker, ms=5) for term, marker in TERMS.items()], ncols=4, **_LEGEND
  )
  save_figure(figure, path)


_LEGEND = {"frameon": False, "fontsize": 8, "loc": "lower left", "bbox_to_anchor": (0, 1.0), "borderaxespad": 0.2}


def _line(label: str, colour: str, **style: object) -> Line2D:
  return Line2D([], [], label=label, color=colour, **{"lw": 1.6, **style})  # type: ignore[arg-type]


def _finish(panel: Axes, label: str, points: Sequence[SliceEstimate]) -> None:
  chips = sorted({point.chips for point in points})
  panel.set_xscale("log", base=2)
  panel.set_yscale("log")
  panel.xaxis.set_major_locator(FixedLocator(chips))
  panel.xaxis.set_minor_locator(NullLocator())
  panel.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:.0f}"))
  panel.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:,.0f}" if y >= 1 else f"{y:g}"))
  panel.yaxis.set_minor_formatter(NullFormatter())
  panel.set_xlabel("chips", fontsize=9, color=INK)
  panel.set_ylabel(label, fontsize=9, color=INK)
  panel.grid(axis="y", color="#ececec", lw=0.6)
  bare_axes(panel)
