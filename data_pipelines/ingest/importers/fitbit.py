"""Fitbit, by Google Takeout ("Fitbit" or "Google Health"): one person's JSON files and the newer CSV folders.

How to get it: https://support.google.com/googlehealth/answer/14236615. Formats: the README files inside the export; for
the JSON files, which none describes, what comparisons of the two encodings of the same minutes showed, below.

Global Export Data/*.json: arrays of {"dateTime": "MM/DD/YY HH:MM:SS", "value": ...}
  heart_rate-DATE     {"bpm", "confidence"}      UTC. bpm; of confidence 0 (of 0 to 3) dropped
  steps-DATE          "12"                       UTC. steps of the minute, all devices merged by Fitbit
  distance-DATE       "1040"                     UTC. centimetres of the minute, merged
  calories-DATE       "1.13"                     wall clock (!). kcal of the minute, those at rest included
  sleep-DATE          levels.data, .shortData    wall clock: {"dateTime": ISO, "level", "seconds"}; shortData are wakes
                                                 of under three minutes that lie on top of data
  exercise-N          startTime, duration (ms), activityName       UTC
Physical Activity_GoogleData/**/*.csv: timestamp (UTC, "...Z"), a value, data source
  heart_rate_DATE "beats per minute"; steps_DATE "steps", distance_DATE "distance" (m), calories_DATE "calories" (kcal),
  floors_DATE "floors" of the minute; oxygen_saturation_DATE "oxygen saturation percentage"; heart_rate_variability_DATE
  "root mean square of successive differences ..." (ms); body_temperature_DATE "temperature celsius" (of the wrist);
  activity_level_DATE "level" (SEDENTARY 0, LIGHTLY_ACTIVE 1, MODERATELY_ACTIVE 2, VERY_ACTIVE 3)
Oxygen Saturation (SpO2)/Minute SpO2 - DATE.csv            timestamp (UTC), value (%; exactly 50: not measured)
Heart Rate Variability/Heart Rate Variability Details - DATE.csv    timestamp (wall clock), rmssd (ms), every 5 min
Temperature/Device Temperature - DATE.csv                  recorded_time (wall clock), temperature (C off a baseline)
Health Fitness Data_GoogleData/UserSleepStages_DATE.csv    sleep_stage_start, _end (UTC), start_utc_offset, _type
Health Fitness Data_GoogleData/UserExercises_DATE.csv      exercise_start, _end (UTC), utc_offset, activity_name

Which clock: Google documents none for the JSON files; these are others' findings, not checked here on a real export.
One export's minutes of steps JSON equal the UTC CSV's in 25,100 of 25,308, its calories JSON match it 5,586 times if
taken as local and 56 times as UTC (github.com/blakster/air-health, docs/takeout-format.md). Files of heart rates hold a
local day in UTC stamps; one catalogue holds them for local times (github.com/kabaka/oscar-export-analyzer). Nights are
local (andykong.org/blog/fitbitsleeptzcorrection), as is what has no "Z" in the HRV and temperature folders; exercises
equal the UTC of UserExercises (github.com/eshirvana/fitbit2garmin). That 50 % is no reading is the catalogue's finding:
no value lies between it and 70. What confidence 0 means is documented nowhere; it is taken for no trust at all.

The same minutes stand in several files. For a step the first of these devices counts: what Fitbit merged; trackers by
their data source; the phone; copies from Health Connect; what is only known by wall clock though another file has UTC.
CSV rows of heart rates, steps and distance are not used, but counted, on days within JSON files of the same: only those
tell confidence, and have no steps twice that phone and tracker counted. Workouts are read from UserExercises if any.
Restless is not asleep: so do Fitbit's minutes asleep count.
Not read: daily values (resting_heart_rate, *_minutes, Stress Score, Sleep Score, respiratory rates: one a day is no
signal of minutes); altitude and estimated_oxygen_variation (unit or clock not documented); profiles, places, glucose.
"""

from __future__ import annotations

import datetime
import functools
import itertools
import re
from collections.abc import Iterator, Sequence

import numpy as np
from jaxtyping import Int64

from data_pipelines.errors import SchemaError
from data_pipelines.ingest.importers import takeout_csv, takeout_json
from data_pipelines.ingest.importers.takeout_csv import Table
from data_pipelines.ingest.importers.takeout_json import Series
from data_pipelines.ingest.reading.account import Account
from data_pipelines.ingest.reading.export_files import Export
from data_pipelines.ingest.reading.readings import Readings, Stretch
from data_pipelines.ingest.reading.signals import Signal, common_signal

_MERGED, _UNSURE = "0 merged", "9 wall clock"  # before and after the data sources, see takeout_csv.device_name
_MINUTE = 60_000
_LEVELS = {"sedentary": 0.0, "lightly_active": 1.0, "moderately_active": 2.0, "very_active": 3.0}
_DATE = r"\d{4}-\d\d-\d\d"

# By the name of a file, without folders.
_SERIES = {
  "heart_rate": Series("heart_rate", "bpm", 0, _MERGED),
  "steps": Series("steps", "steps", _MINUTE, _MERGED),
  "distance": Series("distance", "cm", _MINUTE, _MERGED),
  "calories": Series("calories", "kcal", _MINUTE, _UNSURE, clock="wall"),
}
_TABLES = {
  "heart_rate_": Table("heart_rate", "bpm", "beats per minute"),
  "steps_": Table("steps", "steps", "steps", lasts=_MINUTE),
  "distance_": Table("distance", "m", "distance", lasts=_MINUTE),
  "calories_": Table("calories", "kcal", "calories", lasts=_MINUTE),
  "floors_": Table("floors", "count", "floors", lasts=_MINUTE),
  "oxygen_saturation_": Table("spo2", "%", "oxygen saturation percentage", never=50),
  "heart_rate_variability_": Table("hrv_rmssd", "ms", "root mean square of successive differences"),
  "body_temperature_": Table("skin_temperature", "C", "temperature celsius"),
  "activity_level_": Table("intensity", "", "level", words=_LEVELS),
  "Minute SpO2 - ": Table("spo2", "%", "value", device=_MERGED, never=50),
  "Heart Rate Variability Details - ": Table("hrv_rmssd", "ms", "rmssd", device=_UNSURE, naive="wall"),
  "Device Temperature - ": Table(
    "skin_temperature_delta", "C", "temperature", time="recorded_time", device=_UNSURE, naive="wall"
  ),
}
# Days that a JSON file holds at most, of those that Fitbit merged from what the CSV tells device by device.
_MERGED_DAYS = {"heart_rate_": 1, "steps_": 31, "distance_": 31}
_SERIES_NAME = re.compile(rf"(?P<kind>{'|'.join(_SERIES)})-(?P<date>{_DATE})\.json")
_TABLE_NAME = re.compile(rf"(?P<kind>{'|'.join(map(re.escape, _TABLES))})(?P<date>{_DATE})\.csv")
_SLEEP, _EXERCISE = re.compile(rf"sleep-{_DATE}\.json"), re.compile(r"exercise-\d+\.json")
_STAGES = re.compile(rf"UserSleepStages(_{_DATE})?\.csv")
_EXERCISES = re.compile(rf"UserExercises(_{_DATE})?\.csv")
_ALL = (_SERIES_NAME, _TABLE_NAME, _SLEEP, _EXERCISE, _STAGES, _EXERCISES)


class Fitbit:
  """Importer of Fitbit's exports; see the module."""

  signals: Sequence[Signal] = (
    common_signal("heart_rate"),
    common_signal("steps", high=1000),
    common_signal("distance", high=2000),
    common_signal("calories", high=100),
    common_signal("floors", high=60),
    Signal("intensity", "", "ACC", rule="mean", low=0, high=3),
    common_signal("asleep"),
    common_signal("spo2"),
    common_signal("hrv_rmssd"),
    common_signal("skin_temperature"),
    common_signal("skin_temperature_delta"),
  )
  devices: Sequence[str] = (_MERGED,)
  beside: Sequence[str] = ()

  def files(self, export: Export) -> list[str]:
    return [name for name in export.names if any(kind.fullmatch(_base(name)) for kind in _ALL)]

  def read(self, export: Export, name: str, account: Account) -> Iterator[Readings | Stretch]:
    base = _base(name)
    if match := _SERIES_NAME.fullmatch(base):
      return _SERIES[match["kind"]].read(export, name, account)
    if match := _TABLE_NAME.fullmatch(base):
      kind = match["kind"]
      return _TABLES[kind].read(export, name, account, _told(export, kind[:-1]) if kind in _MERGED_DAYS else None)
    if _SLEEP.fullmatch(base):
      return takeout_json.nights(export, name, account, _UNSURE)
    if _STAGES.fullmatch(base):
      return takeout_csv.stages(export, name, account, _MERGED)
    if _EXERCISES.fullmatch(base):
      return takeout_csv.workouts(export, name, account)
    if _EXERCISE.fullmatch(base):
      spare = any(_EXERCISES.fullmatch(_base(other)) for other in export.names)
      return takeout_json.workouts(export, name, account, spare)
    raise SchemaError(f"{export.where(name)}: not a file of Fitbit's that is read")


def _base(name: str) -> str:
  return name.rsplit("/", 1)[-1]


@functools.lru_cache(maxsize=len(_MERGED_DAYS))
def _told(export: Export, kind: str) -> Int64[np.ndarray, "d"]:
  """Days since 1970 that lie within the JSON files of a kind, and whose neighbours do: theirs are not days of UTC."""
  first = sorted(_first_day(match["date"]) for match in _matches(export) if match["kind"] == kind)
  longest = _MERGED_DAYS[f"{kind}_"]
  days: set[int] = set()
  for day, after in itertools.pairwise([*first, 2**31]):
    days.update(range(day, min(after, day + longest)))
  return np.array(sorted(day for day in days if {day - 1, day + 1} <= days), np.int64)


def _matches(export: Export) -> Iterator[re.Match[str]]:
  return filter(None, (_SERIES_NAME.fullmatch(_base(name)) for name in export.names))


def _first_day(date: str) -> int:
  """Days since 1970; 0 for what is no date."""
  try:
    return (datetime.date.fromisoformat(date) - datetime.date(1970, 1, 1)).days
  except ValueError:
    return 0
