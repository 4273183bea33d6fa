"""Readings on the steps of days: values, clocks, devices, duplicates, wear time and what is dropped."""

import dataclasses

import numpy as np
import pytest

from data_pipelines.errors import SchemaError
from data_pipelines.ingest.gridding.monthly_grid import Grid, device_order
from data_pipelines.ingest.gridding.recipe import Recipe, WearRule
from data_pipelines.ingest.reading import clocks
from data_pipelines.ingest.reading.account import Account
from data_pipelines.ingest.reading.signals import Signal
from tests.data_pipelines.ingest.gridding.made_readings import HEART, MINUTE, STEPS, grid_days, ms, to_columns

NOON = ms("2024-01-10T12:00")


def minutes_of(days, c=0, date="2024-01-10"):
  """{minute: value} of a channel of a day."""
  values = days[date].values[:, c] if date in days else np.array([])
  return {int(m): float(values[m]) for m in np.flatnonzero(~np.isnan(values))}


def test_readings_fall_on_their_minutes():
  noon = ms("2024-01-10T12:00:00+00:00")
  rows = [
    (0, noon, noon, 60),
    (0, noon + 30_000, noon + 30_000, 70),
    (1, noon, noon + 2 * MINUTE, 10),
  ]
  days, dropped = grid_days(to_columns(rows), zone="Europe/Berlin")
  values = days["2024-01-10"].values
  assert values.shape == (1440, 2) and values.dtype == np.float32
  assert values[13 * 60, 0] == 65 and values[13 * 60, 1] == 5 and values[13 * 60 + 1, 1] == 5
  assert np.isnan(values).sum() == 2 * 1440 - 3
  assert dropped == {}


def test_times_in_utc_need_a_zone():
  with pytest.raises(SchemaError, match="readings of heart_rate are in UTC"):
    grid_days(to_columns([(0, ms("2024-01-10T12:00"), ms("2024-01-10T12:00"), 60)]), zone=None)


def test_zeros_and_values_out_of_range():
  rows = [(0, NOON, NOON, 0), (1, NOON, NOON + MINUTE, 0)]
  rows += [(0, NOON + m * MINUTE, NOON + m * MINUTE, value) for m, value in ((1, 20), (2, 250), (3, 19.9), (4, 251))]
  days, dropped = grid_days(to_columns(rows))
  assert minutes_of(days, 0) == {721: 20, 722: 250} and minutes_of(days, 1) == {720: 0}
  assert dropped == {"heart_rate is 0: not measured": 1, "heart_rate outside 20 to 250 bpm": 2}


def test_wrong_clocks_are_counted():
  early, late = ms("1999-12-31T23:59"), ms("2199-01-01T00:00")
  rows = [(0, early, early, 60), (0, NOON, NOON, 61), (0, late, late, 62), (0, NOON, NOON - 1, 63), (0, 0, 0, 64)]
  days, dropped = grid_days(to_columns(rows))
  assert list(days) == ["2024-01-10"] and minutes_of(days) == {720: 61}
  assert dropped == {
    "clock not set (before 2000)": 2,
    "clock wrong (after the export)": 1,
    "ends before it starts": 1,
  }


def test_no_minute_counts_twice_after_a_clock_was_set_back():
  # After ten minutes of counts the clock jumps back by five, and five minutes are written again.
  rows = [(1, NOON + m * MINUTE, NOON + (m + 1) * MINUTE, 10 + m) for m in range(10)]
  again = [(1, NOON + m * MINUTE, NOON + (m + 1) * MINUTE, 100) for m in range(5, 10)]
  days, dropped = grid_days(to_columns(rows + again))
  assert minutes_of(days, 1) == {720 + m: 10 + m if m < 5 else 100 for m in range(10)}
  assert dropped == {"counted again for the same time": 5}


def test_impossible_readings_are_counted():
  asleep = Signal("asleep", kind="binary", holds=True)
  signals = (HEART, STEPS, asleep)
  rows = [(0, NOON, NOON, value) for value in (np.nan, np.inf, -np.inf, 1e31)]
  rows += [(1, NOON, NOON + 61 * MINUTE, 5), (2, NOON, NOON + 1441 * MINUTE, 1), (2, NOON, NOON + MINUTE, 2)]
  days, dropped = grid_days(to_columns(rows), signals)
  assert days == {}
  assert dropped == {
    "not a usable number": 4,
    "count over more than 60 min": 1,
    "lasts longer than a day": 1,
    "asleep neither 0 nor 1": 1,
  }
  days, dropped = grid_days(to_columns([(0, NOON, NOON, 60)], offset=1081), signals)
  assert days == {} and dropped == {"clock offset wrong (over 18 h)": 1}


def test_exact_duplicates_count_once():
  rows = [(0, NOON, NOON, 60), (0, NOON + 1000, NOON + 1000, 90)] + 3 * [(0, NOON, NOON, 60)]
  rows += 2 * [(1, NOON, NOON + MINUTE, 7)]
  days, dropped = grid_days(to_columns(rows))
  assert minutes_of(days, 0) == {720: 75} and minutes_of(days, 1) == {720: 7}
  assert dropped == {"exact duplicate": 4}


def test_the_most_trusted_device_in_a_step_counts():
  rows = [(1, NOON + m * MINUTE, NOON + (m + 1) * MINUTE, 10, 1) for m in range(6)]  # the phone's
  rows += [(1, NOON + 2 * MINUTE, NOON + 4 * MINUTE, 8, 0)]  # the watch's
  rows += [(1, NOON + 3 * MINUTE, NOON + 5 * MINUTE, 6, 1)]  # the phone's, half of it where the watch counts
  days, dropped = grid_days(to_columns(rows), devices=("watch", "phone"))
  assert minutes_of(days, 1) == {720: 10, 721: 10, 722: 4, 723: 4, 724: 13, 725: 10}
  assert dropped == {"another device counts there": 2}


def test_device_order():
  assert device_order(["Watch", "Phone"], {"Scale", "Phone", "Band"}) == ["Phone", "Band", "Scale"]


def test_states_hold_and_the_last_reading_of_a_step_counts():
  asleep = Signal("asleep", kind="binary", sensor="sleep", holds=True)
  stage = Signal("stage", rule="last", holds=True)
  night = ms("2024-01-10T23:00")
  rows = [(0, night, night + 120 * MINUTE, 1), (0, night + 120 * MINUTE, night + 121 * MINUTE - 1, 0)]
  rows += [(1, NOON, NOON + 3 * MINUTE, 2), (1, NOON + MINUTE + 1, NOON + 2 * MINUTE, 5), (1, NOON, NOON, 3)]
  days, dropped = grid_days(to_columns(rows), (asleep, stage))
  assert minutes_of(days, 0) == {m: 1 for m in range(1380, 1440)}
  assert minutes_of(days, 0, "2024-01-11") == {**{m: 1 for m in range(60)}, 60: 0}
  assert minutes_of(days, 1) == {720: 2, 721: 5, 722: 2} and dropped == {}


def test_a_state_lasts_over_the_end_of_a_month():
  asleep = Signal("asleep", kind="binary", holds=True)
  night = ms("2024-01-31T23:00")
  parts = [
    to_columns([(0, night, night + 180 * MINUTE, 1)]),
    to_columns([(0, NOON + 90 * clocks.DAY, NOON + 90 * clocks.DAY, 1)]),
  ]
  days, dropped = grid_days(parts, (asleep,))
  assert list(days) == ["2024-01-31", "2024-02-01", "2024-04-09"] and dropped == {}
  assert len(minutes_of(days, 0, "2024-01-31")) == 60 and len(minutes_of(days, 0, "2024-02-01")) == 120


def test_days_with_too_few_values_are_left_out():
  full = [(0, NOON - 720 * MINUTE + m * MINUTE, NOON - 720 * MINUTE + m * MINUTE, 60) for m in range(288)]
  account = Account()
  grid = Grid(Recipe((HEART, STEPS)), clocks.find_zone("UTC"))
  next_day = [(0, start + clocks.DAY, end + clocks.DAY, value) for _, start, end, value in full[:287]]
  days = list(grid.days([to_columns(full + next_day)], account, "p"))
  # The share is over the channels that the day has, and steps were never read.
  assert [day.date for day in days] == ["2024-01-10"] and grid.left_out == {"p": 1}
  assert account.dropped == {("p", "day with more than 80 % missing"): 287}


@pytest.mark.parametrize("channels", (1, 3, 7, 9))
def test_a_day_of_which_as_much_is_missing_as_may_be_is_kept(channels):
  signals = [dataclasses.replace(HEART, name=f"heart {n}") for n in range(channels)]
  for kept in (1, 288, 432):  # of 1,440 minutes; a mean of the channels' shares may be off by the last bit
    times = [NOON - 720 * MINUTE + m * MINUTE for m in range(kept)]
    readings = to_columns([(c, start, start, 60) for c in range(channels) for start in times])
    for share, number in (((1440 - kept) / 1440, 1), ((1440 - kept) / 1440 - 1e-9, 0)):
      assert len(grid_days(readings, signals, max_missing=share)[0]) == number, (kept, share)


def test_parts_out_of_order_are_refused():
  later, earlier = to_columns([(0, NOON + 1, NOON + 1, 60)]), to_columns([(0, NOON, NOON, 60)])
  with pytest.raises(ValueError, match="not in order"):
    grid_days([later, earlier])
  assert grid_days([])[0] == {} and grid_days([later.take(slice(0, 0))])[0] == {}


def test_wall_clocks_are_not_converted():
  night = ms("2024-03-31T02:30")  # Berlin's clocks never showed this time
  days, _ = grid_days(to_columns([(0, night, night, 60)], wall=True), zone="Europe/Berlin")
  assert minutes_of(days, 0, "2024-03-31") == {150: 60}


def test_steps_of_five_minutes():
  rows = [(0, NOON + m * MINUTE, NOON + m * MINUTE, 60 + m) for m in range(5)] + [(1, NOON, NOON + 7 * MINUTE, 70)]
  days, _ = grid_days(to_columns(rows), minutes_per_step=5)
  assert days["2024-01-10"].values.shape == (288, 2)
  assert minutes_of(days, 0) == {144: 62} and minutes_of(days, 1) == {144: 50, 145: 20}


QUIET = Signal("steps", "steps", "ACC", rule="sum", quiet=True)


def test_steps_without_a_reading_are_zero_only_while_worn():
  rows = [(0, NOON + m * MINUTE, NOON + m * MINUTE, 60) for m in range(0, 60, 5)]
  rows += [(1, NOON + 10 * MINUTE, NOON + 11 * MINUTE, 30), (1, NOON + 300 * MINUTE, NOON + 301 * MINUTE, 9)]
  days, _ = grid_days(to_columns(rows), (HEART, QUIET))
  steps = minutes_of(days, 1)
  worn = range(710, 720 + 55 + 10 + 1)  # from ten minutes before the first heart reading to ten after the last
  assert steps == {**{m: 0.0 for m in worn}, 730: 30, 1020: 9}
  cause = days["2024-01-10"].cause
  assert cause.dtype == np.uint8 and not cause[:, 0].any()
  assert np.flatnonzero(cause[:, 1] == 0).tolist() == sorted(steps)
  assert grid_days(to_columns(rows), (HEART, QUIET), worn=WearRule("off"))[0]["2024-01-10"].cause is None


def test_zeros_while_not_worn_are_missing():
  rows = [(0, NOON + m * MINUTE, NOON + m * MINUTE, 60) for m in range(60)]
  rows += [(1, NOON + m * MINUTE, NOON + (m + 1) * MINUTE, 0 if m != 90 else 4) for m in range(-120, 120)]
  days, dropped = grid_days(to_columns(rows), (HEART, STEPS))
  assert minutes_of(days, 1) == {**{m: 0.0 for m in range(710, 790)}, 810: 4}
  assert dropped == {"zero while not worn": 240 - 81}
  cause = days["2024-01-10"].cause[:, 1]
  assert np.flatnonzero(cause).tolist() == [m for m in range(600, 840) if m not in range(710, 790) and m != 810]


def test_wear_late_in_the_evening_does_not_create_the_next_day():
  late = ms("2024-01-10T23:58")
  days, _ = grid_days(to_columns([(0, late, late, 60)]), (HEART, QUIET))
  assert list(days) == ["2024-01-10"]


def test_a_watch_in_a_drawer_does_not_create_a_day_of_zeros():
  """A device that measures the heart but for a whole day writes only zeros was not worn, so it yields no day."""
  rows = [(0, NOON, NOON, 60), (1, NOON, NOON + MINUTE, 5)]
  rows += [(1, NOON + (40 * 1440 + m) * MINUTE, NOON + (40 * 1440 + m + 1) * MINUTE, 0) for m in range(600)]
  days, dropped = grid_days(to_columns(rows))
  assert list(days) == ["2024-01-10"] and dropped == {"zero while not worn": 600}
  days, dropped = grid_days(
    to_columns([row for row in rows if row[0] == 1])
  )  # without heart readings, it is unknown whether the watch was worn
  assert list(days) == ["2024-01-10", "2024-02-19"] and dropped == {}
