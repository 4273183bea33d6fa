"""Messages of a FIT file, decoded by Garmin's own SDK, with their times in full.

The format: https://developer.garmin.com/fit/protocol. A file is a header, definitions of messages, messages, and a
checksum; each message has a number (20 is a `record`), its fields have names, scales and "invalid" values in the SDK's
profile. Times are seconds since 1989-12-31 00:00 UTC.
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
MOST_BYTES = 64 * 2**20  # a watch's file of a day or a workout has at most a few megabytes
MOST_MESSAGES = 500_000  # five days of one a second
_EPOCH = 631_065_600  # 1989-12-31 as seconds since 1970
_DATES = range(0x10000000, 1 << 32)  # smaller times count from when the device was switched on
_FURTHEST = 14 * 60  # minutes that a wall clock is away from UTC
_LINKS = (NUMBER["MONITORING_INFO"], NUMBER["ACTIVITY"])  # messages that give a moment in both clocks


@dataclasses.dataclass(frozen=True)
class Message:
  """One message.

  Attributes:
    number: of its kind, such as NUMBER["RECORD"].
    time: seconds since 1970 UTC; None if it has none that can be placed.
    fields: values by the profile's names, in its units; those that the device marked invalid are left out.
  """

  number: int
  time: int | None
  fields: dict[Any, Any]


def read(data: bytes, wanted: Sequence[int], where: str) -> list[Message]:
  """Messages of the wanted kinds, in the order of the file.

  `timestamp_16`, the lower half of a time, counts on from the last full time of a monitoring message, however often
  it rolls over (every 18 hours), as Garmin has it in its note on monitoring files.

  Raises:
    SchemaError: the file is too long, cut off, or fails its checksum; named by `where`.
  """
  last: int | None = None
  found = []
  for number, fields in _decoded(data, wanted, where):
    time = fields.get("timestamp", fields.get("stress_level_time"))
    if number in (NUMBER["MONITORING"], NUMBER["MONITORING_INFO"]):
      half = fields.get("timestamp_16")
      if time is None and isinstance(half, int) and last is not None:
        time = last + ((half - last) & 0xFFFF)
      last = time if seconds(time) is not None else last
    found.append(Message(number, seconds(time), fields))
  return found


def seconds(time: Any) -> int | None:
  """A FIT time as seconds since 1970; None if it is not a date."""
  return time + _EPOCH if isinstance(time, int) and time in _DATES else None


def is_number(value: Any) -> bool:
  """Files may declare any type for a field, lists and text too."""
  return isinstance(value, int | float) and math.isfinite(value)


def in_profile(kind: str, value: Any) -> bool:
  """Whether this is one of the profile's own words, such as "running" of the kind "sport"."""
  return isinstance(value, str) and value in sdk.Profile["types"][kind].values()


def wall_clocks(messages: Iterable[Message]) -> tuple[Int64[np.ndarray, "n"], Int64[np.ndarray, "n"]]:
  """Where the messages tell it: moments, seconds since 1970, and the minutes that the wall clock was ahead of UTC."""
  told = {}
  for message in messages:
    local = seconds(message.fields.get("local_timestamp"))
    if message.number in _LINKS and message.time is not None and local is not None:
      minutes = 15 * round((local - message.time) / 900)
      if abs(minutes) <= _FURTHEST:  # otherwise one of the clocks was not set
        told[message.time] = minutes
  return np.array(sorted(told), np.int64), np.array([told[time] for time in sorted(told)], np.int64)


def _decoded(data: bytes, wanted: Sequence[int], where: str) -> list[tuple[int, dict[Any, Any]]]:
  if len(data) > MOST_BYTES:
    raise SchemaError(f"{where}: a FIT file of {len(data):,} bytes, expected at most {MOST_BYTES:,}")
  _check_length(data, where)
  kept: list[tuple[int, dict[Any, Any]]] = []
  seen = 0

  def listen(number: int, fields: dict[Any, Any]) -> None:
    nonlocal seen
    seen += 1
    if seen > MOST_MESSAGES:
      raise SchemaError(f"more than {MOST_MESSAGES:,} messages")
    if number in wanted:
      kept.append((number, fields))

  decoder = sdk.Decoder(sdk.Stream.from_byte_array(bytearray(data)))
  _, errors = decoder.read(convert_datetimes_to_dates=False, merge_heart_rates=False, mesg_listener=listen)
  if errors:  # the SDK hands back what stopped it, whatever that was
    why = str(errors[0]) if isinstance(errors[0], SchemaError) else "its checksum or a message is wrong"
    raise SchemaError(f"{where}: damaged FIT file: {why}")
  return kept


def _check_length(data: bytes, where: str) -> None:
  if len(data) < 14 or data[0] not in (12, 14) or data[8:12] != b".FIT":
    raise SchemaError(f"{where}: not a FIT file, or a cut-off one")
  expected = data[0] + int.from_bytes(data[4:8], "little") + 2
  if len(data) < expected:  # longer is allowed: files may follow each other in one
    raise SchemaError(f"{where}: damaged FIT file: {len(data):,} bytes, its header says {expected:,}")
