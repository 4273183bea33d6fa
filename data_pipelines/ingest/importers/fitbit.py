"""Fitbit, by Google Takeout ("Fitbit" or "Google Health"): one person's JSON files and the newer CSV folders.

How to get an export: https://support.google.com/googlehealth/answer/14236615. README files inside the export describe
the CSV formats. Nothing describes the JSON files; what comparing both encodings of the same minutes showed is below.

Global Export Data/*.json: arrays of {"dateTime": "MM/DD/YY HH:MM:SS", "value": ...}. Numbers may have a decimal comma;
an ISO time with "Z" or an offset is read, and one without is on an unknown clock.
  heart_rate-DATE     {"bpm", "confidence"}      UTC. bpm; dropped at confidence 0 (of 0 to 3)
  steps-DATE          "12"                       UTC. steps per minute, all devices merged by Fitbit
  distance-DATE       "1040"                     UTC. centimetres per minute, merged
  calories-DATE       "1.13"                     wall clock (!). kcal per minute, resting energy included
  sleep-DATE          levels.data, .shortData    wall clock: {"dateTime": ISO, "level", "seconds"}; shortData holds
                                                 wakes of under three minutes, which override data
  exercise-N          startTime, duration (ms), activityName       UTC
Physical Activity_GoogleData/**/*.csv: timestamp (UTC, "...Z"), a value, data source
  heart_rate_DATE "beats per minute"; steps_DATE "steps", distance_DATE "distance" (m), calories_DATE "calories" (kcal),
  floors_DATE "floors" per minute; oxygen_saturation_DATE "oxygen saturation percentage"; heart_rate_variability_DATE
  "root mean square of successive differences ..." (ms); body_temperature_DATE "temperature celsius" (of the wrist);
  activity_level_DATE "level" (SEDENTARY 0, LIGHTLY_ACTIVE 1, MODERATELY_ACTIVE 2, VERY_ACTIVE 3)
Oxygen Saturation (SpO2)/Minute SpO2 - DATE.csv            timestamp (UTC), value (%; exactly 50: not measured)
Heart Rate Variability/Heart Rate Variability Details - DATE.csv    timestamp (wall clock), rmssd (ms), every 5 min
Temperature/Device Temperature - DATE.csv                  recorded_time (wall clock), temperature (C above a baseline),
  sensor_type: CORE is a thermometer's and not read
Health Fitness Data_GoogleData/UserSleepStages_DATE.csv    sleep_stage_start, _end (UTC), start_utc_offset, _type
Health Fitness Data_GoogleData/UserExercises_DATE.csv      exercise_start, _end (UTC), utc_offset, activity_name

Clocks: Google documents none for the JSON files. What follows was found by others and not checked here on a real
export. In one export 25,100 of 25,308 minutes of the steps JSON equal the UTC CSV; its calories JSON matches 5,586
times if read as local time and 56 times as UTC (github.com/blakster/air-health, docs/takeout-format.md). Heart-rate
files hold a local day in UTC stamps, although one catalogue calls them local (github.com/kabaka/oscar-export-analyzer).
Nights are local (andykong.org/blog/fitbitsleeptzcorrection), as are times without "Z" in the HRV and temperature
folders. Exercises equal the UTC times of UserExercises (github.com/eshirvana/fitbit2garmin). That 50 % means "not
measured" is the catalogue's finding, as no value lies between 50 and 70. Confidence 0 is documented nowhere and taken
to mean no confidence.

Several files hold the same minutes. For each step, the first of these devices counts: data merged by Fitbit; trackers
by data source; the phone; copies from Health Connect; data known only by wall clock although another file has UTC. CSV
rows of heart rate, steps and distance are counted but not used on days covered by the JSON files of the same kind,
because only those have a confidence, and count steps once that both phone and tracker counted. Workouts come from
UserExercises if the export has it. Restless counts as not asleep, as in Fitbit's minutes asleep.
Not read: daily values (resting_heart_rate, *_minutes, Stress Score, Sleep Score, respiratory rates), because one value
per day is not a per-minute signal; altitude and estimated_oxygen_variation (unit or clock not documented); profiles,
places, glucose.
"""

from __future__ import annotations

import contextlib
import datetime
import functools
import itertools
import re
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from jaxtyping import Int64

from data_pipelines.errors import SchemaError
from data_pipelines.ingest.importers import takeout_csv, takeout_json
from data_pipelines.ingest.importers.takeout_csv import CsvFiles
from data_pipelines.ingest.importers.takeout_json import JsonFiles
from data_pipelines.ingest.reading import csv_batches
from data_pipelines.ingest.reading.account import Account
from data_pipelines.ingest.reading.clocks import MINUTE
from data_pipelines.ingest.reading.export_files import Export, base_name
from data_pipelines.ingest.reading.owners import Owner, loose_places
from data_pipelines.ingest.reading.readings import Readings, Stretch
from data_pipelines.ingest.reading.signals import Signal, common_signal

_MERGED, _WALL_CLOCK = "0 merged", "9 wall clock"  # rank before and after the data sources, see takeout_csv.device_name
_LEVELS = {"sedentary": 0.0, "lightly_active": 1.0, "moderately_active": 2.0, "very_active": 3.0}
_DATE = r"\d{4}-\d\d-\d\d"

# By the beginning of a file's name, without folders.
_JSON_FILES = {
  "heart_rate": JsonFiles("heart_rate", "bpm", 0, _MERGED),
  "steps": JsonFiles("steps", "steps", MINUTE, _MERGED),
  "distance": JsonFiles("distance", "cm", MINUTE, _MERGED),
  "calories": JsonFiles("calories", "kcal", MINUTE, _WALL_CLOCK, clock="wall"),
}
_CSV_FILES = {
  "heart_rate_": CsvFiles("heart_rate", "bpm", "beats per minute"),
  "steps_": CsvFiles("steps", "steps", "steps", duration=MINUTE),
  "distance_": CsvFiles("distance", "m", "distance", duration=MINUTE),
  "calories_": CsvFiles("calories", "kcal", "calories", duration=MINUTE),
  "floors_": CsvFiles("floors", "count", "floors", duration=MINUTE),
  "oxygen_saturation_": CsvFiles("spo2", "%", "oxygen saturation percentage", placeholder=50),
  "heart_rate_variability_": CsvFiles("hrv_rmssd", "ms", "root mean square of successive differences"),
  "body_temperature_": CsvFiles("skin_temperature", "C", "temperature celsius"),
  "activity_level_": CsvFiles("intensity", "", "level", value_of=_LEVELS),
  "Minute SpO2 - ": CsvFiles("spo2", "%", "value", device=_MERGED, placeholder=50),
  "Heart Rate Variability Details - ": CsvFiles("hrv_rmssd", "ms", "rmssd", device=_WALL_CLOCK, naive="wall"),
  "Device Temperature - ": CsvFiles(
    "skin_temperature_delta",
    "C",
    "temperature",
    "recorded_time",
    device=_WALL_CLOCK,
    naive="wall",
    without=("sensor_type", "CORE"),
  ),
}
# The most days that one JSON file covers, for signals that Fitbit merged and the CSV files hold device by device.
_MERGED_DAYS = {"heart_rate_": 1, "steps_": 31, "distance_": 31}
_JSON_NAME = re.compile(rf"(?P<kind>{'|'.join(_JSON_FILES)})(-(?P<date>{_DATE}))?\.json")
_CSV_NAME = re.compile(rf"(?P<kind>{'|'.join(map(re.escape, _CSV_FILES))})(?P<date>{_DATE})\.csv")
_SLEEP, _EXERCISE = re.compile(rf"sleep(-{_DATE})?\.json"), re.compile(r"exercise-\d+\.json")
_STAGES = re.compile(rf"UserSleepStages(_{_DATE})?\.csv")
_EXERCISES = re.compile(rf"UserExercises(_{_DATE})?\.csv")
_START = 1000  # bytes
_UNDATED = (*(f"{kind}.json" for kind in _JSON_FILES), "sleep.json")
_ROOTS = ("fitbit", "google health")
_SUBFOLDERS = (
  *("global export data", "physical activity", "physical activity_googledata", "oxygen saturation (spo2)"),
  *("heart rate variability", "temperature", "health fitness data_googledata", "sleep"),
)
_ALL = (_JSON_NAME, _CSV_NAME, _SLEEP, _EXERCISE, _STAGES, _EXERCISES)


class Fitbit:
  """Reads Fitbit's exports; the module's docstring lists the files."""

  signals: Sequence[Signal] = (
    common_signal("heart_rate"),
    common_signal("steps", high=1000),
    common_signal("distance", high=2000),
    common_signal("calories", high=100),
    common_signal("floors", high=60),
    common_signal("intensity"),
    common_signal("asleep"),
    common_signal("spo2"),
    common_signal("hrv_rmssd"),
    common_signal("skin_temperature"),
    common_signal("skin_temperature_delta"),
  )
  devices: Sequence[str] = (_MERGED,)
  beside: Sequence[str] = ()
  not_read_because: Mapping[str, str] = dict.fromkeys(
    (
      *("resting_heart_rate-*", "*_minutes-*", "time_in_heart_rate_zones-*", "*sleep_score*", "*stress score*"),
      *("daily *", "*summary*", "computed temperature*", "*vo2_max*", "*respiratory rate summary*"),
    ),
    "one value per day or night",
  )

  def files(self, export: Export) -> list[str]:
    named = [
      name
      for name in export.names
      if any(kind.fullmatch(base_name(name)) for kind in _ALL)
      and (base_name(name) not in _UNDATED or _is_fitbits(export, name))
    ]
    return named or [name for name in export.names if len(export.names) == 1 and _kind_by_content(export, name)]

  def owners(self, export: Export, names: Sequence[str]) -> dict[str, Owner]:
    place_of = {name: place for name in names if (place := _place(name)) is not None}
    place_of |= loose_places([name for name in names if name not in place_of])
    owners = {place: _owner(export, place) for place in {*place_of.values()}}
    return {name: owners[place] for name, place in place_of.items()}

  def read(self, export: Export, name: str, account: Account) -> Iterator[Readings | Stretch]:
    base = base_name(name)
    if not any(kind.fullmatch(base) for kind in _ALL):
      base = _kind_by_content(export, name)
    if match := _JSON_NAME.fullmatch(base):
      return _JSON_FILES[match["kind"]].read(export, name, account)
    if match := _CSV_NAME.fullmatch(base):
      kind = match["kind"]
      return _CSV_FILES[kind].read(
        export, name, account, _merged_days(export, kind[:-1]) if kind in _MERGED_DAYS else None
      )
    if _SLEEP.fullmatch(base):
      return takeout_json.nights(export, name, account, _WALL_CLOCK)
    if _STAGES.fullmatch(base):
      return takeout_csv.stages(export, name, account, _MERGED)
    if _EXERCISES.fullmatch(base):
      return takeout_csv.workouts(export, name, account)
    if _EXERCISE.fullmatch(base):
      redundant = any(_EXERCISES.fullmatch(base_name(other)) for other in export.names)
      return takeout_json.workouts(export, name, account, redundant)
    raise SchemaError(f"{export.where(name)}: not one of the Fitbit files that are read")


def _is_fitbits(export: Export, name: str) -> bool:
  """True if a JSON file without a date in its name begins as Fitbit's do."""
  try:
    with export.open(name) as file:
      return bool(re.match(rb'\s*\[\s*\{[^{]*"(dateTime|logId)"', file.read(_START)))
  except SchemaError:
    return False  # cannot be unpacked


def _kind_by_content(export: Export, name: str) -> str:
  """The name that a JSON file of heart rates or sleep would have, whatever it is called; "" for all others."""
  if not name.lower().endswith(".json") or not _is_fitbits(export, name):
    return ""
  with export.open(name) as file:
    start = file.read(_START)
  return "heart_rate.json" if b'"bpm"' in start else "sleep.json" if b'"dateOfSleep"' in start else ""


def _place(name: str) -> str | None:
  """The folder of one person's Fitbit data that a file is in; None if no folder has a known name."""
  folders = name.split("/")[:-1]
  for n, folder in enumerate(folders):
    if folder.lower() in _ROOTS:
      return "/".join(folders[: n + 1])
    if folder.lower() in _SUBFOLDERS:
      return "/".join(folders[:n])
  return None


def _owner(export: Export, place: str) -> Owner:
  """The account that the profile of the export names."""
  for name in export.matching("Your Profile/Profile.csv"):
    if not place or name.startswith(f"{place}/"):
      with contextlib.suppress(SchemaError):
        for rows in csv_batches.read_batches(export, name, [], ["id", "encoded_id"], ragged=lambda row, why: None):
          for column in ("encoded_id", "id"):
            accounts = {account for account in rows[column].to_pylist() if account}
            if len(accounts) == 1:
              return Owner(place, account=f"fitbit {accounts.pop()}")
  return Owner(place)


@functools.lru_cache(maxsize=len(_MERGED_DAYS))
def _merged_days(export: Export, kind: str) -> Int64[np.ndarray, "d"]:
  """Days since 1970 that JSON files of this kind cover together with both neighbours, as file days are not UTC days."""
  first = sorted(_first_day(match["date"]) for match in _matches(export) if match["kind"] == kind)
  longest = _MERGED_DAYS[f"{kind}_"]
  days: set[int] = set()
  for day, after in itertools.pairwise([*first, 2**31]):
    days.update(range(day, min(after, day + longest)))
  return np.array(sorted(day for day in days if {day - 1, day + 1} <= days), np.int64)


def _matches(export: Export) -> Iterator[re.Match[str]]:
  return (match for name in export.names if (match := _JSON_NAME.fullmatch(base_name(name))) and match["date"])


def _first_day(date: str) -> int:
  """Days since 1970; 0 if the text is not a date."""
  try:
    return (datetime.date.fromisoformat(date) - datetime.date(1970, 1, 1)).days
  except ValueError:
    return 0
