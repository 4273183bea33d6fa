"""Running totals of Garmin's monitoring messages become amounts; every amount is worked out here from the totals."""

import collections
import struct

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from data_pipelines.ingest.importers.garmin import Garmin
from data_pipelines.ingest.importers.monitoring import Totals
from data_pipelines.ingest.reading.account import Account
from data_pipelines.ingest.reading.export_files import Export
from tests.data_pipelines.ingest.importers.test_fit_bytes import (
  BYTE,
  ENUM,
  TIME,
  UINT8,
  UINT16,
  UINT32,
  definition,
  fit_file,
  message,
)

EPOCH = 631_065_600  # 1989-12-31T00:00:00Z
MIDNIGHT = 1_767_218_400 - EPOCH  # 2025-12-31T22:00:00Z, midnight of 2026-01-01 at UTC+2
WALKING, RUNNING, CYCLING, SEDENTARY = 6, 1, 2, 8
HALF, CYCLES, PACKED = (26, 2, UINT16), (3, 4, UINT32), (24, 1, BYTE)


def info(at=MIDNIGHT, ahead=7200):
  return definition(1, 103, TIME, (0, 4, UINT32)) + message(1, "<II", at, at + ahead)


def read(data, folder):
  """[(signal, start, end, value)] by seconds since MIDNIGHT, and {reason: rows dropped}."""
  (folder / "day.fit").write_bytes(data)
  account = Account()
  found = []
  for block in Garmin().read(Export(folder), "day.fit", account):
    seconds = lambda ms: (ms // 1000 - EPOCH - MIDNIGHT).tolist()
    columns = seconds(block.start), seconds(block.end), block.value.tolist()
    found += [(block.signal, *row) for row in zip(*columns, strict=True)]
  return found, {why: rows for (_, why), rows in account.dropped.items()}


def steps(data, folder):
  found, dropped = read(data, folder)
  return [row[1:] for row in found if row[0] == "steps"], dropped


def walked(*totals, kind=WALKING, start=None):
  """A file of totals of steps, (seconds since MIDNIGHT, steps), each with its activity type."""
  rows = [message(2, "<IBI", MIDNIGHT + at, kind, total) for at, total in totals]
  return fit_file(info() if start is None else start, definition(2, 55, TIME, (5, 1, ENUM), CYCLES), *rows)


def test_a_day_like_the_sample_of_garmins_sdk(tmp_path):
  """The activity type is in the packed byte only, types alternate, and a message that is dated later comes first."""
  device = definition(0, 23, TIME) + message(0, "<I", MIDNIGHT + 86_000)
  kinds = [definition(2, 55, PACKED, HALF), definition(3, 55, CYCLES, HALF, PACKED)]
  rows, total, expected = [], {WALKING: 0, RUNNING: 0}, collections.Counter()
  stretches = [(27_492, SEDENTARY, 0), (29_412, WALKING, 100), (29_892, WALKING, 215), (30_432, SEDENTARY, 0)]
  stretches += [(30_492, WALKING, 7), (37_872, SEDENTARY, 0), (37_932, RUNNING, 31), (38_232, WALKING, 345)]
  stretches += [(65_552, SEDENTARY, 0), (66_000, WALKING, 2475), (86_000, SEDENTARY, 0)]  # past two rollovers
  before = 0
  for at, kind, more in stretches:
    time, packed = MIDNIGHT + at & 0xFFFF, 3 << 5 | kind
    if kind == SEDENTARY:
      rows.append(message(2, "<BH", packed, time))
    else:
      total[kind] += more
      rows.append(message(3, "<IHB", total[kind], time, packed))
      expected[before, at] += more
    before = at
  last = definition(4, 55, TIME, CYCLES, (5, 1, ENUM))
  rows += [message(4, "<IIB", MIDNIGHT + 86_400, total[kind], kind) for kind in (WALKING, RUNNING)]
  found, dropped = steps(fit_file(device, info(), *kinds, *rows[:-2], last, *rows[-2:]), tmp_path)
  assert {(start, end): value for start, end, value in found if value} == expected
  assert sum(value for _, _, value in found) == 3142 + 31 and not dropped


def test_steps_of_each_activity_add_up(tmp_path):
  row = definition(2, 55, TIME, PACKED, CYCLES)
  totals = [(60, WALKING, 50), (120, RUNNING, 80), (180, WALKING, 60), (240, RUNNING, 200), (300, CYCLING, 999)]
  totals.append((360, 22, 999))  # an activity that the profile does not know, and walking in four bits
  rows = [message(2, "<IBI", MIDNIGHT + at, kind, total) for at, kind, total in totals]
  found, dropped = steps(fit_file(info(), row, *rows), tmp_path)
  assert found == [(0, 60, 50), (60, 120, 80), (120, 180, 10), (180, 240, 120)]
  assert not dropped  # the message about cycling tells its intensity


def test_what_two_activities_add_at_once_is_one_reading(tmp_path):
  row = definition(2, 55, TIME, (5, 1, ENUM), CYCLES)
  totals = [(0, WALKING, 0), (0, RUNNING, 0), (60, WALKING, 50), (60, RUNNING, 50), (120, WALKING, 50)]
  rows = [message(2, "<IBI", MIDNIGHT + 600 + at, kind, total) for at, kind, total in totals]
  found, _ = steps(fit_file(info(), row, *rows), tmp_path)  # two equal ones would pass for duplicates
  assert found == [(0, 600, 0), (600, 660, 100), (660, 720, 0)]


def test_cycles_without_an_activity_type_are_told(tmp_path):
  rows = [message(2, "<II", MIDNIGHT + at, 100) for at in (60, 120)]
  assert steps(fit_file(info(), definition(2, 55, TIME, CYCLES), *rows), tmp_path) == (
    [],
    {"cycles without an activity type": 2},
  )


def test_totals_of_sixteen_bits_roll_over(tmp_path):
  fields = (5, 1, ENUM), (9, 2, UINT16), (8, 2, UINT16), (10, 2, UINT16)  # cycles_16, distance_16, active_time_16
  totals = [(600, 1000, 80_000, 500), (4000, 66_000, 6_600_000, 3600), (4600, 66_100, 6_607_000, 3630)]
  rows = [message(2, "<IB3H", MIDNIGHT + at, 6, s & 0xFFFF, cm & 0xFFFF, sec) for at, s, cm, sec in totals]
  found, _ = read(fit_file(info(), definition(2, 55, TIME, *fields), *rows), tmp_path)
  assert [row for row in found if row[0] == "steps"] == [
    ("steps", 100, 600, 1000), ("steps", 900, 4000, 65_000), ("steps", 4570, 4600, 100),
  ]  # fmt: skip
  # Of hundredths of a metre, whole spans of 65,536 between two messages do not show.
  metres = [row[3] for row in found if row[0] == "distance"]
  assert metres == [pytest.approx(144.64), pytest.approx((6_600_000 - 80_000) % 65_536 / 100), pytest.approx(70)]


def test_a_total_starts_over_at_midnight_even_if_it_is_larger_then(tmp_path):
  late = 86_400 - 600
  found, dropped = steps(walked((late, 40), (86_400, 40), (86_400 + 7200, 100)), tmp_path)
  assert found == [(0, late, 40), (late, 86_400, 0), (86_400, 93_600, 100)] and not dropped


def test_the_first_total_of_a_file_that_begins_at_noon_is_not_known(tmp_path):
  found, dropped = steps(walked((43_260, 1000), (43_320, 1020), start=info(MIDNIGHT + 43_200)), tmp_path)
  assert found == [(43_260, 43_320, 20)]
  assert dropped == {"total with no earlier one to compare it with": 1}


def test_yesterdays_total_just_after_midnight_is_no_new_one(tmp_path):
  found, _ = steps(walked((86_000, 8000), (86_430, 8010), (86_490, 30)), tmp_path)
  assert sum(value for _, _, value in found) == 8000 + 10 + 30
  found, _ = steps(walked((80_000, 8000), (86_430, 7000)), tmp_path)  # reset earlier than by the file's own clock
  assert found[1] == (80_000, 86_430, 7000)
  found, _ = steps(walked((86_000, 40), (86_430, 45)), tmp_path)  # nothing but the minute tells
  assert sum(value for _, _, value in found) == 45


def test_a_watch_that_restarts_counts_from_zero_and_one_that_forgets_a_little_counts_on(tmp_path):
  found, dropped = steps(walked((3600, 500), (3660, 40), (3720, 90)), tmp_path)
  assert [value for _, _, value in found] == [500, 40, 50] and not dropped
  found, dropped = steps(walked((3600, 8000), (3660, 7990), (3720, 8030)), tmp_path)  # nobody takes 7,990 in a minute
  assert [value for _, _, value in found] == [8000, 40]
  assert dropped == {"total that is less than before, and too much to have started over": 1}


def test_travel_moves_midnight(tmp_path):
  """At 20:00 the clock is put forward by six hours: the new day began at 18:00 of the old clock."""
  there = info(MIDNIGHT + 20 * 3600, 7200 + 6 * 3600)
  rows = [(19 * 3600 + 3000, 5000), (20 * 3600 + 600, 60)]
  kinds = definition(2, 55, TIME, (5, 1, ENUM), CYCLES)
  first, second = (message(2, "<IBI", MIDNIGHT + at, WALKING, total) for at, total in rows)
  found, dropped = steps(fit_file(info(), kinds, first, there, second), tmp_path)
  assert [value for _, _, value in found] == [5000, 60] and not dropped
  # Whether a total was reset while the clock changed is not known if it is larger; the least that it can mean counts.
  first, second = (
    message(2, "<IBI", MIDNIGHT + at, WALKING, n) for at, n in ((17 * 3600, 5000), (20 * 3600 + 600, 5060))
  )
  found, _ = steps(fit_file(info(), kinds, first, there, second), tmp_path)
  assert [value for _, _, value in found] == [5000, 60]
  first = message(2, "<IBI", MIDNIGHT + 19 * 3600 + 3000, WALKING, 5000)
  # Put back by six hours, the day goes on: the total does too.
  back = info(MIDNIGHT + 20 * 3600, 7200 - 6 * 3600)
  second = message(2, "<IBI", MIDNIGHT + 20 * 3600 + 600, WALKING, 5060)
  found, dropped = steps(fit_file(info(), kinds, first, back, second), tmp_path)
  assert [value for _, _, value in found] == [5000, 60] and not dropped


def test_messages_a_little_out_of_order_are_not_eighteen_hours_later(tmp_path):
  rows = [message(2, "<HB", MIDNIGHT + at & 0xFFFF, 60 + k) for k, at in enumerate((600, 590, 610, 60_000))]
  found, _ = read(fit_file(info(), definition(2, 55, HALF, (27, 1, UINT8)), *rows), tmp_path)
  assert [row[1] for row in found] == [600, 590, 610, 60_000]


WALKS = st.lists(
  st.tuples(st.integers(60, 1800), st.integers(0, 200), st.sampled_from(["walking", "running"])),
  min_size=1,
  max_size=80,
)


@settings(max_examples=100, deadline=None)
@given(WALKS, st.integers(-12 * 3600, 14 * 3600), st.booleans())
def test_the_sum_is_what_was_walked(stretches, ahead, closes):
  """A day or more of walking and running, whose totals start over at each local midnight."""
  start = (MIDNIGHT + EPOCH) // 86_400 * 86_400 - ahead  # a local midnight
  totals = Totals(start, lambda time: ahead)
  counted, time, total = [], start, collections.Counter()
  for duration, amount, kind in stretches:
    if (time + ahead) // 86_400 != (time + duration + ahead) // 86_400:  # a watch closes the day, and starts anew
      time = (time + duration + ahead) // 86_400 * 86_400 - ahead
      for other in total if closes else ():
        totals.pass_to(time)
        counted += totals.add(time, {"activity_type": other, "cycles": total[other] / 2})[0]
      total.clear()
    time += duration
    total[kind] += amount
    totals.pass_to(time)
    counted += totals.add(time, {"activity_type": kind, "cycles": total[kind] / 2})[0]
  walked = sum(amount for _, amount, _ in stretches)
  found = sum(added.value for added in counted)
  assert found <= walked
  if closes:
    assert found == walked
  assert all(start <= added.start <= added.end and added.value >= 0 for added in counted)


@example([51093, 56723, 276, 58377, 34908, 29984, 13399, 41606, 4009, 2925, 3335, 1206, 0])  # a rounding error below 0
@given(st.lists(st.integers(0, 65_535), min_size=1, max_size=50))
def test_metres_of_sixteen_bits_add_up(centimetres):
  totals, total, metres = Totals(0, lambda time: 0), 0, 0.0
  for k, more in enumerate(centimetres, 1):
    total += more
    added, _ = totals.add(600 * k, {"activity_type": "walking", "distance_16": total & 0xFFFF})
    metres += sum(addition.value for addition in added)
  assert metres == pytest.approx(total / 100, abs=1e-6)


def test_heart_rates_of_a_chest_strap(tmp_path):
  """The strap's clock, in 1/1024 s: whole at the first beat, then its lower 12 bits, two of which fill three bytes."""
  first, fraction = 4_294_960_000, 0.25  # the clock rolls over after 7,296 ticks
  ticks = [first + k * 900 for k in range(1, 17)]  # past several rollovers of 12 bits
  rates = [*range(101, 116), 255]  # the last is marked invalid
  number = sum((tick & 0xFFF) << 12 * k for k, tick in enumerate(ticks[:8]))
  other = sum((tick & 0xFFF) << 12 * k for k, tick in enumerate(ticks[8:]))
  anchor = definition(2, 132, TIME, (0, 2, UINT16), (6, 1, UINT8), (9, 4, UINT32))
  packed = definition(3, 132, (6, 8, UINT8), (10, 12, BYTE))
  early = message(3, "<8B12s", *rates[:8], number.to_bytes(12, "little"))  # before any time is known
  data = fit_file(
    packed,
    early,
    anchor,
    message(2, "<IHBI", MIDNIGHT + 60, int(fraction * 32_768), 100, first),
    early,
    message(3, "<8B12s", *rates[8:], other.to_bytes(12, "little")),
  )
  (tmp_path / "swim.fit").write_bytes(data)
  account = Account()
  (block,) = Garmin().read(Export(tmp_path), "swim.fit", account)
  expected = [round(1000 * (MIDNIGHT + EPOCH + 60 + fraction + k * 900 / 1024)) for k in range(16)]
  assert block.signal == "heart_rate" and block.device == "chest strap"
  assert block.start.tolist() == block.end.tolist() == expected
  assert block.value.tolist() == [100, *rates[:15]]
  assert account.read.total() == 8 + 1 + 15
  assert {why: rows for (_, why), rows in account.dropped.items()} == {"heart rate of a chest strap without a time": 8}
  assert Garmin().devices[0] == "chest strap"  # before what the watch itself measured


def test_the_clock_of_a_chest_strap_rolls_over(tmp_path):
  whole = definition(3, 132, (6, 1, UINT8), (9, 4, UINT32))
  anchor = definition(2, 132, TIME, (6, 1, UINT8), (9, 4, UINT32)) + message(2, "<IBI", MIDNIGHT, 60, 2**32 - 1024)
  found, _ = read(fit_file(anchor, whole, message(3, "<BI", 61, 1024)), tmp_path)
  assert [row[1:] for row in found] == [(0, 0, 60), (2, 2, 61)]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.binary(min_size=0, max_size=30), st.integers(0, 2**32 - 1)), max_size=6))
def test_any_packed_times_are_read(tmp_path_factory, blocks):
  folder = tmp_path_factory.mktemp("strap")
  parts = [definition(2, 132, TIME, (9, 4, UINT32))]
  for packed, stamp in blocks:
    parts += [message(2, "<II", MIDNIGHT, stamp), definition(3, 132, (6, 8, UINT8), (10, len(packed), BYTE))]
    parts.append(message(3, f"<8s{len(packed)}s", bytes(range(60, 68)), packed))
  (folder / "a.fit").write_bytes(fit_file(*parts))
  account = Account()
  for block in Garmin().read(Export(folder), "a.fit", account):
    assert np.isfinite(block.value).all() and (block.start >= 1000 * (MIDNIGHT + EPOCH)).all()
  assert sum(account.dropped.values()) <= sum(account.read.values())


def test_series_of_the_health_snapshot(tmp_path):
  def series(number, form, values, field=1, span=60):
    base = {"B": UINT8, "b": 0x01, "h": 0x83, "H": UINT16}[form]
    size = struct.calcsize(form) * len(values)
    return definition(2, number, TIME, (0, 2, UINT16), (field, size, base)) + message(
      2, f"<IH{len(values)}{form}", MIDNIGHT, span, *values
    )

  data = fit_file(
    series(308, "B", [60, 61, 255, 63], field=2),
    series(306, "b", [30, -1, 40]),
    series(307, "h", [1450, -300]),
    series(305, "B", [97]),
    series(314, "b", [55, -16]),
    series(409, "H", [33_250, 33_500]),
    series(308, "B", [70, 71], field=2, span=0xFFFF),
    series(304, "H", [5, 6]),
  )
  found, dropped = read(data, tmp_path)
  assert found == [
    ("heart_rate", 0, 0, 60), ("heart_rate", 15, 15, 61), ("heart_rate", 45, 45, 63),
    ("stress", 0, 0, 30), ("stress", 40, 40, 40),
    ("respiratory_rate", 0, 0, 14.5),
    ("spo2", 0, 0, 97),
    ("body_battery", 0, 0, 55),
    ("skin_temperature", 0, 0, 33.25), ("skin_temperature", 30, 30, 33.5),
  ]  # fmt: skip
  assert dropped == {
    "marked as not measurable by the device": 4,
    "values without the time that they are spread over": 2,
  }
