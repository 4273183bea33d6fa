"""Reads the CSV files of a Fitbit export: samples, minutes, sleep stages, workouts; fitbit.py has the format."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Bool, Float64, Int64

from data_pipelines.ingest.importers.categories import ASLEEP, category_values
from data_pipelines.ingest.reading import csv_batches
from data_pipelines.ingest.reading.account import Account
from data_pipelines.ingest.reading.clocks import DAY, MINUTE
from data_pipelines.ingest.reading.export_files import Export
from data_pipelines.ingest.reading.readings import Readings, Stretch

# Data sources of the phone, and copies from Health Connect: they count the same steps as a tracker.
_PHONES = ("mobiletrack", "google health app", "fitbit app", "phone")
_COPIES = ("health connect",)


@dataclasses.dataclass(frozen=True)
class CsvFiles:
  """A kind of CSV file with samples or minutes.

  Attributes:
    signal, unit: what the values measure.
    time, value: the columns; the file's column names may continue after these ("... milliseconds").
    duration: milliseconds that a value covers; 0 for a sample.
    device: what measured the values, if the file has no "data source".
    naive: the clock of a time without "Z" or offset; None if such a time cannot be used.
    value_of: the number each text stands for, if the values are categories.
    placeholder: a number that stands for "not measured".
    without: a column, if the file has it, and its text in rows that hold another signal.
  """

  signal: str
  unit: str
  value: str
  time: str = "timestamp"
  duration: int = 0
  device: str = ""
  naive: Literal["wall"] | None = None
  value_of: Mapping[str, float] | None = None
  placeholder: float | None = None
  without: tuple[str, str] = ("", "")

  def read(
    self, export: Export, name: str, account: Account, days_elsewhere: Int64[np.ndarray, "d"] | None = None
  ) -> Iterator[Readings]:
    """Yields a file's readings except on days (since 1970, UTC) that a better file covers, `days_elsewhere`."""
    column = _column(self.value, csv_batches.read_header(export, name))
    for rows in csv_batches.read_batches(
      export,
      name,
      [self.time, column],
      optional=["data source", *([self.without[0]] if self.without[0] else [])],
      ragged=csv_batches.counting(account, export.participant, export, name),
    ):
      account.add(export.participant, len(rows))
      clock, ahead, zoned, no_time = csv_batches.parse_zoned_times(rows[self.time])
      value, no_value = (
        category_values(rows[column], self.value_of) if self.value_of else csv_batches.parse_numbers(rows[column])
      )
      unmeasured = value == self.placeholder if self.placeholder is not None else np.zeros(len(rows), bool)
      unplaced = ~zoned if self.naive is None else np.zeros(len(rows), bool)
      elsewhere = np.isin(clock // DAY, days_elsewhere) if days_elsewhere is not None else np.zeros(len(rows), bool)
      usable = np.ones(len(rows), bool)
      other_kind = self._of_another_kind(rows)
      for why, bad in (
        ("unreadable time", no_time),
        ("time without offset", unplaced),
        ("the same day in Global Export Data", elsewhere),
        (" ".join(self.without), other_kind),
        (f"unreadable {self.signal}", no_value),
        (f"{self.signal} not measured", unmeasured),
      ):
        rows.drop(account, export.participant, why, bad & usable)
        usable &= ~bad
      yield from self._by_device(export.participant, rows, clock, ahead, zoned, value, usable)

  def _of_another_kind(self, rows: csv_batches.CsvBatch) -> Bool[np.ndarray, "n"]:
    column, kind = self.without
    if not column:
      return np.zeros(len(rows), bool)
    kinds = pc.utf8_upper(pc.utf8_trim_whitespace(pc.fill_null(rows[column], "")))
    return pc.equal(kinds, kind).to_numpy(zero_copy_only=False)

  def _by_device(
    self,
    participant: str,
    rows: csv_batches.CsvBatch,
    clock: Int64[np.ndarray, "n"],
    ahead: Int64[np.ndarray, "n"],
    zoned: Bool[np.ndarray, "n"],
    value: Float64[np.ndarray, "n"],
    usable: Bool[np.ndarray, "n"],
  ) -> Iterator[Readings]:
    """Yields readings separately by device and by kind of clock."""
    sources = pc.fill_null(rows["data source"], "").dictionary_encode()
    index = sources.indices.to_numpy()
    for place, source in enumerate(sources.dictionary.to_pylist()):
      for utc in (True, False):
        chosen = usable & (index == place) & (zoned == utc)
        if chosen.any():
          start = clock[chosen] - MINUTE * ahead[chosen]
          device = device_name(source) or self.device
          yield Readings(
            participant,
            self.signal,
            self.unit,
            start,
            start + self.duration,
            value[chosen],
            device,
            clock="utc" if utc else "wall",
          )


def device_name(source: str) -> str:
  """Puts a rank before a "data source", because devices are preferred in the order of their names."""
  lower = source.strip().lower()
  if not lower:
    return ""
  rank = 3 if any(copy in lower for copy in _COPIES) else 2 if any(phone in lower for phone in _PHONES) else 1
  return f"{rank} {source.strip()}"


def stages(export: Export, name: str, account: Account, device: str) -> Iterator[Readings]:
  """Yields the signal "asleep" from a UserSleepStages_*.csv."""
  columns = ["sleep_stage_type", "start_utc_offset", "sleep_stage_start", "sleep_stage_end"]
  bad_rows = csv_batches.counting(account, export.participant, export, name)
  for rows in csv_batches.read_batches(export, name, columns, ragged=bad_rows):
    account.add(export.participant, len(rows))
    start, end, offset, bad = _span(rows, "sleep_stage_start", "sleep_stage_end", "start_utc_offset")
    value, no_value = category_values(rows["sleep_stage_type"], ASLEEP)
    rows.drop(account, export.participant, "unreadable time", bad)
    rows.drop(account, export.participant, "unreadable sleep stage", no_value & ~bad)
    keep = ~(bad | no_value)
    if keep.any():
      yield Readings(export.participant, "asleep", "", start[keep], end[keep], value[keep], device, offset=offset[keep])


def workouts(export: Export, name: str, account: Account) -> Iterator[Stretch]:
  """Yields the workouts of a UserExercises_*.csv."""
  columns = ["exercise_start", "exercise_end", "utc_offset", "activity_name"]
  # What people write about a workout may hold a line break.
  bad_rows = csv_batches.counting(account, export.participant, export, name)
  for rows in csv_batches.read_batches(export, name, columns, ragged=bad_rows):
    account.add(export.participant, len(rows))
    start, end, offset, bad = _span(rows, "exercise_start", "exercise_end", "utc_offset")
    names = pc.utf8_lower(pc.utf8_trim_whitespace(rows["activity_name"])).to_pylist()
    bad |= np.array([not label for label in names], bool)
    rows.drop(account, export.participant, "unreadable workout", bad)
    for i in np.flatnonzero(~bad):
      yield Stretch(export.participant, names[i], int(start[i]), int(end[i]), int(offset[i]))


def _column(start: str, header: list[str]) -> str:
  """Returns the column of that name, or else the first that begins with it."""
  candidates = [column for column in header if column.startswith(start)]
  return start if start in header or not candidates else candidates[0]


def _span(
  rows: csv_batches.CsvBatch, start: str, end: str, offset: str
) -> tuple[Int64[np.ndarray, "n"], Int64[np.ndarray, "n"], Int64[np.ndarray, "n"], Bool[np.ndarray, "n"]]:
  """Start and end (ms, UTC), minutes ahead of UTC, and where one is missing or the end is not after the start."""
  begin, no_start = _instant(rows[start])
  finish, no_end = _instant(rows[end])
  prefix = pa.array(["2000-01-01T00:00:00"] * len(rows))
  _, ahead, zoned, no_offset = csv_batches.parse_zoned_times(
    pc.binary_join_element_wise(prefix, pc.utf8_trim_whitespace(rows[offset]), "")
  )
  return begin, finish, ahead, no_start | no_end | no_offset | ~zoned | (finish <= begin)


def _instant(column: pa.StringArray) -> tuple[Int64[np.ndarray, "n"], Bool[np.ndarray, "n"]]:
  """Milliseconds since 1970 UTC; the files' README says that times without an offset are UTC."""
  clock, ahead, _, bad = csv_batches.parse_zoned_times(column)
  return clock - MINUTE * ahead, bad
