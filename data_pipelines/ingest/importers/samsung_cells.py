"""Cells of Samsung Health's CSVs: times in their two forms, offsets, and texts of which there are few."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
from jaxtyping import Bool, Int64

from data_pipelines.ingest.reading.clocks import MINUTE
from data_pipelines.ingest.reading.csv_batches import parse_numbers, parse_times

YEAR_1971, YEAR_2100 = 31_536_000_000, 4_102_444_800_000  # earlier and later numbers are no milliseconds
_MOST_OFFSET = 18 * 60


def instants(column: pa.StringArray) -> tuple[Int64[np.ndarray, "n"], Bool[np.ndarray, "n"]]:
  """Milliseconds of UTC, and where there is none; text, or milliseconds since 1970."""
  found, bad = parse_times(column)
  if bad.any():
    plain, no_number = parse_numbers(column)
    counted = bad & ~no_number & (np.nan_to_num(plain) >= YEAR_1971) & (np.nan_to_num(plain) < YEAR_2100)
    found = np.where(counted, np.nan_to_num(plain), found).astype(np.int64)
    bad = bad & ~counted
  return found, bad


def offset_minutes(text: str) -> int | None:
  """Minutes of "UTC+0100", or of a number of milliseconds; None where there is none."""
  if told := re.fullmatch(r"UTC([+-])([01]?\d):?([0-5]\d)?", text):
    return int(told[1] + "1") * (60 * int(told[2]) + int(told[3] or 0))
  if text in ("UTC", "GMT", "Z"):
    return 0
  if re.fullmatch(r"-?\d{1,8}", text) and int(text) % MINUTE == 0 and abs(int(text)) <= _MOST_OFFSET * MINUTE:
    return int(text) // MINUTE
  return None


def each(column: pa.StringArray, told: Callable[[str], Any], kind: type = int) -> tuple[np.ndarray, np.ndarray]:
  """What each text tells, and whether it does; few texts are many rows."""
  texts = column.dictionary_encode()
  found = [told(text) for text in texts.dictionary.to_pylist()]
  nothing = np.nan if kind is float else 0
  index = texts.indices.to_numpy()
  values: np.ndarray = np.array([nothing if one is None else one for one in found], kind)
  return values[index], np.array([one is not None for one in found], bool)[index]


def mask(column: pa.BooleanArray) -> Bool[np.ndarray, "n"]:
  return column.to_numpy(zero_copy_only=False)
