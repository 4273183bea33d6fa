"""NHANES: the minutes of its activity monitors, SAS transport files (XPT) of https://wwwn.cdc.gov/nchs/nhanes.

PAXRAW_C.XPT (2003-04) and PAXRAW_D.XPT (2005-06), a hip monitor worn for seven days, whole days:
  SEQN person; PAXSTAT 1 = reliable; PAXCAL 1 = in calibration when it came back; rows of others are dropped
  PAXDAY weekday, 1 = Sunday; PAXN minute from 1 to 10,080; PAXHOUR, PAXMINUT time of day
  PAXINTEN counts of the minute, 32767 where the monitor could not count further; PAXSTEP steps (2005-06 alone)
PAXMIN_G.XPT (2011-12) and PAXMIN_H.XPT (2013-14), a wrist monitor worn day and night, up to nine days, the first and
last cut short:
  SEQN person; PAXDAYM day, from 1; PAXDAYWM its weekday, 1 = Sunday; PAXSSNMP number of the minute's first sample, of
    80 a second, from the start of the recording
  PAXMTSM activity, MIMS units, -0.01 where it could not be computed; PAXLXMM light, lux
  PAXPREDM 1 awake, 2 asleep, 3 not worn, 4 unknown, as predicted; PAXQFM > 0: flagged by the survey's quality review

There are no dates in NHANES, only weekdays, so the days stand in a made week: day 1 is the first day of its weekday
from Monday 2001-01-01, before any of these surveys, on a wall clock of no time zone. PAXMIN has no time of day either:
the second day starts at midnight with its first sample, which places all others.
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
from data_pipelines.ingest.reading.export_files import Export
from data_pipelines.ingest.reading.readings import Readings
from data_pipelines.ingest.reading.signals import Signal, common_signal

_BLOCK = 100_000  # rows
_MONDAY = int(np.datetime64("2001-01-01", "ms").astype(np.int64))
_DAY, _MINUTE = 86_400_000, 60_000
_SAMPLES = 80 * 60  # of a minute
_MOST = 20_000  # minutes of a person: 14 days, where nobody has more than nine
_NOT_WORN = 3

_Columns = dict[str, np.ndarray]  # float64 [rows] each
_Bad = Sequence[tuple[str, Bool[np.ndarray, "n"]]]


class Nhanes:
  """Minutes of NHANES' activity monitors; see the module."""

  signals: Sequence[Signal] = (
    common_signal("activity_counts", high=32766),
    common_signal("steps", quiet=False),
    Signal("mims", "MIMS", "ACC", rule="sum", low=0),
    Signal("light", "lux", "light", low=0),
    common_signal("asleep"),
  )
  devices: Sequence[str] = ("hip", "wrist")
  beside: Sequence[str] = ()

  def files(self, export: Export) -> list[str]:
    return export.matching("PAXRAW_?.XPT", "PAXMIN_?.XPT")

  def read(self, export: Export, name: str, account: Account) -> Iterator[Readings]:
    where = export.where(name)
    hip = "paxraw" in name.rsplit("/", 1)[-1].lower()
    wanted, optional, minutes = (_RAW, ("PAXSTEP",), _hip) if hip else (_MIN, ("PAXLXMM",), _wrist)
    with export.on_disk(name) as path:
      for first, columns in _people(_tables(path, where, wanted, optional), where):
        yield from minutes(columns, first, where, account)


_RAW = ("SEQN", "PAXSTAT", "PAXCAL", "PAXDAY", "PAXN", "PAXHOUR", "PAXMINUT", "PAXINTEN")
_MIN = ("SEQN", "PAXDAYM", "PAXDAYWM", "PAXSSNMP", "PAXMTSM", "PAXPREDM", "PAXQFM")


def _hip(columns: _Columns, first: int, where: str, account: Account) -> Iterator[Readings]:
  """Minutes of one person by PAXRAW."""
  number, hour, minute = columns["PAXN"], columns["PAXHOUR"], columns["PAXMINUT"]
  day = (number - 1) // 1440
  placed = _whole(number, 1, 10_080) & _whole(columns["PAXDAY"], 1, 7)
  placed &= _whole(hour, 0, 23) & _whole(minute, 0, 59) & ((number - 1) % 1440 == 60 * hour + minute)
  bad = (
    ("minute that is not where its number says", ~placed),
    ("monitor not reliable", columns["PAXSTAT"] != 1),
    ("monitor out of calibration", columns["PAXCAL"] != 1),
    ("minute without a count", np.isnan(columns["PAXINTEN"])),
  )
  time = _dates(columns["PAXDAY"], day) + _MINUTE * (60 * hour + minute)
  values = {"activity_counts": columns["PAXINTEN"], "steps": columns.get("PAXSTEP")}
  yield from _blocks(columns["SEQN"][0], time, values, bad, first, "hip", where, account)


def _wrist(columns: _Columns, first: int, where: str, account: Account) -> Iterator[Readings]:
  """Minutes of one person by PAXMIN."""
  day, sample = columns["PAXDAYM"], columns["PAXSSNMP"]
  second = sample[day == 2]
  midnight = np.min(second) if len(second) else np.nan  # without a midnight nothing tells the time of day
  minute = np.round((sample - midnight) / _SAMPLES) + 1440
  placed = _whole(day, 1, 14) & _whole(columns["PAXDAYWM"], 1, 7) & (minute // 1440 == day - 1)
  state = columns["PAXPREDM"]
  bad = (
    ("minute that cannot be placed in its day", ~placed),
    ("flagged by the quality review", columns["PAXQFM"] != 0),
    ("not worn", state == _NOT_WORN),
    ("no activity could be computed", ~(columns["PAXMTSM"] >= 0)),
  )
  asleep = np.where(state == 2, 1.0, np.where(state == 1, 0.0, np.nan))
  time = _dates(columns["PAXDAYWM"], day - 1) + _MINUTE * (minute % 1440)
  values = {"mims": columns["PAXMTSM"], "light": columns.get("PAXLXMM"), "asleep": asleep}
  yield from _blocks(columns["SEQN"][0], time, values, bad, first, "wrist", where, account)


def _dates(weekday: Float64[np.ndarray, "n"], day: Float64[np.ndarray, "n"]) -> Float64[np.ndarray, "n"]:
  """Midnight of a day, counted from 0, that has this weekday, 1 for Sunday: day 0 is in the week of 2001-01-01."""
  return _MONDAY + _DAY * ((weekday - 2 - day) % 7 + day)


def _blocks(
  person: float,
  time: Float64[np.ndarray, "n"],
  values: dict[str, Float64[np.ndarray, "n"] | None],
  bad: _Bad,
  first: int,
  device: str,
  where: str,
  account: Account,
) -> Iterator[Readings]:
  """A person's minutes without the bad ones, which are counted by the first reason that holds."""
  name = f"{person:.0f}"
  account.add(name, len(time))
  good = np.ones(len(time), bool)
  for why, which in bad:
    dropped = good & which
    account.drop(name, why, int(dropped.sum()), f"{where} row {first + int(np.argmax(dropped))}")
    good &= ~which
  for signal in Nhanes.signals:
    column = values.get(signal.name)
    kept = good & np.isfinite(column) if column is not None else np.zeros(len(time), bool)
    if column is not None and kept.any():
      start = time[kept].astype(np.int64)
      yield Readings(name, signal.name, signal.unit, start, start + _MINUTE, column[kept], device, clock="wall")


def _whole(values: Float64[np.ndarray, "n"], low: int, high: int) -> Bool[np.ndarray, "n"]:
  return (values >= low) & (values <= high) & (values % 1 == 0)


def _people(tables: Iterator[tuple[int, _Columns]], where: str) -> Iterator[tuple[int, _Columns]]:
  """Tables cut into people, whose rows follow each other."""
  start, held, done = 1, _Columns(), set[float]()
  for first, columns in tables:
    held = {name: np.concatenate([held[name], column]) for name, column in columns.items()} if held else columns
    start = first if len(held["SEQN"]) == len(columns["SEQN"]) else start
    people = held["SEQN"]
    edges = np.flatnonzero(np.diff(people)) + 1
    for begin, end in zip([0, *edges[:-1]], edges, strict=False):
      yield _person(held, int(begin), int(end), start, done, where)
    begin = int(edges[-1]) if len(edges) else 0
    held = {name: column[begin:] for name, column in held.items()}
    start += begin
    if len(held["SEQN"]) > _MOST:
      raise SchemaError(f"{where}: more than {_MOST:,} rows of one person follow row {start}, expected at most 14 days")
  if held:
    yield _person(held, 0, len(held["SEQN"]), start, done, where)


def _person(held: _Columns, begin: int, end: int, start: int, done: set[float], where: str) -> tuple[int, _Columns]:
  person = float(held["SEQN"][begin])
  if person in done:
    raise SchemaError(
      f"{where} row {start + begin}: more rows of a person after those of another, expected them together"
    )
  done.add(person)
  return start + begin, {name: column[begin:end] for name, column in held.items()}


def _tables(
  path: pathlib.Path, where: str, wanted: Sequence[str], optional: Sequence[str]
) -> Iterator[tuple[int, _Columns]]:
  """Number of its first row and columns of each block of an XPT file."""
  reader = _guarded(lambda: pd.read_sas(path, format="xport", encoding=None, chunksize=_BLOCK), where)
  with reader:
    missing = [name for name in wanted if name not in reader.columns]
    if missing:
      raise SchemaError(f"{where}: has no variable {missing[0]!r}; it has {', '.join(reader.columns)[:300]}")
    _check_end(path, reader, where)
    for first in range(1, reader.nobs + 1, _BLOCK):
      table = _guarded(lambda: reader.read(_BLOCK), where)
      names = [*wanted, *(name for name in optional if name in table)]
      columns = {name: _numbers(table[name]) for name in names}
      sound = _whole(columns["SEQN"], 1, 10**9)
      if not sound.all():
        raise SchemaError(f"{where} row {first + int(np.argmin(sound))}: SEQN is no number of a person")
      yield first, columns


def _check_end(path: pathlib.Path, reader: Any, where: str) -> None:
  """What follows the last whole row is blanks that fill up a card of 80 bytes; a cut-off row is not."""
  with path.open("rb") as file:
    file.seek(reader.record_start + reader.nobs * reader.record_length)
    rest = file.read(max(80, reader.record_length) + 1)
  if rest.strip(b" ") or path.stat().st_size % 80:
    raise SchemaError(f"{where}: damaged XPT file: it ends within a row")


def _numbers(column: pd.Series) -> Float64[np.ndarray, "n"]:
  """Numbers; NaN for missing. The codes of PAXMIN are text, and pandas reads the zero of IBM floats as 5e-79."""
  if column.dtype == object or column.dtype.kind not in "fiu":
    column = pd.to_numeric(
      column.map(lambda code: code.decode("latin-1") if isinstance(code, bytes) else code), "coerce"
    )
  values = column.to_numpy(np.float64, copy=True)
  values[np.abs(values) < 1e-70] = 0
  return values


def _guarded(step: Callable[[], Any], where: str) -> Any:
  """A step of pandas' reader, which meets damaged bytes with errors of every kind."""
  try:
    with warnings.catch_warnings():
      warnings.simplefilter("error", UserWarning)
      return step()
  except SchemaError:
    raise
  except Exception as error:
    raise SchemaError(f"{where}: not an XPT file, or a damaged one ({type(error).__name__})") from None
