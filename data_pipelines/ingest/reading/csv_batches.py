"""CSV files of any size, read in batches of text columns, and functions that parse such columns as numbers and times.

Rows are numbered as a spreadsheet shows them: the header is row 1 unless other lines precede it. Blank lines do not
count, and a row whose fields contain line breaks is still one row.
"""

from __future__ import annotations

import calendar
import codecs
import csv
import dataclasses
import datetime
import io
import re
from collections.abc import Callable, Iterator, Sequence
from typing import IO, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Bool, Float64, Int64
from pyarrow import csv as arrow_csv

from data_pipelines.errors import SchemaError
from data_pipelines.ingest.reading.account import Account
from data_pipelines.ingest.reading.export_files import Export, NulGuard
from data_pipelines.text_files import not_utf8

BLOCK_BYTES = 4 * 2**20  # of the file, per batch
_LONGEST_LINE = 2**20  # bytes, of the header and what precedes it
_NUMBER = r"^[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?$"
_CLOCK = r"(?:[01][0-9]|2[0-3])(?::[0-5][0-9](?::[0-5][0-9](?:\.[0-9]{1,9})?)?)?"
_ISO = (
  r"^(?P<stamp>[0-9]{4}-(?:0[1-9]|1[0-2])-(?:0[1-9]|[12][0-9]|3[01])(?:[T ]" + _CLOCK + r")?)"
  r" ?(?P<zone>Z|[+-][01][0-9]:?[0-5][0-9]|)$"
)
_ZONE = r"^(Z|[+-][01][0-9]:?[0-5][0-9]|)$"
_NO_DAY = r"^[0-9]{4}-(?:02-3|0[469]-31|11-31)"
_LEAP_DAY = r"^[0-9]{4}-02-29"
_MICROSECONDS = len("2024-02-29T12:00:00.123456")


@dataclasses.dataclass(frozen=True)
class CsvBatch:
  """Consecutive rows of a CSV file.

  Attributes:
    file: the file, as messages name it.
    first: number of the first row.
    columns: the fields as strings. Empty fields are ""; an optional column that the file lacks is null.
    left_out: row numbers of ragged rows that were skipped among these.
  """

  file: str
  first: int
  columns: pa.RecordBatch
  left_out: Sequence[int] = ()

  def __len__(self) -> int:
    return self.columns.num_rows

  def __getitem__(self, column: str) -> pa.StringArray:
    return self.columns.column(column)

  def where(self, i: int) -> str:
    """Location of the i-th row of the batch, as messages name it: "steps.csv row 7"."""
    row = self.first + i
    for ragged_row in self.left_out:
      row += ragged_row <= row
    return f"{self.file} row {row}"

  def drop(self, account: Account, participant: str, why: str, bad: Bool[np.ndarray, "n"]) -> None:
    """Counts the rows marked in `bad` as dropped, with the first of them as the example."""
    if bad.any():
      account.drop(participant, why, int(bad.sum()), self.where(int(bad.argmax())))


def read_header(export: Export, name: str, delimiter: str = ",", skip_rows: int = 0) -> list[str]:
  """Column names of a CSV file; [] for an empty file."""
  with export.open(name) as file:
    return _read_names(_text_stream(file, export.where(name)), export.where(name), delimiter, skip_rows)


def read_batches(
  export: Export,
  name: str,
  columns: Sequence[str],
  optional: Sequence[str] = (),
  *,
  delimiter: str = ",",
  skip_rows: int = 0,
  ragged: Callable[[int], None] | None = None,
) -> Iterator[CsvBatch]:
  """Reads a UTF-8 CSV, with or without a byte order mark, in batches. Memory is bounded by the size of a block.

  Args:
    export, name: the file.
    columns: the columns to read, in any order.
    optional: further columns to read if the file has them.
    delimiter: separates fields. Quoted fields may contain it, and line breaks.
    skip_rows: number of lines before the header.
    ragged: called with the number of each row that has more or fewer fields than the header; such rows are skipped.
      None refuses the file instead. A delimiter at the end of every row but not of the header (Samsung) is no field.

  Raises:
    SchemaError: a column is missing, a row is ragged, the file holds NUL bytes or is not UTF-8, or a quote never ends.
  """
  where = export.where(name)
  with export.open(name) as raw:
    file = _text_stream(raw, where)
    names = _read_names(file, where, delimiter, skip_rows)
    _check_columns(names, columns, where)
    yield from _batches(file, where, names, [*columns, *optional], delimiter, skip_rows + 2, ragged)


def parse_numbers(column: pa.StringArray) -> tuple[Float64[np.ndarray, "n"], Bool[np.ndarray, "n"]]:
  """Parses a column of text as numbers.

  Returns:
    The values, NaN where there is none; and where there is none: empty, not a plain number, or not finite.
  """
  try:
    parsed = pc.if_else(pc.equal(column, ""), None, column).cast(pa.float64())
  except pa.ArrowInvalid:
    trimmed = pc.utf8_trim_whitespace(column)
    parsed = pc.if_else(pc.match_substring_regex(trimmed, _NUMBER), trimmed, None).cast(pa.float64())
  values = parsed.fill_null(np.nan).to_numpy(zero_copy_only=False)
  bad = ~np.isfinite(values)
  return np.where(bad, np.nan, values), bad


def parse_times(column: pa.StringArray, *formats: str) -> tuple[Int64[np.ndarray, "n"], Bool[np.ndarray, "n"]]:
  """Parses a column of text as times without an offset.

  Args:
    column: the text.
    formats: strptime formats, such as "%m/%d/%Y %I:%M:%S %p", tried in turn. Without any, ISO 8601.

  Returns:
    Milliseconds since 1970-01-01 00:00 on the clock that the text refers to, 0 where there is no time; and where there
    is no time. An ISO time with an offset counts as no time.
  """
  if not formats:
    clock, _, zoned, bad = parse_zoned_times(column)
    return np.where(zoned, 0, clock), bad | zoned
  stamps = pa.nulls(len(column), pa.timestamp("ms"))
  for form in formats:
    if stamps.null_count:
      stamps = pc.coalesce(stamps, pc.strptime(column, format=form, unit="ms", error_is_null=True))
  clock, bad = _milliseconds(stamps)
  for i in _suspects(column, stamps):
    bad[i] = not any(_is_time(column[i].as_py(), form) for form in formats)
  return np.where(bad, 0, clock), bad


def parse_zoned_times(
  column: pa.StringArray,
) -> tuple[Int64[np.ndarray, "n"], Int64[np.ndarray, "n"], Bool[np.ndarray, "n"], Bool[np.ndarray, "n"]]:
  """Parses ISO 8601: a date, or a date and time to the nanosecond, with or without "Z" or an offset.

  Returns:
    Milliseconds on the clock that is written; minutes by which it is ahead of UTC (subtract them to get UTC), 0 where
    none are written; where an offset is written; where there is no time.
  """
  # Files written by machines have one form of zone in a whole column: none, Z, +00:00 or +0000. These are fast.
  for width in (0, 1, 6, 5):
    zone = pc.utf8_slice_codeunits(column, -width) if width else pc.if_else(column.is_null(), None, "")
    try:
      if pc.all(pc.match_substring_regex(zone, _ZONE)).as_py() is not False:
        stamp = pc.utf8_slice_codeunits(column, 0, -width) if width else column
        stamp[:1].cast(pa.timestamp("us"))  # fails early: the error of a failed cast lists every row
        clock, bad = _milliseconds(stamp.cast(pa.timestamp("us")))
        offset, zoned = _offsets(zone.fill_null(""))
        return clock, offset, zoned, bad
    except pa.ArrowInvalid:
      continue
  return _parse_mixed_times(column)


def _parse_mixed_times(column: pa.StringArray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
  """The result of parse_zoned_times, for columns whose rows differ in form."""
  parts = pc.extract_regex(pc.utf8_trim_whitespace(column), _ISO)
  stamp, zone = (pc.fill_null(pc.struct_field(parts, part), "") for part in ("stamp", "zone"))
  stamp = pc.utf8_slice_codeunits(stamp, 0, _MICROSECONDS)
  bad = _true(pc.equal(stamp, "")) | _true(pc.match_substring_regex(stamp, _NO_DAY)) | _false_leap_day(stamp)
  clock, _ = _milliseconds(pc.if_else(pa.array(bad), None, stamp).cast(pa.timestamp("us")))
  offset, zoned = _offsets(zone)
  return clock, np.where(bad, 0, offset), zoned & ~bad, bad


class _Utf8Guard(NulGuard):
  """Refuses bytes that are not UTF-8, in every column. Arrow itself only checks the columns that it reads."""

  def __init__(self, file: IO[bytes], where: str):
    super().__init__(file, where)
    self._decoder = codecs.getincrementaldecoder("utf-8")()

  def readinto(self, buffer: Any) -> int:
    size = super().readinto(buffer)
    try:
      self._decoder.decode(bytes(buffer[:size]), final=not size)
    except UnicodeDecodeError as error:
      raise SchemaError(f"{self.where}: {not_utf8(error.object) or 'not UTF-8 text'}") from None
    return size


def _text_stream(file: IO[bytes], where: str) -> io.BufferedReader:
  """The file without its byte order mark; reading from it raises SchemaError for bytes that are not text."""
  stream: io.BufferedReader = io.BufferedReader(_Utf8Guard(file, where), BLOCK_BYTES)  # type: ignore[type-var,assignment]
  if stream.peek(3)[:3] == codecs.BOM_UTF8:
    stream.read(3)
  return stream


def _read_names(file: io.BufferedReader, where: str, delimiter: str, skip_rows: int) -> list[str]:
  for _ in range(skip_rows):
    _read_line(file, where)
  line = _read_line(file, where).decode().rstrip("\r\n")
  if "\r" in line:
    raise SchemaError(f"{where}: the header contains a carriage return")
  return [field.strip() for field in _split_fields(line, where, delimiter)]


def _split_fields(line: str, where: str, delimiter: str) -> list[str]:
  try:
    return next(csv.reader([line], delimiter=delimiter), [])
  except csv.Error as error:
    raise SchemaError(f"{where}: {error}") from None


def _read_line(file: io.BufferedReader, where: str) -> bytes:
  line = file.readline(_LONGEST_LINE)
  if len(line) == _LONGEST_LINE:
    raise SchemaError(f"{where}: a line has more than {_LONGEST_LINE:,} bytes, expected the header of a CSV file")
  return line


def _check_columns(names: Sequence[str], columns: Sequence[str], where: str) -> None:
  missing = [column for column in columns if column not in names]
  if missing:
    header = ", ".join(names[:20]) + ", ..." * (len(names) > 20) if names else "nothing"
    raise SchemaError(f"{where}: column {missing[0]!r} is missing; the header has {header}")
  repeated = [column for column in columns if names.count(column) > 1]
  if repeated:
    raise SchemaError(f"{where}: column {repeated[0]!r} appears more than once")


def _batches(
  file: io.BufferedReader,
  where: str,
  names: Sequence[str],
  columns: Sequence[str],
  delimiter: str,
  first: int,
  ragged: Callable[[int], None] | None,
) -> Iterator[CsvBatch]:
  # Columns that are not read may have empty or repeated names, but Arrow needs distinct ones.
  distinct = [name if name in columns else f"{i} {name}" for i, name in enumerate(names)]
  distinct += [f"{len(names)} trailing"] * _has_trailing_delimiter(file, where, len(names), delimiter)
  ragged_rows: list[int] = []
  first_row = first

  def on_ragged(row: arrow_csv.InvalidRow) -> str:
    ragged_rows.append(first_row + row.number - 1)
    return "error" if ragged is None else "skip"

  try:
    if not file.peek(1):
      return
    for record_batch in _open_csv(file, distinct, columns, delimiter, on_ragged):
      left_out = _rows_within(ragged_rows, first, record_batch.num_rows)
      if ragged is not None:
        for row in left_out:
          ragged(row)
      yield CsvBatch(where, first, record_batch, left_out)
      first += record_batch.num_rows + len(left_out)
    if ragged is not None:
      for row in [row for row in ragged_rows if row >= first]:  # those that follow the last good row
        ragged(row)
  except pa.ArrowInvalid as error:
    if ragged_rows and ragged is None:
      raise SchemaError(f"{where} row {ragged_rows[0]}: more or fewer fields than the header's {len(names)}") from None
    raise SchemaError(f"{where}: from row {first} on: {_without_values(str(error))}") from None


def _open_csv(
  file: IO[bytes], names: Sequence[str], columns: Sequence[str], delimiter: str, on_ragged: Callable
) -> arrow_csv.CSVStreamingReader:
  return arrow_csv.open_csv(
    file,
    # Arrow numbers invalid rows only when it reads without threads.
    read_options=arrow_csv.ReadOptions(use_threads=False, block_size=BLOCK_BYTES, column_names=names),
    parse_options=arrow_csv.ParseOptions(delimiter=delimiter, newlines_in_values=True, invalid_row_handler=on_ragged),
    convert_options=arrow_csv.ConvertOptions(
      include_columns=columns,
      include_missing_columns=True,
      column_types={name: pa.string() for name in columns},
      strings_can_be_null=False,
    ),
  )


def _has_trailing_delimiter(file: io.BufferedReader, where: str, fields: int, delimiter: str) -> bool:
  """Whether the first row ends in a delimiter that the header does not have."""
  line = re.split(rb"[\r\n]", file.peek(_LONGEST_LINE), maxsplit=1)[0].decode(errors="replace")
  return line.endswith(delimiter) and len(_split_fields(line, where, delimiter)) == fields + 1


def _rows_within(ragged_rows: Sequence[int], first: int, good_rows: int) -> list[int]:
  """The ragged rows that lie before the last of `good_rows` good rows counted from row `first`."""
  within: list[int] = []
  for row in ragged_rows:
    if first <= row < first + good_rows + len(within):
      within.append(row)
  return within


def _without_values(error: str) -> str:
  """Arrow's complaint without the value that it may quote."""
  if "straddl" in error:
    return f"a row has more than {BLOCK_BYTES:,} bytes, or a quote never ends"
  return "not a CSV"


def _milliseconds(stamps: pa.TimestampArray) -> tuple[Int64[np.ndarray, "n"], Bool[np.ndarray, "n"]]:
  plain = stamps.cast(pa.timestamp("us")).cast(pa.int64()).fill_null(0).to_numpy(zero_copy_only=False)
  return plain // 1000, _nulls(stamps)


def _nulls(column: pa.Array) -> Bool[np.ndarray, "n"]:
  return column.is_null().to_numpy(zero_copy_only=False)


def _true(column: pa.BooleanArray) -> Bool[np.ndarray, "n"]:
  return column.to_numpy(zero_copy_only=False)


def _false_leap_day(stamp: pa.StringArray) -> Bool[np.ndarray, "n"]:
  bad = _true(pc.match_substring_regex(stamp, _LEAP_DAY))
  for i in np.flatnonzero(bad):
    bad[i] = not calendar.isleap(int(stamp[i].as_py()[:4]))
  return bad


def _offsets(zone: pa.StringArray) -> tuple[Int64[np.ndarray, "n"], Bool[np.ndarray, "n"]]:
  """Minutes ahead of UTC for "Z", "+02:00", "-0330" and "", and where one is given."""
  encoded = zone.dictionary_encode()  # a column has few distinct offsets
  distinct = encoded.dictionary.to_pylist()
  index = encoded.indices.to_numpy()
  minutes = np.array([_minutes(text) for text in distinct], np.int64)
  return minutes[index], np.array([text != "" for text in distinct])[index]


def _minutes(zone: str) -> int:
  if zone in ("", "Z"):
    return 0
  return int(zone[0] + "1") * (60 * int(zone[1:3]) + int(zone[-2:]))


def _suspects(column: pa.StringArray, stamps: pa.TimestampArray) -> Int64[np.ndarray, "k"]:
  """Rows where strptime may have carried the 31st of a 30-day month over into the next month."""
  month, day = (part(stamps).fill_null(0).to_numpy(zero_copy_only=False) for part in (pc.month, pc.day))
  carried = ((month == 3) & (day <= 3)) | (np.isin(month, (5, 7, 10, 12)) & (day == 1))
  places = np.flatnonzero(carried)
  has_late_day = pc.match_substring_regex(column.take(pa.array(places)), r"29|30|31")
  return places[_true(has_late_day.fill_null(False))]


def _is_time(text: str, form: str) -> bool:
  try:
    return bool(datetime.datetime.strptime(text.strip(), form))
  except ValueError:
    return False
