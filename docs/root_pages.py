"""Hook of mkdocs: the Markdown files at the root of the repository and the notebooks are pages of the site too.

The former are written for the repository, so that their links into docs/ lose that prefix here. A link to any other
file of the repository, such as LICENSE, becomes plain text because the site does not contain the file. A notebook is
shown with the outputs that it is stored with.
"""

from __future__ import annotations

import base64
import json
import pathlib
import re
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

ROOT = pathlib.Path(__file__).resolve().parent.parent
PAGES = ("README.md", "CONTRIBUTING.md", "BUILD_NOTES.md")
LINK = re.compile(r"\[(?P<text>[^\]]*)\]\((?P<target>[^)\s]+)\)")


def on_files(files: Files, config: MkDocsConfig) -> Files:
  """Adds the pages; the README is the site's index."""
  for name in PAGES:
    files.append(File.generated(config, name, content=LINK.sub(_on_site, (ROOT / name).read_text())))
  for path in sorted((ROOT / "docs").rglob("*.ipynb")):
    files.append(File.generated(config, f"{_on_site_path(path)}.md", content=_notebook_page(path)))
    for name, picture in _pictures(path):
      files.append(File.generated(config, f"{_on_site_path(path.parent)}/{name}", content=picture))
  return files


def _on_site_path(path: pathlib.Path) -> str:
  return path.relative_to(ROOT / "docs").with_suffix("").as_posix()


def _cells(path: pathlib.Path) -> list[dict[str, Any]]:
  return json.loads(path.read_text(encoding="utf-8"))["cells"]


def _notebook_page(path: pathlib.Path) -> str:
  """The notebook in Markdown: text, code, printed lines and pictures."""
  parts = []
  for n, cell in enumerate(_cells(path)):
    source = "".join(cell["source"])
    parts.append(source if cell["cell_type"] == "markdown" else f"```python\n{source}\n```")
    printed = "".join("".join(output["text"]) for output in cell.get("outputs", ()) if "text" in output)
    if printed:
      parts.append(f"```text\n{printed.rstrip()}\n```")
    names = [name for name, _ in _pictures(path) if name.startswith(f"{path.stem}_{n}_")]
    parts += [f"![What the cell above shows]({name})" for name in names]
  return "\n\n".join([*parts, f"This page is [a notebook]({path.name}).", ""])


def _pictures(path: pathlib.Path) -> list[tuple[str, bytes]]:
  """Names and contents of the PNG files that a notebook's cells have shown."""
  return [
    (f"{path.stem}_{n}_{k}.png", base64.b64decode("".join(output["data"]["image/png"])))
    for n, cell in enumerate(_cells(path))
    for k, output in enumerate(cell.get("outputs", ()))
    if "image/png" in output.get("data", {})
  ]


def _on_site(link: re.Match[str]) -> str:
  """A link of the repository as it is on the site."""
  text, target = link["text"], link["target"]
  path = target.partition("#")[0]
  if target.startswith("#") or "://" in target or path in PAGES:
    return link[0]
  if path.startswith("docs/"):
    return f"[{text}]({target.removeprefix('docs/').replace('.ipynb', '.md')})"
  return text
