"""Huawei Health, "Request your data" (https://privacy.consumer.huawei.com): JSON files of one person.

health detail data*.json             [{"timeZone": "+0200", "samplePoints": [{"key", "value", "startTime", "endTime"}]}]
  Times are ms since 1970 UTC. By key: DATA_POINT_DYNAMIC_HEARTRATE bpm; BLOOD_OXYGEN_SATURATION %;
  PROFESSIONAL_SLEEP_DEEP, _SHALLOW, _DREAM (REM) and _NOON (a nap) asleep, _WAKE awake; the same of older watches,
  SLEEP_DEEP, SLEEP_LIGHT and SLEEP_AWAKE
sport per minute merged data*.json   [{"sportDataUserData": [{"startTime", "endTime", "timeZone", "deviceCode",
  "sportBasicInfos": [{"steps", "distance"}]}]}]: steps, and m, of a minute
Files may also be in folders of these names, as "data.json". The wall clock is that of timeZone. Each export has a table
that describes its fields; the keys here are those on which readers of real exports agree. Where two devices counted one
minute, one of them counts. Not read: calorie (its unit differs between versions), resting heart rate, stress, workouts,
places, and all other keys, which are counted.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from data_pipelines.ingest.importers.apps.rows import (
  Row,
  Unexpected,
  entry,
  members,
  number,
  offset_minutes,
  readings,
)
from data_pipelines.ingest.reading.account import Account
from data_pipelines.ingest.reading.export_files import Export
from data_pipelines.ingest.reading.readings import Readings
from data_pipelines.ingest.reading.signals import Signal, common_signal

_KEYS = {"DATA_POINT_DYNAMIC_HEARTRATE": ("heart_rate", "bpm"), "BLOOD_OXYGEN_SATURATION": ("spo2", "%")}
_ASLEEP = {
  **dict.fromkeys(("DEEP", "SHALLOW", "DREAM", "NOON"), 1.0),
  "WAKE": 0.0,
}
_STAGES = {f"PROFESSIONAL_SLEEP_{stage}": value for stage, value in _ASLEEP.items()}
_STAGES |= {"SLEEP_DEEP": 1.0, "SLEEP_LIGHT": 1.0, "SLEEP_AWAKE": 0.0}
_DETAIL = re.compile(r"(.*/)?(health detail data[^/]*\.json|health detail data[^/]*/[^/]*\.json)", re.IGNORECASE)
_SPORT = re.compile(
  r"(.*/)?(sport per minute merged data[^/]*\.json|sport per minute merged data[^/]*/[^/]*\.json)", re.IGNORECASE
)


class Huawei:
  """Reads Huawei Health's JSON files; the module's docstring lists them."""

  signals: Sequence[Signal] = (
    common_signal("heart_rate"),
    common_signal("steps", high=1000),
    common_signal("distance", high=2000),
    common_signal("spo2"),
    common_signal("asleep"),
  )
  devices: Sequence[str] = ()
  beside: Sequence[str] = ()

  def files(self, export: Export) -> list[str]:
    return [name for name in export.names if _DETAIL.fullmatch(name) or _SPORT.fullmatch(name)]

  def read(self, export: Export, name: str, account: Account) -> Iterator[Readings]:
    where = export.where(name)
    damaged = lambda place, why: account.damaged(export.participant, why, where, place)
    first = 1
    for block in export.json_items(name, damaged):
      numbered = enumerate(block, start=first)
      rows = _details(numbered, export.participant, account) if _DETAIL.fullmatch(name) else _minutes(numbered)
      yield from readings(rows, export.participant, where, account)
      first += len(block)


def _details(records: Iterable[tuple[int, Any]], participant: str, account: Account) -> Iterator[Row | Unexpected]:
  for n, record in records:
    offset = offset_minutes(entry(record, "timeZone"))
    points, odd = members(record, "samplePoints", ("record", n))
    yield from odd
    for k, point in enumerate(points, start=1):
      key = entry(point, "key")
      start, end = number(entry(point, "startTime")), number(entry(point, "endTime"))
      if isinstance(key, str) and key in _STAGES:
        yield Row("asleep", "", start, end, _STAGES[key], offset, place=("record", n, "samplePoints", k))
      elif isinstance(key, str) and key in _KEYS:
        place = ("record", n, "samplePoints", k)
        yield Row(*_KEYS[key], start, start, number(entry(point, "value")), offset, place=place)
      else:
        account.pass_over(participant, key if isinstance(key, str) else "point without a key")


def _minutes(records: Iterable[tuple[int, Any]]) -> Iterator[Row | Unexpected]:
  for n, record in records:
    spans, odd = members(record, "sportDataUserData", ("record", n))
    yield from odd
    for k, span in enumerate(spans, start=1):
      start, end = number(entry(span, "startTime")), number(entry(span, "endTime"))
      offset = offset_minutes(entry(span, "timeZone"))
      device = f"device {entry(span, 'deviceCode')}"
      place = ("record", n, "sportDataUserData", k)
      infos, odd = members(span, "sportBasicInfos", place)
      yield from odd
      for info in infos:
        if not isinstance(info, dict):
          yield Unexpected((*place, "sportBasicInfos"), "not a JSON object")
        for key, unit in (("steps", "steps"), ("distance", "m")):
          if entry(info, key) is not None:
            yield Row(key, unit, start, end, number(entry(info, key)), offset, device, place)
