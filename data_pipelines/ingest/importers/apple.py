"""Apple Health: "Export All Health Data" of the Health app (support.apple.com/guide/iphone, "Share your health data").

export.zip or its folder apple_health_export holds one XML file, called export.xml or a translation of it, with one
element per HealthKit sample (developer.apple.com/documentation/healthkit, "Data types"):

  <Record type="HKQuantityTypeIdentifierHeartRate" sourceName="Anna's Apple Watch" device="&lt;&lt;HKDevice: 0x1&gt;,
   name:Apple Watch, manufacturer:Apple Inc., model:Watch, ...&gt;" unit="count/min"
   startDate="2024-03-31 01:59:00 +0100" endDate="2024-03-31 01:59:00 +0100" value="62">
   <MetadataEntry key="HKTimeZone" value="Europe/Berlin"/></Record>
  <Workout workoutActivityType="HKWorkoutActivityTypeRunning" startDate=... endDate=...>

- type: what is measured, see `_TYPES`. Other types are not read.
- unit: depends on the person's settings: km or mi, kcal, Cal or kJ, mg/dL or mmol/L, degC or degF. A value with unit
  "%" is a fraction such as 0.97.
- value: a number, or the name of a category (see `_SLEEP`).
- startDate, endDate: to the second ("9:00:00 pm" on phones with a 12-hour clock), always in the zone in which the phone
  was *when it exported*. The instant is therefore right, but the wall clock ignores travel. clock is "utc", and the
  wall clock's offset is known only where HKTimeZone names the zone in which the sample was taken (the watch's sleep and
  workouts). Elsewhere, and for unknown zones, --timezone decides.
- device, or sourceName if there is no device: the kind of device. Both may hold the owner's name, so neither is kept.
  Sources of a kind are numbered in order of appearance ("watch", "watch 2"). A watch's steps are preferred to a
  phone's.
- HKWasUserEntered, a MetadataEntry: the person typed it in, see Recipe.entered_by_hand. Workouts count all the same.
- sleep: a stage counts as 1, awake as 0. "In bed" spans the night and contains the stages; it counts as 0 where no
  other source says more.

creationDate, sourceVersion, the profile (Me), routes and clinical records are not read. Row numbers in messages count
the Records and Workouts of the file from 1.
"""

from __future__ import annotations

import collections
import functools
import re
import zoneinfo
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Bool, Int64

from data_pipelines.channels.units import convert
from data_pipelines.errors import SchemaError
from data_pipelines.ingest.importers.health_xml import Entry, entries, is_health_xml, person
from data_pipelines.ingest.importers.sources import DEVICES, Sources
from data_pipelines.ingest.reading.account import Account
from data_pipelines.ingest.reading.clocks import MINUTE, ZoneClock
from data_pipelines.ingest.reading.csv_batches import parse_numbers, parse_zoned_times
from data_pipelines.ingest.reading.export_files import Export
from data_pipelines.ingest.reading.owners import Owner
from data_pipelines.ingest.reading.readings import ENTERED_BY_HAND, Readings, Stretch
from data_pipelines.ingest.reading.signals import Signal, common_signal

_MOST_ROWS = 1 << 16  # held in memory
_MOST_KEYS = 1 << 12  # likewise
_SLEEP_TYPE = "HKCategoryTypeIdentifierSleepAnalysis"
_IN_BED = "in bed"
_YEAR_2100 = 4_102_444_800_000

_TYPES = {
  "HKQuantityTypeIdentifierHeartRate": common_signal("heart_rate"),
  "HKQuantityTypeIdentifierHeartRateVariabilitySDNN": common_signal("hrv_sdnn"),
  "HKQuantityTypeIdentifierHeartRateVariabilityRMSSD": common_signal("hrv_rmssd"),
  "HKQuantityTypeIdentifierOxygenSaturation": common_signal("spo2"),
  "HKQuantityTypeIdentifierRespiratoryRate": common_signal("respiratory_rate"),
  "HKQuantityTypeIdentifierStepCount": common_signal("steps"),
  "HKQuantityTypeIdentifierDistanceWalkingRunning": common_signal("distance"),
  "HKQuantityTypeIdentifierFlightsClimbed": common_signal("floors"),
  "HKQuantityTypeIdentifierActiveEnergyBurned": common_signal("active_calories", quiet=False),
  "HKQuantityTypeIdentifierBasalEnergyBurned": common_signal("basal_calories"),
  "HKQuantityTypeIdentifierAppleStandTime": common_signal("stand_time"),
  "HKQuantityTypeIdentifierAppleExerciseTime": common_signal("exercise_time"),
  "HKQuantityTypeIdentifierAppleSleepingWristTemperature": common_signal("skin_temperature"),
  "HKQuantityTypeIdentifierBloodGlucose": common_signal("glucose"),
  _SLEEP_TYPE: common_signal("asleep"),
}
_SLEEP = {
  "HKCategoryValueSleepAnalysisInBed": "0",
  "HKCategoryValueSleepAnalysisAwake": "0",
  "HKCategoryValueSleepAnalysisAsleep": "1",  # to iOS 15
  "HKCategoryValueSleepAnalysisAsleepUnspecified": "1",
  "HKCategoryValueSleepAnalysisAsleepCore": "1",
  "HKCategoryValueSleepAnalysisAsleepDeep": "1",
  "HKCategoryValueSleepAnalysisAsleepREM": "1",
}
# "2024-06-04 9:00:00 pm +0200" without its last space; iOS puts a narrow space before "pm".
_HALF_DAY = (
  r"^(?P<date>[0-9]{4}-[0-9]{2}-[0-9]{2}) (?P<hour>1[0-2]|0?[1-9])(?P<rest>:[0-9]{2}:[0-9]{2})"
  r"[\s\x{a0}\x{202f}]*(?P<half>[AaPp])\.?\s?[Mm]\.?(?P<zone>[+-][0-9]{4})$"
)
# Apps write records of a device too; a device's own name has its kind, and one of its owner has more than the model.
_DEVICE = re.compile(r"\bwatch\b|iphone|ipad", re.IGNORECASE)
_MODEL = re.compile(
  r"(apple|watch|iphone|ipad|series|ultra|pro|max|plus|mini|air|se|x[rs]?|my|gen(eration)?|"
  r"\d(st|nd|rd|th|mm|[a-z])?|\W|_)*|.*app",
  re.IGNORECASE,
)
_WORKOUT = re.compile(r"HKWorkoutActivityType([A-Za-z]{1,60})")


class Apple:
  """Reads Apple Health's export.xml, in apple_health_export/ or export.zip."""

  signals: Sequence[Signal] = tuple(_TYPES.values())
  devices: Sequence[str] = (*DEVICES, _IN_BED)
  beside: Sequence[str] = ()

  def files(self, export: Export) -> list[str]:
    return [name for name in export.matching("*.xml") if is_health_xml(export, name)]

  def owners(self, export: Export, names: Sequence[str]) -> dict[str, Owner]:
    return {name: _owner(export, name) for name in names}

  def read(self, export: Export, name: str, account: Account) -> Iterator[Readings | Stretch]:
    batch = _Batch(export, name, account)
    others: collections.Counter[str] = collections.Counter()
    try:
      for some_entries in entries(export, name, _TYPES, account, others):
        account.add(export.participant, len(some_entries))
        for entry in some_entries:
          batch.add(entry)
        if batch.rows >= _MOST_ROWS:
          yield from batch.take()
    except SchemaError:  # what is before the fault is kept
      yield from batch.take()
      raise
    finally:
      for what, records in others.items():
        account.pass_over(export.participant, what, records)
    yield from batch.take()


def _owner(export: Export, name: str) -> Owner:
  """The person's date of birth and the like, and the names of their devices with these.

  Neither tells people apart for sure, nor does a device that has no name of its own.
  """
  me, sources = person(export, name)
  devices = {source for source in sources if _DEVICE.search(source) and not _MODEL.fullmatch(source)}
  return Owner(name, profile=f"apple {me}" if me else "", marks=frozenset(f"apple {me} {d}" for d in devices if me))


class _Key(NamedTuple):
  """The fields that the rows of one Readings share; `what` is the type of a record or the name of a workout."""

  what: str
  unit: str = ""
  device: str = ""
  zone: str = ""


class _Columns:
  """The fields that differ between the rows of one Readings, as texts: the number of each row, start, end and value."""

  def __init__(self) -> None:
    self.row: list[int] = []
    self.start: list[str] = []
    self.end: list[str] = []
    self.value: list[str] = []


class _Batch:
  """The rows read so far, grouped by what they share."""

  def __init__(self, export: Export, name: str, account: Account):
    self.rows = 0
    self._where = functools.partial(export.where, name)
    self._participant = export.participant
    self._account = account
    self._sources = Sources()
    self._columns: dict[_Key, _Columns] = collections.defaultdict(_Columns)
    self._keys: dict[tuple[Any, ...], tuple[_Key, str | None]] = {}  # with a stage's number, by what records have
    self._converts: dict[tuple[str, str], bool] = {}  # by type and unit

  def add(self, entry: Entry) -> None:
    """Adds a record or a workout, which the account has counted, or says there why it is dropped."""
    row, tag, attributes, zone, by_hand = entry
    get = attributes.get
    kind, value = get("type", ""), get("value", "")
    stage = value if kind == _SLEEP_TYPE else None
    same = tag, kind, get("unit"), get("sourceName"), get("device"), zone, by_hand, stage
    found = self._keys.get(same)
    if found is None:
      found = self._record(entry) if tag == "Record" else self._workout(entry)
      if found is None:
        return
      if tag == "Record":
        if len(self._keys) == _MOST_KEYS:  # a file may invent sources without end
          self._keys.clear()
        self._keys[same] = found
    key, category = found
    columns = self._columns[key]
    columns.row.append(row)
    columns.start.append(get("startDate", ""))
    columns.end.append(get("endDate", ""))
    columns.value.append(value if category is None else category)
    self.rows += 1

  def _workout(self, entry: Entry) -> tuple[_Key, str] | None:
    activity = _WORKOUT.fullmatch(entry.attributes.get("workoutActivityType", ""))
    if activity:
      return _Key(_separated(activity[1]), zone=_known_zone(entry)), "0"
    self._account.drop(self._participant, "unknown kind of workout", 1, self._where(entry.row))
    return None

  def _record(self, entry: Entry) -> tuple[_Key, str | None] | None:
    """The key that a record's row is grouped by, and the number for its category; None if it cannot be used."""
    get = entry.attributes.get
    what, unit, category = get("type", ""), get("unit", ""), None
    source = get("sourceName", "")
    device = self._sources.name(_kind(get("device", ""), source), source)
    if what == _SLEEP_TYPE:
      stage = get("value", "")
      device = _IN_BED if stage == "HKCategoryValueSleepAnalysisInBed" else device
      category, unit = _SLEEP.get(stage, ""), ""
    device = ENTERED_BY_HAND if entry.by_hand else device
    unit = "fraction" if unit == "%" else unit
    key = _Key(what, unit, device, _known_zone(entry))
    return (key, category) if self._check_unit(key, entry.row) else None

  def _check_unit(self, key: _Key, row: int) -> bool:
    """True if the unit converts to that of the type; a record whose unit does not is counted as damaged."""
    pair = key.what, key.unit
    if pair not in self._converts:
      try:
        convert(np.zeros(0), key.unit, _TYPES[key.what].unit, self._where(row))
        self._converts[pair] = True
      except SchemaError:
        self._converts[pair] = False
    if not self._converts[pair]:
      why = f"{_TYPES[key.what].name} in a unit that does not convert"
      self._account.damaged(self._participant, why, self._where(), f" row {row}", rows=1)
    return self._converts[pair]

  def take(self) -> Iterator[Readings | Stretch]:
    """Yields what the rows hold and empties the batch."""
    columns_of, self._columns, self.rows = self._columns, collections.defaultdict(_Columns), 0
    for key, columns in columns_of.items():
      yield from self._readings(key, columns)

  def _readings(self, key: _Key, columns: _Columns) -> Iterator[Readings | Stretch]:
    (start, no_start), (end, no_end) = _instants(columns.start), _instants(columns.end)
    value, no_value = parse_numbers(pa.array(columns.value))
    good = np.ones(len(columns.row), bool)
    for why, bad in (
      ("no time with an offset between 1970 and 2100", no_start | no_end),
      ("ends before it starts", end < start),
      ("no number or known category", no_value),
    ):
      bad &= good
      if bad.any():
        self._account.drop(self._participant, why, int(bad.sum()), self._where(columns.row[int(bad.argmax())]))
      good &= ~bad
    start, end, value = start[good], end[good], value[good]
    offset = _offsets(key.zone, start) if key.zone and len(start) else None
    if key.what not in _TYPES:
      for i in range(len(start)):
        ahead = None if offset is None else int(offset[i])
        yield Stretch(self._participant, key.what, int(start[i]), int(end[i]), ahead)
    elif len(start):
      signal = _TYPES[key.what].name
      yield Readings(self._participant, signal, key.unit, start, end, value, key.device, offset)


@functools.lru_cache(1 << 12)
def _kind(device: str, source: str) -> str:
  """Returns watch, phone or other, from an Apple device, or from the source's name if there is no device."""
  text = (device if "manufacturer:Apple" in device else "") if device else source
  text = text.replace("\xa0", " ")
  watch = "model:Watch" if device else "Apple Watch"
  return "watch" if watch in text else "phone" if "iPhone" in text else "other"


def _known_zone(entry: Entry) -> str:
  return entry.zone if entry.zone in _zones() else ""


@functools.cache
def _zones() -> frozenset[str]:
  return frozenset(zoneinfo.available_timezones())


def _separated(camel: str) -> str:
  """Separates the words of a name: "TraditionalStrengthTraining" gives "traditional strength training"."""
  return re.sub(r"(?<=[a-z])(?=[A-Z])", " ", camel).lower()


def _instants(texts: list[str]) -> tuple[Int64[np.ndarray, "n"], Bool[np.ndarray, "n"]]:
  """Milliseconds since 1970 UTC, and where a text has no valid time."""
  column = pa.array(texts, pa.string())
  for sign in "+-":  # without the space before the offset, the text is ISO 8601 and parsed in one step
    column = pc.replace_substring(column, f" {sign}", sign)
  if pc.any(pc.match_substring_regex(column, _HALF_DAY)).as_py():
    column = _in_24_hours(column)
  clock, ahead, zoned, bad = parse_zoned_times(column)
  utc = clock - MINUTE * ahead
  return utc, bad | ~zoned | (utc < 0) | (utc >= _YEAR_2100)


def _in_24_hours(column: pa.StringArray) -> pa.StringArray:
  """The texts with the time of a 12-hour clock on that of 24 hours; others are unchanged."""
  parts = pc.extract_regex(column, _HALF_DAY)
  date, hour, rest, half, zone = (pc.struct_field(parts, n) for n in range(5))
  hours = pc.cast(pc.if_else(pc.equal(hour, "12"), "0", hour), pa.int64())
  hours = pc.add(hours, pc.if_else(pc.equal(pc.utf8_lower(half), "p"), 12, 0))
  digits = pc.utf8_lpad(pc.cast(hours, pa.string()), 2, "0")
  return pc.coalesce(pc.binary_join_element_wise(date, "T", digits, rest, zone, ""), column)


def _offsets(zone: str, start: Int64[np.ndarray, "n"]) -> Int64[np.ndarray, "n"]:
  """Minutes by which the zone was ahead of UTC at each moment."""
  wall, _ = ZoneClock(zoneinfo.ZoneInfo(zone), int(start.min()), int(start.max())).at(start)
  return (wall - start) // MINUTE
