"""Zepp (Amazfit, Mi Band; formerly Mi Fit), "Export data": CSV files in folders of the same names.

  HEARTRATE_AUTO_*.csv    date, time, heartRate: bpm; wall clock ("2024-06-04", "08:00")
  HEARTRATE_*.csv         time, heartRate: bpm, measured by hand; UTC ("2024-06-04 06:00:00+0000")
  ACTIVITY_MINUTE_*.csv   date, time, steps: steps in the minute that starts then; wall clock
  SLEEP_*.csv             start, stop: a night, as the stretch "sleep"; UTC
Zepp describes none of them; the shape is that on which readers of real exports agree. Not read: SLEEP_MINUTE, whose
dates are a day off in some exports and not in others, ACTIVITY and ACTIVITY_STAGE (sums of the above), SPORT, BODY.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from data_pipelines.ingest.importers.apps.rows import Row, fields, instants, number, readings, stretch
from data_pipelines.ingest.reading import csv_batches
from data_pipelines.ingest.reading.account import Account
from data_pipelines.ingest.reading.clocks import MINUTE
from data_pipelines.ingest.reading.csv_batches import CsvBatch
from data_pipelines.ingest.reading.export_files import Export, without_copy_number
from data_pipelines.ingest.reading.readings import Readings, Stretch
from data_pipelines.ingest.reading.signals import Signal, common_signal

_NAME = re.compile(r"(.*/)?(?P<kind>HEARTRATE_AUTO|HEARTRATE|ACTIVITY_MINUTE|SLEEP)(_\d+)?\.csv")


class Zepp:
  """Reads Zepp's CSV files; the module's docstring lists them."""

  signals: Sequence[Signal] = (common_signal("heart_rate"), common_signal("steps", high=1000))
  devices: Sequence[str] = ()
  beside: Sequence[str] = ()

  def files(self, export: Export) -> list[str]:
    return [name for name in export.names if _NAME.fullmatch(without_copy_number(name))]

  def read(self, export: Export, name: str, account: Account) -> Iterator[Readings | Stretch]:
    match = _NAME.fullmatch(without_copy_number(name))
    kind = match["kind"] if match else ""
    who, where = export.participant, export.where(name)
    bad_rows = csv_batches.counting(account, who, export, name)
    if kind == "SLEEP":
      for batch in csv_batches.read_batches(export, name, ["start", "stop"], ragged=bad_rows):
        starts, stops = instants(fields(batch, "start"))[0], instants(fields(batch, "stop"))[0]
        for i, (start, stop) in enumerate(zip(starts, stops, strict=True)):
          if start != stop:  # a day without a night
            yield from stretch("sleep", start, stop, who, batch.where(i), account)
    elif kind == "HEARTRATE":
      for batch in csv_batches.read_batches(export, name, ["time", "heartRate"], ragged=bad_rows):
        at = instants(fields(batch, "time"))[0]
        yield from readings(_samples(batch, at, fields(batch, "heartRate")), who, where, account)
    else:
      column = "heartRate" if kind == "HEARTRATE_AUTO" else "steps"
      for batch in csv_batches.read_batches(export, name, ["date", "time", column], ragged=bad_rows):
        clock = zip(fields(batch, "date"), fields(batch, "time"), strict=True)
        at = instants([f"{date}T{time}Z" for date, time in clock])[0]
        values = fields(batch, column)
        rows = (_samples if column == "heartRate" else _minutes)(batch, at, values)
        yield from readings(rows, who, where, account, clock="wall")


def _samples(batch: CsvBatch, times: Sequence[float], values: Sequence[str]) -> Iterator[Row]:
  for row, at, value in zip(batch.numbers().tolist(), times, values, strict=True):
    yield Row("heart_rate", "bpm", at, at, number(value), place=("row", row))


def _minutes(batch: CsvBatch, times: Sequence[float], values: Sequence[str]) -> Iterator[Row]:
  for row, at, value in zip(batch.numbers().tolist(), times, values, strict=True):
    yield Row("steps", "steps", at, at + MINUTE, number(value), place=("row", row))
