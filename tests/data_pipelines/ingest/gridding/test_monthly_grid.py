"""Readings on the steps of days (data_pipelines.ingest.gridding.monthly_grid, combine, columns)."""

import datetime

import numpy as np
import pytest

from data_pipelines.errors import SchemaError
from data_pipelines.ingest.gridding.columns import ReadingColumns
from data_pipelines.ingest.gridding.monthly_grid import Grid, device_order
from data_pipelines.ingest.gridding.recipe import Recipe, WearRule
from data_pipelines.ingest.reading import clocks
from data_pipelines.ingest.reading.account import Account
from data_pipelines.ingest.reading.signals import Signal

HEART = Signal("heart_rate", "bpm", "PPG", low=20, high=250, zero_is_missing=True)
STEPS = Signal("steps", "steps", "ACC", rule="sum")
MINUTE = 60_000


def ms(text: str) -> int:
  """Milliseconds of an ISO time with its offset, or of a wall clock without."""
  time = datetime.datetime.fromisoformat(text)
  return round((time if time.tzinfo else time.replace(tzinfo=datetime.UTC)).timestamp() * 1000)


def columns(rows, wall=False, offset=clocks.NO_OFFSET):
  """ReadingColumns of (signal, start, end, value[, device])."""
  signal, start, end, value, device = zip(*((*row, 0)[:5] for row in rows), strict=True)
  ints = lambda values, kind=np.int64: np.array(values, kind)
  n = len(rows)
  clock = (np.broadcast_to(np.int16(offset), n).copy(), np.full(n, wall))
  return ReadingColumns(
    ints(signal, np.int16), ints(device, np.int16), ints(start), ints(end), np.array(value, float), *clock
  )


def days(rows, signals=(HEART, STEPS), zone="UTC", devices=("",), **recipe):
  """Days by date, and what was dropped, of ReadingColumns or of parts of them."""
  parts = [rows] if isinstance(rows, ReadingColumns) else rows
  account = Account()
  grid = Grid(Recipe(tuple(signals), **{"max_missing": 1.0, **recipe}), zone and clocks.find_zone(zone), devices)
  found = {day.date: day for day in grid.days(parts, account, "p")}
  return found, {why: rows for (_, why), rows in account.dropped.items()}


def test_readings_become_the_minutes_they_are_of():
  noon = ms("2024-01-10T12:00:00+00:00")
  rows = [
    (0, noon, noon, 60),
    (0, noon + 30_000, noon + 30_000, 70),
    (1, noon, noon + 2 * MINUTE, 10),
  ]
  found, dropped = days(columns(rows), zone="Europe/Berlin")
  values = found["2024-01-10"].values
  assert values.shape == (1440, 2) and values.dtype == np.float32
  assert values[13 * 60, 0] == 65 and values[13 * 60, 1] == 5 and values[13 * 60 + 1, 1] == 5
  assert np.isnan(values).sum() == 2 * 1440 - 3
  assert dropped == {}


def test_utc_needs_a_zone():
  with pytest.raises(SchemaError, match="readings of heart_rate are in UTC"):
    days(columns([(0, ms("2024-01-10T12:00"), ms("2024-01-10T12:00"), 60)]), zone=None)


NOON = ms("2024-01-10T12:00")


def minutes_of(found, c=0, date="2024-01-10"):
  """{minute: value} of a channel of a day."""
  values = found[date].values[:, c] if date in found else np.array([])
  return {int(m): float(values[m]) for m in np.flatnonzero(~np.isnan(values))}


def test_zero_is_missing_or_a_value_and_ranges_are_counted():
  rows = [(0, NOON, NOON, 0), (1, NOON, NOON + MINUTE, 0)]
  rows += [(0, NOON + m * MINUTE, NOON + m * MINUTE, value) for m, value in ((1, 20), (2, 250), (3, 19.9), (4, 251))]
  found, dropped = days(columns(rows))
  assert minutes_of(found, 0) == {721: 20, 722: 250} and minutes_of(found, 1) == {720: 0}
  assert dropped == {"heart_rate is 0: not measured": 1, "heart_rate outside 20 to 250 bpm": 2}


def test_clocks_that_were_wrong_are_counted():
  early, late = ms("1999-12-31T23:59"), ms("2199-01-01T00:00")
  rows = [(0, early, early, 60), (0, NOON, NOON, 61), (0, late, late, 62), (0, NOON, NOON - 1, 63), (0, 0, 0, 64)]
  found, dropped = days(columns(rows))
  assert list(found) == ["2024-01-10"] and minutes_of(found) == {720: 61}
  assert dropped == {
    "clock not set (before 2000)": 2,
    "clock wrong (after the export)": 1,
    "ends before it starts": 1,
  }


def test_a_clock_that_was_set_back_counts_no_minute_twice():
  # Ten minutes of counts, the clock jumps back by five, five of these minutes are written again.
  rows = [(1, NOON + m * MINUTE, NOON + (m + 1) * MINUTE, 10 + m) for m in range(10)]
  again = [(1, NOON + m * MINUTE, NOON + (m + 1) * MINUTE, 100) for m in range(5, 10)]
  found, dropped = days(columns(rows + again))
  assert minutes_of(found, 1) == {720 + m: 10 + m if m < 5 else 100 for m in range(10)}
  assert dropped == {"counted again for the same time": 5}


def test_what_cannot_be_a_reading_is_counted():
  asleep = Signal("asleep", kind="binary", holds=True)
  signals = (HEART, STEPS, asleep)
  rows = [(0, NOON, NOON, value) for value in (np.nan, np.inf, -np.inf, 1e31)]
  rows += [(1, NOON, NOON + 61 * MINUTE, 5), (2, NOON, NOON + 1441 * MINUTE, 1), (2, NOON, NOON + MINUTE, 2)]
  found, dropped = days(columns(rows), signals)
  assert found == {}
  assert dropped == {
    "not a usable number": 4,
    "count over more than 60 min": 1,
    "lasts longer than a day": 1,
    "asleep neither 0 nor 1": 1,
  }
  found, dropped = days(columns([(0, NOON, NOON, 60)], offset=1081), signals)
  assert found == {} and dropped == {"clock offset wrong (over 18 h)": 1}


def test_exact_duplicates_count_once():
  rows = [(0, NOON, NOON, 60), (0, NOON + 1000, NOON + 1000, 90)] + 3 * [(0, NOON, NOON, 60)]
  rows += 2 * [(1, NOON, NOON + MINUTE, 7)]
  found, dropped = days(columns(rows))
  assert minutes_of(found, 0) == {720: 75} and minutes_of(found, 1) == {720: 7}
  assert dropped == {"exact duplicate": 4}


def test_the_first_device_that_has_anything_in_a_step_counts():
  rows = [(1, NOON + m * MINUTE, NOON + (m + 1) * MINUTE, 10, 1) for m in range(6)]  # the phone's
  rows += [(1, NOON + 2 * MINUTE, NOON + 4 * MINUTE, 8, 0)]  # the watch's
  rows += [(1, NOON + 3 * MINUTE, NOON + 5 * MINUTE, 6, 1)]  # of the phone, half of it where the watch counts
  found, dropped = days(columns(rows), devices=("watch", "phone"))
  assert minutes_of(found, 1) == {720: 10, 721: 10, 722: 4, 723: 4, 724: 13, 725: 10}
  assert dropped == {"another device counts there": 2}


def test_devices_in_priority():
  assert device_order(["Watch", "Phone"], {"Scale", "Phone", "Band"}) == ["Phone", "Band", "Scale"]


def test_states_hold_and_the_last_of_a_step_counts():
  asleep = Signal("asleep", kind="binary", sensor="sleep", holds=True)
  stage = Signal("stage", rule="last", holds=True)
  night = ms("2024-01-10T23:00")
  rows = [(0, night, night + 120 * MINUTE, 1), (0, night + 120 * MINUTE, night + 121 * MINUTE - 1, 0)]
  rows += [(1, NOON, NOON + 3 * MINUTE, 2), (1, NOON + MINUTE + 1, NOON + 2 * MINUTE, 5), (1, NOON, NOON, 3)]
  found, dropped = days(columns(rows), (asleep, stage))
  assert minutes_of(found, 0) == {m: 1 for m in range(1380, 1440)}
  assert minutes_of(found, 0, "2024-01-11") == {**{m: 1 for m in range(60)}, 60: 0}
  assert minutes_of(found, 1) == {720: 2, 721: 5, 722: 2} and dropped == {}


def test_a_state_over_the_end_of_a_month_is_in_both():
  asleep = Signal("asleep", kind="binary", holds=True)
  night = ms("2024-01-31T23:00")
  parts = [
    columns([(0, night, night + 180 * MINUTE, 1)]),
    columns([(0, NOON + 90 * clocks.DAY, NOON + 90 * clocks.DAY, 1)]),
  ]
  found, dropped = days(parts, (asleep,))
  assert list(found) == ["2024-01-31", "2024-02-01", "2024-04-09"] and dropped == {}
  assert len(minutes_of(found, 0, "2024-01-31")) == 60 and len(minutes_of(found, 0, "2024-02-01")) == 120


def test_days_that_miss_too_much_are_left_out_and_counted():
  full = [(0, NOON - 720 * MINUTE + m * MINUTE, NOON - 720 * MINUTE + m * MINUTE, 60) for m in range(288)]
  account = Account()
  grid = Grid(Recipe((HEART, STEPS)), clocks.find_zone("UTC"))
  next_day = [(0, start + clocks.DAY, end + clocks.DAY, value) for _, start, end, value in full[:287]]
  found = list(grid.days([columns(full + next_day)], account, "p"))
  # Over the channels that the day has: steps were never read.
  assert [day.date for day in found] == ["2024-01-10"] and grid.left_out == {"p": 1}
  assert account.dropped == {("p", "day with more than 80 % missing"): 287}


def test_parts_out_of_order_are_refused():
  later, earlier = columns([(0, NOON + 1, NOON + 1, 60)]), columns([(0, NOON, NOON, 60)])
  with pytest.raises(ValueError, match="not in order"):
    days([later, earlier])
  assert days([])[0] == {} and days([later.take(slice(0, 0))])[0] == {}


def test_wall_clocks_are_taken_as_they_are():
  night = ms("2024-03-31T02:30")  # a time that Berlin's clocks never showed
  found, _ = days(columns([(0, night, night, 60)], wall=True), zone="Europe/Berlin")
  assert minutes_of(found, 0, "2024-03-31") == {150: 60}


def test_steps_of_five_minutes():
  rows = [(0, NOON + m * MINUTE, NOON + m * MINUTE, 60 + m) for m in range(5)] + [(1, NOON, NOON + 7 * MINUTE, 70)]
  found, _ = days(columns(rows), minutes_per_step=5)
  assert found["2024-01-10"].values.shape == (288, 2)
  assert minutes_of(found, 0) == {144: 62} and minutes_of(found, 1) == {144: 50, 145: 20}


QUIET = Signal("steps", "steps", "ACC", rule="sum", quiet=True)


def test_no_steps_while_worn_are_zero_and_else_missing():
  rows = [(0, NOON + m * MINUTE, NOON + m * MINUTE, 60) for m in range(0, 60, 5)]
  rows += [(1, NOON + 10 * MINUTE, NOON + 11 * MINUTE, 30), (1, NOON + 300 * MINUTE, NOON + 301 * MINUTE, 9)]
  found, _ = days(columns(rows), (HEART, QUIET))
  steps = minutes_of(found, 1)
  worn = range(710, 720 + 55 + 10 + 1)  # ten minutes before the first reading of the heart to ten after the last
  assert steps == {**{m: 0.0 for m in worn}, 730: 30, 1020: 9}
  cause = found["2024-01-10"].cause
  assert cause.dtype == np.uint8 and not cause[:, 0].any()
  assert np.flatnonzero(cause[:, 1] == 0).tolist() == sorted(steps)
  assert days(columns(rows), (HEART, QUIET), worn=WearRule("off"))[0]["2024-01-10"].cause is None


def test_zeros_while_not_worn_are_missing():
  rows = [(0, NOON + m * MINUTE, NOON + m * MINUTE, 60) for m in range(60)]
  rows += [(1, NOON + m * MINUTE, NOON + (m + 1) * MINUTE, 0 if m != 90 else 4) for m in range(-120, 120)]
  found, dropped = days(columns(rows), (HEART, STEPS))
  assert minutes_of(found, 1) == {**{m: 0.0 for m in range(710, 790)}, 810: 4}
  assert dropped == {"zero while not worn": 240 - 81}
  cause = found["2024-01-10"].cause[:, 1]
  assert np.flatnonzero(cause).tolist() == [m for m in range(600, 840) if m not in range(710, 790) and m != 810]


def test_wear_of_one_day_makes_no_other():
  late = ms("2024-01-10T23:58")
  found, _ = days(columns([(0, late, late, 60)]), (HEART, QUIET))
  assert list(found) == ["2024-01-10"]


def test_a_drawer_is_not_a_day_of_zeros():
  """All zeros on a day without the heart, of a device that measures it: no day."""
  rows = [(0, NOON, NOON, 60), (1, NOON, NOON + MINUTE, 5)]
  rows += [(1, NOON + (40 * 1440 + m) * MINUTE, NOON + (40 * 1440 + m + 1) * MINUTE, 0) for m in range(600)]
  found, dropped = days(columns(rows))
  assert list(found) == ["2024-01-10"] and dropped == {"zero while not worn": 600}
  found, dropped = days(columns([row for row in rows if row[0] == 1]))  # nothing tells whether it was worn
  assert list(found) == ["2024-01-10", "2024-02-19"] and dropped == {}
