"""A small Fitbit export in the form of Google Takeout's; every value is compared with an independent parse."""

import datetime
import io
import json
import zipfile

import hypothesis
import numpy as np
import pandas as pd
import pytest
from hypothesis import strategies as st

from data_pipelines import build
from data_pipelines.dataset import Dataset
from data_pipelines.errors import SchemaError
from data_pipelines.ingest.importers.fitbit import Fitbit
from data_pipelines.ingest.reading.account import Account
from data_pipelines.ingest.reading.export_files import Export
from data_pipelines.ingest.reading.readings import Readings, Stretch
from data_pipelines.loader import eval_loader

JSON, CSV, SLEEP = "Global Export Data", "Physical Activity_GoogleData", "Health Fitness Data_GoogleData"


def series(*rows):
  """As Takeout prints it: spaces before colons, items separated by "},{"."""
  items = [{"dateTime": time, "value": value} for time, value in rows]
  return "[" + ",".join(json.dumps(item, indent=2, separators=(",", " : ")) for item in items) + "]"


NIGHT = {
  "logId": 26589710670,
  "dateOfSleep": "2020-06-02",
  "startTime": "2020-06-01T23:41:30.000",
  "endTime": "2020-06-02T00:31:30.000",
  "type": "stages",
  "levels": {
    "summary": {"deep": {"count": 1, "minutes": 10}},
    "data": [
      {"dateTime": "2020-06-01T23:41:30.000", "level": "wake", "seconds": 600},
      {"dateTime": "2020-06-01T23:51:30.000", "level": "light", "seconds": 1800},
      {"dateTime": "2020-06-02T00:21:30.000", "level": "rem", "seconds": 600},
    ],
    "shortData": [{"dateTime": "2020-06-02T00:00:00.000", "level": "wake", "seconds": 60}],
  },
  "mainSleep": True,
}
FILES = {
  f"{JSON}/heart_rate-2020-06-01.json": series(
    ("06/01/20 04:00:02", {"bpm": 70, "confidence": 0}),
    ("06/01/20 04:00:12", {"bpm": 61, "confidence": 1}),
    ("06/01/20 04:00:17", {"bpm": 63, "confidence": 3}),
  ),
  f"{JSON}/steps-2020-06-01.json": series(("06/01/20 04:01:00", "0"), ("06/01/20 04:02:00", "27")),
  f"{JSON}/distance-2020-06-01.json": series(("06/01/20 04:02:00", "2140")),
  f"{JSON}/calories-2020-06-01.json": series(("06/01/20 00:00:00", "1.13"), ("06/01/20 00:01:00", "1.13")),
  f"{JSON}/sleep-2020-06-01.json": json.dumps([NIGHT], indent=2),
  f"{JSON}/exercise-0.json": json.dumps(
    [{"logId": 1, "activityName": "Walk", "startTime": "06/01/20 21:03:04", "duration": 1203000, "calories": 70}]
  ),
  f"{JSON}/resting_heart_rate-2020-06-01.json": series(("06/01/20 00:00:00", {"date": "06/01/20", "value": 60.1})),
  f"{CSV}/heart_rate_2020-07-01.csv": "timestamp,beats per minute,data source\n"
  "2020-07-01T00:00:04Z,58.0,Google Fitbit Air\n2020-07-01T00:00:09Z,59.5,Google Fitbit Air\n",
  f"{CSV}/Steps/steps_2020-07-01.csv": "timestamp,steps,data source\n2020-07-01T10:00:00.999Z,12,MobileTrack\n"
  "2020-07-01T10:00:00Z,14,Google Fitbit Air\n2020-07-01T10:00:00Z,12,Fit Health Connect\n",
  f"{CSV}/distance_2020-07-01.csv": "timestamp,distance\n2020-07-01T10:00:00Z,10.4\n",
  f"{CSV}/calories_2020-07-01.csv": "timestamp,calories,data source\n2020-07-01T10:00:00Z,1.5,Google Health App\n",
  f"{CSV}/floors_2020-07-01.csv": "timestamp,floors,data source\n2020-07-01T10:00:00Z,2,Sense\n",
  f"{CSV}/body_temperature_2020-07-01.csv": "timestamp,temperature celsius\n2020-07-01T10:00:00Z,33.2\n",
  f"{CSV}/activity_level_2020-07-01.csv": "timestamp,level,data source\n2020-07-01T10:00:00Z,VERY_ACTIVE,Sense\n"
  "2020-07-01T10:01:00Z,SEDENTARY,Sense\n",
  f"{CSV}/heart_rate_variability_2020-07-01.csv": "timestamp,root mean square of successive differences milliseconds,"
  "standard deviation milliseconds,data source\n2020-07-01T01:05:00Z,41.25,60.5,Sense\n",
  "Oxygen Saturation (SpO2)/Minute SpO2 - 2020-07-01.csv": "timestamp,value\n"
  "2020-07-01T01:00:00Z,95.4\n2020-07-01T01:01:00Z,50.0\n2020-07-01T01:02:00Z,96.1\n",
  "Heart Rate Variability/Heart Rate Variability Details - 2020-07-01.csv": "timestamp,rmssd,coverage,low_frequency,"
  "high_frequency\n2020-07-01T01:05:00,38.817,0.95,405.8,372.4\n",
  "Temperature/Device Temperature - 2020-07-01.csv": "recorded_time,temperature,sensor_type\n"
  "2020-07-01T00:01,-3.2,UNKNOWN\n",
  f"{SLEEP}/UserSleepStages_2020-07-01.csv": "sleep_id,sleep_stage_id,sleep_stage_type,start_utc_offset,"
  "sleep_stage_start,end_utc_offset,sleep_stage_end,data_source\n"
  "1,1,LIGHT,+02:00,2020-07-01T22:00:00Z,+02:00,2020-07-01T22:10:30Z,DERIVED\n"
  "1,2,AWAKE,-03:30,2020-07-01T22:10:30Z,-03:30,2020-07-01T22:11:00Z,DERIVED\n",
  f"{CSV}/readme.csv": "not,read\n",
  "Stress Score/Stress Score.csv": "DATE,STRESS_SCORE\n2020-07-01T00:00:00,70\n",
}
EXERCISES = (
  "exercise_id,exercise_start,exercise_end,utc_offset,activity_name\n"
  "1,2020-06-01T21:03:04Z,2020-06-01T21:23:07Z,-07:00,Walk\n2,2020-06-02T21:03:04Z,,-07:00,Run\n"
)


def written(tmp_path, files):
  for name, text in files.items():
    path = tmp_path / "Takeout" / "Fitbit" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
  return Export(tmp_path, "me")


@pytest.fixture(params=["folder", "zip"])
def export(request, tmp_path):
  if request.param == "folder":
    return written(tmp_path, FILES)
  with zipfile.ZipFile(tmp_path / "takeout.zip", "w") as file:
    for name, text in FILES.items():
      file.writestr(f"Takeout/Fitbit/{name}", text)
  return Export(tmp_path / "takeout.zip", "me")


def read(export, part="", strict=False):
  """Readings and stretches of the files whose names hold `part`, and the account."""
  importer, account = Fitbit(), Account(strict)
  blocks = [item for name in importer.files(export) if part in name for item in importer.read(export, name, account)]
  units = {signal.name for signal in importer.signals}
  assert all(item.participant == "me" and (isinstance(item, Stretch) or item.signal in units) for item in blocks)
  return blocks, account


def one(export, part):
  blocks, account = read(export, part)
  assert len(blocks) == 1
  return blocks[0], account


def ms(text):
  return int(datetime.datetime.fromisoformat(text).replace(tzinfo=datetime.UTC).timestamp() * 1000)


@pytest.mark.parametrize(
  ("kind", "signal", "unit", "lasts", "clock"),
  [
    ("steps", "steps", "steps", 60_000, "utc"),
    ("distance", "distance", "cm", 60_000, "utc"),
    ("calories", "calories", "kcal", 60_000, "wall"),
  ],
)
def test_json_minutes(export, kind, signal, unit, lasts, clock):
  name = f"{JSON}/{kind}-2020-06-01.json"
  block, account = one(export, name)
  table = pd.read_json(io.StringIO(FILES[name]), convert_dates=False)
  start = [ms(str(time)) for time in pd.to_datetime(table["dateTime"], format="%m/%d/%y %H:%M:%S")]
  assert block.start.tolist() == start and block.value.tolist() == table["value"].astype(float).tolist()
  assert (block.signal, block.unit, block.clock) == (signal, unit, clock)
  assert (block.end - block.start == lasts).all()
  assert account.read == {"me": len(table)} and not account.dropped


def test_json_heart_rates(export):
  block, account = one(export, f"{JSON}/heart_rate-")
  assert block.start.tolist() == [ms("2020-06-01T04:00:12"), ms("2020-06-01T04:00:17")] == block.end.tolist()
  assert block.value.tolist() == [61, 63] and (block.unit, block.clock) == ("bpm", "utc")
  assert account.read == {"me": 3} and account.dropped == {("me", "confidence 0"): 1}
  assert account.example["me", "confidence 0"].endswith("heart_rate-2020-06-01.json row 1")


def test_json_night_with_a_short_wake_on_top(export):
  block, account = one(export, f"{JSON}/sleep-")
  edges = ["2020-06-01T23:41:30", "2020-06-01T23:51:30", "2020-06-02T00:00:00", "2020-06-02T00:01:00"]
  edges += ["2020-06-02T00:21:30", "2020-06-02T00:31:30"]
  assert block.start.tolist() == [ms(edge) for edge in edges[:-1]] and block.end.tolist() == [
    ms(edge) for edge in edges[1:]
  ]
  assert block.value.tolist() == [0, 1, 0, 1, 1] and block.clock == "wall" and block.signal == "asleep"
  assert account.read == {"me": 4} and not account.dropped


def test_classic_sleep_and_odd_stages(tmp_path):
  levels = [
    ("asleep", 60),
    ("restless", 60),
    ("awake", 60),
    ("unknown", 60),
    ("asleep", -1),
    ("asleep", "60"),
    (None, 60),
  ]
  start = datetime.datetime(2020, 6, 1)
  times = [(start + datetime.timedelta(minutes=i)).isoformat() for i in range(len(levels))]
  data = [{"dateTime": t, "level": level, "seconds": s} for t, (level, s) in zip(times, levels, strict=True)]
  night = {"levels": {"data": [*data, "?", {}]}}
  block, account = one(written(tmp_path, {"sleep-2020-06-01.json": json.dumps([night, {"levels": None}])}), "sleep")
  assert block.value.tolist() == [1, 0, 0] and account.read == {"me": 10}
  no_lists = ("me", "night without lists of its stages")
  assert account.dropped == {("me", "unreadable sleep stage"): 6, no_lists: 1}
  assert account.example[no_lists].endswith("sleep-2020-06-01.json row 2")


@pytest.mark.parametrize("levels", ("x", {}, {"data": {}}, {"data": [], "shortData": "x"}, {"short": []}))
def test_a_night_of_another_shape_is_counted(tmp_path, levels):
  export = written(tmp_path, {"sleep-2020-06-01.json": json.dumps([{"levels": levels}])})
  assert read(export)[1].dropped == {("me", "night without lists of its stages"): 1}
  with pytest.raises(SchemaError, match="row 1: night without lists of its stages"):
    read(export, strict=True)


def test_json_workouts(export):
  stretch, _ = one(export, "exercise-0")
  assert stretch == Stretch("me", "walk", ms("2020-06-01T21:03:04"), ms("2020-06-01T21:23:07"))


def test_workouts_are_read_once(tmp_path):
  export = written(tmp_path, {name: FILES[name] for name in (f"{JSON}/exercise-0.json",)})
  export = written(tmp_path, {f"{SLEEP}/UserExercises_2020-06-01.csv": EXERCISES})
  stretch, account = one(export, "")
  assert stretch == Stretch("me", "walk", ms("2020-06-01T21:03:04"), ms("2020-06-01T21:23:07"), -420)
  assert account.dropped == {("me", "the same workouts in UserExercises"): 1, ("me", "unreadable workout"): 1}


@pytest.mark.parametrize(
  ("name", "column", "signal", "unit", "lasts"),
  [
    (f"{CSV}/heart_rate_2020-07-01.csv", 1, "heart_rate", "bpm", 0),
    (f"{CSV}/calories_2020-07-01.csv", 1, "calories", "kcal", 60_000),
    (f"{CSV}/distance_2020-07-01.csv", 1, "distance", "m", 60_000),
    (f"{CSV}/floors_2020-07-01.csv", 1, "floors", "count", 60_000),
    (f"{CSV}/body_temperature_2020-07-01.csv", 1, "skin_temperature", "C", 0),
    (f"{CSV}/heart_rate_variability_2020-07-01.csv", 1, "hrv_rmssd", "ms", 0),
    ("Heart Rate Variability/Heart Rate Variability Details - 2020-07-01.csv", 1, "hrv_rmssd", "ms", 0),
    ("Temperature/Device Temperature - 2020-07-01.csv", 1, "skin_temperature_delta", "C", 0),
  ],
)
def test_tables(export, name, column, signal, unit, lasts):
  block, account = one(export, name)
  table = pd.read_csv(io.StringIO(FILES[name]))
  zoned = table.iloc[:, 0].str.endswith("Z").all()
  assert block.start.tolist() == [ms(text) for text in table.iloc[:, 0].str.removesuffix("Z")]
  assert (block.end - block.start == lasts).all() and block.value.tolist() == table.iloc[:, column].tolist()
  assert (block.signal, block.unit, block.clock) == (signal, unit, "utc" if zoned else "wall")
  assert account.read == {"me": len(table)} and not account.dropped


def test_activity_levels(export):
  assert one(export, "activity_level_")[0].value.tolist() == [3, 0]


def test_spo2_of_exactly_50_is_none(export):
  block, account = one(export, "Minute SpO2")
  assert block.value.tolist() == [95.4, 96.1] and account.dropped == {("me", "spo2 not measured"): 1}


def test_stages_with_offsets(export):
  block, _ = one(export, "UserSleepStages")
  assert block.start.tolist() == [ms("2020-07-01T22:00"), ms("2020-07-01T22:10:30")] and block.clock == "utc"
  assert block.end.tolist() == [ms("2020-07-01T22:10:30"), ms("2020-07-01T22:11:00")]
  assert block.value.tolist() == [1, 0] and block.offset.tolist() == [120, -210]


def test_trackers_come_before_phones_and_copies(export):
  blocks, _ = read(export, "Steps/steps_")
  order = sorted(blocks, key=lambda block: block.device)
  assert [block.device for block in order] == ["1 Google Fitbit Air", "2 MobileTrack", "3 Fit Health Connect"]
  assert [block.value.tolist() for block in order] == [[14], [12], [12]]
  assert order[1].start.tolist() == [ms("2020-07-01T10:00:00") + 999]


def test_what_fitbit_merged_comes_first_and_wall_clocks_last(export):
  importer = Fitbit()
  blocks = [block for block in read(export)[0] if isinstance(block, Readings)]
  devices = sorted({block.device for block in blocks if block.device}, key=lambda d: (d not in importer.devices, d))
  assert devices[0] == "0 merged" and devices[-1] == "9 wall clock"


def test_csv_rows_of_days_that_json_covers_are_counted_and_not_used(tmp_path):
  files = {
    f"{JSON}/heart_rate-2020-06-{day:02d}.json": series(("06/01/20 04:00:02", {"bpm": 60, "confidence": 1}))
    for day in (1, 2, 3)
  }
  rows = "".join(f"2020-06-{day:02d}T10:00:00Z,70,Sense\n" for day in (1, 2, 3, 4))
  files[f"{CSV}/heart_rate_2020-06-01.csv"] = "timestamp,beats per minute,data source\n" + rows
  (block,), account = read(written(tmp_path, files), CSV)
  days = pd.to_datetime(block.start, unit="ms").day
  assert days.tolist() == [1, 3, 4]  # by UTC, the JSON may lack hours of the first and the third
  assert account.dropped == {("me", "the same day in Global Export Data"): 1}


def test_months_of_merged_steps(tmp_path):
  files = {f"{JSON}/steps-2020-06-01.json": series(("06/01/20 04:00:00", "1"))}
  files[f"{CSV}/steps_2020-06-01.csv"] = "timestamp,steps\n2020-06-15T10:00:00Z,9\n2020-08-15T10:00:00Z,8\n"
  (block,), account = read(written(tmp_path, files), CSV)
  assert block.value.tolist() == [8] and sum(account.dropped.values()) == 1


def test_bad_items_are_counted_with_an_example(tmp_path):
  good = ("06/01/20 04:00:00", "1")
  rows = [
    good,
    ("02/30/20 04:00:00", "1"),
    ("06/01/20 24:00:00", "1"),
    ("06/01/20 04:00:00", "x"),
    (7, "1"),
    (None, {}),
  ]
  text = (
    series(*rows, ("06/01/20 04:00:00", None), ("06/01/20 04:00:00", True))[:-1] + ',{"a": 1}, 3, {"value": "\\ud800"}]'
  )
  blocks, account = read(written(tmp_path, {"steps-2020-06-01.json": text}))
  assert [block.value.tolist() for block in blocks] == [[1]] and account.read == {"me": 11}
  assert account.dropped == {("me", "unreadable time"): 7, ("me", "unreadable steps"): 3}
  assert account.example["me", "unreadable time"].endswith("steps-2020-06-01.json row 2")


def test_bad_rows_are_counted(tmp_path):
  rows = ["2020-07-01T00:00:04,58,Sense", "2020-02-30T00:00:04Z,58,Sense", "2020-07-01T00:00:04Z,,Sense"]
  text = "timestamp,beats per minute,data source\n" + "\n".join([*rows, "2020-07-01T02:00:04+02:00,58,Sense"]) + "\n"
  block, account = one(written(tmp_path, {"heart_rate_2020-07-01.csv": text}), "")
  assert block.start.tolist() == [ms("2020-07-01T00:00:04")]
  reasons = ("time without offset", "unreadable time", "unreadable heart_rate")
  assert account.dropped == {("me", why): 1 for why in reasons}


@pytest.mark.parametrize(
  ("name", "text", "message"),
  [
    ("steps-2020-06-01.json", FILES[f"{JSON}/steps-2020-06-01.json"][:-20], "row 2: cut off before its end"),
    ("steps-2020-06-01.json", "{}", "not a JSON array"),
    ("steps-2020-06-01.json", "", "not a JSON array"),
    ("steps-2020-06-01.json", "[" * 5000 + "]" * 5000, "nested deeper"),
    ("steps-2020-06-01.json", "[1] [2]", "broken JSON item"),
    ("steps-2020-06-01.json", FILES[f"{JSON}/steps-2020-06-01.json"].encode("utf-16-le"), "UTF-16"),
    ("sleep-2020-06-01.json", '{"sleep": []}', "not a JSON array"),
    ("sleep-2020-06-01.json", '[{"levels": {"data": []}}, 4]', "sleep-2020-06-01.json row 2: not a JSON object"),
    ("exercise-0.json", '[{"duration": NaN}]', "row 1: broken JSON item"),
    ("heart_rate_2020-06-01.csv", "timestamp,data source\n", "column 'beats per minute' is missing"),
    ("UserSleepStages_2020-06-01.csv", "a,b\n", "column 'sleep_stage_type' is missing"),
    ("Minute SpO2 - 2020-06-01.csv", b"timestamp,value\n\xff,1\n", "not UTF-8"),
  ],
)
def test_files_that_are_not_what_they_should_be(tmp_path, name, text, message):
  with pytest.raises(SchemaError, match=message) as error:
    read(written(tmp_path, {name: text}), strict=True)
  assert "\n" not in str(error.value)


def test_personal_files_are_not_listed(tmp_path):
  names = [
    "Your Profile/Profile.csv",
    f"{CSV}/gps_location_2020-06-01.csv",
    f"{JSON}/badge.json",
    f"{JSON}/weight-2020-06-01.json",
  ]
  assert not Fitbit().files(written(tmp_path, dict.fromkeys(names, "")))


def test_long_files_come_in_blocks_of_the_same_items(tmp_path, monkeypatch):
  monkeypatch.setattr("data_pipelines.ingest.reading.export_files.ITEMS_BLOCK", 100)
  rows = [(f"06/01/20 04:{i // 60:02d}:{i % 60:02d}", {"bpm": 50 + i % 90, "confidence": 2}) for i in range(500)]
  blocks, account = read(written(tmp_path, {"heart_rate-2020-06-01.json": series(*rows)}))
  assert len(blocks) > 100 and account.read == {"me": 500}
  assert np.concatenate([block.value for block in blocks]).tolist() == [value["bpm"] for _, value in rows]


@pytest.mark.parametrize(
  "part", ["/heart_rate-", "/sleep-", "exercise-", "heart_rate_2020", "steps_", "UserSleepStages"]
)
@hypothesis.settings(
  max_examples=30, deadline=5000, suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture]
)
@hypothesis.given(data=st.data())
def test_damage_is_refused_or_survived(tmp_path, part, data):
  (name,) = [name for name in FILES if part in name]
  text = bytearray(FILES[name].encode())
  for _ in range(data.draw(st.integers(1, 4))):
    place = data.draw(st.integers(0, len(text)))
    text[place : place + data.draw(st.integers(0, 3))] = data.draw(
      st.binary(max_size=4) | st.sampled_from([b'"', b"9", b"-", b"}"])
    )
  try:
    items, account = read(written(tmp_path, {name: bytes(text)}))
  except SchemaError as error:
    assert "\n" not in str(error)
    return
  blocks = [block for block in items if isinstance(block, Readings)]
  assert all(np.isfinite(block.value).all() and (block.start <= block.end).all() for block in blocks)
  if part != "/sleep-":  # there, wakes cut stages
    used = sum(len(block.value) if isinstance(block, Readings) else 1 for block in items)
    assert used + sum(account.dropped.values()) == sum(account.read.values())


def test_from_export_to_the_loader(tmp_path):
  """The last day of March 2024 in Berlin, which has 23 hours and partly belongs to another day of UTC."""
  rng = np.random.default_rng(0)
  utc = pd.date_range("2024-03-30 22:30", "2024-03-31 22:30", freq="min", inclusive="left")
  wall = utc.tz_localize("UTC").tz_convert("Europe/Berlin")
  beats, counts = rng.integers(50, 120, (1440, 2)), rng.integers(0, 60, 1440)
  short, long = utc.strftime("%m/%d/%y %H:%M").tolist(), wall.strftime("%m/%d/%y %H:%M:%S")
  at_half = [(i, f"{t}:{second}", k) for i, t in enumerate(short) for k, second in enumerate(("05", "35"))]
  heart = [(time, {"bpm": int(beats[i, k]), "confidence": 2}) for i, time, k in at_half]
  night = json.dumps([NIGHT]).replace("2020-06-01", "2024-03-30").replace("2020-06-02", "2024-03-31")
  files = {
    f"{JSON}/heart_rate-2024-03-31.json": series(*heart),
    f"{JSON}/steps-2024-03-02.json": series(*((f"{t}:00", str(counts[i])) for i, t in enumerate(short) if counts[i])),
    f"{JSON}/distance-2024-03-02.json": series(*((f"{t}:00", str(70 * counts[i])) for i, t in enumerate(short))),
    f"{JSON}/calories-2024-03-02.json": series(*((t, f"{1 + i / 1000}") for i, t in enumerate(long))),
    f"{JSON}/sleep-2024-03-02.json": night,
  }
  written(tmp_path / "in", files)
  (tmp_path / "people.json").write_text(json.dumps({"pretrain": ["in"], "tune": [], "eval": []}))
  arguments = ["build", "--source=auto", f"--input={tmp_path / 'in'}", f"--data_dir={tmp_path / 'data'}", "--name=mine"]
  arguments += [f"--split_file={tmp_path / 'people.json'}", "--timezone=Europe/Berlin"]
  assert build.main(arguments) == 0
  dataset = Dataset.open(tmp_path / "data", "mine")
  names = dataset.schema.names
  (batch,) = eval_loader(dataset, split="pretrain", batch_size=1)
  assert batch["date"].tolist() == ["2024-03-31"] and names == ("heart_rate", "steps", "distance", "calories", "asleep")
  at = (wall.hour * 60 + wall.minute)[30:-30]  # minutes of the day, without the half hours before and after it
  expected = np.full((1440, 4), np.nan)
  exported = np.stack([beats.mean(axis=1), counts, 0.7 * counts, 1 + np.arange(1440) / 1000], axis=1)
  expected[at] = exported[30:-30]
  values = batch["values"][0, :, :4]
  np.testing.assert_allclose(values[:, [0, 3]], expected[:, [0, 3]], rtol=1e-6)
  held = np.isfinite(expected).all(axis=1)  # all but the skipped hour, from two to three o'clock
  np.testing.assert_allclose(values[held], expected[held], rtol=1e-6)
  assert not np.nansum(values[~held]) and (~held).sum() == 60
  asleep = batch["values"][0, :, names.index("asleep")]
  assert np.isnan(asleep[32:]).all() and not asleep[0] and asleep[1:32].all()


def from_json(tmp_path, name, items):
  """Readings and account of a single JSON file."""
  (tmp_path / name).write_text(json.dumps(items))
  account, source = Account(), Export(tmp_path / name, "p")
  assert Fitbit().files(source) == [name]
  return list(Fitbit().read(source, name, account)), account


def test_decimal_commas_are_read_where_they_are_certain(tmp_path):
  times = [f"06/04/24 10:0{n}:00" for n in range(4)]
  for texts, expected in (
    (["1,25", "1.5", "1,250", "2"], [1.25, 1.5, 1.25, 2]),  # 1,25 says what 1,250 is
    (["1,250", "1.5", "3"], [1.5, 3]),
    (["1,2,3", "1"], [1]),
  ):
    items = [{"dateTime": time, "value": text} for time, text in zip(times, texts, strict=False)]
    (block,), account = from_json(tmp_path, "calories-2024-06-04 (1).json", items)
    assert block.value.tolist() == expected
    assert account.dropped.total() == len(texts) - len(expected)


def test_iso_times_are_read_if_they_say_their_clock(tmp_path):
  times = ["06/04/24 08:00:05", "2024-06-04T08:01:05Z", "2024-06-04T10:02:05+02:00", "2024-06-04T08:03:05", "8 pm"]
  items = [{"dateTime": time, "value": {"bpm": 60 + n, "confidence": 2}} for n, time in enumerate(times)]
  (block,), account = from_json(tmp_path, "heart_rate.json", items)
  first = pd.Timestamp("2024-06-04 08:00:05").value // 10**6
  assert ((block.start - first) // 60_000).tolist() == [0, 1, 2] and block.value.tolist() == [60, 61, 62]
  assert account.dropped == {("p", "ISO time on an unknown clock"): 1, ("p", "unreadable time"): 1}


def test_json_files_without_a_date_are_known_by_their_content(tmp_path):
  for name, content, ours in (
    ("steps.json", '[{"dateTime": "06/04/24 08:00:05", "value": "3"}]', True),
    ("sleep.json", '[{"logId": 1, "levels": {}}]', True),
    ("steps.json", '{"steps": 3}', False),
    ("sleep.json", '[{"start": 1}]', False),
    ("mine.json", '[{"dateTime": "06/04/24 08:00:05", "value": {"bpm": 60, "confidence": 3}}]', True),
    ("mine.json", '[{"dateTime": "06/04/24 08:00:05", "value": "3"}]', False),
    ("mine.json", '[{"logId": 1, "dateOfSleep": "2024-06-04", "levels": {}}]', True),
  ):
    (tmp_path / name).write_text(content)
    export = Export(tmp_path / name)
    assert Fitbit().files(export) == [name] * ours
    if ours:
      list(Fitbit().read(export, name, Account()))


def test_nights_that_were_typed_in_are_marked(tmp_path):
  levels = {"data": [{"dateTime": "2024-06-04T00:10:30.000", "level": "asleep", "seconds": 90}]}
  items = [{"logId": n, "logType": kind, "levels": levels} for n, kind in enumerate(("manual", "auto_detected"))]
  blocks, _ = from_json(tmp_path, "sleep-2024-06-04.json", items)
  assert [block.device == "entered by hand" for block in blocks] == [True, False]


def test_a_thermometer_is_no_skin(tmp_path):
  name = "Device Temperature - 2024-06-04.csv"
  rows = ["2024-06-04T02:00,-1.2,SKIN", "2024-06-04T02:00,36.4,CORE", "2024-06-04T02:01,0.5,UNKNOWN"]
  (tmp_path / name).write_text("recorded_time,temperature,sensor_type\n" + "\n".join(rows) + "\n")
  account = Account()
  (block,) = Fitbit().read(Export(tmp_path / name, "p"), name, account)
  assert block.value.tolist() == [-1.2, 0.5] and account.dropped == {("p", "sensor_type CORE"): 1}


@pytest.mark.parametrize(("kind", "key", "value"), [("steps", "dateTime", '"5"'), ("exercise", "startTime", '"5"')])
def test_a_file_with_the_day_first_is_refused(tmp_path, kind, key, value):
  items = ", ".join(f'{{"{key}": "{day:02d}/06/24 08:00:00", "value": {value}}}' for day in range(1, 14))
  name = f"Fitbit/Global Export Data/{kind}-{'100' if kind == 'exercise' else '2024-06-01'}.json"
  with pytest.raises(SchemaError, match=r"row 13 \('13/06/24'\): a date with the day first, expected the month first"):
    read(written(tmp_path, {name: f"[{items}]"}))
