"""The blocks that a section of the page consists of; page.html decides how each kind is displayed."""

from __future__ import annotations

import base64
import dataclasses
import itertools
import math
from collections.abc import Sequence
from typing import Any

from data_pipelines.page.chart import Chart


@dataclasses.dataclass(frozen=True)
class TextLine:
  """A paragraph of text, or a highlighted entry of a table.

  Attributes:
    text: the text.
    tone: "" for plain text; "yes", "no" or "open" for a verdict; "best" for the best entry of a row; "hint" for a
      remark about something missing.
    command: a command that the reader can run, displayed below the text.
  """

  text: str
  tone: str = ""
  command: str = ""
  kind = "text"


@dataclasses.dataclass(frozen=True)
class Link:
  """An entry of a table that leads somewhere else.

  Attributes:
    text: the text.
    address: relative to the page, in the characters of a URL.
  """

  text: str
  address: str


@dataclasses.dataclass(frozen=True)
class Table:
  """A table, which scrolls in its box if it is wide.

  Attributes:
    title: heading of the table.
    columns: headings of the columns; all empty for none.
    rows: one sequence per row; an entry may be a TextLine or a Link.
    folded: show only the title until the reader unfolds the table.
  """

  title: str
  columns: Sequence[str]
  rows: Sequence[Sequence[Any]]
  folded: bool = False
  kind = "table"


@dataclasses.dataclass(frozen=True)
class Choice:
  """Several charts of which the reader selects one.

  Attributes:
    label: text in front of the selection.
    options: (name, chart) of each.
  """

  label: str
  options: Sequence[tuple[str, Chart]]
  kind = "choice"


@dataclasses.dataclass(frozen=True)
class Code:
  """Preformatted text, folded until the reader opens it.

  Attributes:
    title: always visible.
    text: the text.
  """

  title: str
  text: str
  kind = "code"


@dataclasses.dataclass(frozen=True)
class Picture:
  """A picture that exists already, which becomes a part of the page.

  Attributes:
    title: heading above it.
    alt: what it is, for readers who do not see it.
    png: the bytes of a PNG file.
  """

  title: str
  alt: str
  png: bytes
  kind = "picture"

  @property
  def source(self) -> str:
    """The picture as an address of itself."""
    return f"data:image/png;base64,{base64.b64encode(self.png).decode()}"


Block = TextLine | Table | Choice | Code | Picture | Chart


@dataclasses.dataclass(frozen=True)
class Section:
  """A heading and its contents.

  Attributes:
    name: anchor of the section in the page; letters, digits and -.
    title: the heading.
    blocks: the contents, in order.
  """

  name: str
  title: str
  blocks: Sequence[Block]

  @property
  def groups(self) -> list[tuple[str, list[Block]]]:
    """Runs of blocks of the same kind, in order, so that neighbouring charts can share a grid."""
    return [(kind, list(blocks)) for kind, blocks in itertools.groupby(self.blocks, key=lambda block: block.kind)]

  @property
  def charts(self) -> list[Chart]:
    """All charts of the section, including those that a Choice offers."""
    alone = [block for block in self.blocks if isinstance(block, Chart)]
    offered = [chart for block in self.blocks if isinstance(block, Choice) for _, chart in block.options]
    return alone + offered


def number(value: float) -> str:
  """Formats a number with three significant digits; a dash stands for NaN."""
  if math.isnan(value):
    return "–"
  if abs(value) >= 100:
    return f"{value:,.0f}".replace("-", "−")
  return f"{value:.3g}".replace("-", "−") if abs(value) >= 1e-3 or value == 0 else f"{value:.1e}".replace("-", "−")


def percent(share: float) -> str:
  """Formats a share between 0 and 1 as a percentage; a dash stands for NaN."""
  return "–" if math.isnan(share) else f"{100 * share:.1f} %"
