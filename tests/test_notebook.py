"""docs/notebooks: the stored outputs are those of its cells and of the present code, and the site shows them."""

import re

import nbformat
import numpy as np
import pytest
from mkdocs.config import load_config
from mkdocs.structure.files import Files

from docs import root_pages
from tests import notebook

NOTEBOOK = nbformat.read(notebook.PATH, 4)
NUMBER = re.compile(r"\d+(?:\.\d+)?")


def outputs(cells):
  """Yields each cell's printed text, without how long that took, and its number of pictures."""
  for cell in cells:
    shown = cell.get("outputs", [])
    printed = "".join(output["text"] for output in shown if "text" in output)
    yield re.sub(r"[\d.]+ s;", "", printed), sum("data" in output for output in shown)


def test_the_outputs_are_those_of_the_cells():
  nbformat.validate(NOTEBOOK)
  assert NOTEBOOK.metadata[notebook.KEY] == notebook.digest(NOTEBOOK), "run `python -m tests.notebook`"
  assert len(NOTEBOOK.cells) == 10 and notebook.PATH.stat().st_size < 60_000
  assert [count for _, count in outputs(NOTEBOOK.cells)].count(1) == 1
  assert not re.search(r"/tmp|/home|/work|Traceback", nbformat.writes(NOTEBOOK))


def test_the_site_shows_code_printed_lines_and_the_picture():
  config = load_config(str(notebook.tiny.ROOT / "mkdocs.yml"))
  config.plugins._current_plugin = "docs/root_pages.py"  # as while mkdocs calls a hook
  files = {file.src_uri: file for file in root_pages.on_files(Files([]), config)}
  page = files["notebooks/first_days.md"].content_string
  assert page.startswith("# From an export to embeddings\n") and 'model = aim.load("lsm2-watch-xs")' in page
  (picture,) = (name for name in files if name.endswith(".png"))
  assert f"({picture.removeprefix('notebooks/')})" in page and files[picture].content_bytes.startswith(b"\x89PNG")
  for printed, _ in outputs(NOTEBOOK.cells):
    assert all(line in page for line in printed.splitlines()[1:])


@pytest.mark.slow
def test_it_runs_and_shows_what_is_stored():
  stored, now = (list(outputs(cells)) for cells in (NOTEBOOK.cells, notebook.executed().cells))
  for cell, ((printed, pictures), (printed_now, pictures_now)) in enumerate(zip(stored, now, strict=True)):
    assert pictures == pictures_now and NUMBER.sub("", printed) == NUMBER.sub("", printed_now), cell
    numbers, numbers_now = ([float(number) for number in NUMBER.findall(text)] for text in (printed, printed_now))
    np.testing.assert_allclose(numbers, numbers_now, rtol=0.05, atol=0.2, err_msg=str(cell))
