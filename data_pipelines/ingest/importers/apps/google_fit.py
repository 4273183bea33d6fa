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

The streams of one type hold the same points before and after Google merged them. What a stream is, its Data Source
says; a Takeout cuts off the names of files. Where the export has merged ones, one of them is read (merge_..., merged,
else estimated_steps), and points of the others are counted and not used. Otherwise each stream is a device. Where a
Takeout has Fitbit too and of Fit only days, it is Fitbit's (--source=fitbit). Not read: heart rates per quarter hour
and per day (means of a time that is no minute) and at rest, Activities (GPS tracks), and other types, which are
counted. A file of All Data is parsed as a whole, in about ten times its size of memory.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Iterator, Sequence

from data_pipelines.errors import SchemaError
from data_pipelines.ingest.importers.apps.rows import (
  Row,
  Unexpected,
  entry,
  fields,
  instants,
  items,
  members,
  number,
  readings,
  stretch,
)
from data_pipelines.ingest.reading import csv_batches
from data_pipelines.ingest.reading.account import Account
from data_pipelines.ingest.reading.clocks import DAY
from data_pipelines.ingest.reading.export_files import Export, base_name
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
_MERGED = (re.compile(r":merged?(_|$)"), re.compile(r":estimated_steps"))  # by their last part, best first
_RESTING = "resting_heart_rate"  # one value per day
_SOURCE = re.compile(rb'"Data Source"\s*:\s*("(?:[^"\\]|\\.)*")')
_HEAD = 1024  # bytes, which name the source
_START, _END = "Start time", "End time"


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
  """True if the Takeout that this is, or whose folder Fit this is, has a folder Fitbit."""
  is_fit = export.path.is_dir() and export.path.name.lower() == "fit"
  beside = is_fit and (export.path.parent / "Fitbit").is_dir()
  return beside or any("/fitbit/" in f"/{name}".lower() for name in export.names)


def _quarters(export: Export, name: str) -> bool:
  """True if a file holds the quarter hours of a day; other apps name their files by the date too."""
  if not _DAY.fullmatch(base_name(name)):
    return False
  try:
    return {_START, "Step count"} <= set(csv_batches.read_header(export, name))
  except SchemaError:
    return False


def _points(export: Export, name: str, account: Account) -> Iterator[Row | Unexpected]:
  content = export.json(name)
  source = _sources(export).get(name, name)
  device, redundant = _device(_sources(export), source)
  found, odd = members(content, "Data Points", ())
  yield from odd
  for place, point in enumerate(found, start=1):
    kind = entry(point, "dataTypeName")
    if not isinstance(kind, str) or kind not in _TYPES:
      account.pass_over(export.participant, kind if isinstance(kind, str) else "point without a type")
      continue
    if _RESTING in source:
      account.pass_over(export.participant, "heart rate at rest")
      continue
    if redundant:
      account.add(export.participant)
      account.drop(export.participant, "the same in the merged stream", 1, f"{export.where(name)} Data Points {place}")
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
    yield Row(signal, unit, start, end, amount, None, device, ("Data Points", place))


def _type_of(source: str) -> str:
  """The data type that a source, or the name of a stream's file, has."""
  return next((kind for kind in _TYPES if kind in source), "")


@functools.lru_cache(maxsize=1)
def _sources(export: Export) -> dict[str, str]:
  """The data source of each file of a stream; of one that does not say it, its name."""
  return {name: _source(export, name) for name in export.names if _STREAM.fullmatch(name)}


def _source(export: Export, name: str) -> str:
  try:
    with export.open(name) as file:
      match = _SOURCE.search(file.read(_HEAD))
    return str(json.loads(match[1])) if match else name
  except (SchemaError, ValueError):
    return name  # reading it says so


def _device(sources: dict[str, str], source: str) -> tuple[str, bool]:
  """A name for a source, which itself may hold a person's, and whether a merged stream holds the same points."""
  alike = sorted({other for other in sources.values() if _type_of(other) == _type_of(source) and _RESTING not in other})
  merged = [other for form in _MERGED for other in alike if form.search(other)]
  number = alike.index(source) + 1 if source in alike else 0
  return f"stream {number:03d}", bool(merged) and source != merged[0]


@functools.lru_cache(maxsize=1)
def _streamed(export: Export) -> frozenset[str]:
  """The signals of which the export has a stream."""
  kinds = {_type_of(source) for source in _sources(export).values()} - {""}
  return frozenset(_TYPES[kind][0] for kind in kinds)


def _read_session(export: Export, name: str, account: Account) -> Iterator[Stretch]:
  content = export.json(name)
  activity = entry(content, "fitnessActivity")
  (start, end), _ = instants([entry(content, "startTime"), entry(content, "endTime")])
  label = activity if isinstance(activity, str) else ""
  yield from stretch(label.lower(), start, end, export.participant, export.where(name), account)


def _read_quarters(export: Export, name: str, account: Account) -> Iterator[Readings]:
  match = _DAY.fullmatch(base_name(name))
  date = match["date"] if match else ""
  wanted = {column: signal for column, signal in _QUARTERS.items() if signal[0] not in _streamed(export)}
  bad_rows = csv_batches.counting(account, export.participant, export, name)
  for batch in csv_batches.read_batches(export, name, [_START, _END], list(wanted), ragged=bad_rows):
    starts, offsets = instants([f"{date}T{text}" for text in fields(batch, _START)])
    ends, _ = instants([f"{date}T{text}" for text in fields(batch, _END)])
    numbers = batch.numbers().tolist()
    rows = [
      Row(signal, unit, start, end + DAY * (end <= start), number(text), offset, place=("row", row))
      for column, (signal, unit) in wanted.items()
      for row, start, end, offset, text in zip(numbers, starts, ends, offsets, fields(batch, column), strict=True)
      if text  # nothing was counted
    ]
    yield from readings(rows, export.participant, export.where(name), account)
