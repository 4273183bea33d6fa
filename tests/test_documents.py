"""The documents fit their sizes, their links and file names lead somewhere, and nothing that is shipped is left out.

`make docs` checks anchors and the API pages; these tests also hold for a reader of the repository.
"""

from __future__ import annotations

import itertools
import re

import pytest

from aim import commands
from data_pipelines import build
from tests import tiny

ROOT_PAGES = ("README.md", "BUILD_NOTES.md", "CONTRIBUTING.md")
PAGES = [*ROOT_PAGES, *sorted(str(path.relative_to(tiny.ROOT)) for path in (tiny.ROOT / "docs").rglob("*.md"))]
FOLDERS = ("aim", "benchmarks", "data_pipelines", "docs", "experiments", "launch", "tests")
LINK = re.compile(r"\]\(([^)\s]+)\)")
CODE_BLOCK = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
FILE = re.compile(rf"`((?:{'|'.join(FOLDERS)})/[\w./-]*)`")
COMMAND = re.compile(r"python -m ((?:aim|benchmarks|data_pipelines)\.\w+)([^`\n]*)")
FLAG = re.compile(r"(?<![\w.=-])--([a-z_]+)(?=[\s=]|$)")
# Made by a build or a benchmark, or one of several files.
NOT_TRACKED = re.compile(r"NAME|^docs/|\.(png|csv)$")


def text(page: str) -> str:
  return (tiny.ROOT / page).read_text(encoding="utf-8")


@pytest.mark.parametrize(("page", "most"), [("README.md", 9_000), ("BUILD_NOTES.md", 12_000)])
def test_first_pages_are_short(page, most):
  assert len(text(page).encode()) <= most


def test_lines_of_the_build_notes_fit_a_screen():
  assert not [line for line in text("BUILD_NOTES.md").splitlines() if len(line) > 120]


@pytest.mark.parametrize("page", PAGES)
def test_relative_links_lead_to_files(page):
  targets = [target.partition("#")[0] for target in LINK.findall(CODE_BLOCK.sub("", text(page))) if "://" not in target]
  folder = (tiny.ROOT / page).parent
  assert not [target for target in targets if target and not (folder / target).is_file()]


@pytest.mark.parametrize("page", PAGES)
def test_pages_of_the_site_link_to_the_site_only(page):
  """The site holds docs/ and nothing else of the repository."""
  if page in ROOT_PAGES:
    pytest.skip("a page of the repository")
  docs = tiny.ROOT / "docs"
  targets = [target.partition("#")[0] for target in LINK.findall(CODE_BLOCK.sub("", text(page))) if "://" not in target]
  folder = (tiny.ROOT / page).parent
  assert not [target for target in targets if target and not (folder / target).resolve().is_relative_to(docs)]


@pytest.mark.parametrize("page", PAGES)
def test_files_that_are_named_exist(page):
  names = {name for name in FILE.findall(text(page)) if not NOT_TRACKED.search(name)}
  assert not sorted(name for name in names if not (tiny.ROOT / name).exists())


def has_flag(module: str, flag: str) -> bool:
  if module == build.__name__:  # imports define some of its flags elsewhere
    return flag in build.FLAGS
  path = tiny.ROOT / module.replace(".", "/")
  return f'"{flag}"' in (path / "__main__.py" if path.is_dir() else path.with_suffix(".py")).read_text()


@pytest.mark.parametrize("page", PAGES)
def test_commands_have_flags_that_exist(page):
  wrong = []
  for module, arguments in COMMAND.findall(text(page).replace("\\\n", " ")):
    wrong += [f"{module} --{flag}" for flag in FLAG.findall(arguments) if not has_flag(module, flag)]
  assert not wrong


def test_every_experiment_is_on_its_page():
  shipped = {path.stem for path in (tiny.ROOT / "experiments").glob("*.py")} - {"__init__", "default"}
  assert not sorted(name for name in shipped if f"`{name}`" not in text("docs/configs.md"))


def test_every_mode_is_on_its_page():
  assert not sorted(mode for mode in commands.MODES if f"| `{mode}`" not in text("docs/modes.md"))


@pytest.mark.parametrize("page", ["README.md", "docs/architecture.md"])
def test_every_room_is_named(page):
  rooms = [path.parent.name for path in (tiny.ROOT / "aim").glob("*/__init__.py")]
  assert len(rooms) >= 9
  assert not sorted(room for room in rooms if not re.search(rf"\b{room}\b", text(page)))


def test_contributors_learn_what_to_touch():
  for part in ("a channel source", "a mask strategy", "a baseline", "a task", "an experiment or a mode"):
    assert f"\n## Add {part}" in text("CONTRIBUTING.md")


def test_every_decision_is_in_both_indices():
  decisions = sorted(path.name for path in (tiny.ROOT / "docs" / "decisions").glob("[0-9]*.md"))
  assert decisions
  assert not [name for name in decisions if f"({name})" not in text("docs/decisions/index.md")]
  assert not [name for name in decisions if f"(docs/decisions/{name})" not in text("BUILD_NOTES.md")]


def test_every_study_is_in_both_indices():
  studies = sorted(path.name for path in (tiny.ROOT / "docs" / "results").glob("*.md") if path.stem != "index")
  assert studies
  assert not [name for name in studies if f"({name})" not in text("docs/results/index.md")]
  assert not [name for name in studies if f"(docs/results/{name})" not in text("BUILD_NOTES.md")]


def claims(page: str) -> list[list[str]]:
  """The first three fields of each row of the table of claims on a page."""
  lines = text(page).splitlines()
  start = next(i for i, line in enumerate(lines) if line.startswith("| claim of the paper |"))
  rows = itertools.takewhile(lambda line: line.startswith("|"), lines[start:])
  return [[field.strip() for field in row.split("|")[1:4]] for row in rows if not row.startswith("|---")]


def test_the_table_of_the_readme_is_that_of_the_claims():
  assert len(claims("README.md")) > 8
  assert claims("README.md") == claims("docs/results/claims.md")


def test_every_image_is_on_a_page():
  images = sorted((tiny.ROOT / "docs" / "images").iterdir())
  everything = "".join(text(page) for page in PAGES)
  assert images
  assert not [image.name for image in images if f"images/{image.name})" not in everything]


def test_every_decision_has_its_parts():
  for path in sorted((tiny.ROOT / "docs" / "decisions").glob("[0-9]*.md")):
    decision = path.read_text()
    assert re.match(rf"# {path.name[:3]} .+\n\n\d{{4}}-\d\d-\d\d\n", decision), path.name
    for part in ("## Context", "## Decision", "## Consequence"):
      assert part in decision, f"{path.name}: {part}"


@pytest.mark.parametrize("study", sorted(path.stem for path in (tiny.ROOT / "docs" / "results").glob("*.md")))
def test_every_study_says_what_it_does_not_show(study):
  if study == "index":
    pytest.skip("the list of studies")
  page = text(f"docs/results/{study}.md")
  assert "**Question.**" in page
  assert "## What this does not show" in page
