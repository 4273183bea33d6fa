"""Wall clocks of time zones and of travellers."""

import datetime
import zoneinfo

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_pipelines.errors import SchemaError
from data_pipelines.ingest.reading import clocks

HOUR = 60 * clocks.MINUTE
ZONES = (
  "Europe/Berlin",
  "America/New_York",
  "Australia/Lord_Howe",
  "Africa/Casablanca",
  "Asia/Kathmandu",
  "Pacific/Apia",
)
EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)


def by_datetime(zone, utc):
  """The wall clock at a UTC time, and True if it is the second passage, by datetime."""
  time = (EPOCH + datetime.timedelta(milliseconds=utc)).astimezone(zoneinfo.ZoneInfo(zone))
  wall = (time.replace(tzinfo=datetime.UTC) - EPOCH) // datetime.timedelta(milliseconds=1)
  return wall, bool(time.fold)


@given(zone=st.sampled_from(ZONES), first=st.integers(0, 9400), steps=st.lists(st.integers(0, 10**9), max_size=40))
@settings(max_examples=60, deadline=None)
def test_wall_clocks_agree_with_datetime(zone, first, steps):
  utc = np.array([946_684_800_000 + first * clocks.DAY + step for step in [0, *steps]])
  wall, again = clocks.ZoneClock(clocks.find_zone(zone), int(utc.min()), int(utc.max())).at(utc)
  assert [(int(w), bool(a)) for w, a in zip(wall, again, strict=True)] == [by_datetime(zone, int(u)) for u in utc]


@pytest.mark.parametrize(
  "zone, utc",
  [
    ("Europe/Berlin", "2024-10-27T01:00"),
    ("America/New_York", "2024-11-03T06:00"),
    ("Australia/Lord_Howe", "2024-04-06T15:00"),
  ],
)
def test_the_hours_around_a_clock_that_is_put_back(zone, utc):
  change = int(np.datetime64(utc, "ms").astype(np.int64))
  around = np.arange(change - 2 * HOUR, change + 2 * HOUR, 17_000)
  wall, again = clocks.ZoneClock(clocks.find_zone(zone), change - HOUR, change + HOUR).at(around)
  assert [(int(w), bool(a)) for w, a in zip(wall, again, strict=True)] == [by_datetime(zone, int(u)) for u in around]
  assert again.any() and not again.all()


def test_unknown_zones_give_one_line_with_the_nearest():
  with pytest.raises(
    SchemaError, match=r"--timezone: 'Europe/Berln' is not an IANA time zone; the nearest are Europe/Berlin"
  ):
    clocks.find_zone("Europe/Berln")
  with pytest.raises(SchemaError, match="Europe/Berlin"):
    clocks.find_zone("berlin")
  for odd in ("", "../../etc/passwd", "/etc/localtime", "x\0y"):
    with pytest.raises(SchemaError) as error:
      clocks.find_zone(odd)
    assert len(str(error.value).splitlines()) == 1


def test_a_single_time():
  noon = int(np.datetime64("2024-07-01T12:00", "ms").astype(np.int64))
  assert clocks.to_wall_clock(noon, "utc", None, clocks.find_zone("Europe/Berlin"), "x") == noon + 2 * HOUR
  assert clocks.to_wall_clock(noon, "utc", -300, clocks.find_zone("Europe/Berlin"), "x") == noon - 5 * HOUR
  assert clocks.to_wall_clock(noon, "wall", None, None, "x") == noon
  with pytest.raises(SchemaError, match=r"workouts\.csv row 3"):
    clocks.to_wall_clock(noon, "utc", None, None, "workouts.csv row 3")


def repeated_by_plain_loop(wall, offset):
  """Second passages, minute by minute: a run of readings with a larger offset went through the same minute before."""
  readings = sorted((w - o * clocks.MINUTE, o) for w, o in zip(wall, offset, strict=True))
  runs = []
  for utc, o in readings:
    if runs and runs[-1][2] == o:
      runs[-1][1] = utc
    else:
      runs.append([utc, utc, o])
  return [
    any(
      o < run[2] and run[0] // clocks.MINUTE <= (w // clocks.MINUTE - run[2]) <= run[1] // clocks.MINUTE for run in runs
    )
    for w, o in zip(wall, offset, strict=True)
  ]


@given(
  moves=st.lists(st.sampled_from([-300, 0, 60, 120, 330]), min_size=1, max_size=5),
  gaps=st.lists(st.integers(1, 90), min_size=5, max_size=5),
  order=st.randoms(),
)
@settings(max_examples=100, deadline=None)
def test_repeated_minutes_of_a_traveller(moves, gaps, order):
  utc, readings = 1_700_000_000_000 // clocks.MINUTE * clocks.MINUTE, []
  for offset, gap in zip(moves, gaps, strict=False):
    for _ in range(200):
      utc += gap * clocks.MINUTE // 3
      readings.append((utc + offset * clocks.MINUTE, offset))
  order.shuffle(readings)
  wall, offset = (np.array(column) for column in zip(*readings, strict=True))
  again = clocks.repeated_minutes(wall, offset.astype(np.int16))
  assert again.tolist() == repeated_by_plain_loop(wall.tolist(), offset.tolist())


def test_minutes_not_recorded_before_a_flight_are_not_repeated():
  minutes = np.arange(600) * clocks.MINUTE
  before, after = minutes + 60 * clocks.MINUTE, minutes + 1200 * clocks.MINUTE - 300 * clocks.MINUTE
  wall, offset = np.concatenate([before, after]), np.repeat(np.array([60, -300], np.int16), 600)
  assert not clocks.repeated_minutes(wall, offset).any()  # six hours came twice, but the watch lay in a bag for ten
  # A single reading with a wrong offset affects no other reading.
  stray = np.append(wall, 300 * clocks.MINUTE + 840 * clocks.MINUTE), np.append(offset, np.int16(840))
  assert clocks.repeated_minutes(*stray).sum() <= 1
