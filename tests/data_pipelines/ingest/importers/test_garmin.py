"""Garmin: FIT files, written by the SDK's encoder and once byte by byte, and the account's export."""

import gzip
import io
import json
import struct
import zipfile

import numpy as np
import pytest
from garmin_fit_sdk import Encoder, Profile
from hypothesis import given, settings
from hypothesis import strategies as st

from data_pipelines.errors import SchemaError
from data_pipelines.ingest.importers.garmin import Garmin
from data_pipelines.ingest.reading.account import Account
from data_pipelines.ingest.reading.export_files import Export
from data_pipelines.ingest.reading.readings import Readings, Stretch
from tests.data_pipelines.ingest.importers.fit_files import crc

EPOCH = 631_065_600  # 1989-12-31T00:00:00Z
MIDNIGHT = 1_767_218_400 - EPOCH  # 2025-12-31T22:00:00Z, midnight of 2026-01-01 at UTC+2
GARMIN = Garmin()


def fit_file(*messages):
  """The bytes of a FIT file of messages (name, fields), with the field names and units of the profile."""
  encoder = Encoder()
  for name, fields in messages:
    encoder.write_mesg({"mesg_num": Profile["mesg_num"][name], **fields})
  return bytes(encoder.close())


def head(product="fenix7", kind="monitoring_b"):
  number = next(n for n, name in Profile["types"]["garmin_product"].items() if name == product)
  named = {"type": kind, "manufacturer": "garmin", "product": number, "time_created": MIDNIGHT, "serial_number": 4711}
  return ("FILE_ID", named)


def info(at=MIDNIGHT, ahead=7200):
  return ("MONITORING_INFO", {"timestamp": at, "local_timestamp": at + ahead, "activity_type": ["walking", "running"]})


def row(at, **fields):
  return ("MONITORING", {"timestamp": at, **fields})


def half(at, **fields):
  return ("MONITORING", {"timestamp_16": at & 0xFFFF, **fields})


def read(path, *names, account=None):
  export, account = Export(path), account if account is not None else Account()
  items = [part for name in (names or GARMIN.files(export)) for part in GARMIN.read(export, name, account)]
  return items, account


def read_bytes(data, tmp_path, name="day.fit", account=None):
  (tmp_path / name).write_bytes(data)
  return read(tmp_path, account=account)


def points(items, signal):
  """[(start, end, value)] of a signal, seconds since MIDNIGHT."""
  blocks = [part for part in items if isinstance(part, Readings) and part.signal == signal]
  for block in blocks:
    assert block.start.dtype == block.end.dtype == np.int64 and block.value.dtype == np.float64
    assert block.unit == next(s.unit for s in GARMIN.signals if s.name == signal)
  seconds = lambda ms: (ms / 1000 - EPOCH - MIDNIGHT).tolist()
  return [p for b in blocks for p in zip(seconds(b.start), seconds(b.end), b.value.tolist(), strict=True)]


def test_heart_rate_across_the_rollover_of_timestamp_16(tmp_path):
  start = (MIDNIGHT | 0xFFFF) - 90  # the lower 16 bits start over 91 seconds later
  rows = [half(start + 60 * k, heart_rate=60 + k) for k in range(1, 6)]
  items, account = read_bytes(fit_file(head(), info(start), *rows), tmp_path)
  expected = [(start + 60 * k - MIDNIGHT, start + 60 * k - MIDNIGHT, 60.0 + k) for k in range(1, 6)]
  assert points(items, "heart_rate") == expected
  assert account.read == {tmp_path.name: 5} and not account.dropped
  assert items[0].device == "fenix7" and items[0].clock == "utc" and items[0].offset.tolist() == [120] * 5


def test_two_rollovers_and_a_full_timestamp_between(tmp_path):
  times = [MIDNIGHT + 60_000 * k for k in range(1, 4)]
  rows = [half(times[0], heart_rate=50), half(times[1], heart_rate=51), row(times[1] + 600, heart_rate=52)]
  items, _ = read_bytes(fit_file(head(), info(), *rows, half(times[2], heart_rate=53)), tmp_path)
  assert [p[0] for p in points(items, "heart_rate")] == [60_000, 120_000, 120_600, 180_000]


def test_a_half_time_without_a_full_one_is_dropped(tmp_path):
  items, account = read_bytes(fit_file(head(), half(MIDNIGHT, heart_rate=60)), tmp_path)
  assert items == [] and account.dropped == {(tmp_path.name, "message without a date"): 1}
  assert account.example[tmp_path.name, "message without a date"] == f"{tmp_path}/day.fit message 2"


def test_times_since_switched_on_are_no_dates(tmp_path):
  items, account = read_bytes(fit_file(head(), row(5000, heart_rate=60)), tmp_path)
  assert items == [] and sum(account.dropped.values()) == 1


def test_totals_by_activity_become_differences(tmp_path):
  walk, run = {"activity_type": "walking"}, {"activity_type": "running"}
  rows = [  # steps are cycles times 2
    row(MIDNIGHT + 600, cycles=50, distance=80.0, active_calories=4, **walk),
    row(MIDNIGHT + 1200, cycles=80, distance=120.5, active_calories=6, **walk),
    row(MIDNIGHT + 1800, cycles=200, distance=600.0, active_calories=30, **run),
    row(MIDNIGHT + 2400, cycles=80, distance=120.5, active_calories=6, **walk),
    row(MIDNIGHT + 3000, cycles=90, distance=130.5, active_calories=7, **walk),
  ]
  items, account = read_bytes(fit_file(head(), info(), *rows), tmp_path)
  assert points(items, "steps") == [
    (0, 600, 100.0), (600, 1200, 60.0), (1200, 1800, 400.0), (1200, 2400, 0.0), (2400, 3000, 20.0),
  ]  # fmt: skip
  assert [p[2] for p in points(items, "distance")] == [80.0, 40.5, 600.0, 0.0, 10.0]
  assert [p[2] for p in points(items, "active_calories")] == [4, 2, 30, 0, 1]
  assert account.read == {tmp_path.name: 5} and not account.dropped
  assert sum(p[2] for p in points(items, "steps")) == 2 * (90 + 200)


def test_active_seconds_place_the_steps_in_time(tmp_path):
  walk = {"activity_type": "walking"}
  rows = [
    row(MIDNIGHT + 600, cycles=50, active_time=300.0, **walk),
    row(MIDNIGHT + 7200, cycles=80, active_time=360.0, **walk),
  ]
  items, _ = read_bytes(fit_file(head(), info(), *rows), tmp_path)
  assert points(items, "steps") == [(300, 600, 100.0), (7140, 7200, 60.0)]


def test_totals_in_a_file_that_starts_at_midday_count_from_the_first(tmp_path):
  noon = MIDNIGHT + 43_200
  rows = [row(noon + 60 * k, cycles=1000 + 10 * k, activity_type="walking") for k in range(3)]
  items, account = read_bytes(fit_file(head(), info(noon), *rows), tmp_path)
  assert points(items, "steps") == [(43_200, 43_260, 20.0), (43_260, 43_320, 20.0)]
  assert account.dropped == {(tmp_path.name, "total with no earlier one to compare it with"): 1}


def test_totals_start_over_at_local_midnight(tmp_path):
  late = MIDNIGHT + 86_400 - 300
  rows = [row(late, cycles=4000, activity_type="walking"), row(late + 600, cycles=25, activity_type="walking")]
  items, _ = read_bytes(fit_file(head(), info(), *rows), tmp_path)
  assert points(items, "steps") == [(0, 86_100, 8000.0), (86_400, 86_700, 50.0)]


def test_totals_more_than_a_day_apart_or_going_back_are_dropped(tmp_path):
  walked = ((0, 9), (600, 10), (90_000, 20))
  rows = [row(MIDNIGHT + at, cycles=cycles, activity_type="walking") for at, cycles in walked]
  items, account = read_bytes(fit_file(head(), *rows), tmp_path)  # the wall clock is not known, so neither is midnight
  assert points(items, "steps") == [(0, 600, 2.0)]
  assert [*account.dropped] == [
    (tmp_path.name, "total with no earlier one to compare it with"), (tmp_path.name, "totals more than a day apart"),
  ]  # fmt: skip


def test_a_total_counts_from_midnight_whatever_was_before(tmp_path):
  rows = [
    row(MIDNIGHT + 600, cycles=10, activity_type="walking"),
    row(MIDNIGHT + 60, cycles=12, activity_type="walking"),
    row(MIDNIGHT + 90_000, cycles=20, activity_type="walking"),
  ]
  items, account = read_bytes(fit_file(head(), info(), *rows), tmp_path)
  assert points(items, "steps") == [(0, 600, 20.0), (86_400, 90_000, 40.0)]
  assert account.dropped == {(tmp_path.name, "total from before the one that came last"): 1}
  assert account.read[tmp_path.name] == 3


def test_other_messages(tmp_path):
  at = MIDNIGHT + 3600
  messages = [
    ("STRESS_LEVEL", {"stress_level_time": at, "stress_level_value": 37}),
    ("STRESS_LEVEL", {"stress_level_time": at + 180, "stress_level_value": -2}),
    ("RESPIRATION_RATE", {"timestamp": at, "respiration_rate": 14.25}),
    ("RESPIRATION_RATE", {"timestamp": at + 60, "respiration_rate": -3.0}),
    ("HRV_VALUE", {"timestamp": at + 300, "value": 41.5}),
    ("SPO2_DATA", {"timestamp": at, "reading_spo2": 96, "reading_confidence": 3}),
    ("MONITORING", {"timestamp": at, "current_activity_type_intensity": [0x68]}),
  ]
  items, account = read_bytes(fit_file(head(), info(), *messages), tmp_path)
  assert points(items, "stress") == [(3600, 3600, 37.0)]
  assert points(items, "respiratory_rate") == [(3600, 3600, 14.25)]
  assert points(items, "hrv_rmssd") == [(3900, 3900, 41.5)]
  assert points(items, "spo2") == [(3600, 3600, 96.0)]
  assert points(items, "motion_intensity") == [(3600, 3600, 3.0)]  # the upper three bits; 8, sedentary, the lower five
  assert account.read[tmp_path.name] == 7
  assert account.dropped == {(tmp_path.name, "marked as not measurable by the device"): 2}


def test_sleep_levels_hold_until_the_next(tmp_path):
  levels = [(0, "awake"), (600, "light"), (1800, "deep"), (3600, "unmeasurable"), (4200, "rem"), (30_000, "light")]
  messages = [("SLEEP_LEVEL", {"timestamp": MIDNIGHT + at, "sleep_level": level}) for at, level in levels]
  items, account = read_bytes(fit_file(head(), *messages), tmp_path)
  assert points(items, "asleep") == [
    (0, 600, 0.0), (600, 1800, 1.0), (1800, 3600, 1.0), (4200, 4200, 1.0), (30_000, 30_000, 1.0),
  ]  # fmt: skip
  assert account.dropped == {(tmp_path.name, "unknown or unmeasurable sleep stage"): 1}
  assert items[0].offset is None


def test_an_activity_file(tmp_path):
  start = MIDNIGHT + 36_000
  records = [("RECORD", {"timestamp": start + k, "heart_rate": 120 + k, "position_lat": 600_000_000}) for k in range(5)]
  records.append(("RECORD", {"timestamp": start + 5, "enhanced_respiration_rate": 31.5}))
  session = {"timestamp": start + 6, "start_time": start, "total_elapsed_time": 5.5, "sport": "running"}
  strength = {**session, "start_time": start + 6, "sport": "training", "sub_sport": "strength_training"}
  activity = {"timestamp": start + 6, "local_timestamp": start + 6 - 12_600, "num_sessions": 2}
  data = fit_file(head(kind="activity"), *records, ("SESSION", session), ("SESSION", strength), ("ACTIVITY", activity))
  items, account = read_bytes(data, tmp_path)
  ms = 1000 * (start + EPOCH)
  assert [part for part in items if isinstance(part, Stretch)] == [
    Stretch(tmp_path.name, "running", ms, ms + 5500, -210),
    Stretch(tmp_path.name, "strength_training", ms + 6000, ms + 11_500, -210),
  ]
  assert points(items, "heart_rate") == [(36_000 + k, 36_000 + k, 120.0 + k) for k in range(5)]
  assert points(items, "respiratory_rate") == [(36_005, 36_005, 31.5)]
  assert account.read[tmp_path.name] == 8 and not account.dropped


def test_the_wall_clock_of_a_day_of_travel(tmp_path):
  later = MIDNIGHT + 7200
  rows = [row(later - 60, heart_rate=60), info(later, 3600), row(later + 60, heart_rate=61)]
  items, _ = read_bytes(fit_file(head(), info(), *rows), tmp_path)
  assert items[0].offset.tolist() == [120, 60]


def test_any_message_of_both_clocks_tells_the_offset(tmp_path):
  both = ("TIMESTAMP_CORRELATION", {"timestamp": MIDNIGHT, "local_timestamp": MIDNIGHT + 20_700})
  wrong = ("DEVICE_SETTINGS", {"utc_offset": 0, "time_offset": [0], "active_time_zone": 0})
  items, _ = read_bytes(fit_file(head(), wrong, both, ("RECORD", {"timestamp": MIDNIGHT, "heart_rate": 60})), tmp_path)
  assert items[0].offset.tolist() == [345]


def by_hand(records):
  """A FIT file written byte by byte: a header of 14 bytes, records, checksum."""
  header = struct.pack("<BBHI4s", 14, 0x20, 2100, len(records), b".FIT")
  body = header + struct.pack("<H", crc(header)) + records
  return body + struct.pack("<H", crc(body))


def test_a_file_written_by_hand(tmp_path):
  definition = bytes([0x40, 0, 1]) + struct.pack(">HB", 55, 2) + bytes([253, 4, 0x86, 27, 1, 0x02])  # big endian
  data = bytes([0]) + struct.pack(">IB", MIDNIGHT + 60, 71) + bytes([0]) + struct.pack(">IB", MIDNIGHT + 120, 255)
  items, account = read_bytes(by_hand(definition + data), tmp_path)
  assert points(items, "heart_rate") == [(60, 60, 71.0)]  # 255 is invalid: no heart rate
  assert account.read[tmp_path.name] == 1


def test_fields_of_unexpected_types_are_no_values(tmp_path):
  text = bytes([0x40, 0, 0]) + struct.pack("<HB", 55, 3) + bytes([253, 4, 0x86, 27, 4, 0x88, 5, 2, 0x02])
  rows = bytes([0]) + struct.pack("<If2B", MIDNIGHT + 60, float("inf"), 6, 1)
  long = bytes([0x41, 0, 0]) + struct.pack("<HB", 275, 2) + bytes([253, 8, 0x8F, 0, 2, 0x00])
  rows += long + bytes([1]) + struct.pack("<Q2B", 1 << 60, 1, 2)
  items, account = read_bytes(by_hand(text + rows), tmp_path)
  assert items == [] and account.dropped == {(tmp_path.name, "message without a date"): 1}


DAY = fit_file(
  head(),
  info(),
  *(row(MIDNIGHT + 60 * k, cycles=10 * k, activity_type="walking") for k in range(1, 4)),
  *(half(MIDNIGHT + 180 + 60 * k, heart_rate=60 + k) for k in range(3)),
  ("SLEEP_LEVEL", {"timestamp": MIDNIGHT, "sleep_level": "deep"}),
  ("SESSION", {"timestamp": MIDNIGHT, "start_time": MIDNIGHT, "total_elapsed_time": 60.0, "sport": "rowing"}),
)


def account_export(path, uploads, nights):
  inner = io.BytesIO()
  with zipfile.ZipFile(inner, "w") as file:
    for name, data in uploads.items():
      file.writestr(name, data)
  folder = "1f0/DI_CONNECT"
  with zipfile.ZipFile(path, "w") as file:
    file.writestr(f"{folder}/DI-Connect-Uploaded-Files/UploadedFiles_0-_Part1.zip", inner.getvalue())
    file.writestr(f"{folder}/DI-Connect-Wellness/2026-01-01_2026-04-01_99_sleepData.json", json.dumps(nights))
    file.writestr(f"{folder}/DI-Connect-Aggregator/UDSFile_2026-01-01_2026-04-01.json", "[]")
    file.writestr("customer_data/customer.json", "{}")


def test_the_account_export(tmp_path):
  uploads = {"me@home.org_1.fit": DAY, "me@home.org_2.fit": b"FIT" * 9, "me@home.org_3.tcx": b"<x/>"}
  nights = [
    {"sleepStartTimestampGMT": "2026-01-14T22:00:00.0", "sleepEndTimestampGMT": "2026-01-15T06:30:30.5"},
    {"retro": False},
    {"sleepStartTimestampGMT": 5, "sleepEndTimestampGMT": "2026-01-15"},
    "x",
  ]
  account_export(tmp_path / "garmin.zip", uploads, nights)
  assert len(GARMIN.files(Export(tmp_path / "garmin.zip"))) == 2
  items, account = read(tmp_path / "garmin.zip")
  assert points(items, "heart_rate") == [(180.0 + 60 * k, 180.0 + 60 * k, 60.0 + k) for k in range(3)]
  start = np.datetime64("2026-01-14T22:00:00", "ms").astype(int)
  assert items[-1] == Stretch("garmin", "sleep", start, start + 8 * 3_600_000 + 30 * 60_000 + 30_500)
  assert account.dropped == {
    ("garmin", "file that cannot be read, or its rest"): 1,
    ("garmin", "uploaded file that is not in FIT format"): 1,
    ("garmin", "night without a start and an end"): 3,
  }
  assert account.read == {"garmin": 8 + 2 + 4}
  locations = [*account.example.values()]
  assert any(where.endswith("Part1.zip/*_2.fit: not a FIT file, or a cut-off one") for where in locations)
  assert not any("home.org" in where or str(tmp_path / "file") in where for where in locations)


def test_folder_and_zip_give_the_same(tmp_path):
  account_export(tmp_path / "me.zip", {"a_1.fit": DAY}, [])
  zipfile.ZipFile(tmp_path / "me.zip").extractall(tmp_path / "me")
  (packed, one), (plain, two) = read(tmp_path / "me.zip"), read(tmp_path / "me")
  assert one.read == two.read and len(packed) == len(plain) == 4
  for signal in ("steps", "heart_rate", "asleep"):
    assert points(packed, signal) == points(plain, signal) != []


def test_a_zip_deeper_down_is_refused(tmp_path):
  account_export(tmp_path / "me.zip", {}, [])
  export = Export(tmp_path / "me.zip")
  deeper = pytest.raises(SchemaError, match="zip in a zip in a zip")
  with export.inside(export.names[1]) as uploads, deeper, uploads.inside("x.zip"):
    pass


@pytest.mark.parametrize("data", [b"", b"PK\x03\x04" * 9, DAY[:11]])
def test_what_is_no_fit_file_is_refused_by_name(data, tmp_path):
  (tmp_path / "day.fit").write_bytes(data)
  with pytest.raises(SchemaError) as error:
    read(tmp_path)
  assert str(error.value) == f"{tmp_path}/day.fit: not a FIT file, or a cut-off one"


@pytest.mark.parametrize(
  ("data", "why", "byte", "beats"),
  [
    (DAY[:-1], "cut-off FIT file", len(DAY) - 2, 3),
    (DAY[:-40], "cut-off FIT file", len(DAY) - 40, 3),  # between two records
    (DAY[:-45], "cut-off FIT file", len(DAY) - 52, 3),  # within a definition of twelve bytes
    (DAY[:-40] + bytes(40), "cut-off FIT file", len(DAY) - 40, 3),
    (DAY + b"." * 16 + DAY, "bytes that are no FIT file", len(DAY), 6),
  ],
)
def test_the_good_part_of_a_damaged_file_is_kept(data, why, byte, beats, tmp_path):
  items, account = read_bytes(data, tmp_path)
  assert len(points(items, "heart_rate")) == beats
  assert account.dropped[tmp_path.name, why] == 1
  assert account.damage == {(tmp_path.name, why, f"{tmp_path}/day.fit"): (1, f" from byte {byte} on")}
  assert account.example[tmp_path.name, why] == f"{tmp_path}/day.fit from byte {byte} on"


@pytest.mark.parametrize(
  ("data", "why", "byte"),
  [
    (DAY[:-1] + bytes([DAY[-1] ^ 1]), "FIT file whose checksum does not match", len(DAY) - 2),
    (DAY + bytes(16), "zeros behind a FIT file", len(DAY)),
  ],
)
def test_a_damage_that_costs_nothing_is_told(data, why, byte, tmp_path):
  items, account = read_bytes(data, tmp_path)
  assert len(points(items, "heart_rate")) == 3 and not account.dropped
  assert account.damage == {(tmp_path.name, why, f"{tmp_path}/day.fit"): (0, f" from byte {byte} on")}
  with pytest.raises(SchemaError, match=f"{byte} on: {why}"):
    read_bytes(data, tmp_path, account=Account(strict=True))


def test_what_there_is_of_a_packed_file_that_is_cut_off_is_read(tmp_path):
  (tmp_path / "day.fit.gz").write_bytes(gzip.compress(DAY, 0)[:-60])  # 8 bytes of gzip's, 52 of the file's
  items, account = read(tmp_path)
  assert len(points(items, "heart_rate")) == 3
  assert [why for _, why in account.dropped] == ["file that cannot be read, or its rest", "cut-off FIT file"]
  assert all(where.startswith(f"{tmp_path}/day.fit.gz") for where in account.example.values())


def test_no_address_is_told_of_a_damaged_upload(tmp_path):
  packed = gzip.compress(DAY)
  account_export(tmp_path / "me.zip", {"me@home.org_1.fit.gz": packed[:-9], "me@home.org_2.fit.gz": packed[:5]}, [])
  _, account = read(tmp_path / "me.zip")
  told = [*account.example.values(), *(f"{file}{place}" for (_, _, file), (_, place) in account.damage.items())]
  assert len(account.damage) >= 2 and not any("home.org" in where for where in told)


def test_kinds_of_messages_that_are_not_read_are_told(tmp_path):
  others = [("LAP", {"timestamp": MIDNIGHT}), ("HRV", {"time": [0.8]}), ("DEVICE_INFO", {"timestamp": MIDNIGHT})]
  _, account = read_bytes(fit_file(head(), *others, others[1]), tmp_path)
  assert account.passed_over == {(tmp_path.name, "FIT lap"): 1, (tmp_path.name, "FIT hrv"): 2}
  assert account.read.total() == 0


@pytest.mark.parametrize("text", ['{"a": 1}', "[1, 2", '["\\ud800"]x', "\0"])
def test_broken_nights_are_refused(text, tmp_path):
  folder = tmp_path / "DI-Connect-Wellness"
  folder.mkdir()
  (folder / "1_sleepData.json").write_text(text)
  with pytest.raises(SchemaError, match=r"1_sleepData\.json"):
    read(tmp_path, account=Account(strict=True))


def mended(data):
  """The same bytes with a correct length and checksum, so that the damage lies further in."""
  body = data[:4] + struct.pack("<I", max(len(data) - 16, 0)) + data[8:-2]
  return body + struct.pack("<H", crc(body))


@settings(max_examples=150, deadline=2000)
@given(
  st.lists(st.tuples(st.integers(0, len(DAY) - 1), st.integers(0, 255)), max_size=6),
  st.integers(0, len(DAY)),
  st.booleans(),
)
def test_mutated_files_are_read_or_refused(tmp_path_factory, changes, length, mend):
  data = bytearray(DAY)
  for place, byte in changes:
    data[place] = byte
  data = bytes(data[: length if length % 3 == 0 else len(data)])
  path = tmp_path_factory.getbasetemp() / "mutated.fit"
  path.write_bytes(mended(data) if mend and len(data) > 20 else data)
  try:
    items, account = read(path)
  except SchemaError as error:
    assert "mutated.fit" in str(error) and "\n" not in str(error)
    return
  for part in items:
    assert isinstance(part, Stretch) or (np.isfinite(part.value).all() and (part.end >= part.start).all())
  assert sum(account.dropped.values()) <= sum(account.read.values())


@settings(max_examples=60, deadline=2000)
@given(st.binary(max_size=300))
def test_random_records_are_read_or_refused(tmp_path_factory, records):
  path = tmp_path_factory.getbasetemp() / "random.fit"
  path.write_bytes(by_hand(records))
  try:
    read(path)
  except SchemaError as error:
    assert "random.fit" in str(error)
