"""Reads the JSON files in which Samsung Health stores the measurements of an hour, a night, a workout or a day."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float64

from data_pipelines.errors import SchemaError
from data_pipelines.ingest.importers.samsung_fields import YEAR_1971, YEAR_2100
from data_pipelines.ingest.reading.account import Account
from data_pipelines.ingest.reading.export_files import Export

DAY_BINS = 144
_MOST_BYTES = 16 * 2**20  # an hour of minutes takes 10 kB


def bins(
  export: Export, file: str, keys: Sequence[str], account: Account, sparse: bool = False
) -> Float64[np.ndarray, "2+s k"]:
  """Returns start, end (ms since 1970 UTC) and the value of each key for the k valid entries of a file.

  A missing value is NaN. Entries without a time or without any number are counted as dropped; if `sparse`, those
  without any of the keys hold something else and do not count.

  Raises:
    SchemaError: the file is not a list, is broken JSON, or is far too large.
  """
  entries = _entries(export, file, account)
  if sparse:
    entries = [entry for entry in entries if not isinstance(entry, dict) or any(key in entry for key in keys)]
  account.add(export.participant, len(entries))
  fields = ("start_time", "end_time", *keys)
  numbers = np.array([[_number(entry, key) for key in fields] for entry in entries], float).reshape(-1, len(fields)).T
  numbers[1] = np.where(np.isnan(numbers[1]), numbers[0], numbers[1])
  start, end = numbers[:2]
  good = (start >= YEAR_1971) & (end >= start) & (end < YEAR_2100) & np.isfinite(numbers[2:]).any(axis=0)
  if not good.all():
    first = export.where(file, int((~good).argmax()) + 1)
    account.drop(export.participant, "binned entry without time or number", int((~good).sum()), first)
  return numbers[:, good]


def day_bins(export: Export, file: str, keys: Sequence[str], account: Account) -> Float64[np.ndarray, "s 144"]:
  """Returns the value of each key, NaN where there is none, in the ten-minute bins of a day.

  Raises:
    SchemaError: the file is not a list of DAY_BINS bins, is broken JSON, or is far too large.
  """
  entries = _entries(export, file, account)
  if len(entries) != DAY_BINS:
    raise SchemaError(f"{export.where(file)}: {len(entries)} bins, expected {DAY_BINS} of ten minutes")
  numbers = np.array([[_number(entry, key) for key in keys] for entry in entries])
  unreadable = [
    not isinstance(entry, dict) or any(key in entry and np.isnan(value) for key, value in zip(keys, row, strict=True))
    for entry, row in zip(entries, numbers, strict=True)
  ]
  if any(unreadable):
    account.add(export.participant, sum(unreadable))
    first = export.where(file, unreadable.index(True) + 1)
    account.drop(export.participant, "binned entry without time or number", sum(unreadable), first)
  return numbers.T


def _entries(export: Export, file: str, account: Account) -> list[Any]:
  where = export.where(file)
  if export.size(file) > _MOST_BYTES:
    raise SchemaError(f"{where}: {export.size(file):,} bytes, expected an hour, a night or a day of binned data")
  damaged: Callable[[str, str], None] = lambda place, why: account.damaged(export.participant, why, where, place)
  return [entry for items in export.json_items(file, damaged) for entry in items]


def _number(entry: Any, key: str) -> float:
  value = entry.get(key) if isinstance(entry, dict) else None
  return (
    float(value) if isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e15 else np.nan
  )
