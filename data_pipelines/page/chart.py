"""Charts of the page: drawn once by matplotlib, written as inline SVG, PNG and CSV.

Drawings use only the light colours of PALETTE. In the SVG each colour becomes a CSS variable, which the page sets for
light and dark mode. Text stays text, in the font of the page.
"""

from __future__ import annotations

import contextlib
import dataclasses
import io
import math
import pathlib
import re
from collections.abc import Iterator, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from data_pipelines.text_files import LONGEST_NAME, name_digest, write_csv

# name: (light, dark). s0 to s7 are series, which MARKERS distinguish for colour-blind readers; q0 to q3 are ordered.
PALETTE = {
  "ink": ("#1f2328", "#e6edf3"),
  "line": ("#8c959f", "#7d8590"),
  "grid": ("#e4e7eb", "#30363d"),
  "s0": ("#0072b2", "#58a6ff"),
  "s1": ("#d55e00", "#ff8c42"),
  "s2": ("#00845f", "#3fc79a"),
  "s3": ("#a8457f", "#e08bc0"),
  "s4": ("#1b8fbd", "#7cd0f5"),
  "s5": ("#946400", "#e6b34a"),
  "s6": ("#5c6570", "#b1bac4"),
  "s7": ("#6a4fb3", "#b9a3f5"),
  "q0": ("#440154", "#b07ae0"),
  "q1": ("#31688e", "#5aa9d6"),
  "q2": ("#249d68", "#4fd08f"),
  "q3": ("#b38a00", "#fde725"),
  "hidden": ("#ffe3ba", "#574117"),
  "truth": ("#b86200", "#ffb057"),
  "cause0": ("#d3d7dc", "#484f58"),  # cause unknown; cause1 to cause6 are data_pipelines.source.MISSINGNESS_MODES
  "cause1": ("#b3c3dd", "#37517c"),
  "cause2": ("#dcd784", "#615f1a"),
  "cause3": ("#bfe0b6", "#2c5f38"),
  "cause4": ("#f1b8ab", "#7a3d31"),
  "cause5": ("#d4c0e9", "#574377"),
  "cause6": ("#a9dde1", "#1c6067"),
}
COLOURS = {name: light for name, (light, _) in PALETTE.items()}
SERIES = tuple(COLOURS[f"s{i}"] for i in range(8))
MARKERS = "osD^vPX<"
WIDTH = 4.2  # inches: 9-point text stays readable when the chart fits on a phone
PNG_DPI = 160
MOST_ROWS = 200  # of a chart's numbers shown on the page; the CSV has all of them

_STYLE = {
  "axes.edgecolor": COLOURS["line"],
  "axes.grid": True,
  "axes.grid.axis": "y",
  "axes.axisbelow": True,
  "axes.labelcolor": COLOURS["ink"],
  "axes.labelsize": 9,
  "axes.spines.right": False,
  "axes.spines.top": False,
  "axes.titlecolor": COLOURS["ink"],
  "axes.titlelocation": "left",
  "axes.titlesize": 9,
  "font.size": 9,
  "grid.color": COLOURS["grid"],
  "grid.linewidth": 0.8,
  "legend.fontsize": 8.5,
  "legend.frameon": False,
  "legend.labelcolor": COLOURS["ink"],
  "svg.fonttype": "none",
  "svg.hashsalt": "report",
  "text.color": COLOURS["ink"],
  "text.parse_math": False,  # draw a dollar sign in a channel's name as it is
  "xtick.color": COLOURS["line"],
  "xtick.labelcolor": COLOURS["ink"],
  "xtick.labelsize": 8.5,
  "ytick.color": COLOURS["line"],
  "ytick.labelcolor": COLOURS["ink"],
  "ytick.labelsize": 8.5,
}


@contextlib.contextmanager
def style() -> Iterator[None]:
  """The matplotlib style in which every chart is drawn and saved."""
  with mpl.rc_context(_STYLE):  # type: ignore[arg-type]
    yield


def panels(height: float, rows: int = 1, ratios: Sequence[float] | None = None) -> tuple[Figure, list[Axes]]:
  """Returns a figure as wide as the page, and its panels one below the other.

  Args:
    height: of the figure, in inches.
    rows: number of panels.
    ratios: relative heights of the panels; equal by default.
  """
  # The layout depends on the width of text, which hinting makes too narrow at a low resolution.
  figure = Figure(figsize=(WIDTH, height), dpi=PNG_DPI, layout="constrained")
  FigureCanvasAgg(figure)
  return figure, list(figure.subplots(rows, 1, squeeze=False, height_ratios=ratios)[:, 0])


def named_rows(panel: Axes, names: Sequence[str]) -> None:
  """Gives a panel one row per name, the first on top, and vertical grid lines."""
  panel.set_yticks(range(len(names)), [name.replace("_", " ") for name in names])
  panel.set_ylim(len(names) - 0.4, -0.6)
  panel.grid(visible=True, axis="x")
  panel.grid(visible=False, axis="y")


def heat_map(panel: Axes, share: Float[np.ndarray, "rows columns"]) -> None:
  """Draws shares as a map, the first row on top: blank for 0 and NaN, full colour for the largest share."""
  rows, columns = share.shape
  largest = max(float(np.nanmax(share, initial=0)), 1e-9)
  # The share sets the opacity, so that one drawing suits light and dark mode.
  image = np.empty((rows, columns, 4))
  image[..., :3] = [int(COLOURS["s0"][i : i + 2], 16) / 255 for i in (1, 3, 5)]
  image[..., 3] = np.nan_to_num(share) / largest
  panel.pcolormesh(np.arange(columns + 1) - 0.5, np.arange(rows + 1) - 0.5, image)
  panel.set_ylim(rows - 0.5, -0.5)
  panel.grid(visible=False)


@dataclasses.dataclass(frozen=True)
class Chart:
  """One chart and its numbers.

  Attributes:
    name: of the files NAME.png and NAME.csv, and of the anchor in the page; letters, digits, - and _.
    title: heading above the chart.
    alt: caption that says in a sentence what the chart shows.
    figure: the drawing, made within style().
    columns, rows: the numbers that are drawn, as a table.
  """

  name: str
  title: str
  alt: str
  figure: Figure
  columns: Sequence[str]
  rows: Sequence[Sequence[Any]]
  kind = "chart"

  def __post_init__(self) -> None:
    """Lays out the figure once for all its files, because that takes longer than drawing it."""
    engine = self.figure.get_layout_engine()
    if engine is not None:
      engine.execute(self.figure)
      self.figure.set_layout_engine("none")

  def save(self, folder: pathlib.Path) -> None:
    """Writes NAME.png, in the light colours, and NAME.csv to a folder."""
    self.figure.savefig(folder / f"{self.name}.png", dpi=PNG_DPI, facecolor="white")
    write_csv(folder / f"{self.name}.csv", self.columns, self.rows)

  @property
  def shown_rows(self) -> Sequence[Sequence[Any]]:
    """At most MOST_ROWS of the rows, evenly spaced."""
    return self.rows[:: math.ceil(len(self.rows) / MOST_ROWS) or 1]

  @property
  def svg(self) -> str:
    """The drawing as SVG for the page; its text has been escaped by matplotlib."""
    file = io.StringIO()
    self.figure.savefig(file, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    svg = file.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'\b(width|height)="[\d.]+pt" ?', "", svg, count=2)
    svg = svg.replace("<svg", f'<svg role="img" aria-labelledby="{self.name}-alt"', 1)
    # Many drawings share one page, so ids are made unique.
    svg = re.sub(r'\bid="', f'id="{self.name}-', svg)
    svg = re.sub(r'(url\(|href=")#', rf"\1#{self.name}-", svg)
    svg = re.sub(r"(\bfont: [\d.]+px) '[^\"]*?(?=;|\")", r"\1 system-ui, sans-serif", svg)
    for name, light in COLOURS.items():
      svg = svg.replace(f": {light}", f": var(--{name})")
    return svg


def slug(*words: object) -> str:
  """A file name made from any words: lower case letters, digits and -.

  It ends in a digest if a letter is left out or it is cut, so that names in other scripts do not share a file.
  """
  text = " ".join(str(word) for word in words)
  name = re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")
  whole = text.isascii() and name and len(name) <= LONGEST_NAME
  return name if whole else f"{name[:LONGEST_NAME]}-{name_digest(text)}".strip("-")
