"""Oura, "Export data" (https://membership.ouraring.com): CSV files with semicolons, or one oura*.json.

Fields are those of Oura's API, https://cloud.ouraring.com/v2/docs:
  heart rate   timestamp (ISO 8601 with Z or an offset), bpm: every five minutes
  sleep        bedtime_start; sleep_phase_5_min, a digit for every five minutes: 1 deep, 2 light, 3 REM, 4 awake;
               heart_rate (bpm) and hrv (rMSSD, ms), each {"interval" (s), "items", "timestamp"}, null where nothing
               was measured
  activity     met {"interval", "items", "timestamp"}: metabolic equivalents by the minute
In CSVs (heartrate.csv, sleepmodel.csv or sleep.csv, dailyactivity.csv or activity.csv, by their headers) the nested
fields are JSON. In a JSON the lists are under heart_rate or heartrate, sleep or sleep_periods, activity or
daily_activity. The wall clock is that of the offsets; times in Z need --timezone. Use --minutes_per_step=5. Not read:
daily scores and sums (steps are one number per day), temperatures (one per night), tags.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

from data_pipelines.errors import SchemaError
from data_pipelines.ingest.importers.apps.rows import (
  Row,
  Unexpected,
  entry,
  fields,
  instants,
  members,
  number,
  parsed,
  readings,
)
from data_pipelines.ingest.reading import csv_batches
from data_pipelines.ingest.reading.account import Account
from data_pipelines.ingest.reading.export_files import Export, without_copy_number
from data_pipelines.ingest.reading.owners import Owner, loose_places
from data_pipelines.ingest.reading.readings import Readings
from data_pipelines.ingest.reading.signals import Signal, common_signal

_FIVE_MINUTES = 300_000
_LONGEST_INTERVAL = 3600  # seconds between values
_ASLEEP = {"1": 1.0, "2": 1.0, "3": 1.0, "4": 0.0}
_NAN = float("nan")
_Place = tuple[object, ...]
# What a table must have, and the columns that are read.
_TABLES = {
  "heart": (("timestamp", "bpm"), ("timestamp", "bpm")),
  "sleep": (("bedtime_start", "sleep_phase_5_min"), ("bedtime_start", "sleep_phase_5_min", "heart_rate", "hrv")),
  "activity": (("met", "class_5_min"), ("met",)),
}
_CSV = re.compile(r"(.*/)?(heartrate|sleepmodel|sleep|dailyactivity|activity)\.csv", re.IGNORECASE)
_JSON = re.compile(r"(.*/)?oura[^/]*\.json", re.IGNORECASE)
_LISTS = {
  "heart": ("heart_rate", "heartrate"),
  "sleep": ("sleep", "sleep_periods"),
  "activity": ("activity", "daily_activity"),
}


class Oura:
  """Reads Oura's CSV and JSON exports; the module's docstring lists the fields."""

  signals: Sequence[Signal] = (
    common_signal("heart_rate"),
    common_signal("hrv_rmssd"),
    common_signal("mets"),
    common_signal("asleep"),
  )
  devices: Sequence[str] = ()
  beside: Sequence[str] = ()

  def files(self, export: Export) -> list[str]:
    is_csv = lambda name: _CSV.fullmatch(without_copy_number(name)) and _table(export, name)
    return [name for name in export.names if _JSON.fullmatch(name) or is_csv(name)]

  def owners(self, export: Export, names: Sequence[str]) -> dict[str, Owner]:
    places = loose_places([name for name in names if not _JSON.fullmatch(name)])
    return {name: Owner(places.get(name, name)) for name in names}  # a JSON is a whole export

  def read(self, export: Export, name: str, account: Account) -> Iterator[Readings]:
    where = export.where(name)
    if _JSON.fullmatch(name):
      for rows in _lists(export.json(name)):
        yield from readings(rows, export.participant, where, account)
      return
    kind, delimiter = _table(export, name) or ("", ",")
    required, columns = _TABLES[kind]
    optional = [column for column in columns if column not in required]
    bad_rows = csv_batches.counting(account, export.participant, export, name)
    for batch in csv_batches.read_batches(export, name, required, optional, delimiter=delimiter, ragged=bad_rows):
      texts = {column: fields(batch, column) for column in columns}
      records = [
        {
          column: text if column in ("timestamp", "bpm", "bedtime_start", "sleep_phase_5_min") else parsed(text)
          for column, text in zip(columns, values, strict=True)
        }
        for values in zip(*texts.values(), strict=True)
      ]
      places: list[_Place] = [("row", row) for row in batch.numbers().tolist()]
      yield from readings(_rows(kind, records, places), export.participant, where, account)


def _table(export: Export, name: str) -> tuple[str, str] | None:
  """The kind of a table, and its delimiter; None if it is not Oura's."""
  for delimiter in (";", ","):
    try:
      header = set(csv_batches.read_header(export, name, delimiter))
    except SchemaError:
      return None
    for kind, (required, _) in _TABLES.items():
      if header.issuperset(required):
        return kind, delimiter
  return None


def _lists(content: Any) -> Iterator[Iterator[Row | Unexpected]]:
  known = [key for keys in _LISTS.values() for key in keys]
  if not isinstance(content, dict):
    yield iter([Unexpected((), "not a JSON object")])
    return
  if not content.keys() & {*known}:
    yield iter([Unexpected((), f"none of the lists {', '.join(known)}", damaged=False)])
    return
  for kind, keys in _LISTS.items():
    for key in keys:
      found = content.get(key)
      records, odd = (
        members(found, "data", (key,)) if isinstance(found, dict) else members(content, key, ()) if found else ([], [])
      )
      yield iter(odd)
      yield _rows(kind, records, [(key, n) for n in range(1, len(records) + 1)])


def _rows(kind: str, records: Sequence[Any], places: Sequence[_Place]) -> Iterator[Row | Unexpected]:
  if kind == "heart":
    at, offsets = instants([entry(record, "timestamp") for record in records])
    for record, place, start, offset in zip(records, places, at, offsets, strict=True):
      yield Row("heart_rate", "bpm", start, start, number(entry(record, "bpm")), offset, place=place)
    return
  for record, place in zip(records, places, strict=True):
    if not isinstance(record, dict):
      yield Unexpected(place, "not a JSON object")
      continue
    if kind == "activity":
      yield from _series("mets", "MET", record.get("met"), (*place, "met"))
      continue
    yield from _series("heart_rate", "bpm", record.get("heart_rate"), (*place, "heart_rate"))
    yield from _series("hrv_rmssd", "ms", record.get("hrv"), (*place, "hrv"))
    (start,), (offset,) = instants([record.get("bedtime_start")])
    phases = record.get("sleep_phase_5_min")
    if phases is not None and not isinstance(phases, str):
      yield Unexpected((*place, "sleep_phase_5_min"), "not a text of phases")
      continue
    for n, phase in enumerate((phases or "").strip('"')):
      begin = start + _FIVE_MINUTES * n
      in_night = (*place, "sleep_phase_5_min", n + 1)
      yield Row("asleep", "", begin, begin + _FIVE_MINUTES, _ASLEEP.get(phase, _NAN), offset, place=in_night)


def _series(signal: str, unit: str, content: Any, place: _Place) -> Iterator[Row | Unexpected]:
  """The values that were measured, each at its time."""
  if content is None:  # nothing was measured
    return
  values, odd = members(content, "items", place)
  yield from odd
  seconds = number(entry(content, "interval"))
  interval = 1000 * seconds if 0 < seconds <= _LONGEST_INTERVAL else _NAN
  (start,), (offset,) = instants([entry(content, "timestamp")])
  for n, value in enumerate(values):
    if value is not None:
      at = start + interval * n
      yield Row(signal, unit, at, at, number(value), offset, place=(*place, "items", n + 1))
