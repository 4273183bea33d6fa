"""Writes a page of sections and the files of its charts."""

from __future__ import annotations

import pathlib
import re
from collections.abc import Sequence

import jinja2

from data_pipelines.page import chart
from data_pipelines.page.blocks import Link, Section, TextLine


def write(sections: Sequence[Section], title: str, kind: str, output: pathlib.Path) -> pathlib.Path:
  """Writes index.html and the PNG and CSV of each chart to a folder; call it within chart.style().

  The charts of an earlier page in the folder are removed, other files are left alone.

  Args:
    sections: the sections of the page, in order.
    title: title of the page; may contain any text.
    kind: word that follows the title in the browser's tab, such as "report".
    output: the folder, created if necessary.

  Returns:
    The path of index.html.
  """
  output.mkdir(parents=True, exist_ok=True)
  page = output / "index.html"
  for name in _chart_names(page):
    (output / f"{name}.png").unlink(missing_ok=True)
    (output / f"{name}.csv").unlink(missing_ok=True)
  for section in sections:
    for drawing in section.charts:
      drawing.save(output)
  page.write_text(render(sections, title, kind), encoding="utf-8")
  return page


def _chart_names(page: pathlib.Path) -> list[str]:
  text = page.read_text(encoding="utf-8", errors="replace") if page.is_file() else ""
  return re.findall(r'^<figure id="([\w-]+)">$', text, re.MULTILINE)


def render(sections: Sequence[Section], title: str, kind: str, files: bool = True) -> str:
  """Returns the HTML of a page; jinja2 escapes every string except for what this package generates itself.

  Args:
    sections, title, kind: see write().
    files: whether the PNG and CSV of each chart lie beside the page, which then links to them.
  """
  loader = jinja2.PackageLoader("data_pipelines.page", "")
  environment = jinja2.Environment(loader=loader, autoescape=True, trim_blocks=True, lstrip_blocks=True)
  environment.tests["text"] = lambda value: isinstance(value, TextLine)
  environment.tests["link"] = lambda value: isinstance(value, Link)
  template = environment.get_template("page.html")
  return template.render(title=title, kind=kind, sections=sections, palette=chart.PALETTE, files=files)
