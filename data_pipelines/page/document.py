"""The page of any sections, and its files."""

from __future__ import annotations

import pathlib
import re
from collections.abc import Sequence

import jinja2

from data_pipelines.page import chart
from data_pipelines.page.blocks import Section, TextLine


def write(sections: Sequence[Section], title: str, kind: str, output: pathlib.Path) -> pathlib.Path:
  """Writes index.html and each chart's PNG and CSV to folder `output`; returns the page's path.

  Charts of an earlier page there are removed, other files left alone. Call it within chart.style().

  Args:
    sections: of the page, in order.
    title: of the page; data of the user.
    kind: what the browser's tab says behind it, such as "report".
    output: folder, made where it is not there.
  """
  output.mkdir(parents=True, exist_ok=True)
  page = output / "index.html"
  for name in _charts_of(page):
    (output / f"{name}.png").unlink(missing_ok=True)
    (output / f"{name}.csv").unlink(missing_ok=True)
  for drawn in (drawn for section in sections for drawn in section.charts):
    drawn.save(output)
  page.write_text(render(sections, title, kind), encoding="utf-8")
  return page


def _charts_of(page: pathlib.Path) -> list[str]:
  text = page.read_text(encoding="utf-8", errors="replace") if page.is_file() else ""
  return re.findall(r'^<figure id="([\w-]+)">$', text, re.MULTILINE)


def render(sections: Sequence[Section], title: str, kind: str) -> str:
  """The page's HTML; jinja2 escapes every string but what this package wrote itself."""
  loader = jinja2.PackageLoader("data_pipelines.page", "")
  environment = jinja2.Environment(loader=loader, autoescape=True, trim_blocks=True, lstrip_blocks=True)
  environment.tests["line"] = lambda value: isinstance(value, TextLine)
  template = environment.get_template("page.html")
  return template.render(title=title, kind=kind, sections=sections, palette=chart.PALETTE)
