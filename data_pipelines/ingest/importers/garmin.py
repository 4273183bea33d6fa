"""Garmin: FIT files as a watch writes them, and the account's export ("Export Your Data").

FIT files (https://developer.garmin.com/fit, profile of garmin-fit-sdk), by message; other makers write them too. Times
are UTC; the wall clock comes from local_timestamp of `monitoring_info`, `activity` or `timestamp_correlation`:
  monitoring (55): heart_rate (bpm), intensity (0 to 7; a motion_intensity), and running totals per activity type (see
    monitoring.py) of cycles or cycles_16 (two steps each for walking and running, nothing for others), distance or
    distance_16 (m), active_calories (kcal), active_time or active_time_16 (s). activity_type and intensity may be
    packed into current_activity_type_intensity; the time is timestamp, or timestamp_16, its lower half
  record (20), during workouts: heart_rate (bpm), enhanced_respiration_rate or respiration_rate (1/min)
  hr (132), of a chest strap: filtered_bpm (bpm) at event_timestamp or event_timestamp_12; before other heart rates
  stress_level (227): stress_level_time, stress_level_value (0 to 100; negative: could not be measured)
  respiration_rate (297): respiration_rate (1/min; negative: could not be measured)
  hrv_value (371): value (ms), the RMSSD over five minutes
  spo2_data (269): reading_spo2 (%)
  hsa_heart_rate_data (308), hsa_stress_data (306), hsa_respiration_data (307), hsa_spo2_data (305),
    hsa_body_battery_data (314), hsa_wrist_temperature_data (409): as many values as there are, spread evenly over
    processing_interval (s) from timestamp; negative, or 0 where no measurement can be 0: blank
  sleep_level (275): sleep_level, the stage that begins: unmeasurable, awake, light, deep, rem
  session (18): start_time, total_elapsed_time (s), sport, sub_sport: a workout
  file_id (0): manufacturer and product, the device. Serial numbers, positions and the profile are not read.
Not read: hrv (78), beat_intervals (290), raw_bbi (372) and other intervals between beats; hsa_step_data (304), of which
no document says since when its sums count; and all other messages, which the account names.

Files that were not closed, are cut off or hold bytes that are no FIT are read up to there; what is lost is counted with
its first byte.

The account export (https://www.garmin.com/account/datamanagement, "Export Your Data"):
  DI_CONNECT/DI-Connect-Uploaded-Files/*.zip: all FIT files; files of other formats are counted
  DI_CONNECT/DI-Connect-Wellness/*_sleepData.json: sleepStartTimestampGMT, sleepEndTimestampGMT: a stretch "sleep"
  DI_CONNECT/DI-Connect-Aggregator/UDSFile_*.json: daily sums only, nothing per minute; not read
"""

from __future__ import annotations

import collections
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import numpy as np

from data_pipelines.errors import SchemaError
from data_pipelines.ingest.importers import fit
from data_pipelines.ingest.importers.monitoring import FIELDS, Totals
from data_pipelines.ingest.reading.account import UNREADABLE, Account
from data_pipelines.ingest.reading.export_files import Export
from data_pipelines.ingest.reading.owners import Owner
from data_pipelines.ingest.reading.readings import Readings, Stretch
from data_pipelines.ingest.reading.signals import Signal, common_signal

_SAMPLES = {  # message number: (field, signal)
  fit.NUMBER["MONITORING"]: (("heart_rate", "heart_rate"), ("intensity", "motion_intensity")),
  fit.NUMBER["RECORD"]: (
    ("heart_rate", "heart_rate"),
    ("respiration_rate", "respiratory_rate"),
    ("enhanced_respiration_rate", "respiratory_rate"),
  ),
  fit.NUMBER["STRESS_LEVEL"]: (("stress_level_value", "stress"),),
  fit.NUMBER["RESPIRATION_RATE"]: (("respiration_rate", "respiratory_rate"),),
  fit.NUMBER["HRV_VALUE"]: (("value", "hrv_rmssd"),),
  fit.NUMBER["SPO2_DATA"]: (("reading_spo2", "spo2"),),
}
_SERIES = {  # message number: field with several values, signal
  fit.NUMBER["HSA_HEART_RATE_DATA"]: ("heart_rate", "heart_rate"),
  fit.NUMBER["HSA_STRESS_DATA"]: ("stress_level", "stress"),
  fit.NUMBER["HSA_RESPIRATION_DATA"]: ("respiration_rate", "respiratory_rate"),
  fit.NUMBER["HSA_SPO2_DATA"]: ("reading_spo2", "spo2"),
  fit.NUMBER["HSA_BODY_BATTERY_DATA"]: ("level", "body_battery"),
  fit.NUMBER["HSA_WRIST_TEMPERATURE_DATA"]: ("value", "skin_temperature"),
}
_WANTED = {
  **{number: tuple(field for field, _ in fields) for number, fields in _SAMPLES.items()},
  **{number: ("processing_interval", field) for number, (field, _) in _SERIES.items()},
  fit.NUMBER["MONITORING"]: (
    *("heart_rate", "intensity", "activity_type", "current_activity_type_intensity", "timestamp_16"),
    *FIELDS,
    *("active_time", "active_time_16"),
  ),
  fit.NUMBER["STRESS_LEVEL"]: ("stress_level_value", "stress_level_time"),
  fit.NUMBER["HR"]: ("filtered_bpm", "event_timestamp", "event_timestamp_12", "fractional_timestamp", "time256"),
  fit.NUMBER["SLEEP_LEVEL"]: ("sleep_level",),
  fit.NUMBER["SESSION"]: ("start_time", "total_elapsed_time", "sport", "sub_sport"),
  **dict.fromkeys(fit.BOTH_CLOCKS, ("local_timestamp",)),
  fit.NUMBER["FILE_ID"]: ("manufacturer", "product"),
}
_ASLEEP = {"awake": 0.0, "light": 1.0, "deep": 1.0, "rem": 1.0}
_LONGEST_STAGE = 4 * 3600  # seconds; two levels further apart belong to different sleeps
_UNTIMED = (fit.NUMBER["FILE_ID"], fit.NUMBER["ACTIVITY"])  # messages whose time is not when the file starts
_NOT_MEASURED = "marked as not measurable by the device"
_STRAP = "chest strap"
# Kinds of messages without a reading, which are not told as unread.
_ABOUT_THE_FILE = {"file_creator", "device_info", "device_settings", "developer_data_id", "field_description"}
_ABOUT_THE_FILE |= {"user_profile", "software", "capabilities", "file_capabilities", "mesg_capabilities", "sport"}
_GARMIN = ("garmin", "dynastream", "dynastream_oem", "tacx")  # makers whose products the profile names
_LONGEST_WORKOUT = 14 * 86_400  # seconds
_LONGEST_INTERVAL = 3600  # seconds of values in one message
_VAGUE = ("generic", "training", "fitness_equipment")  # sports whose sub-sport is more specific

_ACCOUNT = re.compile(r"(?:.*/)?DI_CONNECT/", re.IGNORECASE)
_ACCOUNT_NUMBER = re.compile(r"\d{4}-\d\d-\d\d_\d{4}-\d\d-\d\d_(\d{4,})_sleepData", re.IGNORECASE)
_BEGINNING = 1024  # bytes of a FIT file, which hold its file_id
# Programs write one number for everybody.
_MAKERS_OF_DEVICES = (
  *("garmin", "garmin_fr405_antfs", "dynastream", "suunto", "wahoo_fitness", "polar_electro", "bryton", "coros"),
)
_UPLOADS = "DI-Connect-Uploaded-Files/*.zip"
_SLEEP = "DI-Connect-Wellness/*_sleepData.json"


class Garmin:
  """Reads Garmin's FIT files and account export; the module's docstring lists the fields."""

  signals: Sequence[Signal] = (
    common_signal("heart_rate"),
    common_signal("steps"),
    common_signal("distance"),
    common_signal("active_calories"),
    common_signal("motion_intensity", high=7),
    common_signal("stress"),
    common_signal("respiratory_rate"),
    common_signal("hrv_rmssd"),
    common_signal("spo2"),
    common_signal("body_battery"),
    common_signal("skin_temperature"),
    common_signal("asleep"),
  )
  devices: Sequence[str] = (_STRAP,)
  beside: Sequence[str] = ()
  not_read_because: Mapping[str, str] = dict.fromkeys(("udsfile_*.json",), "sums of a day")

  def files(self, export: Export) -> list[str]:
    return export.matching("*.fit", _UPLOADS, _SLEEP)

  def owners(self, export: Export, names: Sequence[str]) -> dict[str, Owner]:
    accounts = {name: match[0].rstrip("/") for name in names if (match := _ACCOUNT.match(name))}
    owner_of = {place: _account_owner(place, names) for place in {*accounts.values()}}
    loose: dict[str, dict[str, str]] = {}  # serial numbers of the devices, by folder and file
    for name in names:
      if name not in accounts:
        loose.setdefault(name.rpartition("/")[0], {})[name] = _serial_number(export, name)
    owners = {name: owner_of[place] for name, place in accounts.items()}
    for folder, serials in loose.items():
      several = len({*serials.values()} - {""}) > 1
      for name, serial in serials.items():
        own = {serial} if several else {*serials.values()}
        marks = frozenset(f"garmin {number}" for number in own if number)
        owners[name] = Owner(folder, marks=marks)
    return owners

  def read(self, export: Export, name: str, account: Account) -> Iterator[Readings | Stretch]:
    if name.lower().endswith(".json"):
      yield from _sleeps(export, name, account)
    elif name.lower().endswith(".zip"):
      yield from _uploads(export, name, account)
    else:
      yield from _fit(export, name, export.where(name), export.participant, account)


def _account_owner(place: str, names: Sequence[str]) -> Owner:
  """The account whose number is in the names of an export's files."""
  numbers = {match[1] for name in names if name.startswith(place) and (match := _ACCOUNT_NUMBER.search(name))}
  return Owner(place, account=f"garmin {numbers.pop()}" if len(numbers) == 1 else "")


def _serial_number(export: Export, name: str) -> str:
  """The serial number of the device that wrote a FIT file; "" if it is not there, or of a program that has none."""
  if not name.lower().endswith(".fit"):
    return ""
  try:
    with export.open(name) as file:
      wanted = {fit.NUMBER["FILE_ID"]: ("serial_number", "manufacturer")}
      messages = fit.read(file.read(_BEGINNING), wanted, name).messages
  except SchemaError:
    return ""  # reading it says what is wrong
  fields = messages[0].fields if messages else {}
  number, maker = fields.get("serial_number"), fields.get("manufacturer")
  return f"{maker} {number}" if number and maker in _MAKERS_OF_DEVICES else ""


def _fit(export: Export, name: str, where: str, participant: str, account: Account) -> Iterator[Readings | Stretch]:
  data = b""
  try:
    with export.open(name) as file:
      data = file.read(fit.MOST_BYTES + 1)
  except SchemaError as error:  # after what there is of a packed file that is cut off
    if not data:
      raise
    account.unreadable(participant, where, SchemaError(where + str(error).removeprefix(export.where(name))))
  content = fit.read(data, _WANTED, where)
  for fault in content.faults:
    report = account.damaged if fault.lost else account.mended
    report(participant, fault.why, where, f" from byte {fault.byte:,} on")
  for kind in sorted(content.others.keys() - _ABOUT_THE_FILE):
    account.pass_over(participant, f"FIT {kind}", content.others[kind])
  yield from _File(content.messages, participant, where, account).all()


def _uploads(export: Export, name: str, account: Account) -> Iterator[Readings | Stretch]:
  """Reads the FIT files of a zip inside the export."""
  with export.inside(name) as uploads:
    for inner in uploads.names:
      where = f"{export.where(name)}/{_nameless(inner)}"
      if not inner.lower().endswith(".fit"):
        account.add(export.participant)
        account.drop(export.participant, "uploaded file that is not in FIT format", where=where)
        continue
      try:
        yield from _fit(uploads, inner, where, export.participant, account)
      except SchemaError as error:
        if account.strict:
          raise
        why = str(error).removeprefix(uploads.where(inner)).removeprefix(where)
        account.damaged(export.participant, UNREADABLE, where, why if why.startswith(":") else "")


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
    start = next((m.time for m in messages if m.time is not None and m.number not in _UNTIMED), 0)
    self._totals = Totals(start, self._ahead_at)
    self._sums: dict[tuple[str, int, int], float] = collections.defaultdict(float)  # by signal, start and end
    self._values: dict[tuple[str, str], list[tuple[int, int, float]]] = {}  # by signal and device; ms since 1970

  def all(self) -> Iterator[Readings | Stretch]:
    """Yields the workouts of the file, then one block of readings per signal and device."""
    levels = []
    for message in self._messages:
      if message.number == fit.NUMBER["SESSION"]:
        yield from self._workout(message)
      elif message.number == fit.NUMBER["SLEEP_LEVEL"]:
        levels.append(message)
      elif message.number in _SAMPLES:
        self._sample(message)
      elif message.number in _SERIES:
        self._series(message)
    for (signal_name, start, end), value in self._sums.items():
      self._add(signal_name, start, end, value)
    self._strap()
    self._sleep(levels)
    for signal in Garmin.signals:
      for (name, device), values in self._values.items():
        if name == signal.name:
          yield self._readings(signal, device, values)

  def _sample(self, message: fit.Message) -> None:
    monitoring = message.number == fit.NUMBER["MONITORING"]
    if monitoring and message.time is not None and "activity_type" in message.fields:
      self._totals.pass_to(message.time)
    values = {
      signal: message.fields[field]
      for field, signal in _SAMPLES[message.number]
      if fit.is_number(message.fields.get(field))
    }
    totals = monitoring and any(fit.is_number(message.fields.get(field)) for field in FIELDS)
    if not values and not totals:
      return
    self._account.add(self._participant)
    if message.time is None:
      self._drop(message.undated, message)
      return
    why = self._add_totals(message.time, message) if totals else ""
    for signal, value in values.items():
      if value < 0:
        why = why or _NOT_MEASURED
      else:
        self._add(signal, message.time, message.time, value)
        why = ""
    if why:
      self._drop(why, message)

  def _add_totals(self, time: int, message: fit.Message) -> str:
    added, why = self._totals.add(time, message.fields)
    for addition in added:  # what two activities add at once is one reading, not two that might be duplicates
      self._sums[addition.signal, addition.start, addition.end] += addition.value
    return "" if added else why

  def _series(self, message: fit.Message) -> None:
    """Adds the values that a message holds for the seconds after its time."""
    field, signal = _SERIES[message.number]
    values = fit.several(message.fields.get(field))
    if not values:
      return
    self._account.add(self._participant, len(values))
    span = message.fields.get("processing_interval")
    span = span if fit.is_number(span) and 0 < span <= _LONGEST_INTERVAL else None
    if message.time is None or (span is None and len(values) > 1):
      why = message.undated or "values without the time that they are spread over"
      self._drop(why, message, len(values))
      return
    apart = (span or 0) / len(values)
    measured = [(place, value) for place, value in enumerate(values) if fit.is_number(value) and value >= 0]
    for place, value in measured:
      at = message.time + place * apart
      self._add(signal, at, at, value)
    self._drop(_NOT_MEASURED, message, len(values) - len(measured))

  def _strap(self) -> None:
    for message, beats in fit.strap_beats(self._messages):
      count = sum(fit.is_number(rate) for rate in fit.several(message.fields.get("filtered_bpm")))
      self._account.add(self._participant, count)
      self._drop("heart rate of a chest strap without a time", message, count - len(beats))
      for at, rate in beats:
        self._add("heart_rate", at / 1000, at / 1000, rate, _STRAP)

  def _sleep(self, levels: list[fit.Message]) -> None:
    """A stage lasts until the next one. The last stage, and one before a long gap, counts for its own step only."""
    self._account.add(self._participant, len(levels))
    timed = []
    for message in levels:
      if message.time is None:
        self._drop(message.undated, message)
      else:
        timed.append((message.time, message))
    timed.sort(key=lambda level: (level[0], level[1].row))
    for i, (time, message) in enumerate(timed):
      level = message.fields.get("sleep_level")
      if not isinstance(level, str) or level not in _ASLEEP:
        self._drop("unknown or unmeasurable sleep stage", message)
        continue
      end = timed[i + 1][0] if i + 1 < len(timed) else time
      self._add("asleep", time, end if end - time <= _LONGEST_STAGE else time, _ASLEEP[level])

  def _workout(self, message: fit.Message) -> Iterator[Stretch]:
    self._account.add(self._participant)
    start, duration = fit.seconds(message.fields.get("start_time")), message.fields.get("total_elapsed_time", -1)
    if start is None or not fit.is_number(duration) or not 0 < duration <= _LONGEST_WORKOUT:
      self._drop("workout without a start or duration", message)
      return
    offset = int(self._offsets(np.array([start]))[0]) if len(self._ahead) else None
    end = 1000 * start + round(1000 * duration)
    yield Stretch(self._participant, _sport(message.fields), 1000 * start, end, offset)

  def _readings(self, signal: Signal, device: str, values: list[tuple[int, int, float]]) -> Readings:
    columns = np.array(values, np.float64).T
    start, end = columns[0].astype(np.int64), columns[1].astype(np.int64)
    offset = self._offsets(start // 1000) if len(self._ahead) else None
    return Readings(self._participant, signal.name, signal.unit, start, end, columns[2].copy(), device, offset)

  def _offsets(self, moments: np.ndarray) -> np.ndarray:
    """Minutes ahead of UTC, from the last known offset before each moment, or else from the first."""
    return self._ahead[np.maximum(np.searchsorted(self._moments, moments, "right") - 1, 0)]

  def _ahead_at(self, time: int) -> int | None:
    return 60 * int(self._offsets(np.array([time]))[0]) if len(self._ahead) else None

  def _add(self, signal: str, start: float, end: float, value: float, device: str | None = None) -> None:
    """Adds a reading from `start` to `end`, in seconds since 1970."""
    readings = self._values.setdefault((signal, self._device if device is None else device), [])
    readings.append((round(1000 * start), round(1000 * end), value))

  def _drop(self, why: str, message: fit.Message, rows: int = 1) -> None:
    self._account.drop(self._participant, why, rows, f"{self._where} message {message.row}")


def _device(fields: dict[str, Any]) -> str:
  """The product's name, or the maker and product number if the profile has no name for it."""
  product, maker = fields.get("product"), fields.get("manufacturer")
  name = fit.name_of("garmin_product", product) if maker in _GARMIN else product
  if isinstance(name, str):
    return name
  number = f" {product}" if isinstance(product, int) else ""
  return f"{maker}{number}" if fit.in_profile("manufacturer", maker) else ""


def _sport(fields: dict[Any, Any]) -> Any:
  sport, sub = fields.get("sport"), fields.get("sub_sport")
  if sport in _VAGUE and fit.in_profile("sub_sport", sub) and sub != "generic":
    return sub
  return sport if fit.in_profile("sport", sport) else "other"


def _sleeps(export: Export, name: str, account: Account) -> Iterator[Stretch]:
  damaged: Callable[[str, str], None] = lambda place, why: account.damaged(
    export.participant, why, export.where(name), place
  )
  nights = (night for items in export.json_items(name, damaged) for night in items)
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
