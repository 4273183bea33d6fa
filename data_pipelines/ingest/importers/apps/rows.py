"""Rows of an app's export: collects them into blocks of readings, and counts those that cannot be used."""

from __future__ import annotations

import collections
import itertools
import json
import math
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
import pyarrow as pa

from data_pipelines.ingest.reading.account import Account
from data_pipelines.ingest.reading.clocks import MINUTE, MOST_OFFSET
from data_pipelines.ingest.reading.csv_batches import CsvBatch, parse_zoned_times
from data_pipelines.ingest.reading.readings import Readings, Stretch

NO_TIME = math.nan
_ROWS_PER_BLOCK = 200_000
_LONGEST_PART = 80  # characters
_FIRST, _LAST = 631_152_000_000, 4_102_444_800_000  # 1990 and 2100, ms
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
_OFFSET = re.compile(r"(?:UTC|GMT)?([+-])(\d\d):?([0-5]\d)")


class Row(NamedTuple):
  """One reading as a record gives it; whatever in it is not usable is NaN.

  Attributes:
    signal, unit: as in Readings.
    start, end: ms since 1970; equal for a sample.
    value: the value.
    offset: minutes that the wall clock was ahead of UTC, None if unknown, NaN if it is none that there is.
    device: as in Readings.
    place: where it is in the file, as a user finds it: ("row", 7), or keys and numbers from 1, ("deviceDays", 2,
      "samples", 15).
  """

  signal: str
  unit: str
  start: float
  end: float
  value: float
  offset: float | None = None
  device: str = ""
  place: tuple[object, ...] = ()


class Unexpected(NamedTuple):
  """A part of a file that has another shape than its readings have.

  Attributes:
    place: where it is, as in Row.
    why: what is wrong, in a few words.
    damaged: whether it counts as a damaged part; what only lacks a list may have measured nothing, and is remarked on.
  """

  place: tuple[object, ...]
  why: str
  damaged: bool = True


def readings(
  rows: Iterable[Row | Unexpected],
  participant: str,
  where: str,
  account: Account,
  clock: Literal["utc", "wall"] = "utc",
) -> Iterator[Readings]:
  """Yields the usable rows as blocks of readings, and counts all of them; `where` names the file."""
  source = _without_unexpected(rows, participant, where, account)
  while block := list(itertools.islice(source, _ROWS_PER_BLOCK)):
    account.add(participant, len(block))
    good: dict[tuple[str, str, str, bool], list[Row]] = collections.defaultdict(list)
    for row in block:
      if why := _fault(row):
        account.drop(participant, why, 1, f"{where}{_text_of(row.place)}")
      else:
        good[row.signal, row.unit, row.device, row.offset is not None].append(row)
    for (signal, unit, device, zoned), group in good.items():
      yield Readings(
        participant=participant,
        signal=signal,
        unit=unit,
        start=np.array([row.start for row in group]).astype(np.int64),
        end=np.array([row.end for row in group]).astype(np.int64),
        value=np.array([row.value for row in group], np.float64),
        device=device,
        offset=np.array([row.offset for row in group], np.int64) if zoned else None,
        clock=clock,
      )


def stretch(
  name: str, start: float, end: float, participant: str, where: str, account: Account, offset: int | None = None
) -> Iterator[Stretch]:
  """Yields a workout or a night, unless it has no usable time or name; either way it is a row of the account."""
  account.add(participant)
  usable = bool(name) and _FIRST <= start < _LAST and _FIRST <= end < _LAST and start < end
  if usable:
    yield Stretch(participant, name, int(start), int(end), offset)
  else:
    account.drop(participant, "workout or night without a name or time", 1, where)


def _without_unexpected(
  rows: Iterable[Row | Unexpected], participant: str, where: str, account: Account
) -> Iterator[Row]:
  remarks = set()
  for row in rows:
    if isinstance(row, Unexpected) and not row.damaged:
      if row.why not in remarks:  # they are counted by file
        account.remark(participant, row.why)
        remarks.add(row.why)
    elif isinstance(row, Unexpected):
      account.damaged(participant, row.why, where, _text_of(row.place))
    else:
      yield row


def _text_of(place: tuple[object, ...]) -> str:
  return "".join(f" {str(part)[:_LONGEST_PART]}" for part in place)


def _fault(row: Row) -> str:
  if not (_FIRST <= row.start < _LAST and _FIRST <= row.end < _LAST):
    return "unreadable time"
  if row.end < row.start:
    return "record that ends before it starts"
  if row.offset is not None and math.isnan(row.offset):
    return "impossible time zone"
  return "" if math.isfinite(row.value) else f"unreadable {row.signal}"


def number(value: Any) -> float:
  """A number of JSON, or one written as text; NaN for anything else."""
  if isinstance(value, bool):
    return math.nan
  if isinstance(value, int | float):
    return float(value) if abs(value) < 1e300 else math.nan
  return float(value) if isinstance(value, str) and _NUMBER.fullmatch(value.strip()) else math.nan


def offset_minutes(text: Any) -> float | None:
  """Minutes ahead of UTC of "+0200", "+02:00" or "UTC+02:00"; None for nothing, and NaN for anything else."""
  if text is None or text == "":
    return None
  match = _OFFSET.fullmatch(text.strip()) if isinstance(text, str) else None
  minutes = int(match[1] + "1") * (60 * int(match[2]) + int(match[3])) if match else math.inf
  return minutes if abs(minutes) <= MOST_OFFSET else math.nan


def instants(texts: Sequence[Any]) -> tuple[list[float], list[int | None]]:
  """ISO 8601 times with an offset or Z as ms since 1970 UTC, NaN where there is none, and their offsets.

  The offset of Z and +00:00 is None: apps write them for UTC, whatever the wall clock shows.
  """
  if not len(texts):
    return [], []
  plain = [text if isinstance(text, str) and text.isascii() else "" for text in texts]
  clock, ahead, zoned, bad = parse_zoned_times(pa.array(plain, pa.string()))
  usable = zoned & ~bad
  ms = np.where(usable, clock - MINUTE * ahead, np.nan).tolist()
  return ms, [int(minutes) if good and minutes else None for minutes, good in zip(ahead, usable, strict=True)]


def fields(rows: CsvBatch, column: str) -> list[str]:
  """A column as texts without spaces around them; "" where the file has no such column."""
  return [(text or "").strip() for text in rows[column].to_pylist()]


def parsed(text: str) -> Any:
  """The value that a text of JSON holds; the text itself if it is no JSON, and None if it is empty."""
  try:
    return json.loads(text)
  except (ValueError, RecursionError):
    return text or None


def members(record: Any, key: str, place: tuple[object, ...]) -> tuple[list[Any], list[Unexpected]]:
  """The list under a key of a JSON object, and, where there is none, what is wrong with the object at this place."""
  if not isinstance(record, dict):
    return [], [Unexpected(place, "not a JSON object")]
  if record.get(key) is None:
    return [], [Unexpected(place, f"a record without {key}", damaged=False)]
  if not isinstance(record[key], list):
    return [], [Unexpected((*place, key), "not a JSON list")]
  return record[key], []


def items(value: Any) -> list[Any]:
  """The value if it is a list, else none."""
  return value if isinstance(value, list) else []


def entry(value: Any, key: str) -> Any:
  """The value under a key of a JSON object, None for anything else."""
  return value.get(key) if isinstance(value, dict) else None
