"""An account names the clocks of readings; what an import says of days that are left out is true and can be done."""

import gzip
import math
import re

import numpy as np
import pytest

from data_pipelines.channels import vocabulary
from data_pipelines.errors import SchemaError
from data_pipelines.ingest.gridding.recipe import Recipe, WearRule
from data_pipelines.ingest.reading.people import ONE
from data_pipelines.ingest.reading.signals import common_signal
from tests.robustness.imported_days import import_days


def test_the_account_names_clocks_with_the_first_and_last_reading(tmp_path):
  rows = ["2024-06-04 08:00:00,heart_rate,60", "2024-06-05 09:30:00,heart_rate,61"]
  rows += ["2024-06-04T10:00:00+03:00,spo2,97", "2024-06-04T23:10:00Z,steps,5", "2024-06-05T21:59:00Z,steps,6"]
  (tmp_path / "kim.csv").write_text("\n".join(["time,channel,value", *rows]) + "\n")
  expected = [
    "heart_rate: on the wall clock in the export; first 2024-06-04 08:00 local = 2024-06-04 06:00 UTC, "
    "last 2024-06-05 09:30 local = 2024-06-05 07:30 UTC",
    "spo2: in UTC with offsets in the export, which count where they are not those of Europe/Berlin; "
    "first 2024-06-04 10:00 local = 2024-06-04 07:00 UTC, "
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


def test_times_that_the_clock_skips_are_told_and_kept(tmp_path):
  rows = [f"2024-03-31 {time},heart_rate,{60 + n}" for n, time in enumerate(["01:59", "02:00", "02:59", "03:00"])]
  (tmp_path / "kim.csv").write_text("\n".join(["time,channel,value", *rows]) + "\n")
  imported = import_days(tmp_path / "kim.csv", timezone="Europe/Berlin")
  assert [*imported.of("heart_rate").values()] == [60, 61, 62, 63]
  line = "clock: heart_rate: on the wall clock in the export, at times that the clock of Europe/Berlin skips; "
  (told,) = (each for each in imported.lines if each.startswith(line))
  assert "first 2024-03-31 02:00 local" in told and "last 2024-03-31 02:59 local" in told
  imported = import_days(tmp_path / "kim.csv", timezone="America/New_York")
  assert not any("skips" in each for each in imported.lines)


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


def test_a_phone_without_a_watch_is_told_why_its_days_vanish(tmp_path):
  rows = phone_steps(np.random.default_rng(1), "2024-06-04")
  (tmp_path / "kim.csv").write_text("\n".join(["time,channel,value", *rows]) + "\n")
  recipe = Recipe((common_signal("steps"),), worn=WearRule("auto"))  # quiet, as of a phone
  with pytest.raises(SchemaError) as refused:
    import_days(tmp_path / "kim.csv", recipe=recipe, max_missing=0.8, minutes_per_step=5)
  assert "without a heart rate nothing says when a device was worn, so minutes without steps stay missing" in str(
    refused.value
  )
  assert "--minutes_per_step=5 " not in str(refused.value)


def test_the_account_says_what_was_converted(tmp_path):
  text = "time;channel;value\n2024-06-04 08:00;heart_rate;60,5\n"
  (tmp_path / "a.csv").write_text(text)
  (tmp_path / "b.csv").write_bytes(text.replace(";", ",").replace("60,5", "61").encode("utf-16"))
  (tmp_path / "c.csv.gz").write_bytes(gzip.compress(text.replace("08:00", "08:01").encode()))
  imported = import_days(tmp_path, person_by=ONE)
  (values,) = imported.values.values()
  assert values == {"08:00": 61, "08:01": 60.5}, "b.csv comes after a.csv"
  notes = [line for line in imported.lines if " file" in line and line.startswith("note: ")]
  assert sorted(notes) == [
    "note: 1 file: in UTF-16",
    "note: 1 file: packed by gzip",
    "note: 2 files: with semicolons between fields, so that a comma in a number is a decimal sign",
  ]


@pytest.mark.parametrize("name", sorted({entry.name for entry in vocabulary.load().entries if entry.rule != "max"}))
def test_every_common_signal_has_bounds(name):
  signal = common_signal(name)
  assert math.isfinite(signal.low) and math.isfinite(signal.high)


@pytest.mark.parametrize("kept", [None, False, True])
def test_what_was_typed_in_counts_only_if_asked_for(tmp_path, kept):
  record = (
    '<Record type="HKQuantityTypeIdentifierStepCount" sourceName="{}" unit="count" startDate="2024-06-04 {}:00 +0200" \
endDate="2024-06-04 {}:00 +0200" value="{}"><MetadataEntry key="HKWasUserEntered" value="{}"/></Record>'
  )
  records = [
    record.format("Health", "20:15", "20:16", 900, 1),
    record.format("Health", "20:20", "20:21", 12_000, 1),  # more than anybody walks in a minute
    record.format("Health", "09:02", "09:03", 7, 1),  # where a watch says more
    record.format("Apple Watch", "09:02", "09:03", 30, 0),
  ]
  (tmp_path / "export.xml").write_text(f"<HealthData>{''.join(records)}</HealthData>")
  imported = import_days(tmp_path / "export.xml", timezone="Europe/Berlin", entered_by_hand=kept)
  assert imported.of("steps") == {"09:02": 30.0} | ({"20:15": 900.0} if kept else {})
  if kept:
    assert imported.dropped == {
      "steps outside 0 to 5000 steps per minute": 1,
      "another device counts there": 1,
    }
  else:
    assert imported.dropped == {"entered by hand (--entered_by_hand keeps it)": 3}


@pytest.mark.parametrize(
  ("minutes", "count", "kept"), [(1, 5000, 1), (1, 5001, 0), (0, 2**32, 0), (10, 50_000, 10), (10, 50_001, 0)]
)
def test_counts_are_bounded_per_minute(tmp_path, minutes, count, kept):
  (tmp_path / "kim.csv").write_text(
    "time,end,channel,value\n2024-06-04 08:00,,heart_rate,60\n"
    f"2024-06-04 08:00,2024-06-04 08:{minutes:02d},steps,{count}\n"
  )
  found = [len(v) for (_, _, channel), v in import_days(tmp_path / "kim.csv").values.items() if channel == "steps"]
  assert found == [kept] * bool(kept)
