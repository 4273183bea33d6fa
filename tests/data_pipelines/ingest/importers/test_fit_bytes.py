"""FIT files taken apart: written byte by byte here, and compared with Garmin's own decoder where that can read them."""

import struct
from time import process_time

import garmin_fit_sdk as sdk
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_pipelines.ingest.importers import fit, fit_bytes
from data_pipelines.ingest.importers.fit_bytes import Fault, RawMessage
from tests.data_pipelines.ingest.importers.fit_files import crc

NOON = 1_100_000_000  # seconds of FIT; a multiple of 32
ENUM, UINT8, STRING, BYTE, UINT16, UINT32 = 0x00, 0x02, 0x07, 0x0D, 0x84, 0x86  # base types
TIME, RATE = (253, 4, UINT32), (3, 1, UINT8)  # fields of a record: timestamp and heart_rate
WANTED = {20: ("heart_rate", "distance")}


def fit_file(*records, length=None, checksum=None, header=14):
  """A FIT file of these records; with another length in the header, or another checksum, if given."""
  records = b"".join(records)
  start = struct.pack("<BBHI4s", header, 0x20, 2100, len(records) if length is None else length, b".FIT")
  body = start + struct.pack("<H", crc(start)) * (header == 14) + records
  return body + struct.pack("<H", crc(body) if checksum is None else checksum)


def definition(local, number, *fields, order="<", developer=()):
  """Fields are (number, bytes, base type); developer fields are (number, bytes, index)."""
  start = struct.pack("3B", 0x40 | local | 0x20 * bool(developer), 0, order == ">")
  body = start + struct.pack(order + "HB", number, len(fields)) + b"".join(bytes(field) for field in fields)
  return body + bytes([len(developer)]) * bool(developer) + b"".join(bytes(field) for field in developer)


def message(local, form, *values):
  return bytes([local]) + struct.pack(form, *values)


def compressed(local, time, rate):
  return bytes([0x80 | local << 5 | time & 31, rate])


def beats(*rates, start=NOON, order="<"):
  """A definition and one record per second."""
  rows = [message(1, order + "IB", start + k, rate) for k, rate in enumerate(rates)]
  return b"".join([definition(1, 20, TIME, RATE, order=order), *rows])


def decoded(data, wanted=WANTED):
  """[(time, heart rate)] of the messages, and the faults."""
  items = [*fit_bytes.messages(data, wanted)]
  rows = [(i.time, i.fields.get("heart_rate")) for i in items if isinstance(i, RawMessage)]
  return rows, [(i.byte, i.why) for i in items if isinstance(i, Fault)]


FIVE = [(NOON + k, 60 + k) for k in range(5)]
RECORDS = beats(60, 61, 62, 63, 64)
BEGIN = 14 + len(definition(1, 20, TIME, RATE))  # the first record in a file of RECORDS


@pytest.mark.parametrize("header", [12, 14])
@pytest.mark.parametrize("order", ["<", ">"])
def test_both_byte_orders_and_both_headers(order, header):
  assert decoded(fit_file(beats(60, 61, 62, 63, 64, order=order), header=header)) == (FIVE, [])


def test_compressed_times_count_on_from_the_last_full_one():
  # 20 seconds after a multiple of 32; each time is at most 31 seconds after the one before.
  times = [NOON + 20 + k for k in (0, 3, 11, 12, 42, 42, 73)]
  first = definition(0, 20, TIME, RATE) + message(0, "<IB", times[0], 100)
  rest = definition(2, 20, RATE) + b"".join(compressed(2, time, 101 + k) for k, time in enumerate(times[1:]))
  assert decoded(fit_file(first, rest)) == ([(time, 100 + k) for k, time in enumerate(times)], [])


def test_a_compressed_time_needs_a_full_one_and_counts_from_messages_of_any_kind():
  other = definition(3, 21, TIME) + message(3, "<I", NOON)  # an event, which nobody reads here
  data = fit_file(definition(2, 20, RATE), compressed(2, 7, 60), other, compressed(2, 9, 61))
  assert decoded(data) == ([(None, 60), (NOON + 9, 61)], [])


def test_a_full_time_that_is_marked_invalid_is_none():
  data = fit_file(definition(1, 20, TIME, RATE), message(1, "<IB", 0xFFFFFFFF, 60), message(1, "<IB", NOON, 255))
  assert decoded(data) == ([(None, 60), (NOON, None)], [])


def test_fields_of_developers_and_unknown_ones_are_passed_over():
  fields = [TIME, (200, 3, STRING), (3, 1, UINT8), (201, 5, 0x1B), (5, 3, UINT32), (99, 0, UINT8)]
  row = struct.pack("<I3sB5s3s2s", NOON, b"abc", 71, b"?????", b"xyz", b"dd")
  data = fit_file(definition(1, 20, *fields, developer=[(0, 2, 0)]), bytes([1]) + row)
  assert decoded(data) == ([(NOON, 71)], [])


def test_a_local_type_can_be_defined_anew():
  again = definition(1, 20, RATE, TIME) + message(1, "<BI", 64, NOON + 4)
  assert decoded(fit_file(beats(60, 61, 62, 63), again)) == (FIVE, [])


@pytest.mark.parametrize(
  ("data", "faults"),
  [
    (fit_file(RECORDS, length=0), []),  # never closed, but with a checksum
    (fit_file(RECORDS, length=0)[:-2], []),
    (fit_file(RECORDS, length=0, checksum=0) + bytes(500), [(14 + len(RECORDS), "cut-off FIT file")]),
    (fit_file(RECORDS, checksum=0), []),  # never computed
    (fit_file(RECORDS, bytes(64)), [(14 + len(RECORDS), "bytes that are no FIT record")]),
    (fit_file(RECORDS, bytes(64), checksum=0), [(14 + len(RECORDS), "cut-off FIT file")]),
    (fit_file(RECORDS, length=9999), [(14 + len(RECORDS), "cut-off FIT file")]),
    (fit_file(RECORDS)[:-2], [(14 + len(RECORDS), "cut-off FIT file")]),
    (fit_file(RECORDS, beats(65))[:-11], [(14 + len(RECORDS), "cut-off FIT file")]),
    (fit_file(RECORDS, checksum=1), [(14 + len(RECORDS), "FIT file whose checksum does not match")]),
    (fit_file(RECORDS) + bytes(16), [(16 + len(RECORDS), "zeros behind a FIT file")]),
    (fit_file(RECORDS) + b"\x0e .FIT", [(16 + len(RECORDS), "bytes that are no FIT file")]),
  ],
)
def test_what_is_good_is_kept_of_a_file_that_was_not_closed_or_cut(data, faults):
  assert decoded(data) == (FIVE, faults)


def test_files_in_a_row_each_define_their_own_messages():
  second = fit_file(definition(1, 20, RATE, TIME), message(1, "<BI", 64, NOON + 4))
  first = fit_file(beats(60, 61, 62, 63))
  assert decoded(first + second) == (FIVE, [])
  assert decoded(first + b"junk" + second) == (FIVE, [(len(first), "bytes that are no FIT file")])
  undefined = fit_file(message(1, "<BI", 64, NOON + 4))
  assert decoded(first + undefined) == (FIVE[:4], [(len(first) + 14, "bytes that are no FIT record")])


def test_a_file_that_was_not_closed_ends_where_the_next_one_begins():
  opened = fit_file(beats(60, 61, 62), length=0)[:-2]
  closed = fit_file(beats(63, 64, start=NOON + 3))
  assert decoded(opened + closed) == (FIVE, [])
  cut = fit_file(beats(60, 61, 62, 63))[:-5]  # in the midst of the last record
  assert decoded(cut + closed) == (FIVE, [(14 + len(beats(60, 61, 62)), "cut-off FIT file")])


@pytest.mark.parametrize("first", [0x0F, 0x5F, 0xE1])  # no local type 15 or 3, and a definition in a forbidden order
def test_one_bad_byte_costs_one_record(first):
  rates = range(60, 160)
  data = bytearray(fit_file(beats(*rates)))
  bad = BEGIN + 6 * 50  # the first byte of the record of second 50
  data[bad] = first
  expected = [(NOON + k, rate) for k, rate in enumerate(rates) if k != 50]
  rows, faults = decoded(bytes(data))
  assert rows == expected
  assert faults == [(bad, "bytes that are no FIT record"), (len(data) - 2, "FIT file whose checksum does not match")]


def test_reading_goes_on_only_where_times_fit():
  rates = [1] * 100  # as the first byte of the next record: three in a row have a known local type, one byte too early
  data = bytearray(fit_file(beats(*rates)))
  data[BEGIN + 6 * 50] = 0x0F
  rows, _ = decoded(bytes(data))
  assert rows == [(NOON + k, 1) for k in range(100) if k != 50]


def test_a_changed_value_costs_nothing_but_is_told():
  data = bytearray(fit_file(RECORDS))
  data[BEGIN + 5] = 200  # the first heart rate
  assert decoded(bytes(data)) == ([(NOON, 200), *FIVE[1:]], [(len(data) - 2, "FIT file whose checksum does not match")])


def test_far_too_many_messages(monkeypatch):
  monkeypatch.setattr(fit_bytes, "MOST_MESSAGES", 3)
  rows, faults = decoded(fit_file(RECORDS))
  assert rows == FIVE[:3] and faults == [(BEGIN + 3 * 6, fit_bytes.TOO_MANY)]


def header(length):
  return struct.pack("<BBHI4sH", 14, 0x20, 2100, length, b".FIT", 0)


@pytest.mark.parametrize(
  "data",
  [
    b"".join(header(14 * k) for k in range(50_000, 0, -1)) + b"..",  # each claims all that follows, to be checked
    fit_file(*[beats(60, 61, 62) + b"\x0f" * 5000] * 150, checksum=1),  # damage after damage
    b"".join(fit_file(beats(60, 61) + b"\x0f" * 5000) for _ in range(150)),
    fit_file(definition(0, 20) * 100_000),
  ],
)
def test_data_made_to_be_slow_end_soon(data, monkeypatch):
  monkeypatch.setattr(fit_bytes, "checksum", lambda part: checked.append(len(part)) or 0)
  checked = []
  begin = process_time()
  decoded(data)
  assert sum(checked) <= 4 * len(data)
  assert process_time() - begin < 10  # it takes a tenth of that


def test_values_are_in_the_units_and_words_of_the_profile():
  fields = [(0, 1, ENUM), (1, 2, UINT16), (2, 4, UINT16), (24, 3, BYTE)]
  data = fit_file(definition(0, 55, TIME, *fields), message(0, "<I1B1H2H3B", NOON, 4, 7, 250, 0xFFFF, 255, 1, 2))
  wanted = {55: ("device_index", "calories", "distance", "current_activity_type_intensity")}
  (row,) = fit_bytes.messages(data, wanted)
  assert row == RawMessage(
    55,
    1,
    NOON,
    {"device_index": 4, "calories": 7, "distance": (2.5, None), "current_activity_type_intensity": (255, 1, 2)},
  )
  data = fit_file(definition(0, 275, (0, 1, ENUM)), message(0, "B", 3), message(0, "B", 99), message(0, "B", 255))
  assert [row.fields for row in fit_bytes.messages(data, {275: ("sleep_level",)})] == [
    {"sleep_level": "deep"}, {"sleep_level": 99}, {},
  ]  # fmt: skip


FIELDS = {
  "heart_rate": st.integers(0, 254),
  "distance": st.integers(0, 2**32 - 2).map(lambda raw: raw / 100),
  "temperature": st.integers(-128, 126),
  "power": st.integers(0, 65_534),
  "altitude": st.integers(0, 65_534).map(lambda raw: raw / 5 - 500),
  "activity_type": st.sampled_from(["walking", "running", "sedentary"]),
  "time_from_course": st.integers(-(2**31), 2**31 - 2).map(lambda raw: raw / 1000),
}
ROWS = st.lists(st.fixed_dictionaries({"timestamp": st.integers(0, 2**32 - 2)}, optional=FIELDS), max_size=12)


@settings(max_examples=60, deadline=None)
@given(ROWS)
def test_the_same_as_garmins_decoder(rows):
  encoder = sdk.Encoder()
  for fields in rows:
    encoder.write_mesg({"mesg_num": 20, **fields})
  data, expected = bytes(encoder.close()), []
  sdk.Decoder(sdk.Stream.from_byte_array(bytearray(data))).read(
    convert_datetimes_to_dates=False,
    expand_components=False,
    merge_heart_rates=False,
    mesg_listener=lambda number, fields: expected.append((number, fields)),
  )
  found = [*fit_bytes.messages(data, {20: ("timestamp", *FIELDS)})]
  assert [(row.number, row.fields) for row in found] == expected
  assert [row.time for row in found] == [fields["timestamp"] for fields in rows]


@settings(max_examples=150, deadline=2000)
@given(
  st.one_of(st.binary(max_size=300), st.just(RECORDS), st.just(definition(2, 20, RATE) + compressed(2, 3, 60) * 9)),
  st.lists(st.tuples(st.integers(0, 400), st.integers(0, 255)), max_size=5),
  st.sampled_from([None, 0, 5, 1 << 31]),
  st.integers(0, 400),
)
def test_any_bytes_end_in_messages_and_faults(records, changes, length, kept):
  data = bytearray(fit_file(RECORDS, records, length=length))
  for place, byte in changes:
    if place < len(data):
      data[place] = byte
  data = bytes(data[:kept] if kept % 3 == 0 else data)
  items = [*fit_bytes.messages(data, WANTED)]
  faults = [item.byte for item in items if isinstance(item, Fault)]
  assert faults == sorted(faults) and all(0 <= byte <= len(data) for byte in faults)
  rows = [item.row for item in items if isinstance(item, RawMessage)]
  assert rows == sorted(set(rows))
  if data and not rows:
    assert faults or data[4:8] == bytes(4)


@given(st.binary(max_size=50))
def test_the_checksum(data):
  assert fit_bytes.checksum(data) == crc(data)


def test_an_invalid_stamp_of_a_strap_costs_its_own_beat_only():
  hr = fit.NUMBER["HR"]
  anchor = fit.Message(hr, 1, 1000, "", {"event_timestamp": 2.0, "filtered_bpm": 60})
  beats_ = fit.Message(hr, 2, None, "", {"event_timestamp": (3.0, None, 5.0), "filtered_bpm": (61, 62, 63)})
  (_, first), (_, second) = fit.strap_beats([anchor, beats_])
  assert first == [(1_000_000, 60)] and second == [(1_001_000, 61), (1_003_000, 63)]
