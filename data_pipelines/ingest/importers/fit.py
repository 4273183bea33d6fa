"""Reads the messages of FIT files, completes their shortened times and opens fields that hold several values.

Times of FIT are seconds since 1989-12-31 00:00 UTC. How a file is taken apart is in fit_bytes.py.
"""

from __future__ import annotations

import collections
import dataclasses
import math
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeGuard

import garmin_fit_sdk as sdk
import numpy as np
from jaxtyping import Int64

from data_pipelines.errors import SchemaError
from data_pipelines.ingest.importers import fit_bytes
from data_pipelines.ingest.importers.fit_bytes import Fault

NUMBER: dict[str, int] = sdk.Profile["mesg_num"]
UNDOCUMENTED = "messages that no document describes"
NO_DATE = "message without a date"
NOT_SET = "clock not set (time since the device was switched on)"
MOST_BYTES = 64 * 2**20  # a day or a workout takes a few megabytes at most
_EPOCH = 631_065_600  # 1989-12-31 as seconds since 1970
_DATES = range(0x10000000, 1 << 32)  # smaller numbers count from when the device was switched on
_LARGEST_OFFSET = 14 * 60  # minutes between a wall clock and UTC
BOTH_CLOCKS = tuple(NUMBER[name] for name in ("MONITORING_INFO", "ACTIVITY", "TIMESTAMP_CORRELATION"))
_MONITORING = (NUMBER["MONITORING"], NUMBER["MONITORING_INFO"])
_BACKWARDS = 300  # seconds; messages of a file may be so much out of order


@dataclasses.dataclass(frozen=True)
class Message:
  """One message.

  Attributes:
    number: the kind of message, such as NUMBER["RECORD"].
    row: its place among all messages of the file, from 1.
    time: seconds since 1970 UTC; None if the message has no time that can be placed.
    undated: why `time` is None, or "".
    fields: values by the profile's field names and in its units, without those that the device marked invalid; several
      values are a tuple.
  """

  number: int
  row: int
  time: int | None
  undated: str
  fields: dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Content:
  """Content of a FIT file.

  Attributes:
    messages: those that are wanted, in file order.
    faults: the parts that are damaged.
    others: number of messages of other kinds, by the profile's name for the kind.
  """

  messages: list[Message]
  faults: list[Fault]
  others: dict[str, int]


def read(data: bytes, wanted: Mapping[int, Collection[str]], where: str) -> Content:
  """Returns the messages of the wanted numbers with the wanted fields, and what else there is.

  `timestamp_16` holds the lower 16 bits of a time. It is completed from the last full time of a monitoring message, as
  Garmin's note on monitoring files describes, and rolls over every 18 hours.

  Raises:
    SchemaError: the data are too long, or do not begin as a FIT file. The message names them by `where`.
  """
  if len(data) > MOST_BYTES:
    raise SchemaError(f"{where}: a FIT file of more than {MOST_BYTES:,} bytes")
  if not fit_bytes.starts_with_header(data):
    raise SchemaError(f"{where}: not a FIT file, or a cut-off one")
  last: int | None = None
  messages, faults, numbers = [], [], collections.Counter[int]()
  for item in fit_bytes.messages(data, wanted, numbers):
    if isinstance(item, Fault):
      faults.append(item)
      continue
    time, fields = item.time, item.fields
    if item.number == NUMBER["STRESS_LEVEL"]:
      time = fields.get("stress_level_time", time)
    if item.number in _MONITORING:
      half = fields.get("timestamp_16")
      if time is None and isinstance(half, int) and last is not None:
        time = last + (half - last + _BACKWARDS & 0xFFFF) - _BACKWARDS
      last = time if seconds(time) is not None else last
      _open_activity(fields)
    placed = seconds(time)
    undated = "" if placed is not None else NO_DATE if time is None else NOT_SET
    messages.append(Message(item.number, item.row, placed, undated, fields))
  others = collections.Counter[str]()
  for number, count in numbers.items():
    others[sdk.Profile["messages"].get(number, {}).get("name", UNDOCUMENTED)] += count
  return Content(messages, faults, dict(others))


def _open_activity(fields: dict[str, Any]) -> None:
  """Adds the activity type (lower five bits) and the intensity (upper three) that one byte of monitoring holds."""
  both = fields.get("current_activity_type_intensity")
  both = both[0] if isinstance(both, tuple) else both
  if isinstance(both, int):
    fields.setdefault("activity_type", sdk.Profile["types"]["activity_type"].get(both & 31, both & 31))
    fields.setdefault("intensity", both >> 5 & 7)


def seconds(time: Any) -> int | None:
  """Converts a FIT time to seconds since 1970; None if it is not a date."""
  return time + _EPOCH if isinstance(time, int) and time in _DATES else None


def is_number(value: Any) -> TypeGuard[float]:
  """True for a finite number; files may declare any type for a field, including lists and text."""
  return isinstance(value, int | float) and math.isfinite(value)


def several(value: Any) -> tuple[Any, ...]:
  """The values of a field that may hold several, or none."""
  return value if isinstance(value, tuple) else () if value is None else (value,)


def in_profile(kind: str, value: Any) -> bool:
  """True if the value is a name that the profile defines for this type, such as "running" for the type "sport"."""
  return isinstance(value, str) and value in sdk.Profile["types"][kind].values()


def name_of(kind: str, value: Any) -> Any:
  """The profile's name for a value of this type; the value itself if it has none."""
  return sdk.Profile["types"][kind].get(value, value) if isinstance(value, int) else value


def strap_beats(messages: Iterable[Message]) -> Iterator[tuple[Message, list[tuple[int, float]]]]:
  """Yields each `hr` message of a chest strap with its heart rates: ms since 1970 UTC, and beats per minute.

  The strap stamps heart rates in 1/1024 s of a clock of its own, fully or with the lower 12 bits, two of which are
  packed into three bytes. A message with a time says what time it was at one stamp. Heart rates before the first such
  message cannot be placed and are left out.
  """
  anchor: tuple[float, float] | None = None  # ms since 1970, and the strap's clock in 1/1024 s
  clock = 0
  for message in messages:
    if message.number != NUMBER["HR"]:
      continue
    stamps = [  # None keeps the place of the heart rate that has no time
      round(1024 * stamp) if is_number(stamp) else None for stamp in several(message.fields.get("event_timestamp"))
    ]
    clock = _last(stamps, clock)
    for low in _twelve_bits(several(message.fields.get("event_timestamp_12"))):
      clock += low - clock & 0xFFF
      stamps.append(clock)
    if message.time is not None and stamps and stamps[0] is not None:
      fraction = message.fields.get("fractional_timestamp", message.fields.get("time256", 0.0))
      anchor = 1000 * (message.time + (fraction if is_number(fraction) else 0.0)), stamps[0]
    rates = several(message.fields.get("filtered_bpm"))
    beats = []
    for stamp, rate in zip(stamps, rates, strict=False):
      if anchor is not None and stamp is not None and is_number(rate):
        beats.append((round(anchor[0] + (stamp - anchor[1]) % (1 << 32) * 1000 / 1024), rate))
    yield message, beats


def _last(stamps: Sequence[int | None], clock: int) -> int:
  return next((stamp for stamp in reversed(stamps) if stamp is not None), clock)


def _twelve_bits(packed: tuple[Any, ...]) -> Iterator[int]:
  """Unpacks numbers of 12 bits, the lowest bits first."""
  if not all(isinstance(byte, int) and 0 <= byte < 256 for byte in packed):
    return
  bits = int.from_bytes(bytes(packed), "little")
  for place in range(len(packed) * 8 // 12):
    yield bits >> 12 * place & 0xFFF


def wall_clocks(messages: Iterable[Message]) -> tuple[Int64[np.ndarray, "n"], Int64[np.ndarray, "n"]]:
  """Returns the moments (seconds since 1970) at which the wall clock is known, and by how many minutes it leads UTC.

  Messages of the kinds in BOTH_CLOCKS give one moment in UTC and in local time. The offsets in `device_settings` are
  not used: Edge 1000s say 0 there in any zone.
  """
  offsets = {}
  for message in messages:
    local = seconds(message.fields.get("local_timestamp"))
    if message.number in BOTH_CLOCKS and message.time is not None and local is not None:
      minutes = 15 * round((local - message.time) / 900)
      if abs(minutes) <= _LARGEST_OFFSET:  # otherwise one of the clocks was not set
        offsets[message.time] = minutes
  return np.array(sorted(offsets), np.int64), np.array([offsets[time] for time in sorted(offsets)], np.int64)
