"""Tables of readings, CSV or Parquet, either long (one row per reading) or wide (one column per channel).

  participant   text, optional; defaults to the name of the export. Rows that leave it empty, or have NA or the like,
                are dropped and counted: nothing says whose they are
  time          ("timestamp", "datetime") ISO 8601 ("2024-03-01 08:15:00.5" is on the wall clock; with an offset such as
                +02:00 it is an instant and the wall clock's lead over UTC; with Z or +00:00 it is UTC), or seconds, ms,
                us or ns since 1970 UTC, whichever gives a year from 2001 to 2100; "04.06.2024 08:15" too, on the wall
                clock. Parquet: text, numbers, or timestamps, zoned or not
  end           like time, for readings with a duration; optional, may be empty
  device        text, optional; if two devices report the same step, the first by name counts
  channel, value, unit   long tables: name, number, and optionally unit (default: the channel's own, see SIGNALS)
  any other     wide tables: a channel of this name, in its own unit or in that of the header, "glucose [mg/dL]"; an
                empty field is not a reading

Tables with other names of columns or another way to write times are read with --columns and --time_format.
Columns that are not read are told: others of a long table, `channel`, `value` and `unit` of a wide one, and those
without a name.

Times that all lie between 01:00 and 12:59 and mostly occur twice are told: a 12-hour clock without AM and PM would fold
each day into its first half.

In the account a row of a wide table counts once per non-empty field. A field that is no plain number is dropped and
counted, by channel and by what it holds: nothing or a word for it, a comma in the number, a percent sign (which is read
where the unit is %), other text. The order of rows does not matter. UTC times without an offset are converted to the
wall clock of --timezone.
"""

from __future__ import annotations

import contextlib
import dataclasses
import re
import types
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from jaxtyping import Bool, Float64, Int64

from data_pipelines.errors import SchemaError
from data_pipelines.ingest.reading import csv_batches
from data_pipelines.ingest.reading.account import Account
from data_pipelines.ingest.reading.clocks import MINUTE
from data_pipelines.ingest.reading.date_order import check_format, orders_of_format
from data_pipelines.ingest.reading.export_files import Export
from data_pipelines.ingest.reading.owners import Owner
from data_pipelines.ingest.reading.readings import Readings
from data_pipelines.ingest.reading.signals import Signal, common_signal
from data_pipelines.source import NOBODY
from data_pipelines.text_files import check_reserved, one_line

SIGNALS = (
  common_signal("heart_rate"),
  common_signal("hrv_rmssd"),
  common_signal("spo2"),
  common_signal("respiratory_rate"),
  common_signal("skin_temperature"),
  common_signal("steps", quiet=False),
  common_signal("distance", quiet=False),
  common_signal("calories"),
  common_signal("floors", quiet=False),
  common_signal("activity_counts"),
  common_signal("glucose"),
  common_signal("stress"),
  common_signal("body_battery"),
  common_signal("asleep"),
)
_KEYS = ("participant", "time", "end", "device", "unit", "channel", "value")
_TEXTS = ("participant", "device", "unit", "channel")  # a 1.001 among them is a name
_KEPT = ("participant", "end", "device", "unit")  # those that a table with other names of columns may have as well
_ALSO_TIME = ("timestamp", "datetime")
_ROWS_PER_BATCH = 2**17
_LONGEST = 80  # characters of a name in the account
# Kinds of fields that hold no plain number.
_EMPTY, _NO_VALUE = r"^$", r"(?i)^(n/?a|nan|null|none|[+-]?inf|-+|\.|\?)$"
_PERCENT, _COMMAS = r"^[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)\s*%$", r"^[+-]?[0-9]*(,[0-9]+)+(\.[0-9]*)?\s*%?$"
_EPOCH_NUMBER = r"^[0-9]{9,19}(\.[0-9]*)?$"
_DOTTED = r"^[0-9]{1,2}\.[0-9]{1,2}\.[0-9]{4} "  # day, month, year: nobody writes another order with points
_DOTTED_FORMATS = ("%d.%m.%Y %H:%M:%S", "%d.%m.%Y %H:%M")
# Other ways to write times, whose day and month may be in either order.
_FORMATS = [
  f"{date} {clock}"
  for date in ("%d/%m/%Y", "%m/%d/%Y", "%d-%m-%Y", "%m-%d-%Y", "%Y/%m/%d", "%d/%m/%y", "%m/%d/%y")
  for clock in ("%H:%M", "%H:%M:%S", "%I:%M %p", "%I:%M:%S %p")
]
# Milliseconds per unit of time. Only one unit puts a number between the years 2001 and 2100.
_EPOCHS = {"s": 1e3, "ms": 1.0, "us": 1e-3, "ns": 1e-6}
_FIRST, _LAST = 978_307_200_000, 4_102_444_800_000


@dataclasses.dataclass(frozen=True)
class _Batch:
  """Rows of a table; `rows` has the columns by name and names a row in messages."""

  rows: csv_batches.CsvBatch
  channels: Sequence[str]  # of a wide table; empty for a long one

  def has(self, column: str) -> bool:
    return column in self.rows.columns.schema.names and self.rows[column].null_count < len(self.rows)

  def texts(self, column: str, default: str) -> pa.Array:
    """A column as text, `default` where it is empty or absent."""
    if not self.has(column):
      return pa.repeat(pa.scalar(default), len(self.rows))
    texts = pc.utf8_trim_whitespace(self.rows[column].cast(pa.string()))
    return pc.if_else(pc.equal(texts, ""), default, texts).fill_null(default)

  def people(self, default: str) -> pa.Array:
    """Whose the rows are: `default` in a file without the column, "" where a row of one with it does not say."""
    if "participant" not in self.rows.columns.schema.names:
      return self.texts("participant", default)
    texts = self.texts("participant", "")
    return pc.if_else(pc.is_in(texts, pa.array(sorted(NOBODY))), "", texts)


class LongTable:
  """Reads CSV or Parquet with columns time, channel and value (long), or time and one column per channel (wide)."""

  signals: Sequence[Signal] = SIGNALS
  devices: Sequence[str] = ()
  beside: Sequence[str] = ()

  def __init__(self, columns: Mapping[str, str] = types.MappingProxyType({}), time_format: str = ""):
    """An importer of tables.

    Args:
      columns: {name that has a meaning here, such as "time" or a channel: name of the column in the files}. If there
        are any, only tables with all of these columns are read, and only these columns of them.
      time_format: how times are written, as for strptime ("%d/%m/%Y %H:%M"); on the wall clock. Empty for those of the
        module's docstring.
    """
    self._renamed = {in_file: name for name, in_file in columns.items()}
    self._time_format = time_format
    if "%I" in time_format and "%p" not in time_format:
      raise SchemaError(
        f"--time_format={time_format!r}: has %I, hours of a 12-hour clock, without %p, AM or PM: morning and afternoon "
        "cannot be told apart; expected %H, or %I with %p"
      )

  def files(self, export: Export) -> list[str]:
    return [name for name in export.matching("*.csv", "*.tsv", "*.parquet") if self._is_table(_columns(export, name))]

  def owners(self, export: Export, names: Sequence[str]) -> dict[str, Owner]:
    return {n: Owner(in_rows=True) if self.has_participants(export, n) else Owner(n) for n in names}

  def unread_columns(self, export: Export, name: str) -> list[str]:
    """Columns of a file that it does not read."""
    columns = _columns(export, name)
    meaning = self._meaning(columns)
    _, required, optional = _chosen([*meaning.values()])
    return [column for column in columns if meaning.get(column, "") not in (*required, *optional)]

  def has_participants(self, export: Export, name: str) -> bool:
    """True if the rows of a file say whose they are."""
    return "participant" in self._meaning(_columns(export, name)).values()

  def people(self, export: Export, name: str) -> set[str]:
    """The names that the rows of a file give; none if it cannot be read, which reading it says."""
    in_file = {meaning: column for column, meaning in self._meaning(_columns(export, name)).items()}
    found: set[str] = set()
    with contextlib.suppress(SchemaError, pa.ArrowException, OSError, UnicodeDecodeError):
      for rows in _whole_columns(export, name, [in_file["participant"]]):
        texts = rows[in_file["participant"]].cast(pa.string())
        found.update(text.strip() for text in pc.unique(texts).to_pylist() if text)
    return found - NOBODY

  def read(self, export: Export, name: str, account: Account) -> Iterator[Readings]:
    units = {signal.name: signal.unit for signal in SIGNALS}
    clock_faces = _ClockFaces()
    columns = self._meaning(_columns(export, name))
    empty = dict.fromkeys(_chosen([*columns.values()])[0])
    _check_dates(export, name, columns, self._time_format)
    for batch in _batches(export, name, account, columns):
      times = _Times.of(batch, self._time_format)
      for channel in batch.channels or [""]:
        if channel in empty and not _is_empty(batch.rows[channel]):
          del empty[channel]
        for readings in _readings(batch, times, channel, units, export.participant, account):
          clock_faces.add(readings)
          yield readings
    for channel in empty:
      owner = "" if "participant" in columns.values() else export.participant
      account.remark(owner, f"column {one_line(channel, _LONGEST)!r} is empty")
    if people := clock_faces.ambiguous():
      account.remark(people[0] if len(people) == 1 else "", _TWELVE_HOURS)

  def _is_table(self, columns: Sequence[str]) -> bool:
    names = {*self._meaning(columns).values()}
    if self._renamed:
      return names >= {*self._renamed.values()}
    return "time" in names and ({"channel", "value"} <= names or "participant" in names)

  def _meaning(self, columns: Sequence[str]) -> dict[str, str]:
    """The meaning of a file's columns, by their names in the file, in the file's order."""
    if self._renamed:
      own = {key: key for key in _KEPT if key not in self._renamed.values()} | self._renamed
      return {column: own[column] for column in columns if column in own}
    times = [column for column in columns if column.lower() in _ALSO_TIME]
    alias = times[0] if "time" not in columns and len(times) == 1 else None
    return {column: "time" if column == alias else column for column in columns}


def _columns(export: Export, name: str) -> list[str]:
  if not name.lower().endswith(".parquet"):
    try:
      return csv_batches.read_header(export, name)
    except SchemaError:
      return []  # not text, so not a table
  try:
    with export.on_disk(name) as path:
      return pq.read_schema(path).names
  except (SchemaError, pa.ArrowException, OSError, UnicodeDecodeError):  # the last of damaged names of columns
    return []


def _whole_columns(export: Export, name: str, columns: Sequence[str]) -> Iterator[csv_batches.CsvBatch]:
  """Yields some columns of a file, batch by batch, of a CSV without its ragged rows."""
  if not name.lower().endswith(".parquet"):
    yield from csv_batches.read_batches(export, name, columns, texts=columns, ragged=lambda row, why: None)
    return
  first = 1
  with export.on_disk(name) as path, pq.ParquetFile(path) as file:
    for batch in file.iter_batches(_ROWS_PER_BATCH, columns=columns):
      plain = [_plain(batch.column(column), column, export.where(name)) for column in columns]
      yield csv_batches.CsvBatch(export.where(name), first, pa.record_batch(plain, [*columns]))
      first += batch.num_rows


def _chosen(columns: Sequence[str]) -> tuple[list[str], list[str], list[str]]:
  """The channels of a wide table, and the columns that are read: those that a table has to have, and others."""
  long = {"channel", "value"} <= set(columns)
  channels = [] if long else [column for column in columns if column and column not in _KEYS]
  required = ["time", *(("channel", "value") if long else channels)]
  return channels, required, [key for key in ("participant", "end", "device", *["unit"] * long) if key in columns]


def _batches(export: Export, name: str, account: Account, meaning: Mapping[str, str]) -> Iterator[_Batch]:
  check_reserved(meaning.values(), _KEYS, export.where(name))
  channels, required, optional = _chosen([*meaning.values()])
  if not required[1:]:
    raise SchemaError(f"{export.where(name)}: no channel; the header has {', '.join(_columns(export, name))}")
  in_file = {name: column for column, name in meaning.items()}
  needed = [in_file[name] for name in (*required, *optional) if name in in_file]
  if not name.lower().endswith(".parquet"):
    # A row that cannot be read does not say whose it is.
    owner = "" if "participant" in in_file else export.participant
    bad_rows = csv_batches.counting(account, owner, export, name)
    texts = [in_file[key] for key in _TEXTS if key in in_file]
    for rows in csv_batches.read_batches(export, name, needed, texts=texts, ragged=bad_rows):
      names = [meaning[column] for column in rows.columns.schema.names]
      yield _Batch(dataclasses.replace(rows, columns=rows.columns.rename_columns(names)), channels)
    return
  first = 1
  try:
    with export.on_disk(name) as path, pq.ParquetFile(path) as file:
      for batch in file.iter_batches(_ROWS_PER_BATCH, columns=needed):
        batch.validate(full=True)  # a reader trusts the file: text that is not UTF-8 would fail much later
        plain = [_plain(batch.column(column), column, export.where(name)) for column in batch.schema.names]
        table = pa.record_batch(plain, [meaning[column] for column in batch.schema.names])
        yield _Batch(csv_batches.CsvBatch(export.where(name), first, table), channels)
        first += batch.num_rows
  except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
    raise SchemaError(f"{export.where(name)}: not Parquet, or damaged: {str(error).splitlines()[0]}") from None


def _check_dates(export: Export, name: str, meaning: Mapping[str, str], time_format: str) -> None:
  """Refuses a table with a date that the format cannot be that of; the rest of its days would be in other months."""
  because = f"as --time_format={time_format!r} says" if time_format else "as dates with points have it"
  looked_for = orders_of_format(time_format or _DOTTED_FORMATS[0])
  columns = [column for column, name_here in meaning.items() if name_here in ("time", "end")]
  whole = export.part(export.names, export.participant)  # whose bytes no progress bar counts
  batches = _whole_columns(whole, name, columns) if columns else iter(())
  while (rows := _next_readable(batches)) is not None:
    texts = [column for column in columns if pa.types.is_string(rows[column].type)]
    if looked_for:
      order, day_first = looked_for
      order.add(rows, texts)
      order.check(day_first, because)
    if time_format:
      check_format(rows, texts, time_format, because)


def _next_readable(batches: Iterator[csv_batches.CsvBatch]) -> csv_batches.CsvBatch | None:
  """The next batch; None after the last that can be read, because reading the file says what is wrong with it."""
  with contextlib.suppress(SchemaError, pa.ArrowException, OSError, UnicodeDecodeError):
    return next(batches, None)
  return None


def _plain(column: pa.Array, name: str, where: str) -> pa.Array:
  """Converts a Parquet column to text, timestamps or numbers; SchemaError for lists, bytes and other types."""
  if pa.types.is_dictionary(column.type):
    column = column.dictionary_decode()
  if pa.types.is_large_string(column.type) or pa.types.is_string_view(column.type):
    return column.cast(pa.string())
  if pa.types.is_date(column.type):
    return column.cast(pa.timestamp("ms"))
  if pa.types.is_boolean(column.type) or pa.types.is_decimal(column.type) or pa.types.is_null(column.type):
    return column.cast(pa.float64())
  kinds = (pa.types.is_string, pa.types.is_integer, pa.types.is_floating, pa.types.is_timestamp)
  if not any(is_kind(column.type) for is_kind in kinds):
    raise SchemaError(f"{where}: column {name!r} holds {column.type}, expected text, times or numbers")
  return column


def _readings(
  batch: _Batch, times: _Times, wide: str, units: dict[str, str], participant: str, account: Account
) -> Iterator[Readings]:
  """Yields the readings of a long table's rows, or of one column of a wide table."""
  rows = batch.rows
  wide_channel, wide_unit = _channel_and_unit(wide)
  values = _Values.of(rows[wide or "value"], rows.where(0))
  counted = ~values.empty if wide else np.ones(len(rows), bool)
  columns = {
    "participant": batch.people(participant),
    "channel": batch.texts("channel", wide_channel),
    "unit": batch.texts("unit", wide_unit or "\0"),
    "device": batch.texts("device", ""),
  }
  clock = times.start
  for group in _groups([*columns.values(), pa.array(clock.kind)], counted):
    first = int(group[0])
    who, channel, unit, device = (column[first].as_py() for column in columns.values())
    unit = units.get(channel, "") if unit == "\0" else unit
    account.add(who, len(group))
    if not who:
      account.drop("", "no participant", len(group), rows.where(first))
      continue
    if not channel:
      account.drop(who, "no channel", len(group), rows.where(first))
      continue
    good = np.ones(len(group), bool)
    for why, bad in (*times.bad, *values.bad(channel, unit)):
      dropped = good & bad[group]
      if dropped.any():
        account.drop(who, why, int(dropped.sum()), rows.where(int(group[dropped.argmax()])))
        good &= ~dropped
    group = group[good]
    if not len(group):
      continue
    yield Readings(
      participant=who,
      signal=channel,
      unit=unit,
      start=clock.ms[group],
      end=times.end[group],
      value=values.number[group],
      device=device,
      offset=clock.offset[group] if clock.kind[first] == _OFFSET else None,
      clock="wall" if clock.kind[first] == _WALL else "utc",
    )


def _channel_and_unit(column: str) -> tuple[str, str]:
  """Channel and unit from the header of a wide table's column; the unit is "" unless it is given in brackets."""
  match = re.fullmatch(r"(.*\S)\s*\[(.+)\]", column)
  return (match[1], match[2]) if match else (column, "")


_WALL, _UTC, _OFFSET = range(3)
_TWELVE_HOURS = (
  "all times are from 01:00 to 12:59, and most occur twice: probably a 12-hour clock without AM and PM, which folds "
  "each day into its first half; export it with a 24-hour clock, or with AM and PM (--time_format with %I and %p)"
)


class _ClockFaces:
  """Finds people in a file whose times are probably those of a 12-hour clock without AM and PM."""

  def __init__(self) -> None:
    self._times: dict[tuple[str, str], list[np.ndarray]] = {}  # by participant and channel
    self._possible = True

  def add(self, readings: Readings) -> None:
    """Takes note of the times of readings of the file."""
    hour = readings.start // (60 * MINUTE) % 24
    if readings.clock != "wall" or ((hour < 1) | (hour > 12)).any():
      self._possible, self._times = False, {}  # of a long file the first block tells
    if self._possible:
      self._times.setdefault((readings.participant, readings.signal), []).append(readings.start)

  def ambiguous(self) -> list[str]:
    """The people of whom most times, before and after noon, occur twice."""
    found = set()
    for (participant, _), blocks in self._times.items():
      times, count = np.unique(np.concatenate(blocks), return_counts=True)
      if len({*(times // (60 * MINUTE) % 24)}) == 12 and 2 * (count == 2).sum() >= len(times):
        found.add(participant)
    return sorted(found)


@dataclasses.dataclass(frozen=True)
class _Clock:
  """A column of n times: ms as in Readings, minutes ahead of UTC, kind of clock, and which rows have no valid time."""

  ms: Int64[np.ndarray, "n"]
  offset: Int64[np.ndarray, "n"]
  kind: Int64[np.ndarray, "n"]
  bad: Bool[np.ndarray, "n"]
  empty: Bool[np.ndarray, "n"]

  @classmethod
  def of(cls, batch: _Batch, name: str, time_format: str) -> _Clock:
    column = batch.rows[name]
    if pa.types.is_timestamp(column.type):
      return cls._of_stamps(column)
    if not pa.types.is_string(column.type):
      return cls._of_numbers(column.cast(pa.float64(), safe=False))
    column = pc.utf8_trim_whitespace(column).cast(pa.string())
    empty = pc.equal(column, "").fill_null(True).to_numpy(zero_copy_only=False)
    if time_format or pc.any(pc.match_substring_regex(column, _DOTTED)).as_py():
      found = cls._of_text(column, *([time_format] if time_format else _DOTTED_FORMATS), empty=empty)
    else:
      clock, offset, zoned, bad = csv_batches.parse_zoned_times(column)
      kind = np.where(zoned, np.where(offset == 0, _UTC, _OFFSET), _WALL)
      found = cls(clock - MINUTE * offset, offset, kind, bad, empty)
    if (
      not time_format and pc.any(is_number := pc.match_substring_regex(column, _EPOCH_NUMBER).fill_null(False)).as_py()
    ):
      found = found.where(is_number.to_numpy(zero_copy_only=False), cls._of_numbers(_numbers(column)))
    if len(found.bad) and found.bad.all() and not empty.all():
      raise SchemaError(f"{batch.rows.where(int((~empty).argmax()))}: column {name!r}: {_fault(column, time_format)}")
    return found

  @classmethod
  def _of_text(cls, column: pa.StringArray, *formats: str, empty: Bool[np.ndarray, "n"]) -> _Clock:
    clock, bad = csv_batches.parse_times(column, *formats)
    return cls(clock, np.zeros_like(clock), np.full_like(clock, _WALL), bad, empty)

  def where(self, rows: Bool[np.ndarray, "n"], other: _Clock) -> _Clock:
    """The other clock in some rows, and this one in the rest."""
    pairs = [(getattr(self, field.name), getattr(other, field.name)) for field in dataclasses.fields(self)]
    ms, offset, kind, bad, _ = (np.where(rows, theirs, own) for own, theirs in pairs)
    return _Clock(ms, offset, kind, bad, self.empty)

  @classmethod
  def _of_stamps(cls, column: pa.Array) -> _Clock:
    kind = _WALL if column.type.tz is None else _UTC
    plain = pa.timestamp(column.type.unit)
    ms = column.cast(pa.int64()).fill_null(0).to_numpy(zero_copy_only=False)
    per_second = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}[plain.unit]
    ms = ms // (per_second // 1000) if per_second > 1000 else ms * (1000 // per_second)
    bad = column.is_null().to_numpy(zero_copy_only=False)
    return cls(ms, np.zeros_like(ms), np.full_like(ms, kind), bad, bad)

  @classmethod
  def _of_numbers(cls, column: pa.Array) -> _Clock:
    number = column.fill_null(np.nan).to_numpy(zero_copy_only=False)
    ms, bad = np.zeros(len(number), np.int64), np.ones(len(number), bool)
    for factor in _EPOCHS.values():
      fits = (number * factor >= _FIRST) & (number * factor < _LAST)
      ms[fits], bad[fits] = np.round(number[fits] * factor).astype(np.int64), False
    empty = np.isnan(number)
    return cls(ms, np.zeros_like(ms), np.full_like(ms, _UTC), bad, empty)


def _numbers(column: pa.StringArray) -> pa.Array:
  return pa.array(csv_batches.parse_numbers(column)[0])


def _fault(column: pa.StringArray, time_format: str) -> str:
  """Describes the content of a column that holds no times, and how to have it read."""
  texts = [text for text in column.to_pylist() if text]
  if time_format:
    return f"found {texts[0]!r}, expected times such as --time_format={time_format!r} describes"
  neither = f"found {texts[0]!r}, which is neither ISO 8601 nor seconds or ms since 1970"
  if all(re.fullmatch(r"[0-9]{5}([.,][0-9]+)?", text) for text in texts):
    return f"{neither}; it may be a spreadsheet's count of days: show the column as yyyy-mm-dd hh:mm:ss and save again"
  times = {form: csv_batches.parse_times(pa.array(texts), form) for form in _FORMATS}
  fitting = [form for form, (ms, bad) in times.items() if not bad.any() and ms.min() >= _FIRST and ms.max() < _LAST]
  formats = " or ".join(f"'{form}'" for form in fitting)
  return neither + f"; say how it is written: --time_format={formats}" * bool(fitting)


@dataclasses.dataclass(frozen=True)
class _Times:
  """Start and end of readings, and for each reason the rows where they are unknown."""

  start: _Clock
  end: Int64[np.ndarray, "n"]
  bad: Sequence[tuple[str, Bool[np.ndarray, "n"]]]

  @classmethod
  def of(cls, batch: _Batch, time_format: str) -> _Times:
    start = _Clock.of(batch, "time", time_format)
    if not batch.has("end"):
      return cls(start, start.ms, [("no time", start.bad)])
    end = _Clock.of(batch, "end", time_format)
    no_end = ~end.empty & (end.bad | (end.kind != start.kind))
    return cls(start, np.where(end.empty, start.ms, end.ms), [("no time", start.bad), ("no end", no_end)])


@dataclasses.dataclass(frozen=True)
class _Values:
  """A column of values.

  Attributes:
    number: the numbers, NaN where there is none.
    empty: where the field is empty.
    no_value: where there is nothing, or a word for it.
    percent: where a percent sign follows the number.
    comma: where a comma, or several, are in the number, so that it is not read.
    other: where there is other text.
  """

  number: Float64[np.ndarray, "n"]
  empty: Bool[np.ndarray, "n"]
  no_value: Bool[np.ndarray, "n"]
  percent: Bool[np.ndarray, "n"]
  comma: Bool[np.ndarray, "n"]
  other: Bool[np.ndarray, "n"]

  @classmethod
  def of(cls, column: pa.Array, where: str) -> _Values:
    """The values of a column; `where` names its first row in messages.

    Raises:
      SchemaError: the column holds times.
    """
    if pa.types.is_timestamp(column.type):
      raise SchemaError(f"{where}: values are {column.type}, expected numbers")
    if not pa.types.is_string(column.type):
      number = column.cast(pa.float64(), safe=False).fill_null(np.nan).to_numpy(zero_copy_only=False)
      no_value, nowhere = ~np.isfinite(number), np.zeros(len(number), bool)
      return cls(np.where(no_value, np.nan, number), np.isnan(number), no_value, nowhere, nowhere, nowhere)
    number, bad = csv_batches.parse_numbers(column)
    if not bad.any():
      return cls(number, bad, bad, bad, bad, bad)
    texts = pc.utf8_trim_whitespace(column).fill_null("")
    empty, word, percent, comma = (_matches(texts, form) & bad for form in (_EMPTY, _NO_VALUE, _PERCENT, _COMMAS))
    if percent.any():
      number = np.where(percent, csv_batches.parse_numbers(pc.replace_substring_regex(texts, r"\s*%$", ""))[0], number)
    return cls(number, empty, empty | word, percent, comma, bad & ~(empty | word | percent | comma))

  def bad(self, channel: str, unit: str) -> list[tuple[str, Bool[np.ndarray, "n"]]]:
    """The rows without a value of a channel in a unit, by reason. Numbers with a percent sign are values in %."""
    channel, unit = one_line(channel, _LONGEST), one_line(unit, _LONGEST)
    reasons = [("no value", self.no_value), (f"{channel}: a comma in the number", self.comma)]
    if unit != "%":
      reasons.append((f"{channel}: a percent sign, although the unit is {unit or 'none'}", self.percent))
    return [*reasons, (f"{channel}: text that is no number", self.other)]


def _is_empty(column: pa.Array) -> bool:
  """True if no field of a column holds anything."""
  if pa.types.is_string(column.type):
    column = pc.if_else(pc.equal(pc.utf8_trim_whitespace(column), ""), None, column)
  elif pa.types.is_floating(column.type):
    column = pc.if_else(pc.is_nan(column), None, column)
  return column.null_count == len(column)


def _matches(texts: pa.StringArray, form: str) -> Bool[np.ndarray, "n"]:
  return pc.match_substring_regex(texts, form).to_numpy(zero_copy_only=False)


def _groups(columns: Sequence[pa.Array], counted: Bool[np.ndarray, "n"]) -> Iterator[Int64[np.ndarray, "k"]]:
  """Yields groups of rows that agree in all columns, each in file order."""
  rows = np.flatnonzero(counted)
  if not len(rows):
    return
  code = np.zeros(len(counted), np.int64)
  for column in columns:
    texts = column.dictionary_encode()
    code = code * len(texts.dictionary) + texts.indices.to_numpy()
    code = np.unique(code, return_inverse=True)[1]  # renumbered, so that the next product stays small
  order = rows[np.argsort(code[rows], kind="stable")]
  yield from np.split(order, np.flatnonzero(np.diff(code[order])) + 1)
