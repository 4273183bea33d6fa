"""Polar Flow, "Download your data" (https://account.polar.com): JSON files of one person.

  247ohr_*.json     {"deviceDays": [{"date", "samples": [{"heartRate", "secondsFromDayStart"}]}]}: bpm
  activity-*.json   {"date", "samples": {"steps": [{"localTime", "value"}], "mets": [{"localTime", "value"}]}}: steps
                    in the minute from localTime on, and metabolic equivalents
  account-data-*.json   {"username"}: whose the folder is
All times are of the wall clock, without a zone. Polar describes the same values for its API
(https://www.polar.com/accesslink-api), and not the files; their shape is that on which readers of real exports agree.
Whether a minute of steps begins or ends at localTime is said nowhere. Samples of MET without a time, which some exports
have, are dropped. Not read: training sessions, nights, nightly recharge, intervals between beats.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

from data_pipelines.errors import SchemaError
from data_pipelines.ingest.importers.apps.rows import (
  NO_TIME,
  Row,
  Unexpected,
  entry,
  instants,
  members,
  number,
  readings,
)
from data_pipelines.ingest.reading.account import Account
from data_pipelines.ingest.reading.clocks import MINUTE
from data_pipelines.ingest.reading.export_files import Export, base_name
from data_pipelines.ingest.reading.owners import Owner, loose_places
from data_pipelines.ingest.reading.readings import Readings
from data_pipelines.ingest.reading.signals import Signal, common_signal

_DAY = 86_400  # seconds
_HEART = re.compile(r"247ohr_.*\.json", re.IGNORECASE)
_ACTIVITY = re.compile(r"activity-\d{4}-\d\d-\d\d.*\.json", re.IGNORECASE)


class Polar:
  """Reads Polar Flow's JSON files; the module's docstring lists them."""

  signals: Sequence[Signal] = (
    common_signal("heart_rate"),
    common_signal("steps", high=1000),
    common_signal("mets"),
  )
  devices: Sequence[str] = ()
  beside: Sequence[str] = ("account-data-*.json",)

  def files(self, export: Export) -> list[str]:
    return [name for name in export.names if _HEART.fullmatch(base_name(name)) or _ACTIVITY.fullmatch(base_name(name))]

  def owners(self, export: Export, names: Sequence[str]) -> dict[str, Owner]:
    folders = {name: name.rpartition("/")[0] for name in names}
    accounts = {folder: _account(export, folder) for folder in {*folders.values()}}
    places = loose_places(names)
    return {
      n: Owner(folders[n], f"polar {accounts[folders[n]]}") if accounts[folders[n]] else Owner(places[n]) for n in names
    }

  def read(self, export: Export, name: str, account: Account) -> Iterator[Readings]:
    rows = _heart_rates if _HEART.fullmatch(base_name(name)) else _activity
    yield from readings(rows(export.json(name)), export.participant, export.where(name), account, clock="wall")


def _account(export: Export, folder: str) -> str:
  """The user name in a folder's account data; "" if there is none."""
  for name in export.matching("account-data-*.json"):
    if name.rpartition("/")[0] == folder:
      try:
        username = entry(export.json(name), "username")
      except SchemaError:
        return ""
      return username if isinstance(username, str) else ""
  return ""


def _heart_rates(content: Any) -> Iterator[Row | Unexpected]:
  days, odd = members(content, "deviceDays", ())
  yield from odd
  midnights = _midnights([entry(day, "date") for day in days])
  for n, (day, midnight) in enumerate(zip(days, midnights, strict=True), start=1):
    samples, odd = members(day, "samples", ("deviceDays", n))
    yield from odd
    for k, sample in enumerate(samples, start=1):
      seconds = number(entry(sample, "secondsFromDayStart"))
      at = midnight + 1000 * seconds if 0 <= seconds < _DAY else NO_TIME  # on another day it would be another's
      place = ("deviceDays", n, "samples", k)
      yield Row("heart_rate", "bpm", at, at, number(entry(sample, "heartRate")), place=place)


def _activity(content: Any) -> Iterator[Row | Unexpected]:
  (midnight,) = _midnights([entry(content, "date")])
  if not isinstance(content, dict):
    yield Unexpected((), "not a JSON object")
    return
  samples = {} if content.get("samples") is None else content["samples"]
  if not isinstance(samples, dict):
    yield Unexpected(("samples",), "not a JSON object")
    return
  if not {"steps", "mets"} & samples.keys():
    yield Unexpected(("samples",), "a day with neither steps nor mets", damaged=False)
    return
  for key, unit, duration in (("steps", "steps", MINUTE), ("mets", "MET", 0)):
    values, odd = members(samples, key, ("samples",)) if key in samples else ([], [])
    yield from odd
    for n, sample in enumerate(values, start=1):
      at = midnight + _since_midnight(entry(sample, "localTime"))
      yield Row(key, unit, at, at + duration, number(entry(sample, "value")), place=(key, n))


def _midnights(dates: Sequence[Any]) -> list[float]:
  """The beginning of each date on the wall clock, ms; NaN where there is none."""
  return instants([f"{date}T00:00:00Z" for date in dates])[0]


def _since_midnight(time: Any) -> float:
  match = re.fullmatch(r"([01]\d|2[0-3]):([0-5]\d):([0-5]\d)(\.\d{1,6})?", time) if isinstance(time, str) else None
  if not match:
    return NO_TIME
  return 1000 * (3600 * int(match[1]) + 60 * int(match[2]) + int(match[3]) + float(match[4] or 0))
