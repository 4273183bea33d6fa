"""What an importer finds in a device's export, before it becomes day windows: readings, stretches and their account.

An export is read file by file. Every file yields blocks of readings of one person, signal and device, in any order;
`data_pipelines.grid` puts them on the steps of the day, by the rule of their signal.
"""

from __future__ import annotations

import collections
import dataclasses
import math
from collections.abc import Iterator, Sequence
from typing import Literal, Protocol

import numpy as np
from jaxtyping import Float64, Int64

from data_pipelines.ingest.reading.export_files import Export
from data_pipelines.schema import Channel


@dataclasses.dataclass(frozen=True)
class Signal(Channel):
  """A channel, and how a device's readings of it become one value a step.

  Attributes:
    rule: of several readings in a step: "mean"; "sum" (a count: a reading that spans several steps is shared out in
      proportion to time); "last" (the latest).
    holds: a state, such as asleep, that is true from a reading's start to its end. Any other reading with rule "mean"
      or "last" speaks for the step it starts in alone: a value reported every five minutes is not repeated.
    low, high: plausible values, in `unit`; what lies outside is dropped, and counted.
    zero_is_missing: 0 means that nothing was measured (a heart rate), not that there was nothing.
    quiet: the device writes no reading where there is nothing to count (steps of a phone): steps without one are 0
      while it is worn, and missing else. False: a step without a reading is missing.
  """

  rule: Literal["mean", "sum", "last"] = "mean"
  holds: bool = False
  low: float = -math.inf
  high: float = math.inf
  zero_is_missing: bool = False
  quiet: bool = False


@dataclasses.dataclass(frozen=True)
class Readings:
  """A block of readings of one signal of one person by one device.

  Attributes:
    participant: the person, as the export names them (see Export.participant).
    signal: name of a Signal of the importer.
    unit: of the values, as the file has it; converted to the signal's, or refused (data_pipelines.units).
    start: [n], milliseconds since 1970-01-01 00:00, of UTC or, with clock "wall", of the person's wall clock.
    end: [n], as start and not before it; equal to it for a sample, excluded else.
    value: [n], finite.
    device: what measured it, such as "Watch"; where two devices speak of one step, the first in priority counts.
    offset: minutes that the wall clock was ahead of UTC at start, [n], where the file tells; None: by --timezone.
    clock: what start and end count.
  """

  participant: str
  signal: str
  unit: str
  start: Int64[np.ndarray, "n"]
  end: Int64[np.ndarray, "n"]
  value: Float64[np.ndarray, "n"]
  device: str = ""
  offset: Int64[np.ndarray, "n"] | None = None
  clock: Literal["utc", "wall"] = "utc"


@dataclasses.dataclass(frozen=True)
class Stretch:
  """A labelled stretch of time, such as a workout; becomes an event of the dataset. Times as in Readings."""

  participant: str
  name: str
  start: int
  end: int
  offset: int | None = None
  clock: Literal["utc", "wall"] = "utc"


class Account:
  """What became of every row of an export, per person; the same rows are read once and dropped at most once."""

  def __init__(self) -> None:
    self.read: collections.Counter[str] = collections.Counter()
    self.dropped: collections.Counter[tuple[str, str]] = collections.Counter()
    self.example: dict[tuple[str, str], str] = {}

  def add(self, participant: str, rows: int = 1) -> None:
    """Rows of a file that hold something this importer reads, good or bad."""
    self.read[participant] += rows

  def drop(self, participant: str, why: str, rows: int = 1, where: str = "") -> None:
    """Rows that were added and are not used: `why` in a few words, without values; `where` as "file row 7"."""
    if rows:
      self.dropped[participant, why] += rows
      self.example.setdefault((participant, why), where)


class Importer(Protocol):
  """One kind of export. data_pipelines.importers.IMPORTERS lists them by name.

  Attributes:
    signals: all that it can find, in the order of the dataset's channels; those that an export has become its schema.
    devices: where devices overlap, the more trusted first; one not named here comes after these, by name.
    beside: patterns of files that are none of `files`, but opened while these are read.
  """

  signals: Sequence[Signal]
  devices: Sequence[str]
  beside: Sequence[str]

  def files(self, export: Export) -> list[str]:
    """Names of the export's files that it reads, in order; none if the export is of another kind."""
    ...

  def read(self, export: Export, name: str, account: Account) -> Iterator[Readings | Stretch]:
    """All readings of one of these files, in blocks of at most a million; memory bounded.

    A row that cannot be used is dropped and counted. A file that is not what its name says (a missing column, broken
    JSON or XML, wrong encoding) is a SchemaError of one line that names the file, and the row or key if there is one.
    """
    ...
