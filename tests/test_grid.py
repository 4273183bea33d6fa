"""Readings on the steps of days (data_pipelines.grid, combine, columns)."""

import datetime

import numpy as np
import pytest

from data_pipelines import clocks
from data_pipelines.columns import Columns
from data_pipelines.grid import Grid
from data_pipelines.readings import Account, Signal
from data_pipelines.recipe import Recipe
from data_pipelines.schema import SchemaError

HEART = Signal("heart_rate", "bpm", "PPG", low=20, high=250, zero_is_missing=True)
STEPS = Signal("steps", "steps", "ACC", rule="sum")
MINUTE = 60_000


def ms(text: str) -> int:
  """Milliseconds of an ISO time with its offset, or of a wall clock without."""
  time = datetime.datetime.fromisoformat(text)
  return round((time if time.tzinfo else time.replace(tzinfo=datetime.UTC)).timestamp() * 1000)


def columns(rows, wall=False, offset=clocks.NO_OFFSET):
  """Columns of (signal, start, end, value[, device])."""
  signal, start, end, value, device = zip(*((*row, 0)[:5] for row in rows), strict=True)
  ints = lambda values, kind=np.int64: np.array(values, kind)
  n = len(rows)
  clock = (np.broadcast_to(np.int16(offset), n).copy(), np.full(n, wall))
  return Columns(ints(signal, np.int16), ints(device, np.int16), ints(start), ints(end), np.array(value, float), *clock)


def days(rows, signals=(HEART, STEPS), zone="UTC", devices=("",), **recipe):
  """Days by date, and what was dropped, of Columns or of parts of them."""
  parts = [rows] if isinstance(rows, Columns) else rows
  account = Account()
  grid = Grid(Recipe(tuple(signals), **{"max_missing": 1.0, **recipe}), zone and clocks.zone(zone), devices)
  found = {day.date: day for day in grid.days(parts, account, "p")}
  return found, {why: rows for (_, why), rows in account.dropped.items()}


def test_readings_become_the_minutes_they_are_of():
  noon = ms("2024-01-10T12:00:00+00:00")
  rows = [
    (0, noon, noon, 60),
    (0, noon + 30_000, noon + 30_000, 70),
    (1, noon, noon + 2 * MINUTE, 10),
  ]
  found, dropped = days(columns(rows), zone="Europe/Berlin")
  values = found["2024-01-10"].values
  assert values.shape == (1440, 2) and values.dtype == np.float32
  assert values[13 * 60, 0] == 65 and values[13 * 60, 1] == 5 and values[13 * 60 + 1, 1] == 5
  assert np.isnan(values).sum() == 2 * 1440 - 3
  assert dropped == {}


def test_utc_needs_a_zone():
  with pytest.raises(SchemaError, match="readings of heart_rate are in UTC"):
    days(columns([(0, ms("2024-01-10T12:00"), ms("2024-01-10T12:00"), 60)]), zone=None)
