"""Days in the bodies of requests, and results in those of responses, as JSON or as an Arrow IPC stream.

JSON is an object with the key `days`: a list of days, each a list of steps that are lists of channels, or each an
object {channel: values}; null is missing. An Arrow stream is a table with a row per day and a list column per channel.
"""

from __future__ import annotations

import dataclasses
import difflib
import json
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

import numpy as np
import pyarrow as pa
from jaxtyping import Float

from data_pipelines.errors import SchemaError, first_line, is_whole
from data_pipelines.text_files import parse_json

JSON, ARROW = "application/json", "application/vnd.apache.arrow.stream"
# By Arrow's specification. A stream may end without it, but cannot be told from one that was cut then.
_END_OF_STREAM = b"\xff\xff\xff\xff\0\0\0\0"
KEYS = ("days", "channels", "minutes_per_step", "units")


@dataclasses.dataclass(frozen=True)
class Message:
  """The days of a request.

  Attributes:
    values: in the caller's units, NaN where missing; float32 if an Arrow stream has nothing wider.
    channels: their names, if the caller gave them.
    minutes_per_step: likewise.
    units: likewise.
    form: what responses are like: "arrays", "objects" or "arrow".
  """

  values: Float[np.ndarray, "days steps channels"]
  channels: tuple[str, ...] | None
  minutes_per_step: int | None
  units: Mapping[str, str] | None
  form: str

  @property
  def media_type(self) -> str:
    """Media type of the response's body."""
    return ARROW if self.form == "arrow" else JSON

  @property
  def described(self) -> bool:
    """True if the caller says more of the days than their values."""
    return (self.channels, self.minutes_per_step, self.units) != (None, None, None)

  def embeddings(self, embedding: Float[np.ndarray, "days width"], notes: Sequence[str]) -> bytes:
    """The body of a response with one embedding per day."""
    if self.form != "arrow":
      return _to_json({"embeddings": embedding, **_noted(notes)})
    return _to_arrow({"embedding": embedding}, notes)

  def days(self, filled: Float[np.ndarray, "days steps channels"], notes: Sequence[str]) -> bytes:
    """The body of a response with filled days, in the form in which they came."""
    if self.form == "arrays":
      return _to_json({"days": np.ascontiguousarray(filled), **_noted(notes)})
    assert self.channels is not None  # the other forms have names
    if self.form == "arrow":
      return _to_arrow(dict(zip(self.channels, filled.transpose(2, 0, 1), strict=True)), notes)
    by_channel = np.ascontiguousarray(filled.transpose(0, 2, 1))
    return _to_json({"days": [dict(zip(self.channels, day, strict=True)) for day in by_channel], **_noted(notes)})


class TooManyDays(SchemaError):
  """A request has more days than a request may have."""


def read(body: bytes, media_type: str, most_days: int) -> Message:
  """Reads the body of a request.

  Args:
    body: as it was sent.
    media_type: JSON or ARROW.
    most_days: that a request may have.

  Raises:
    TooManyDays: it has more.
    SchemaError: it is malformed; the message names the key, day or channel.
  """
  return _from_arrow(body, most_days) if media_type == ARROW else _from_json(body, most_days)


def _from_json(body: bytes, most_days: int) -> Message:
  import orjson

  try:
    content = orjson.loads(body)
  except orjson.JSONDecodeError as error:
    raise SchemaError(f"body: is no JSON: {first_line(error, 200)}") from None
  if not isinstance(content, dict):
    raise SchemaError('body: expected a JSON object with the key "days"')
  _refuse_repeated_keys(body, content)
  for key in content:
    if key not in KEYS:
      near = difflib.get_close_matches(key, KEYS, 1)
      meant = f"; did you mean {near[0]!r}?" if near else f", expected {', '.join(KEYS)}"
      raise SchemaError(f"body: unknown key {key[:80]!r}{meant}")
  days, channels = content.get("days"), content.get("channels")
  minutes, units = content.get("minutes_per_step"), content.get("units")
  if not isinstance(days, list):
    raise SchemaError(f"days: {_said(days, content, 'days')}, expected a list of days")
  if not days:
    raise SchemaError("days: there are none")
  _check_count(len(days), most_days)
  if channels is not None and not (isinstance(channels, list) and all(isinstance(name, str) for name in channels)):
    raise SchemaError("channels: expected a list of names")
  if minutes is not None and not is_whole(minutes):
    raise SchemaError(f"minutes_per_step: is {json.dumps(minutes)[:80]}, expected a whole number")
  if units is not None and not (isinstance(units, dict) and all(isinstance(unit, str) for unit in units.values())):
    raise SchemaError("units: expected an object of channels and their units")
  if b"true" in body or b"false" in body:  # Arrow takes them for 1 and 0
    _refuse_booleans(days)
  if isinstance(days[0], dict):
    if channels is not None:
      raise SchemaError("channels: the days are objects, which name their channels themselves")
    names, values = _from_objects(days)
    return Message(values, names, minutes, units, "objects")
  return Message(_from_lists(days), None if channels is None else tuple(channels), minutes, units, "arrays")


def _refuse_repeated_keys(body: bytes, content: Mapping[str, Any]) -> None:
  """Raises SchemaError if an object of the body has a key twice, of which orjson keeps the last alone.

  A repeated key leaves fewer strings than the body's quotes enclose. So most bodies are only counted, and one whose
  count differs is read again by a parser that tells.
  """
  days, channels, units = (content.get(key) for key in ("days", "channels", "units"))
  strings = len(content) + (len(channels) if isinstance(channels, list) else 0)
  strings += 2 * len(units) if isinstance(units, dict) else 0
  strings += sum(len(day) for day in days if isinstance(day, dict)) if isinstance(days, list) else 0
  if body.count(b'"') != 2 * strings:
    parse_json(body.decode(), "body")


def _said(value: Any, content: Mapping[str, Any], key: str) -> str:
  return f"is {json.dumps(value)[:40]}" if key in content else "is missing"


def _check_count(days: int, most_days: int) -> None:
  if days > most_days:
    raise TooManyDays(f"days: {days:,} of them, expected at most {most_days:,} per request")


def _from_lists(days: list[Any]) -> Float[np.ndarray, "days steps channels"]:
  """Days as lists of steps of channels."""
  try:
    nested = pa.array(days, pa.list_(pa.list_(pa.float64())))
    by_step = nested.flatten()
    channels = _one_length(by_step)
    steps = _one_length(nested)
  except (pa.ArrowException, TypeError, ValueError, OverflowError):
    _refuse_lists(days)
  if channels is None or steps is None:
    _refuse_lists(days)
  return _numbers(by_step.flatten()).reshape(len(days), steps, channels)


def _one_length(lists: pa.Array) -> int | None:
  """The length of every list of an array; None if they differ."""
  lengths = lists.value_lengths().to_numpy(zero_copy_only=False)
  return int(lengths[0]) if len(lengths) and (lengths == lengths[0]).all() else None


def _numbers(values: pa.Array) -> Float[np.ndarray, " count"]:
  """Values with NaN for null."""
  return values.to_numpy(zero_copy_only=False)


def _refuse_lists(days: list[Any]) -> NoReturn:
  """Says what is wrong with days that are no array of numbers.

  Raises:
    SchemaError: always.
  """
  first = days[0]
  steps = len(first) if isinstance(first, list) else 0
  channels = len(first[0]) if steps and isinstance(first[0], list) else 0
  for d, day in enumerate(days):
    if not isinstance(day, list) or not day:
      raise SchemaError(f"days[{d}]: is {_kind(day)}, expected a list of steps")
    if len(day) != steps:
      raise SchemaError(f"days[{d}]: has {len(day):,} steps, days[0] has {steps:,}")
    for s, step in enumerate(day):
      if not isinstance(step, list) or not step:
        raise SchemaError(f"days[{d}][{s}]: is {_kind(step)}, expected a list with a number or null per channel")
      if len(step) != channels:
        raise SchemaError(f"days[{d}][{s}]: has {len(step):,} channels, days[0][0] has {channels:,}")
      _check_numbers(step, f"days[{d}][{s}]")
  raise SchemaError("days: are no array of numbers")


def _check_numbers(values: list[Any], where: str) -> None:
  """Raises SchemaError for the first of them that is neither a number of 64 bits nor null."""
  for i, value in enumerate(values):
    try:
      if not isinstance(value, bool):
        pa.scalar(value, pa.float64())
        continue
    except (pa.ArrowException, TypeError, ValueError, OverflowError):
      pass
    raise SchemaError(f"{where}[{i}]: is {_kind(value)}, expected a number or null")


def _refuse_booleans(days: list[Any]) -> None:
  """Raises SchemaError for the first true or false among the values."""
  for d, day in enumerate(days):
    parts = day.items() if isinstance(day, dict) else enumerate(day) if isinstance(day, list) else ()
    for name, values in parts:
      if isinstance(values, list) and bool in map(type, values):
        where = f"days[{d}] channel {name[:80]!r}" if isinstance(name, str) else f"days[{d}][{name}]"
        _check_numbers(values, where)


def _kind(value: Any) -> str:
  if isinstance(value, list | dict):
    return ("an empty " if not value else "a ") + ("list" if isinstance(value, list) else "object")
  return json.dumps(value)[:40]


def _from_objects(days: list[Any]) -> tuple[tuple[str, ...], Float[np.ndarray, "days steps channels"]]:
  """Days as {channel: values}; a channel that a day lacks is missing in it."""
  for d, day in enumerate(days):
    if not isinstance(day, dict) or not day:
      raise SchemaError(f"days[{d}]: is {_kind(day)}, expected an object of channels, as days[0] is")
  names = tuple(dict.fromkeys(name for day in days for name in day))
  lengths = {name: len(day[name]) for day in days for name in day if isinstance(day[name], list)}
  steps = next(iter(lengths.values()), 0)
  values = np.full((len(days), steps, len(names)), np.nan)
  for d, day in enumerate(days):
    for c, name in enumerate(names):
      if name in day:
        values[d, :, c] = _channel(day[name], steps, f"days[{d}] channel {name[:80]!r}")
  return names, values


def _channel(values: Any, steps: int, where: str) -> Float[np.ndarray, " steps"]:
  if not isinstance(values, list):
    raise SchemaError(f"{where}: is {_kind(values)}, expected a list with a number or null per step")
  if len(values) != steps:
    raise SchemaError(f"{where}: has {len(values):,} steps, expected {steps:,} as the others have")
  try:
    return _numbers(pa.array(values, pa.float64()))
  except (pa.ArrowException, TypeError, ValueError, OverflowError):
    _check_numbers(values, where)
    raise SchemaError(f"{where}: are no numbers") from None


def _from_arrow(body: bytes, most_days: int) -> Message:
  """Days of an Arrow stream. The unit of a channel may be in its field's metadata, under `unit`."""
  if body[:4] != _END_OF_STREAM[:4]:
    raise SchemaError("body: is no Arrow IPC stream: it begins otherwise; the format before version 0.15 is not read")
  source = pa.BufferReader(body)
  try:
    with pa.ipc.open_stream(source) as reader:
      batches, days = [], 0
      for batch in reader:
        days += batch.num_rows
        _check_count(days, most_days)
        batch.validate(full=True)  # Arrow trusts offsets and lengths, and reads outside the body where they are wrong
        batches.append(batch)
      table = pa.Table.from_batches(batches, reader.schema).combine_chunks()
      if not body.endswith(_END_OF_STREAM, 0, source.tell()):
        raise SchemaError(
          f"body: the Arrow IPC stream ends after {days} days without its end mark, so some may be lacking"
        )
      if source.tell() < len(body):
        raise SchemaError(f"body: {len(body) - source.tell():,} bytes follow the end of the Arrow IPC stream")
  except SchemaError:
    raise
  except (pa.ArrowException, OSError, ValueError) as error:
    raise SchemaError(f"body: is no Arrow IPC stream: {first_line(error, 200)}") from None
  if not table.num_rows or not table.num_columns:
    raise SchemaError(
      f"body: has {table.num_rows} days and {table.num_columns} channels, expected at least one of each"
    )
  names = tuple(table.column_names)
  columns = [_column(table.column(c), f"column {name[:80]!r}") for c, name in enumerate(names)]
  lengths = {column.shape[1] for column in columns}
  if len(lengths) > 1:
    c = next(c for c, column in enumerate(columns) if column.shape != columns[0].shape)
    raise SchemaError(
      f"column {names[c]!r}: has {columns[c].shape[1]:,} steps, column {names[0]!r} has {columns[0].shape[1]:,}"
    )
  # Others may add metadata of their own; but what means something in JSON must not be overlooked here.
  for key in KEYS:
    if key.encode() in (table.schema.metadata or {}):
      raise SchemaError(f"body: metadata {key!r} of the stream is not read, only 'unit' of a column; send JSON")
  units = {}
  for field in table.schema:
    metadata = field.metadata or {}
    if b"units" in metadata and b"unit" not in metadata:
      raise SchemaError(f"column {field.name[:80]!r}: metadata 'units', expected 'unit'")
    if unit := metadata.get(b"unit"):
      units[field.name] = unit.decode("utf-8", "replace")
  return Message(np.stack(columns, axis=-1), names, None, units or None, "arrow")


def _column(column: pa.ChunkedArray, where: str) -> Float[np.ndarray, "days steps"]:
  kind = column.type
  is_list = pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
  number = is_list and (pa.types.is_floating(kind.value_type) or pa.types.is_integer(kind.value_type))
  if not number:
    raise SchemaError(f"{where}: is {kind}, expected a list of numbers in each row")
  lists = column.combine_chunks()
  if isinstance(lists, pa.ChunkedArray):  # without a row
    lists = lists.chunk(0)
  steps = kind.list_size if pa.types.is_fixed_size_list(kind) else _one_length(lists)
  if lists.null_count:
    row = lists.is_null().to_pylist().index(True)
    raise SchemaError(f"{where}: row {row} is null, expected a list, of nulls where a day lacks the channel")
  if steps is None:
    raise SchemaError(f"{where}: has rows of different lengths, expected one length and nulls for missing values")
  narrow = pa.types.is_float32(kind.value_type) or pa.types.is_float16(kind.value_type)
  values = lists.flatten().cast(pa.float32() if narrow else pa.float64(), safe=False)
  return _numbers(values).reshape(len(lists), steps)


def _noted(notes: Sequence[str]) -> dict[str, list[str]]:
  return {"notes": list(notes)} if notes else {}


def _to_json(content: Mapping[str, Any]) -> bytes:
  import orjson

  return orjson.dumps(content, option=orjson.OPT_SERIALIZE_NUMPY)


def _to_arrow(columns: Mapping[str, Float[np.ndarray, "days numbers"]], notes: Sequence[str]) -> bytes:
  """A stream of one record batch with a list column for each of the arrays."""
  lists = [
    pa.FixedSizeListArray.from_arrays(pa.array(np.ascontiguousarray(array).reshape(-1)), array.shape[1])
    for array in columns.values()
  ]
  batch = pa.record_batch(lists, names=list(columns))
  if notes:
    batch = batch.replace_schema_metadata({"notes": json.dumps(list(notes))})
  sink = pa.BufferOutputStream()
  with pa.ipc.new_stream(sink, batch.schema) as writer:
    writer.write_batch(batch)
  return sink.getvalue().to_pybytes()
