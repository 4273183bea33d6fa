"""Common style of all figures: colours, markers and axes; and writing them as PNG files."""

from __future__ import annotations

import pathlib
from collections.abc import Sequence
from typing import Any

from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

# Okabe and Ito (2008), which colour-blind readers can distinguish: blue, vermilion, green, purple, light blue, orange,
# black; then grey and wine.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000", "#999999", "#882255")
MARKERS = "osD^vPX<>"
INK, OBSERVED, RECONSTRUCTED = "#333333", "#4d4d4d", "#0072B2"


def method_style(methods: Sequence[str], method: str) -> dict[str, Any]:
  """Matplotlib's keywords for a method's line, in panels and legend alike; the first method stands out."""
  i = list(methods).index(method)
  width, size = (2.4, 6.0) if i == 0 else (1.4, 4.5)
  return {"color": COLOURS[i % len(COLOURS)], "marker": MARKERS[i % len(MARKERS)], "lw": width, "ms": size}


def as_words(name: str) -> str:
  """A name of code as text: "heart_rate" becomes "heart rate"."""
  return name.replace("_", " ")


def bare_axes(panel: Axes) -> None:
  """Removes the upper and right borders and makes the rest quiet."""
  panel.spines[["top", "right"]].set_visible(False)
  panel.spines[["left", "bottom"]].set_color("#999999")
  panel.tick_params(colors=INK, labelsize=8, length=3)


def new_figure(width: float, height: float) -> Figure:
  """An empty figure of that size in inches, which no window shows."""
  figure = Figure(figsize=(width, height), layout="constrained")
  FigureCanvasAgg(figure)
  return figure


def legend_above(figure: Figure, handles: Sequence[Artist]) -> None:
  """A legend above the panels, in as many columns as the figure is wide enough for.

  The figure grows by the rows after the first, so that the panels keep their height.
  """
  for columns in range(len(handles), 0, -1):
    legend = figure.legend(handles=handles, loc="outside upper center", ncols=columns, frameon=False, fontsize=9)
    box = legend.get_window_extent()
    if columns == 1 or box.width <= figure.bbox.width:
      rows = -(-len(handles) // columns)
      figure.set_figheight(figure.get_figheight() + box.height / figure.dpi * (rows - 1) / rows)
      return
    legend.remove()


def save_figure(figure: Figure, path: str | pathlib.Path) -> None:
  """Writes a PNG file and makes its folder."""
  path = pathlib.Path(path)
  path.parent.mkdir(parents=True, exist_ok=True)
  figure.savefig(path, dpi=130, format="png", facecolor="white")
