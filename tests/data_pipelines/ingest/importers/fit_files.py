"""Writes FIT files byte by byte, for tests."""


def crc(data):
  """CRC-16/ARC bit by bit, which is what FIT's table amounts to."""
  value = 0
  for byte in data:
    value ^= byte
    for _ in range(8):
      value = (value >> 1) ^ 0xA001 if value & 1 else value >> 1
  return value
