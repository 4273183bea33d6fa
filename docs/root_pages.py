"""Hook of mkdocs: the Markdown files at the root of the repository are pages of the site too.

They are written for the repository, so that their links into docs/ lose that prefix here. A link to any other file of
the repository, such as LICENSE, becomes plain text because the site does not contain the file.
"""

from __future__ import annotations

import pathlib
import re

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

ROOT = pathlib.Path(__file__).resolve().parent.parent
PAGES = ("README.md", "CONTRIBUTING.md", "BUILD_NOTES.md")
LINK = re.compile(r"\[(?P<text>[^\]]*)\]\((?P<target>[^)\s]+)\)")


def on_files(files: Files, config: MkDocsConfig) -> Files:
  """Adds the pages; the README is the site's index."""
  for name in PAGES:
    files.append(File.generated(config, name, content=LINK.sub(_on_site, (ROOT / name).read_text())))
  return files


def _on_site(link: re.Match[str]) -> str:
  """A link of the repository as it is on the site."""
  text, target = link["text"], link["target"]
  path = target.partition("#")[0]
  if target.startswith("#") or "://" in target or path in PAGES:
    return link[0]
  if path.startswith("docs/"):
    return f"[{text}]({target.removeprefix('docs/')})"
  return text
