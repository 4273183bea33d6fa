"""CSV files of any size, read in batches of text columns, and functions that parse such columns as numbers and times.

Rows are numbered as a spreadsheet shows them: the header is row 1 unless other lines precede it. Blank lines do not
count. A row is one line: readings have no field with a line break, and a quote that stays open at the end of its line
is a stray one, which would swallow the readings after it.

The header says what separates fields: a comma, a semicolon or a tab. Spreadsheets write semicolons where the comma is
the decimal sign, so in a file with semicolons a number such as 60,5 is read as 60.5, and 1.200 beside it as 1200. What
a file means by them is found by reading all of it beforehand: the order of its rows does not matter.
"""

from __future__ import annotations

import calendar
import codecs
import csv
import dataclasses
import datetime
import io
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import IO

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Bool, Float64, Int64
from pyarrow import csv as arrow_csv

from data_pipelines.errors import SchemaError
from data_pipelines.ingest.reading.account import Account
from data_pipelines.ingest.reading.export_files import Export, in_utf8
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
_DELIMITERS = (",", ";", "\t")  # the first of those that give equally many fields
_DECIMAL_COMMA = r"^(\s*[+-]?[0-9]+),([0-9]+\s*)$"
_DECIMAL_POINT = r"^\s*[+-]?[0-9]*\.[0-9]+\s*$"
_THOUSANDS = r"^\s*[+-]?[1-9][0-9]{0,2}(\.[0-9]{3})+(,[0-9]+)?\s*$"
_THOUSANDS_AND_COMMA = r"^\s*[+-]?[1-9][0-9]{0,2}(\.[0-9]{3})+,[0-9]+\s*$"
# A number with a point that separates no thousands (RE2 has no look-ahead).
_POINT_OF_ANOTHER_KIND = r"^\s*[+-]?(0[0-9]*|[0-9]{4,}|)\.[0-9]*\s*$|^\s*[+-]?[0-9]*\.([0-9]{0,2}|[0-9]{4,})\s*$"
_QUOTE, _LINE_ENDS = ord('"'), (ord("\n"), ord("\r"))
RAGGED = "more or fewer fields than the header"
OPEN_QUOTE = "a quote opens and does not close in the row"
NO_TEXT = "bytes that are not UTF-8 text"
_MOST_NO_TEXT = 0.01  # of the rows of the first block; more of them are another encoding


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

  def numbers(self) -> Int64[np.ndarray, "n"]:
    """The row number of each row."""
    return np.setdiff1d(np.arange(self.first, self.first + len(self) + len(self.left_out)), self.left_out)

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


def read_header(export: Export, name: str, delimiter: str | None = None, skip_rows: int = 0) -> list[str]:
  """Column names of a CSV file; [] for an empty file. Without a delimiter, the header says it."""
  with export.open(name) as file:
    names, _ = _read_names(_text_stream(file, export.where(name)), export.where(name), delimiter, skip_rows)
    return names


def read_batches(
  export: Export,
  name: str,
  columns: Sequence[str],
  optional: Sequence[str] = (),
  *,
  texts: Collection[str] = (),
  delimiter: str | None = None,
  skip_rows: int = 0,
  ragged: Callable[[int, str], None] | None = None,
) -> Iterator[CsvBatch]:
  """Reads a CSV, in UTF-8 or what its byte order mark says, in batches. Memory is bounded by the size of a block.

  Args:
    export, name: the file.
    columns: the columns to read, in any order.
    optional: further columns to read if the file has them.
    texts: those of the columns that hold no numbers, such as names of people, which stay as they are.
    delimiter: separates fields. Quoted fields may contain it, but no line breaks. Without one, the header says it.
    skip_rows: number of lines before the header.
    ragged: called with the number of each row that has more or fewer fields than the header, a quote that does not
      close in it, or bytes that are no text, and with which of these it is (RAGGED, OPEN_QUOTE or NO_TEXT); such rows
      are skipped. None refuses the file instead. A delimiter at the end of every row but not of the header (Samsung) is
      no field.

  Raises:
    SchemaError: a column is missing, or the file is in another encoding than UTF-8. Without `ragged`: a row is ragged,
      has an open quote, or bytes that are no text.
  """
  where = export.where(name)
  with export.open(name) as raw:
    file = _text_stream(raw, where)
    names, delimiter = _read_names(file, where, delimiter, skip_rows)
    _check_columns(names, columns, where)
    columns = [*columns, *optional]
    if delimiter != ";":
      yield from _batches(file, where, names, columns, delimiter, skip_rows + 2, ragged)
      return
    signs = _signs(export, name, names, columns, delimiter, skip_rows)
    for batch in _batches(file, where, names, columns, delimiter, skip_rows + 2, ragged):
      yield dataclasses.replace(batch, columns=_with_points(batch.columns, signs, texts))


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


def counting(account: Account, participant: str, export: Export, name: str) -> Callable[[int, str], None]:
  """A callback for `read_batches` that counts each row of a file that cannot be read as damaged."""
  return lambda row, why: account.damaged(participant, why, export.where(name), f" row {row}")


def _text_stream(file: IO[bytes], where: str) -> io.BufferedReader:
  """The file without its byte order mark.

  Raises:
    SchemaError: its first block is in another encoding than UTF-8.
  """
  stream: io.BufferedReader = io.BufferedReader(in_utf8(file, where), BLOCK_BYTES)  # type: ignore[arg-type]
  start = stream.peek(BLOCK_BYTES)
  lines = start[: start.rfind(b"\n") + 1] or start  # a character may be cut at the end
  if len(_no_text(lines)) > max(1, _MOST_NO_TEXT * lines.count(b"\n")):
    raise SchemaError(f"{where}: {not_utf8(start)}")
  if start[:3] == codecs.BOM_UTF8:
    stream.read(3)
  return stream


def _no_text(lines: bytes) -> list[tuple[int, int]]:
  """Start and end of the lines that hold NUL bytes or bytes that are not UTF-8, in order."""
  if _is_text(lines):
    return []
  spans, start = [], 0
  for line in re.split(rb"[\r\n]", lines):
    if not _is_text(line):
      spans.append((start, start + len(line)))
    start += len(line) + 1
  return spans


def _is_text(line: bytes) -> bool:
  try:
    line.decode()
  except UnicodeDecodeError:
    return False
  return b"\0" not in line


def _read_names(file: io.BufferedReader, where: str, delimiter: str | None, skip_rows: int) -> tuple[list[str], str]:
  """The names in the header, and what separates them."""
  for _ in range(skip_rows):
    _read_line(file, where)
  first = _read_line(file, where)
  if not _is_text(first):
    raise SchemaError(f"{where}: {not_utf8(first)}")
  line = first.decode().rstrip("\r\n")
  if "\r" in line:
    raise SchemaError(f"{where}: the header contains a carriage return")
  delimiter = delimiter or max(_DELIMITERS, key=lambda mark: len(_fields(line, mark)))
  if _has_open_quote(line.encode(), delimiter):
    raise SchemaError(f"{where} row {skip_rows + 1}: {OPEN_QUOTE}; a row is one line")
  return [field.strip() for field in _split_fields(line, where, delimiter)], delimiter


def _fields(line: str, delimiter: str) -> list[str]:
  try:
    return next(csv.reader([line], delimiter=delimiter), [])
  except csv.Error:
    return []


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
  ragged: Callable[[int, str], None] | None,
) -> Iterator[CsvBatch]:
  # Columns that are not read may have empty or repeated names, but Arrow needs distinct ones.
  distinct = [name if name in columns else f"{i} {name}" for i, name in enumerate(names)]
  distinct += [f"{len(names)} trailing"] * _has_trailing_delimiter(file, where, len(names), delimiter)
  for block in _whole_lines(file, where):
    faults: dict[int, str] = {}  # by row
    spans = [(*span, OPEN_QUOTE) for span in _open_quotes(block, delimiter)] + [(*s, NO_TEXT) for s in _no_text(block)]
    for (start, end), why in sorted({(start, end): why for start, end, why in spans}.items(), reverse=True):
      row = first + _count_rows(block[:start])
      if ragged is None:
        text = not_utf8(block[start:end]) if why == NO_TEXT else f"{OPEN_QUOTE}; a row is one line"
        faults = {row: str(text)}
        continue
      faults[row] = why
      block = block[:start] + delimiter.encode() * len(distinct) + block[end:]  # ragged, so that Arrow leaves it out
    if faults and ragged is None:
      raise SchemaError(f"{where} row {min(faults)}: {faults[min(faults)]}")
    record_batch = _parse(block, where, distinct, columns, delimiter, first, faults, len(names), ragged is None)
    left_out = sorted(faults)
    for row in left_out:
      ragged(row, faults[row])  # type: ignore[misc]  # without it, a fault has raised
    if record_batch.num_rows:
      yield CsvBatch(where, first, record_batch, left_out)
    first += record_batch.num_rows + len(left_out)


def _parse(
  block: bytes,
  where: str,
  names: Sequence[str],
  columns: Sequence[str],
  delimiter: str,
  first: int,
  faults: dict[int, str],
  fields: int,
  strict: bool,
) -> pa.RecordBatch:
  """The good rows of a block of whole lines; adds the ragged ones to `faults`, or refuses them if `strict`.

  Each block is parsed by itself, from memory. A reader of the whole stream has a thread that reads ahead, and such a
  thread aborts the process if it calls a Python file while the interpreter exits.
  """

  def on_ragged(row: arrow_csv.InvalidRow) -> str:
    faults.setdefault(first + row.number - 1, RAGGED)
    return "error" if strict else "skip"

  try:
    table = arrow_csv.read_csv(
      pa.BufferReader(block),
      # Arrow numbers invalid rows only when it reads without threads.
      read_options=arrow_csv.ReadOptions(use_threads=False, block_size=len(block) + 1, column_names=names),
      parse_options=arrow_csv.ParseOptions(delimiter=delimiter, invalid_row_handler=on_ragged),
      convert_options=arrow_csv.ConvertOptions(
        include_columns=columns,
        include_missing_columns=True,
        column_types={name: pa.string() for name in columns},
        strings_can_be_null=False,
      ),
    )
  except pa.ArrowInvalid:
    if faults and strict:
      raise SchemaError(f"{where} row {min(faults)}: {RAGGED}'s {fields}") from None
    raise SchemaError(f"{where}: from row {first} on: not a CSV") from None
  (batch,) = table.combine_chunks().to_batches() or [pa.RecordBatch.from_pylist([], schema=table.schema)]
  return batch


@dataclasses.dataclass(frozen=True)
class _Signs:
  """Decimal and thousands signs of the numbers of a column, in some of its rows at least.

  Attributes:
    comma: a decimal comma, as in 60,5.
    point: a decimal point, as in 60.5 or 1.200.
    no_thousands: a point that cannot separate thousands, as in 60.5.
    other_point: a decimal point that would not be one of thousands either.
  """

  comma: bool = False
  point: bool = False
  no_thousands: bool = False
  other_point: bool = False

  @classmethod
  def of(cls, column: pa.StringArray) -> _Signs:
    """Those of some rows."""
    point = pc.match_substring_regex(column, _DECIMAL_POINT)
    other = pc.and_(point, pc.invert(pc.match_substring_regex(column, _THOUSANDS)))
    forms = _DECIMAL_COMMA, _THOUSANDS_AND_COMMA, _POINT_OF_ANOTHER_KIND
    comma, both, no_thousands = (_any(pc.match_substring_regex(column, form)) for form in forms)
    return cls(comma or both, _any(point), no_thousands, _any(other))

  def __or__(self, other: _Signs) -> _Signs:
    pairs = zip(dataclasses.astuple(self), dataclasses.astuple(other), strict=True)
    return _Signs(*(mine or theirs for mine, theirs in pairs))


def _signs(
  export: Export, name: str, names: Sequence[str], columns: Sequence[str], delimiter: str, skip_rows: int
) -> Mapping[str, _Signs]:
  """Decimal and thousands signs of the numbers of a whole file, by column."""
  where = export.where(name)
  found = dict.fromkeys(columns, _Signs())
  with Export.open(export, name) as raw:  # an export that counts what has been read would count it twice
    file = _text_stream(raw, where)
    _read_names(file, where, delimiter, skip_rows)
    for batch in _batches(file, where, names, columns, delimiter, skip_rows + 2, lambda row, why: None):
      for column, sign in found.items():
        found[column] = sign | _Signs.of(batch[column])
  return found


def _with_points(batch: pa.RecordBatch, signs: Mapping[str, _Signs], texts: Collection[str]) -> pa.RecordBatch:
  """The columns with decimal points for decimal commas, except those in which some numbers have a point.

  Beside decimal commas a point separates thousands: 1.200 and 1.005,5 are 1200 and 1005.5.
  """
  commas = any(sign.comma for name, sign in signs.items() if name not in texts)
  columns = []
  for name, column in zip(batch.schema.names, batch.columns, strict=True):
    sign = signs[name]
    if name not in texts:
      separated = commas and not sign.no_thousands
      if separated:
        column = pc.if_else(pc.match_substring_regex(column, _THOUSANDS), pc.replace_substring(column, ".", ""), column)
      if not (sign.other_point if separated else sign.point):
        column = pc.replace_substring_regex(column, _DECIMAL_COMMA, r"\1.\2")
    columns.append(column)
  return pa.record_batch(columns, batch.schema.names)


def _any(rows: pa.BooleanArray) -> bool:
  return bool(pc.any(rows).as_py())


def _whole_lines(file: IO[bytes], where: str) -> Iterator[bytes]:
  """Yields the rest of a file in blocks of whole lines, and leaves out blocks of blank ones."""
  rest = b""
  while block := file.read(BLOCK_BYTES):
    cut = max(block.rfind(b"\n"), block.rfind(b"\r")) + 1
    if not cut and len(rest) + len(block) > BLOCK_BYTES:
      raise SchemaError(f"{where}: a row has more than {BLOCK_BYTES:,} bytes")
    lines, rest = (rest + block[:cut], block[cut:]) if cut else (b"", rest + block)
    if lines.strip(b"\r\n"):
      yield lines
  if rest:
    yield rest


def _open_quotes(block: bytes, delimiter: str) -> list[tuple[int, int]]:
  """Start and end of the lines that leave a quote open, in order.

  A line is fine if every second quote of it, from the first on, begins a field or directly follows a quote, and their
  number is even: then each opens what the next one closes. Only the few other lines are looked at one by one.
  """
  bytes_ = np.frombuffer(block, np.uint8)
  quotes = np.flatnonzero(bytes_ == _QUOTE)
  if not len(quotes):
    return []
  ends = np.append(np.flatnonzero(np.isin(bytes_, _LINE_ENDS)), len(block))
  line = np.searchsorted(ends, quotes)
  count = np.bincount(line)
  before = np.where(quotes > 0, bytes_[quotes - 1], _LINE_ENDS[0])
  opening = (np.arange(len(quotes)) - (np.cumsum(count) - count)[line]) % 2 == 0
  odd = opening & ~np.isin(before, (ord(delimiter), _QUOTE, *_LINE_ENDS))
  suspects = np.union1d(line[odd], np.flatnonzero(count % 2))
  spans = [(int(ends[n - 1]) + 1 if n else 0, int(ends[n])) for n in suspects]
  return [(start, end) for start, end in spans if _has_open_quote(block[start:end], delimiter)]


def _has_open_quote(line: bytes, delimiter: str) -> bool:
  """True if a quote that begins a field never closes in the line. Other quotes are text, as in 5" run."""
  mark = re.escape(delimiter.encode())
  field = rb'(?:"(?:[^"]|"")*+"|(?!"))[^' + mark + rb"]*+"
  return not re.fullmatch(field + rb"(?:" + mark + field + rb")*+", line)


def _count_rows(lines: bytes) -> int:
  return sum(bool(line) for line in re.split(rb"[\r\n]", lines))


def _has_trailing_delimiter(file: io.BufferedReader, where: str, fields: int, delimiter: str) -> bool:
  """True if the first row ends in a delimiter that the header does not have."""
  line = re.split(rb"[\r\n]", file.peek(_LONGEST_LINE), maxsplit=1)[0].decode(errors="replace")
  return line.endswith(delimiter) and len(_split_fields(line, where, delimiter)) == fields + 1


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
