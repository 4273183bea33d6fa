"""Tables of readings, CSV or Parquet, either long (one row per reading) or wide (one column per channel).

  participant   text, optional; defaults to the name of the export
  time          ISO 8601 ("2024-03-01 08:15:00.5" is on the wall clock; with an offset such as +02:00 it is an instant
                and the wall clock's lead over UTC; with Z or +00:00 it is UTC), or seconds, ms, us or ns since 1970
                UTC, whichever gives a year from 2001 to 2100. Parquet: text, numbers, or timestamps, zoned or not
  end           like time, for readings with a duration; optional, may be empty
  device        text, optional; if two devices report the same step, the first by name counts
  channel, value, unit   long tables: name, number, and optionally unit (default: the channel's own, see SIGNALS)
  any other     wide tables: a channel of this name, in its own unit or in that of the header, "glucose [mg/dL]"; an
                empty field is not a reading

Columns that are not read are told: others of a long table, `channel`, `value` and `unit` of a wide one, and those
without a name.

In the account a row of a wide table counts once per non-empty field. The order of rows does not matter. UTC times
without an offset are converted to the wall clock of --timezone.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from jaxtyping import Bool, Int64

from data_pipelines.errors import SchemaError
from data_pipelines.ingest.reading import csv_batches
from data_pipelines.ingest.reading.account import Account
from data_pipelines.ingest.reading.export_files import Export
from data_pipelines.ingest.reading.readings import Readings
from data_pipelines.ingest.reading.signals import Signal, common_signal
from data_pipelines.text_files import check_reserved

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
_ROWS_PER_BATCH = 2**17
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


class LongTable:
  """Reads CSV or Parquet with columns time, channel and value (long), or time and one column per channel (wide)."""

  signals: Sequence[Signal] = SIGNALS
  devices: Sequence[str] = ()
  beside: Sequence[str] = ()

  def files(self, export: Export) -> list[str]:
    return [name for name in export.matching("*.csv", "*.parquet") if _is_table(_columns(export, name))]

  def unread_columns(self, export: Export, name: str) -> list[str]:
    """Columns of a file that it does not read."""
    columns = _columns(export, name)
    _, required, optional = _chosen(columns)
    return [column for column in columns if column not in (*required, *optional)]

  def read(self, export: Export, name: str, account: Account) -> Iterator[Readings]:
    units = {signal.name: signal.unit for signal in SIGNALS}
    for batch in _batches(export, name, account):
      times = _Times.of(batch)
      for channel in batch.channels or [""]:
        yield from _readings(batch, times, channel, units, export.participant, account)


def _is_table(columns: Sequence[str]) -> bool:
  return "time" in columns and ({"channel", "value"} <= set(columns) or "participant" in columns)


def _columns(export: Export, name: str) -> list[str]:
  if not name.lower().endswith(".parquet"):
    try:
      return csv_batches.read_header(export, name)
    except SchemaError:
      return []  # not text, so not a table
  try:
    with export.on_disk(name) as path:
      return pq.read_schema(path).names
  except (pa.ArrowException, OSError, UnicodeDecodeError):  # the last of damaged names of columns
    return []


def _chosen(columns: Sequence[str]) -> tuple[list[str], list[str], list[str]]:
  """The channels of a wide table, and the columns that are read: those that a table has to have, and others."""
  long = {"channel", "value"} <= set(columns)
  channels = [] if long else [column for column in columns if column and column not in _KEYS]
  required = ["time", *(("channel", "value") if long else channels)]
  return channels, required, [key for key in ("participant", "end", "device", *["unit"] * long) if key in columns]


def _batches(export: Export, name: str, account: Account) -> Iterator[_Batch]:
  columns = _columns(export, name)
  check_reserved(columns, _KEYS, export.where(name))
  channels, required, optional = _chosen(columns)
  if not required[1:]:
    raise SchemaError(f"{export.where(name)}: no channel; the header has {', '.join(columns)}")
  if not name.lower().endswith(".parquet"):
    # A row that cannot be read does not say whose it is.
    owner = "" if "participant" in columns else export.participant
    bad_rows = csv_batches.counting(account, owner, export, name)
    for rows in csv_batches.read_batches(export, name, [*required, *optional], ragged=bad_rows):
      yield _Batch(rows, channels)
    return
  first = 1
  try:
    with export.on_disk(name) as path, pq.ParquetFile(path) as file:
      for batch in file.iter_batches(_ROWS_PER_BATCH, columns=[*required, *optional]):
        batch.validate(full=True)  # a reader trusts the file: text that is not UTF-8 would fail much later
        plain = [_plain(batch.column(column), column, export.where(name)) for column in batch.schema.names]
        yield _Batch(
          csv_batches.CsvBatch(export.where(name), first, pa.record_batch(plain, batch.schema.names)), channels
        )
        first += batch.num_rows
  except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
    raise SchemaError(f"{export.where(name)}: not Parquet, or damaged: {str(error).splitlines()[0]}") from None


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
  value, no_value, empty = _values(rows[wide or "value"], rows.where(0))
  counted = ~empty if wide else np.ones(len(rows), bool)
  columns = {
    "participant": batch.texts("participant", participant),
    "channel": batch.texts("channel", wide_channel),
    "unit": batch.texts("unit", wide_unit or "\0"),
    "device": batch.texts("device", ""),
  }
  clock = times.start
  for group in _groups([*columns.values(), pa.array(clock.kind)], counted):
    first = int(group[0])
    who, channel, unit, device = (column[first].as_py() for column in columns.values())
    account.add(who, len(group))
    good = np.ones(len(group), bool)
    for why, bad in (*times.bad, ("no value", no_value)):
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
      unit=units.get(channel, "") if unit == "\0" else unit,
      start=clock.ms[group],
      end=times.end[group],
      value=value[group],
      device=device,
      offset=clock.offset[group] if clock.kind[first] == _OFFSET else None,
      clock="wall" if clock.kind[first] == _WALL else "utc",
    )


def _channel_and_unit(column: str) -> tuple[str, str]:
  """Channel and unit from the header of a wide table's column; the unit is "" unless it is given in brackets."""
  match = re.fullmatch(r"(.*\S)\s*\[(.+)\]", column)
  return (match[1], match[2]) if match else (column, "")


_WALL, _UTC, _OFFSET = range(3)


@dataclasses.dataclass(frozen=True)
class _Clock:
  """A column of n times: ms as in Readings, minutes ahead of UTC, kind of clock, and which rows have no valid time."""

  ms: Int64[np.ndarray, "n"]
  offset: Int64[np.ndarray, "n"]
  kind: Int64[np.ndarray, "n"]
  bad: Bool[np.ndarray, "n"]
  empty: Bool[np.ndarray, "n"]

  @classmethod
  def of(cls, batch: _Batch, name: str) -> _Clock:
    column = batch.rows[name]
    if pa.types.is_timestamp(column.type):
      return cls._of_stamps(column)
    if not pa.types.is_string(column.type):
      return cls._of_numbers(column.cast(pa.float64(), safe=False))
    column = pc.utf8_trim_whitespace(column).cast(pa.string())
    empty = pc.equal(column, "").fill_null(True).to_numpy(zero_copy_only=False)
    if pc.any(pc.match_substring_regex(column, r"^[0-9]{9,19}(\.[0-9]*)?$")).as_py():
      numbers = pa.array(csv_batches.parse_numbers(column)[0])
      return dataclasses.replace(cls._of_numbers(numbers), empty=empty)
    clock, offset, zoned, bad = csv_batches.parse_zoned_times(column)
    if len(bad) and bad.all() and not empty.all():
      raise SchemaError(f"{batch.rows.where(0)}: column {name!r} holds neither ISO 8601 nor seconds or ms since 1970")
    kind = np.where(zoned, np.where(offset == 0, _UTC, _OFFSET), _WALL)
    return cls(clock - 60_000 * offset, offset, kind, bad, empty)

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


@dataclasses.dataclass(frozen=True)
class _Times:
  """When readings start and end, and for each reason the rows where that is unknown."""

  start: _Clock
  end: Int64[np.ndarray, "n"]
  bad: Sequence[tuple[str, Bool[np.ndarray, "n"]]]

  @classmethod
  def of(cls, batch: _Batch) -> _Times:
    start = _Clock.of(batch, "time")
    if not batch.has("end"):
      return cls(start, start.ms, [("no time", start.bad)])
    end = _Clock.of(batch, "end")
    no_end = ~end.empty & (end.bad | (end.kind != start.kind))
    return cls(start, np.where(end.empty, start.ms, end.ms), [("no time", start.bad), ("no end", no_end)])


def _values(column: pa.Array, where: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
  """Numbers, where there is none, and where the field is empty."""
  if pa.types.is_string(column.type):
    value, bad = csv_batches.parse_numbers(column)
    return value, bad, pc.equal(pc.utf8_trim_whitespace(column), "").fill_null(True).to_numpy(zero_copy_only=False)
  if pa.types.is_timestamp(column.type):
    raise SchemaError(f"{where}: values are {column.type}, expected numbers")
  value = column.cast(pa.float64(), safe=False).fill_null(np.nan).to_numpy(zero_copy_only=False)
  bad = ~np.isfinite(value)
  return np.where(bad, np.nan, value), bad, np.isnan(value)


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
