"""What a section of the page is made of; page.html knows how each kind looks."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Sequence
from typing import Any

from data_pipelines.page.chart import Chart


@dataclasses.dataclass(frozen=True)
class TextLine:
  """A sentence.

  Attributes:
    text: it.
    tone: "", or "yes", "no" and "open" for a verdict, or "hint" for what is not there yet.
    command: to be typed, shown below.
  """

  text: str
  tone: str = ""
  command: str = ""
  kind = "line"


@dataclasses.dataclass(frozen=True)
class Table:
  """A table, scrolling in its box where it is wide; folded away where it is long. A cell may be a Line."""

  title: str
  columns: Sequence[str]
  rows: Sequence[Sequence[Any]]
  folded: bool = False
  kind = "table"


@dataclasses.dataclass(frozen=True)
class Choice:
  """Charts of which one is shown at a time."""

  label: str
  options: Sequence[tuple[str, Chart]]
  kind = "choice"


@dataclasses.dataclass(frozen=True)
class Code:
  """Text as it is, folded away."""

  title: str
  text: str
  kind = "code"


Block = TextLine | Table | Choice | Code | Chart


@dataclasses.dataclass(frozen=True)
class Section:
  """A heading and what follows it."""

  name: str
  title: str
  blocks: Sequence[Block]

  @property
  def groups(self) -> list[tuple[str, list[Block]]]:
    """Blocks by kind, in order: charts that follow one another share a grid."""
    return [(kind, list(blocks)) for kind, blocks in itertools.groupby(self.blocks, key=lambda block: block.kind)]

  @property
  def charts(self) -> list[Chart]:
    """Those chosen among too."""
    alone = [block for block in self.blocks if isinstance(block, Chart)]
    chosen = [chart for block in self.blocks if isinstance(block, Choice) for _, chart in block.options]
    return alone + chosen


def number(value: float) -> str:
  """Three digits that matter, or a dash for NaN."""
  if math.isnan(value):
    return "–"
  if abs(value) >= 100:
    return f"{value:,.0f}".replace("-", "−")
  return f"{value:.3g}".replace("-", "−") if abs(value) >= 1e-3 or value == 0 else f"{value:.1e}".replace("-", "−")


def percent(share: float) -> str:
  return "–" if math.isnan(share) else f"{100 * share:.1f} %"
