"""Labels of people and events of their days, from CSV files that go with an export."""

from __future__ import annotations

import csv
import dataclasses
import os
import pathlib
from collections.abc import Iterator, Sequence

import pyarrow as pa

from data_pipelines.errors import SchemaError
from data_pipelines.ingest.reading import clocks, csv_batches
from data_pipelines.ingest.reading.readings import Stretch
from data_pipelines.source import Label

_BOOLEANS = {"true": True, "false": False}


@dataclasses.dataclass(frozen=True)
class People:
  """What --participants tells: labels of each person by name, and the time zones of those who have one."""

  labels: dict[str, dict[str, Label]]
  zones: dict[str, str]

  @classmethod
  def load(cls, path: str | os.PathLike) -> People:
    """From a CSV whose first column is participant; a column timezone is no label. Empty cells are unknown."""
    header, rows = _table(path)
    if header[0] != "participant":
      raise SchemaError(f"{path}: the first column is {header[0]!r}, expected 'participant'")
    names = [row[0] for _, row in rows]
    seen: set[str] = set()
    for number, (name, *_) in rows:
      if not name or name in seen:
        raise SchemaError(f"{path} row {number}: participant {'is there twice' if name else 'is empty'}")
      seen.add(name)
    columns = {name: [row[1 + c] for _, row in rows] for c, name in enumerate(header[1:])}
    zones = {}
    for (number, (who, *_)), zone in zip(rows, columns.pop("timezone", [""] * len(rows)), strict=True):
      if zone:
        zones[who] = clocks.zone(zone, f"{path} row {number}").key
    typed = {name: _typed(cells) for name, cells in columns.items()}
    return cls({who: {name: cells[n] for name, cells in typed.items()} for n, who in enumerate(names)}, zones)


@dataclasses.dataclass(frozen=True)
class LabelledStretch(Stretch):
  """A stretch of --events; value 0 is a known absence."""

  value: int = 1


def load_events(path: str | os.PathLike) -> list[LabelledStretch]:
  """From a CSV of participant, start, end, name and, optionally, value; ISO times of the wall clock, but with an offset
  those of a clock so far ahead of UTC, and with Z those of UTC."""
  header, rows = _table(path)
  missing = [name for name in ("participant", "start", "end", "name") if name not in header]
  if missing:
    raise SchemaError(f"{path}: column {missing[0]!r} is missing; the header has {', '.join(header)}")
  return [_event(dict(zip(header, row, strict=True)), f"{path} row {number}") for number, row in rows]


def _event(row: dict[str, str], where: str) -> LabelledStretch:
  if not row["participant"] or not row["name"]:
    raise SchemaError(f"{where}: participant or name is empty")
  clock, ahead, zoned, bad = csv_batches.zoned_times(pa.array([row["start"], row["end"]]))
  if bad.any():
    raise SchemaError(f"{where}: {('start', 'end')[int(bad.argmax())]} is no ISO time, such as 2024-03-01T18:30")
  value = row.get("value", "") or "1"
  if not value.isdecimal() or int(value) > 2**31 - 1:
    raise SchemaError(f"{where}: value is {value!r}, expected a whole number, 0 for a known absence")
  if zoned[0] != zoned[1]:
    raise SchemaError(f"{where}: one of start and end has an offset, the other not")
  start, end = (clock - 60_000 * ahead).tolist()
  if end <= start:
    raise SchemaError(f"{where}: ends before it starts")
  offset = int(ahead[0]) if zoned[0] and ahead[0] else None
  kind = "utc" if zoned[0] else "wall"
  return LabelledStretch(row["participant"], row["name"], start, end, offset, kind, int(value))  # type: ignore[arg-type]


def _table(path: str | os.PathLike) -> tuple[list[str], list[tuple[int, list[str]]]]:
  """Header, and rows with their numbers."""
  try:
    with pathlib.Path(path).open(encoding="utf-8-sig", newline="") as file:
      rows = list(_stripped(csv.reader(file, strict=True)))
  except OSError as error:
    raise SchemaError(f"{path}: {(error.strerror or 'cannot be read').lower()}") from None
  except (UnicodeDecodeError, csv.Error) as error:
    raise SchemaError(f"{path}: {'not UTF-8 text' if isinstance(error, ValueError) else f'no CSV: {error}'}") from None
  if not rows:
    raise SchemaError(f"{path}: empty, expected a header")
  header = rows[0][1]
  twice = sorted({name for name in header if header.count(name) > 1})
  if twice or "" in header:
    raise SchemaError(f"{path}: column {twice[0] if twice else ''!r} is there twice or has no name")
  for number, row in rows[1:]:
    if len(row) != len(header):
      raise SchemaError(f"{path} row {number}: {len(row)} cells, expected the header's {len(header)}")
  return header, rows[1:]


def _stripped(rows: Iterator[list[str]]) -> Iterator[tuple[int, list[str]]]:
  for number, row in enumerate(rows, 1):
    if any(cell.strip() for cell in row):
      yield number, [cell.strip() for cell in row]


def _typed(cells: Sequence[str]) -> list[Label]:
  """True and false, whole numbers, numbers or texts: the first kind that all cells are of; None for empty ones."""
  told = [cell for cell in cells if cell]
  if all(cell.lower() in _BOOLEANS for cell in told):
    return [_BOOLEANS[cell.lower()] if cell else None for cell in cells]
  _, bad = csv_batches.numbers(pa.array(told, pa.string()))
  if bad.any():
    return [cell or None for cell in cells]
  whole = all(cell.lstrip("+-").isdecimal() and abs(int(cell)) < 2**53 for cell in told)
  return [(int(cell) if whole else float(cell)) if cell else None for cell in cells]
