"""Samsung Health's bins of ten minutes, heart rates of workouts, nights without stages, old exports in local time."""

import json

import numpy as np
import pytest

from data_pipelines.ingest.importers.samsung import Samsung
from data_pipelines.ingest.reading.account import Account
from data_pipelines.ingest.reading.export_files import Export
from data_pipelines.ingest.reading.people import ONE
from data_pipelines.ingest.reading.readings import COARSE, Readings, Stretch
from tests.robustness.imported_days import import_days

DAY = 1_717_459_200_000  # 2024-06-04 00:00 UTC
MINUTE = 60_000


def bins(**counts):
  """144 bins; `b48=300` puts 300 steps into the ten minutes from 08:00."""
  return [
    {"count": counts[f"b{n}"], "distance": counts[f"b{n}"] * 0.7} if f"b{n}" in counts else {} for n in range(144)
  ]


def read(folder, **files):
  """Readings, stretches and account of an export with these files: text of CSVs by type, lists of JSON files."""
  for name, content in files.items():
    if isinstance(content, str):
      kind = name.replace("__", ".")
      (folder / f"com.samsung.{kind}.20240701.csv").write_text(f"com.samsung.{kind},1,2\n{content}")
    else:
      (folder / f"{name}.json").write_text(json.dumps(content))
  account, export = Account(), Export(folder, "kim")
  items = [item for name in Samsung().files(export) for item in Samsung().read(export, name, account)]
  return [i for i in items if isinstance(i, Readings)], [i for i in items if isinstance(i, Stretch)], account


def steps(readings):
  """{(device, minute of the day): (minutes, count)} of steps on the wall clock."""
  found = {}
  for block in readings:
    if block.signal == "steps":
      ahead = 0 if block.offset is None else MINUTE * block.offset
      rows = zip((block.start + ahead - DAY) // MINUTE, (block.end - block.start) // MINUTE, block.value, strict=True)
      found |= {(block.device, int(start)): (int(length), float(count)) for start, length, count in rows}
  return found


HEADER = "binning_data,source_type,count,deviceuuid,day_time\n"
STEP_COUNT = "start_time,count,distance,calorie,time_offset,deviceuuid,end_time\n"


def test_bins_of_all_devices(tmp_path):
  trend = HEADER + f"a.json,-2,600,all,{DAY},\nb.json,0,1,phone,{DAY},\n"
  readings, _, account = read(
    tmp_path, shealth__step_daily_trend=trend, a=bins(b48=300, b49=200, b143=100), b=bins(b48=9)
  )
  # The phone's own row is part of the sum of all devices.
  assert steps(readings) == {(COARSE, 480): (10, 300.0), (COARSE, 490): (10, 200.0), (COARSE, 1430): (10, 100.0)}
  assert account.read == {"kim": 6} and not account.dropped
  assert account.passed_over.total() == 1


@pytest.mark.parametrize("apart", [True, False])
def test_bins_count_only_where_there_are_no_minutes(tmp_path, apart):
  """Minutes may be in the same export, or in another one of the same person."""
  by_minute = "2024-06-04 06:12:00.000,55,40,2,UTC+0200,w,2024-06-04 06:13:00.000,\n"
  folders = [tmp_path / f"samsunghealth_kim_2024070{n}000000" for n in (1, 2 if apart else 1)]
  for folder in folders:
    folder.mkdir(exist_ok=True)
  read(folders[0], shealth__tracker__pedometer_step_count=STEP_COUNT + by_minute)
  read(folders[1], shealth__step_daily_trend=HEADER + f"a.json,-2,600,all,{DAY},\n", a=bins(b48=300, b49=200))
  imported = import_days(tmp_path, person_by=ONE)
  # 08:12 by the wall clock is in the second bin.
  assert imported.of("steps") == {**{f"08:0{m}": 30.0 for m in range(10)}, "08:12": 55.0}
  assert imported.dropped == {"sum of minutes that a device has one by one": 2}  # steps and their distance
  assert any("7 rows read, 5 kept, 2 dropped" in line for line in imported.lines)


def test_single_devices_count_on_days_without_a_sum(tmp_path):
  trend = HEADER + f"b.json,0,9,phone,{DAY},\ngone.json,-2,9,all,{DAY + 86_400_000},\nb.json,-2,9,all,{DAY + 1},\n"
  trend += f"c.json,-2,9,all,{DAY + 2 * 86_400_000},\n"
  readings, _, account = read(tmp_path, shealth__step_daily_trend=trend, b=bins(b0=9), c=[{}])
  assert steps(readings) == {(COARSE, 0): (10, 9.0)}
  assert account.dropped[("kim", "day of steps without date")] == 1
  assert account.dropped[("kim", "day of steps without bins")] == 1
  (damage,) = account.damage.values()
  assert "1 bins, expected 144" in damage[1]


@pytest.mark.parametrize("there", [True, False])
def test_heart_rates_of_a_workout(tmp_path, there):
  row = ",".join(["live.json", "1002", str(DAY), "UTC+0200", str(DAY + 30 * MINUTE), "w"])
  live = [{"heart_rate": 120.0 + n, "start_time": DAY + n * MINUTE} for n in range(3)]
  live += [{"speed": 2.5, "start_time": DAY}, {"heart_rate": None, "start_time": DAY}]
  header = "live_data,exercise_type,start_time,time_offset,end_time,deviceuuid\n"
  files = {"live": live} if there else {}
  readings, stretches, account = read(tmp_path, shealth__exercise=f"{header}{row},\n", **files)
  assert [(s.name, s.start, s.offset) for s in stretches] == [("running", DAY, 120)]
  assert [r.value.tolist() for r in readings] == ([[120.0, 121.0, 122.0]] if there else [])
  lost = "binned entry without time or number" if there else "heart rates of a workout that are not in the export"
  assert account.read == {"kim": 1 + (4 if there else 1)} and account.dropped == {("kim", lost): 1}


def test_nights_are_stretches_with_or_without_stages(tmp_path):
  prefix = "com.samsung.health.sleep."
  header = ",".join(["original_efficiency", *(prefix + n for n in ("start_time", "time_offset", "end_time"))])
  rows = "80,2024-06-03 21:00:00.000,UTC+0200,2024-06-04 05:00:00.000,\n,bad,UTC+0200,2024-06-04 05:00:00.000,\n"
  _, stretches, account = read(tmp_path, shealth__sleep=f"{header}\n{rows}")
  assert [(s.name, s.start - DAY, s.end - DAY, s.offset) for s in stretches] == [
    ("sleep", -180 * MINUTE, 300 * MINUTE, 120)
  ]
  assert account.dropped == {("kim", "no time"): 1}


def test_times_with_an_offset_in_milliseconds_are_local_if_they_are_text(tmp_path):
  header = "start_time,time_offset,end_time,heart_rate\n"
  rows = f"2024-06-04 18:00:00.000,7200000,2024-06-04 18:01:00.000,60,\n{DAY},7200000,{DAY},61,\n"
  rows += "2024-06-04 18:00:00.000,UTC+0200,2024-06-04 18:01:00.000,62,\n"
  readings, _, _ = read(tmp_path, health__heart_rate=header + rows)
  (block,) = readings
  starts = (block.start - DAY) // MINUTE
  assert dict(zip(block.value.tolist(), starts.tolist(), strict=True)) == {60.0: 960, 61.0: 0, 62.0: 1080}
  assert np.all(block.offset == 120) and (block.end - block.start).tolist() == [MINUTE, 0, MINUTE]
