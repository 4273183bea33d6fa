"""NHANES: per-minute data of its activity monitors, SAS transport files (XPT) from https://wwwn.cdc.gov/nchs/nhanes.

PAXRAW_C.XPT (2003-04) and PAXRAW_D.XPT (2005-06), a hip monitor worn for seven whole days:
  SEQN person; PAXSTAT 1 = reliable; PAXCAL 1 = in calibration when returned; other rows are dropped
  PAXDAY weekday, 1 = Sunday; PAXN minute from 1 to 10,080; PAXHOUR, PAXMINUT time of day
  PAXINTEN counts per minute, 32767 where the monitor could not count further; PAXSTEP steps (2005-06 only)
PAXMIN_G.XPT (2011-12) and PAXMIN_H.XPT (2013-14), a wrist monitor worn day and night, up to nine days, of which
the first and last are incomplete:
  SEQN person; PAXDAYM day, from 1; PAXDAYWM its weekday, 1 = Sunday; PAXSSNMP number of the minute's first sample
    since the start of the recording, at 80 per second
  PAXMTSM activity, MIMS units, -0.01 where it could not be computed; PAXLXMM light, lux
  PAXPREDM 1 awake, 2 asleep, 3 not worn, 4 unknown, as predicted; PAXQFM > 0: flagged by the survey's quality review

NHANES has weekdays but no dates, so the days are placed in an invented week: day 1 is the first day with its weekday
from Monday 2001-01-01 on, before any of these surveys, on a wall clock without a time zone. PAXMIN has no time of day
either. The first sample of the second day is at midnight, which places all others.

A row of the account is a value: a minute has one for each signal of its file.
"""

from __future__ import annotations

import pathlib
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float64

from data_pipelines.errors import SchemaError
from data_pipelines.ingest.reading.account import Account
from data_pipelines.ingest.reading.clocks import DAY, MINUTE
from data_pipelines.ingest.reading.export_files import Export, base_name
from data_pipelines.ingest.reading.owners import Owner
from data_pipelines.ingest.reading.readings import Readings
from data_pipelines.ingest.reading.signals import Signal, common_signal

_ROWS_PER_BATCH = 100_000
_MONDAY = int(np.datetime64("2001-01-01", "ms").astype(np.int64))
_SAMPLES_PER_MINUTE = 80 * 60
_MOST_MINUTES = 20_000  # per person: 14 days, although nobody has more than nine
_NOT_WORN = 3

_Columns = dict[str, np.ndarray]  # float64 [rows] each
_Bad = Sequence[tuple[str, Bool[np.ndarray, "n"]]]


class Nhanes:
  """Reads the minutes of NHANES' activity monitors; the module's docstring lists the variables."""

  signals: Sequence[Signal] = (
    common_signal("activity_counts", high=32766),
    common_signal("steps", quiet=False),
    common_signal("mims"),
    common_signal("light"),
    common_signal("asleep"),
  )
  devices: Sequence[str] = ("hip", "wrist")
  beside: Sequence[str] = ()

  def files(self, export: Export) -> list[str]:
    return export.matching("PAXRAW_?.XPT", "PAXMIN_?.XPT")

  def owners(self, export: Export, names: Sequence[str]) -> dict[str, Owner]:
    return dict.fromkeys(names, Owner(in_rows=True))

  def read(self, export: Export, name: str, account: Account) -> Iterator[Readings]:
    where = export.where(name)
    hip = "paxraw" in base_name(name).lower()
    required, optional, minutes = (_RAW, ("PAXSTEP",), _hip) if hip else (_MIN, ("PAXLXMM",), _wrist)
    with export.on_disk(name) as path:
      for first, columns in _people(_tables(path, where, required, optional), where):
        yield from minutes(columns, first, where, account)


_RAW = ("SEQN", "PAXSTAT", "PAXCAL", "PAXDAY", "PAXN", "PAXHOUR", "PAXMINUT", "PAXINTEN")
_MIN = ("SEQN", "PAXDAYM", "PAXDAYWM", "PAXSSNMP", "PAXMTSM", "PAXPREDM", "PAXQFM")


def _hip(columns: _Columns, first: int, where: str, account: Account) -> Iterator[Readings]:
  """Yields one person's minutes from PAXRAW."""
  number, hour, minute = columns["PAXN"], columns["PAXHOUR"], columns["PAXMINUT"]
  day = (number - 1) // 1440
  placed = _whole(number, 1, 10_080) & _whole(columns["PAXDAY"], 1, 7)
  placed &= _whole(hour, 0, 23) & _whole(minute, 0, 59) & ((number - 1) % 1440 == 60 * hour + minute)
  bad = (
    ("value of a minute whose number and time of day disagree", ~placed),
    ("value of a monitor that is not reliable", columns["PAXSTAT"] != 1),
    ("value of a monitor out of calibration", columns["PAXCAL"] != 1),
    ("value of a minute without a count", np.isnan(columns["PAXINTEN"])),
  )
  time = _dates(columns["PAXDAY"], day) + MINUTE * (60 * hour + minute)
  values = {"activity_counts": columns["PAXINTEN"], "steps": columns.get("PAXSTEP")}
  yield from _usable_minutes(columns["SEQN"][0], time, values, bad, first, "hip", where, account)


def _wrist(columns: _Columns, first: int, where: str, account: Account) -> Iterator[Readings]:
  """Yields one person's minutes from PAXMIN."""
  day, sample = columns["PAXDAYM"], columns["PAXSSNMP"]
  second = sample[day == 2]
  midnight = np.min(second) if len(second) else np.nan  # without it the time of day is unknown
  minute = np.round((sample - midnight) / _SAMPLES_PER_MINUTE) + 1440
  placed = _whole(day, 1, 14) & _whole(columns["PAXDAYWM"], 1, 7) & (minute // 1440 == day - 1)
  state = columns["PAXPREDM"]
  bad = (
    ("value of a minute that cannot be placed in its day", ~placed),
    ("value flagged by the quality review", columns["PAXQFM"] != 0),
    ("value of a minute in which the device was not worn", state == _NOT_WORN),
    ("value of a minute of which no activity could be computed", ~(columns["PAXMTSM"] >= 0)),
  )
  asleep = np.where(state == 2, 1.0, np.where(state == 1, 0.0, np.nan))
  time = _dates(columns["PAXDAYWM"], day - 1) + MINUTE * (minute % 1440)
  values = {"mims": columns["PAXMTSM"], "light": columns.get("PAXLXMM"), "asleep": asleep}
  yield from _usable_minutes(columns["SEQN"][0], time, values, bad, first, "wrist", where, account)


def _dates(weekday: Float64[np.ndarray, "n"], day: Float64[np.ndarray, "n"]) -> Float64[np.ndarray, "n"]:
  """Midnight of a day, given its number from 0 and its weekday, 1 = Sunday. Day 0 is in the week of 2001-01-01."""
  return _MONDAY + DAY * ((weekday - 2 - day) % 7 + day)


def _usable_minutes(
  person: float,
  time: Float64[np.ndarray, "n"],
  values: dict[str, Float64[np.ndarray, "n"] | None],
  bad: _Bad,
  first: int,
  device: str,
  where: str,
  account: Account,
) -> Iterator[Readings]:
  """Yields a person's values without those of bad minutes, which are counted under the first reason that applies."""
  name = f"{person:.0f}"
  columns = {signal: column for signal in Nhanes.signals if (column := values.get(signal.name)) is not None}
  account.add(name, len(columns) * len(time))

  def drop(why: str, which: Bool[np.ndarray, "n"], of_each: int) -> None:
    account.drop(name, why, of_each * int(which.sum()), f"{where} row {first + int(np.argmax(which))}")

  good = np.ones(len(time), bool)
  for why, which in bad:
    drop(why, good & which, len(columns))
    good &= ~which
  for signal, column in columns.items():
    drop(f"no value of {signal.name}", good & ~np.isfinite(column), 1)
    usable = good & np.isfinite(column)
    if usable.any():
      start = time[usable].astype(np.int64)
      yield Readings(name, signal.name, signal.unit, start, start + MINUTE, column[usable], device, clock="wall")


def _whole(values: Float64[np.ndarray, "n"], low: int, high: int) -> Bool[np.ndarray, "n"]:
  return (values >= low) & (values <= high) & (values % 1 == 0)


def _people(tables: Iterator[tuple[int, _Columns]], where: str) -> Iterator[tuple[int, _Columns]]:
  """Splits tables into people; a person's rows are contiguous."""
  start, held, done = 1, _Columns(), set[float]()
  faults: list[SchemaError] = []
  for first, columns in _until_fault(tables, faults):
    held = {name: np.concatenate([held[name], column]) for name, column in columns.items()} if held else columns
    start = first if len(held["SEQN"]) == len(columns["SEQN"]) else start
    people = held["SEQN"]
    edges = np.flatnonzero(np.diff(people)) + 1
    for begin, end in zip([0, *edges[:-1]], edges, strict=False):
      yield _person(held, int(begin), int(end), start, done, where)
    begin = int(edges[-1]) if len(edges) else 0
    held = {name: column[begin:] for name, column in held.items()}
    start += begin
    if len(held["SEQN"]) > _MOST_MINUTES:
      raise SchemaError(
        f"{where}: more than {_MOST_MINUTES:,} rows of one person from row {start} on, expected at most 14 days"
      )
  if held:
    yield _person(held, 0, len(held["SEQN"]), start, done, where)
  if faults:  # after the rows before it
    raise faults[0]


def _until_fault(tables: Iterator[tuple[int, _Columns]], faults: list[SchemaError]) -> Iterator[tuple[int, _Columns]]:
  try:
    yield from tables
  except SchemaError as error:
    faults.append(error)


def _person(held: _Columns, begin: int, end: int, start: int, done: set[float], where: str) -> tuple[int, _Columns]:
  person = float(held["SEQN"][begin])
  if person in done:
    raise SchemaError(f"{where} row {start + begin}: the rows of this person are not contiguous")
  done.add(person)
  return start + begin, {name: column[begin:end] for name, column in held.items()}


def _tables(
  path: pathlib.Path, where: str, required: Sequence[str], optional: Sequence[str]
) -> Iterator[tuple[int, _Columns]]:
  """Yields the number of the first row and the columns of each batch of an XPT file."""
  reader = _guarded(lambda: pd.read_sas(path, format="xport", encoding=None, chunksize=_ROWS_PER_BATCH), where)
  with reader:
    missing = [name for name in required if name not in reader.columns]
    if missing:
      raise SchemaError(f"{where}: has no variable {missing[0]!r}; it has {', '.join(reader.columns)[:300]}")
    for first in range(1, reader.nobs + 1, _ROWS_PER_BATCH):
      table = _guarded(lambda: reader.read(_ROWS_PER_BATCH), where)
      names = [*required, *(name for name in optional if name in table)]
      columns = {name: _numbers(table[name]) for name in names}
      sound = _whole(columns["SEQN"], 1, 10**9)
      if not sound.all():
        raise SchemaError(f"{where} row {first + int(np.argmin(sound))}: SEQN is not a person's number")
      yield first, columns
    _check_end(path, reader, where)  # after all whole rows, which are kept


def _check_end(path: pathlib.Path, reader: Any, where: str) -> None:
  """Only blanks that pad the last record to 80 bytes may follow the last row; anything else is a truncated row."""
  with path.open("rb") as file:
    file.seek(reader.record_start + reader.nobs * reader.record_length)
    rest = file.read(max(80, reader.record_length) + 1)
  if rest.strip(b" ") or path.stat().st_size % 80:
    raise SchemaError(f"{where}: damaged XPT file: it ends within a row")


def _numbers(column: pd.Series) -> Float64[np.ndarray, "n"]:
  """Numbers, NaN if missing. PAXMIN stores codes as text, and pandas reads the zero of IBM floats as 5e-79."""
  if column.dtype == object or column.dtype.kind not in "fiu":
    column = pd.to_numeric(
      column.map(lambda code: code.decode("latin-1") if isinstance(code, bytes) else code), "coerce"
    )
  values = column.to_numpy(np.float64, copy=True)
  values[np.abs(values) < 1e-70] = 0
  return values


def _guarded(step: Callable[[], Any], where: str) -> Any:
  """Runs a step of pandas' reader, which raises errors of many kinds on damaged bytes."""
  try:
    with warnings.catch_warnings():
      warnings.simplefilter("error", UserWarning)
      return step()
  except SchemaError:
    raise
  except Exception as error:
    raise SchemaError(f"{where}: not an XPT file, or a damaged one ({type(error).__name__})") from None
