"""Google Fit, by Google Takeout ("Fit"): the folder Fit of one person.

All Data/*.json      {"Data Source": ..., "Data Points": [...]}; a point has dataTypeName, startTimeNanos, endTimeNanos
                     (since 1970 UTC, numbers or text), and fitValue[0].value with intVal or fpVal. By dataTypeName
                     (https://developers.google.com/fit/datatypes):
  com.google.heart_rate.bpm bpm; com.google.step_count.delta steps; com.google.distance.delta m;
  com.google.calories.expended kcal, resting energy included; com.google.oxygen_saturation %;
  com.google.sleep.segment 1 awake, 2 asleep, 3 out of bed, 4 light, 5 deep, 6 REM
All Sessions/*.json  {"fitnessActivity", "startTime", "endTime"} (ISO 8601, UTC): a workout, or "sleep"
DATE.csv             in Daily activity metrics: quarter hours of a day, "Start time", "End time" (with an offset), "Step
                     count", "Distance (m)", "Calories (kcal)"; each is read if no file of All Data has the signal

The streams of one type hold the same points before and after Google merged them. Where the export has the merged one
(its Data Source says merge or estimated_steps), points of the others are counted and not used. Where a Takeout has
Fitbit too and of Fit only days, it is Fitbit's (--source=fitbit). Not read: heart rates
per quarter hour and per day (means of a time that is no minute), Activities (GPS tracks), and other types, which are
counted. A file of All Data is parsed as a whole, in about ten times its size of memory.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator, Sequence
from typing import Any

from data_pipelines.errors import SchemaError
from data_pipelines.ingest.importers.apps.rows import Row, entry, fields, instants, items, number, readings, stretch
from data_pipelines.ingest.reading import csv_batches
from data_pipelines.ingest.reading.account import Account
from data_pipelines.ingest.reading.export_files import Export
from data_pipelines.ingest.reading.readings import Readings, Stretch
from data_pipelines.ingest.reading.signals import Signal, common_signal

_TYPES = {
  "com.google.heart_rate.bpm": ("heart_rate", "bpm"),
  "com.google.step_count.delta": ("steps", "steps"),
  "com.google.distance.delta": ("distance", "m"),
  "com.google.calories.expended": ("calories", "kcal"),
  "com.google.oxygen_saturation": ("spo2", "%"),
  "com.google.sleep.segment": ("asleep", ""),
}
_ASLEEP = {1: 0.0, 2: 1.0, 3: 0.0, 4: 1.0, 5: 1.0, 6: 1.0}
_QUARTERS = {
  "Step count": ("steps", "steps"),
  "Distance (m)": ("distance", "m"),
  "Calories (kcal)": ("calories", "kcal"),
}
_STREAM = re.compile(r".*com\.google\.[\w.]+.*\.json", re.IGNORECASE)
_SESSION = re.compile(r"(.*/)?All Sessions/[^/]*\.json", re.IGNORECASE)
_DAY = re.compile(r"(?P<date>\d{4}-\d\d-\d\d)\.csv")
_MERGED = re.compile(r"merge_|estimated_steps")
_START, _END = "Start time", "End time"
_DAY_MS = 86_400_000


class GoogleFit:
  """Reads Google Fit's folder of a Takeout; the module's docstring lists the files."""

  signals: Sequence[Signal] = (
    common_signal("heart_rate"),
    common_signal("steps", high=1000),
    common_signal("distance", high=2000),
    common_signal("calories", high=100),
    common_signal("spo2"),
    common_signal("asleep"),
  )
  devices: Sequence[str] = ()
  beside: Sequence[str] = ()

  def files(self, export: Export) -> list[str]:
    found = [name for name in export.names if _STREAM.fullmatch(name) or _SESSION.fullmatch(name)]
    if found or not _has_fitbit(export):
      found += [name for name in export.names if _quarters(export, name)]
    return sorted(found)

  def read(self, export: Export, name: str, account: Account) -> Iterator[Readings | Stretch]:
    if name.lower().endswith(".csv"):
      yield from _read_quarters(export, name, account)
    elif _SESSION.fullmatch(name):
      yield from _read_session(export, name, account)
    else:
      yield from readings(_points(export, name, account), export.participant, export.where(name), account)


def _has_fitbit(export: Export) -> bool:
  """Whether the Takeout that this is, or whose folder Fit this is, has a folder Fitbit."""
  beside = export.path.is_dir() and (export.path.parent / "Fitbit").is_dir()
  return beside or any("/fitbit/" in f"/{name}".lower() for name in export.names)


def _quarters(export: Export, name: str) -> bool:
  """Whether a file holds the quarter hours of a day; other apps name their files by the date too."""
  if not _DAY.fullmatch(name.rpartition("/")[2]):
    return False
  try:
    return {_START, "Step count"} <= set(csv_batches.read_header(export, name))
  except SchemaError:
    return False


def _points(export: Export, name: str, account: Account) -> Iterator[Row]:
  content = export.json(name)
  source = entry(content, "Data Source")
  redundant = not _is_merged(source) and _has_merged(export, name)
  for place, point in enumerate(items(entry(content, "Data Points")), start=1):
    kind = entry(point, "dataTypeName")
    if not isinstance(kind, str) or kind not in _TYPES:
      account.pass_over(export.participant, kind if isinstance(kind, str) else "point without a type")
      continue
    if redundant:
      account.add(export.participant)
      account.drop(export.participant, "the same in the merged stream", 1, export.where(name, place))
      continue
    signal, unit = _TYPES[kind]
    values = items(entry(point, "fitValue"))
    value = entry(values[0] if values else None, "value")
    amount = number(
      next((value[key] for key in ("intVal", "fpVal") if key in value), None) if isinstance(value, dict) else None
    )
    if signal == "asleep":
      amount = _ASLEEP.get(int(amount), float("nan")) if amount == amount else amount
    start, end = (number(entry(point, key)) / 1e6 for key in ("startTimeNanos", "endTimeNanos"))
    yield Row(signal, unit, start, end, amount)


def _is_merged(source: Any) -> bool:
  return isinstance(source, str) and bool(_MERGED.search(source))


def _type_of(name: str) -> str:
  """The data type that the name of a stream's file has; the name is cut off at some length."""
  return next((kind for kind in _TYPES if kind in name), "")


def _has_merged(export: Export, name: str) -> bool:
  """Whether the export has the merged stream of the type that this file holds."""
  kind = _type_of(name)
  return bool(kind) and any(kind in other and other != name and _MERGED.search(other) for other in export.names)


@functools.lru_cache(maxsize=1)
def _streamed(export: Export) -> frozenset[str]:
  """The signals of which the export has a stream."""
  kinds = {_type_of(name) for name in export.names if _STREAM.fullmatch(name)} - {""}
  return frozenset(_TYPES[kind][0] for kind in kinds)


def _read_session(export: Export, name: str, account: Account) -> Iterator[Stretch]:
  content = export.json(name)
  activity = entry(content, "fitnessActivity")
  (start, end), _ = instants([entry(content, "startTime"), entry(content, "endTime")])
  label = activity if isinstance(activity, str) else ""
  yield from stretch(label.lower(), start, end, export.participant, export.where(name), account)


def _read_quarters(export: Export, name: str, account: Account) -> Iterator[Readings]:
  match = _DAY.fullmatch(name.rpartition("/")[2])
  date = match["date"] if match else ""
  wanted = {column: signal for column, signal in _QUARTERS.items() if signal[0] not in _streamed(export)}
  bad_rows = csv_batches.counting(account, export.participant, export, name)
  for batch in csv_batches.read_batches(export, name, [_START, _END], list(wanted), ragged=bad_rows):
    starts, offsets = instants([f"{date}T{text}" for text in fields(batch, _START)])
    ends, _ = instants([f"{date}T{text}" for text in fields(batch, _END)])
    rows = [
      Row(signal, unit, start, end + _DAY_MS * (end <= start), number(text), offset)
      for column, (signal, unit) in wanted.items()
      for start, end, offset, text in zip(starts, ends, offsets, fields(batch, column), strict=True)
      if text  # nothing was counted
    ]
    yield from readings(rows, export.participant, export.where(name), account)
