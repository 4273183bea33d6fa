"""Re-made cases of public bug reports in ../shared/cases, each with the values that its README says are right."""

import pytest

from data_pipelines.errors import SchemaError
from tests.robustness.imported_days import CASES, import_days


def minutes(first: str, *values: float) -> dict[str, float]:
  """Values of consecutive minutes from "08:00" on."""
  start = int(first[:2]) * 60 + int(first[3:])
  return {f"{(start + n) // 60:02d}:{(start + n) % 60:02d}": float(value) for n, value in enumerate(values)}


# (file or folder of a case, channel): the values in the order of the clock.
RIGHT = {
  ("08-apple-12-hour-clock/export.xml", "heart_rate"): {**minutes("09:00", 60, 61, 62), **minutes("21:00", 80, 81, 82)},
  ("09-apple-entered-by-hand/export.xml", "steps"): {"09:02": 30.0},
  ("12-apple-new-types/export.xml", "hrv_rmssd"): {"09:01": 41.0},
  # A watch, a phone that counts from half minute to half minute, and an app: the phone and the app fill gaps.
  ("13-apple-three-step-sources/export.xml", "steps"): minutes(
    "09:00", *[50] * 4, 45, *[100] * 6, *[90] * 3, 45, *[50] * 15
  ),
  ("14-apple-zip-localised/backslash.zip", "heart_rate"): minutes("09:00", 60, 61, 62, 63, 64),
  ("14-apple-zip-localised/导出.zip", "heart_rate"): minutes("09:00", 60, 61, 62, 63, 64),
  ("17-fitbit-times-and-decimals/takeout", "heart_rate"): minutes("11:00", 60, 61),
  ("17-fitbit-times-and-decimals/takeout", "calories"): {
    **minutes("10:00", *[1.25] * 5),
    **minutes("11:00", *[1.25] * 5),
  },
  ("18-fitbit-google-data/takeout", "skin_temperature_delta"): {"02:00": pytest.approx(-1.2)},
  ("18-fitbit-google-data/takeout", "spo2"): {"03:00": pytest.approx(96.4)},
  ("18-fitbit-google-data/takeout", "steps"): minutes("10:00", *[55] * 5),
  ("18-fitbit-google-data/takeout", "heart_rate"): minutes("10:00", *range(70, 75)),
  # Asleep from 00:11 on, by an old record that goes on beyond the stages, with a short wake at 00:15.
  ("20-fitbit-sleep/takeout", "asleep"): {**minutes("00:11", *[1] * 4), **minutes("00:16", *[1] * 13)},
  ("22-samsung-steps-only-in-trend/samsunghealth_x_20240701", "steps"): {
    **minutes("08:00", *[30] * 10),
    **minutes("08:10", *[20] * 10),
  },
  ("23-samsung-quote-in-comment/samsunghealth_x", "heart_rate"): minutes("08:00", 60, 61, 62, 63, 64),
  ("25-samsung-semicolons/samsunghealth_x", "heart_rate"): minutes("08:00", 60, 61, 62, 63, 64),
  ("26-samsung-live-data/samsunghealth_x", "heart_rate"): {**minutes("08:00", *range(120, 130)), "11:00": 70.0},
  ("27-samsung-legacy-local-time/samsunghealth_x", "heart_rate"): minutes("18:00", 120, 121, 122, 123, 124),
  ("28-samsung-gzipped-json/samsunghealth_x", "heart_rate"): {**minutes("08:00", *range(65, 70)), "10:00": 71.0},
  ("29-samsung-utf16/samsunghealth_x", "heart_rate"): {"10:00": 71.0},
  ("31-long-tables/semicolon.csv", "heart_rate"): minutes("08:00", 60.5, 61.5, 62.5, 63.5, 64.5),
  ("31-long-tables/mixed_zone.csv", "heart_rate"): minutes("08:00", 60, 61, 62),
  ("34-health-connect/hc backup.db", "steps"): minutes("08:00", *[50] * 5),
  ("34-health-connect/hc backup.db", "heart_rate"): minutes("08:00", *range(60, 70)),
  ("43-fit-gz/a.fit.gz", "heart_rate"): minutes("08:00", 100, 100),
  ("45-single-files/heart_rate-2024-06-04.json", "heart_rate"): minutes("10:00", 60, 61, 62),
  ("45-single-files/heart_rate.json", "heart_rate"): minutes("10:00", 60, 61, 62),
  # The watch says more than the app, and the app more than the time in bed.
  ("49-apple-sleep/export.xml", "asleep"): {**minutes("00:02", *[1] * 8), **minutes("00:12", *[1] * 7)},
}
RIGHT |= {
  ("19-google-fit/takeout", "heart_rate"): {"08:00": 72.0},
  ("19-google-fit/takeout", "steps"): {clock: pytest.approx(1000 / 15) for clock in minutes("08:00", *range(15))},
  ("32-actigraph/NEO1.csv", "activity_counts"): minutes("08:01", 100, 200, 300, 400),
  ("32-actigraph/NEO1.csv", "steps"): minutes("08:01", 1, 2, 3, 4),
  ("35-not-supported/gadgetbridge", "steps"): {"08:00": 12.0},
  ("35-not-supported/oura", "heart_rate"): {"08:00": 61.0, "08:05": 62.0},
  ("35-not-supported/withings", "heart_rate"): minutes("08:00", 61, 62),
  **{
    (f"35-not-supported/{folder}", "heart_rate"): {"08:00": 61.0}
    for folder in ("gadgetbridge", "huawei", "oura_json", "polar", "xiaomi", "zepp")
  },
}
RIGHT |= {
  (f"30-fitabase-saved-by-excel/{folder}", "steps"): minutes("08:01", 10, 20, 30, 40)
  for folder in ("fitabase", "fitabase_de")
}


@pytest.mark.parametrize(("place", "channel"), RIGHT)
def test_shared_cases_give_the_right_values(place, channel):
  if not CASES.is_dir():
    pytest.skip("the shared cases are not here")
  imported = import_days(CASES / place, timezone="Europe/Berlin")
  assert imported.of(channel) == RIGHT[place, channel]


def test_the_nights_on_which_clocks_change():
  if not CASES.is_dir():
    pytest.skip("the shared cases are not here")
  imported = import_days(CASES / "48-apple-dst" / "export.xml", timezone="Europe/Berlin")
  assert {date: values for (_, date, _), values in imported.values.items()} == {
    "2024-03-31": {"01:59": 70.0, "03:00": 71.0},
    "2024-10-27": {"02:30": 60.0, "03:00": 90.0},  # of the hour that occurs twice, the first passage
  }


@pytest.mark.parametrize(
  ("name", "fault"),
  [
    ("latin1.csv", "probably Latin-1"),
    ("dmy.csv", "--time_format='%d/%m/%Y %H:%M' or '%m/%d/%Y %H:%M'"),
    ("ampm.csv", "--time_format='%d/%m/%Y %I:%M %p' or"),
    ("excelserial.csv", "a spreadsheet's count of days"),
    ("timestamp.csv", "--source=long_table --columns=time=timestamp,channel=type,value=value"),
  ],
)
def test_what_is_not_certain_is_refused_with_what_would_help(name, fault):
  if not CASES.is_dir():
    pytest.skip("the shared cases are not here")
  with pytest.raises(SchemaError) as refused:
    import_days(CASES / "31-long-tables" / name, timezone="Europe/Berlin")
  assert fault in str(refused.value)
