"""Writes .gt3x files byte by byte, as https://github.com/actigraph/GT3X-File-Format describes them."""

import struct
import zipfile

import numpy as np

TICKS_TO_1970 = 621_355_968_000_000_000  # of 100 ns from year 1
ACTIVITY, LUX, ACTIVITY2 = 0x00, 0x05, 0x1A


def record(kind, time, payload):
  head = struct.pack("<BBIH", 0x1E, kind, time, len(payload)) + payload
  checksum = 0
  for byte in head:
    checksum ^= byte
  return head + bytes([~checksum & 0xFF])


def packed(samples):
  """Samples [n, 3] in units, along x, y and z, as 12 bits per axis, y first."""
  bits = "".join(f"{value & 0xFFF:012b}" for x, y, z in samples for value in (y, x, z))
  bits += "0" * (-len(bits) % 8)
  return bytes(int(bits[i : i + 8], 2) for i in range(0, len(bits), 8))


def info(rate, subject="", serial="MOS2A00000001", scale="256.0"):
  fields = {"Serial Number": serial, "Firmware": "1.9.2", "Sample Rate": rate, "Start Date": TICKS_TO_1970}
  fields |= {"Acceleration Scale": scale} if scale else {}
  return "".join(f"{key}: {value}\r\n" for key, value in (fields | {"Subject Name": subject}).items())


def write(path, log, **about):
  with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
    file.writestr("info.txt", info(**about))
    file.writestr("log.bin", log)


def log_of(start, seconds):
  """Records of ACTIVITY2, one for each array [rate, 3] of units, from `start` on (s)."""
  return b"".join(record(ACTIVITY2, start + n, np.asarray(s, "<i2").tobytes()) for n, s in enumerate(seconds))
