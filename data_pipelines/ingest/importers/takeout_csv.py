"""The CSV files of a Fitbit export: samples, minutes, stages of sleep, workouts. Their format is told in `fitbit`."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Bool, Float64, Int64

from data_pipelines.ingest.importers.words import ASLEEP, meant
from data_pipelines.ingest.reading import csv_batches
from data_pipelines.ingest.reading.account import Account
from data_pipelines.ingest.reading.export_files import Export
from data_pipelines.ingest.reading.readings import Readings, Stretch

_MINUTE, _DAY = 60_000, 86_400_000
# Of the wearer's phone, and copies of it: they count the steps that a tracker counts too.
_PHONES = ("mobiletrack", "google health app", "fitbit app", "phone")
_COPIES = ("health connect",)


@dataclasses.dataclass(frozen=True)
class Table:
  """Files of samples or minutes.

  Attributes:
    signal, unit: of the values.
    time, value: columns; the file's may have more after them ("... milliseconds").
    lasts: milliseconds that a value is of; 0 for a sample.
    device: what measured it, where the file has no "data source".
    naive: what clock a time without "Z" or offset is of; None: it cannot be used.
    words: what the values stand for, where they are words.
    never: a value that stands for none.
  """

  signal: str
  unit: str
  value: str
  time: str = "timestamp"
  lasts: int = 0
  device: str = ""
  naive: Literal["wall"] | None = None
  words: Mapping[str, float] | None = None
  never: float | None = None

  def read(
    self, export: Export, name: str, account: Account, told: Int64[np.ndarray, "d"] | None = None
  ) -> Iterator[Readings]:
    """Readings of a file, but for those of days (since 1970, UTC) that are `told` by a better one."""
    column = _longest(self.value, csv_batches.read_header(export, name))
    for rows in csv_batches.read_batches(export, name, [self.time, column], optional=["data source"]):
      account.add(export.participant, len(rows))
      clock, ahead, zoned, no_time = csv_batches.parse_zoned_times(rows[self.time])
      value, no_value = meant(rows[column], self.words) if self.words else csv_batches.parse_numbers(rows[column])
      unset = value == self.never if self.never is not None else np.zeros(len(rows), bool)
      unknown = ~zoned if self.naive is None else np.zeros(len(rows), bool)
      known = np.isin(clock // _DAY, told) if told is not None else np.zeros(len(rows), bool)
      left = np.ones(len(rows), bool)
      for why, bad in (
        ("unreadable time", no_time),
        ("time without offset", unknown),
        ("the same day in Global Export Data", known),
        (f"unreadable {self.signal}", no_value),
        (f"{self.signal} not measured", unset),
      ):
        rows.drop(account, export.participant, why, bad & left)
        left &= ~bad
      yield from self._blocks(export.participant, rows, clock, ahead, zoned, value, left)

  def _blocks(
    self,
    participant: str,
    rows: csv_batches.CsvBatch,
    clock: Int64[np.ndarray, "n"],
    ahead: Int64[np.ndarray, "n"],
    zoned: Bool[np.ndarray, "n"],
    value: Float64[np.ndarray, "n"],
    left: Bool[np.ndarray, "n"],
  ) -> Iterator[Readings]:
    """Readings by device and kind of clock."""
    sources = pc.fill_null(rows["data source"], "").dictionary_encode()
    index = sources.indices.to_numpy()
    for place, source in enumerate(sources.dictionary.to_pylist()):
      for utc in (True, False):
        keep = left & (index == place) & (zoned == utc)
        if keep.any():
          start = clock[keep] - _MINUTE * ahead[keep]
          device = device_name(source) or self.device
          yield Readings(
            participant,
            self.signal,
            self.unit,
            start,
            start + self.lasts,
            value[keep],
            device,
            clock="utc" if utc else "wall",
          )


def device_name(source: str) -> str:
  """A "data source" with its rank first, as devices are preferred in the order of their names."""
  lower = source.strip().lower()
  if not lower:
    return ""
  rank = 3 if any(copy in lower for copy in _COPIES) else 2 if any(phone in lower for phone in _PHONES) else 1
  return f"{rank} {source.strip()}"


def stages(export: Export, name: str, account: Account, device: str) -> Iterator[Readings]:
  """asleep of a UserSleepStages_*.csv."""
  columns = ["sleep_stage_type", "start_utc_offset", "sleep_stage_start", "sleep_stage_end"]
  for rows in csv_batches.read_batches(export, name, columns):
    account.add(export.participant, len(rows))
    start, end, offset, bad = _span(rows, "sleep_stage_start", "sleep_stage_end", "start_utc_offset")
    value, no_value = meant(rows["sleep_stage_type"], ASLEEP)
    rows.drop(account, export.participant, "unreadable time", bad)
    rows.drop(account, export.participant, "unreadable stage of sleep", no_value & ~bad)
    keep = ~(bad | no_value)
    if keep.any():
      yield Readings(export.participant, "asleep", "", start[keep], end[keep], value[keep], device, offset=offset[keep])


def workouts(export: Export, name: str, account: Account) -> Iterator[Stretch]:
  """The workouts of a UserExercises_*.csv."""
  for rows in csv_batches.read_batches(export, name, ["exercise_start", "exercise_end", "utc_offset", "activity_name"]):
    account.add(export.participant, len(rows))
    start, end, offset, bad = _span(rows, "exercise_start", "exercise_end", "utc_offset")
    names = pc.utf8_lower(pc.utf8_trim_whitespace(rows["activity_name"])).to_pylist()
    bad |= np.array([not label for label in names], bool)
    rows.drop(account, export.participant, "unreadable workout", bad)
    for i in np.flatnonzero(~bad):
      yield Stretch(export.participant, names[i], int(start[i]), int(end[i]), int(offset[i]))


def _longest(start: str, header: list[str]) -> str:
  """The column of that name, or else the one that begins so."""
  begun = [column for column in header if column.startswith(start)]
  return start if start in header or not begun else begun[0]


def _span(
  rows: csv_batches.CsvBatch, start: str, end: str, offset: str
) -> tuple[Int64[np.ndarray, "n"], Int64[np.ndarray, "n"], Int64[np.ndarray, "n"], Bool[np.ndarray, "n"]]:
  """Start and end (ms, UTC), minutes ahead of UTC, and where one of them is not to be had or they are out of order."""
  begin, no_start = _instant(rows[start])
  finish, no_end = _instant(rows[end])
  prefix = pa.array(["2000-01-01T00:00:00"] * len(rows))
  _, ahead, zoned, no_offset = csv_batches.parse_zoned_times(
    pc.binary_join_element_wise(prefix, pc.utf8_trim_whitespace(rows[offset]), "")
  )
  return begin, finish, ahead, no_start | no_end | no_offset | ~zoned | (finish <= begin)


def _instant(column: pa.StringArray) -> tuple[Int64[np.ndarray, "n"], Bool[np.ndarray, "n"]]:
  """Milliseconds of UTC; without an offset times of these files are UTC, as their README says."""
  clock, ahead, _, bad = csv_batches.parse_zoned_times(column)
  return clock - _MINUTE * ahead, bad
