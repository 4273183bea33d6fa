"""From an export, through the build command, to the loader: steps of a watch and a phone are counted once."""

import datetime
import json
import zoneinfo

import numpy as np
import pytest

from data_pipelines.build import main
from data_pipelines.dataset import Dataset
from data_pipelines.loader import eval_loader
from data_pipelines.splits import SPLITS
from tests.data_pipelines.ingest.importers.test_apple import OTHER, PHONE, QUANTITY, SLEEP, STAGE, health_xml, record
from tests.data_pipelines.ingest.importers.test_samsung import PHONE as GALAXY_PHONE
from tests.data_pipelines.ingest.importers.test_samsung import PROFILE, STAGE_COLUMNS, STEP_COLUMNS, csv
from tests.data_pipelines.ingest.importers.test_samsung import WATCH as GALAXY_WATCH

DAY = datetime.datetime(2024, 5, 1, tzinfo=zoneinfo.ZoneInfo("Europe/Berlin"))


def built(tmp_path, source, *flags):
  """Values by channel, date and events of the one day that the command builds."""
  where = [f"--source={source}", f"--input={tmp_path / 'export'}", f"--data_dir={tmp_path / 'data'}", "--name=mine"]
  assert main(["build", *where, *flags]) == 0
  dataset = Dataset.open(tmp_path / "data", "mine")
  (split,) = (split for split in SPLITS if dataset.num_days(split))
  (batch,) = eval_loader(dataset, split=split, batch_size=1)
  (day,) = batch["values"]
  (stored,) = dataset.days(split)
  return dict(zip(dataset.schema.names, day.T, strict=True)), stored["date"].decode(), dataset.events().to_pylist()


def minute(i):
  return DAY + datetime.timedelta(minutes=i)


def with_steps(**at):
  """A day with only these steps. The rest is zero, not missing, because the watch measures the heart rate all day."""
  expected = np.zeros(1440, np.float32)
  for clock, count in at.items():
    expected[60 * int(clock[1:3]) + int(clock[3:])] = count
  return expected


def asleep(*stretches):
  expected = np.full(1440, np.nan, np.float32)
  for start, end, value in stretches:
    expected[start:end] = value
  return expected


@pytest.fixture
def apple(tmp_path):
  # Exported in California: the offset that the file writes is not that of the days.
  def at(i):
    return minute(i).astimezone(zoneinfo.ZoneInfo("America/Los_Angeles")).strftime("%Y-%m-%d %H:%M:%S %z")

  def sample(kind, start, end, value, unit=None, **other):
    return record(kind, value, at(start), at(end), unit, **other)

  phone = {"device": PHONE, "source": "Anna"}
  records = [sample(QUANTITY + "HeartRate", i, i, str(50 + i % 7), "count/min") for i in range(1440)]
  records += [
    sample(QUANTITY + "StepCount", 600, 605, "100", "count", **phone),
    sample(QUANTITY + "StepCount", 601, 603, "60", "count"),
    sample(QUANTITY + "StepCount", 600, 605, "95", "count", device=OTHER, source="Anna's pedometer"),
    sample(QUANTITY + "OxygenSaturation", 180, 180, "0.97", "%"),
    sample(QUANTITY + "DistanceWalkingRunning", 600, 602, "0.1", "mi"),
    sample(SLEEP, 0, 390, STAGE + "InBed", **phone),
    sample(SLEEP, 30, 300, STAGE + "AsleepCore", zone="Europe/Berlin"),
    sample(SLEEP, 300, 310, STAGE + "Awake", zone="Europe/Berlin"),
    sample(SLEEP, 310, 360, STAGE + "AsleepREM", zone="Europe/Berlin"),
    f' <Workout workoutActivityType="HKWorkoutActivityTypeRunning" startDate="{at(1080)}" endDate="{at(1110)}"/>\n',
  ]
  path = tmp_path / "export" / "apple_health_export" / "export.xml"
  path.parent.mkdir(parents=True)
  path.write_text(health_xml(*records), encoding="utf-8")
  return tmp_path


def test_apple(apple, capsys):
  values, date, events = built(apple, "apple", "--timezone=Europe/Berlin")
  assert date == "2024-05-01"
  assert np.array_equal(values["heart_rate"], 50 + np.arange(1440) % 7)
  # The watch's two minutes of 30 steps count; the phone's five minutes of 20 count only before and after them.
  steps = with_steps(_1000=20, _1001=30, _1002=30, _1003=20, _1004=20)
  np.testing.assert_allclose(values["steps"], steps, rtol=1e-6)
  np.testing.assert_allclose(values["distance"][600:602], 0.1 * 1609.344 / 2, rtol=1e-6)
  assert values["spo2"][180] == 97 and np.isnan(values["spo2"]).sum() == 1439
  night = asleep((0, 390, 0), (30, 300, 1), (310, 360, 1))
  np.testing.assert_array_equal(values["asleep"], night)
  assert [(event["name"], event["start"], event["end"]) for event in events] == [("running", 1080, 1110)]
  output = capsys.readouterr()
  assert "Anna" not in output.out + output.err


@pytest.fixture
def samsung(tmp_path):
  def at(i, clock=60_000):
    return (
      (minute(0) + datetime.timedelta(milliseconds=i * clock))
      .astimezone(datetime.UTC)
      .strftime("%Y-%m-%d %H:%M:%S.%f")[:-3]
    )

  def steps(start, count, device):
    return ["", "", "", at(start), count, "0.8", "", "", "UTC+0200", device, "pkg", at(start + 1), "u"]

  folder = tmp_path / "export" / "samsunghealth_anna_20240601120000"
  hours = []
  for hour in range(24):
    entries = []
    for i in range(60 * hour, 60 * hour + 60):
      start = int(minute(i).timestamp() * 1000)
      entries.append({"heart_rate": 50.0 + i % 7, "start_time": start, "end_time": start + 59_999})
    path = folder / "jsons" / "com.samsung.shealth.tracker.heart_rate" / "0" / f"0{hour}.binning_data.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(entries))
    hours.append([at(60 * hour), path.name, "53", "UTC+0200", GALAXY_WATCH, at(60 * hour + 60)])
  columns = ["start_time", "binning_data", "heart_rate", "time_offset", "deviceuuid", "end_time"]
  heart_rate = csv("com.samsung.shealth.tracker.heart_rate", columns, *hours, prefix="com.samsung.health.heart_rate.")
  counted = [steps(600, "30", GALAXY_PHONE), steps(600, "28", GALAXY_WATCH), steps(601, "12", GALAXY_PHONE)]
  pedometer = "com.samsung.shealth.tracker.pedometer_step_count"
  stages = [
    [at(start), "s", stage, "UTC+0200", GALAXY_PHONE, at(end), "d"]
    for start, end, stage in ((30, 300, "40002"), (300, 310, "40001"), (310, 360, "40004"))
  ]
  running = [at(1080), "1002", "UTC+0200", at(1110)]
  exercise = csv(
    "com.samsung.shealth.exercise",
    ["start_time", "exercise_type", "time_offset", "end_time"],
    running,
    prefix="com.samsung.health.exercise.",
  )
  for type_, text in {
    "com.samsung.shealth.tracker.heart_rate": heart_rate,
    pedometer: csv(pedometer, STEP_COLUMNS, *counted, prefix="com.samsung.health.step_count."),
    "com.samsung.health.sleep_stage": csv("com.samsung.health.sleep_stage", STAGE_COLUMNS, *stages),
    "com.samsung.shealth.exercise": exercise,
    "com.samsung.health.device_profile": PROFILE,
  }.items():
    (folder / f"{type_}.20240601120000.csv").write_text(text, encoding="utf-8")
  return tmp_path


def test_samsung(samsung):
  values, date, events = built(samsung, "auto")  # no --timezone, because the file gives every offset
  assert date == "2024-05-01"
  assert np.array_equal(values["heart_rate"], 50 + np.arange(1440) % 7)
  np.testing.assert_array_equal(values["steps"], with_steps(_1000=28, _1001=12))
  np.testing.assert_array_equal(values["asleep"], asleep((30, 300, 1), (300, 310, 0), (310, 360, 1)))
  assert [(event["name"], event["start"], event["end"]) for event in events] == [("running", 1080, 1110)]
