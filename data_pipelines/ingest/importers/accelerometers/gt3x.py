"""ActiGraph's .gt3x: a zip with info.txt and log.bin, as https://github.com/actigraph/GT3X-File-Format describes them.

info.txt    "Sample Rate" (Hz), "Serial Number", "Subject Name", and in most files "Acceleration Scale" (units per g)
log.bin     records: 1E, type, time (uint32, seconds), size (uint16), payload, checksum. Little-endian. These are read:
  00 ACTIVITY    the samples of one second, 12 bits per axis, in the order y, x, z
  1A ACTIVITY2   the samples of one second, 16 bits per axis, in the order x, y, z
  05 LUX         light, lux, 16 bits
Times are seconds since 1970 on the clock of the device, which ActiLife sets to local time. Where the scale is not in
info.txt it is 341 per g for devices whose serial number begins with NEO, CLE or MRA, and 256 for others. A payload of
one byte marks a plug that was put in. Zeros between records are allowed; records with a wrong checksum are left out. A
file with very many of them is refused, as every byte that may begin a record costs a checksum.
"""

from __future__ import annotations

import dataclasses
import itertools
import struct
from collections.abc import Iterator
from typing import IO, NamedTuple

import numpy as np
from jaxtyping import Float64, Int64, UInt8

from data_pipelines.errors import SchemaError
from data_pipelines.ingest.reading.export_files import Export

ACTIVITY, LUX, ACTIVITY2 = 0x00, 0x05, 0x1A
_HEADER = struct.Struct("<BBIH")
_SEPARATOR = 0x1E
_LONGEST = _HEADER.size + 2**16
_BLOCK = 4 * 2**20
_SECOND = 1_000_000_000  # ns
_MOST_WRONG = 100_000  # checksums; of random bytes one in 256 needs one
_COARSE = ("NEO", "CLE", "MRA")  # serial numbers of devices with 341 units per g
_FIELDS_MOST = 2**16  # bytes of info.txt


@dataclasses.dataclass(frozen=True)
class Info:
  """Content of info.txt: the rate in Hz, units per g, the subject and the serial number, "" if unnamed."""

  rate: int
  scale: float
  subject: str
  serial: str = ""


class _Record(NamedTuple):
  """A record of log.bin: its kind, time in seconds, and the start and size of its payload in bytes."""

  kind: int
  time: int
  start: int
  size: int


@dataclasses.dataclass
class Damage:
  """Stretches of the log.bin at `where` that are no record: how many, the first's first byte, and wrong checksums."""

  stretches: int = 0
  first: int | None = None
  wrong: int = 0
  where: str = "log.bin"

  def note(self, byte: int) -> None:
    """Counts a stretch that begins at this byte."""
    self.stretches += 1
    self.first = byte if self.first is None else self.first


def read_info(inside: Export) -> Info:
  """Reads info.txt of an opened .gt3x.

  Raises:
    SchemaError: it is missing, or has no usable sample rate or scale.
  """
  where = inside.where("info.txt")
  if "info.txt" not in inside.names or "log.bin" not in inside.names:
    old = " (activity.bin: of firmware before 3.0, which is not read)" * ("activity.bin" in inside.names)
    raise SchemaError(f"{inside.label}: holds {', '.join(inside.names[:5])}{old}, expected info.txt and log.bin")
  with inside.open("info.txt") as file:
    text = file.read(_FIELDS_MOST).decode("utf-8-sig", "replace")
  fields = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in text.splitlines())}
  rate = _number(fields, "Sample Rate", where)
  scale = 341.0 if fields.get("Serial Number", "")[:3] in _COARSE else 256.0
  if "Acceleration Scale" in fields:
    scale = _number(fields, "Acceleration Scale", where)
  if not (1 <= rate <= 1000 and rate % 1 == 0 and 1 <= scale <= 1e5):
    raise SchemaError(
      f"{where}: has a rate of {rate:g} Hz and {scale:g} units per g, expected 30 to 100 and 256 or 341"
    )
  return Info(int(rate), scale, fields.get("Subject Name", ""), fields.get("Serial Number", ""))


def _number(fields: dict[str, str], key: str, where: str) -> float:
  try:
    return float(fields[key])
  except (KeyError, ValueError):
    raise SchemaError(f"{where}: {key!r} is {fields.get(key, 'missing')!r}, expected a number") from None


def samples(
  file: IO[bytes], info: Info, damage: Damage
) -> Iterator[tuple[int, Int64[np.ndarray, "n"], Float64[np.ndarray, "n 3"]]]:
  """Yields from log.bin the kind, times (ns) and values of consecutive records.

  The kind is ACTIVITY for acceleration along x, y and z, in g, or LUX, whose value stands in the first column. What is
  no record is noted in `damage`.

  Raises:
    SchemaError: it has very many wrong checksums.
  """
  rest, offset = b"", 0
  while True:
    block = file.read(_BLOCK)
    data = rest + block
    records, used = _records(data, last=not block, offset=offset, damage=damage)
    yield from _decoded(np.frombuffer(data, np.uint8), records, info)
    rest, offset = data[used:], offset + used
    if not block:
      return


def _records(data: bytes, last: bool, offset: int, damage: Damage) -> tuple[list[_Record], int]:
  """The sound records of a block, and the number of bytes that were used."""
  found: list[_Record] = []
  content = np.frombuffer(data, np.uint8)
  place, end, lost = 0, len(data), False
  while place < end and (last or end - place > _LONGEST):
    separator, kind, time, size = _HEADER.unpack_from(data, place) if end - place > _HEADER.size else (0, 0, 0, 0)
    after = place + _HEADER.size + size + 1
    # The checksum is the complement of all bytes before it, joined by exclusive or.
    if separator == _SEPARATOR and after <= end:
      if np.bitwise_xor.reduce(content[place:after]) == 0xFF:
        found.append(_Record(kind, time, place + _HEADER.size, size))
        place, lost = after, False
        continue
      damage.wrong += 1
      if damage.wrong > _MOST_WRONG:
        raise SchemaError(
          f"{damage.where}: has more than {_MOST_WRONG:,} wrong checksums up to byte {offset + place:,}"
        )
    if data[place] and not lost:  # zeros between records are no damage
      damage.note(offset + place)
      lost = True
    following = data.find(_SEPARATOR, place + 1)
    place = end if following < 0 else following
  return found, place


def _decoded(
  content: UInt8[np.ndarray, "b"], records: list[_Record], info: Info
) -> Iterator[tuple[int, Int64[np.ndarray, "n"], Float64[np.ndarray, "n 3"]]]:
  lux = [record for record in records if record.kind == LUX and record.size == 2]
  if lux:
    values = np.zeros((len(lux), 3))
    values[:, 0] = content[[r.start for r in lux]] + 256.0 * content[[r.start + 1 for r in lux]]
    yield LUX, np.array([r.time for r in lux]) * _SECOND, values
  activity = [record for record in records if record.kind in (ACTIVITY, ACTIVITY2) and record.size > 1]
  for (kind, size), alike in itertools.groupby(activity, key=lambda record: (record.kind, record.size)):
    group = list(alike)
    payload = content[np.array([record.start for record in group])[:, None] + np.arange(size)]
    values = _packed(payload) if kind == ACTIVITY else _plain(payload)
    seconds = np.array([record.time for record in group])[:, None] * _SECOND
    time = seconds + np.arange(values.shape[1]) * _SECOND // info.rate
    yield ACTIVITY, time.reshape(-1), values.reshape(-1, 3) / info.scale


def _packed(payload: UInt8[np.ndarray, "k b"]) -> Float64[np.ndarray, "k n 3"]:
  """Samples of 12 bits per axis, y first, along x, y and z."""
  nibbles = np.stack([payload >> 4, payload & 15], axis=2).reshape(len(payload), -1).astype(np.int32)
  number = nibbles.shape[1] // 9
  parts = nibbles[:, : 9 * number].reshape(len(payload), number, 3, 3)
  values = (parts[..., 0] << 8) + (parts[..., 1] << 4) + parts[..., 2]
  return (values - 4096 * (values >= 2048))[:, :, [1, 0, 2]].astype(np.float64)


def _plain(payload: UInt8[np.ndarray, "k b"]) -> Float64[np.ndarray, "k n 3"]:
  """Samples of 16 bits per axis."""
  number = payload.shape[1] // 6
  values = np.ascontiguousarray(payload[:, : 6 * number]).view("<i2")
  return values.reshape(len(payload), number, 3).astype(np.float64)
