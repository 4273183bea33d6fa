"""Speed and peak memory of importers reading an export.

  python -m benchmarks.importers --source=apple --megabytes=1000 [--build] [--output=FILE.csv]

It makes an export of at least this size for the source and reads it to its end, or with --build builds a dataset from
it, in a process of its own. It appends a row to the table: seconds, megabytes per second, and the most memory that the
process ever held. 320 MB of Fitabase's files are 33 people with 31 days each, 14 of them with heart rates.
"""

from __future__ import annotations

import concurrent.futures
import csv
import datetime
import multiprocessing
import os
import pathlib
import platform
import resource
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator

import numpy as np
from absl import app, flags

from benchmarks import made_fitbit
from data_pipelines.ingest.importers import IMPORTERS
from data_pipelines.ingest.reading.account import Account
from data_pipelines.ingest.reading.export_files import Export

_SOURCE = flags.DEFINE_string("source", "apple", "The importer to measure.")
_MEGABYTES = flags.DEFINE_integer("megabytes", 100, "Size of the export to make.", lower_bound=1)
_BUILD = flags.DEFINE_bool("build", False, "Build a dataset from it, as data_pipelines.build does.")
_OUTPUT = flags.DEFINE_string("output", "benchmarks/results/importers.csv", "The table to append to.")

_MB = 10**6


def make_apple(folder: pathlib.Path, megabytes: int) -> None:
  """Writes an export.xml of a watch and a phone; each day has about 4,600 records, 1.9 MB."""
  path = folder / "apple_health_export" / "export.xml"
  path.parent.mkdir(parents=True)
  with path.open("w", encoding="utf-8") as file:
    file.write('<?xml version="1.0" encoding="UTF-8"?>\n<!DOCTYPE HealthData [\n<!ELEMENT HealthData (Record*)>\n]>\n')
    file.write('<HealthData locale="en_US">\n <ExportDate value="2024-06-01 12:00:00 +0200"/>\n')
    day = 0
    while file.tell() < megabytes * _MB:
      file.write("".join(_apple_day(day)))
      day += 1
    file.write("</HealthData>\n")


def _apple_day(day: int) -> Iterator[str]:
  numbers = np.random.default_rng(day).uniform(size=1440).tolist()
  midnight = datetime.datetime(2020, 1, 1) + datetime.timedelta(days=day)
  at = [(midnight + datetime.timedelta(minutes=i)).strftime("%Y-%m-%d %H:%M:%S +0200") for i in range(1441)]
  for i in range(1440):
    context = '<MetadataEntry key="HKMetadataKeyHeartRateMotionContext" value="0"/>'
    yield _apple("HKQuantityTypeIdentifierHeartRate", "count/min", at[i], at[i], 50 + 60 * numbers[i], context)
  for i in range(420, 1380):
    yield _apple("HKQuantityTypeIdentifierStepCount", "count", at[i], at[i + 1], int(120 * numbers[i]))
    yield _apple("HKQuantityTypeIdentifierActiveEnergyBurned", "kcal", at[i], at[i + 1], 5 * numbers[i])
    yield _apple("HKQuantityTypeIdentifierDistanceWalkingRunning", "km", at[i], at[i + 1], 0.08 * numbers[i])
  for i in range(420, 1380, 5):
    yield _apple("HKQuantityTypeIdentifierStepCount", "count", at[i], at[i + 5], int(500 * numbers[i]), "", "iPhone")
  for i in range(0, 420, 15):
    zone = '<MetadataEntry key="HKTimeZone" value="Europe/Berlin"/>'
    stage = "HKCategoryValueSleepAnalysisAsleep" + ("Core", "Deep", "REM")[i // 15 % 3]
    yield _apple("HKCategoryTypeIdentifierSleepAnalysis", "", at[i], at[i + 15], stage, zone)
    yield _apple("HKQuantityTypeIdentifierOxygenSaturation", "%", at[i], at[i], 0.93 + 0.06 * numbers[i])


def _apple(kind: str, unit: str, start: str, end: str, value: object, inside: str = "", device: str = "Watch") -> str:
  name = "Apple\xa0Watch" if device == "Watch" else device
  unit_attribute = f' unit="{unit}"' if unit else ""
  return (
    f' <Record type="{kind}" sourceName="Somebody’s {name}" sourceVersion="10.3.1" device="&lt;&lt;HKDevice: '
    f"0x3034fc320&gt;, name:{name}, manufacturer:Apple Inc., model:{device}, hardware:{device}6,2, "
    f'software:10.3.1&gt;"{unit_attribute} creationDate="{end}" startDate="{start}" endDate="{end}" value="{value}"'
    + (f">\n  {inside}\n </Record>\n" if inside else "/>\n")
  )


def make_accelerometer(folder: pathlib.Path, megabytes: int) -> None:
  """Writes .gt3x files of a week at 30 Hz each, about 115 MB of ACTIVITY2 records before they are packed."""
  folder.mkdir(parents=True)
  for number in range(-(-megabytes // 115)):
    with zipfile.ZipFile(folder / f"person{number}.gt3x", "w", zipfile.ZIP_DEFLATED, compresslevel=1) as file:
      file.writestr("info.txt", "Serial Number: MOS2A1\nSample Rate: 30\nAcceleration Scale: 256.0\n")
      with file.open("log.bin", "w", force_zip64=True) as log:
        for hour in range(7 * 24):
          log.write(_accelerometer_hour(number, hour))


def _accelerometer_hour(number: int, hour: int) -> bytes:
  """An hour of records of ActiGraph's type 26 (see gt3x.py)."""
  seconds, size = 3600, 30 * 3 * 2
  records = np.zeros((seconds, 8 + size + 1), np.uint8)
  records[:, :2] = 0x1E, 0x1A
  at = 1_717_452_000 + 3600 * hour + np.arange(seconds)
  records[:, 2:6] = at.astype("<u4").view(np.uint8).reshape(-1, 4)
  records[:, 6:8] = np.array([size], "<u2").view(np.uint8)
  random = np.random.default_rng((number, hour))
  samples = random.normal((0, 200, 150), 60, (seconds, 30, 3))
  gravity = random.normal(size=3)
  samples[:1200] = 260 * gravity / np.sqrt((gravity**2).sum())  # twenty minutes of rest, which calibrate it
  samples = np.round(samples).astype("<i2")
  records[:, 8:-1] = samples.reshape(seconds, -1).view(np.uint8)
  records[:, -1] = ~np.bitwise_xor.reduce(records[:, :-1], axis=1)
  return records.tobytes()


MAKERS: dict[str, Callable[[pathlib.Path, int], None]] = {
  "accelerometer": make_accelerometer,
  "apple": make_apple,
  "fitabase": made_fitbit.fitabase,
  "fitbit": made_fitbit.takeout,
}


def measured(source: str, folder: str, build: bool) -> dict[str, object]:
  """Reads an export to its end, or builds a dataset from it, in a fresh process whose memory it measures."""
  export = Export(f"{folder}/export", "somebody")
  size = sum(export.size(name) for name in IMPORTERS[source].files(export)) / _MB
  before, started, busy = _peak(), time.perf_counter(), time.process_time()
  if build:
    _build(source, folder)
  else:
    _read(source, export)
  seconds = time.perf_counter() - started
  return {
    "source": source,
    "measured": "build" if build else "read",
    "megabytes": round(size),
    "seconds": round(seconds, 1),
    "cpu_seconds": round(time.process_time() - busy, 1),
    "megabytes_per_second": round(size / seconds, 1),
    "start_mb": round(before),
    "peak_mb": round(_peak()),
    "cores": os.cpu_count(),
    "machine": platform.machine(),
  }


def _peak() -> float:
  return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / _MB


def _read(source: str, export: Export) -> None:
  account = Account()
  for name in IMPORTERS[source].files(export):
    for _ in IMPORTERS[source].read(export, name, account):
      pass
  if not account.read or account.dropped:
    raise ValueError(f"read {account.read.total()} rows, dropped {account.dropped.total()}, expected all to be read")


def _build(source: str, folder: str) -> None:
  from data_pipelines.build import main as build_main

  arguments = [f"--source={source}", f"--input={folder}/export", f"--data_dir={folder}/data", "--name=made"]
  if build_main(["build", *arguments, "--timezone=Europe/Berlin"]):
    raise ValueError("the build failed")


def append(path: pathlib.Path, row: dict[str, object]) -> None:
  """Appends a row to a CSV file, with a header if the file is new."""
  path.parent.mkdir(parents=True, exist_ok=True)
  new = not path.exists()
  with path.open("a", newline="") as file:
    table = csv.DictWriter(file, list(row), lineterminator="\n")
    if new:
      table.writeheader()
    table.writerow(row)


def main(_: list[str]) -> None:
  source = _SOURCE.value
  if source not in MAKERS:
    raise app.UsageError(f"--source={source}: expected one of {', '.join(MAKERS)}")
  with tempfile.TemporaryDirectory() as folder:
    MAKERS[source](pathlib.Path(folder, "export"), _MEGABYTES.value)
    spawn = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(1, mp_context=spawn) as fresh:
      row = fresh.submit(measured, source, folder, _BUILD.value).result()
  append(pathlib.Path(_OUTPUT.value), row)
  print(", ".join(f"{key} {value}" for key, value in row.items()))


if __name__ == "__main__":
  app.run(main)
