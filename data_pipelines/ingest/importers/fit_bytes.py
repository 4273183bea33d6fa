"""Takes FIT files apart, byte by byte, and keeps what is good of those that are unfinished or damaged.

The format is described at https://developer.garmin.com/fit/protocol: a header (size, length of the records, ".FIT"),
records, and a checksum; several such files may follow one another. A record is a definition, which lists the fields of
the messages of one of 16 local types, or a message. Names, scales, enumerations and "invalid" values are those of the
profile in Garmin's SDK, whose own decoder stops at compressed timestamps and at the first fault (decision 085).
"""

from __future__ import annotations

import collections
import dataclasses
import struct
from collections.abc import Collection, Iterator, Mapping
from typing import Any

import garmin_fit_sdk as sdk
from garmin_fit_sdk import fit as sdk_types

MOST_MESSAGES = 500_000  # one per second for five days
ZEROS = "zeros behind a FIT file"
NOT_FIT = "bytes that are no FIT file"
TOO_MANY = f"FIT messages after the first {MOST_MESSAGES:,}"
CUT = "cut-off FIT file"
CHECKSUM = "FIT file whose checksum does not match"
UNDEFINED = "bytes that are no FIT record"

_TIMESTAMP = 253  # number of the field that holds a message's time, in messages of all kinds
_HEADER_SIZES = (12, 14)
# Reading goes on after a damaged record where three messages in a row have times within an hour of the last good one.
_IN_A_ROW, _NEAR, _SEARCHED = 3, 3600, 4096
_CHECKSUM_BYTES = 2
_NAME = b".FIT"
_NAME_AT = 8  # where the name stands within the header
_COMPRESSED, _DEFINITION, _DEVELOPER = 0x80, 0x40, 0x20  # bits of a record's first byte
_SCALED = frozenset(sdk_types.NUMERIC_FIELD_TYPES)


@dataclasses.dataclass(frozen=True)
class RawMessage:
  """A message as the file has it.

  Attributes:
    number: the kind of message, such as 20 for a record.
    row: its place among all messages of the file, from 1.
    time: its time in seconds of FIT, also where a compressed header has it; None without one.
    fields: values by the profile's field names and in its units, without those that the device marked invalid. A field
      with several values is a tuple, with None for those marked invalid.
  """

  number: int
  row: int
  time: int | None
  fields: dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Fault:
  """A part of a file that cannot be read, or cannot be trusted.

  Attributes:
    byte: its first byte.
    why: what is wrong with it.
    lost: whether messages are lost with it, or may be.
  """

  byte: int
  why: str
  lost: bool = True


def messages(
  data: bytes, wanted: Mapping[int, Collection[str]], others: collections.Counter[int] | None = None
) -> Iterator[RawMessage | Fault]:
  """Yields the wanted messages of the files in `data`, in order, and what could not be read where it lies.

  Args:
    data: one or several FIT files.
    wanted: names of the fields to read, by message number; messages of other numbers are passed over.
    others: counts those, by message number.
  """
  place, row = 0, 0
  others = collections.Counter() if others is None else others
  budget = _Budget(checked=4 * len(data))
  while place < len(data):
    if not _is_header(data, place):
      begin, place = place, _next_header(data, place)
      yield Fault(begin, NOT_FIT) if any(data[begin:place]) else Fault(begin, ZEROS, lost=False)
      continue
    part = _File(data, place, wanted, row, others, budget)
    yield from part.read()
    place, row = part.place, part.row


def starts_with_header(data: bytes) -> bool:
  """True if the data begin as a FIT file does."""
  return _is_header(data, 0)


@dataclasses.dataclass
class _Budget:
  """Work that reading a file may still take, so that data made to be slow end soon.

  Attributes:
    checked: bytes whose checksum is computed.
    definitions: definitions that are read.
    resumed: damaged records after which reading goes on.
  """

  checked: int
  definitions: int = MOST_MESSAGES
  resumed: int = 100


@dataclasses.dataclass(frozen=True)
class _Layout:
  """The messages of a local type: their bytes, and where in them the wanted fields are.

  Attributes:
    number: the kind of message.
    form: unpacks the time and the wanted fields, and passes over the others.
    time_at: place of the message's time among the unpacked values; None if it has none.
    fields: name, place among the unpacked values, number of values, value that means "invalid" (None without one), and
      the profile's entry, for each wanted field.
    wanted: whether messages of this number are wanted.
  """

  number: int
  form: struct.Struct
  time_at: int | None
  fields: tuple[tuple[str, int, int, Any, dict[str, Any]], ...]
  wanted: bool


class _File:
  """Reads one of the files in the data.

  Attributes:
    place: the first byte that was not read yet.
    row: number of messages so far.
  """

  def __init__(
    self,
    data: bytes,
    place: int,
    wanted: Mapping[int, Collection[str]],
    row: int,
    others: collections.Counter[int],
    budget: _Budget,
  ):
    self.place, self.row = place, row
    self._data, self._wanted, self._start, self._others = data, wanted, place, others
    self._budget = budget
    self._layouts: dict[int, _Layout] = {}
    self._time: int | None = None

  def read(self) -> Iterator[RawMessage | Fault]:
    """Yields the messages, and the faults."""
    header = self._data[self._start]
    length = int.from_bytes(self._data[self._start + 4 : self._start + 8], "little")
    self.place += header
    whole = self.place + length + _CHECKSUM_BYTES
    finished = length > 0 and whole <= len(self._data)  # a device writes the length when it closes the file
    intact = finished and self._checksum_matches(whole - _CHECKSUM_BYTES)
    finished = intact or (finished and _next_header(self._data, self.place) >= whole)  # not cut off by the next file
    end = whole - _CHECKSUM_BYTES if finished else _next_header(self._data, self.place)
    end = min(end, whole - _CHECKSUM_BYTES) if length else end
    # In a file that was not closed, zeros stand where nothing was written yet.
    last = end if intact else self._start + len(self._data[self._start : end].rstrip(b"\0"))
    yield from self._records(end, last)
    while self.place < last and self.row < MOST_MESSAGES and (resumed := self._resume(end)):
      yield Fault(self.place, UNDEFINED)
      self.place = resumed
      yield from self._records(end, last)
    left = self._data[self.place : end]
    if left and self.row >= MOST_MESSAGES:
      yield Fault(self.place, TOO_MANY)
    elif left and not (length == 0 and len(left) == _CHECKSUM_BYTES):
      yield Fault(self.place, UNDEFINED if intact or (finished and any(left)) else CUT)
    elif length and not finished:
      yield Fault(end, CUT)
    elif finished and not intact and any(self._data[end:whole]):  # a checksum of 0 was never computed
      yield Fault(end, CHECKSUM, lost=False)
    self.place = whole if finished else _next_header(self._data, end)

  def _records(self, end: int, last: int) -> Iterator[RawMessage]:
    """Yields the messages that begin before `last` and end by `end`; `place` stays at one that cannot be read."""
    data = self._data
    while self.place < last:
      first = data[self.place]
      if first & _DEFINITION and not first & _COMPRESSED:
        size = self._define(first, end)
        if not size:
          return
        self.place += size
        continue
      layout = self._layouts.get(first >> 5 & 3 if first & _COMPRESSED else first & 15)
      if layout is None or self.place + 1 + layout.form.size > end or self.row >= MOST_MESSAGES:
        return
      values = layout.form.unpack_from(data, self.place + 1)
      self.place += 1 + layout.form.size
      self.row += 1
      time = self._time_of(first, layout, values)
      if layout.wanted:
        yield RawMessage(layout.number, self.row, time, _fields(layout, values))
      else:
        self._others[layout.number] += 1

  def _resume(self, end: int) -> int | None:
    """Where, after bytes that are no record, a few messages with fitting times follow one another; None if nowhere."""
    self._budget.resumed -= 1
    for place in range(self.place + 1, min(self.place + _SEARCHED, end) if self._budget.resumed >= 0 else 0):
      at = place
      for _ in range(_IN_A_ROW):
        layout = self._layouts.get(self._data[at]) if at < end else None  # a message without a compressed time
        if layout is None or layout.time_at is None or at + 1 + layout.form.size > end:
          break
        time = layout.form.unpack_from(self._data, at + 1)[layout.time_at]
        if self._time is None or abs(time - self._time) > _NEAR:
          break
        at += 1 + layout.form.size
      else:
        return place
    return None

  def _time_of(self, first: int, layout: _Layout, values: tuple[Any, ...]) -> int | None:
    """The time of a message. A compressed header holds its lower five bits, counted on from the last full time."""
    if first & _COMPRESSED:
      if self._time is None:
        return None
      self._time += ((first & 31) - self._time) & 31
      return self._time
    if layout.time_at is None or values[layout.time_at] == 0xFFFFFFFF:
      return None
    self._time = values[layout.time_at]
    return self._time

  def _define(self, first: int, end: int) -> int:
    """Reads a definition and returns its size in bytes; 0 if it is none."""
    data, place = self._data, self.place
    self._budget.definitions -= 1
    if place + 6 > end or data[place + 2] > 1 or self._budget.definitions < 0:
      return 0
    order = ">" if data[place + 2] else "<"
    (number,) = struct.unpack_from(order + "H", data, place + 3)
    size = 6 + 3 * data[place + 5]
    own = [tuple(data[at : at + 3]) for at in range(place + 6, place + size, 3)]
    added = 0
    if first & _DEVELOPER:
      if place + size >= end:
        return 0
      count = data[place + size]
      added = sum(data[at + 1] for at in range(place + size + 1, min(place + size + 1 + 3 * count, end), 3))
      size += 1 + 3 * count
    if place + size > end:
      return 0
    self._layouts[first & 15] = _layout(order, number, own, added, self._wanted.get(number))
    return size

  def _checksum_matches(self, end: int) -> bool:
    self._budget.checked -= end - self._start
    if self._budget.checked < 0:
      return False
    return checksum(self._data[self._start : end]) == int.from_bytes(self._data[end : end + _CHECKSUM_BYTES], "little")


def _layout(order: str, number: int, own: list[tuple[int, ...]], added: int, wanted: Collection[str] | None) -> _Layout:
  profile = sdk.Profile["messages"].get(number, {}).get("fields", {})
  form, count, time_at, fields = order, 0, None, []
  for field, size, base in own:
    kind = sdk_types.BASE_TYPE_DEFINITIONS.get(base & sdk_types.BASE_TYPE_MASK)
    entry = profile.get(field)
    is_time = field == _TIMESTAMP and size == 4 and kind is not None and kind["type_code"] == "I"
    is_wanted = wanted is not None and entry is not None and entry["name"] in wanted
    if not (is_time or is_wanted) or kind is None or kind["type_code"] == "s" or size % kind["size"] or not size:
      form += f"{size}x"
      continue
    if is_time:
      time_at = count
    values = size // kind["size"]
    if is_wanted:
      packed = kind["type"] == sdk_types.BASE_TYPE["BYTE"] and values > 1  # 0xFF is a part of packed numbers
      fields.append((entry["name"], count, values, None if packed else kind["invalid"], entry))
    form += f"{values}{kind['type_code']}"
    count += values
  return _Layout(number, struct.Struct(f"{form}{added}x"), time_at, tuple(fields), wanted is not None)


def _fields(layout: _Layout, values: tuple[Any, ...]) -> dict[str, Any]:
  """The wanted fields of a message that hold a value."""
  fields = {}
  for name, place, count, invalid, entry in layout.fields:
    if count == 1:
      if values[place] != invalid:
        fields[name] = _in_profile(values[place], entry)
      continue
    several = tuple(None if v == invalid else _in_profile(v, entry) for v in values[place : place + count])
    if any(value is not None for value in several):
      fields[name] = several
  return fields


def _in_profile(value: Any, entry: dict[str, Any]) -> Any:
  """A value in the profile's unit, or by its name in the profile's enumeration."""
  if entry["type"] in _SCALED:
    scale, offset = entry["scale"], entry["offset"]
    if len(scale) != 1 or (scale[0] == 1 and not offset[0]):
      return value
    return value / scale[0] - offset[0]
  return sdk.Profile["types"].get(entry["type"], {}).get(value, value)


def _is_header(data: bytes, place: int) -> bool:
  name_at = place + _NAME_AT
  return data[place] in _HEADER_SIZES and data[name_at : name_at + 4] == _NAME if place < len(data) else False


def _next_header(data: bytes, place: int) -> int:
  """Offset at which the next file in the data begins; their end if there is none."""
  found = data.find(_NAME, place + _NAME_AT)  # a header at `place` itself counts
  while found >= 0 and not _is_header(data, found - _NAME_AT):
    found = data.find(_NAME, found + 1)
  return found - _NAME_AT if found >= 0 else len(data)


def _table() -> tuple[int, ...]:
  values = []
  for value in range(256):
    for _ in range(8):
      value = value >> 1 ^ 0xA001 if value & 1 else value >> 1
    values.append(value)
  return tuple(values)


_CRC = _table()


def checksum(data: bytes) -> int:
  """The checksum of FIT, which is CRC-16/ARC."""
  value = 0
  for byte in data:
    value = value >> 8 ^ _CRC[(value ^ byte) & 0xFF]
  return value
