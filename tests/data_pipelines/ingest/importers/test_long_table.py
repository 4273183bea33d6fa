"""Long and wide tables, read value by value as pandas or the csv module reads them."""

import datetime
import io

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_pipelines.errors import SchemaError
from data_pipelines.ingest.importers.long_table import LongTable
from data_pipelines.ingest.reading.account import Account
from data_pipelines.ingest.reading.export_files import Export

SAMPLE = """\
participant,time,end,channel,value,unit,device
a,2024-03-31T01:30:00,2024-03-31T01:40:00,steps,120,,phone
a,2024-03-31T02:10:00+02:00,,heart_rate,61.5,bpm,watch
b,2024-03-31 00:10:00.250Z,,heart_rate,70,bpm,watch
b,2024-03-31 00:10:05+00:00,,glucose,5.5,mmol/L,
a,2024-03-31T02:10:05+0130,,heart_rate,62,bpm,watch
c,2024-03-31,,mood,3,,
,2024-03-31,,mood,4,,
"""


def read(folder, data, name="t.csv"):
  """Readings row by row, sorted, and the account."""
  (folder / name).write_bytes(data if isinstance(data, bytes) else data.encode())
  account, rows = Account(), []
  importer, export = LongTable(), Export(folder, "me")
  assert importer.files(export) == [name]
  for block in importer.read(export, name, account):
    assert block.start.dtype == block.end.dtype == np.int64
    offsets = [None] * len(block.start) if block.offset is None else block.offset.tolist()
    for row in zip(block.start.tolist(), block.end.tolist(), block.value.tolist(), offsets, strict=True):
      rows.append((block.participant, block.signal, block.unit, block.device, block.clock, *row))
  return sorted(rows, key=repr), account


def ms(*when):
  return int(datetime.datetime(*when, tzinfo=datetime.UTC).timestamp() * 1000)


def test_every_field_of_a_long_table(tmp_path):
  rows, account = read(tmp_path, SAMPLE)
  assert rows == sorted(
    [
      ("a", "steps", "steps", "phone", "wall", ms(2024, 3, 31, 1, 30), ms(2024, 3, 31, 1, 40), 120, None),
      ("a", "heart_rate", "bpm", "watch", "utc", ms(2024, 3, 31, 0, 10), ms(2024, 3, 31, 0, 10), 61.5, 120),
      ("b", "heart_rate", "bpm", "watch", "utc", ms(2024, 3, 31, 0, 10) + 250, ms(2024, 3, 31, 0, 10) + 250, 70, None),
      ("b", "glucose", "mmol/L", "", "utc", ms(2024, 3, 31, 0, 10, 5), ms(2024, 3, 31, 0, 10, 5), 5.5, None),
      ("a", "heart_rate", "bpm", "watch", "utc", ms(2024, 3, 31, 0, 40, 5), ms(2024, 3, 31, 0, 40, 5), 62, 90),
      ("c", "mood", "", "", "wall", ms(2024, 3, 31), ms(2024, 3, 31), 3, None),
    ],
    key=repr,
  )
  assert account.dropped == {("", "no participant"): 1}
  assert account.read == {"a": 3, "b": 2, "c": 1, "": 1}


times = st.datetimes(datetime.datetime(2001, 1, 2), datetime.datetime(2090, 1, 1))
people, channels = st.sampled_from(["a", "7", "Zoë"]), st.sampled_from(["heart_rate", "mood"])
lines = st.tuples(people, times, channels, st.floats(-1e9, 1e9))


@given(st.lists(lines, min_size=1, max_size=30), st.sampled_from(["csv", "parquet", "s", "ms", "us", "zoned"]))
def test_tables_are_read_as_pandas_reads_them(tmp_path_factory, table, kind):
  folder = tmp_path_factory.mktemp("table")
  frame = pd.DataFrame(table, columns=["participant", "time", "channel", "value"])
  frame["time"] = pd.to_datetime(frame["time"]).astype("datetime64[us]").dt.floor("s")
  start = [int(t.timestamp() * 1000) for t in frame["time"].dt.tz_localize("UTC")]
  if kind in ("s", "ms", "us"):
    frame["time"] = np.array(start) * {"s": 1, "ms": 1000, "us": 10**6}[kind] // 1000
  if kind == "zoned":
    frame["time"] = frame["time"].dt.tz_localize("UTC").dt.tz_convert("Asia/Tokyo")
  text, packed = io.StringIO(), io.BytesIO()
  frame.to_csv(text, index=False)
  frame.to_parquet(packed)
  by_parquet = kind in ("parquet", "zoned")
  rows, _ = read(folder, *((packed.getvalue(), "t.parquet") if by_parquet else (text.getvalue(), "t.csv")))
  unit = {"heart_rate": "bpm", "mood": ""}
  clock = "wall" if kind in ("csv", "parquet") else "utc"
  expected = [
    (who, channel, unit[channel], "", clock, at, at, value, None)
    for (who, _, channel, value), at in zip(table, start, strict=True)
  ]
  assert rows == sorted(expected, key=repr)


def test_headers_of_wide_tables_may_name_units(tmp_path):
  rows, _ = read(tmp_path, "time,glucose [mg/dL],[odd],participant\n2024-01-01,90,2,a\n")
  assert [(*row[:3], row[7]) for row in rows] == [("a", "[odd]", "", 2), ("a", "glucose", "mg/dL", 90)]


def test_wide_tables_have_one_channel_per_column(tmp_path):
  rows, account = read(tmp_path, "time,steps,mood,participant\n2024-01-01,5,,a\n2024-01-02,x,1.5,a\nnever,1,2,a\n")
  day = ms(2024, 1, 1)
  assert rows == sorted(
    [
      ("a", "steps", "steps", "", "wall", day, day, 5, None),
      ("a", "mood", "", "", "wall", day + 86_400_000, day + 86_400_000, 1.5, None),
    ],
    key=repr,
  )
  assert account.read == {"a": 5}
  assert account.dropped == {("a", "steps: text that is no number"): 1, ("a", "no time"): 2}
  assert account.example["a", "no time"].endswith("t.csv row 4")


def test_fields_that_are_no_plain_numbers_are_counted_by_channel_and_kind(tmp_path):
  fields = {"spo2": ["97%", "98 %", "97,5%"], "heart_rate": ["61,5", "70%", "1,061.5"], "steps": ["many", "NA", ""]}
  quoted = [",".join(f'"{column[n]}"' for column in fields.values()) for n in range(3)]
  table = "".join(f"2024-01-0{n + 1},{row},a\n" for n, row in enumerate(quoted))
  rows, account = read(tmp_path, f"time,{','.join(fields)},participant\n{table}")
  assert [(row[1], row[7]) for row in rows] == [("spo2", 97), ("spo2", 98)]
  assert account.dropped == {
    ("a", "spo2: a comma in the number"): 1,
    ("a", "heart_rate: a comma in the number"): 2,
    ("a", "heart_rate: a percent sign, although the unit is bpm"): 1,
    ("a", "steps: text that is no number"): 1,
    ("a", "no value"): 1,
  }
  assert account.read == {"a": 8}  # an empty field of a wide table is no reading
  assert account.example["a", "heart_rate: a percent sign, although the unit is bpm"].endswith("t.csv row 3")


def test_columns_without_any_value_are_told(tmp_path):
  rows, account = read(tmp_path, "time,spo2,steps,mood,participant\n2024-01-01,,5, ,a\n2024-01-02,,,,a\n")
  assert [row[1] for row in rows] == ["steps"] and account.read == {"a": 1}
  assert account.remarks == {("", "column 'spo2' is empty"): 1, ("", "column 'mood' is empty"): 1}
  table = pa.table({"time": ["2024-01-01"], "heart_rate": [float("nan")], "steps": [5], "floors": pa.nulls(1)})
  packed = io.BytesIO()
  pq.write_table(table.append_column("participant", pa.array(["a"])), packed)
  (tmp_path / "t.csv").unlink()
  _, account = read(tmp_path, packed.getvalue(), "t.parquet")
  assert [text for _, text in account.remarks] == ["column 'heart_rate' is empty", "column 'floors' is empty"]


def test_a_percent_sign_goes_by_the_unit_of_the_row(tmp_path):
  rows, account = read(
    tmp_path, "time,channel,value,unit,participant\n2024-01-01,fat,20%,%,a\n2024-01-02,fat,20%,kg,a\n"
  )
  assert [(row[1], row[2], row[7]) for row in rows] == [("fat", "%", 20)]
  assert account.dropped == {("a", "fat: a percent sign, although the unit is kg"): 1}


def test_bad_rows_are_counted_by_the_first_reason(tmp_path):
  bad = "a,1999,,steps,1,,\na,2024-01-01,soon,steps,1,,\na,2024-01-01,2024-01-02Z,steps,1,,\nb,2024-01-01,,steps,,,\n"
  rows, account = read(tmp_path, SAMPLE + bad)
  assert len(rows) == 6
  assert account.read == {"a": 6, "b": 3, "c": 1, "": 1}
  assert account.dropped == {("", "no participant"): 1, ("a", "no time"): 1, ("a", "no end"): 2, ("b", "no value"): 1}
  assert account.example["a", "no end"].endswith("t.csv row 10")


@pytest.mark.parametrize("header", ["Id,Time,Value", "a,b", "", "channel,value"])
def test_other_tables_are_not_claimed(tmp_path, header):
  (tmp_path / "x.csv").write_text(header + "\n")
  (tmp_path / "x.parquet").write_bytes(b"PAR1 no")
  (tmp_path / "\xe9.csv").write_bytes(b"\xff\xfe\0")
  assert LongTable().files(Export(tmp_path)) == []


def test_bad_parquet_is_reported(tmp_path):
  pq.write_table(pa.table({"participant": ["a"], "time": ["2024-01-01"], "mood": [["x"]]}), tmp_path / "t.parquet")
  with pytest.raises(SchemaError, match=r"t\.parquet: column 'mood' holds list<.*expected text, times or numbers"):
    read(tmp_path, (tmp_path / "t.parquet").read_bytes(), "t.parquet")


def test_parquet_of_other_types(tmp_path):
  columns = {
    "participant": pa.array([7, 8]),
    "time": pa.array([datetime.date(2024, 1, 1)] * 2),
    "channel": pa.array(["mood"] * 2).dictionary_encode(),
    "value": pa.array([True, None]),
    "unit": pa.nulls(2),
  }
  pq.write_table(pa.table(columns), tmp_path / "s.parquet")
  data = (tmp_path / "s.parquet").read_bytes()
  (tmp_path / "s.parquet").unlink()
  rows, account = read(tmp_path, data, "t.parquet")
  assert rows == [("7", "mood", "", "", "wall", ms(2024, 1, 1), ms(2024, 1, 1), 1.0, None)]
  assert account.dropped == {("8", "no value"): 1}


def _sample_parquet():
  packed = io.BytesIO()
  frame = pd.read_csv(io.StringIO(SAMPLE)).fillna({"end": "", "unit": "", "device": "", "participant": "x"})
  frame.to_parquet(packed)
  return packed.getvalue()


PARQUET = _sample_parquet()


@given(
  st.booleans(), st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255)), max_size=8), st.integers(0, 10**6)
)
@settings(max_examples=150)
def test_mutated_tables_are_read_or_refused(tmp_path_factory, parquet, changes, length):
  data = bytearray(PARQUET if parquet else SAMPLE.encode())
  for place, byte in changes:
    data[place % len(data)] = byte
  data = data[: length % (2 * len(data)) + 1]
  folder = tmp_path_factory.mktemp("mutated")
  name = "t.parquet" if parquet else "t.csv"
  (folder / name).write_bytes(data)
  export, account = Export(folder), Account()
  try:
    for file in LongTable().files(export):
      for block in LongTable().read(export, file, account):
        assert np.isfinite(block.value).all()
        assert len(block.start) == len(block.end) == len(block.value)
  except SchemaError as error:
    assert "\n" not in str(error)


def test_parquet_text_that_is_not_utf8_is_refused_in_one_line(tmp_path):
  times = pa.array([b"2024-03-01 08:15:00", b"2024-03-01 08:\xff\xff:00"]).view(pa.string())
  pq.write_table(pa.table({"time": times, "channel": ["steps"] * 2, "value": [1.0, 2.0]}), tmp_path / "t.parquet")
  export = Export(tmp_path)
  with pytest.raises(SchemaError, match=r"t\.parquet: not Parquet, or damaged: .*UTF8") as error:
    list(LongTable().read(export, "t.parquet", Account()))
  assert "\n" not in str(error.value)


def table(folder, text, **settings):
  """Readings of a table, as (channel, unit, minutes of the day, values, clock), and its account."""
  (folder / "t.csv").write_text(text)
  account, export, importer = Account(), Export(folder), LongTable(**settings)
  assert importer.files(export) == ["t.csv"]
  day = np.datetime64("2024-06-04", "ms").astype(np.int64)
  blocks = list(importer.read(export, "t.csv", account))
  rows = [(b.signal, b.unit, ((b.start - day) // 60_000).tolist(), b.value.tolist(), b.clock) for b in blocks]
  return sorted(rows), account, importer.unread_columns(export, "t.csv")


def test_columns_say_which_column_is_what(tmp_path):
  text = "when;bpm;source;who\n2024-06-04T06:00:00Z;61;awake;kim\n2024-06-04T06:05:00Z;62,5;awake;kim\n"
  columns = {"time": "when", "heart_rate": "bpm", "participant": "who"}
  rows, account, unread = table(tmp_path, text, columns=columns)
  assert rows == [("heart_rate", "bpm", [360, 365], [61.0, 62.5], "utc")]
  assert account.read == {"kim": 2} and unread == ["source"]
  long = {"time": "when", "channel": "what", "value": "amount"}
  text = "what,amount,when\nspo2,97,2024-06-04 08:00\n"
  assert table(tmp_path, text, columns=long)[0] == [("spo2", "%", [480], [97.0], "wall")]
  assert not LongTable(columns | {"spo2": "oxygen"}).files(Export(tmp_path))  # a column that it lacks


def test_columns_keep_participant_end_device_and_unit_under_their_own_names(tmp_path):
  text = "participant,when,bpm,device,who\nkim,2024-06-04T06:00:00Z,61,band,lee\nsam,2024-06-04T06:00:00Z,70,band,lee\n"
  columns = {"time": "when", "heart_rate": "bpm"}
  _, account, unread = table(tmp_path, text, columns=columns)
  assert account.read == {"kim": 1, "sam": 1} and unread == ["who"]
  _, account, unread = table(tmp_path, text, columns=columns | {"participant": "who"})
  assert account.read == {"lee": 2} and unread == ["participant"]
  importer = LongTable({"time": "when", "channel": "what", "value": "amount"})
  (tmp_path / "t.csv").write_text("what,amount,when,unit\nglucose,5.5,2024-06-04 08:00,mmol/L\n")
  [block] = importer.read(Export(tmp_path), "t.csv", Account())
  assert block.unit == "mmol/L"


def test_rows_that_say_whose_they_are_by_another_name_are_not_asked_about(tmp_path):
  (tmp_path / "t.csv").write_text("who,when,bpm\nkim,2024-06-04T06:00:00Z,61\n")
  columns = {"time": "when", "heart_rate": "bpm"}
  assert LongTable(columns | {"participant": "who"}).owners(Export(tmp_path), ["t.csv"])["t.csv"].in_rows
  assert not LongTable(columns).owners(Export(tmp_path), ["t.csv"])["t.csv"].in_rows


@pytest.mark.parametrize("name", ["timestamp", "datetime", "Timestamp"])
def test_other_names_of_the_time(tmp_path, name):
  text = f"{name},channel,value\n2024-06-04 08:00,steps,5\n"
  assert table(tmp_path, text)[0] == [("steps", "steps", [480], [5.0], "wall")]


@pytest.mark.parametrize(
  ("time", "time_format"),
  [
    ("04/06/2024 08:00", "%d/%m/%Y %H:%M"),
    ("4/6/24 8:00", "%d/%m/%y %H:%M"),
    ("06/04/2024 08:00", "%m/%d/%Y %H:%M"),
    ("6/4/2024 8:00 AM", "%m/%d/%Y %I:%M %p"),
    ("4-6-2024 8:00:00", "%d-%m-%Y %H:%M:%S"),
    ("04.06.2024 08:00", ""),
    ("4.6.2024 8:00:00", ""),
  ],
)
def test_times_written_otherwise(tmp_path, time, time_format):
  text = f"time,channel,value\n{time},steps,5\n"
  assert table(tmp_path, text, time_format=time_format)[0] == [("steps", "steps", [480], [5.0], "wall")]
  if time_format:
    with pytest.raises(SchemaError) as refused:
      table(tmp_path, text)
    assert f"'{time_format}'" in str(refused.value) and "--time_format=" in str(refused.value)


def test_numbers_and_iso_times_may_be_in_one_column(tmp_path):
  text = "time,channel,value\n2024-06-04 08:00,steps,1\n1717480860,steps,2\n1717480920000,steps,3\n1717481,steps,4\n"
  rows, account, _ = table(tmp_path, text)
  assert rows == [("steps", "steps", [361, 362], [2.0, 3.0], "utc"), ("steps", "steps", [480], [1.0], "wall")]
  assert account.dropped.total() == 1


@pytest.mark.parametrize(
  ("late", "time_format", "message"),
  [
    (
      "13/06/2024 08:00",
      "%m/%d/%Y %H:%M",
      r"row 14 \('13/06/2024 08:00'\): a date with the day first, expected the mo",
    ),
    ("06-13-24 08:00", "%d-%m-%y %H:%M", r"row 14 \('06-13-24 08:00'\): a date with the month first, expected the day"),
    ("06.13.2024 08:00", "", r"row 14 \('06.13.2024 08:00'\): .* as dates with points have it"),
  ],
)
@pytest.mark.parametrize("column", ("time", "end"))
def test_a_date_of_the_other_order_costs_the_table(tmp_path, monkeypatch, late, time_format, message, column):
  monkeypatch.setattr("data_pipelines.ingest.reading.csv_batches.BLOCK_BYTES", 64)  # it comes after many batches
  mark = late[2]
  rows = [f"{day:02d}{mark}06{mark}{late[6:]}" for day in range(1, 13)]
  text = "time,end,channel,value\n" + "".join(f"{row},{row},steps,5\n" for row in rows)
  text += f"{late},{rows[-1]},steps,5\n" if column == "time" else f"{rows[-1]},{late},steps,5\n"
  with pytest.raises(SchemaError, match=message):
    table(tmp_path, text, time_format=time_format)


def test_dates_that_the_format_fits_are_read(tmp_path):
  text = "time,channel,value\n13/06/2024 08:00,steps,5\n04/06/2024 08:00,steps,6\n13.06.24,steps,7\n"
  rows, account, _ = table(tmp_path, text, time_format="%d/%m/%Y %H:%M")
  assert sorted(rows[0][3]) == [5.0, 6.0] and [why for _, why in account.dropped] == ["no time"]


@pytest.mark.parametrize(
  ("time_format", "sound", "late", "order"),
  [
    ("%Y/%m/%d %H:%M", "2024/04/06 08:00", "2024/13/06 08:00", "day first, expected the month first"),
    ("%Y-%d-%m %H:%M", "2024-04-06 08:00", "2024-06-13 08:00", "month first, expected the day first"),
    ("%m %d %Y %H:%M", "04 06 2024 08:00", "13 06 2024 08:00", "day first, expected the month first"),
    ("%H:%M on %d%m%y", "08:00 on 040624", " 08:00 on 061324 ", "month first, expected the day first"),
  ],
)
def test_a_format_with_day_and_month_anywhere_is_checked(tmp_path, monkeypatch, time_format, sound, late, order):
  head = "time,channel,value\n" + f"{sound},steps,5\n" * 12
  rows, account, _ = table(tmp_path, f"{head}nonsense,steps,5\n", time_format=time_format)
  assert len(rows[0][3]) == 12 and account.dropped.total() == 1  # what fits neither way is a bad row
  monkeypatch.setattr("data_pipelines.ingest.reading.csv_batches.BLOCK_BYTES", 64)  # it comes after many batches
  with pytest.raises(SchemaError, match=rf"row 14 \('{late.strip()}'\): a date with the {order}, as --time_format"):
    table(tmp_path, f"{head}{late},steps,5\n", time_format=time_format)


def test_dates_with_points_are_checked_after_a_first_block_without_any(tmp_path, monkeypatch):
  monkeypatch.setattr("data_pipelines.ingest.reading.csv_batches.BLOCK_BYTES", 64)
  text = "time,channel,value\n" + "2024-06-04T08:00,steps,5\n" * 9 + "04.06.2024 08:00,steps,5\n" * 9
  table(tmp_path, text)
  with pytest.raises(SchemaError, match=r"row 20 \('06.13.2024 08:00'\): .* as dates with points have it"):
    table(tmp_path, f"{text}06.13.2024 08:00,steps,5\n")


def test_dates_in_parquet_are_checked_by_row(tmp_path, monkeypatch):
  monkeypatch.setattr("data_pipelines.ingest.importers.long_table._ROWS_PER_BATCH", 4)
  times = ["04.06.2024 08:00"] * 9 + ["06.13.2024 08:00"]
  columns = {"time": times, "end": np.arange(10), "channel": ["steps"] * 10, "value": np.ones(10)}
  pq.write_table(pa.table(columns), tmp_path / "t.parquet")
  with pytest.raises(SchemaError, match=r"row 10 \('06.13.2024 08:00'\)"):
    list(LongTable().read(Export(tmp_path), "t.parquet", Account()))
