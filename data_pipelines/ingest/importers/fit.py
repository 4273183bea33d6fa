"""Reads the messages of a FIT file with Garmin's own SDK and completes their shortened times.

The format is described at https://developer.garmin.com/fit/protocol. A file consists of a header, message definitions,
messages and a checksum. Each message has a number (20 is a `record`), and the SDK's profile gives its fields names,
scales and "invalid" values. Times are seconds since 1989-12-31 00:00 UTC.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Sequence
from typing import Any

import garmin_fit_sdk as sdk
import numpy as np
from jaxtyping import Int64

from data_pipelines.errors import SchemaError

NUMBER: dict[str, int] = sdk.Profile["mesg_num"]
MOST_BYTES = 64 * 2**20  # a day or a workout takes a few megabytes at most
MOST_MESSAGES = 500_000  # one per second for five days
_EPOCH = 631_065_600  # 1989-12-31 as seconds since 1970
_DATES = range(0x10000000, 1 << 32)  # smaller numbers count from when the device was switched on
_LARGEST_OFFSET = 14 * 60  # minutes between a wall clock and UTC
_BOTH_CLOCKS = (NUMBER["MONITORING_INFO"], NUMBER["ACTIVITY"])  # messages that give one moment in UTC and local time


@dataclasses.dataclass(frozen=True)
class Message:
  """One message.

  Attributes:
    number: the kind of message, such as NUMBER["RECORD"].
    time: seconds since 1970 UTC; None if the message has no time that can be placed.
    fields: values by the profile's field names and in its units, without those that the device marked invalid.
  """

  number: int
  time: int | None
  fields: dict[Any, Any]


def read(data: bytes, numbers: Sequence[int], where: str) -> list[Message]:
  """Returns the messages with these numbers, in file order.

  `timestamp_16` holds the lower 16 bits of a time. It is completed from the last full time of a monitoring message, as
  Garmin's note on monitoring files describes, and rolls over every 18 hours.

  Raises:
    SchemaError: the file is too long, cut off, or fails its checksum. The message names it by `where`.
  """
  last: int | None = None
  messages = []
  for number, fields in _decoded(data, numbers, where):
    time = fields.get("timestamp", fields.get("stress_level_time"))
    if number in (NUMBER["MONITORING"], NUMBER["MONITORING_INFO"]):
      half = fields.get("timestamp_16")
      if time is None and isinstance(half, int) and last is not None:
        time = last + ((half - last) & 0xFFFF)
      last = time if seconds(time) is not None else last
    messages.append(Message(number, seconds(time), fields))
  return messages


def seconds(time: Any) -> int | None:
  """Converts a FIT time to seconds since 1970; None if it is not a date."""
  return time + _EPOCH if isinstance(time, int) and time in _DATES else None


def is_number(value: Any) -> bool:
  """Whether a value is a finite number; files may declare any type for a field, including lists and text."""
  return isinstance(value, int | float) and math.isfinite(value)


def in_profile(kind: str, value: Any) -> bool:
  """Whether the value is a name that the profile defines for this type, such as "running" for the type "sport"."""
  return isinstance(value, str) and value in sdk.Profile["types"][kind].values()


def wall_clocks(messages: Iterable[Message]) -> tuple[Int64[np.ndarray, "n"], Int64[np.ndarray, "n"]]:
  """Returns the moments (seconds since 1970) at which the wall clock is known, and by how many minutes it leads UTC."""
  offsets = {}
  for message in messages:
    local = seconds(message.fields.get("local_timestamp"))
    if message.number in _BOTH_CLOCKS and message.time is not None and local is not None:
      minutes = 15 * round((local - message.time) / 900)
      if abs(minutes) <= _LARGEST_OFFSET:  # otherwise one of the clocks was not set
        offsets[message.time] = minutes
  return np.array(sorted(offsets), np.int64), np.array([offsets[time] for time in sorted(offsets)], np.int64)


def _decoded(data: bytes, numbers: Sequence[int], where: str) -> list[tuple[int, dict[Any, Any]]]:
  if len(data) > MOST_BYTES:
    raise SchemaError(f"{where}: a FIT file of {len(data):,} bytes, expected at most {MOST_BYTES:,}")
  _check_length(data, where)
  messages: list[tuple[int, dict[Any, Any]]] = []
  count = 0

  def listen(number: int, fields: dict[Any, Any]) -> None:
    nonlocal count
    count += 1
    if count > MOST_MESSAGES:
      raise SchemaError(f"more than {MOST_MESSAGES:,} messages")
    if number in numbers:
      messages.append((number, fields))

  decoder = sdk.Decoder(sdk.Stream.from_byte_array(bytearray(data)))
  _, errors = decoder.read(convert_datetimes_to_dates=False, merge_heart_rates=False, mesg_listener=listen)
  if errors:  # whatever exception stopped the SDK
    why = str(errors[0]) if isinstance(errors[0], SchemaError) else "its checksum or a message is wrong"
    raise SchemaError(f"{where}: damaged FIT file: {why}")
  return messages


def _check_length(data: bytes, where: str) -> None:
  if len(data) < 14 or data[0] not in (12, 14) or data[8:12] != b".FIT":
    raise SchemaError(f"{where}: not a FIT file, or a cut-off one")
  expected = data[0] + int.from_bytes(data[4:8], "little") + 2
  if len(data) < expected:  # longer is allowed, because one file may hold several FIT files in a row
    raise SchemaError(f"{where}: damaged FIT file: {len(data):,} bytes, its header says {expected:,}")
