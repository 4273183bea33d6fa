"""Reads the JSON files in which Samsung Health stores the measurements of an hour or a night."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float64

from data_pipelines.errors import SchemaError
from data_pipelines.ingest.importers.samsung_fields import YEAR_1971, YEAR_2100
from data_pipelines.ingest.reading.account import Account
from data_pipelines.ingest.reading.export_files import Export

_MOST_BYTES = 16 * 2**20  # an hour of minutes takes 10 kB


def bins(export: Export, file: str, keys: Sequence[str], account: Account) -> Float64[np.ndarray, "2+s k"]:
  """Returns start, end (ms since 1970 UTC) and the value of each key for the k valid entries of a file.

  A missing value is NaN. Entries without a time or without any number are counted as dropped.

  Raises:
    SchemaError: the file is not a list, is broken JSON, or is far too large.
  """
  where = export.where(file)
  if export.size(file) > _MOST_BYTES:
    raise SchemaError(f"{where}: {export.size(file):,} bytes, expected an hour or a night of binned data")
  damaged: Callable[[str, str], None] = lambda place, why: account.damaged(export.participant, why, where, place)
  entries = [entry for items in export.json_items(file, damaged) for entry in items]
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


def _number(entry: Any, key: str) -> float:
  value = entry.get(key) if isinstance(entry, dict) else None
  return (
    float(value) if isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e15 else np.nan
  )
