"""Properties of gridding that hold for any readings, checked against plain loops over minutes."""

import collections
import datetime
import functools
import math
import zoneinfo

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_pipelines.ingest.gridding.recipe import WearRule
from data_pipelines.ingest.reading import clocks
from data_pipelines.ingest.reading.signals import Signal
from tests.data_pipelines.ingest.gridding.made_readings import HEART, MINUTE, STEPS, grid_days, ms, to_columns

ASLEEP = Signal("asleep", sensor="sleep", kind="binary", holds=True)
STRESS = Signal("stress", rule="last")
ALL = (HEART, STEPS, ASLEEP, STRESS)
ZONES = ("UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe")
# Before clock changes in each of the zones above, and before the ends of months.
STARTS = tuple(
  ms(f"{day}T00:00:00")
  for day in ("2024-01-30", "2024-03-09", "2024-03-30", "2024-04-05", "2024-10-04", "2024-10-26", "2024-11-02")
)
DAY = clocks.DAY
SECOND = 1000


@st.composite
def readings(draw, signals=(0, 1, 2, 3), devices=2):
  """Rows (signal, start, end, value, device) of three days, seconds apart, some of them twice."""
  start = draw(st.sampled_from(STARTS))
  rows = []
  for _ in range(draw(st.integers(1, 40))):
    signal = draw(st.sampled_from(signals))
    at = start + draw(st.integers(0, 3 * 86_400)) * SECOND
    longest = {0: 0, 1: 3600, 2: 5 * 3600, 3: 600}[signal]
    lasts = draw(st.sampled_from([0, 1, 59, 60, 90, 300, 900, 3600, 18_000]))
    value = draw(st.integers(0, 1)) if signal == 2 else draw(st.integers(30, 200))
    rows.append((signal, at, at + min(lasts, longest) * SECOND, value, draw(st.integers(0, devices - 1))))
  return rows + rows[: draw(st.integers(0, 3))]


@functools.cache
def wall_clock(zone, minute):
  """(date, minute of the day) on the wall clock at a minute of UTC, by datetime; None in a second passage."""
  time = datetime.datetime.fromtimestamp(minute * 60, datetime.UTC).astimezone(zoneinfo.ZoneInfo(zone))
  return None if time.fold else (time.date().isoformat(), time.hour * 60 + time.minute)


def by_plain_loop(rows, zone):
  """{(date, minute, signal): value}, reading by reading and minute by minute; and how many readings have a part."""
  contributions = collections.defaultdict(lambda: collections.defaultdict(list))  # by place, then by device
  spans = {}
  for signal, start, end, value, device in rows:  # the larger of two counts of the same span is kept
    if signal == 1 and end > start:
      spans[start, end, device] = max(value, spans.get((start, end, device), 0))
  for signal, start, end, value, device in sorted(set(rows)):
    if signal == 1 and end > start and spans[start, end, device] != value:
      continue
    reading = (start, end, value)
    if signal not in (1, 2) or end == start:
      end = start + 1
    for minute in range(start // MINUTE, (end - 1) // MINUTE + 1):
      share = (min(end, minute * MINUTE + MINUTE) - max(start, minute * MINUTE)) / (end - start)
      if place := wall_clock(zone, minute):
        weight = share * (end - start) if signal == 2 else share
        contributions[(*place, signal)][device].append((weight, value, reading))
  winning = {place: by_device[min(by_device)] for place, by_device in contributions.items()}
  used = {(place[2], min(contributions[place]), reading) for place in winning for _, _, reading in winning[place]}
  return {place: _combine(parts, place[2]) for place, parts in winning.items()}, len(used)


def _combine(parts, signal):
  weights, values, order = zip(*parts, strict=True)
  if signal == 3:
    return max(order)[2]
  total = math.fsum(weight * value for weight, value in zip(weights, values, strict=True))
  return total if signal == 1 else float(total >= 0.5 * sum(weights)) if signal == 2 else np.mean(values)


def values_of(days):
  """{(date, minute, channel): value} of all observed values."""
  return {
    (date, int(minute), int(c)): float(day.values[minute, c])
    for date, day in days.items()
    for minute, c in np.argwhere(~np.isnan(day.values))
  }


@given(rows=readings(), zone=st.sampled_from(ZONES))
@settings(max_examples=40, deadline=None)
def test_values_and_account_agree_with_a_plain_loop(rows, zone):
  days, dropped = grid_days(to_columns(rows), ALL, zone, ("watch", "phone"), worn=WearRule("off"))
  values, (expected, used) = values_of(days), by_plain_loop(rows, zone)
  assert sum(dropped.values()) == len(rows) - used
  assert values.keys() == expected.keys()
  assert values == pytest.approx(expected, rel=1e-6)


@given(rows=readings(), zone=st.sampled_from(ZONES), order=st.randoms(), cut=st.integers(1, 60))
@settings(max_examples=25, deadline=None)
def test_neither_order_nor_parts_matter(rows, zone, order, cut):
  signals = (HEART, Signal("steps", rule="sum", quiet=True), ASLEEP, STRESS)
  whole, dropped = grid_days(to_columns(rows), signals, zone, ("watch", "phone"))
  shuffled = list(rows)
  order.shuffle(shuffled)
  by_time = collections.defaultdict(list)
  for row in shuffled:
    by_time[row[1] // (cut * 3_600_000)].append(row)
  parts = [to_columns(by_time[key]) for key in sorted(by_time)]
  again, dropped_again = grid_days(parts, signals, zone, ("watch", "phone"))
  assert list(again) == list(whole) and dropped == dropped_again
  for date in whole:
    np.testing.assert_array_equal(again[date].values, whole[date].values)
    np.testing.assert_array_equal(again[date].cause, whole[date].cause)


@given(rows=readings(signals=(1,), devices=1), minutes=st.sampled_from([1, 5, 15, 60]))
@settings(max_examples=25, deadline=None)
def test_totals_of_counts_are_conserved(rows, minutes):
  spans = {(start, end): row for row in rows if (start := row[1], end := row[2])}
  days, dropped = grid_days(to_columns(list(spans.values())), (HEART, STEPS), minutes_per_step=minutes)
  total = sum(np.nansum(day.values.astype(np.float64)) for day in days.values())
  assert total == pytest.approx(sum(row[3] for row in spans.values()), rel=1e-5)
  assert dropped == {}


def minutes_of_a_day(zone, first, hours=30):
  start = ms(first)
  rows = [(0, start + m * MINUTE, start + m * MINUTE, 60 + m % 60) for m in range(hours * 60)]
  return grid_days(to_columns(rows), (HEART,), zone)


@pytest.mark.parametrize(
  "zone, first, date, hour, minutes",
  [
    ("Europe/Berlin", "2024-03-30T23:00:00", "2024-03-31", 2, 60),
    ("America/New_York", "2024-03-10T05:00:00", "2024-03-10", 2, 60),
    ("Australia/Lord_Howe", "2024-10-05T13:30:00", "2024-10-06", 2, 30),
  ],
)
def test_a_skipped_hour_stays_missing(zone, first, date, hour, minutes):
  days, dropped = minutes_of_a_day(zone, first)
  values = days[date].values[:, 0]
  assert np.flatnonzero(np.isnan(values)).tolist() == list(range(hour * 60, hour * 60 + minutes))
  assert values[0] == 60 and values[hour * 60 + minutes] == 60 + (hour * 60) % 60
  assert dropped == {}


@pytest.mark.parametrize(
  "zone, first, date, second, minutes",
  [
    ("Europe/Berlin", "2024-10-26T22:00:00", "2024-10-27", 180, 60),
    ("America/New_York", "2024-11-03T04:00:00", "2024-11-03", 120, 60),
    ("Australia/Lord_Howe", "2024-04-06T13:00:00", "2024-04-07", 120, 30),
  ],
)
def test_the_first_passage_of_a_repeated_hour_is_kept(zone, first, date, second, minutes):
  days, dropped = minutes_of_a_day(zone, first)
  values = days[date].values[:, 0]
  assert not np.isnan(values).any()
  expected = [60 + m % 60 for m in range(1440 + minutes) if not second <= m < second + minutes]
  assert values.tolist() == expected
  assert dropped == {"repeated hour": minutes}


def test_a_count_loses_its_share_of_a_repeated_hour():
  start = ms("2024-10-27T00:30:00+00:00")  # 02:30 in Berlin; at 01:00 UTC the clock is put back to 02:00
  days, dropped = grid_days(to_columns([(1, start, start + 60 * MINUTE, 60)]), zone="Europe/Berlin")
  values = days["2024-10-27"].values[:, 1]
  assert np.flatnonzero(~np.isnan(values)).tolist() == list(range(150, 180))
  assert np.nansum(values) == pytest.approx(30) and dropped == {}


def flight(offset_before, offset_after, hours=10, gap=0):
  start = ms("2024-06-01T06:00:00")
  rows, offsets = [], []
  for m in range(hours * 120):
    at = start + m * MINUTE + (gap * MINUTE if m >= hours * 60 else 0)
    rows.append((0, at, at, 60 if m < hours * 60 else 90))
    offsets.append(offset_before if m < hours * 60 else offset_after)
  return grid_days(to_columns(rows, offset=np.array(offsets, np.int16)), (HEART,), None)


def test_travel_west_keeps_the_first_passage():
  days, dropped = flight(120, -240)  # Berlin to New York in the middle of the day repeats six hours
  values = days["2024-06-01"].values[:, 0]
  assert dropped == {"repeated hour": 360}
  assert np.nansum(values == 60) == 600 and np.nansum(values == 90) == 240
  assert values[8 * 60] == 60 and values[18 * 60 - 1] == 60 and values[18 * 60] == 90


def test_travel_east_leaves_a_hole():
  days, dropped = flight(-240, 120)
  values = days["2024-06-01"].values[:, 0]
  assert dropped == {}
  assert np.isnan(values[12 * 60 : 18 * 60]).all() and values[12 * 60 - 1] == 60 and values[18 * 60] == 90


def test_travel_west_without_readings_on_the_way_repeats_nothing():
  days, dropped = flight(120, -240, gap=360)
  assert dropped == {} and np.nansum(days["2024-06-01"].values[:, 0] == 90) == 360


@given(st.integers(2, 59), st.integers(0, 3599), st.sampled_from(["mean", "last"]))
@settings(max_examples=20, deadline=None)
def test_no_minute_is_invented(every, second, rule):
  start = ms("2024-02-01T00:00:00") + second * SECOND
  rows = [(0, at, at + every * MINUTE, 5) for at in range(start, start + 20 * 60 * MINUTE, every * MINUTE)]
  values = grid_days(to_columns(rows), (Signal("glucose", "mmol/L", rule=rule),))[0]["2024-02-01"].values[:, 0]
  minutes = [(row[1] - ms("2024-02-01T00:00:00")) // MINUTE for row in rows]
  assert np.flatnonzero(~np.isnan(values)).tolist() == minutes
