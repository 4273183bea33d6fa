"""Exports of apps and rings: every value against the text that is written here, and hostile files."""

import json
import re
import sqlite3

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_pipelines.errors import SchemaError
from data_pipelines.ingest.importers import IMPORTERS
from data_pipelines.ingest.reading.account import Account
from data_pipelines.ingest.reading.export_files import Export
from data_pipelines.ingest.reading.readings import Stretch
from tests.data_pipelines.ingest.long_tables import run_build

EIGHT = 1_717_480_800_000  # 2024-06-04 06:00 UTC, 08:00 in Berlin
MINUTE = 60_000
WALL = EIGHT + 120 * MINUTE  # 08:00 of a wall clock


def write(folder, files):
  """Writes texts, or what is to be JSON, by file name."""
  for name, content in files.items():
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content))
  return folder


def read(source, folder):
  """[(signal, start, end, value, offset, clock)] in the order of time, the stretches, and the account."""
  importer, export, account = IMPORTERS[source], Export(folder), Account()
  found, stretches = [], []
  for name in importer.files(export):
    for item in importer.read(export, name, account):
      if isinstance(item, Stretch):
        stretches.append((item.name, item.start, item.end, item.offset))
        continue
      assert item.signal in {signal.name for signal in importer.signals} and item.start.dtype == np.int64
      offset = item.offset.tolist() if item.offset is not None else [None] * len(item.start)
      rows = zip(item.start.tolist(), item.end.tolist(), item.value.tolist(), offset, strict=True)
      found += [(item.signal, *row, item.clock) for row in rows]
  assert account.read.total() - account.dropped.total() == len(found) + len(stretches)
  return sorted(found, key=lambda row: (row[1], row[0], row[2])), stretches, account


def firsts(account):
  """{reason: place of the first row dropped for it}, without the folder."""
  return {why: where.rpartition("/")[2] for (_, why), where in account.example.items()}


def points(kind, *values):
  """A stream of Google Fit: (start, end, {"intVal": ...}) in ms."""
  return {
    "Data Source": f"derived:{kind}:merge",
    "Data Points": [
      {
        "fitValue": [{"value": value}],
        "startTimeNanos": start * 10**6,
        "endTimeNanos": str(end * 10**6),
        "dataTypeName": kind,
      }
      for start, end, value in values
    ],
  }


def test_google_fit(tmp_path):
  steps, sleep, heart = "com.google.step_count.delta", "com.google.sleep.segment", "com.google.heart_rate.bpm"
  merged = points(steps, (EIGHT, EIGHT + 2 * MINUTE, {"intVal": 60}))
  raw = points(steps, (EIGHT, EIGHT + MINUTE, {"intVal": 30})) | {"Data Source": f"raw:{steps}:phone"}
  merged["Data Source"] = f"derived:{steps}:com.google.android.gms:merge_step_deltas"
  folder = "Takeout/Fit/All Data"
  quarters = "Start time,End time,Move Minutes count,Calories (kcal),Distance (m),Step count\n"
  write(
    tmp_path,
    {
      f"{folder}/derived_{steps}_com.google.android.gms_merge_step_deltas.json": merged,
      f"{folder}/raw_{steps}_phone.json": raw,
      f"{folder}/derived_{heart}_x.json": points(
        heart, (EIGHT, EIGHT, {"fpVal": 72.5}), (EIGHT, EIGHT, {"fpVal": "x"})
      ),
      f"{folder}/raw_{sleep}_x.json": points(
        sleep, *[(EIGHT + k * MINUTE, EIGHT + (k + 1) * MINUTE, {"intVal": k}) for k in range(1, 8)]
      ),
      f"{folder}/raw_com.google.weight_x.json": points("com.google.weight", (EIGHT, EIGHT, {"fpVal": 70})),
      "Takeout/Fit/All Sessions/2024_RUNNING.json": {
        "fitnessActivity": "running",
        "startTime": "2024-06-04T06:00:00Z",
        "endTime": "2024-06-04T06:30:00Z",
      },
      "Takeout/Fit/Daily activity metrics/2024-06-04.csv": quarters
      + "23:45:00.000+02:00,00:00:00.000+02:00,1,20.5,,9\n08:00:00.000+02:00,08:15:00.000+02:00,1,2,30,9\n",
    },
  )
  found, stretches, account = read("google_fit", tmp_path)
  assert [row for row in found if row[0] == "steps"] == [("steps", EIGHT, EIGHT + 2 * MINUTE, 60, None, "utc")]
  assert [row for row in found if row[0] == "heart_rate"] == [("heart_rate", EIGHT, EIGHT, 72.5, None, "utc")]
  assert [row[3] for row in found if row[0] == "asleep"] == [0, 1, 0, 1, 1, 1]  # 7 is no stage
  assert [row for row in found if row[0] == "distance"] == [("distance", EIGHT, EIGHT + 15 * MINUTE, 30, 120, "utc")]
  late = EIGHT + 945 * MINUTE  # 23:45 in Berlin
  assert [row[1:4] for row in found if row[0] == "calories"] == [
    (EIGHT, EIGHT + 15 * MINUTE, 2),
    (late, late + 15 * MINUTE, 20.5),
  ]
  assert stretches == [("running", EIGHT, EIGHT + 30 * MINUTE, None)]
  assert {why: n for (_, why), n in account.dropped.items()} == {
    "the same in the merged stream": 1,
    "unreadable heart_rate": 1,
    "unreadable asleep": 1,
  }
  assert {kind for _, kind in account.passed_over} == {"com.google.weight"}


def test_of_google_fits_streams_one_merged_stream_counts(tmp_path):
  steps, heart, gms = "com.google.step_count.delta", "com.google.heart_rate.bpm", "com.google.android.gms"
  stream = lambda kind, source, value: points(kind, (EIGHT, EIGHT + MINUTE, value)) | {"Data Source": source}
  cut = f"Fit/All Data/derived_{steps}_com.google"
  write(
    tmp_path,
    {
      f"{cut}.json": stream(steps, f"derived:{steps}:{gms}:estimated_steps", {"intVal": 70}),
      f"{cut}(1).json": stream(steps, f"derived:{steps}:{gms}:merge_step_deltas", {"intVal": 60}),
      f"{cut}(2).json": stream(steps, f"raw:{steps}:phone", {"intVal": 30}),
      f"Fit/All Data/raw_{heart}_com.json": stream(heart, f"raw:{heart}:strap", {"fpVal": 61}),
      f"Fit/All Data/raw_{heart}_com(1).json": stream(heart, f"raw:{heart}:watch", {"fpVal": 63}),
      f"Fit/All Data/derived_{heart}_com.json": stream(
        heart, f"derived:{heart}:{gms}:resting_heart_rate<-merge_heart_rate_bpm", {"fpVal": 50}
      ),
    },
  )
  found, _, account = read("google_fit", tmp_path)
  assert [row[3] for row in found if row[0] == "steps"] == [60]
  assert {row[3] for row in found if row[0] == "heart_rate"} == {61, 63}
  assert {kind for _, kind in account.passed_over} == {"heart rate at rest"}
  export = Export(tmp_path)
  names = [name for name in export.names if f"raw_{heart}" in name]
  blocks = [next(IMPORTERS["google_fit"].read(export, name, Account())) for name in names]
  assert len({block.device for block in blocks}) == 2  # or else they would be added up


def test_days_of_google_fit_beside_someones_fitbit_are_read(tmp_path):
  day = "Start time,End time,Step count\n08:00:00.000+00:00,08:15:00.000+00:00,9\n"
  write(tmp_path, {"kim/2024-06-04 (1).csv": day, "Fitbit/x.json": "[]", "Fit/2024-06-04.csv": day})
  found, _, _ = read("google_fit", tmp_path / "kim")
  assert [row[3:5] for row in found] == [(9, None)]  # in UTC, whatever the wall clock shows
  assert not read("google_fit", tmp_path / "Fit")[0]


def test_second_downloads_are_read(tmp_path):
  write(
    tmp_path,
    {
      "raw_hr_hr (1).csv": "start,duration,value\n2024-06-04T06:00:00Z,[60],[61]\n",
      "HEARTRATE_AUTO_1 (1).csv": "date,time,heartRate\n2024-06-04,08:00,61\n",
      "heartrate (1).csv": "timestamp;bpm;source\n2024-06-04T06:00:00.000Z;61;awake\n",
      "7_hlth_center_fitness_data (1).csv": f'Uid,Key,Time,Value\n7,heart_rate,{EIGHT // 1000},"{{""bpm"": 61}}"\n',
    },
  )
  for source in ("withings", "zepp", "oura", "mi_fitness"):
    (row,) = read(source, tmp_path)[0]
    assert row[3:5] == (61, None)


def test_withings(tmp_path):
  write(
    tmp_path,
    {
      "raw_hr_hr.csv": 'start,duration,value\n2024-06-04T08:00:00+02:00,"[60,30]","[61,62]"\n'
      '2024-06-04T08:02:00Z,[60],"[1,2]"\n',
      "raw_tracker_steps.csv": "start,duration,value\n2024-06-04T08:00:00+02:00,[120],[50]\n2024-06-04,9\n",
      "raw_tracker_sleep-state.csv": "start,duration,value\n2024-06-04T08:00:00+02:00,"
      '"[60,60,60,60,60]","[0,1,2,3,4]"\n',
      "raw_location_latitude.csv": "start,duration,value\n2024-06-04T08:00:00+02:00,[60],[52.5]\n",
    },
  )
  found, _, account = read("withings", tmp_path)
  assert [row[1:5] for row in found if row[0] == "heart_rate"] == [
    (EIGHT, EIGHT, 61, 120),
    (EIGHT + MINUTE, EIGHT + MINUTE, 62, 120),
  ]
  assert [row[1:4] for row in found if row[0] == "steps"] == [(EIGHT, EIGHT + 2 * MINUTE, 50)]
  assert [row[1:4] for row in found if row[0] == "asleep"] == [
    (EIGHT + k * MINUTE, EIGHT + (k + 1) * MINUTE, value) for k, value in enumerate((0, 1, 1, 1))
  ]
  assert {why: n for (_, why), n in account.dropped.items()} == {
    "unreadable heart_rate": 1,
    "unreadable asleep": 1,
    "more or fewer fields than the header": 1,
  }
  assert firsts(account)["unreadable heart_rate"] == "raw_hr_hr.csv row 3"
  assert firsts(account)["unreadable asleep"] == "raw_tracker_sleep-state.csv row 2"


def test_polar(tmp_path):
  samples = [{"heartRate": 61, "secondsFromDayStart": 28_800}, {"heartRate": None, "secondsFromDayStart": 28_860}]
  write(
    tmp_path,
    {
      "247ohr_2024_06-1.json": {
        "deviceDays": [{"date": "2024-06-04", "samples": samples}, {"date": "?", "samples": []}]
      },
      "activity-2024-06-04-1.json": {
        "date": "2024-06-04",
        "samples": {
          "steps": [{"localTime": "08:01:00.000", "value": 12}],
          "mets": [{"localTime": "08:00:30.000", "value": 1.75}, {"value": 0.9}],
        },
      },
    },
  )
  found, _, account = read("polar", tmp_path)
  assert found == [
    ("heart_rate", WALL, WALL, 61, None, "wall"),
    ("mets", WALL + MINUTE // 2, WALL + MINUTE // 2, 1.75, None, "wall"),
    ("steps", WALL + MINUTE, WALL + 2 * MINUTE, 12, None, "wall"),
  ]
  assert {why: n for (_, why), n in account.dropped.items()} == {"unreadable heart_rate": 1, "unreadable time": 1}
  assert firsts(account) == {
    "unreadable heart_rate": "247ohr_2024_06-1.json deviceDays 1 samples 2",
    "unreadable time": "activity-2024-06-04-1.json mets 2",
  }


def test_what_is_dropped_of_huawei_and_oura_is_named_by_its_place_in_the_file(tmp_path):
  bad = {"key": "DATA_POINT_DYNAMIC_HEARTRATE", "value": "?", "startTime": EIGHT, "endTime": EIGHT}
  day = {"timeZone": "+0200", "samplePoints": [{**bad, "value": "61"}]}
  night = {**OURA_NIGHT, "sleep_phase_5_min": "42?", "heart_rate": {**OURA_NIGHT["heart_rate"], "items": [None, "x"]}}
  write(
    tmp_path,
    {
      "health detail data.json": [day, {**day, "samplePoints": [*day["samplePoints"], bad]}],
      "oura_1.json": {"sleep": {"data": [OURA_NIGHT, night]}},
    },
  )
  assert firsts(read("huawei", tmp_path)[2]) == {
    "unreadable heart_rate": "health detail data.json record 2 samplePoints 2"
  }
  assert firsts(read("oura", tmp_path)[2]) == {
    "unreadable heart_rate": "oura_1.json sleep 2 heart_rate items 2",
    "unreadable asleep": "oura_1.json sleep 2 sleep_phase_5_min 3",
  }


BEAT = {"heartRate": 61, "secondsFromDayStart": 28_800}
POINT = {"key": "DATA_POINT_DYNAMIC_HEARTRATE", "value": "61", "startTime": EIGHT, "endTime": EIGHT}
WALK = {"startTime": EIGHT, "endTime": EIGHT + MINUTE, "timeZone": "+0200", "sportBasicInfos": [{"steps": 40}]}
STEPS = "com.google.step_count.delta"
# By source and name: a content of the shape that is read, and others, each with what is said of its odd part.
SHAPES = {
  ("polar", "247ohr_1.json"): (
    {"deviceDays": [{"date": "2024-06-04", "samples": [BEAT]}]},
    ({"deviceDays": [{"date": "2024-06-05", "samples": BEAT}]}, "deviceDays 1 samples", "not a JSON list"),
    ({"deviceDays": [{"date": "2024-06-05", "sample": [BEAT]}]}, "", "a record without samples"),
    ({"deviceDays": ["junk"]}, "deviceDays 1", "not a JSON object"),
    ({"deviceDays": {"date": "2024-06-05"}}, "deviceDays", "not a JSON list"),
    ({"days": []}, "", "a record without deviceDays"),
    ([1], "", "not a JSON object"),
  ),
  ("polar", "activity-2024-06-04-1.json"): (
    {"date": "2024-06-04", "samples": {"steps": [{"localTime": "08:00:00", "value": 5}]}},
    ({"date": "2024-06-04", "samples": [{"steps": []}]}, "samples", "not a JSON object"),
    ({"date": "2024-06-04", "samples": {"step": []}}, "", "a day with neither steps nor mets"),
    ({"date": "2024-06-04"}, "", "a day with neither steps nor mets"),
    ({"date": "2024-06-04", "samples": None}, "", "a day with neither steps nor mets"),
    ([{"date": "2024-06-04"}], "", "not a JSON object"),
    ({"date": "2024-06-04", "samples": {"mets": {"value": 1}}}, "samples mets", "not a JSON list"),
  ),
  ("huawei", "health detail data.json"): (
    [{"timeZone": "+0200", "samplePoints": [POINT]}],
    ([{"samplePoints": POINT}], "record 1 samplePoints", "not a JSON list"),
    ([{"samplePoint": [POINT]}], "", "a record without samplePoints"),
    (["junk"], "record 1", "not a JSON object"),
  ),
  ("huawei", "sport per minute merged data.json"): (
    [{"sportDataUserData": [WALK]}],
    ([{"sportDataUserData": WALK}], "record 1 sportDataUserData", "not a JSON list"),
    ([{"sportDataUserData": [{}]}], "", "a record without sportBasicInfos"),
    (
      [{"sportDataUserData": [{**WALK, "sportBasicInfos": ["junk"]}]}],
      "record 1 sportDataUserData 1 sportBasicInfos",
      "not a JSON object",
    ),
  ),
  ("oura", "oura.json"): (
    {"heart_rate": [{"timestamp": "2024-06-04T08:00:00+02:00", "bpm": 61}]},
    ({"heart_rate": {"bpm": 61}}, "", "a record without data"),
    ({"sleep": "junk"}, "sleep", "not a JSON list"),
    ({"sleep": ["junk"]}, "sleep 1", "not a JSON object"),
    ({"activity": [{"met": {"items": 5}}]}, "activity 1 met items", "not a JSON list"),
    ({"activity": [{"met": [1, 2]}]}, "activity 1 met", "not a JSON object"),
    ({"sleep": [{"sleep_phase_5_min": [4, 2]}]}, "sleep 1 sleep_phase_5_min", "not a text of phases"),
    ([], "", "not a JSON object"),
    (
      {"hearts": []},
      "",
      "none of the lists heart_rate, heartrate, sleep, sleep_periods, activity, daily_activity",
    ),
  ),
  ("google_fit", f"Takeout/Fit/All Data/derived_{STEPS}_merge.json"): (
    points(STEPS, (EIGHT, EIGHT + MINUTE, {"intVal": 5})),
    ({"Data Points": {"0": 1}}, "Data Points", "not a JSON list"),
    ({"Points": []}, "", "a record without Data Points"),
    ("junk", "", "not a JSON object"),
  ),
}


@pytest.mark.parametrize(("source", "name"), SHAPES)
def test_records_of_another_shape_are_counted_and_named(tmp_path, source, name):
  sound, *others = SHAPES[source, name]
  write(tmp_path, {name: json.dumps(sound)})
  found, _, account = read(source, tmp_path)
  assert len(found) == 1 and not account.dropped
  for content, place, why in others:
    write(tmp_path, {name: json.dumps(content)})
    found, _, account = read(source, tmp_path)
    strict = read_strictly(source, tmp_path)
    if re.match("a record without|a day with|none of the lists", why):  # it may have measured nothing
      assert not found and not account.read and [why for _, why in account.remarks] == [why] and strict == "", content
      continue
    assert not found and account.read.total() == account.dropped.total() == 1, content
    assert firsts(account) == {why: f"{name.rpartition('/')[2]} {place}".rstrip()}
    assert strict.endswith(why)


def read_strictly(source, folder):
  """Why the files cannot be read with --strict; "" if they can."""
  importer, export, account = IMPORTERS[source], Export(folder), Account(strict=True)
  try:
    for name in importer.files(export):
      list(importer.read(export, name, account))
  except SchemaError as error:
    return str(error)
  return ""


def test_seconds_beyond_their_day_are_of_no_day(tmp_path):
  days = [{"date": "2024-06-04", "samples": [{**BEAT, "secondsFromDayStart": at} for at in (-60, 86_399, 90_000, 3e7)]}]
  write(tmp_path, {"247ohr_1.json": {"deviceDays": days}})
  found, _, account = read("polar", tmp_path)
  assert [row[1] for row in found] == [WALL + 1000 * (86_399 - 28_800)]
  assert {why: n for (_, why), n in account.dropped.items()} == {"unreadable time": 3}


@pytest.mark.parametrize("interval", (0, -300, 1e7, None))
def test_values_that_are_days_apart_are_no_series(tmp_path, interval):
  write(tmp_path, {"oura.json": {"activity": [{"met": {**OURA_MET, "interval": interval}}]}})
  found, _, account = read("oura", tmp_path)
  assert not found and {why: n for (_, why), n in account.dropped.items()} == {"unreadable time": 2}


def test_broken_json_in_a_field_of_oura_is_counted(tmp_path):
  night = f"{OURA_NIGHT['bedtime_start']};4;{json.dumps(OURA_NIGHT['heart_rate'])[:-5]}\n"
  write(tmp_path, {"sleepmodel.csv": f"bedtime_start;sleep_phase_5_min;heart_rate\n{night}"})
  found, _, account = read("oura", tmp_path)
  assert [row[0] for row in found] == ["asleep"]
  assert firsts(account) == {"not a JSON object": "sleepmodel.csv row 2 heart_rate"}


@pytest.mark.parametrize("zone", ("+2500", "+0275", "Berlin", 120, "0200"))
def test_a_time_zone_that_is_none_is_counted(tmp_path, zone):
  write(tmp_path, {"health detail data.json": [{"timeZone": zone, "samplePoints": [POINT]}]})
  found, _, account = read("huawei", tmp_path)
  assert not found and {why: n for (_, why), n in account.dropped.items()} == {"impossible time zone": 1}


def test_huawei(tmp_path):
  point = lambda key, value, at, end=0: {"key": key, "value": value, "startTime": at, "endTime": at + end}
  record = lambda *found: {"timeZone": "+0200", "type": 7, "samplePoints": list(found)}
  minute = {"startTime": EIGHT, "endTime": EIGHT + MINUTE, "timeZone": "+0200", "deviceCode": 5}
  write(
    tmp_path,
    {
      "Health detail data & description/data.json": [
        record(point("DATA_POINT_DYNAMIC_HEARTRATE", "61.0", EIGHT), point("STRESS_DATA", "30", EIGHT)),
        record(point("PROFESSIONAL_SLEEP_DREAM", "", EIGHT + MINUTE, MINUTE)),
        record(point("PROFESSIONAL_SLEEP_WAKE", "", EIGHT + 2 * MINUTE, MINUTE)),
      ],
      "sport per minute merged data.json": [
        {"sportDataUserData": [{**minute, "sportBasicInfos": [{"steps": 40, "distance": 31, "calorie": 1500}]}]}
      ],
    },
  )
  found, _, account = read("huawei", tmp_path)
  assert found == [
    ("distance", EIGHT, EIGHT + MINUTE, 31, 120, "utc"),
    ("heart_rate", EIGHT, EIGHT, 61, 120, "utc"),
    ("steps", EIGHT, EIGHT + MINUTE, 40, 120, "utc"),
    ("asleep", EIGHT + MINUTE, EIGHT + 2 * MINUTE, 1, 120, "utc"),
    ("asleep", EIGHT + 2 * MINUTE, EIGHT + 3 * MINUTE, 0, 120, "utc"),
  ]
  assert {kind for _, kind in account.passed_over} == {"STRESS_DATA"} and not account.dropped


def test_zepp(tmp_path):
  write(
    tmp_path,
    {
      "HEARTRATE_AUTO/HEARTRATE_AUTO_1.csv": "date,time,heartRate\n2024-06-04,08:00,61\n2024-06-04,8 h,62\n",
      "HEARTRATE/HEARTRATE_1.csv": "time,heartRate\n2024-06-04 06:00:00+0000,75\n",
      "ACTIVITY_MINUTE/ACTIVITY_MINUTE_1.csv": "date,time,steps\n2024-06-04,08:01,40\n",
      "SLEEP/SLEEP_1.csv": "date,deepSleepTime,start,stop\n"
      "2024-06-04,9,2024-06-03 20:00:00+0000,2024-06-04 04:00:00+0000\n"
      "2024-06-05,0,2024-06-04 16:00:00+0000,2024-06-04 16:00:00+0000\n",
      "SLEEP_MINUTE/SLEEP_MINUTE_1.csv": "date,time,stage,hr,respiratory_rate\n2024-06-05,01:00,DEEP,55,14\n",
    },
  )
  found, stretches, account = read("zepp", tmp_path)
  assert found == [
    ("heart_rate", EIGHT, EIGHT, 75, None, "utc"),
    ("heart_rate", WALL, WALL, 61, None, "wall"),
    ("steps", WALL + MINUTE, WALL + 2 * MINUTE, 40, None, "wall"),
  ]
  assert stretches == [("sleep", EIGHT - 600 * MINUTE, EIGHT - 120 * MINUTE, None)]
  assert {why: n for (_, why), n in account.dropped.items()} == {"unreadable time": 1}
  assert firsts(account) == {"unreadable time": "HEARTRATE_AUTO_1.csv row 3"}


def test_mi_fitness(tmp_path):
  rows = [
    ("heart_rate", EIGHT // 1000, {"bpm": 61}),
    ("steps", EIGHT // 1000, {"steps": 9}),
    ("spo2", "x", {"spo2": 97}),
  ]
  text = "Uid,Sid,Key,Time,Value,UpdateTime\n"
  text += "".join(
    f'7,1,{key},{time},"{json.dumps(value)}",0\n'.replace('{"', '{""').replace('":', '"":') for key, time, value in rows
  )
  write(tmp_path, {"20240701_7_MiFitness_hlth_center_fitness_data.csv": text})
  found, _, account = read("mi_fitness", tmp_path)
  assert found == [("heart_rate", EIGHT, EIGHT, 61, None, "utc")]
  assert account.passed_over == {(tmp_path.name, "steps"): 1}
  assert {why: n for (_, why), n in account.dropped.items()} == {"unreadable time": 1}
  assert firsts(account)["unreadable time"].endswith("hlth_center_fitness_data.csv row 4")
  write(
    tmp_path,
    {"20240701_7_MiFitness_hlth_center_fitness_data.csv": text + text.replace("7,1,", "8,1,").split("\n", 1)[1]},
  )
  assert set(read("mi_fitness", tmp_path)[2].read) == {"7", "8"}


def test_a_row_without_a_uid_is_of_the_only_person_of_mi_fitness(tmp_path, monkeypatch):
  rows = [f'{uid},heart_rate,{EIGHT // 1000 + 60 * k},"{{""bpm"": 61}}"\n' for k, uid in enumerate(("7", "", "7"))]
  name = "7_hlth_center_fitness_data.csv"
  write(tmp_path, {name: "Uid,Key,Time,Value\n" + "".join(rows)})
  assert read("mi_fitness", tmp_path)[2].read == {tmp_path.name: 3}
  monkeypatch.setattr("data_pipelines.ingest.reading.csv_batches.BLOCK_BYTES", 64)
  write(tmp_path, {name: "Uid,Key,Time,Value\n" + "".join([*rows, rows[0].replace("7,", "8,", 1)])})
  owner = IMPORTERS["mi_fitness"].owners(Export(tmp_path), [name])[name]
  assert owner.in_rows and not owner.account  # the second person comes in a later batch


OURA_NIGHT = {
  "bedtime_start": "2024-06-04T08:00:00+02:00",
  "sleep_phase_5_min": "421",
  "heart_rate": {"interval": 300.0, "items": [None, 52, 53], "timestamp": "2024-06-04T08:00:00+02:00"},
  "hrv": {"interval": 300.0, "items": [40], "timestamp": "2024-06-04T08:00:00.000+02:00"},
}
OURA_MET = {"interval": 60.0, "items": [0.9, 1.2], "timestamp": "2024-06-04T08:00:00.000+02:00"}
FIVE = 5 * MINUTE
OURA = [
  ("asleep", EIGHT, EIGHT + FIVE, 0, 120, "utc"),
  ("heart_rate", EIGHT, EIGHT, 61, None, "utc"),
  ("hrv_rmssd", EIGHT, EIGHT, 40, 120, "utc"),
  ("mets", EIGHT, EIGHT, 0.9, 120, "utc"),
  ("mets", EIGHT + MINUTE, EIGHT + MINUTE, 1.2, 120, "utc"),
  ("asleep", EIGHT + FIVE, EIGHT + 2 * FIVE, 1, 120, "utc"),
  ("heart_rate", EIGHT + FIVE, EIGHT + FIVE, 52, 120, "utc"),
  ("asleep", EIGHT + 2 * FIVE, EIGHT + 3 * FIVE, 1, 120, "utc"),
  ("heart_rate", EIGHT + 2 * FIVE, EIGHT + 2 * FIVE, 53, 120, "utc"),
]


def test_oura_as_json(tmp_path):
  beats = [{"bpm": 61, "source": "awake", "timestamp": "2024-06-04T06:00:00+00:00"}]
  content = {"heart_rate": beats, "sleep": {"data": [OURA_NIGHT]}, "daily_activity": [{"met": OURA_MET}], "email": "x"}
  write(tmp_path, {"oura_2024.json": content})
  assert read("oura", tmp_path)[0] == OURA


def test_oura_as_csv(tmp_path):
  quoted = lambda value: '"' + json.dumps(value).replace('"', '""') + '"'
  night = ";".join(quoted(v) if isinstance(v, dict) else v for v in OURA_NIGHT.values())
  write(
    tmp_path,
    {
      "App Data/heartrate.csv": "timestamp;bpm;source\n2024-06-04T06:00:00.000Z;61;awake\n",
      "App Data/sleepmodel.csv": ";".join(OURA_NIGHT) + f"\n{night}\n",
      "App Data/dailyactivity.csv": f"class_5_min;met\n111;{quoted(OURA_MET)}\n",
      "sleep.csv": "Sleep onset,Wake onset\n1,2\n",  # of another app
    },
  )
  assert read("oura", tmp_path)[0] == OURA


def database(path, tables):
  with sqlite3.connect(path) as connection:
    for table, (columns, rows) in tables.items():
      connection.execute(f"CREATE TABLE {table} ({columns})")
      connection.executemany(f"INSERT INTO {table} VALUES ({','.join('?' * (columns.count(',') + 1))})", rows)
  connection.close()


def test_gadgetbridge(tmp_path):
  at = EIGHT // 1000
  database(
    tmp_path / "Gadgetbridge",
    {
      "MI_BAND_ACTIVITY_SAMPLE": (
        "TIMESTAMP, DEVICE_ID, USER_ID, RAW_INTENSITY, STEPS, RAW_KIND, HEART_RATE",
        [(at, 1, 1, 20, 12, 1, 61), (at + 60, 1, 1, 0, 0, 1, 255), (at + 120, 1, 1, 0, "many", 1, -1)],
      ),
      "XIAOMI_ACTIVITY_SAMPLE": (
        "TIMESTAMP, DEVICE_ID, STEPS, HEART_RATE, SPO2, STRESS",
        [(at, 2, 3, 60, 97, 30), (at, 2, 3, 0, 0, 0)],
      ),
      "HUAMI_STRESS_SAMPLE": ("TIMESTAMP, DEVICE_ID, STRESS", [(EIGHT + 1, 1, 25)]),
    },
  )
  found, _, account = read("gadgetbridge", tmp_path)
  assert [row[1:4] for row in found if row[0] == "heart_rate"] == [(EIGHT, EIGHT, 61), (EIGHT, EIGHT, 60)]
  assert [row[1:4] for row in found if row[0] == "steps"] == [
    *[(EIGHT, EIGHT + MINUTE, n) for n in (12, 3, 3)],
    (EIGHT + MINUTE, EIGHT + 2 * MINUTE, 0),
  ]
  assert [row[:4] for row in found if row[0] in ("spo2", "stress")] == [
    ("spo2", EIGHT, EIGHT, 97),
    ("stress", EIGHT, EIGHT, 30),
    ("stress", EIGHT + 1, EIGHT + 1, 25),
  ]
  assert {why: n for (_, why), n in account.dropped.items()} == {"unreadable steps": 1}
  assert firsts(account) == {
    "unreadable steps": f"Gadgetbridge table MI_BAND_ACTIVITY_SAMPLE DEVICE_ID 1 TIMESTAMP {at + 120}"
  }


def test_mhealthdata(tmp_path):
  bpm, steps, sleep = (np.zeros((2, 1440), np.uint8) for _ in range(3))
  bpm[1, 480:482], steps[1, 481], sleep[1, :8] = (61, 62), 40, range(8)
  np.savez_compressed(
    tmp_path / "kim.npz", bpm=bpm, steps=steps, sleep=sleep, idate=[739_040, 739_041], rhr=np.zeros(2)
  )
  found, _, _ = read("mhealthdata", tmp_path)  # day 739,041 is 2024-06-04
  assert found[-3:] == [
    ("heart_rate", WALL, WALL, 61, None, "wall"),
    ("heart_rate", WALL + MINUTE, WALL + MINUTE, 62, None, "wall"),
    ("steps", WALL + MINUTE, WALL + 2 * MINUTE, 40, None, "wall"),
  ]
  np.savez(tmp_path / "sam.npz", sleep=np.where(sleep, sleep, np.nan), idate=[739_040, 739_041])  # NaN: no reading
  both, _, account = read("mhealthdata", tmp_path)
  assert len(both) == len(found) + 5 and not account.dropped
  (tmp_path / "sam.npz").unlink()
  asleep = [((row[1] - WALL) // MINUTE + 480, row[3]) for row in found if row[0] == "asleep"]
  assert asleep == [(1, 0), (3, 1), (5, 1), (6, 1), (7, 1)]
  np.savez(tmp_path / "kim.npz", bpm=bpm[:1], idate=[738_944, 738_945])
  with pytest.raises(SchemaError, match=r"key 'bpm' is uint8 \[1, 1440\], expected numbers \[2, 1440\]"):
    read("mhealthdata", tmp_path)


def test_each_export_is_recognised_by_its_files_and_becomes_days(tmp_path, capsys):
  beats = [{"heartRate": 60 + k % 9, "secondsFromDayStart": 60 * k} for k in range(1440)]
  write(tmp_path / "polar", {"247ohr_1.json": {"deviceDays": [{"date": "2024-06-04", "samples": beats}]}})
  assert run_build("--source=auto", f"--input={tmp_path / 'polar'}", "--dry_run") == 0
  output = capsys.readouterr().out
  assert "--source=polar" in output and "- heart_rate (bpm): mean, 100 % of steps, 60 to 68" in output


def test_exports_that_name_an_account_or_a_device_are_their_persons(tmp_path, capsys):
  beats = [{"heartRate": 60 + k % 9, "secondsFromDayStart": 60 * k} for k in range(1440)]
  for folder, user, date in (("a", "kim", "2024-06-04"), ("b", "kim", "2024-06-05"), ("c", "sam", "2024-06-04")):
    days = [{"date": date, "samples": beats if user == "kim" else [{**beat, "heartRate": 70} for beat in beats]}]
    write(tmp_path / "polar", {f"{folder}/247ohr_1.json": {"deviceDays": days}})
    write(tmp_path / "polar", {f"{folder}/account-data-1.json": {"username": user}})
  assert run_build("--source=polar", f"--input={tmp_path / 'polar'}", "--dry_run") == 0
  assert "would build 3 days of 2 people" in capsys.readouterr().out
  for folder, day in (("may", 0), ("june", 1)):
    rows = [(EIGHT // 1000 + 86_400 * day + 60 * k, 1, 3, 60 + k % 9) for k in range(900)]
    (tmp_path / "bands" / folder).mkdir(parents=True)
    tables = {"MI_BAND_ACTIVITY_SAMPLE": ("TIMESTAMP, DEVICE_ID, STEPS, HEART_RATE", rows)}
    database(
      tmp_path / "bands" / folder / "Gadgetbridge", tables | {"DEVICE": ("_id, IDENTIFIER", [(1, "C0:00:00:00:00:01")])}
    )
  flags = ["--source=gadgetbridge", f"--input={tmp_path / 'bands'}", "--timezone=Europe/Berlin", "--dry_run"]
  assert run_build(*flags) == 0
  assert "would build 2 days of 1 person" in capsys.readouterr().out


def test_a_scale_of_two_people_does_not_make_them_one(tmp_path):
  owners = []
  for folder, number in (("kim", 1), ("lee", 2)):
    (tmp_path / folder).mkdir()
    devices = [(1, f"C0:00:00:00:00:0{number}"), (2, "c0:00:00:00:00:ff")]
    tables = {
      "MI_BAND_ACTIVITY_SAMPLE": ("TIMESTAMP, DEVICE_ID, STEPS, HEART_RATE", [(EIGHT // 1000, 1, 3, 60)]),
      "MI_SCALE_WEIGHT_SAMPLE": ("TIMESTAMP, DEVICE_ID, WEIGHT_KG", [(EIGHT, 2, 70)]),
      "DEVICE": ("_id, IDENTIFIER", devices),
    }
    database(tmp_path / folder / "Gadgetbridge", tables)
    owners += IMPORTERS["gadgetbridge"].owners(Export(tmp_path / folder), ["Gadgetbridge"]).values()
  assert [owner.marks for owner in owners] == [{f"bluetooth C0:00:00:00:00:0{n}"} for n in (1, 2)]


JSON_FILES = {
  "google_fit": "Fit/All Data/derived_com.google.heart_rate.bpm_x.json",
  "polar": "247ohr_1.json",
  "huawei": "health detail data.json",
  "oura": "oura.json",
}
KEYS = [
  *(
    "Data Points",
    "fitValue",
    "value",
    "intVal",
    "fpVal",
    "startTimeNanos",
    "endTimeNanos",
    "dataTypeName",
    "deviceDays",
  ),
  *("date", "samples", "heartRate", "secondsFromDayStart", "samplePoints", "key", "startTime", "endTime", "timeZone"),
  *(
    "heart_rate",
    "sleep",
    "bpm",
    "timestamp",
    "bedtime_start",
    "sleep_phase_5_min",
    "interval",
    "items",
    "met",
    "data",
  ),
]
WORDS = [
  "com.google.heart_rate.bpm",
  "com.google.sleep.segment",
  "2024-06-04",
  "2024-06-04T06:00:00+02:00",
  "421",
  "+0200",
]
WORDS += ["DATA_POINT_DYNAMIC_HEARTRATE", "PROFESSIONAL_SLEEP_DEEP", "\ud800", "é", "1e999"]
LEAVES = (
  st.none()
  | st.booleans()
  | st.integers(-(10**30), 10**30)
  | st.floats()
  | st.sampled_from(WORDS)
  | st.text(max_size=5)
)
TREES = st.recursive(
  LEAVES,
  lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=6),
  max_leaves=30,
)


@settings(max_examples=30, deadline=None)
@given(source=st.sampled_from(sorted(JSON_FILES)), content=TREES)
def test_any_json_is_read_counted_or_refused_with_a_line(tmp_path_factory, source, content):
  folder = write(tmp_path_factory.mktemp("fuzz"), {JSON_FILES[source]: json.dumps(content)})
  try:
    read(source, folder)
  except SchemaError as error:
    assert "\n" not in str(error)


@settings(max_examples=10, deadline=None)
@given(changes=st.lists(st.tuples(st.integers(0, 8191), st.integers(0, 255)), max_size=30), end=st.integers(0, 8192))
def test_any_database_or_archive_is_read_counted_or_refused_with_a_line(tmp_path_factory, changes, end):
  folder = tmp_path_factory.mktemp("fuzz")
  rows = [(EIGHT // 1000 + 60 * k, 1, k % 9, 60 + k) for k in range(20)]
  database(folder / "Gadgetbridge", {"MI_BAND_ACTIVITY_SAMPLE": ("TIMESTAMP, DEVICE_ID, STEPS, HEART_RATE", rows)})
  np.savez(folder / "kim.npz", bpm=np.ones((1, 1440)), idate=[739_041])
  for source, name in (("gadgetbridge", "Gadgetbridge"), ("mhealthdata", "kim.npz")):
    content = bytearray((folder / name).read_bytes())
    for place, byte in changes:
      content[place % len(content)] = byte
    (folder / name).write_bytes(content[: end or None])
    try:
      read(source, folder)
    except SchemaError as error:
      assert "\n" not in str(error)


CSV_FILES = {
  "withings": ("raw_hr_hr.csv", "start,duration,value"),
  "zepp": ("HEARTRATE_AUTO_1.csv", "date,time,heartRate"),
  "mi_fitness": ("hlth_center_fitness_data.csv", "Uid,Key,Time,Value"),
  "google_fit": ("2024-06-04.csv", "Start time,End time,Step count"),
  "oura": ("sleepmodel.csv", "bedtime_start;sleep_phase_5_min;heart_rate"),
}


@settings(max_examples=30, deadline=None)
@given(
  source=st.sampled_from(sorted(CSV_FILES)),
  rows=st.lists(st.text("0123456789:-+T[]{},;\"'é\n Z.e", max_size=40), max_size=8),
)
def test_any_table_is_read_counted_or_refused_with_a_line(tmp_path_factory, source, rows):
  name, header = CSV_FILES[source]
  folder = write(tmp_path_factory.mktemp("fuzz"), {name: "\n".join([header, *rows])})
  try:
    read(source, folder)
  except SchemaError as error:
    assert "\n" not in str(error)
