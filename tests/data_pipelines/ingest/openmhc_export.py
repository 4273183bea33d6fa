"""A small export of Apple Health with something for each of OpenMHC's channels, for tests."""

import pathlib

from tests.data_pipelines.ingest.importers.test_apple import OTHER, PHONE, QUANTITY, SLEEP, STAGE, health_xml, record


def at(clock: str, date: str = "2024-05-01") -> str:
  return f"{date} {clock} +0200"


def sample(kind, value, start, end=None, unit=None, date="2024-05-01", **other):
  return record(kind, value, at(start, date), at(end or start, date), unit, **other)


def workout(kind: str, start: str, end: str, date: str = "2024-05-01") -> str:
  return (
    f' <Workout workoutActivityType="HKWorkoutActivityType{kind}" startDate="{at(start, date)}" '
    f'endDate="{at(end, date)}"/>\n'
  )


PHONES = {"device": PHONE, "source": "Anna"}
DAY = [
  sample(QUANTITY + "StepCount", "100", "10:00:00", "10:05:00", "count", **PHONES),
  sample(QUANTITY + "StepCount", "60", "10:01:00", "10:03:00", "count"),
  sample(QUANTITY + "StepCount", "95", "10:00:00", "10:05:00", "count", device=OTHER, source="pedometer"),
  sample(QUANTITY + "DistanceWalkingRunning", "0.1", "10:00:00", "10:02:00", "mi", **PHONES),
  sample(QUANTITY + "DistanceWalkingRunning", "0.09", "10:00:00", "10:03:00", "km"),
  sample(QUANTITY + "FlightsClimbed", "2", "11:00:00", "11:02:00", "count", **PHONES),
  sample(QUANTITY + "FlightsClimbed", "3", "11:00:00", "11:02:00", "count"),
  sample(QUANTITY + "ActiveEnergyBurned", "1.5", "10:00:00", "10:01:00", "Cal"),
  sample(QUANTITY + "HeartRate", "61", "10:00:10", unit="count/min"),
  sample(QUANTITY + "HeartRate", "63", "10:00:40", unit="count/min"),
  sample(QUANTITY + "HeartRate", "90", "10:02:00", unit="count/min", device=OTHER, source="chest strap"),
  sample(SLEEP, STAGE + "InBed", "00:00:00", "06:30:00", **PHONES),
  sample(SLEEP, STAGE + "AsleepCore", "00:30:00", "05:00:00"),
  sample(SLEEP, STAGE + "Awake", "05:00:00", "05:10:00"),
  sample(SLEEP, STAGE + "AsleepREM", "05:10:00", "06:00:00"),
  workout("Walking", "10:00:00", "10:05:00"),
  workout("TraditionalStrengthTraining", "18:00:30", "18:20:10"),
  workout("Swimming", "12:00:00", "12:30:00"),
]
# The next day the watch lay in a drawer, and the phone recorded steps and a workout.
PHONE_DAY = [
  sample(QUANTITY + "StepCount", "30", "09:00:00", "09:01:00", "count", "2024-05-02", **PHONES),
  workout("Yoga", "20:00:00", "20:45:00", "2024-05-02"),
]


def write(folder: pathlib.Path, *records: str) -> pathlib.Path:
  """An export in a folder of its own."""
  path = folder / "apple_health_export" / "export.xml"
  path.parent.mkdir(parents=True)
  path.write_text(health_xml(*records), encoding="utf-8")
  return folder
