"""Reads Samsung Health's step_daily_trend: the steps of a day in 144 bins of ten minutes, also of years ago.

A row of the CSV is a day: day_time is its date, as midnight UTC; source_type is -2 for all devices together, which are
preferred, and another number for a single one; binning_data names a JSON file with a list of 144 objects, {} or
{"count": 300, "distance": 210.0, "calorie": 12.0, ...} (m, kcal), from midnight on by the wall clock. step_count has
those of the last months by the minute, and a bin counts only where it has none.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from jaxtyping import Float64

from data_pipelines.errors import SchemaError
from data_pipelines.ingest.importers.samsung_bins import day_bins
from data_pipelines.ingest.importers.samsung_fields import instants
from data_pipelines.ingest.reading.account import Account
from data_pipelines.ingest.reading.clocks import DAY, MINUTE
from data_pipelines.ingest.reading.csv_batches import counting, read_batches
from data_pipelines.ingest.reading.export_files import Export
from data_pipelines.ingest.reading.readings import COARSE, Readings

TREND = "com.samsung.shealth.step_daily_trend"
_ALL_DEVICES = "-2"
_BIN = 10 * MINUTE
_SIGNALS = {"steps": ("count", "steps"), "distance": ("distance", "m"), "active_calories": ("calorie", "kcal")}


def trend_readings(export: Export, name: str, account: Account) -> Iterator[Readings]:
  """Yields the counts of a step_daily_trend file, each over its ten minutes.

  Args:
    export, name: the file.
    account: each count of a bin is a row; so is a day whose bins are not in the export.
  """
  columns = ["day_time", "source_type", "binning_data"]
  person, jsons = export.participant, {file.rsplit("/", 1)[-1]: file for file in export.names if file.endswith(".json")}
  summed = _days_of_all_devices(export, name, columns)
  for rows in read_batches(export, name, columns, skip_rows=1, ragged=counting(account, person, export, name)):
    day, no_day = instants(rows["day_time"])
    no_day |= day % DAY != 0
    files = [jsons.get(file.rsplit("/", 1)[-1], "") for file in rows["binning_data"].to_pylist()]
    for i, (source, file) in enumerate(zip(rows["source_type"].to_pylist(), files, strict=True)):
      if source != _ALL_DEVICES and day[i] in summed and not no_day[i]:
        account.pass_over(person, "step_daily_trend of single devices, which is in that of all")
        continue
      if no_day[i] or not file:
        account.add(person)
        account.drop(
          person, "day of steps without date" if no_day[i] else "day of steps without bins", 1, rows.where(i)
        )
        continue
      try:
        counts = day_bins(export, file, [key for key, _ in _SIGNALS.values()], account)
      except SchemaError as error:
        account.unreadable(person, export.where(file), error)
        continue
      yield from _readings(person, int(day[i]), counts, account)


def _readings(person: str, day: int, counts: Float64[np.ndarray, "s 144"], account: Account) -> Iterator[Readings]:
  start = day + _BIN * np.arange(counts.shape[1])
  for (signal, (_, unit)), values in zip(_SIGNALS.items(), counts, strict=True):
    which = np.flatnonzero(values > 0)
    if len(which):
      account.add(person, len(which))
      yield Readings(person, signal, unit, start[which], start[which] + _BIN, values[which], COARSE, clock="wall")


def _days_of_all_devices(export: Export, name: str, columns: Sequence[str]) -> set[int]:
  days: set[int] = set()
  for rows in read_batches(export, name, columns, skip_rows=1, ragged=lambda row, why: None):
    day, bad = instants(rows["day_time"])
    summed = np.array([source == _ALL_DEVICES for source in rows["source_type"].to_pylist()], bool)
    days.update(day[summed & ~bad].tolist())
  return days
