"""Withings, "Download your data": CSV files raw_*.csv with the columns start, duration, value.

start is ISO 8601 with an offset; duration (seconds) and value are lists of the same length, "[60,60]" and "[61,62]":
the values follow one another from start on. By the README.txt of the export and Withings' API
(https://developer.withings.com/api-reference):
  raw_hr_hr, raw_tracker_hr, raw_bed_hr   bpm, a sample at the start of each span
  raw_tracker_steps                       steps in the span
  raw_tracker_distance                    m in the span
  raw_tracker_calories-earned             kcal in the span, without resting energy
  raw_spo2_auto_spo2                      %
  raw_tracker_sleep-state, raw_bed_sleep-state   0 awake, 1 light, 2 deep, 3 REM
Steps, distance and calories are written where there is something to count. Not read: daily sums (aggregates_*), weight,
blood pressure, ECG, places.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from data_pipelines.ingest.importers.apps.rows import Row, fields, instants, items, number, parsed, readings
from data_pipelines.ingest.reading import csv_batches
from data_pipelines.ingest.reading.account import Account
from data_pipelines.ingest.reading.csv_batches import CsvBatch
from data_pipelines.ingest.reading.export_files import Export, base_name
from data_pipelines.ingest.reading.readings import Readings
from data_pipelines.ingest.reading.signals import Signal, common_signal

_WATCH, _BED = "1 tracker", "2 bed"
_FILES = {
  "raw_hr_hr": ("heart_rate", "bpm", _WATCH),
  "raw_tracker_hr": ("heart_rate", "bpm", _WATCH),
  "raw_bed_hr": ("heart_rate", "bpm", _BED),
  "raw_tracker_steps": ("steps", "steps", _WATCH),
  "raw_tracker_distance": ("distance", "m", _WATCH),
  "raw_tracker_calories-earned": ("active_calories", "kcal", _WATCH),
  "raw_spo2_auto_spo2": ("spo2", "%", _WATCH),
  "raw_tracker_sleep-state": ("asleep", "", _WATCH),
  "raw_bed_sleep-state": ("asleep", "", _BED),
}
_SAMPLES = ("heart_rate", "spo2")
_ASLEEP = {0: 0.0, 1: 1.0, 2: 1.0, 3: 1.0}
_NAN = float("nan")


class Withings:
  """Reads Withings' raw_*.csv; the module's docstring lists the files."""

  signals: Sequence[Signal] = (
    common_signal("heart_rate"),
    common_signal("steps", high=1000),
    common_signal("distance", high=2000),
    common_signal("active_calories", high=100),
    common_signal("spo2"),
    common_signal("asleep"),
  )
  devices: Sequence[str] = (_WATCH, _BED)
  beside: Sequence[str] = ()

  def files(self, export: Export) -> list[str]:
    return export.matching(*(f"{kind}.csv" for kind in _FILES))

  def read(self, export: Export, name: str, account: Account) -> Iterator[Readings]:
    signal, unit, device = _FILES[base_name(name).lower().removesuffix(".csv")]
    bad_rows = csv_batches.counting(account, export.participant, export, name)
    for batch in csv_batches.read_batches(export, name, ["start", "duration", "value"], ragged=bad_rows):
      rows = _rows(batch, signal, unit, device)
      yield from readings(rows, export.participant, export.where(name), account)


def _rows(batch: CsvBatch, signal: str, unit: str, device: str) -> Iterator[Row]:
  starts, offsets = instants(fields(batch, "start"))
  texts = zip(fields(batch, "duration"), fields(batch, "value"), strict=True)
  for row, start, offset, (duration, value) in zip(batch.numbers().tolist(), starts, offsets, texts, strict=True):
    durations, values = _list(duration), _list(value)
    if len(durations) != len(values) or not values:
      yield Row(signal, unit, start, start, _NAN, offset, device, ("row", row))
      continue
    begin = start
    for seconds, amount in zip(map(number, durations), map(number, values), strict=True):
      end = begin + 1000 * seconds
      level = _ASLEEP.get(int(amount), _NAN) if signal == "asleep" and amount == amount else amount
      until = begin if signal in _SAMPLES else end
      yield Row(signal, unit, begin, until, level, offset, device, ("row", row))
      begin = end


def _list(text: str) -> list[Any]:
  """The list that a text holds, or a single number; none if it is neither."""
  content = parsed(text)
  return [content] if isinstance(content, int | float) else items(content)
