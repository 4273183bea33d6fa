"""The protocol of a source of days (`Source`), and the records that a source yields: Day, Event and Person.

Anything that has the members of `Source` can be built into a dataset: an npz file (npz.py), the simulator, and every
importer of device exports.
"""

from __future__ import annotations

import dataclasses
import datetime
import math
from collections.abc import Collection, Iterable, Sequence
from typing import Any, Protocol

import numpy as np
from jaxtyping import Float32, UInt8

from data_pipelines.errors import SchemaError, is_number, shown
from data_pipelines.schema import Schema
from data_pipelines.text_files import check_names

# Why a value is missing (LSM-2, section on real-world missingness). A day's `cause` is 0 where the value is observed or
# its cause is unknown, else 1 + the index into this tuple.
MISSINGNESS_MODES = (
  "device_removed",
  "charging",
  "loose_fit",
  "motion_artefact",
  "power_saving",
  "environment",
)

# Optional document of a source: {group: names of events of which at most one happens at a time}.
EXCLUSIVE_EVENTS = "exclusive_events.json"

Label = float | int | str | bool | None

LARGEST_WHOLE = 2**53  # a label that is a whole number: beyond, different ones are equal as numbers of 64 bits
LARGEST_LABEL = 3e38  # about the largest number of 32 bits, in which models learn

# Days on which a greater share of values is missing, over the channels that the day has, are left out by default.
MAX_MISSING = 0.8

# What R, pandas, SAS and spreadsheets write for an unknown number, in lower case.
MISSING_WORDS = frozenset({"", "na", "nan", "null", "none", "n/a", "#n/a", "."})
# What spreadsheets write where a formula failed: a fault to mend, not a missing value.
SPREADSHEET_ERRORS = frozenset({"#REF!", "#DIV/0!", "#VALUE!", "#NAME?", "#NUM!", "#NULL!", "#SPILL!", "#CALC!"})
# MISSING_WORDS that are missing in a column of text too, as they are written. "None" and "." may be answers.
MISSING_TEXTS = frozenset({"", "NA", "NaN", "N/A", "#N/A", "NULL", "null"})
# What becomes of a missing id when a program makes a text of it, and MISSING_TEXTS: nobody's name.
NOBODY = MISSING_TEXTS | {"nan", "None", "NaT", "<NA>"}


def check_people(names: Iterable[str], where: str) -> None:
  """Refuses names of people that text_files.check_names refuses, and those that are nobody's; `where` names them.

  Raises:
    SchemaError: there is such a name.
  """
  people = list(dict.fromkeys(names))
  for name in people:
    if name in NOBODY - {""}:
      raise SchemaError(f"{where}: participant {name!r} says that somebody's name is missing")
  check_names(people, "participant", where)


def check_one_kind(entries: Sequence[Any], name: str) -> None:
  """Refuses a mixture of text, numbers and other types, of which 1 and "1" may be the same or not; `name` is theirs.

  Raises:
    SchemaError: an entry is of another kind than the first one.
  """
  kind = lambda entry: "number" if is_number(entry) else "text" if isinstance(entry, str | bytes) else type(entry)
  for row, entry in enumerate(entries):
    if kind(entry) != kind(entries[0]):
      both = f"row 0 is {shown(entries[0])} and row {row} is {shown(entry)}"
      raise SchemaError(f"{name}: {both}, expected all text or all numbers")


def is_date(text: str) -> bool:
  """True if the text is a day of the calendar, written YYYY-MM-DD."""
  try:
    return datetime.date.fromisoformat(text).isoformat() == text
  except ValueError:
    return False


def check_label(value: Label, where: str) -> None:
  """Refuses numbers that cannot be stored or learned from; `where` names them in messages.

  Raises:
    SchemaError: a number is infinite or beyond LARGEST_LABEL, or an integer is beyond LARGEST_WHOLE.
  """
  if isinstance(value, float) and math.isinf(value):
    raise SchemaError(f"{where}: value is {value}, expected a finite number")
  if isinstance(value, int) and abs(value) > LARGEST_WHOLE:
    raise SchemaError(
      f"{where}: value is an integer of {value.bit_length()} bits, expected at most 2^53 in size; write an identifier "
      "as text"
    )
  if isinstance(value, float) and abs(value) > LARGEST_LABEL:
    raise SchemaError(f"{where}: value is {value:g}, expected at most {LARGEST_LABEL:g} in size")


@dataclasses.dataclass(frozen=True)
class Day:
  """One day of one person.

  Attributes:
    values: float32 [steps, channels] in physical units, NaN where missing.
    participant: id of the person.
    day: consecutive number of the day within the person's record.
    date: ISO date, or "" where the source gives none.
    cause: uint8 [steps, channels], see MISSINGNESS_MODES; None where the source knows no causes.
  """

  values: Float32[np.ndarray, "steps channels"]
  participant: str
  day: int
  date: str = ""
  cause: UInt8[np.ndarray, "steps channels"] | None = None


@dataclasses.dataclass(frozen=True)
class Event:
  """A labelled stretch of a day, such as a bout of exercise.

  Attributes:
    participant: id of the person.
    day: number of the day, as in `Day`.
    date: ISO date, or "".
    start, end: first step, and the step after the last one.
    name: what the stretch is labelled with.
    value: 1 where `name` is present; 0 where it is known to be absent.
  """

  participant: str
  day: int
  date: str
  start: int
  end: int
  name: str
  value: int = 1


@dataclasses.dataclass(frozen=True)
class Person:
  """Everything a source knows about one participant.

  Attributes:
    participant: id of the person.
    days: at least one, each with its own day number.
    labels: value by label name; None or an absent key means unknown.
    events: stretches of these days.
  """

  participant: str
  days: Sequence[Day]
  labels: dict[str, Label]
  events: Sequence[Event] = ()


class Source(Protocol):
  """A provider of days.

  The ids of all people are known in advance; days are read or generated one person at a time, so a source never needs
  to hold all of them in memory. It must be picklable to be written by several processes.

  A source may also have the attributes `notes` (lines to print and to put into the dataset's README.md), `card`
  (further lines of the README.md), `documents` (texts of files to store with the dataset, by file name) and
  `labels_from` (names the origin of the labels in messages).
  """

  @property
  def schema(self) -> Schema:
    """Clock and channels of every day."""
    ...

  @property
  def participants(self) -> Sequence[str]:
    """Ids of all people, in a fixed order."""
    ...

  @property
  def n_days(self) -> int:
    """Number of days of all people together."""
    ...

  def person(self, participant: str) -> Person:
    """Reads or generates one person; the same id gives the same person every time."""
    ...


class ChosenPeople:
  """A source without some of its people, whose other ids get a prefix; all else is as in the original source."""

  def __init__(self, source: Source, prefix: str = "", without: Collection[str] = ()):
    """Sees `source`.

    Raises:
      SchemaError: an id in `without` is not that of a participant, or nobody is left.
    """
    unknown = sorted(set(without) - set(source.participants))
    if unknown:
      raise SchemaError(f"participant {unknown[0]!r} is to be left out (--without_participants) but is not in the data")
    self._source, self._prefix = source, prefix
    kept = [participant for participant in source.participants if participant not in set(without)]
    if not kept:
      raise SchemaError(
        f"--without_participants leaves out all {len(source.participants)} people, expected some to stay"
      )
    self.schema = source.schema
    self.participants = tuple(f"{prefix}{participant}" for participant in kept)
    self.n_days = source.n_days - sum(len(source.person(participant).days) for participant in without)
    self.notes = [*getattr(source, "notes", ())]
    self.card = getattr(source, "card", ())
    self.documents = getattr(source, "documents", {})
    self.labels_from = getattr(source, "labels_from", "")

  def person(self, participant: str) -> Person:
    """As Source.person; the ids of days and events have the prefix too."""
    person = self._source.person(participant.removeprefix(self._prefix))
    named = lambda record: dataclasses.replace(record, participant=participant)
    return Person(participant, [*map(named, person.days)], person.labels, [*map(named, person.events)])
