"""A self-contained HTML page of sections, with a PNG and a CSV file per chart; the report and the atlas are such pages.

`blocks` are the contents of a section, `chart` draws, and `document` writes the page.
"""

from data_pipelines.page.blocks import Block, Choice, Code, Link, Picture, Section, Table, TextLine, number, percent
from data_pipelines.page.chart import (
  COLOURS,
  MARKERS,
  MOST_ROWS,
  PALETTE,
  SERIES,
  Chart,
  heat_map,
  named_rows,
  panels,
  slug,
  style,
)
from data_pipelines.page.document import render, write

__all__ = [
  "COLOURS",
  "MARKERS",
  "MOST_ROWS",
  "PALETTE",
  "SERIES",
  "Block",
  "Chart",
  "Choice",
  "Code",
  "Link",
  "Picture",
  "Section",
  "Table",
  "TextLine",
  "heat_map",
  "named_rows",
  "number",
  "panels",
  "percent",
  "render",
  "slug",
  "style",
  "write",
]
