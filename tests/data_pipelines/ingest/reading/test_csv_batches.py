"""CSV in batches, numbers and times: the same as Python's own parsers, or an error of one line."""

import csv
import datetime
import io
import re
import unittest.mock
import zipfile

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from data_pipelines.errors import SchemaError
from data_pipelines.ingest.reading import csv_batches
from data_pipelines.ingest.reading.account import Account
from data_pipelines.ingest.reading.export_files import Export


def export(folder, data, name="rows.csv"):
  (folder / name).write_bytes(data.encode() if isinstance(data, str) else data)
  return Export(folder)


def rows(folder, data, columns=("a", "b"), **options):
  batches = list(csv_batches.read_batches(export(folder, data), "rows.csv", columns, **options))
  return [row for batch in batches for row in zip(*(batch.columns.column(c).to_pylist() for c in columns), strict=True)]


fields = st.text(st.characters(blacklist_categories=("Cs",), blacklist_characters="\0\r\n"), max_size=6)


@given(st.lists(st.tuples(fields, fields, fields), max_size=9), st.booleans())
def test_rows_are_those_of_the_csv_module(tmp_path_factory, table, mark):
  text = io.StringIO()
  csv.writer(text, quoting=csv.QUOTE_ALL).writerows([("a", "x", "b"), *table])
  data = text.getvalue().encode("utf-8-sig" if mark else "utf-8")
  assert rows(tmp_path_factory.mktemp("rows"), data) == [(row[0], row[2]) for row in table]


def test_zips_skipped_rows_delimiters_and_optional_columns(tmp_path):
  with zipfile.ZipFile(tmp_path / "e.zip", "w") as file:
    file.writestr("in/rows.csv", "made by, a watch\na;b;c\n1;2;3;\n4;5;6;\n")
  packed = Export(tmp_path / "e.zip")
  (batch,) = csv_batches.read_batches(packed, "in/rows.csv", ["c", "a"], ["unit"], delimiter=";", skip_rows=1)
  assert batch.columns.to_pydict() == {"c": ["3", "6"], "a": ["1", "4"], "unit": [None, None]}
  assert batch.where(1) == f"{tmp_path}/e.zip/in/rows.csv row 4"
  assert csv_batches.read_header(packed, "in/rows.csv", ";", 1) == ["a", "b", "c"]


def test_row_numbers_and_ragged_rows_over_many_batches(tmp_path, monkeypatch):
  monkeypatch.setattr(csv_batches, "BLOCK_BYTES", 64)
  lines = ["a,b"] + [f"{row},x" if row % 7 else f"{row}" for row in range(2, 200)]
  ragged, numbers = [], []
  data = export(tmp_path, "\n".join(lines))
  for batch in csv_batches.read_batches(data, "rows.csv", ["a"], ragged=lambda row, why: ragged.append(row)):
    numbers += [(int(batch.where(i).rsplit(" ")[-1]), int(text)) for i, text in enumerate(batch["a"].to_pylist())]
  assert ragged == list(range(7, 200, 7))
  assert numbers == [(row, row) for row in range(2, 200) if row % 7]


@given(st.text(st.sampled_from('a",; \r\n'), max_size=40), st.sampled_from([8, 4096]))
def test_no_quote_reaches_over_the_end_of_its_line(tmp_path_factory, text, block_bytes):
  lines = [line for line in re.split(r"[\r\n]", text) if line]
  faults = {}
  with unittest.mock.patch.object(csv_batches, "BLOCK_BYTES", max(block_bytes, *map(len, lines or [""]), 8)):
    folder = tmp_path_factory.mktemp("rows")
    table = rows(folder, "a,b\n1,2\n" + text, ragged=lambda row, why: faults.update({row: why}))
  expected = [("1", "2")]
  for row, line in enumerate(lines, start=3):
    alone = _fields(line)
    if alone is None or len(alone) != 2:
      assert faults.pop(row) == (csv_batches.OPEN_QUOTE if alone is None else csv_batches.RAGGED)
    else:
      expected.append(tuple(alone))
  assert (table, faults) == (expected, {})


def _fields(line):
  """The fields of one line, or None if a quote stays open in it."""
  fields, inside, quoted, i = [""], False, False, 0
  while i < len(line):
    letter, i = line[i], i + 1
    if inside:
      if letter == '"' and line[i : i + 1] == '"':
        fields[-1], i = fields[-1] + '"', i + 1
      elif letter == '"':
        inside = False
      else:
        fields[-1] += letter
    elif letter == '"' and not fields[-1] and not quoted:
      inside = quoted = True
    elif letter == ",":
      fields, quoted = [*fields, ""], False
    else:
      fields[-1] += letter
  return None if inside else fields


def test_rows_with_an_open_quote_are_told_and_lose_no_other(tmp_path, monkeypatch):
  monkeypatch.setattr(csv_batches, "BLOCK_BYTES", 64)
  lines = ["a,b"] + [f'{row},"x' if row % 7 == 0 else f'{row}," 5"" run"' for row in range(2, 200)]
  told, kept = [], []
  data = export(tmp_path, "\n".join(lines))
  for batch in csv_batches.read_batches(data, "rows.csv", ["a"], ragged=lambda *fault: told.append(fault)):
    kept += [(int(batch.where(i).rsplit(" ")[-1]), int(text)) for i, text in enumerate(batch["a"].to_pylist())]
  assert told == [(row, csv_batches.OPEN_QUOTE) for row in range(7, 200, 7)]
  assert kept == [(row, row) for row in range(2, 200) if row % 7]


def test_empty_files(tmp_path):
  assert rows(tmp_path, "a,b\n") == rows(tmp_path, "a,b") == rows(tmp_path, "a,b\n\n\n") == []


@pytest.mark.parametrize(
  ("data", "message"),
  [
    ("", "column 'a' is missing; the header has nothing"),
    ("a,c\n1,2\n", "rows.csv: column 'b' is missing; the header has a, c"),
    ("a,b,a\n", "column 'a' appears more than once"),
    ("a,b\n1,2\n3\n", "rows.csv row 3: more or fewer fields than the header's 2"),
    (b"a,b\n1,\xff\n", "rows.csv row 2: not UTF-8 text"),
    (b"\xff,b\n", "not UTF-8 text"),
    ("a,b\n1,2\n".encode("utf-16-le"), "not UTF-8 text, probably UTF-16"),
    (
      b"\xff\xfe" + "a,b\n".encode("utf-16-le") + b"\x00\xd8\x31",
      "byte order mark says UTF-16, but it is no such text",
    ),
    ("a,b\n1,\0\n", "holds NUL bytes"),
    ("a,b\n1,2\n3," + "x" * 9 * 2**20, "a row has more than 4,194,304 bytes"),
    ('a,b\n1,2\n\n"3,4\n5,6\n', "rows.csv row 3: a quote opens and does not close in the row"),
    ('a,b\n1,"x\ny"\n5,6\n', "rows.csv row 2: a quote opens and does not close in the row"),
    ('a,b\n5" run,"x\n5,6\n', "rows.csv row 2: a quote opens and does not close in the row"),
    ('a,"b\n1,2\n"\n', "rows.csv row 1: a quote opens and does not close in the row"),
    ("a" * 2**21, "a line has more than"),
  ],
)
def test_bad_files_give_one_line(tmp_path, data, message):
  with pytest.raises(SchemaError, match=message) as caught:
    rows(tmp_path, data)
  assert "\n" not in str(caught.value)


@given(st.binary(max_size=400))
@example(b"\r,")
def test_any_bytes_give_rows_or_a_schema_error(tmp_path_factory, data):
  try:
    rows(tmp_path_factory.mktemp("rows"), b"a,b\n" + data, ragged=lambda row, why: None)
  except SchemaError as error:
    assert "\n" not in str(error)


def test_numbers():
  texts = ["1", " -2.5 ", "+3", "1e3", ".5", "", "nan", "inf", "1,5", "0x1", "1_0", "1e999", "twelve", None]
  values, bad = csv_batches.parse_numbers(pa.array(texts))
  assert values[:5].tolist() == [1, -2.5, 3, 1000, 0.5]
  assert bad.tolist() == [False] * 5 + [True] * 9
  assert np.isnan(values[5:]).all()


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False)))
def test_numbers_agree_with_python(values):
  parsed, bad = csv_batches.parse_numbers(pa.array([repr(value) for value in values], pa.string()))
  assert parsed.tolist() == values
  assert not bad.any()


stamps = st.datetimes(datetime.datetime(1900, 1, 1), datetime.datetime(2200, 1, 1))
offsets = st.one_of(st.none(), st.integers(-14 * 60, 14 * 60))
EPOCH = datetime.datetime(1970, 1, 1)


def milliseconds(stamp):
  return (stamp - EPOCH) // datetime.timedelta(milliseconds=1)


@given(st.lists(st.tuples(stamps, offsets)))
def test_iso_times_agree_with_python(table):
  zones = [None if m is None else datetime.timezone(datetime.timedelta(minutes=m)) for _, m in table]
  texts = [stamp.replace(tzinfo=zone).isoformat() for (stamp, _), zone in zip(table, zones, strict=True)]
  clock, offset, zoned, bad = csv_batches.parse_zoned_times(pa.array(texts, pa.string()))
  assert clock.tolist() == [milliseconds(stamp) for stamp, _ in table]
  assert offset.tolist() == [minutes or 0 for _, minutes in table]
  assert zoned.tolist() == [minutes is not None for _, minutes in table]
  assert not bad.any()


@given(st.lists(stamps), st.sampled_from(["%m/%d/%Y %I:%M:%S %p", "%Y-%m-%d %H:%M:%S", "%d.%m.%Y %H:%M:%S"]))
def test_times_by_format_agree_with_python(table, form):
  table = [stamp.replace(microsecond=0) for stamp in table]
  clock, bad = csv_batches.parse_times(pa.array([stamp.strftime(form) for stamp in table], pa.string()), "%Y", form)
  assert clock.tolist() == [milliseconds(stamp) for stamp in table]
  assert not bad.any()


def test_what_is_no_time():
  good = ["2024-02-29", "2024-02-29 23:59:59.9999999Z", "2024-02-29T12:00+0530"]
  wrong = ["2023-02-29", "2024-02-30T10:00", "2024-04-31", "2024-13-01", "2024-01-01T24:00", "2024-01-01T10:60"]
  wrong += ["24-01-01", "", "noon", "2024-01-01T10:00 CET", None]
  clock, offset, zoned, bad = csv_batches.parse_zoned_times(pa.array(good + wrong))
  assert bad.tolist() == [False] * 3 + [True] * len(wrong)
  assert offset.tolist()[:3] == [0, 0, 330]
  assert clock[1] == milliseconds(datetime.datetime(2024, 3, 1)) - 1
  assert zoned.tolist()[:3] == [False, True, True]
  _, bad = csv_batches.parse_times(
    pa.array(["2/29/2024 1:00", "2/29/2023 1:00", "4/31/2023 1:00", "5/1/2023 1:30"]), "%m/%d/%Y %H:%M"
  )
  assert bad.tolist() == [False, True, True, False]
  assert csv_batches.parse_times(pa.array(["2024-01-01", "2024-01-01T00:00Z"]))[1].tolist() == [False, True]


def test_dropped_rows_are_counted_with_the_location_of_the_first(tmp_path):
  account = Account()
  (batch,) = csv_batches.read_batches(export(tmp_path, "a,b\n1,2\n3,x\n5,y\n"), "rows.csv", ["b"])
  batch.drop(account, "p", "not a number", csv_batches.parse_numbers(batch["b"])[1])
  assert account.dropped == {("p", "not a number"): 2}
  assert account.example == {("p", "not a number"): f"{tmp_path}/rows.csv row 3"}


@given(st.lists(stamps, min_size=1), st.sampled_from(["", "Z", "+02:00", "-0330"]))
def test_uniform_columns_are_parsed_like_mixed_ones(table, zone):
  texts = [stamp.isoformat(" ") + zone for stamp in table]
  alike = csv_batches.parse_zoned_times(pa.array(texts))
  mixed = csv_batches.parse_zoned_times(pa.array([*texts, "2024-01-01T00:00-07:15", "never"]))
  for one, other in zip(alike, mixed, strict=True):
    assert one.tolist() == other[:-2].tolist()
  assert [column[-2:].tolist() for column in mixed[1:]] == [[-435, 0], [True, False], [False, True]]


@pytest.mark.parametrize("mark", [";", "\t", ","])
def test_the_header_says_what_separates_fields(tmp_path, mark):
  data = f"a{mark}b{mark}c\n1,5{mark}x{mark}7.5\n".replace("1,5", '"1,5"' if mark == "," else "1,5")
  (batch,) = csv_batches.read_batches(export(tmp_path, data), "rows.csv", ["a", "c"])
  assert csv_batches.read_header(export(tmp_path, data), "rows.csv") == ["a", "b", "c"]
  # Only where semicolons separate fields is the comma certain to be a decimal sign.
  assert batch["a"].to_pylist() == ["1.5" if mark == ";" else "1,5"] and batch["c"].to_pylist() == ["7.5"]


def test_a_column_with_points_and_commas_is_left_as_it_is(tmp_path):
  (batch,) = csv_batches.read_batches(
    export(tmp_path, "a;b\n1,5;1,5\n2.5;-2,25\n;text, more\n"), "rows.csv", ["a", "b"]
  )
  assert batch["a"].to_pylist() == ["1,5", "2.5", ""] and batch["b"].to_pylist() == ["1.5", "-2.25", "text, more"]


def test_beside_decimal_commas_a_point_separates_thousands(tmp_path):
  table = "a;b;c;d\n1.200;60,5;0.125;1.005,5\n-12.345.678;61,5;7;80,25\n950;62,5;1.5;3.000\n"
  (batch,) = csv_batches.read_batches(export(tmp_path, table), "rows.csv", ["a", "b", "c", "d"])
  assert batch["a"].to_pylist() == ["1200", "-12345678", "950"]
  assert batch["b"].to_pylist() == ["60.5", "61.5", "62.5"]
  assert batch["c"].to_pylist() == ["0.125", "7", "1.5"] and batch["d"].to_pylist() == ["1005.5", "80.25", "3000"]
  # Without a decimal comma in the file nothing says that a point is one of thousands.
  (batch,) = csv_batches.read_batches(export(tmp_path, "a;b\n1.200;60\n"), "rows.csv", ["a", "b"])
  assert batch["a"].to_pylist() == ["1.200"]


def test_the_order_of_rows_does_not_change_what_a_point_means(tmp_path, monkeypatch):
  monkeypatch.setattr(csv_batches, "BLOCK_BYTES", 64)
  rows = [f"1.{n:03d};1.200;A{n}" for n in range(1, 40)] + [f"2.{n:03d};60,5;B{n}" for n in range(1, 40)]
  found = []
  for order in (rows, rows[::-1]):
    table = export(tmp_path, "\n".join(["id;value;note", *order]) + "\n")
    batches = [*csv_batches.read_batches(table, "rows.csv", ["id", "value"], texts=["id"])]
    assert len(batches) > 5
    found.append(sorted(row for b in batches for row in zip(b["id"].to_pylist(), b["value"].to_pylist(), strict=True)))
  first, last = found
  assert first == last and set(first) == {(r.split(";")[0], "1200" if r[0] == "1" else "60.5") for r in rows}
