"""Re-made cases of public bug reports in ../shared/cases, each with the values that its README says are right."""

import pytest

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
  ("18-fitbit-google-data/takeout", "skin_temperature_delta"): {"02:00": pytest.approx(-1.2)},
  ("18-fitbit-google-data/takeout", "spo2"): {"03:00": pytest.approx(96.4)},
  ("18-fitbit-google-data/takeout", "steps"): minutes("10:00", *[55] * 5),
  ("18-fitbit-google-data/takeout", "heart_rate"): minutes("10:00", *range(70, 75)),
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
