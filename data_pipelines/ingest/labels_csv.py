"""CSV files that accompany exports: labels of people (--participants) and events of their days (--events)."""

from __future__ import annotations

import collections
import csv
import dataclasses
import io
import math
import os
import re
from collections.abc import Iterator, Sequence

import pyarrow as pa

from data_pipelines.errors import SchemaError, shown
from data_pipelines.ingest.reading import clocks, csv_batches
from data_pipelines.ingest.reading.clocks import MINUTE
from data_pipelines.ingest.reading.readings import Stretch
from data_pipelines.source import LARGEST_WHOLE, MISSING_TEXTS, MISSING_WORDS, SPREADSHEET_ERRORS, Label, check_people
from data_pipelines.text_files import check_names, check_reserved, counted, in_other_notation, read_text

MOST_TABLE = 2**30  # bytes: ten million events

_BOOLEANS = {"true": True, "false": False}


@dataclasses.dataclass(frozen=True)
class ParticipantTable:
  """The content of --participants.

  Attributes:
    labels: labels by name, for each participant.
    zones: IANA time zones of the participants who have one.
    notes: what was taken for missing and which columns may be misread, one line each.
  """

  labels: dict[str, dict[str, Label]] = dataclasses.field(default_factory=dict)
  zones: dict[str, str] = dataclasses.field(default_factory=dict)
  notes: list[str] = dataclasses.field(default_factory=list)

  @classmethod
  def load(cls, path: str | os.PathLike) -> ParticipantTable:
    """Reads a CSV whose first column is "participant".

    A column "timezone" gives time zones; every other column is a label. Empty fields mean unknown, and so do the
    words of MISSING_WORDS in columns of numbers or booleans, and those of MISSING_TEXTS in columns of text.

    Raises:
      SchemaError: the file is not such a CSV; the message names the file and the row.
    """
    header, rows = _read_csv(path)
    if header[0] != "participant":
      raise SchemaError(f"{path}: the first column is {header[0]!r}, expected 'participant'")
    check_reserved(header, ("participant", "timezone"), str(path))
    check_names(header[1:], "label", str(path))
    names = [row[0] for _, row in rows]
    seen: set[str] = set()
    for number, (name, *_) in rows:
      if not name or name in seen:
        fault = f"participant {name!r} appears more than once" if name else "participant is empty"
        raise SchemaError(f"{path} row {number}: {fault}")
      seen.add(name)
    check_people(names, str(path))
    columns = {name: [row[1 + c] for _, row in rows] for c, name in enumerate(header[1:])}
    zones = {}
    for (number, (who, *_)), zone in zip(rows, columns.pop("timezone", [""] * len(rows)), strict=True):
      if zone.lower() not in MISSING_WORDS:
        zones[who] = clocks.find_zone(zone, f"{path} row {number}").key
    for name, fields in columns.items():
      _check_fields(path, name, fields, rows)
    labels = {name: _typed(fields) for name, fields in columns.items()}
    notes = [
      note for name, fields in columns.items() for note in _notes(f"{path}: label {name!r}", fields, labels[name], rows)
    ]
    by_person = {who: {name: column[n] for name, column in labels.items()} for n, who in enumerate(names)}
    return cls(by_person, zones, notes)


@dataclasses.dataclass(frozen=True)
class LabelledStretch(Stretch):
  """A stretch from --events. Value 0 means that `name` is known to be absent."""

  value: int = 1


def load_events(path: str | os.PathLike) -> list[LabelledStretch]:
  """Reads a CSV with the columns participant, start, end, name and, optionally, value.

  Times are ISO 8601: on the wall clock if they have no offset, in UTC if they end in Z, and otherwise on a clock that
  is ahead of UTC by their offset.

  Raises:
    SchemaError: the file is not such a CSV; the message names the file and the row.
  """
  header, rows = _read_csv(path)
  missing = [name for name in ("participant", "start", "end", "name") if name not in header]
  if missing:
    raise SchemaError(f"{path}: column {missing[0]!r} is missing; the header has {', '.join(header)}")
  check_reserved(header, ("participant", "start", "end", "name", "value"), str(path))
  people, names = ([row[header.index(column)] for _, row in rows] for column in ("participant", "name"))
  check_people(filter(None, people), str(path))
  check_names(filter(None, names), "event", str(path))
  return [_event(dict(zip(header, row, strict=True)), f"{path} row {number}") for number, row in rows]


def contradictory(events: Sequence[LabelledStretch]) -> list[LabelledStretch]:
  """Events whose name another event of the same person says to be absent, or present, at some of the same time.

  Of two that contradict each other, the one that starts later. Events on clocks of different kinds are not compared.
  """
  found = []
  what = lambda event: (event.participant, event.name, event.clock)
  until: dict[bool, int] = {}  # how long it is said to be absent, and present
  last = None
  for event in sorted(events, key=lambda event: (*what(event), event.start, event.end)):
    if last != what(event):
      last, until = what(event), {}
    present = event.value != 0
    if event.start < until.get(not present, event.start):
      found.append(event)
    until[present] = max(event.end, until.get(present, event.end))
  return found


def _event(row: dict[str, str], where: str) -> LabelledStretch:
  if not row["participant"] or not row["name"]:
    raise SchemaError(f"{where}: participant or name is empty")
  clock, ahead, zoned, bad = csv_batches.parse_zoned_times(pa.array([row["start"], row["end"]]))
  if bad.any():
    column = ("start", "end")[int(bad.argmax())]
    raise SchemaError(f"{where}: {column} is {row[column]!r}, expected an ISO time such as 2024-03-01T18:30")
  value = row.get("value", "") or "1"
  if not re.fullmatch("[0-9]{1,10}", value) or int(value) > 2**31 - 1:
    raise SchemaError(f"{where}: value is {value!r}, expected a whole number, 0 for a known absence")
  if zoned[0] != zoned[1]:
    raise SchemaError(f"{where}: only one of start and end has an offset")
  start, end = (clock - MINUTE * ahead).tolist()
  if end <= start:
    how = "ends before it starts" if end < start else "ends when it starts, expected a later end"
    raise SchemaError(f"{where}: {how}")
  offset = int(ahead[0]) if zoned[0] and ahead[0] else None
  kind = "utc" if zoned[0] else "wall"
  return LabelledStretch(row["participant"], row["name"], start, end, offset, kind, int(value))  # type: ignore[arg-type]


def _read_csv(path: str | os.PathLike) -> tuple[list[str], list[tuple[int, list[str]]]]:
  """The header, and the rows with their numbers."""
  try:
    rows = list(_stripped(csv.reader(io.StringIO(read_text(path, MOST_TABLE), newline=""), strict=True)))
  except csv.Error as error:
    raise SchemaError(f"{path}: not a CSV: {error}") from None
  if not rows:
    raise SchemaError(f"{path}: empty, expected a header")
  header = rows[0][1]
  repeated = sorted({name for name in header if header.count(name) > 1})
  if repeated or "" in header:
    fault = f"column {repeated[0]!r} appears more than once" if repeated else "a column has no name"
    raise SchemaError(f"{path}: {fault}")
  for number, row in rows[1:]:
    if len(row) != len(header):
      raise SchemaError(f"{path} row {number}: {counted(len(row), 'field')}, expected the header's {len(header)}")
  return header, rows[1:]


def _stripped(rows: Iterator[list[str]]) -> Iterator[tuple[int, list[str]]]:
  for number, row in enumerate(rows, 1):
    if any(field.strip() for field in row):
      yield number, [field.strip() for field in row]


def _check_fields(
  path: str | os.PathLike, name: str, fields: Sequence[str], rows: Sequence[tuple[int, list[str]]]
) -> None:
  """Refuses errors of spreadsheets, and in a column of numbers infinities and numbers in another notation."""
  infinite, other = [], []
  for (number, (who, *_)), field in zip(rows, fields, strict=True):
    where = f"{path} row {number}: participant {who!r}, label {name!r}"
    if field.upper() in SPREADSHEET_ERRORS:
      raise SchemaError(f"{where}: found {shown(field)}, an error of a spreadsheet, expected a value or an empty field")
    if _infinite(field):
      infinite.append(f"{where}: found {shown(field)}, expected a finite number")
    elif in_other_notation(field):
      other.append(
        f"{where}: found {shown(field)}, expected a number in the digits 0 to 9 with a point, such as 1234.5"
      )
  if infinite or other:
    plain = [f for f in fields if f.lower() not in MISSING_WORDS and not _infinite(f) and not in_other_notation(f)]
    _, bad = csv_batches.parse_numbers(pa.array(plain, pa.string()))
    if not bad.any():
      raise SchemaError([*infinite, *other][0])


def _infinite(field: str) -> bool:
  try:
    return math.isinf(float(field))
  except ValueError:
    return False


def _typed(fields: Sequence[str]) -> list[Label]:
  """A column as booleans, whole numbers, numbers or text: the first that fits all fields that are not missing."""
  known = [field for field in fields if field.lower() not in MISSING_WORDS]
  if all(field.lower() in _BOOLEANS for field in known):
    return [_BOOLEANS.get(field.lower()) for field in fields]
  _, bad = csv_batches.parse_numbers(pa.array(known, pa.string()))
  if bad.any() or any(map(_is_code, known)):
    return [None if field in MISSING_TEXTS else field for field in fields]
  whole = all(re.fullmatch("[+-]?[0-9]+", field) for field in known)
  number = int if whole else float
  return [None if field.lower() in MISSING_WORDS else number(field) for field in fields]


def _is_code(field: str) -> bool:
  """True if digits are more than a number keeps: with leading zeros, or too many of them."""
  return bool(re.fullmatch("0[0-9]+", field)) or (
    bool(re.fullmatch("[+-]?[0-9]{16,}", field)) and (len(field) > 32 or abs(int(field)) > LARGEST_WHOLE)
  )


def _notes(
  where: str, fields: Sequence[str], column: Sequence[Label], rows: Sequence[tuple[int, list[str]]]
) -> Iterator[str]:
  """Yields a line on words that were taken for missing, and one on a column of numbers that some fields make text."""
  words = collections.Counter(field for field, label in zip(fields, column, strict=True) if field and label is None)
  if words:
    counts = ", ".join(f"{word!r} {count}" for word, count in words.most_common())
    yield f"{where}: {words.total():,} of {counted(len(fields), 'field')} taken for missing ({counts})"
  known = [(field, number) for field, (number, _) in zip(fields, rows, strict=True) if field not in MISSING_TEXTS]
  _, bad = csv_batches.parse_numbers(pa.array([field for field, _ in known], pa.string()))
  if not any(isinstance(label, str) for label in column):
    return
  count = counted(len(known), "field")
  if bad.any() and not bad.all():
    field, first = known[int(bad.argmax())]
    yield f"{where}: is text; of {count} {bad.sum():,} cannot be read as numbers (first: row {first}, {field[:40]!r})"
  elif not bad.any():
    field, first = next((field, number) for field, number in known if _is_code(field))
    yield f"{where}: is text, because of digits that a number does not keep (first: row {first}, {field[:40]!r})"
  elif all(re.fullmatch(r"[+-]?[0-9]+(,[0-9]+)?( ?%)?", field) for field, _ in known):
    field, first = known[0]
    yield f"{where}: is text, although all of {count} look like numbers (first: row {first}, {field[:40]!r})"
