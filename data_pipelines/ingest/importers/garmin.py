"""Garmin: FIT files as a watch writes them, and the account's export ("Export Your Data").

FIT files (https://developer.garmin.com/fit, profile of garmin-fit-sdk), by message. Times are UTC; the wall clock comes
from local_timestamp of `monitoring_info` or `activity` where present:
  monitoring (55): heart_rate (bpm), intensity (0 to 7; a motion_intensity), and running totals per activity type (see
    monitoring.py) of steps, distance (m), active_calories (kcal), active_time (s); the time is timestamp, or
    timestamp_16, its lower half
  record (20), during workouts: heart_rate (bpm), enhanced_respiration_rate (1/min)
  stress_level (227): stress_level_time, stress_level_value (0 to 100; negative: could not be measured)
  respiration_rate (297): respiration_rate (1/min; negative: could not be measured)
  hrv_value (371): value (ms), the RMSSD over five minutes
  spo2_data (269): reading_spo2 (%)
  sleep_level (275): sleep_level, the stage that begins: unmeasurable, awake, light, deep, rem
  session (18): start_time, total_elapsed_time (s), sport, sub_sport: a workout
  file_id (0): garmin_product or manufacturer, the device. Serial numbers, positions and the profile are not read.

The account export (https://www.garmin.com/account/datamanagement, "Export Your Data"):
  DI_CONNECT/DI-Connect-Uploaded-Files/*.zip: all FIT files; files of other formats and damaged ones are counted
  DI_CONNECT/DI-Connect-Wellness/*_sleepData.json: sleepStartTimestampGMT, sleepEndTimestampGMT: a stretch "sleep"
  DI_CONNECT/DI-Connect-Aggregator/UDSFile_*.json: daily sums only, nothing per minute; not read
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

import numpy as np

from data_pipelines.errors import SchemaError
from data_pipelines.ingest.importers import fit
from data_pipelines.ingest.importers.monitoring import FIELDS, Totals
from data_pipelines.ingest.reading.account import Account
from data_pipelines.ingest.reading.export_files import Export
from data_pipelines.ingest.reading.readings import Readings, Stretch
from data_pipelines.ingest.reading.signals import Signal, common_signal

_SAMPLES = {  # message number: (field, signal)
  fit.NUMBER["MONITORING"]: (("heart_rate", "heart_rate"), ("intensity", "motion_intensity")),
  fit.NUMBER["RECORD"]: (("heart_rate", "heart_rate"), ("enhanced_respiration_rate", "respiratory_rate")),
  fit.NUMBER["STRESS_LEVEL"]: (("stress_level_value", "stress"),),
  fit.NUMBER["RESPIRATION_RATE"]: (("respiration_rate", "respiratory_rate"),),
  fit.NUMBER["HRV_VALUE"]: (("value", "hrv_rmssd"),),
  fit.NUMBER["SPO2_DATA"]: (("reading_spo2", "spo2"),),
}
_ASLEEP = {"awake": 0.0, "light": 1.0, "deep": 1.0, "rem": 1.0}
_LONGEST_STAGE = 4 * 3600  # seconds; two levels further apart belong to different sleeps
_READ_MESSAGES = (*_SAMPLES, *(fit.NUMBER[name] for name in ("FILE_ID", "MONITORING_INFO", "ACTIVITY", "SESSION")))
_READ_MESSAGES += (fit.NUMBER["SLEEP_LEVEL"],)
_LONGEST_WORKOUT = 14 * 86_400  # seconds
_VAGUE = ("generic", "training", "fitness_equipment")  # sports whose sub-sport is more specific

_UPLOADS = "DI-Connect-Uploaded-Files/*.zip"
_SLEEP = "DI-Connect-Wellness/*_sleepData.json"


class Garmin:
  """Reads Garmin's FIT files and account export; the module's docstring lists the fields."""

  signals: Sequence[Signal] = (
    common_signal("heart_rate"),
    common_signal("steps"),
    common_signal("distance"),
    common_signal("active_calories"),
    Signal("motion_intensity", "", "ACC", low=0, high=7),
    common_signal("stress"),
    common_signal("respiratory_rate"),
    common_signal("hrv_rmssd"),
    common_signal("spo2"),
    common_signal("asleep"),
  )
  devices: Sequence[str] = ()
  beside: Sequence[str] = ()

  def files(self, export: Export) -> list[str]:
    return export.matching("*.fit", _UPLOADS, _SLEEP)

  def read(self, export: Export, name: str, account: Account) -> Iterator[Readings | Stretch]:
    if name.lower().endswith(".json"):
      yield from _sleeps(export, name, account)
    elif name.lower().endswith(".zip"):
      yield from _uploads(export, name, account)
    else:
      yield from _fit(export, name, export.where(name), export.participant, account)


def _fit(export: Export, name: str, where: str, participant: str, account: Account) -> Iterator[Readings | Stretch]:
  with export.open(name) as file:
    data = file.read(fit.MOST_BYTES + 1)
  yield from _File(fit.read(data, _READ_MESSAGES, where), participant, where, account).all()


def _uploads(export: Export, name: str, account: Account) -> Iterator[Readings | Stretch]:
  """Reads the FIT files of a zip inside the export; damaged ones are counted, as nobody can remove them."""
  with export.inside(name) as uploads:
    for inner in uploads.names:
      where = f"{export.where(name)}/{_nameless(inner)}"
      if not inner.lower().endswith(".fit"):
        account.add(export.participant)
        account.drop(export.participant, "uploaded file that is not in FIT format", where=where)
        continue
      try:
        readings = list(_fit(uploads, inner, where, export.participant, account))
      except SchemaError:
        account.add(export.participant)
        account.drop(export.participant, "damaged uploaded FIT file", where=where)
        continue
      yield from readings


def _nameless(name: str) -> str:
  """Removes the e-mail address with which Garmin begins a file's name."""
  return re.sub(r"[^/]*@[^/_]*", "*", name)


class _File:
  """Turns one decoded FIT file into readings."""

  def __init__(self, messages: Sequence[fit.Message], participant: str, where: str, account: Account):
    self._messages = messages
    self._participant = participant
    self._where = where
    self._account = account
    self._device = next((_device(m.fields) for m in messages if m.number == fit.NUMBER["FILE_ID"]), "")
    self._moments, self._ahead = fit.wall_clocks(messages)
    self._totals: Totals | None = None
    self._values: dict[str, list[tuple[int, int, float]]] = {}

  def all(self) -> Iterator[Readings | Stretch]:
    """Yields the workouts of the file, then one block of readings per signal."""
    levels = []
    for row, message in enumerate(self._messages, 1):
      if message.number == fit.NUMBER["SESSION"]:
        yield from self._workout(message, row)
      elif message.number == fit.NUMBER["SLEEP_LEVEL"]:
        levels.append((message, row))
      elif message.number in _SAMPLES:
        self._sample(message, row)
    self._sleep(levels)
    for signal in Garmin.signals:
      if signal.name in self._values:
        yield self._readings(signal)

  def _sample(self, message: fit.Message, row: int) -> None:
    fields = [(field, signal) for field, signal in _SAMPLES[message.number] if fit.is_number(message.fields.get(field))]
    monitoring = message.number == fit.NUMBER["MONITORING"]
    totals = monitoring and any(fit.is_number(message.fields.get(field)) for field in FIELDS)
    if not fields and not totals:
      return
    self._account.add(self._participant)
    if message.time is None:
      self._drop("message without a date", row)
      return
    why = self._add_totals(message.time, message) if totals else ""
    for field, signal in fields:
      if message.fields[field] < 0:
        why = why or "marked as not measurable by the device"
      else:
        self._add(signal, message.time, message.time, message.fields[field])
        why = ""
    if why:
      self._drop(why, row)

  def _add_totals(self, time: int, message: fit.Message) -> str:
    if self._totals is None:
      first = next(m.time for m in self._messages if m.time is not None and m.number != fit.NUMBER["FILE_ID"])
      self._totals = Totals(first, 60 * int(self._ahead[0]) if len(self._ahead) else None)
    added, why = self._totals.add(time, message)
    for addition in added:
      self._add(addition.signal, addition.start, addition.end, addition.value)
    return why

  def _sleep(self, levels: list[tuple[fit.Message, int]]) -> None:
    """A stage lasts until the next one. The last stage, and one before a long gap, counts for its own step only."""
    self._account.add(self._participant, len(levels))
    timed = []
    for message, row in levels:
      if message.time is None:
        self._drop("message without a date", row)
      else:
        timed.append((message.time, row, message.fields.get("sleep_level")))
    timed.sort(key=lambda level: level[:2])
    for i, (time, row, level) in enumerate(timed):
      if not isinstance(level, str) or level not in _ASLEEP:
        self._drop("unknown or unmeasurable sleep stage", row)
        continue
      end = timed[i + 1][0] if i + 1 < len(timed) else time
      self._add("asleep", time, end if end - time <= _LONGEST_STAGE else time, _ASLEEP[level])

  def _workout(self, message: fit.Message, row: int) -> Iterator[Stretch]:
    self._account.add(self._participant)
    start, duration = fit.seconds(message.fields.get("start_time")), message.fields.get("total_elapsed_time", -1)
    if start is None or not fit.is_number(duration) or not 0 < duration <= _LONGEST_WORKOUT:
      self._drop("workout without a start or duration", row)
      return
    offset = int(self._offsets(np.array([start]))[0]) if len(self._ahead) else None
    end = 1000 * start + round(1000 * duration)
    yield Stretch(self._participant, _sport(message.fields), 1000 * start, end, offset)

  def _readings(self, signal: Signal) -> Readings:
    start, end, value = (np.array(column) for column in zip(*self._values[signal.name], strict=True))
    offset = self._offsets(start) if len(self._ahead) else None
    start, end = 1000 * start.astype(np.int64), 1000 * end.astype(np.int64)
    value = value.astype(np.float64)
    return Readings(self._participant, signal.name, signal.unit, start, end, value, self._device, offset)

  def _offsets(self, moments: np.ndarray) -> np.ndarray:
    """Minutes ahead of UTC, from the last known offset before each moment, or else from the first."""
    return self._ahead[np.maximum(np.searchsorted(self._moments, moments, "right") - 1, 0)]

  def _add(self, signal: str, start: int, end: int, value: float) -> None:
    self._values.setdefault(signal, []).append((start, end, value))

  def _drop(self, why: str, row: int) -> None:
    self._account.drop(self._participant, why, where=f"{self._where} message {row}")


def _device(fields: dict[Any, Any]) -> Any:
  """The product's name, or the maker and product number if the profile has no name for it."""
  product, maker = fields.get("garmin_product"), fields.get("manufacturer")
  if fit.in_profile("garmin_product", product):
    return product
  number = f" {product}" if isinstance(product, int) else ""
  return f"{maker}{number}" if fit.in_profile("manufacturer", maker) else ""


def _sport(fields: dict[Any, Any]) -> Any:
  sport, sub = fields.get("sport"), fields.get("sub_sport")
  if sport in _VAGUE and fit.in_profile("sub_sport", sub) and sub != "generic":
    return sub
  return sport if fit.in_profile("sport", sport) else "other"


def _sleeps(export: Export, name: str, account: Account) -> Iterator[Stretch]:
  nights = export.json(name)
  if not isinstance(nights, list):
    raise SchemaError(f"{export.where(name)}: holds a JSON {type(nights).__name__}, expected a list of nights")
  for row, night in enumerate(nights, 1):
    account.add(export.participant)
    night = night if isinstance(night, dict) else {}
    start, end = (_utc(night.get(f"sleep{side}TimestampGMT")) for side in ("Start", "End"))
    if start is None or end is None or end <= start:
      account.drop(export.participant, "night without a start and an end", where=export.where(name, row))
    else:
      yield Stretch(export.participant, "sleep", start, end)


def _utc(text: Any) -> int | None:
  """Converts text such as "2026-01-14T22:00:00.0" to milliseconds since 1970; None if it is not a time."""
  try:
    return round(1000 * datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp())
  except (TypeError, ValueError):
    return None
