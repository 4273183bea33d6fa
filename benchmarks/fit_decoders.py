"""Compares how much three decoders read of FIT files, as they are and damaged in the ways that devices damage them.

  python -m benchmarks.fit_decoders --input=FOLDER [--output=FILE.csv]

It reads every .fit file below the folder with Garmin's SDK, with fitdecode if that is installed, and with
data_pipelines.ingest.importers.fit_bytes: as it is, cut off, not closed (no length, no checksum, zeros behind), with
bytes behind its end, and with single bytes changed. A file counts as read if its decoder gives at least 99 % of the
messages that any of them gives. The table has, per damage and decoder, the files that are read, all messages, and
processor seconds. Public files: the folder test/ of GoldenCheetah, tests/files of python-fitparse and of fitdecode.
"""

from __future__ import annotations

import collections
import csv
import importlib.util
import io
import pathlib
import time
from collections.abc import Callable, Iterator

import garmin_fit_sdk as sdk
from absl import app, flags

from data_pipelines.ingest.importers import fit_bytes
from data_pipelines.ingest.importers.fit_bytes import RawMessage

_INPUT = flags.DEFINE_string("input", None, "A folder of FIT files.", required=True)
_OUTPUT = flags.DEFINE_string("output", "benchmarks/results/fit_decoders.csv", "The table to write.")
_LARGEST = flags.DEFINE_integer("largest", 300_000, "Bytes above which a file is read only as it is.")

_ALL = {number: [f["name"] for f in kind["fields"].values()] for number, kind in sdk.Profile["messages"].items()}
_READ = 0.99


def damages(data: bytes) -> Iterator[tuple[str, bytes]]:
  """Yields the file in each state."""
  yield "as it is", data
  if len(data) > _LARGEST.value:
    return
  yield "bytes behind its end", data + bytes(16)
  yield "not closed", data[:4] + bytes(4) + data[8:-2] + bytes(512)
  yield "cut off at 70 %", data[: len(data) * 7 // 10]
  for tenth in (3, 5, 7, 9):
    place = len(data) * tenth // 10
    yield "one byte changed", data[:place] + bytes([data[place] ^ 0xFF]) + data[place + 1 :]


def garmin(data: bytes) -> int:
  """Number of messages that Garmin's decoder gives before it ends or stops."""
  count = 0

  def listen(number: int, fields: dict) -> None:
    nonlocal count
    count += number in _ALL

  decoder = sdk.Decoder(sdk.Stream.from_byte_array(bytearray(data)))
  decoder.read(convert_datetimes_to_dates=False, merge_heart_rates=False, mesg_listener=listen)
  return count


def fitdecode(data: bytes) -> int:
  """Number of messages that fitdecode gives, at its most lenient, before it ends or stops."""
  module = importlib.import_module("fitdecode")
  lenient = {"check_crc": module.CrcCheck.DISABLED, "error_handling": module.ErrorHandling.IGNORE}
  count = 0
  try:
    with module.FitReader(io.BytesIO(data), **lenient) as frames:
      for frame in frames:
        count += frame.frame_type == module.FIT_FRAME_DATA and frame.global_mesg_num in _ALL
  except module.FitError:
    pass
  return count


def ours(data: bytes) -> int:
  """Number of messages that fit_bytes gives."""
  return sum(isinstance(item, RawMessage) for item in fit_bytes.messages(data, _ALL))


def decoders() -> dict[str, Callable[[bytes], int]]:
  """The decoders that are installed, by name."""
  installed = {"garmin-fit-sdk": garmin, "fit_bytes": ours}
  return installed | ({"fitdecode": fitdecode} if importlib.util.find_spec("fitdecode") else {})


def main(argv: list[str]) -> None:
  """Reads all files in all states with all decoders."""
  del argv
  rows: dict[tuple[str, str], list[float]] = collections.defaultdict(lambda: [0, 0, 0, 0, 0.0])
  for path in sorted(pathlib.Path(_INPUT.value).rglob("*")):
    if path.suffix.lower() != ".fit":
      continue
    data = path.read_bytes()
    whole = max(decode(data) for decode in decoders().values())
    for damage, damaged in damages(data):
      counts, seconds = {}, {}
      for name, decode in decoders().items():
        start = time.process_time()
        counts[name] = min(decode(damaged), whole)
        seconds[name] = time.process_time() - start
      most = max(counts.values())
      for name, count in counts.items():
        more = (1, count >= _READ * most, count, most, seconds[name])
        rows[damage, name] = [a + b for a, b in zip(rows[damage, name], more, strict=True)]
  with pathlib.Path(_OUTPUT.value).open("w", newline="") as file:
    table = csv.writer(file)
    table.writerow(["damage", "decoder", "files", "files_read", "messages", "messages_there", "cpu_seconds"])
    for (damage, name), (files, read, messages, there, seconds) in rows.items():
      table.writerow([damage, name, files, int(read), messages, there, round(seconds, 2)])
      print(f"{damage:22} {name:15} {read:4.0f} of {files:3.0f} files, {100 * messages / there:5.1f} % of messages")


if __name__ == "__main__":
  app.run(main)
