"""Readings for the tests of gridding, and a short way from readings to days."""

import datetime

import numpy as np

from data_pipelines.ingest.gridding.columns import ReadingColumns
from data_pipelines.ingest.gridding.monthly_grid import Grid
from data_pipelines.ingest.gridding.recipe import Recipe
from data_pipelines.ingest.reading import clocks
from data_pipelines.ingest.reading.account import Account
from data_pipelines.ingest.reading.signals import Signal

HEART = Signal("heart_rate", "bpm", "PPG", low=20, high=250, zero_is_missing=True)
STEPS = Signal("steps", "steps", "ACC", rule="sum")
MINUTE = clocks.MINUTE


def ms(text: str) -> int:
  """Milliseconds of an ISO time with an offset, or of a wall clock without one."""
  time = datetime.datetime.fromisoformat(text)
  return round((time if time.tzinfo else time.replace(tzinfo=datetime.UTC)).timestamp() * 1000)


def to_columns(rows, wall=False, offset=clocks.NO_OFFSET):
  """Columns of rows (signal, start, end, value[, device])."""
  signal, start, end, value, device = zip(*((*row, 0)[:5] for row in rows), strict=True)
  n = len(rows)
  return ReadingColumns(
    signal=np.array(signal, np.int16),
    device=np.array(device, np.int16),
    start=np.array(start, np.int64),
    end=np.array(end, np.int64),
    value=np.array(value, float),
    offset=np.broadcast_to(np.int16(offset), n).copy(),
    wall=np.full(n, wall),
    file=np.zeros(n, np.int32),
  )


def grid_days(readings, signals=(HEART, STEPS), zone="UTC", devices=("",), **recipe):
  """Grids columns, or a list of parts, of one person. Returns the days by date, and dropped readings by reason."""
  parts = [readings] if isinstance(readings, ReadingColumns) else readings
  account = Account()
  grid = Grid(Recipe(tuple(signals), **{"max_missing": 1.0, **recipe}), zone and clocks.find_zone(zone), devices)
  days = {day.date: day for day in grid.days(parts, account, "p")}
  return days, {why: rows for (_, why), rows in account.dropped.items()}
