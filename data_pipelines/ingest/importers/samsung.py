"""Samsung Health: "Download personal data" of the app's settings.

samsunghealth_NAME_DATE/ holds a CSV a data type, com.samsung.shealth.tracker.heart_rate.20240101120000.csv, UTF-8 with
byte order mark. Its first line names the type, a version and a number; the second the columns, the type's own with a
prefix ("com.samsung.health.heart_rate.start_time"); rows mostly end in a comma. Fields and units are those of Samsung's
Health Data SDK (developer.samsung.com/health/android/data/api-reference, HealthConstants.HeartRate, .StepCount,
.FloorsClimbed, .OxygenSaturation, .SleepStage, .Exercise, .BloodGlucose). For the types that it leaves out (hrv,
stress, movement, respiratory_rate, skin_temperature) and for the export's own forms there is no official text: they
are read as users' exports have them.

- start_time, end_time: UTC, "2024-01-01 10:00:00.000", or milliseconds since 1970 in older exports.
- time_offset: by how much the wall clock was ahead, "UTC+0100", or milliseconds.
- deviceuuid: which device; com.samsung.health.device_profile tells its device_group: 360001 a phone, 360003 a watch.
  Steps of a watch go before those of a phone. Nothing else is read of that file: it holds names and addresses.
- binning_data ("binning" for oxygen_saturation): name of a JSON file, jsons/TYPE/0/UUID.binning_data.json: a list of
  {"start_time": ms of UTC, "end_time": ms, "heart_rate": 62.0, ...}, by the minute. Then the row is but their mean, and
  is not read; where the file is missing it is dropped.
- heart_rate bpm; spo2 %; rmssd, sdnn ms; respiratory_rate, average 1/min; temperature, mean C; glucose mmol/L; score of
  stress 0 to 100; activity_level of movement, without unit. -1 stands for none: out of range.
- count, distance m, calorie kcal of the steps, a row a minute that has some, and of the last months only. The day sums
  of step_daily_trend and pedometer_day_summary cannot be put on minutes and are not read.
- stage of sleep: 40001 awake, 40002 light, 40003 deep, 40004 REM.
- exercise_type: see samsung_exercises; an exercise that ends where it starts was never stopped.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Bool, Float64, Int64

from data_pipelines.ingest.importers import samsung_exercises
from data_pipelines.ingest.importers.samsung_bins import bins
from data_pipelines.ingest.importers.samsung_cells import each, instants, mask, offset_minutes
from data_pipelines.ingest.importers.sources import DEVICES, Sources
from data_pipelines.ingest.reading.account import Account
from data_pipelines.ingest.reading.csv_batches import CsvBatch, parse_numbers, read_batches, read_header
from data_pipelines.ingest.reading.export_files import Export
from data_pipelines.ingest.reading.readings import Readings, Stretch
from data_pipelines.ingest.reading.signals import Signal, common_signal

_BLOCK = 1 << 16  # binned readings in memory
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
  Signal("movement", "", "ACC", low=0),
  common_signal("glucose"),
  common_signal("asleep"),
)
_UNITS = {signal.name: signal.unit for signal in _SIGNALS}


@dataclasses.dataclass(frozen=True)
class _Type:
  """What is read of a data type: columns and keys of bins, without prefix, by the signal that they are of."""

  prefix: str = ""
  columns: Mapping[str, str] = dataclasses.field(default_factory=dict)
  binned: Mapping[str, str] = dataclasses.field(default_factory=dict)
  binning: str = "binning_data"


_STEPS = _Type("step_count", {"steps": "count", "distance": "distance", "active_calories": "calorie"})
_HEART = _Type("heart_rate", {"heart_rate": "heart_rate"}, {"heart_rate": "heart_rate"})
_SLEEP = _Type("sleep_stage", {"asleep": "stage"})
_EXERCISE = _Type("exercise", {"": "exercise_type"})
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
}
_PROFILE = "com.samsung.health.device_profile"


class Samsung:
  """Samsung Health: com.samsung.*.csv and jsons/, in samsunghealth_NAME_DATE/."""

  signals: Sequence[Signal] = _SIGNALS
  devices: Sequence[str] = DEVICES
  beside: Sequence[str] = ("*.json", f"{_PROFILE}*.csv")

  def files(self, export: Export) -> list[str]:
    return [name for name in export.matching("com.samsung.*.csv") if _type_of(name) in _TYPES]

  def read(self, export: Export, name: str, account: Account) -> Iterator[Readings | Stretch]:
    yield from _File(export, name, account).blocks()


def _type_of(name: str) -> str:
  """Data type of a file: its name without folder, date and ending."""
  return re.sub(r"(\.\d+)?\.csv$", "", name.rsplit("/", 1)[-1].lower())


@dataclasses.dataclass(frozen=True)
class _Times:
  """Of some rows: times, offset (0 where there is none) and name of the device; [n] each."""

  start: Int64[np.ndarray, "n"]
  end: Int64[np.ndarray, "n"]
  offset: Int64[np.ndarray, "n"]
  has_offset: Bool[np.ndarray, "n"]
  device: np.ndarray

  def take(self, which: np.ndarray) -> _Times:
    return _Times(*(getattr(self, field.name)[which] for field in dataclasses.fields(self)))


class _File:
  """One CSV and what it names."""

  def __init__(self, export: Export, name: str, account: Account):
    self._export, self._name, self._account = export, name, account
    self._person = export.participant
    self._type = _TYPES[_type_of(name)]
    self._kinds = _kinds(export, name)
    self._sources = Sources()
    for uuid, kind in self._kinds.items():  # as the profile lists them: the same numbers in all files
      self._sources.name(kind, uuid)
    self._json = {file.rsplit("/", 1)[-1]: file for file in export.names if file.endswith(".json")}
    self._columns = self._found_columns()

  def _found_columns(self) -> dict[str, str]:
    """Columns by the name without prefix."""
    names = read_header(self._export, self._name, skip_rows=1)
    fields = ["start_time", "end_time", "time_offset", "deviceuuid", self._type.binning, *self._type.columns.values()]
    full = {field: f"com.samsung.health.{self._type.prefix}.{field}" for field in fields}
    return {field: full[field] if full[field] in names or field not in names else field for field in fields}

  def blocks(self) -> Iterator[Readings | Stretch]:
    needed = ["start_time", *self._type.columns.values()]
    needed += [] if self._type.columns else [self._type.binning]
    needed += ["end_time"] if self._type is _SLEEP or self._type is _EXERCISE else []
    optional = [column for field, column in self._columns.items() if field not in needed]
    required = [self._columns[field] for field in needed]
    for rows in read_batches(self._export, self._name, required, optional, skip_rows=1, ragged=self._ragged):
      yield from self._batch(rows)

  def _ragged(self, row: int) -> None:
    self._account.add(self._person)
    self._account.drop(self._person, "more or fewer cells than the header", 1, self._export.where(self._name, row))

  def _batch(self, rows: CsvBatch) -> Iterator[Readings | Stretch]:
    names = [name.rsplit("/", 1)[-1] for name in self._cells(rows, self._type.binning).to_pylist()]
    binned = np.array([bool(name) for name in names]) & bool(self._type.binned)
    there = binned & np.array([name in self._json for name in names])
    self._account.add(self._person, int((~there).sum()))
    when, no_time = self._times(rows)
    good = ~there
    good = self._without(rows, good, "its binned data are not in the export", binned & ~there)
    good = self._without(rows, good, "no time", no_time)
    good = self._without(rows, good, "ends before it starts", when.end < when.start)
    if self._type is _EXERCISE:
      yield from self._stretches(rows, good, when)
    else:
      yield from self._values(rows, good, when)
    which = np.flatnonzero(there)
    if len(which):
      yield from self._bins([self._json[names[i]] for i in which], when.take(which))

  def _without(self, rows: CsvBatch, good: Bool[np.ndarray, "n"], why: str, bad: Bool[np.ndarray, "n"]) -> np.ndarray:
    """The good rows without those that are bad, which are counted."""
    rows.drop(self._account, self._person, why, good & bad)
    return good & ~bad

  def _cells(self, rows: CsvBatch, field: str) -> pa.StringArray:
    return rows[self._columns[field]].fill_null("")

  def _times(self, rows: CsvBatch) -> tuple[_Times, Bool[np.ndarray, "n"]]:
    """Times of rows, and where there are none; a row without an end is a sample."""
    (start, bad), (end, no_end) = (instants(self._cells(rows, field)) for field in ("start_time", "end_time"))
    sample = mask(pc.equal(self._cells(rows, "end_time"), ""))
    offset, has_offset = each(self._cells(rows, "time_offset"), offset_minutes)
    devices, _ = each(self._cells(rows, "deviceuuid"), self._device, object)
    found = _Times(start, np.where(sample, start, end), offset, has_offset, devices)
    return found, bad | (no_end & ~sample)

  def _device(self, uuid: str) -> str:
    return self._sources.name(self._kinds.get(uuid, "other"), uuid)

  def _values(self, rows: CsvBatch, good: Bool[np.ndarray, "n"], when: _Times) -> Iterator[Readings]:
    cells = {signal: self._cells(rows, field) for signal, field in self._type.columns.items()}
    read = (lambda column: each(column, _STAGES.get, float)) if self._type is _SLEEP else parse_numbers
    values = {signal: read(column)[0] for signal, column in cells.items()}
    if not values:
      self._without(rows, good, "names no binned data", np.ones(len(rows), bool))
      return
    empty = {signal: mask(pc.equal(column, "")) for signal, column in cells.items()}
    told = {signal: np.isfinite(values[signal].astype(float)) for signal in values}
    odd = np.any([~empty[signal] & ~told[signal] for signal in values], axis=0)
    good = self._without(rows, good, "no number or known stage", odd | ~np.any(list(told.values()), axis=0))
    for signal in values:
      which = np.flatnonzero(good & told[signal])
      yield from self._readings(signal, values[signal][which].astype(float), when.take(which))

  def _readings(self, signal: str, value: Float64[np.ndarray, "n"], when: _Times) -> Iterator[Readings]:
    """A block a device, and one more for rows without an offset."""
    for device in dict.fromkeys(when.device.tolist()):
      for has in (True, False):
        which = np.flatnonzero((when.device == device) & (when.has_offset == has))
        if len(which):
          some = when.take(which)
          offset = some.offset if has else None
          unit = _UNITS[signal]
          yield Readings(self._person, signal, unit, some.start, some.end, value[which], device, offset)

  def _stretches(self, rows: CsvBatch, good: Bool[np.ndarray, "n"], when: _Times) -> Iterator[Stretch]:
    names = [samsung_exercises.name(code) for code in self._cells(rows, "exercise_type").to_pylist()]
    good = self._without(rows, good, "was never stopped", when.end == when.start)
    good = self._without(rows, good, "no exercise type", np.array([name is None for name in names]))
    for i in np.flatnonzero(good):
      offset = int(when.offset[i]) if when.has_offset[i] else None
      yield Stretch(self._person, str(names[i]), int(when.start[i]), int(when.end[i]), offset)

  def _bins(self, files: Sequence[str], when: _Times) -> Iterator[Readings]:
    """Readings of JSON files; offset and device are those of the rows that name them."""
    found: list[np.ndarray] = []  # [start, end, a value each signal; k]
    of: list[int] = []
    keys = tuple(self._type.binned.values())
    for i, file in enumerate(files):
      found.append(bins(self._export, file, keys, self._account))
      of += [i] * found[-1].shape[1]
      if len(of) >= _BLOCK or i + 1 == len(files):
        all_bins, rows = np.concatenate(found, axis=1), when.take(np.array(of, np.int64))
        start, end = all_bins[:2].astype(np.int64)
        for signal, value in zip(self._type.binned, all_bins[2:], strict=True):
          which = np.flatnonzero(np.isfinite(value))
          yield from self._readings(signal, value[which], dataclasses.replace(rows, start=start, end=end).take(which))
        found, of = [], []


def _kinds(export: Export, name: str) -> dict[str, str]:
  """Watch, phone or other, of the devices of the same folder's profile; as listed."""
  folder = name.rpartition("/")[0]
  profiles = [file for file in export.matching(f"{_PROFILE}*.csv") if file.rpartition("/")[0] == folder]
  kinds = {}
  for profile in profiles:
    for rows in read_batches(export, profile, ["deviceuuid", "device_group"], skip_rows=1, ragged=lambda row: None):
      for uuid, group in zip(rows["deviceuuid"].to_pylist(), rows["device_group"].to_pylist(), strict=True):
        kinds[uuid] = _GROUPS.get(group.removesuffix(".0"), "other")
  return kinds
