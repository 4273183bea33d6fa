"""An account names the clocks of readings; what an import says of days that are left out is true and can be done."""

import re

import numpy as np
import pytest

from data_pipelines.errors import SchemaError
from tests.robustness.imported_days import import_days


def test_the_account_names_clocks_with_the_first_and_last_reading(tmp_path):
  rows = ["2024-06-04 08:00:00,heart_rate,60", "2024-06-05 09:30:00,heart_rate,61"]
  rows += ["2024-06-04T10:00:00+03:00,spo2,97", "2024-06-04T23:10:00Z,steps,5", "2024-06-05T21:59:00Z,steps,6"]
  (tmp_path / "kim.csv").write_text("\n".join(["time,channel,value", *rows]) + "\n")
  expected = [
    "heart_rate: on the wall clock in the export; first 2024-06-04 08:00 local = 2024-06-04 06:00 UTC, "
    "last 2024-06-05 09:30 local = 2024-06-05 07:30 UTC",
    "spo2: in UTC with offsets in the export; first 2024-06-04 10:00 local = 2024-06-04 07:00 UTC, "
    "last 2024-06-04 10:00 local = 2024-06-04 07:00 UTC",
    "steps: in UTC, moved by Europe/Berlin; first 2024-06-05 01:10 local = 2024-06-04 23:10 UTC, "
    "last 2024-06-05 23:59 local = 2024-06-05 21:59 UTC",
  ]
  imported = import_days(tmp_path / "kim.csv", timezone="Europe/Berlin")
  assert sorted(line for line in imported.lines if line.startswith("clock: ")) == [
    f"clock: {text}" for text in expected
  ]
  assert sorted(line for line in imported.account_csv.splitlines() if "clock: " in line) == sorted(
    f'kim,{n},"clock: {text}",' for n, text in zip((2, 1, 2), expected, strict=True)
  )


def heart_rates(rng, day):
  """A heart rate every four to six minutes, from 07:00 on."""
  minutes = 420 + np.cumsum(rng.integers(4, 7, 210))
  return [f"{day}T{m // 60:02d}:{m % 60:02d}:00,heart_rate,{60 + m % 7}" for m in minutes.tolist() if m < 1440]


def phone_steps(rng, day):
  """Steps in a few minutes of the day and none else, as a phone writes them."""
  minutes = np.unique(rng.integers(400, 1300, rng.integers(20, 60)))
  return [f"{day}T{m // 60:02d}:{m % 60:02d}:00,steps,{m % 50 + 1}" for m in minutes.tolist()]


@pytest.mark.parametrize("kind", [heart_rates, phone_steps])
@pytest.mark.parametrize("minutes_per_step", [1, 5])
def test_what_an_import_offers_keeps_as_many_days_as_it_says(tmp_path, kind, minutes_per_step):
  rng = np.random.default_rng(0)
  rows = [row for day in range(1, 6) for row in kind(rng, f"2024-06-0{day}")]
  (tmp_path / "kim.csv").write_text("\n".join(["time,channel,value", *rows]) + "\n")
  options = {"minutes_per_step": minutes_per_step, "max_missing": 0.32}
  with pytest.raises(SchemaError) as refused:
    import_days(tmp_path / "kim.csv", **options)
  offers = re.findall(r"--(\w+)=(\S+) keeps (\d+) of them", str(refused.value))
  assert "max_missing" in {name for name, _, _ in offers}
  assert ("minutes_per_step" in {name for name, _, _ in offers}) == (kind is heart_rates)
  for name, value, kept in offers:
    changed = {**options, name: int(value) if name == "minutes_per_step" else float(value)}
    assert changed != options
    dates = {date for _, date, _ in import_days(tmp_path / "kim.csv", **changed).values}
    assert len(dates) == int(kept)
