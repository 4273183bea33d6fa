"""The account of an import: for each person, how many rows were read, and how many were dropped and why."""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Mapping
from typing import Any, Self

from data_pipelines.errors import SchemaError
from data_pipelines.text_files import one_line

UNREADABLE = "file that cannot be read, or its rest"
MOST_TYPES = 10_000  # of all people: a file may invent types without end
_LONGEST_TYPE = 80  # characters


@dataclasses.dataclass(frozen=True)
class ClockSpan:
  """Readings on one clock.

  Attributes:
    readings: their number.
    signals: names, sorted.
    first, last: when the first and the last one starts, in ms of the wall clock and of UTC, None if that is unknown.
  """

  readings: int
  signals: tuple[str, ...]
  first: tuple[int, int | None]
  last: tuple[int, int | None]

  def joined(self, other: ClockSpan) -> ClockSpan:
    """The readings of both."""
    first, last = min(self.first, other.first, key=_wall), max(self.last, other.last, key=_wall)
    signals = tuple(sorted({*self.signals, *other.signals}))
    return ClockSpan(self.readings + other.readings, signals, first, last)


def _line(file: str, place: str, why: str) -> str:
  """A part that cannot be read in one line; a place that has a colon says why itself."""
  return f"{file}{place}" + f": {why}" * (":" not in place)


def _wall(moment: tuple[int, int | None]) -> int:
  return moment[0]


class Account:
  """Account of every row of an export, per person. A row is read once and dropped at most once.

  Attributes:
    read: number of rows read, by participant.
    dropped: number of rows dropped, by participant and reason.
    example: location of the first dropped row, such as "steps.csv row 7", by participant and reason.
    damage: number of rows that a file's damage costs, and the first place of it, by participant, reason and file;
      `dropped` has them too. The participant is "" where the file does not say whose it is.
    strict: whether a damaged part ends the import.
    passed_over: number of records of types that the importer does not read, by participant and type. They are not
      among the rows.
    remarks: what should be known of readings that are kept, with the number of files, by participant and text.
    combined: number of readings of one time in one file that are kept and combined, and where the first is, by
      participant and a text that says which and how.
    unread_files: number of files that are not read and the name of the first, by kind of file and reason.
    clocks: the readings of a person on one kind of clock, by participant and clock.
  """

  def __init__(self, strict: bool = False) -> None:
    self.read: collections.Counter[str] = collections.Counter()
    self.dropped: collections.Counter[tuple[str, str]] = collections.Counter()
    self.example: dict[tuple[str, str], str] = {}
    self.damage: dict[tuple[str, str, str], tuple[int, str]] = {}
    self.strict = strict
    self.passed_over: collections.Counter[tuple[str, str]] = collections.Counter()
    self.remarks: collections.Counter[tuple[str, str]] = collections.Counter()
    self.combined: dict[tuple[str, str], tuple[int, str]] = {}
    self.unread_files: dict[tuple[str, str], tuple[int, str]] = {}
    self.clocks: dict[tuple[str, str], ClockSpan] = {}

  def add(self, participant: str, rows: int = 1) -> None:
    """Counts rows that hold something this importer reads, whether usable or not."""
    self.read[participant] += rows

  def drop(self, participant: str, why: str, rows: int = 1, where: str = "") -> None:
    """Counts rows as dropped that `add` has counted as read.

    Args:
      participant: the person.
      why: the reason in a few words; it never quotes a value.
      rows: how many rows.
      where: location of the first of them, as "file row 7".
    """
    if rows:
      self.dropped[participant, why] += rows
      self.example.setdefault((participant, why), where)

  def damaged(self, participant: str, why: str, file: str, place: str = "", rows: int = 0) -> None:
    """Counts a part of an export that cannot be read. The rest of the export is read on.

    Args:
      participant: the person.
      why: what is wrong, in a few words that are the same for all parts of the kind.
      file: the file, as messages name it.
      place: what follows it in messages: " row 7", or ": " and what is wrong with the file as a whole.
      rows: how many rows of the part `add` has counted as read; 0 counts the part as one row read and dropped.

    Raises:
      SchemaError: the account is strict.
    """
    if self.strict:
      raise SchemaError(_line(file, place, why))
    self.add(participant, 0 if rows else 1)
    self.drop(participant, why, rows or 1, f"{file}{place}")
    self._damage((participant, why, file), rows or 1, place)

  def mended(self, participant: str, why: str, file: str, place: str = "") -> None:
    """Names a part that was damaged and is read nevertheless; like `damaged`, without counting a row as dropped."""
    if self.strict:
      raise SchemaError(f"{file}{place}: {why}")
    self._damage((participant, why, file), 0, place)

  def unreadable(self, participant: str, file: str, error: SchemaError) -> None:
    """Counts a file that cannot be read, or its rest, as `damaged` does; `error` is why."""
    if self.strict:
      raise error
    place = str(error).removeprefix(file)
    self.damaged(participant, UNREADABLE, file, place if place != str(error) else f": {error}")

  def _damage(self, key: tuple[str, str, str], rows: int, place: str) -> None:
    before, first = self.damage.get(key, (0, place))
    self.damage[key] = before + rows, first

  def check_damage(self) -> None:
    """Raises SchemaError, with the first part that could not be read, if there is any."""
    for (_, why, file), (_, place) in self.damage.items():
      more = f"; and {len(self.damage) - 1:,} more" * (len(self.damage) > 1)
      raise SchemaError(_line(file, place, why) + more)

  def pass_over(self, participant: str, record_type: str, records: int = 1) -> None:
    """Counts records of a type that the importer does not read. At most MOST_TYPES types are told apart.

    A type is named as the file does, in one line of at most 80 characters.
    """
    record_type = one_line(record_type, _LONGEST_TYPE)
    known = (participant, record_type) in self.passed_over or len(self.passed_over) < MOST_TYPES
    self.passed_over[participant, record_type if known else "others"] += records

  def remark(self, participant: str, text: str, files: int = 1) -> None:
    """Notes what should be known of readings that are kept, in a few words, and of how many files it is true."""
    self.remarks[participant, text] += files

  def combine(self, participant: str, text: str, readings: int, where: str) -> None:
    """Counts readings of one time in one file that are kept and combined; `where` is the first of them."""
    before, first = self.combined.get((participant, text), (0, where))
    self.combined[participant, text] = before + readings, first

  def leave_file(self, kind: str, why: str, name: str, files: int = 1) -> None:
    """Counts files that are not read: their kind, the reason in a few words, and the name of the first."""
    before, first = self.unread_files.get((kind, why), (0, name))
    self.unread_files[kind, why] = before + files, first

  def add_span(self, participant: str, clock: str, span: ClockSpan) -> None:
    """Adds readings of a person on a clock, which is described in a few words."""
    known = self.clocks.get((participant, clock))
    self.clocks[participant, clock] = known.joined(span) if known else span

  def merge(self, other: Account) -> None:
    """Adds another account's rows to this one."""
    self.read.update(other.read)
    for (participant, record_type), records in other.passed_over.items():
      self.pass_over(participant, record_type, records)
    self.dropped.update(other.dropped)
    self.remarks.update(other.remarks)
    for (participant, text), (readings, where) in other.combined.items():
      self.combine(participant, text, readings, where)
    for part, (rows, place) in other.damage.items():
      self._damage(part, rows, place)
    for (participant, clock), span in other.clocks.items():
      self.add_span(participant, clock, span)
    for key, where in other.example.items():
      self.example.setdefault(key, where)

  def to_json(self) -> dict[str, Any]:
    """The account as plain values, for `from_json`."""
    dropped = [[*key, rows, self.example.get(key, "")] for key, rows in self.dropped.items()]
    damage = [[*key, *found] for key, found in self.damage.items()]
    passed_over = [[*key, records] for key, records in self.passed_over.items()]
    clocks = [[*key, *dataclasses.astuple(span)] for key, span in self.clocks.items()]
    return {
      "read": dict(self.read),
      "dropped": dropped,
      "damage": damage,
      "passed_over": passed_over,
      "remarks": [[*key, files] for key, files in self.remarks.items()],
      "combined": [[*key, *found] for key, found in self.combined.items()],
      "clocks": clocks,
    }

  @classmethod
  def from_json(cls, raw: Mapping[str, Any]) -> Self:
    """Restores an account from the result of `to_json`."""
    account = cls()
    account.read.update(raw["read"])
    for participant, why, rows, where in raw["dropped"]:
      account.drop(participant, why, rows, where)
    for participant, why, file, rows, place in raw["damage"]:
      account.damage[participant, why, file] = rows, place
    for participant, text, files in raw["remarks"]:
      account.remark(participant, text, files)
    for participant, text, readings, where in raw.get("combined", ()):
      account.combine(participant, text, readings, where)
    for participant, record_type, records in raw["passed_over"]:
      account.pass_over(participant, record_type, records)
    for participant, clock, readings, signals, first, last in raw["clocks"]:
      account.add_span(participant, clock, ClockSpan(readings, tuple(signals), tuple(first), tuple(last)))
    return account
