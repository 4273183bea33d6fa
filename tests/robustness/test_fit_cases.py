"""FIT files as watches, bike computers and flat batteries leave them, from their bytes to the minutes of a day.

Each file is written byte by byte here, and its right values are worked out here. Where the shared cases lie beside the
sample data, the same values are expected of them, and the files written here must be theirs.
"""

import gzip
import os
import pathlib
import struct

import numpy as np
import pytest

from data_pipelines.errors import SchemaError
from data_pipelines.ingest.imported_source import ImportedSource
from data_pipelines.ingest.importers.garmin import Garmin
from data_pipelines.ingest.options import ImportOptions
from data_pipelines.ingest.reading.input_files import ExportSet
from tests.conftest import ROOT
from tests.data_pipelines.ingest.importers.test_fit_bytes import (
  BYTE,
  ENUM,
  RATE,
  STRING,
  TIME,
  UINT8,
  UINT16,
  UINT32,
  compressed,
  crc,
  definition,
  message,
)

MIDNIGHT = 0x40C0F0E0  # of 2024-06-04 in Berlin, where clocks are two hours ahead of UTC
EIGHT = MIDNIGHT + 8 * 3600
SINT16 = 0x83
HALF, CYCLES, PACKED, ACTIVE, CALORIES = (26, 2, UINT16), (3, 4, UINT32), (24, 1, BYTE), (4, 4, UINT32), (19, 2, UINT16)
KIND = (5, 1, ENUM)
CHANNELS = tuple(signal.name for signal in Garmin.signals)


def fit_file(*records, length=None, checksum=None):
  """A finished FIT file; or one with another length in its header, or another checksum."""
  records = b"".join(records)
  header = struct.pack("<BBHI4s", 14, 0x20, 2132, len(records) if length is None else length, b".FIT")
  body = header + struct.pack("<H", crc(header)) + records
  return body + struct.pack("<H", crc(body) if checksum is None else checksum)


def file_id(kind=4, created=EIGHT, order="<"):
  fields = (0, 1, ENUM), (1, 2, UINT16), (2, 2, UINT16), (4, 4, UINT32)
  return definition(0, 0, *fields, order=order) + message(0, order + "BHHI", kind, 1, 3000, created)


def clock(at, ahead):
  return message(1, "<II", at, at + ahead)


MONITOR = file_id(32, MIDNIGHT) + definition(1, 103, TIME, (0, 4, UINT32)) + clock(MIDNIGHT, 7200)


def ride(rates, start=EIGHT, order="<"):
  """An activity with one heart rate per second."""
  rows = (message(1, order + "IB", start + k, rate) for k, rate in enumerate(rates))
  return b"".join([file_id(4, start, order), definition(1, 20, TIME, RATE, order=order), *rows])


def half(at):
  return at & 0xFFFF


def control():
  parts = [definition(2, 55, HALF, CYCLES, KIND), definition(3, 55, HALF, PACKED), message(3, "<HB", half(EIGHT), 8)]
  totals = zip(range(60, 420, 60), (0, 60, 100, 200, 200, 220), strict=True)
  return fit_file(MONITOR, *parts, *(message(2, "<HIB", half(EIGHT + at), total, 6) for at, total in totals))


def packed_type():
  parts = [definition(2, 55, HALF, CYCLES, PACKED), definition(3, 55, HALF, PACKED)]
  parts += [definition(4, 55, TIME, KIND, CYCLES), message(3, "<HB", half(EIGHT), 8)]
  totals = zip(range(60, 420, 60), (0, 60, 100, 200, 200, 220), strict=True)
  return fit_file(MONITOR, *parts, *(message(2, "<HIB", half(EIGHT + at), total, 0x46) for at, total in totals))


def packed_and_plain_types():
  parts = [definition(2, 55, HALF, CYCLES, PACKED, ACTIVE, CALORIES)]
  parts += [definition(4, 55, TIME, KIND, CYCLES, ACTIVE, CALORIES), message(4, "<IBIIH", EIGHT, 6, 0, 0, 0)]
  rows = (120, 60, 30, 1), (180, 100, 50, 2), (240, 200, 110, 3), (600, 220, 120, 9)  # after s, steps, active s, kcal
  parts += [message(2, "<HIBIH", half(EIGHT + at), s, 0x46, 1000 * active, kcal) for at, s, active, kcal in rows]
  return fit_file(MONITOR, *parts, message(4, "<IBIIH", EIGHT + 1800, 6, 220, 120_000, 9))


def compressed_times():
  parts = [file_id(), definition(1, 20, TIME, RATE), definition(2, 20, RATE), message(1, "<IB", EIGHT, 100)]
  return fit_file(*parts, *(compressed(2, EIGHT + k, 100 + k % 30) for k in range(1, 150)))


def developer_fields():
  described = (0, 1, UINT8), (1, 1, UINT8), (2, 1, UINT8), (3, 8, STRING)
  parts = [file_id(), definition(1, 206, *described), message(1, "<3B8s", 0, 0, 2, b"Power")]
  parts.append(definition(2, 20, TIME, RATE, developer=[(0, 1, 0)]))
  return fit_file(*parts, *(message(2, "<IBB", EIGHT + k, 111, 5) for k in range(60)))


def unknown_activity():
  parts = [definition(2, 55, TIME, KIND, CYCLES)]
  parts += [message(2, "<IBI", EIGHT + at, 13, cycles) for at, cycles in ((0, 0), (60, 10), (120, 30))]
  return fit_file(MONITOR, *parts, definition(3, 55, TIME, (27, 1, UINT8)), message(3, "<IB", EIGHT, 66))


def night():
  at = lambda minute: MIDNIGHT + 60 * minute
  parts = [definition(2, 227, (0, 2, SINT16), (1, 4, UINT32))]
  parts += [message(2, "<hI", v, at(180 + k)) for k, v in enumerate((30, -1, 40, 255, -2))]
  parts += [definition(3, 275, TIME, (0, 1, ENUM))]
  parts += [message(3, "<IB", at(60 + 10 * k), stage) for k, stage in enumerate((2, 3, 1, 4))]
  parts += [definition(4, 371, TIME, (0, 2, UINT16))]
  parts += [message(4, "<IH", at(120 + 5 * k), 128 * ms) for k, ms in enumerate((40, 41, 42))]
  parts += [definition(5, 269, TIME, (0, 1, UINT8), (1, 1, UINT8), (2, 1, ENUM))]
  parts += [message(5, "<I3B", at(120 + k), v, 90, 3) for k, v in enumerate((97, 255, 92))]
  parts += [definition(6, 297, TIME, (0, 2, SINT16))]
  parts += [message(6, "<Ih", at(120 + k), v) for k, v in enumerate((1450, -300, 1500))]
  return fit_file(MONITOR, *parts)


def flight():
  rate = definition(2, 55, HALF, (27, 1, UINT8))
  landed = EIGHT + 7200
  return fit_file(
    MONITOR, rate, message(2, "<HB", half(EIGHT), 60), clock(landed, 3600), message(2, "<HB", half(landed + 60), 70)
  )


FIVE_MINUTES = [100 + k % 30 for k in range(300)]
CUT = fit_file(ride(FIVE_MINUTES))[:1756]
RECORDS_OF_CUT = (1756 - 14 - 28 - 12) // 6  # whole ones, after the header, the device and the definition


def by_minute(rates, first=480):
  """{minute: mean} of one heart rate per second."""
  return {first + m: float(np.mean(rates[60 * m : 60 * m + 60])) for m in range(-(-len(rates) // 60))}


WALK = {481: 60, 482: 40, 483: 100, 485: 20}
RIDE = {"heart_rate": by_minute(FIVE_MINUTES)}
# shared case: (bytes, {channel: {minute: value}} without zeros of counts, {reason: rows dropped}).
CASES = {
  "01-garmin-cycles-without-activity-type/control.fit": (control(), {"steps": WALK}, {}),
  "01-garmin-cycles-without-activity-type/day.fit": (packed_type(), {"steps": WALK}, {}),
  "01-garmin-cycles-without-activity-type/mixed.fit": (
    packed_and_plain_types(),
    {
      "steps": {481: 60, 482: 40, 483: 100, 489: 20},
      "active_calories": {481: 1, 482: 1, 483: 1, 489: 6},
    },
    {},
  ),
  "02-fit-compressed-timestamps/ride.fit": (
    compressed_times(),
    {"heart_rate": by_minute([100 + k % 30 for k in range(150)])},
    {},
  ),
  "04-fit-unfinished/crc0.fit": (fit_file(ride(FIVE_MINUTES), checksum=0), RIDE, {}),
  "04-fit-unfinished/size0.fit": (fit_file(ride(FIVE_MINUTES), length=0), RIDE, {}),
  "04-fit-unfinished/cut.fit": (
    CUT,
    {"heart_rate": by_minute(FIVE_MINUTES[:RECORDS_OF_CUT])},
    {"cut-off FIT file": 1},
  ),
  "06-fit-developer-fields/dev.fit": (developer_fields(), {"heart_rate": {480: 111}}, {}),
  "06-fit-developer-fields/type13.fit": (
    unknown_activity(),
    {"heart_rate": {480: 66}},
    {"cycles of an activity without steps": 3},
  ),
  "37-garmin-night/night.fit": (
    night(),
    {
      "stress": {180: 30, 182: 40},
      "asleep": {**dict.fromkeys(range(60, 80), 1), **dict.fromkeys(range(80, 90), 0), 90: 1},
      "hrv_rmssd": {120: 40, 125: 41, 130: 42},
      "spo2": {120: 97, 122: 92},
      "respiratory_rate": {120: 14.5, 122: 15},
    },
    {"marked as not measurable by the device": 3, "stress outside 0 to 100": 1},
  ),
  "38-garmin-travel/flight.fit": (flight(), {"heart_rate": {480: 60, 541: 70}}, {}),
  "39-fit-big-endian/big.fit": (fit_file(ride([100] * 60, order=">")), {"heart_rate": {480: 100}}, {}),
  "40-fit-chained/two.fit": (
    fit_file(ride([106] * 120)) + fit_file(ride([107] * 120, EIGHT + 3600)),
    {"heart_rate": {480: 106, 481: 106, 540: 107, 541: 107}},
    {},
  ),
  "40-fit-chained/junk.fit": (
    fit_file(ride([106] * 120)) + bytes(16),
    {"heart_rate": {480: 106, 481: 106}},
    {},
  ),
  "43-fit-gz/a.fit.gz": (
    gzip.compress(fit_file(ride([100] * 120))),
    {"heart_rate": {480: 100, 481: 100}},
    {},
  ),
}


def imported(path, folder, **options):
  """The values of a file's only day, {channel: {minute: value}} without zeros of counts; and {reason: rows dropped}."""
  exports = ExportSet(path, Garmin())
  source = ImportedSource(exports, folder / "work", ImportOptions(max_missing=1, timezone="Europe/Berlin", **options))
  (who,) = source.participants
  (day,) = source.person(who).days
  counts = [signal.name for signal in Garmin.signals if signal.rule == "sum"]
  values = {}
  for name, column in zip(source.schema.names, day.values.T, strict=True):
    kept = np.flatnonzero(~np.isnan(column) & ((column != 0) | (name not in counts)))
    if len(kept) and name != "motion_intensity":
      values[name] = {int(k): float(column[k]) for k in kept}
  return values, {why: rows for (_, why), rows in source.account.dropped.items()}


def approximately(values):
  return {channel: {k: pytest.approx(v, rel=1e-6) for k, v in minutes.items()} for channel, minutes in values.items()}


@pytest.mark.parametrize("name", CASES)
def test_right_by_value(name, tmp_path):
  data, expected, dropped = CASES[name]
  path = tmp_path / pathlib.PurePath(name).name
  path.write_bytes(data)
  assert imported(path, tmp_path) == (approximately(expected), dropped)


def test_a_clock_that_was_never_set(tmp_path):
  path = tmp_path / "reset.fit"
  path.write_bytes(fit_file(ride([100] * 60, start=1000)))  # seconds since the device was switched on
  with pytest.raises(SchemaError, match=r"nothing could be read; .*60 dropped \(100 %\)") as error:
    imported(path, tmp_path)
  assert "clock not set" in str(error.value)


@pytest.fixture
def shared():
  folder = pathlib.Path(os.environ.get("LSM2_SHARED_DATA") or ROOT.parent / "shared" / "data").parent / "cases"
  if not folder.is_dir():
    pytest.skip("no shared cases")
  return folder


def test_every_shared_case_of_one_file_is_here(shared):
  folders = {pathlib.PurePath(name).parts[0] for name in CASES} | {"41-fit-clock-not-set"}
  names = {path.relative_to(shared).as_posix() for folder in folders for path in (shared / folder).glob("*.fit*")}
  assert names == {*CASES, "41-fit-clock-not-set/reset.fit"}


@pytest.mark.parametrize("name", CASES)
def test_the_shared_cases(name, shared, tmp_path):
  data, expected, dropped = CASES[name]
  assert imported(shared / name, tmp_path) == (approximately(expected), dropped)
  if not name.endswith(("size0.fit", ".gz")):  # whose checksum, and whose packing, are another program's
    assert (shared / name).read_bytes() == data
