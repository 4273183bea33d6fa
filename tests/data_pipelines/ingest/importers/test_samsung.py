"""Samsung Health's CSV and JSON files: values compared with pandas and with hand-made ones, and bad input."""

import io
import json
import zipfile

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from data_pipelines.errors import SchemaError
from data_pipelines.ingest.importers import IMPORTERS
from data_pipelines.ingest.importers.samsung import Samsung
from data_pipelines.ingest.importers.samsung_exercises import exercise_name
from data_pipelines.ingest.importers.samsung_fields import offset_minutes
from data_pipelines.ingest.reading.account import Account
from data_pipelines.ingest.reading.export_files import Export
from data_pipelines.ingest.reading.input_files import ExportSet
from data_pipelines.ingest.reading.readings import Readings, Stretch

FOLDER = "samsunghealth_anna.k_20240601120000"
DATE = ".20240601120000.csv"
WATCH, PHONE, OLD = "Cv7sH/e0hQ", "1kGlEKqwGK", "gp5ou4ds4l"
PERSONAL = ("anna", "Anna", "c0:ff:ee")
HOUR = 1704103200000  # 2024-01-01 10:00 UTC


def csv(type_, columns, *lines, prefix="", trailing=True):
  """A file as the app writes it: byte order mark, type, version and count, names, and a trailing comma in each row."""
  header = [prefix + column if prefix and column not in ("tag_id", "source") else column for column in columns]
  rows = [",".join(line) + "," * trailing for line in lines]
  return "\ufeff" + "\n".join([f"{type_},6260063,{len(lines)}", ",".join(header), *rows, ""])


def heart(uuid, start, end, value, bins="", offset="UTC+0100", device=WATCH):
  return ["", "21312", "1", start, "", bins, end, end, value, value, offset, device, "", "pkg", end, uuid, value]


HEART_COLUMNS = ["source", "tag_id", "heart_beat_count", "start_time", "custom", "binning_data", "update_time"]
HEART_COLUMNS += ["create_time", "max", "min", "time_offset", "deviceuuid", "comment", "pkg_name", "end_time"]
HEART_COLUMNS += ["datauuid", "heart_rate"]
HEART = csv(
  "com.samsung.shealth.tracker.heart_rate",
  HEART_COLUMNS,
  heart("a1", "2024-01-01 10:00:00.000", "2024-01-01 10:59:59.999", "70.5", "a1.binning_data.json"),
  heart("a2", "2024-01-01 12:34:56.789", "2024-01-01 12:34:56.789", "66.0", offset="UTC-0330", device=OLD),
  heart("a3", "2024-01-01 13:00:00.000", "", "0.0", offset=""),
  prefix="com.samsung.health.heart_rate.",
)
HEART_BINS = [
  {"heart_rate": 70.0, "heart_rate_max": 90.0, "heart_rate_min": 60.0, "start_time": HOUR, "end_time": HOUR + 59_999},
  {"heart_rate": 71, "heart_rate_max": 72, "start_time": HOUR + 60_000, "end_time": HOUR + 119_999},
]
STEP_COLUMNS = ["duration", "run_step", "walk_step", "start_time", "count", "speed", "distance", "calorie"]
STEP_COLUMNS += ["time_offset", "deviceuuid", "pkg_name", "end_time", "datauuid"]


def steps(start, end, count, device, distance="6.86", calorie="0.3"):
  return ["", "", "", start, count, "0.8", distance, calorie, "UTC+0100", device, "pkg", end, "u"]


STEPS = csv(
  "com.samsung.shealth.tracker.pedometer_step_count",
  STEP_COLUMNS,
  steps("2024-01-01 10:00:00.000", "2024-01-01 10:01:00.000", "30", PHONE),
  steps("2024-01-01 10:00:00.000", "2024-01-01 10:01:00.000", "28", WATCH, calorie=""),
  steps("2024-01-01 10:01:00.000", "2024-01-01 10:02:00.000", "12", PHONE, "8.5", "0.5"),
  prefix="com.samsung.health.step_count.",
)
STAGE_COLUMNS = ["start_time", "sleep_id", "stage", "time_offset", "deviceuuid", "end_time", "datauuid"]
STAGES = csv(
  "com.samsung.health.sleep_stage",
  STAGE_COLUMNS,
  *(
    [f"2024-01-01 0{i}:00:00.000", "s1", stage, "UTC+0100", PHONE, f"2024-01-01 0{i + 1}:00:00.000", f"d{i}"]
    for i, stage in enumerate(["40002", "40003", "40004", "40001"])
  ),
)
OXYGEN_JSON = "o1.com.samsung.health.oxygen_saturation.binning.json"
OXYGEN = csv(
  "com.samsung.shealth.tracker.oxygen_saturation",
  ["tag_id", "start_time", "binning", "spo2", "time_offset", "deviceuuid", "end_time"],
  ["31000", "2024-01-01 12:00:00.000", "", "96.0", "UTC+0100", WATCH, "2024-01-01 12:00:00.000"],
  ["31301", "2024-01-01 02:00:00.000", OXYGEN_JSON, "95.0", "UTC+0100", WATCH, "2024-01-01 06:00:00.000"],
  prefix="com.samsung.health.oxygen_saturation.",
)
OXYGEN_BINS = [{"spo2": 94.0, "spo2_min": 90.0, "spo2_max": 96.0, "start_time": HOUR - 28_800_000, "end_time": HOUR}]
HRV = csv(
  "com.samsung.health.hrv",
  ["create_sh_ver", "start_time", "binning_data", "time_offset", "deviceuuid", "end_time"],
  ["1", "2024-01-01 02:00:00.000", "h1.binning_data.json", "UTC+0100", WATCH, "2024-01-01 03:00:00.000"],
)
HRV_BINS = [
  {"start_time": HOUR, "end_time": HOUR + 300_000, "sdnn": 51.5, "rmssd": 40.25},
  {"start_time": HOUR + 300_000, "end_time": HOUR + 600_000, "rmssd": 41.0},
]
STRESS = csv(
  "com.samsung.shealth.stress",
  ["start_time", "binning_data", "score", "time_offset", "deviceuuid", "end_time"],
  ["2024-01-01 15:00:00.000", "", "42.0", "UTC+0100", WATCH, "2024-01-01 15:00:00.000"],
)
MILLISECONDS = csv(
  "com.samsung.health.floors_climbed",
  ["start_time", "floor", "time_offset", "deviceuuid", "end_time"],
  [str(HOUR), "3.0", "3600000", PHONE, str(HOUR + 30_000)],
  trailing=False,
)
EXERCISE = csv(
  "com.samsung.shealth.exercise",
  ["start_time", "exercise_type", "time_offset", "end_time", "duration"],
  ["2024-01-01 16:00:00.000", "1002", "UTC+0100", "2024-01-01 16:30:00.000", "1800000"],
  ["2024-01-01 17:00:00.000", "10016", "", "2024-01-01 17:05:00.000", "300000"],
  ["2024-01-01 18:00:00.000", "1001", "UTC+0100", "2024-01-01 18:00:00.000", "0"],
  prefix="com.samsung.health.exercise.",
)
PROFILE = csv(
  "com.samsung.health.device_profile",
  ["manufacturer", "device_group", "name", "model", "deviceuuid", "fixed_name"],
  ["Samsung", "360001", "My Device", "SM-S901E", PHONE, "Anna's S22 c0:ff:ee"],
  ["Samsung", "360003", "Anna's Watch", "SM-R870", WATCH, "Galaxy Watch4"],
  ["Samsung", "360003", "Gear", "SM-R360", OLD, "Gear Fit2"],
)
FILES = {
  "com.samsung.shealth.tracker.heart_rate" + DATE: HEART,
  "com.samsung.shealth.tracker.pedometer_step_count" + DATE: STEPS,
  "com.samsung.health.sleep_stage" + DATE: STAGES,
  "com.samsung.shealth.tracker.oxygen_saturation" + DATE: OXYGEN,
  "com.samsung.health.hrv" + DATE: HRV,
  "com.samsung.shealth.stress" + DATE: STRESS,
  "com.samsung.health.floors_climbed" + DATE: MILLISECONDS,
  "com.samsung.shealth.exercise" + DATE: EXERCISE,
  "com.samsung.health.device_profile" + DATE: PROFILE,
  "com.samsung.shealth.stress.histogram" + DATE: "\ufeffcom.samsung.shealth.stress.histogram,1,1\nbase_hr\n60940\n",
  "com.samsung.health.user_profile" + DATE: "\ufeffcom.samsung.health.user_profile,1,1\ntext_value\nAnna\n",
  "jsons/com.samsung.shealth.tracker.heart_rate/a/a1.binning_data.json": json.dumps(HEART_BINS),
  f"jsons/com.samsung.shealth.tracker.oxygen_saturation/o/{OXYGEN_JSON}": json.dumps(OXYGEN_BINS),
  "jsons/com.samsung.health.hrv/h/h1.binning_data.json": json.dumps(HRV_BINS),
}
HEART_FILE, STEPS_FILE = list(FILES)[:2]


def write(tmp_path, files=FILES, **changed):
  for name, text in {**files, **changed}.items():
    path = tmp_path / FOLDER / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
  return Export(tmp_path, "p1")


def imported(export, only="", strict=False):
  account = Account(strict)
  names = [name for name in Samsung().files(export) if only in name]
  items = [block for name in names for block in Samsung().read(export, name, account)]
  readings = [block for block in items if isinstance(block, Readings)]
  return readings, [block for block in items if isinstance(block, Stretch)], account


def rows(readings):
  tuples = set()
  for block in readings:
    offsets = [None] * len(block.value) if block.offset is None else block.offset.tolist()
    columns = zip(block.start.tolist(), block.end.tolist(), block.value.tolist(), offsets, strict=True)
    tuples |= {(block.signal, block.device, *row) for row in columns}
  return tuples


def ms(text):
  return int(pd.Timestamp(text, tz="UTC").value // 1_000_000)


def with_pandas(text, signal, field, prefix, device):
  """(signal, device, start, end, value, offset) of a CSV's rows."""
  frame = pd.read_csv(io.StringIO(text.removeprefix("\ufeff")), skiprows=1, index_col=False, dtype=str).fillna("")
  cells = {name: frame[prefix + name] for name in (field, "start_time", "end_time", "time_offset", "deviceuuid")}
  tuples = set()
  for value, start, end, offset, uuid in zip(*cells.values(), strict=True):
    if value:
      sign = -1 if "-" in offset else 1
      minutes = sign * (60 * int(offset[4:6]) + int(offset[6:8])) if offset else None
      tuples.add((signal, device[uuid], ms(start), ms(end or start), float(value), minutes))
  return tuples


NAMES = {WATCH: "watch", OLD: "watch 2", PHONE: "phone"}


def test_steps_of_the_minute_are_what_pandas_reads(tmp_path):
  readings, _, account = imported(write(tmp_path), "step_count")
  fields = {"steps": "count", "distance": "distance", "active_calories": "calorie"}
  prefix = "com.samsung.health.step_count."
  expected = [with_pandas(STEPS, signal, field, prefix, NAMES) for signal, field in fields.items()]
  assert rows(readings) == set().union(*expected)
  assert account.read == {"p1": len(rows(readings))} and not account.dropped  # each value of a row counts


def test_binned_rows_are_replaced_by_their_minutes(tmp_path):
  readings, _, account = imported(write(tmp_path), "heart_rate")
  whole = {row for row in with_pandas(HEART, "heart_rate", "heart_rate", "com.samsung.health.heart_rate.", NAMES)
           if row[2] != HOUR}  # fmt: skip
  binned = {("heart_rate", "watch", b["start_time"], b["end_time"], float(b["heart_rate"]), 60) for b in HEART_BINS}
  assert rows(readings) == whole | binned and len(whole) == 2
  assert account.read == {"p1": 4} and not account.dropped


def test_sleep_oxygen_hrv_stress_and_milliseconds(tmp_path):
  readings, _, account = imported(write(tmp_path))
  tuples = rows(readings)
  night = {
    ("asleep", "phone", ms(f"2024-01-01 0{i}:00"), ms(f"2024-01-01 0{i + 1}:00"), float(i < 3), 60) for i in range(4)
  }
  assert night <= tuples
  assert ("spo2", "watch", ms("2024-01-01 12:00"), ms("2024-01-01 12:00"), 96.0, 60) in tuples
  assert ("spo2", "watch", HOUR - 28_800_000, HOUR, 94.0, 60) in tuples
  assert {row[4] for row in tuples if row[0] == "spo2"} == {96.0, 94.0}
  assert {row[2:5] for row in tuples if row[0] == "hrv_rmssd"} == {
    (HOUR, HOUR + 300_000, 40.25),
    (HOUR + 300_000, HOUR + 600_000, 41.0),
  }
  assert {row[2:5] for row in tuples if row[0] == "hrv_sdnn"} == {(HOUR, HOUR + 300_000, 51.5)}
  assert ("stress", "watch", ms("2024-01-01 15:00"), ms("2024-01-01 15:00"), 42.0, 60) in tuples
  assert ("floors", "phone", HOUR, HOUR + 30_000, 3.0, 60) in tuples
  assert account.dropped == {("p1", "was never stopped"): 1}


def test_exercises_become_stretches(tmp_path):
  _, stretches, _ = imported(write(tmp_path), "exercise")
  assert stretches == [
    Stretch("p1", "running", ms("2024-01-01 16:00"), ms("2024-01-01 16:30"), 60),
    Stretch("p1", "exercise 10016", ms("2024-01-01 17:00"), ms("2024-01-01 17:05")),
  ]
  assert (
    exercise_name("15006") == "elliptical trainer"
    and exercise_name("11007") == "cycling"
    and exercise_name("walk") is None
  )


@pytest.mark.parametrize(
  ("text", "minutes"),
  [
    *[("UTC+0100", 60), ("UTC-0330", -210), ("UTC+0545", 345), ("UTC+05:45", 345), ("UTC", 0), ("12600000", 210)],
    *[("GMT+0200", 120), ("utc+0200", 120), ("+02:00", 120), ("-0330", -210), ("UTC+2", 120), ("gmt", 0)],
    *[("UTC+2500", None), ("UTC+1830", None), ("UTC+1800", 1080), ("UTC0200", None), ("+", None)],
    *[("", None), ("CET", None), ("UTC+9900", None), ("99999999", None), ("3600001", None)],
  ],
)
def test_offsets(text, minutes):
  assert offset_minutes(text) == minutes


@pytest.mark.parametrize("offset", ("UTC+2500", "UTC0200", "+1900", "Berlin"))
def test_an_offset_that_is_none_is_counted_for_every_kind_of_row(tmp_path, offset):
  other = {name: text.replace("UTC+0100", offset) for name, text in FILES.items() if isinstance(text, str)}
  sound, workouts, before = imported(write(tmp_path / "sound"))
  found, stretches, account = imported(write(tmp_path / "other", {**FILES, **other}))
  lost = {row for row in rows(sound) if row[-1] == 60 and row[0] != "floors"}  # whose offset is in ms
  assert len(lost) > 10 and rows(found) == rows(sound) - lost
  assert [stretch.offset for stretch in workouts] == [60, None] and [stretch.offset for stretch in stretches] == [None]
  why = "p1", "time_offset that is no offset from UTC"
  assert account.dropped[why] > 10 and why not in before.dropped
  assert account.read.total() - account.dropped.total() == len(stretches) + sum(len(block.start) for block in found)


def test_spaces_around_an_offset_do_not_move_a_reading(tmp_path):
  name, wall = "com.samsung.health.floors_climbed" + DATE, "2024-01-01 11:00:00.000"  # a text is on the wall clock
  text = MILLISECONDS.replace(str(HOUR + 30_000), wall).replace(str(HOUR), wall)
  plain, _, _ = imported(write(tmp_path / "plain", {**FILES, name: text}))
  padded, _, account = imported(write(tmp_path / "padded", {**FILES, name: text.replace("3600000", " 3600000 ")}))
  assert rows(padded) == rows(plain) and any(row[0] == "floors" and HOUR in row for row in rows(padded))
  assert not any("offset" in why for _, why in account.dropped)


def test_a_watch_goes_before_a_phone():
  assert Samsung.devices.index("watch 2") < Samsung.devices.index("phone") < Samsung.devices.index("other")


def test_devices_without_a_profile_are_kept_apart(tmp_path):
  files = {name: text for name, text in FILES.items() if "device_profile" not in name}
  readings, _, _ = imported(write(tmp_path, files), "step_count")
  assert {block.device for block in readings} == {"other", "other 2"}


def test_only_its_own_files_are_read(tmp_path):
  export = write(tmp_path)
  (tmp_path / "steps.csv").write_text("a,b\n1,2\n")
  read = Samsung().files(Export(tmp_path))
  assert sorted(name.rsplit("/", 1)[-1] for name in read) == sorted(name for name in list(FILES)[:8])
  assert Samsung().files(export) == read
  assert isinstance(IMPORTERS["samsung"], Samsung)


def test_a_zip_reads_as_its_folder(tmp_path):
  with zipfile.ZipFile(tmp_path / "export.zip", "w", zipfile.ZIP_DEFLATED) as packed:
    for name, text in FILES.items():
      packed.writestr(f"{FOLDER}/{name}", text)
  assert rows(imported(Export(tmp_path / "export.zip"))[0]) == rows(imported(write(tmp_path / "folder"))[0])


@pytest.mark.parametrize("form", ["folder", "zip"])
def test_digests_cover_binned_data_and_the_profile(tmp_path, form):
  def digests():
    if form == "folder":
      return ExportSet(tmp_path, Samsung(), "one").digests
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as packed:
      for path in sorted((tmp_path / FOLDER).rglob("*.*")):
        packed.write(path, path.relative_to(tmp_path))
    return ExportSet(tmp_path / "all.zip", Samsung()).digests

  write(tmp_path)
  before = digests()
  assert before and digests() == before
  for pattern in ("*.json", "*device_profile*.csv"):
    changed = next((tmp_path / FOLDER).rglob(pattern))
    changed.write_text(changed.read_text() + "\n")
    after = digests()
    assert after.keys() == before.keys() and after != before
    before = after


def test_older_files_have_no_prefix(tmp_path):
  plain = HEART.replace("com.samsung.health.heart_rate.", "")
  files = {"com.samsung.health.heart_rate.2019.csv": plain, **{n: t for n, t in FILES.items() if n != HEART_FILE}}
  assert rows(imported(write(tmp_path / "a", files), "heart_rate")[0]) == rows(
    imported(write(tmp_path / "b"), "tracker.heart_rate")[0]
  )


@pytest.mark.parametrize(
  ("name", "text", "why"),
  [
    (HEART_FILE, HEART.replace("heart_rate.heart_rate", "heart_rate.pulse"), r"column '\S+\.heart_rate' is missing"),
    (HEART_FILE, HEART.replace("heart_rate.start_time", "heart_rate.start"), r"column '\S+\.start_time' is missing"),
    (STEPS_FILE, STEPS.replace("UTC", "U\0C"), "NUL"),
    (STEPS_FILE, STEPS[1:].encode("utf-16-be"), "UTF-16"),
    (STEPS_FILE, STEPS.encode().replace(b"UTC", b"\xff\xfe\xfd"), "UTF-8"),
    ("jsons/com.samsung.shealth.tracker.heart_rate/a/a1.binning_data.json", '{"a": 1}', "a1.*not a JSON array"),
    ("jsons/com.samsung.shealth.tracker.heart_rate/a/a1.binning_data.json", '[{"a": 1}', "a1.* row 1: cut off"),
    ("jsons/com.samsung.shealth.tracker.heart_rate/a/a1.binning_data.json", "[" * 99, "a1.*nested"),
  ],
)
def test_broken_files_are_refused_in_one_line(tmp_path, name, text, why):
  with pytest.raises(SchemaError, match=why) as refused:
    imported(write(tmp_path, {**FILES, name: text}), strict=True)
  assert "\n" not in str(refused.value) and name in str(refused.value)


def test_rows_that_cannot_be_used_are_counted(tmp_path):
  good = "2024-01-01 10:00:00.000"
  text = csv(
    "com.samsung.shealth.tracker.heart_rate",
    HEART_COLUMNS,
    heart("b0", good, good, "60"),
    heart("b1", "yesterday", good, "60"),
    heart("b2", "2024-02-30 10:00:00.000", good, "60"),
    heart("b3", good, "2023-12-31 10:00:00.000", "60"),
    heart("b4", good, good, "sixty"),
    heart("b5", good, good, ""),
    heart("b6", good, good, "60", "b6.binning_data.json"),
    [*heart("b7", good, good, "60"), "more", "and more"],
    prefix="com.samsung.health.heart_rate.",
  )
  readings, _, account = imported(write(tmp_path, {HEART_FILE: text}))
  assert rows(readings) == {("heart_rate", "other", ms(good), ms(good), 60.0, 60)}
  assert account.read == {"p1": 8}
  assert account.dropped == {
    ("p1", "no time"): 2,
    ("p1", "ends before it starts"): 1,
    ("p1", "no number or known stage"): 2,
    ("p1", "its binned data are not in the export"): 1,
    ("p1", "more or fewer fields than the header"): 1,
  }
  assert account.example["p1", "no time"].endswith(DATE + " row 4")


def test_entries_of_json_that_cannot_be_used_are_counted(tmp_path):
  odd = [{"start_time": HOUR}, {"heart_rate": 60}, 7, None, {"start_time": "x", "heart_rate": 60}]
  odd += [{"start_time": HOUR, "end_time": 5, "heart_rate": 60}, {"start_time": HOUR, "heart_rate": True}]
  odd += [{"start_time": 10**300, "end_time": 10**301, "heart_rate": 1e300}]
  name = "jsons/com.samsung.shealth.tracker.heart_rate/a/a1.binning_data.json"
  _, _, account = imported(write(tmp_path, {**FILES, name: json.dumps(HEART_BINS + odd)}), "heart_rate")
  assert account.dropped == {("p1", "binned entry without time or number"): len(odd)}
  assert account.example["p1", "binned entry without time or number"].endswith("a1.binning_data.json row 3")


def test_unknown_stages_are_counted(tmp_path):
  text = STAGES.replace("40003", "40009")
  readings, _, account = imported(write(tmp_path, {"com.samsung.health.sleep_stage" + DATE: text}))
  assert account.dropped == {("p1", "no number or known stage"): 1}
  assert sum(len(block.value) for block in readings) == 3


def test_nothing_personal_leaves_the_importer(tmp_path):
  readings, stretches, account = imported(write(tmp_path))
  output = repr((readings, stretches, account.dropped))
  assert not any(secret in output for secret in (*PERSONAL, WATCH, PHONE))


@settings(max_examples=60, deadline=2000, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_changed_bytes_are_refused_or_read(tmp_path, data):
  name = data.draw(st.sampled_from([*list(FILES)[:9], *list(FILES)[-3:]]))
  type_ = "" if "profile" in name else next(one for one in ("heart_rate", "oxygen", "hrv", name[:40]) if one in name)
  raw = bytearray(FILES[name].encode())
  for _ in range(data.draw(st.integers(1, 4))):
    at = data.draw(st.integers(0, len(raw) - 1))
    raw[at : at + data.draw(st.integers(0, 20))] = data.draw(
      st.binary(max_size=20) | st.sampled_from([b'"', b",", b"9"])
    )
  if not (tmp_path / FOLDER).exists():
    write(tmp_path)
  try:
    readings, _, account = imported(write(tmp_path, {name: bytes(raw)}), type_ or "step_count")
  except SchemaError as error:
    assert "\n" not in str(error)
    return
  finally:
    write(tmp_path, {name: FILES[name]})
  for block in readings:
    assert np.isfinite(block.value).all() and (block.end >= block.start).all() and block.device in Samsung.devices
  assert sum(account.dropped.values()) <= sum(account.read.values())
