"""mhealthdata (https://github.com/timpyrkov/mhealthdata): the npz of save_device_npz, per-minute arrays of one person.

  idate     int [days], proleptic ordinal days: day 1 is the 1st of January of year 1
  bpm       [days, 1440], heart rate; 0 means none
  steps     [days, 1440]; 0 means none, or none walked
  sleep     [days, 1440]; 0 no night, 1 awake, 2 without a stage, 3 REM, 4 restless, 5 light, 6 asleep, 7 deep
Minutes are of the local clock, as mhealthdata makes them. Minutes of 0 are no readings; steps are 0 where the recipe
infers from the heart rate that the device was worn. Restless and 2 are no readings of sleep. rhr, hrv, weight (one per
day) and tz are not read.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float64, Int64

from data_pipelines.errors import SchemaError
from data_pipelines.ingest.reading.account import Account
from data_pipelines.ingest.reading.clocks import MINUTE
from data_pipelines.ingest.reading.export_files import Export
from data_pipelines.ingest.reading.owners import Owner
from data_pipelines.ingest.reading.readings import Readings
from data_pipelines.ingest.reading.signals import Signal, common_signal
from data_pipelines.schema import MINUTES_PER_DAY

_TO_1970 = 719_163  # ordinal days
_FIRST, _LAST = 726_468, 766_645  # 1990 and 2100
_ARRAYS = {"bpm": ("heart_rate", "bpm"), "steps": ("steps", "steps"), "sleep": ("asleep", "")}
_ASLEEP = np.array([np.nan, 0, np.nan, 1, np.nan, 1, 1, 1])
_MOST = 2**28  # bytes of an array: 46 years


class MHealthData:
  """Reads the npz files of mhealthdata; the module's docstring lists the arrays."""

  signals: Sequence[Signal] = (common_signal("heart_rate"), common_signal("steps", high=255), common_signal("asleep"))
  devices: Sequence[str] = ()
  beside: Sequence[str] = ()

  def files(self, export: Export) -> list[str]:
    return [name for name in export.matching("*.npz") if _has_days(export, name)]

  def owners(self, export: Export, names: Sequence[str]) -> dict[str, Owner]:
    return {name: Owner(name) for name in names}  # a file is of one person, and does not say of whom

  def read(self, export: Export, name: str, account: Account) -> Iterator[Readings]:
    where = export.where(name)
    with export.inside(name) as inside:
      days = _days(_array(inside, "idate"), where)
      for key, (signal, unit) in _ARRAYS.items():
        if f"{key}.npy" not in inside.names:
          continue
        values = _array(inside, key)
        if values.shape != (len(days), MINUTES_PER_DAY) or values.dtype.kind not in "fiu":
          found = f"{values.dtype} {list(values.shape)}"
          raise SchemaError(f"{where}: key {key!r} is {found}, expected numbers [{len(days)}, {MINUTES_PER_DAY}]")
        yield from _readings(signal, unit, days, values.astype(np.float64), export.participant, where, account)


def _readings(
  signal: str,
  unit: str,
  days: Int64[np.ndarray, "d"],
  values: Float64[np.ndarray, "d 1440"],
  participant: str,
  where: str,
  account: Account,
) -> Iterator[Readings]:
  if signal == "asleep":
    values = np.nan_to_num(values, nan=0.0)  # no reading
    known = np.isin(values, np.arange(len(_ASLEEP)))
    values = np.where(known, _ASLEEP[np.where(known, values, 0).astype(np.int64)], np.inf)
    present = ~np.isnan(values)
  else:
    present = (values != 0) & ~np.isnan(values)
  day, minute = np.nonzero(present)
  value = values[present]
  account.add(participant, len(value))
  good = np.isfinite(value)
  account.drop(participant, f"unreadable {signal}", int((~good).sum()), where)
  if good.any():
    start = ((days[day] * MINUTES_PER_DAY + minute) * MINUTE)[good]
    end = start if signal == "heart_rate" else start + MINUTE
    yield Readings(participant, signal, unit, start, end, value[good], clock="wall")


def _has_days(export: Export, name: str) -> bool:
  try:
    with export.inside(name) as inside:
      return "idate.npy" in inside.names and any(f"{key}.npy" in inside.names for key in _ARRAYS)
  except SchemaError:
    return False  # no zip


def _array(inside: Export, key: str) -> Any:
  name = f"{key}.npy"
  if inside.size(name) > _MOST:
    raise SchemaError(f"{inside.where(name)}: has {inside.size(name):,} bytes, expected at most {_MOST:,}")
  try:
    with inside.open(name) as file:
      return np.lib.format.read_array(file, allow_pickle=False)
  except (ValueError, EOFError, SyntaxError, TypeError):
    raise SchemaError(f"{inside.where(name)}: not an array, or a damaged one") from None


def _days(ordinals: Any, where: str) -> Int64[np.ndarray, "d"]:
  """Days since 1970."""
  if ordinals.ndim != 1 or ordinals.dtype.kind not in "iu" or len(np.unique(ordinals)) != len(ordinals):
    raise SchemaError(f"{where}: key 'idate' is {ordinals.dtype} {list(ordinals.shape)}, expected distinct days")
  if len(ordinals) and not (ordinals.min() >= _FIRST and ordinals.max() < _LAST):
    raise SchemaError(f"{where}: key 'idate' has day {ordinals.min()}, expected ordinal days of 1990 to 2100")
  return ordinals.astype(np.int64) - _TO_1970
