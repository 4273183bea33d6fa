"""Fields of Samsung Health's CSVs: times in two forms, offsets, and texts that repeat."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
from jaxtyping import Bool, Int64

from data_pipelines.ingest.reading.clocks import MINUTE
from data_pipelines.ingest.reading.csv_batches import parse_numbers, parse_times

YEAR_1971, YEAR_2100 = 31_536_000_000, 4_102_444_800_000  # numbers outside are not milliseconds since 1970
_MOST_OFFSET = 18 * 60


def instants(column: pa.StringArray) -> tuple[Int64[np.ndarray, "n"], Bool[np.ndarray, "n"]]:
  """Milliseconds since 1970 UTC, read from text or numbers, and where there is no time."""
  instant, bad = parse_times(column)
  if bad.any():
    number, no_number = parse_numbers(column)
    valid = bad & ~no_number & (np.nan_to_num(number) >= YEAR_1971) & (np.nan_to_num(number) < YEAR_2100)
    instant = np.where(valid, np.nan_to_num(number), instant).astype(np.int64)
    bad = bad & ~valid
  return instant, bad


def is_number(text: str) -> bool:
  """True if a time or an offset is given as a number of milliseconds."""
  return bool(re.fullmatch(r"-?[0-9]{1,16}", text))


def offset_minutes(text: str) -> int | None:
  """Converts "UTC+0100", "+01:00" and the like, or a number of milliseconds, to minutes; None if it is no offset."""
  if match := re.fullmatch(r"(?:UTC|GMT)?([+-])([01]?[0-9]):?([0-5][0-9])?", text, re.IGNORECASE):
    minutes = int(match[1] + "1") * (60 * int(match[2]) + int(match[3] or 0))
    return minutes if abs(minutes) <= _MOST_OFFSET else None
  if text.upper() in ("UTC", "GMT", "Z"):
    return 0
  if re.fullmatch(r"-?[0-9]{1,8}", text) and int(text) % MINUTE == 0 and abs(int(text)) <= _MOST_OFFSET * MINUTE:
    return int(text) // MINUTE
  return None


def convert_texts(
  column: pa.StringArray, convert: Callable[[str], Any], kind: type = int
) -> tuple[np.ndarray, np.ndarray]:
  """Converts each distinct text once; returns the values, and where `convert` returned one rather than None."""
  texts = column.dictionary_encode()
  converted = [convert(text) for text in texts.dictionary.to_pylist()]
  missing = np.nan if kind is float else 0
  index = texts.indices.to_numpy()
  values: np.ndarray = np.array([missing if value is None else value for value in converted], kind)
  return values[index], np.array([value is not None for value in converted], bool)[index]


def mask(column: pa.BooleanArray) -> Bool[np.ndarray, "n"]:
  """A boolean column as a NumPy array."""
  return column.to_numpy(zero_copy_only=False)
