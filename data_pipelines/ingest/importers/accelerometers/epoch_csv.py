"""ActiGraph's tables of epochs, the CSV that ActiLife writes.

Ten lines come first ("------------ Data Table File Created By ActiGraph ... date format M/d/yyyy ...", "Serial Number:
...", "Start Time 08:00:00", "Start Date 6/4/2024", "Epoch Period (hh:mm:ss) 00:01:00", ..., "-----"), then the header
and one row per epoch:
  Date, Time    start of the epoch on the local clock, without a zone, in the date format of the first line. ActiLife
                can leave both out; rows then follow one another from Start Date and Start Time on
  Axis1, Axis2, Axis3    counts along y (vertical at the hip), x and z
  Steps, Lux    steps; light in lux
Other columns are not read: inclinometer, and the vector magnitude, which is computed here from the sums of a minute.
Fields are separated by commas or semicolons. There is no public specification; the shape is that of tables which
https://github.com/actigraph/ActiLifeAPIDocumentation and readers of such files (PhysicalActivity, GGIR) describe.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Bool, Float64, Int64

from data_pipelines.errors import SchemaError
from data_pipelines.ingest.reading import csv_batches
from data_pipelines.ingest.reading.account import Account
from data_pipelines.ingest.reading.clocks import MINUTE
from data_pipelines.ingest.reading.date_order import orders_of_format
from data_pipelines.ingest.reading.export_files import Export
from data_pipelines.ingest.reading.readings import Readings

_START = re.compile(r"\W*-+ ?Data (Table )?File Created By ActiGraph", re.IGNORECASE)
_HEAD = 8192  # bytes, in which the lines before the header must end
_LONGEST_EPOCH = 3600  # seconds
_MOST_READINGS = 1_000_000  # per block
_AXES = {"axis1": "activity_counts", "axis2": "activity_counts_axis2", "axis3": "activity_counts_axis3"}
_OTHERS = {"steps": ("steps", "steps"), "lux": ("light", "lux")}
_DATES = {"m": "%m", "d": "%d", "yyyy": "%Y", "yy": "%y"}
_DEVICE = "2 epochs"


@dataclasses.dataclass(frozen=True)
class _Head:
  """The head of a table: column names, their delimiter, the line of the header, epoch in s, date format, ..."""

  names: list[str]
  delimiter: str
  skip_rows: int
  epoch: int
  date: str
  start: str
  serial: str


def is_epoch_table(beginning: bytes) -> bool:
  """True if a file that begins like this is one of ActiLife's tables."""
  return bool(_START.match(beginning.decode("utf-8-sig", "replace")))


def read_epochs(export: Export, name: str, participant: str, account: Account) -> Iterator[Readings]:
  """Yields counts by axis, their vector magnitude by minute, steps and light of a table.

  Raises:
    SchemaError: the lines before the header are not those of ActiLife, or the table has no Axis1.
  """
  head = _read_head(export, name)
  by_name = {column.lower(): column for column in head.names}
  if "axis1" not in by_name:
    raise SchemaError(
      f"{export.where(name)}: has the columns {', '.join(head.names)[:200]}, expected a table of epochs with Axis1; "
      "export one from ActiLife, or give the .gt3x"
    )
  timed = {"date", "time"} <= set(by_name)
  found = {key: by_name[key] for key in (*_AXES, *_OTHERS) if key in by_name}
  columns = [*found.values(), *([by_name["date"], by_name["time"]] if timed else [])]
  device = f"{_DEVICE} {head.serial}".rstrip()
  magnitude = _Magnitude(participant, head.epoch, device)
  if timed:
    _check_dates(export, name, head, by_name["date"])

  bad_rows = csv_batches.counting(account, participant, export, name)
  batches = csv_batches.read_batches(
    export, name, columns, delimiter=head.delimiter, skip_rows=head.skip_rows, ragged=bad_rows
  )
  for rows in batches:
    if timed:
      start, bad = _times(rows[by_name["date"]], rows[by_name["time"]], head.date)
    else:
      epoch = rows.numbers() - (head.skip_rows + 2)  # damaged rows are epochs too
      start = _first_time(head, export.where(name)) + epoch * head.epoch * 1000
      bad = np.zeros(len(rows), bool)
    _drop(rows, account, participant, "unreadable time", bad, len(found))
    good = ~bad
    values = {}
    for key, column in found.items():
      values[key], no_value = csv_batches.parse_numbers(rows[column])
      _drop(rows, account, participant, f"unreadable {column}", no_value & good, len(found))
      good &= ~no_value
    start, values = start[good], {key: column[good] for key, column in values.items()}
    if not len(start):
      continue
    end = start + head.epoch * 1000
    units = {**{key: (signal, "counts") for key, signal in _AXES.items()}, **_OTHERS}
    for key, value in values.items():
      signal, unit = units[key]
      yield Readings(participant, signal, unit, start, end, value, device, clock="wall")
    if set(_AXES) <= set(values):
      magnitude.add(start, np.stack([values[axis] for axis in _AXES], axis=1))
  yield from magnitude.readings()


def _check_dates(export: Export, name: str, head: _Head, date: str) -> None:
  """Refuses a table with a date that its date format cannot be that of."""
  looked_for = orders_of_format(head.date)
  if looked_for is None:
    return
  order, day_first = looked_for
  whole = export.part(export.names, export.participant)  # whose bytes no progress bar counts
  for rows in csv_batches.read_batches(
    whole, name, [date], delimiter=head.delimiter, skip_rows=head.skip_rows, ragged=lambda row, why: None
  ):
    order.add(rows, [date])
  order.check(day_first, "as the date format in the first line says")


def _drop(
  rows: csv_batches.CsvBatch, account: Account, participant: str, why: str, bad: Bool[np.ndarray, "n"], values: int
) -> None:
  """Counts all values of the rows marked in `bad` as dropped."""
  if bad.any():
    account.add(participant, values * int(bad.sum()))
    account.drop(participant, why, values * int(bad.sum()), rows.where(int(bad.argmax())))


class _Magnitude:
  """Vector magnitude of the axes' sums in each minute, or in each epoch that is as long or longer.

  An epoch that the table has several times counts once, with the largest count of each axis, as the grid has it for the
  axes themselves. Its rows may be far apart, so all epochs are held: 32 bytes each, 80 MB for a month by the second.
  """

  def __init__(self, participant: str, epoch: int, device: str):
    self._device = device
    self._participant, self._span, self._long = participant, max(MINUTE, epoch * 1000), epoch * 1000 >= MINUTE
    self._epochs: list[tuple[Int64[np.ndarray, "n"], Float64[np.ndarray, "n 3"]]] = []

  def add(self, start: Int64[np.ndarray, "n"], counts: Float64[np.ndarray, "n 3"]) -> None:
    """Adds epochs."""
    self._epochs.append((start, counts))

  def readings(self) -> Iterator[Readings]:
    """Yields the magnitudes, once all epochs are known."""
    if not self._epochs:
      return
    start, counts = (np.concatenate(parts) for parts in zip(*self._epochs, strict=True))
    order = np.argsort(start, kind="stable")
    first = np.flatnonzero(np.diff(start[order], prepend=start.min() - 1))
    start, counts = start[order][first], np.maximum.reduceat(counts[order], first)
    begin = start if self._long else start // self._span * self._span
    first = np.flatnonzero(np.diff(begin, prepend=begin[0] - 1))
    begin, size = begin[first], np.sqrt((np.add.reduceat(counts, first) ** 2).sum(axis=1))
    signal = "activity_counts_vm"
    for at in range(0, len(begin), _MOST_READINGS):
      some, values = begin[at : at + _MOST_READINGS], size[at : at + _MOST_READINGS]
      yield Readings(self._participant, signal, "counts", some, some + self._span, values, self._device, clock="wall")


def _read_head(export: Export, name: str) -> _Head:
  where = export.where(name)
  with export.open(name) as file:
    text = file.read(_HEAD).decode("utf-8-sig", "replace")
  lines = [line.strip().rstrip(",;").strip('"') for line in text.splitlines()]
  rules = [n for n, line in enumerate(lines) if n and re.fullmatch(r"-{5,}", line)]
  header = rules[0] + 1 if rules else len(lines)
  if header >= len(lines):
    raise SchemaError(
      f"{where}: no line of dashes with a header after it, expected ActiLife's ten lines before the table"
    )
  head = "\n".join(lines[:header])
  epoch = re.search(r"(?:Epoch|Window) (?:Period|Length) \(hh:mm:ss\) (\d+):(\d+):(\d+)", head, re.IGNORECASE)
  form = re.search(r"date format (\S+)", head, re.IGNORECASE)
  start = re.search(r"Start Date (\S+)", head), re.search(r"Start Time (\S+(?: [AP]M)?)", head)
  if not (epoch and form and all(start)):
    raise SchemaError(f"{where}: says no epoch, date format, start date or start time before the table")
  seconds = 3600 * int(epoch[1]) + 60 * int(epoch[2]) + int(epoch[3])
  date = re.sub(r"[A-Za-z]+", lambda match: _DATES.get(_shorter(match[0]), "?"), form[1])
  if not 1 <= seconds <= _LONGEST_EPOCH or "?" in date:
    raise SchemaError(
      f"{where}: has epochs of {seconds} s and the date format {form[1]!r}, expected 1 to 3,600 s and one like M/d/yyyy"
    )
  raw = text.splitlines()[header]
  delimiter = max(",;\t", key=raw.count)
  names = csv_batches.read_header(export, name, delimiter, header)
  serial = re.search(r"Serial Number: ?(\w{1,40})", head)
  start_text = f"{start[0][1]} {start[1][1]}"  # type: ignore[index]
  return _Head(names, delimiter, header, seconds, date, start_text, serial[1] if serial else "")


def _shorter(part: str) -> str:
  """A part of a date format as a key of _DATES: "dd" is "d", since strptime reads both."""
  return part.lower() if part.lower().startswith("y") else part.lower()[:1]


def _first_time(head: _Head, where: str) -> int:
  date, _, time = head.start.partition(" ")
  start, bad = _times(pa.array([date]), pa.array([time]), head.date)
  if bad[0]:
    raise SchemaError(f"{where}: starts at {head.start!r}, expected a time in its date format")
  return int(start[0])


def _times(date: pa.StringArray, time: pa.StringArray, form: str) -> tuple[np.ndarray, np.ndarray]:
  """Milliseconds since 1970 on the local clock, and where there is no time."""
  text = pc.binary_join_element_wise(pc.utf8_trim_whitespace(date), pc.utf8_trim_whitespace(time), " ")
  return csv_batches.parse_times(text, f"{form} %H:%M:%S", f"{form} %I:%M:%S %p")
