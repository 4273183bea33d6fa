"""Samsung Health: "Download personal data" of the app's settings.

samsunghealth_NAME_DATE/ holds one CSV per data type, such as com.samsung.shealth.tracker.heart_rate.20240101120000.csv,
in UTF-8 with a byte order mark. Its first line names the type, a version and a number. The second names the columns;
those specific to the type have a prefix ("com.samsung.health.heart_rate.start_time"). Most rows end with a comma.
Fields and units are those of Samsung's Health Data SDK (developer.samsung.com/health/android/data/api-reference,
HealthConstants.HeartRate, .StepCount, .FloorsClimbed, .OxygenSaturation, .SleepStage, .Exercise, .BloodGlucose). The
types it omits (hrv, stress, movement, respiratory_rate, skin_temperature) and the export's own conventions have no
official documentation; they are read as they appear in users' exports.

- start_time, end_time: UTC, "2024-01-01 10:00:00.000", or milliseconds since 1970 in older exports.
- time_offset: how far the wall clock leads UTC, "UTC+0100", or milliseconds. Where it is in milliseconds and the times
  are text, as in exports to 2019, the times are on the wall clock (two public converters read them so).
- deviceuuid: the device. com.samsung.health.device_profile gives its device_group: 360001 is a phone, 360003 a watch.
  A watch's steps are preferred to a phone's. Nothing else is read from that file, which holds names and addresses.
- binning_data ("binning" for oxygen_saturation): the name of a JSON file, jsons/TYPE/0/UUID.binning_data.json, with a
  list of {"start_time": ms since 1970 UTC, "end_time": ms, "heart_rate": 62.0, ...}, one per minute. The CSV row then
  holds only their mean and is not read. If the file is missing, the row is dropped.
- heart_rate bpm; spo2 %; rmssd and sdnn ms; respiratory_rate and average 1/min; temperature and mean C; glucose mmol/L;
  score (stress) 0 to 100; activity_level (movement), without a unit. -1 means no value; it is out of range.
- count, distance (m) and calorie (kcal) of steps: one row per minute that has any, for the last months only. Earlier
  ones are in step_daily_trend, in bins of ten minutes (see samsung_trend).
- live_data: the name of a JSON file with the heart rates during a workout, like binning_data.
- sleep: a night from start_time to end_time, a stretch "sleep"; its stages, if any, are in sleep_stage.
- stage (sleep): 40001 awake, 40002 light, 40003 deep, 40004 REM.
- exercise_type: see samsung_exercises. An exercise that ends when it starts was never stopped.
"""

from __future__ import annotations

import contextlib
import dataclasses
import re
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Bool, Float64, Int64

from data_pipelines.errors import SchemaError
from data_pipelines.ingest.importers import samsung_exercises
from data_pipelines.ingest.importers.samsung_bins import bins
from data_pipelines.ingest.importers.samsung_fields import convert_texts, instants, is_number, mask, offset_minutes
from data_pipelines.ingest.importers.samsung_trend import TREND, trend_readings
from data_pipelines.ingest.importers.sources import DEVICES, Sources
from data_pipelines.ingest.reading.account import Account
from data_pipelines.ingest.reading.clocks import MINUTE
from data_pipelines.ingest.reading.csv_batches import CsvBatch, counting, parse_numbers, read_batches, read_header
from data_pipelines.ingest.reading.export_files import Export, base_name
from data_pipelines.ingest.reading.owners import Owner
from data_pipelines.ingest.reading.readings import Readings, Stretch
from data_pipelines.ingest.reading.signals import Signal, common_signal

_MOST_BINS = 1 << 16  # binned readings held in memory
_GROUPS = {"360001": "phone", "360003": "watch"}
_STAGES = {"40001": 0.0, "40002": 1.0, "40003": 1.0, "40004": 1.0}

_SIGNALS = (
  common_signal("heart_rate"),
  common_signal("hrv_rmssd"),
  common_signal("hrv_sdnn"),
  common_signal("spo2"),
  common_signal("respiratory_rate"),
  common_signal("skin_temperature"),
  common_signal("stress"),
  common_signal("steps"),
  common_signal("distance"),
  common_signal("active_calories"),
  common_signal("floors"),
  common_signal("movement"),
  common_signal("glucose"),
  common_signal("asleep"),
)
_UNITS = {signal.name: signal.unit for signal in _SIGNALS}


@dataclasses.dataclass(frozen=True)
class _Type:
  """The fields that are read from a data type: CSV columns and keys of binned data by signal, without prefix."""

  prefix: str = ""
  columns: Mapping[str, str] = dataclasses.field(default_factory=dict)
  binned: Mapping[str, str] = dataclasses.field(default_factory=dict)
  binning: str = "binning_data"


_STEPS = _Type("step_count", {"steps": "count", "distance": "distance", "active_calories": "calorie"})
_HEART = _Type("heart_rate", {"heart_rate": "heart_rate"}, {"heart_rate": "heart_rate"})
_SLEEP = _Type("sleep_stage", {"asleep": "stage"})
_EXERCISE = _Type("exercise", {"": "exercise_type"}, {"heart_rate": "heart_rate"}, "live_data")
_NIGHT = _Type("sleep")
_STRETCHES = (_EXERCISE, _NIGHT)
_TYPES = {
  "com.samsung.shealth.tracker.heart_rate": _HEART,
  "com.samsung.health.heart_rate": _HEART,
  "com.samsung.shealth.tracker.pedometer_step_count": _STEPS,
  "com.samsung.health.step_count": _STEPS,
  "com.samsung.health.floors_climbed": _Type("floors_climbed", {"floors": "floor"}),
  "com.samsung.shealth.tracker.oxygen_saturation": _Type(
    "oxygen_saturation", {"spo2": "spo2"}, {"spo2": "spo2"}, "binning"
  ),
  "com.samsung.health.hrv": _Type("hrv", {}, {"hrv_rmssd": "rmssd", "hrv_sdnn": "sdnn"}),
  "com.samsung.health.respiratory_rate": _Type(
    "respiratory_rate", {"respiratory_rate": "average"}, {"respiratory_rate": "respiratory_rate"}
  ),
  "com.samsung.health.skin_temperature": _Type(
    "skin_temperature", {"skin_temperature": "temperature"}, {"skin_temperature": "mean"}
  ),
  "com.samsung.shealth.stress": _Type("stress", {"stress": "score"}, {"stress": "score"}),
  "com.samsung.health.movement": _Type("movement", {}, {"movement": "activity_level"}),
  "com.samsung.shealth.blood_glucose": _Type("blood_glucose", {"glucose": "glucose"}),
  "com.samsung.health.sleep_stage": _SLEEP,
  "com.samsung.shealth.exercise": _EXERCISE,
  "com.samsung.health.exercise": _EXERCISE,
  "com.samsung.shealth.sleep": _NIGHT,
  "com.samsung.health.sleep": _NIGHT,
}
_FOLDER = re.compile(r"samsunghealth_([^/]+)_\d{8,14}")
_NO_ZONE = "time_offset that is no offset from UTC"
_PROFILE = "com.samsung.health.device_profile"


class Samsung:
  """Reads Samsung Health's com.samsung.*.csv and jsons/, in samsunghealth_NAME_DATE/."""

  signals: Sequence[Signal] = _SIGNALS
  devices: Sequence[str] = DEVICES
  beside: Sequence[str] = ("*.json", f"{_PROFILE}*.csv")

  not_read_because: Mapping[str, str] = dict.fromkeys(
    ("*day_summary*.csv", "*daily*.csv", "*.goal*.csv", "*best_records*.csv"), "sums of a day"
  )

  def unread_beside(self, export: Export) -> list[str]:
    """JSON files in the folder of a data type that is not read, and those that hold no measurements."""
    types = (*_TYPES, TREND)
    folders = {name: re.search(r"jsons/([^/]+)/", name) for name in export.matching("*.json")}
    known = {name for name, folder in folders.items() if folder and folder[1].lower() in types}
    return [name for name, folder in folders.items() if name not in known and (folder or "data.json" not in name)]

  def files(self, export: Export) -> list[str]:
    return [name for name in export.matching("com.samsung.*.csv") if _type_of(name) in (*_TYPES, TREND)]

  def owners(self, export: Export, names: Sequence[str]) -> dict[str, Owner]:
    folders: dict[str, list[str]] = {}
    for name in names:
      folders.setdefault(name.rpartition("/")[0], []).append(name)
    return {name: owner for folder, own in folders.items() for owner in [_owner(export, folder, own)] for name in own}

  def read(self, export: Export, name: str, account: Account) -> Iterator[Readings | Stretch]:
    if _type_of(name) == TREND:
      yield from trend_readings(export, name, account)
      return
    yield from _CsvFile(export, name, account).readings()


def _owner(export: Export, folder: str, names: Sequence[str]) -> Owner:
  """The name in the folder's, and the devices of its files.

  The trends of steps are no source of devices: their rows name one that stands for all devices of anybody.
  """
  match = _FOLDER.search(folder) or _FOLDER.search(export.path.name)
  devices: set[str] = set()
  for name in names:
    with contextlib.suppress(SchemaError, StopIteration):  # reading it says what is wrong
      if _type_of(name) == TREND:
        continue
      header = read_header(export, name, skip_rows=1)
      column = next(column for column in header if column.rpartition(".")[2] == "deviceuuid")
      rows = next(read_batches(export, name, [column], skip_rows=1, ragged=lambda row, why: None))
      devices |= {*pc.unique(rows[column]).to_pylist()} - {"", None}
  marks = frozenset(f"samsung {device}" for device in devices)
  return Owner(folder, profile=f"samsung {match[1]}" if match else "", marks=marks)


def _type_of(name: str) -> str:
  """The data type of a file: its name without folder, date and ending."""
  return re.sub(r"(\.\d+)?\.csv$", "", base_name(name).lower())


@dataclasses.dataclass(frozen=True)
class _Times:
  """Times, offset (0 where there is none) and device name of n rows."""

  start: Int64[np.ndarray, "n"]
  end: Int64[np.ndarray, "n"]
  offset: Int64[np.ndarray, "n"]
  has_offset: Bool[np.ndarray, "n"]
  device: np.ndarray

  def take(self, which: np.ndarray) -> _Times:
    return _Times(*(getattr(self, field.name)[which] for field in dataclasses.fields(self)))


class _CsvFile:
  """One CSV together with the JSON files that it names."""

  def __init__(self, export: Export, name: str, account: Account):
    self._export, self._name, self._account = export, name, account
    self._person = export.participant
    self._type = _TYPES[_type_of(name)]
    self._kinds = _kinds(export, name, account)
    self._sources = Sources()
    for uuid, kind in self._kinds.items():  # in the profile's order, so that a device has the same number in all files
      self._sources.name(kind, uuid)
    self._json = {file.rsplit("/", 1)[-1]: file for file in export.names if file.endswith(".json")}
    self._columns = self._column_names()

  def _column_names(self) -> dict[str, str]:
    """Full column names by their name without prefix."""
    names = read_header(self._export, self._name, skip_rows=1)
    fields = ["start_time", "end_time", "time_offset", "deviceuuid", self._type.binning, *self._type.columns.values()]
    full = {field: f"com.samsung.health.{self._type.prefix}.{field}" for field in fields}
    return {field: full[field] if full[field] in names or field not in names else field for field in fields}

  def readings(self) -> Iterator[Readings | Stretch]:
    """Yields the readings and stretches of the CSV and of its JSON files."""
    needed = ["start_time", *self._type.columns.values()]
    needed += [] if self._type.columns or self._type is _NIGHT else [self._type.binning]
    needed += ["end_time"] if self._type is _SLEEP or self._type in _STRETCHES else []
    optional = [column for field, column in self._columns.items() if field not in needed]
    required = [self._columns[field] for field in needed]
    bad_rows = counting(self._account, self._person, self._export, self._name)
    for rows in read_batches(self._export, self._name, required, optional, skip_rows=1, ragged=bad_rows):
      yield from self._batch(rows)

  def _batch(self, rows: CsvBatch) -> Iterator[Readings | Stretch]:
    names = [name.rsplit("/", 1)[-1] for name in self._texts(rows, self._type.binning).to_pylist()]
    binned = np.array([bool(name) for name in names]) & bool(self._type.binned)
    in_export = binned & np.array([name in self._json for name in names])
    summed_up = in_export & (self._type is not _EXERCISE)  # a workout has data of its own besides the binned ones
    self._account.add(self._person, int((~summed_up).sum()))
    when, no_time = self._times(rows)
    no_zone = mask(pc.not_equal(pc.utf8_trim_whitespace(self._texts(rows, "time_offset")), "")) & ~when.has_offset
    self._account.add(self._person, int((summed_up & no_zone).sum()))
    rows.drop(self._account, self._person, _NO_ZONE, summed_up & no_zone)
    good = self._without(rows, ~summed_up, _NO_ZONE, no_zone)
    if self._type is _EXERCISE:
      self._count_lost_heart_rates(rows, binned & ~in_export)
    else:
      good = self._without(rows, good, "its binned data are not in the export", binned & ~in_export)
    good = self._without(rows, good, "no time", no_time)
    good = self._without(rows, good, "ends before it starts", when.end < when.start)
    if self._type in _STRETCHES:
      yield from self._stretches(rows, good, when)
    else:
      yield from self._values(rows, good, when)
    which = np.flatnonzero(in_export & ~no_zone)
    if len(which):
      yield from self._bins([self._json[names[i]] for i in which], when.take(which))

  def _count_lost_heart_rates(self, rows: CsvBatch, lost: Bool[np.ndarray, "n"]) -> None:
    self._account.add(self._person, int(lost.sum()))
    rows.drop(self._account, self._person, "heart rates of a workout that are not in the export", lost)

  def _without(self, rows: CsvBatch, good: Bool[np.ndarray, "n"], why: str, bad: Bool[np.ndarray, "n"]) -> np.ndarray:
    """Removes the bad rows from the good ones and counts them as dropped."""
    rows.drop(self._account, self._person, why, good & bad)
    return good & ~bad

  def _texts(self, rows: CsvBatch, field: str) -> pa.StringArray:
    return rows[self._columns[field]].fill_null("")

  def _times(self, rows: CsvBatch) -> tuple[_Times, Bool[np.ndarray, "n"]]:
    """The rows' times, and where there are none. A row without an end is a sample."""
    (start, bad), (end, no_end) = (instants(self._texts(rows, field)) for field in ("start_time", "end_time"))
    sample = mask(pc.equal(self._texts(rows, "end_time"), ""))
    zone = pc.utf8_trim_whitespace(self._texts(rows, "time_offset"))
    offset, has_offset = convert_texts(zone, offset_minutes)
    in_ms, _ = convert_texts(zone, lambda text: is_number(text) or None, bool)
    start, end = (
      np.where(in_ms & ~self._are_numbers(rows, field), time - MINUTE * offset, time)
      for field, time in (("start_time", start), ("end_time", end))
    )
    devices, _ = convert_texts(self._texts(rows, "deviceuuid"), self._device, object)
    when = _Times(start, np.where(sample, start, end), offset, has_offset, devices)
    return when, bad | (no_end & ~sample)

  def _are_numbers(self, rows: CsvBatch, field: str) -> Bool[np.ndarray, "n"]:
    return ~parse_numbers(self._texts(rows, field))[1]

  def _device(self, uuid: str) -> str:
    return self._sources.name(self._kinds.get(uuid, "other"), uuid)

  def _values(self, rows: CsvBatch, good: Bool[np.ndarray, "n"], when: _Times) -> Iterator[Readings]:
    texts = {signal: self._texts(rows, field) for signal, field in self._type.columns.items()}
    read = (lambda column: convert_texts(column, _STAGES.get, float)) if self._type is _SLEEP else parse_numbers
    values = {signal: read(column)[0] for signal, column in texts.items()}
    if not values:
      self._without(rows, good, "names no binned data", np.ones(len(rows), bool))
      return
    empty = {signal: mask(pc.equal(column, "")) for signal, column in texts.items()}
    known = {signal: np.isfinite(values[signal].astype(float)) for signal in values}
    unreadable = np.any([~empty[signal] & ~known[signal] for signal in values], axis=0)
    good = self._without(rows, good, "no number or known stage", unreadable | ~np.any(list(known.values()), axis=0))
    further = sum(int((good & known[signal]).sum()) for signal in values) - int(good.sum())
    self._account.add(self._person, further)  # each value of a row is a reading
    for signal in values:
      which = np.flatnonzero(good & known[signal])
      yield from self._readings(signal, values[signal][which].astype(float), when.take(which))

  def _readings(self, signal: str, value: Float64[np.ndarray, "n"], when: _Times) -> Iterator[Readings]:
    """Yields readings separately per device, and with and without an offset."""
    for device in dict.fromkeys(when.device.tolist()):
      for zoned in (True, False):
        which = np.flatnonzero((when.device == device) & (when.has_offset == zoned))
        if len(which):
          some = when.take(which)
          offset = some.offset if zoned else None
          unit = _UNITS[signal]
          yield Readings(self._person, signal, unit, some.start, some.end, value[which], device, offset)

  def _stretches(self, rows: CsvBatch, good: Bool[np.ndarray, "n"], when: _Times) -> Iterator[Stretch]:
    good = self._without(rows, good, "was never stopped", when.end == when.start)
    names: list[str | None] = ["sleep"] * len(rows)
    if self._type is _EXERCISE:
      names = [samsung_exercises.exercise_name(code) for code in self._texts(rows, "exercise_type").to_pylist()]
      good = self._without(rows, good, "no exercise type", np.array([name is None for name in names]))
    for i in np.flatnonzero(good):
      offset = int(when.offset[i]) if when.has_offset[i] else None
      yield Stretch(self._person, str(names[i]), int(when.start[i]), int(when.end[i]), offset)

  def _bins(self, files: Sequence[str], when: _Times) -> Iterator[Readings]:
    """Yields the readings of JSON files, with the offset and device of the rows that name them."""
    pending: list[np.ndarray] = []  # [start, end and one value per signal, k]
    row_of: list[int] = []
    keys = tuple(self._type.binned.values())
    for i, file in enumerate(files):
      try:
        pending.append(bins(self._export, file, keys, self._account, self._type is _EXERCISE))
      except SchemaError as error:
        self._account.unreadable(self._person, self._export.where(file), error)
        pending.append(np.empty((2 + len(keys), 0)))
      row_of += [i] * pending[-1].shape[1]
      if len(row_of) >= _MOST_BINS or i + 1 == len(files):
        all_bins, rows = np.concatenate(pending, axis=1), when.take(np.array(row_of, np.int64))
        start, end = all_bins[:2].astype(np.int64)
        for signal, value in zip(self._type.binned, all_bins[2:], strict=True):
          which = np.flatnonzero(np.isfinite(value))
          yield from self._readings(signal, value[which], dataclasses.replace(rows, start=start, end=end).take(which))
        pending, row_of = [], []


def _kinds(export: Export, name: str, account: Account) -> dict[str, str]:
  """Watch, phone or other for each device in the profile of the same folder, in the profile's order."""
  folder = name.rpartition("/")[0]
  profiles = [file for file in export.matching(f"{_PROFILE}*.csv") if file.rpartition("/")[0] == folder]
  kinds = {}
  # Every file of the folder needs the profile; the first one counts its damage.
  first = name == next(file for file in Samsung().files(export) if file.rpartition("/")[0] == folder)
  for profile in profiles:
    damage = account if first else Account()
    bad_rows = counting(damage, export.participant, export, profile)
    try:
      for rows in read_batches(export, profile, ["deviceuuid", "device_group"], skip_rows=1, ragged=bad_rows):
        for uuid, group in zip(rows["deviceuuid"].to_pylist(), rows["device_group"].to_pylist(), strict=True):
          kinds[uuid] = _GROUPS.get(group.removesuffix(".0"), "other")
    except SchemaError as error:
      damage.unreadable(export.participant, export.where(profile), error)
  return kinds
