"""NHANES: XPT files written by the record layout of SAS TS-140, IBM floats and all."""

import pathlib
import struct
import time
import zipfile

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_pipelines.errors import SchemaError
from data_pipelines.ingest.importers.nhanes import Nhanes
from data_pipelines.ingest.reading.account import Account
from data_pipelines.ingest.reading.export_files import Export

NHANES = Nhanes()
MONDAY = pd.Timestamp("2001-01-01")
RAW = ("SEQN", "PAXSTAT", "PAXCAL", "PAXDAY", "PAXN", "PAXHOUR", "PAXMINUT", "PAXINTEN", "PAXSTEP")
MIN = ("SEQN", "PAXDAYM", "PAXDAYWM", "PAXSSNMP", "PAXMTSM", "PAXLXMM", "PAXPREDM", "PAXQFM")
TEXT = ("PAXDAYM", "PAXDAYWM", "PAXPREDM")


def ibm(value):
  """A number as IBM's double: sign, exponent of 16 in excess 64, 56 bits of fraction; "." is missing."""
  if value is None or np.isnan(value):
    return b"." + bytes(7)
  sign, value, exponent = (0x80, -value, 64) if value < 0 else (0, value, 64)
  if value == 0:
    return bytes(8)
  while value >= 1:
    value, exponent = value / 16, exponent + 1
  while value < 1 / 16:
    value, exponent = value * 16, exponent - 1
  return bytes([sign | exponent]) + int(value * 2**56).to_bytes(7, "big")


def card(text):
  return text.encode().ljust(80)


def xpt(names, rows, width=8):
  """One data set; names in TEXT are character variables of one byte."""
  stamp = "01JAN06:00:00:00"
  head = "HEADER RECORD*******{:8}HEADER RECORD!!!!!!!{:0>30}  "
  out = [card(head.format("LIBRARY", "")), card(f"{'SAS':8}{'SAS':8}{'SASLIB':8}{'9.1':8}{'XP':8}{'':24}{stamp}")]
  out += [card(stamp), card("HEADER RECORD*******MEMBER  HEADER RECORD!!!!!!!000000000000000001600000000140  ")]
  out += [card(head.format("DSCRPTR", "")), card(f"{'SAS':8}{'PAX':8}{'SASDATA':8}{'9.1':8}{'XP':8}{'':24}{stamp}")]
  out += [card(stamp), card(f"HEADER RECORD*******NAMESTR HEADER RECORD!!!!!!!{len(names):010d}{'':0>20}  ")]
  fields, place = b"", 0
  for number, name in enumerate(names, 1):
    kind, length = (2, 1) if name in TEXT else (1, width)
    fields += struct.pack(">hhhh8s40s8shhh2s8shhl52s", kind, 0, length, number, name.encode().ljust(8), b"", b"", 0, 0,
                          0, b"", b"", 0, 0, place, b"")  # fmt: skip
    place += length
  out += [fields.ljust(-(-len(fields) // 80) * 80), card(head.format("OBS", ""))]
  values = b"".join(
    str(value).encode() if name in TEXT else ibm(value)[:width]
    for row in rows
    for name, value in zip(names, row, strict=True)
  )
  return b"".join(out) + values.ljust(-(-len(values) // 80) * 80)


def hip(person, weekday, minutes=range(1, 1441 * 7 + 1), **other):
  """Rows of PAXRAW for a person whose first day has this weekday, 1 for Sunday."""
  for number in minutes:
    day, minute = divmod(number - 1, 1440)
    row = {"SEQN": person, "PAXSTAT": 1, "PAXCAL": 1, "PAXDAY": (weekday - 1 + day) % 7 + 1, "PAXN": number}
    row |= {
      "PAXHOUR": minute // 60,
      "PAXMINUT": minute % 60,
      "PAXINTEN": number // 3 % 700,
      "PAXSTEP": number // 3 % 30,
    }
    yield [(row | other)[name] for name in RAW]


def wrist(person, weekday, start, minutes, **other):
  """Rows of PAXMIN for a recording that starts at minute `start` of the first day, which has this weekday."""
  for k in range(minutes):
    day = (start + k) // 1440
    row = {"SEQN": person, "PAXDAYM": day + 1, "PAXDAYWM": (weekday - 1 + day) % 7 + 1, "PAXSSNMP": 4800 * k + 320}
    row |= {"PAXMTSM": 0.25 * (k % 90), "PAXLXMM": float(k % 8), "PAXPREDM": 1 + k % 2, "PAXQFM": 0}
    yield [(row | other)[name] for name in MIN]


def read(path, account=None):
  export, account = Export(path), account if account is not None else Account()
  return [r for name in NHANES.files(export) for r in NHANES.read(export, name, account)], account


def series(items, signal, person):
  parts = [
    pd.Series(r.value, pd.to_datetime(r.start, unit="ms"))
    for r in items
    if (r.signal, r.participant) == (signal, person)
  ]
  for r in items:
    assert r.start.dtype == np.int64 and (r.end - r.start == 60_000).all() and r.clock == "wall" and r.offset is None
  return pd.concat(parts) if parts else pd.Series(dtype=float)


def test_ibm_floats_are_those_of_the_format():
  # examples by hand: 1 = 16^1 * 1/16; -118.625 = -(0x76.A), the textbook one; 100 = 16^2 * 0x64/256
  assert ibm(1) == bytes.fromhex("4110000000000000")
  assert ibm(-118.625) == bytes.fromhex("c276a00000000000")
  assert ibm(100) == bytes.fromhex("4264000000000000")


def test_hip_minutes_of_a_week(tmp_path):
  rows = [*hip(21005, 1, range(1, 7 * 1440 + 1, 7)), *hip(21006, 4, range(1, 7 * 1440 + 1, 11))]
  (tmp_path / "PAXRAW_D.xpt").write_bytes(xpt(RAW, rows))
  items, account = read(tmp_path)
  for person, first, step in (("21005", MONDAY + pd.Timedelta("6D"), 7), ("21006", MONDAY + pd.Timedelta("2D"), 11)):
    numbers = np.arange(1, 7 * 1440 + 1, step)
    counts, steps = series(items, "activity_counts", person), series(items, "steps", person)
    assert (counts.index == first + pd.to_timedelta(numbers - 1, unit="min")).all() and counts.index.equals(steps.index)
    assert (counts.to_numpy() == numbers // 3 % 700).all() and (steps.to_numpy() == numbers // 3 % 30).all()
    assert (counts == 0).any() and (steps == 0).any()  # zeros are zeros, not the smallest of IBM's numbers
    weekday = (counts.index.dayofweek + 1) % 7 + 1
    assert (weekday == [row[3] for row in rows if row[0] == int(person)]).all()
  assert account.read == {"21005": 2 * 1440, "21006": 2 * 917} and not account.dropped
  assert {r.device for r in items} == {"hip"}


def test_values_are_those_of_pandas(tmp_path):
  path = tmp_path / "PAXRAW_D.XPT"
  path.write_bytes(xpt(RAW, hip(5, 3, range(1, 10_081, 13))))
  table = pd.read_sas(path, format="xport", encoding=None)
  items, _ = read(path)
  assert np.allclose(series(items, "activity_counts", "5").to_numpy(), table["PAXINTEN"], rtol=0, atol=1e-12)


def test_short_floats_and_a_file_without_steps(tmp_path):
  names = RAW[:-1]
  rows = [row[:-1] for row in hip(5, 3, range(1, 200))]
  (tmp_path / "PAXRAW_C.XPT").write_bytes(xpt(names, rows, width=4))
  items, _ = read(tmp_path)
  assert series(items, "activity_counts", "5").tolist() == [n // 3 % 700 for n in range(1, 200)]
  assert {r.signal for r in items} == {"activity_counts"}


def test_hip_rows_that_cannot_be_used(tmp_path):
  rows = [
    *hip(1, 2, range(1, 4), PAXSTAT=2),
    *hip(2, 2, range(1, 3), PAXCAL=9),
    *hip(3, 2, range(1, 3), PAXINTEN=None),
    *hip(4, 2, range(1, 3), PAXHOUR=7),
    *hip(4, 2, range(3, 5)),
  ]
  (tmp_path / "PAXRAW_D.XPT").write_bytes(xpt(RAW, rows))
  items, account = read(tmp_path)
  assert account.read == {"1": 6, "2": 4, "3": 4, "4": 8} and {r.participant for r in items} == {"4"}
  assert account.dropped == {
    ("1", "value of a monitor that is not reliable"): 6,
    ("2", "value of a monitor out of calibration"): 4,
    ("3", "value of a minute without a count"): 4,
    ("4", "value of a minute whose number and time of day disagree"): 4,
  }
  assert sum(len(r.value) for r in items) == account.read.total() - account.dropped.total()
  assert account.example["2", "value of a monitor out of calibration"] == f"{tmp_path}/PAXRAW_D.XPT row 4"


def test_wrist_minutes_are_placed_by_the_first_midnight(tmp_path, monkeypatch):
  monkeypatch.setattr(
    "data_pipelines.ingest.importers.nhanes._ROWS_PER_BATCH", 1000
  )  # so that people span several batches
  rows = [*wrist(62161, 7, 16 * 60 + 30, 2200), *wrist(62162, 2, 700, 1500)]
  (tmp_path / "PAXMIN_G.XPT").write_bytes(xpt(MIN, rows))
  items, account = read(tmp_path)
  for person, first, count in (
    ("62161", MONDAY + pd.Timedelta("5D 16:30:00"), 2200),
    ("62162", MONDAY + pd.Timedelta("11:40:00"), 1500),
  ):
    minutes = np.arange(count)
    for signal, expected in (("mims", 0.25 * (minutes % 90)), ("light", minutes % 8), ("asleep", minutes % 2)):
      got = series(items, signal, person)
      assert (got.index == first + pd.to_timedelta(minutes, unit="min")).all()
      assert (got.to_numpy() == expected).all()
  assert account.read == {"62161": 3 * 2200, "62162": 3 * 1500} and not account.dropped


def test_wrist_rows_that_cannot_be_used(tmp_path):
  rows = [*wrist(1, 1, 1430, 20)]
  changes = {3: ("PAXPREDM", 3), 4: ("PAXPREDM", 4), 5: ("PAXMTSM", -0.01), 6: ("PAXQFM", 2), 7: ("PAXDAYM", 2)}
  for row, (name, value) in changes.items():
    rows[row][MIN.index(name)] = value
  rows += wrist(2, 1, 600, 10)  # a recording that does not reach midnight
  (tmp_path / "PAXMIN_H.XPT").write_bytes(xpt(MIN, rows))
  items, account = read(tmp_path)
  # Row 7 claims to be in the second day, so its sample counts as midnight, which misplaces the rest of the first day.
  assert account.dropped["2", "value of a minute that cannot be placed in its day"] == 30
  rows[7][MIN.index("PAXDAYM")] = 1
  (tmp_path / "PAXMIN_H.XPT").write_bytes(xpt(MIN, rows))
  items, account = read(tmp_path)
  assert account.dropped == {
    ("1", "value of a minute in which the device was not worn"): 3,
    ("1", "value of a minute of which no activity could be computed"): 3,
    ("1", "value flagged by the quality review"): 3,
    ("1", "no value of asleep"): 1,  # of state 4, unknown
    ("2", "value of a minute that cannot be placed in its day"): 30,
  }
  assert sum(len(r.value) for r in items) == account.read.total() - account.dropped.total()
  mims, asleep = series(items, "mims", "1"), series(items, "asleep", "1")
  start = MONDAY + pd.Timedelta("6D 23:50:00")
  assert mims.index.tolist() == [start + pd.Timedelta(minutes=k) for k in range(20) if k not in (3, 5, 6)]
  assert len(asleep) == 16 and start + pd.Timedelta("4min") not in asleep.index


def test_folder_zip_and_file_give_the_same(tmp_path):
  data = xpt(RAW, hip(5, 3, range(1, 300)))
  (tmp_path / "in").mkdir()
  (tmp_path / "in" / "PAXRAW_D.XPT").write_bytes(data)
  with zipfile.ZipFile(tmp_path / "PAXRAW_D.zip", "w") as file:
    file.writestr("paxraw_d.xpt", data)
  every = [read(p)[0] for p in (tmp_path / "in", tmp_path / "PAXRAW_D.zip", tmp_path / "in" / "PAXRAW_D.XPT")]
  one, two, three = (series(items, "activity_counts", "5") for items in every)
  assert one.equals(two) and one.equals(three) and len(one) == 299


DATA = xpt(RAW, hip(5, 3, range(1, 100)))


@pytest.mark.parametrize(
  ("data", "message"),
  [
    (b"", "not an XPT file"),
    (DATA[:500], "not an XPT file"),
    (DATA[:-1], "damaged"),
    (DATA[:-160], "ends within a row"),
    (DATA.replace(b"PAXINTEN", b"PAXOTHER"), "has no variable 'PAXINTEN'; it has SEQN, PAXSTAT"),
    (
      xpt(RAW, [*hip(5, 3, [1]), *hip(6, 3, [1]), *hip(5, 3, [2])]),
      "row 3: the rows of this person are not contiguous",
    ),
    (xpt(RAW, hip(0.5, 3, [1])), "row 1: SEQN is not a person's number"),
    (xpt(RAW, [next(hip(7, 3, [1]))] * 21_000), "more than 20,000 rows of one person"),
  ],
)
def test_damaged_files_are_refused_by_name(data, message, tmp_path):
  (tmp_path / "PAXRAW_D.XPT").write_bytes(data)
  with pytest.raises(SchemaError, match=message) as error:
    read(tmp_path)
  assert str(error.value).startswith(f"{tmp_path}/PAXRAW_D.XPT") and "\n" not in str(error.value)


def test_the_whole_rows_of_a_file_that_is_cut_off_are_read(tmp_path):
  (tmp_path / "PAXRAW_D.XPT").write_bytes(DATA[:-160])
  items = []
  with pytest.raises(SchemaError, match="ends within a row"):
    for item in NHANES.read(Export(tmp_path), "PAXRAW_D.XPT", Account()):
      items.append(item)
  counts = next(item.value for item in items if item.signal == "activity_counts")
  assert counts.tolist() == [float(n // 3 % 700) for n in range(1, len(counts) + 1)] and 90 < len(counts) < 99


@settings(max_examples=120)
@given(
  st.lists(st.tuples(st.integers(0, 1 << 30), st.integers(0, 255)), max_size=8), st.booleans(), st.integers(0, 1 << 30)
)
def test_mutated_files_are_read_or_refused(tmp_path_factory, changes, head, length):
  data = bytearray(DATA)
  for place, byte in changes:
    data[place % (2400 if head else len(data))] = byte
  path = pathlib.Path(tmp_path_factory.getbasetemp()) / "PAXRAW_D.XPT"
  path.write_bytes(data[: length % len(data)] if length % 5 == 0 else data)
  begun = time.monotonic()
  try:
    items, account = read(path)
  except SchemaError as error:
    assert "PAXRAW_D.XPT" in str(error) and "\n" not in str(error)
    return
  assert time.monotonic() - begun < 5
  assert all(np.isfinite(r.value).all() for r in items) and sum(account.dropped.values()) <= sum(account.read.values())
