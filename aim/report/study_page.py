"""The page of the folder of a study: the tables and pictures that it made, and links to its cells."""

from __future__ import annotations

import csv
import json
import pathlib
import urllib.parse
from collections.abc import Iterator, Sequence
from typing import Any

from aim.common import config_files
from aim.evaluation.results import ResultsError
from aim.runtime import working_copy
from data_pipelines.page import document
from data_pipelines.page.blocks import Block, Code, Link, Picture, Section, Table, TextLine, number
from data_pipelines.text_files import counted, read_fields, read_json, read_text

# The files that a study writes into its folder, by its mode; the first one has its results.
FILES = {
  "compare": ("comparison.csv", "comparison.md", "commands.csv"),
  "scaling": ("scaling.csv", "fits.json", "cells.csv"),
}
_PICTURES = {"compare": "generative-*.png", "scaling": "scaling-*.png"}
_ABOUT = {"compare": "several models on the same people", "scaling": "held-out loss against data, size and compute"}
_CELLS = "cells"
_LONG = 30  # rows; a longer table is folded away


def is_study(folder: pathlib.Path) -> bool:
  """True if a folder is that of --mode=compare or --mode=scaling, which has no model of its own."""
  if (folder / working_copy.CHECKPOINTS).exists():
    return False
  return bool(_modes(folder)) or any(folder.glob(f"{_CELLS}/*/commands.json"))


def write(folder: pathlib.Path, output: pathlib.Path) -> pathlib.Path:
  """Writes index.html, which needs nothing but itself except where it links to files of the study.

  Args:
    folder: of the study.
    output: a folder in it.

  Returns:
    Path of index.html.

  Raises:
    UserError: a file of the study cannot be read.
  """
  modes = _modes(folder)
  sections = [_summary(folder, modes)]
  if "compare" in modes:
    sections += _comparison(folder / "comparison.md")
  if "scaling" in modes:
    sections += _scaling(folder)
  sections += _pictures(folder, modes)
  sections += [_cells(folder), _files(folder, modes), _config(folder, modes)]
  return document.write(sections, folder.resolve().name, "report of a study", output)


def _modes(folder: pathlib.Path) -> list[str]:
  return [mode for mode, names in FILES.items() if any((folder / name).is_file() for name in names)]


def _summary(folder: pathlib.Path, modes: Sequence[str]) -> Section:
  rows = [[f"--mode={mode}", _ABOUT[mode]] for mode in modes]
  rows += [["cells", _progress(folder)], ["workdir", working_copy.renamed(str(folder))]]
  missing = [name for name, *_ in map(FILES.__getitem__, modes) if not (folder / name).is_file()]
  hints = [
    TextLine(f"There is no {name} yet. The command of the study, repeated, runs what is left and writes it.", "hint")
    for name in missing
  ]
  return Section("summary", "Summary", [Table("", ["", ""], rows), *hints])


def _progress(folder: pathlib.Path) -> str:
  if (folder / "cells.csv").is_file():
    header, rows = _csv(folder / "cells.csv")
    done = header.index("done") if "done" in header else None
    cells = [row for row in rows if row[0] != "build"]
    if done is not None:
      return f"{sum(row[done] == 'True' for row in cells)} of {len(cells)} finished"
  return counted(len(_cell_folders(folder)), "folder")


def _comparison(path: pathlib.Path) -> Iterator[Section]:
  """Yields a section per heading of comparison.md, whose tables are tables here."""
  heads: list[tuple[str, list[str]]] = []
  for line in read_text(path).split("\n") if path.is_file() else ():
    if line.startswith("## "):
      heads.append((line[3:], []))
    elif line.strip() and heads:
      heads[-1][1].append(line)
  for i, (title, lines) in enumerate(heads):
    yield Section(f"comparison-{i + 1}", title, list(_blocks(lines)))


def _blocks(lines: Sequence[str]) -> Iterator[Block]:
  """Yields what lines of Markdown hold: tables, and a paragraph per other line."""
  table: list[list[str]] = []
  for line, following in zip(lines, [*lines[1:], ""], strict=True):
    if not line.startswith("| "):
      yield TextLine(line.removeprefix("- "))
      continue
    table.append(line.removeprefix("| ").removesuffix(" |").split(" | "))
    if not following.startswith("| ") or following.startswith("| data | "):  # two tables may follow one another
      columns, _, *rows = table if len(table) > 1 else (*table, [])
      paired = any(column.startswith("against ") for column in columns)
      title, long = ("Paired differences", len(rows) > _LONG) if paired else ("", False)
      yield Table(title, columns, [list(map(_entry, row)) for row in rows], folded=long)
      table = []


def _entry(text: str) -> Any:
  """A field of a table; the best of a row is bold in Markdown."""
  return TextLine(text.replace("**", ""), "best") if text.startswith("**") else text


def _scaling(folder: pathlib.Path) -> Iterator[Section]:
  blocks: list[Block] = []
  if (folder / "scaling.csv").is_file():
    blocks.append(_with_intervals(*_csv(folder / "scaling.csv")))
  if (folder / "fits.json").is_file():
    fits = read_json(folder / "fits.json")
    curves = fits.get("curves", ()) if isinstance(fits, dict) else ()
    # Studies of earlier versions have the numbers of the fits alone.
    blocks += [TextLine(str(curve["line"])) for curve in curves if isinstance(curve, dict) and "line" in curve]
  if blocks:
    yield Section("scaling", "Held-out loss", blocks)


def _with_intervals(header: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
  """The rows of a CSV file, with the bounds X_low and X_high beside X."""
  bounds = {name: [f"{name}_low", f"{name}_high"] for name in header}
  bounds = {name: ends for name, ends in bounds.items() if set(ends) <= set(header)}
  shown = [name for name in header if not any(name in ends for ends in bounds.values())]

  def entry(row: dict[str, str], name: str) -> str:
    low, high = (_rounded(row[end]) for end in bounds[name]) if name in bounds else ("", "")
    return _rounded(row[name]) + (f" [{low}, {high}]" if low and high else "")

  named = [dict(zip(header, row, strict=True)) for row in rows]
  return Table("", shown, [[entry(row, name) for name in shown] for row in named])


def _rounded(field: str) -> str:
  if field.isdecimal():
    return f"{int(field):,}"
  try:
    return number(float(field))
  except ValueError:
    return field


def _csv(path: pathlib.Path) -> tuple[list[str], list[list[str]]]:
  """The header and the rows of a CSV file.

  Raises:
    ResultsError: a row has another number of fields than the header.
  """
  header, *rows = list(read_fields(csv.reader(read_text(path).splitlines()))) or [[]]
  for i, row in enumerate(rows):
    if len(row) != len(header):
      raise ResultsError(f"{path} line {i + 2}: {counted(len(row), 'field')}, expected {len(header)}")
  return header, rows


def _pictures(folder: pathlib.Path, modes: Sequence[str]) -> Iterator[Section]:
  paths = [path for mode in modes for path in sorted(folder.glob(_PICTURES[mode]))]
  if paths:
    pictures = [Picture(path.stem, f"The picture {path.name} of the study.", path.read_bytes()) for path in paths]
    yield Section("figures", "Figures", pictures)


def _cells(folder: pathlib.Path) -> Section:
  paths = _cell_folders(folder)
  if not paths:
    return Section("cells", "Cells", [TextLine("No cell has begun.", "hint")])
  rows = [
    [
      Link(path.name, _address(_CELLS, path.name, "")),
      "yes" if (path / working_copy.CHECKPOINTS).is_dir() else "no",
      ", ".join(sorted(record.stem for record in path.glob("scored/*.json"))) or "–",
    ]
    for path in paths
  ]
  shown = working_copy.renamed(str(folder / _CELLS / "NAME"))
  command = f"python -m aim.main --mode=report --workdir={shown}"
  return Section(
    "cells",
    "Cells",
    [
      Table(
        "Cells" if len(rows) > _LONG else "",
        ["cell", "has a model", "scored by --mode="],
        rows,
        folded=len(rows) > _LONG,
      ),
      TextLine("Each cell is the workdir of a run, with a page of its own:", "", command),
    ],
  )


def _cell_folders(folder: pathlib.Path) -> list[pathlib.Path]:
  return sorted(path for path in folder.glob(f"{_CELLS}/*") if path.is_dir())


def _files(folder: pathlib.Path, modes: Sequence[str]) -> Section:
  names = [name for mode in modes for name in FILES[mode] if (folder / name).is_file()]
  return Section("files", "Files", [Table("", [""], [[Link(name, _address(name))] for name in names])])


def _address(*names: str) -> str:
  """The address of a file of the study, from the page's folder in it."""
  return "/".join(("..", *(urllib.parse.quote(name) for name in names)))


def _config(folder: pathlib.Path, modes: Sequence[str]) -> Section:
  path = folder / "config.json"
  if not path.is_file():
    return Section("config", "Config", [TextLine("There is no config.json.", "hint")])
  config = config_files.to_dict(config_files.read(path))
  groups = {key: config[key] for key in (*modes, "data") if key in config}
  return Section("config", "Config", [Code("What the study was configured with", json.dumps(groups, indent=2))])
