"""CSV of any size through an Export, in batches of strings, and columns of strings as numbers and times at once.

Rows are numbered as a spreadsheet shows them: the header of a file without preamble is row 1. Blank lines do not
count, and a cell with line breaks is one row.
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
from data_pipelines.ingest.reading.export_files import Export, NoNul
from data_pipelines.ingest.reading.readings import Account

BLOCK_BYTES = 4 * 2**20  # of the file, a batch
_LONGEST_LINE = 2**20  # of preamble and header
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
class Rows:
  """Some rows of a file that follow each other.

  Attributes:
    file: the file, as messages name it.
    first: number of the first row.
    batch: columns of strings; empty cells are "", a column that is optional and not there is null.
    left_out: numbers of ragged rows among them.
  """

  file: str
  first: int
  batch: pa.RecordBatch
  left_out: Sequence[int] = ()

  def __len__(self) -> int:
    return self.batch.num_rows

  def __getitem__(self, column: str) -> pa.StringArray:
    return self.batch.column(column)

  def where(self, i: int) -> str:
    """How messages name row i of these."""
    row = self.first + i
    for odd in self.left_out:
      row += odd <= row
    return f"{self.file} row {row}"

  def drop(self, account: Account, participant: str, why: str, bad: Bool[np.ndarray, "n"]) -> None:
    """Counts the rows where `bad` as dropped; the first of them is the example."""
    if bad.any():
      account.drop(participant, why, int(bad.sum()), self.where(int(bad.argmax())))


def header(export: Export, name: str, delimiter: str = ",", skip_rows: int = 0) -> list[str]:
  """Names of a CSV's columns; [] for an empty file."""
  with export.open(name) as file:
    return _header(_checked(file, export.where(name)), export.where(name), delimiter, skip_rows)


def table(
  export: Export,
  name: str,
  columns: Sequence[str],
  optional: Sequence[str] = (),
  *,
  delimiter: str = ",",
  skip_rows: int = 0,
  ragged: Callable[[int], None] | None = None,
) -> Iterator[Rows]:
  """Rows of a UTF-8 CSV, with or without byte order mark; memory is bounded by the size of a block.

  Args:
    export, name: the file.
    columns: what is read of it; the order of the file does not matter.
    optional: columns that may be absent.
    delimiter: between cells. Quoted cells may hold it, and line breaks.
    skip_rows: lines before the header.
    ragged: called with the number of each row that has more or fewer cells than the header, which is left out; None
      refuses the file. Where rows end in a delimiter and the header does not (Samsung), that is no cell.

  Raises:
    SchemaError: a column is missing, a ragged row, NUL, wrong encoding, a quote that does not end.
  """
  where = export.where(name)
  with export.open(name) as raw:
    file = _checked(raw, where)
    names = _header(file, where, delimiter, skip_rows)
    _check_columns(names, columns, where)
    yield from _rows(file, where, names, [*columns, *optional], delimiter, skip_rows + 2, ragged)


def numbers(column: pa.StringArray) -> tuple[Float64[np.ndarray, "n"], Bool[np.ndarray, "n"]]:
  """Values, and where there is none: empty, not a plain number, or not finite (NaN stands there)."""
  try:
    values = pc.if_else(pc.equal(column, ""), None, column).cast(pa.float64())
  except pa.ArrowInvalid:
    trimmed = pc.utf8_trim_whitespace(column)
    values = pc.if_else(pc.match_substring_regex(trimmed, _NUMBER), trimmed, None).cast(pa.float64())
  found = values.fill_null(np.nan).to_numpy(zero_copy_only=False)
  bad = ~np.isfinite(found)
  return np.where(bad, np.nan, found), bad


def times(column: pa.StringArray, *formats: str) -> tuple[Int64[np.ndarray, "n"], Bool[np.ndarray, "n"]]:
  """Milliseconds since 1970-01-01 00:00 on the clock that the text is of, and where there is no time (0 stands there).

  Args:
    column: texts.
    formats: of strptime, such as "%m/%d/%Y %I:%M:%S %p", tried in turn; none is ISO 8601 without an offset.
  """
  if not formats:
    clock, _, zoned, bad = zoned_times(column)
    return np.where(zoned, 0, clock), bad | zoned
  found = pa.nulls(len(column), pa.timestamp("ms"))
  for form in formats:
    if found.null_count:
      found = pc.coalesce(found, pc.strptime(column, format=form, unit="ms", error_is_null=True))
  clock, bad = _milliseconds(found)
  for i in _suspects(column, found):
    bad[i] = not any(_is_time(column[i].as_py(), form) for form in formats)
  return np.where(bad, 0, clock), bad


def zoned_times(
  column: pa.StringArray,
) -> tuple[Int64[np.ndarray, "n"], Int64[np.ndarray, "n"], Bool[np.ndarray, "n"], Bool[np.ndarray, "n"]]:
  """ISO 8601: date, or date and time to the nanosecond, with or without "Z" or an offset.

  Returns:
    milliseconds of the clock that is written; minutes by which it is ahead of UTC (subtract them for UTC; 0 where none
    is written); where an offset is written; where there is no time.
  """
  for width in (0, 1, 6, 5):  # of no zone, Z, +00:00 and +0000: the whole column alike, as machines write it
    zone = pc.utf8_slice_codeunits(column, -width) if width else pc.if_else(column.is_null(), None, "")
    try:
      if pc.all(pc.match_substring_regex(zone, _ZONE)).as_py() is not False:
        stamp = pc.utf8_slice_codeunits(column, 0, -width) if width else column
        stamp[:1].cast(pa.timestamp("us"))  # a cast that fails complains of every row, at length
        clock, bad = _milliseconds(stamp.cast(pa.timestamp("us")))
        offset, zoned = _offsets(zone.fill_null(""))
        return clock, offset, zoned, bad
    except pa.ArrowInvalid:
      continue
  return _any_times(column)


def _any_times(column: pa.StringArray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
  """As zoned_times, row by row as they come."""
  parts = pc.extract_regex(pc.utf8_trim_whitespace(column), _ISO)
  stamp, zone = (pc.fill_null(pc.struct_field(parts, part), "") for part in ("stamp", "zone"))
  stamp = pc.utf8_slice_codeunits(stamp, 0, _MICROSECONDS)
  bad = _true(pc.equal(stamp, "")) | _true(pc.match_substring_regex(stamp, _NO_DAY)) | _false_leap_day(stamp)
  clock, _ = _milliseconds(pc.if_else(pa.array(bad), None, stamp).cast(pa.timestamp("us")))
  offset, zoned = _offsets(zone)
  return clock, np.where(bad, 0, offset), zoned & ~bad, bad


class _Text(NoNul):
  """Passes bytes on that are UTF-8 without NUL, in all columns: Arrow looks at those it is asked for."""

  def __init__(self, file: IO[bytes], where: str):
    super().__init__(file, where)
    self._decoder = codecs.getincrementaldecoder("utf-8")()

  def readinto(self, buffer: Any) -> int:
    size = super().readinto(buffer)
    try:
      self._decoder.decode(bytes(buffer[:size]), final=not size)
    except UnicodeDecodeError:
      raise SchemaError(f"{self._where}: not UTF-8 text") from None
    return size


def _checked(file: IO[bytes], where: str) -> io.BufferedReader:
  """Without byte order mark, refusing what is not text."""
  plain: io.BufferedReader = io.BufferedReader(_Text(file, where), BLOCK_BYTES)  # type: ignore[type-var,assignment]
  if plain.peek(3)[:3] == codecs.BOM_UTF8:
    plain.read(3)
  return plain


def _header(file: io.BufferedReader, where: str, delimiter: str, skip_rows: int) -> list[str]:
  for _ in range(skip_rows):
    _line(file, where)
  line = _line(file, where).decode().rstrip("\r\n")
  if "\r" in line:
    raise SchemaError(f"{where}: a carriage return amid the header")
  return [cell.strip() for cell in _cells(line, where, delimiter)]


def _cells(line: str, where: str, delimiter: str) -> list[str]:
  try:
    return next(csv.reader([line], delimiter=delimiter), [])
  except csv.Error as error:
    raise SchemaError(f"{where}: {error}") from None


def _line(file: io.BufferedReader, where: str) -> bytes:
  line = file.readline(_LONGEST_LINE)
  if len(line) == _LONGEST_LINE:
    raise SchemaError(f"{where}: a line of more than {_LONGEST_LINE:,} bytes, expected the header of a CSV")
  return line


def _check_columns(names: Sequence[str], columns: Sequence[str], where: str) -> None:
  missing = [column for column in columns if column not in names]
  if missing:
    has = ", ".join(names[:20]) + ", ..." * (len(names) > 20) if names else "nothing"
    raise SchemaError(f"{where}: column {missing[0]!r} is missing; the header has {has}")
  twice = [column for column in columns if names.count(column) > 1]
  if twice:
    raise SchemaError(f"{where}: column {twice[0]!r} is there twice")


def _rows(
  file: io.BufferedReader,
  where: str,
  names: Sequence[str],
  wanted: Sequence[str],
  delimiter: str,
  first: int,
  ragged: Callable[[int], None] | None,
) -> Iterator[Rows]:
  # Names that are not asked for may be empty or repeated; Arrow wants them distinct.
  distinct = [name if name in wanted else f"{i} {name}" for i, name in enumerate(names)]
  distinct += [f"{len(names)} trailing"] * _trails(file, where, len(names), delimiter)
  odd: list[int] = []

  def on_odd(row: arrow_csv.InvalidRow) -> str:
    odd.append(begin + row.number - 1)
    return "error" if ragged is None else "skip"

  begin = first
  try:
    if not file.peek(1):
      return
    for batch in _reader(file, distinct, wanted, delimiter, on_odd):
      left_out = _among(odd, first, batch.num_rows)
      if ragged is not None:
        for row in left_out:
          ragged(row)
      yield Rows(where, first, batch, left_out)
      first += batch.num_rows + len(left_out)
    if ragged is not None:
      for row in [row for row in odd if row >= first]:  # after the last of the others
        ragged(row)
  except pa.ArrowInvalid as error:
    if odd and ragged is None:
      raise SchemaError(f"{where} row {odd[0]}: more or fewer cells than the header's {len(names)}") from None
    raise SchemaError(f"{where}: from row {first} on: {_told(str(error))}") from None


def _reader(
  file: IO[bytes], names: Sequence[str], wanted: Sequence[str], delimiter: str, on_odd: Callable
) -> arrow_csv.CSVStreamingReader:
  return arrow_csv.open_csv(
    file,
    # Rows have numbers only without threads.
    read_options=arrow_csv.ReadOptions(use_threads=False, block_size=BLOCK_BYTES, column_names=names),
    parse_options=arrow_csv.ParseOptions(delimiter=delimiter, newlines_in_values=True, invalid_row_handler=on_odd),
    convert_options=arrow_csv.ConvertOptions(
      include_columns=wanted,
      include_missing_columns=True,
      column_types={name: pa.string() for name in wanted},
      strings_can_be_null=False,
    ),
  )


def _trails(file: io.BufferedReader, where: str, cells: int, delimiter: str) -> bool:
  """Whether the first row ends in a delimiter that the header has not."""
  line = re.split(rb"[\r\n]", file.peek(_LONGEST_LINE), maxsplit=1)[0].decode(errors="replace")
  return line.endswith(delimiter) and len(_cells(line, where, delimiter)) == cells + 1


def _among(odd: Sequence[int], first: int, rows: int) -> list[int]:
  """Numbers of the ragged rows before the last of so many rows that are not."""
  found: list[int] = []
  for row in odd:
    if first <= row < first + rows + len(found):
      found.append(row)
  return found


def _told(error: str) -> str:
  """Arrow's complaint without the cell it may quote."""
  if "straddl" in error:
    return f"a row of more than {BLOCK_BYTES:,} bytes, or a quote that does not end"
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
  """Minutes ahead of UTC of "Z", "+02:00", "-0330" and "", and where one is given; few texts are many rows."""
  texts = zone.dictionary_encode()
  minutes = [_minutes(text) for text in texts.dictionary.to_pylist()]
  index = texts.indices.to_numpy()
  return np.array(minutes, np.int64)[index], np.array([text != "" for text in texts.dictionary.to_pylist()])[index]


def _minutes(zone: str) -> int:
  if zone in ("", "Z"):
    return 0
  return int(zone[0] + "1") * (60 * int(zone[1:3]) + int(zone[-2:]))


def _suspects(column: pa.StringArray, found: pa.TimestampArray) -> Int64[np.ndarray, "k"]:
  """Rows where strptime may have carried the 31st of a month of 30 days over to the next."""
  month, day = (part(found).fill_null(0).to_numpy(zero_copy_only=False) for part in (pc.month, pc.day))
  carried = ((month == 3) & (day <= 3)) | (np.isin(month, (5, 7, 10, 12)) & (day == 1))
  places = np.flatnonzero(carried)
  held = pc.match_substring_regex(column.take(pa.array(places)), r"29|30|31")
  return places[_true(held.fill_null(False))]


def _is_time(text: str, form: str) -> bool:
  try:
    return bool(datetime.datetime.strptime(text.strip(), form))
  except ValueError:
    return False
