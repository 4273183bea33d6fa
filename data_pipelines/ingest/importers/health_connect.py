"""Google Health Connect: the database of its export ("Export data"), health_connect_export.db, alone or in a zip; or
a database of another name with such tables.

Tables and columns are those of Android's own storage (packages/modules/HealthFitness, *RecordHelper.java). Units are
those in which its data types keep values (https://developer.android.com/reference/android/health/connect/datatypes):
energy in calories (thousandths of a kcal), everything else as listed below. Times are milliseconds since 1970 UTC, and
offsets are seconds ahead of UTC. Records have (start_time, start_zone_offset, end_time) or (time, zone_offset),
app_info_id, device_info_id, and recording_method, which is 3 if entered by hand (stretches count all the same):
  steps_record_table count; distance_record_table distance m; floors_climbed_record_table floors
  total_calories_burned_record_table, active_calories_burned_record_table energy cal
  oxygen_saturation_record_table percentage %; respiratory_rate_record_table rate 1/min
  heart_rate_variability_rmssd_record_table heart_rate_variability_millis ms
  blood_glucose_record_table level mmol/L
  exercise_session_record_table exercise_type: a workout
Records that span two tables; parent_key in the second is the row_id of the first:
  heart_rate_record_table + heart_rate_record_series_table epoch_millis, beats_per_minute
  skin_temperature_record_table baseline C + skin_temperature_delta_table epoch_millis, delta C: the sum of both, or
    the signal skin_temperature_delta if there is no baseline
  sleep_session_record_table, a stretch "sleep" + sleep_stages_table stage_start_time, stage_end_time, stage_type
The app that wrote a record is application_info_table package_name, and the device is device_info_table device_type.
Titles, notes, routes, places and all other tables are not read. Older versions lack some tables, so a missing table is
not an error.
"""

from __future__ import annotations

import contextlib
import dataclasses
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Float64, Int64

from data_pipelines.errors import SchemaError
from data_pipelines.ingest.importers.database import HEADER, Database, note_journal
from data_pipelines.ingest.importers.health_connect_tables import (
  APPS,
  ASLEEP,
  EXERCISES,
  KINDS,
  MACHINES,
  STRETCHES,
  TABLES,
  TRUST,
  TYPES,
  Kind,
)
from data_pipelines.ingest.reading.account import UNREADABLE, Account
from data_pipelines.ingest.reading.export_files import Export
from data_pipelines.ingest.reading.owners import Owner
from data_pipelines.ingest.reading.readings import ENTERED_BY_HAND, Readings, Stretch
from data_pipelines.ingest.reading.signals import Signal, common_signal

_YEAR_2100 = 4_102_444_800_000  # a later time is a mistake
_LARGEST_OFFSET = 18 * 3600  # seconds; the limit of Java's ZoneOffset
_NUMERIC = {int, float, type(None)}
_ENTERED_BY_HAND = 3  # a recording_method
_NO_BASELINE = 1e-9  # Android writes the smallest double if there is no baseline


class HealthConnect:
  """Reads the export of Google Health Connect; the module's docstring lists the tables."""

  signals: Sequence[Signal] = (
    common_signal("heart_rate"),
    common_signal("steps"),
    common_signal("distance"),
    common_signal("floors"),
    common_signal("calories"),
    common_signal("active_calories"),
    common_signal("spo2"),
    common_signal("respiratory_rate"),
    common_signal("hrv_rmssd"),
    common_signal("glucose"),
    common_signal("skin_temperature"),
    common_signal("skin_temperature_delta"),
    common_signal("asleep"),
  )
  devices: Sequence[str] = ()  # device names start with their rank
  beside: Sequence[str] = ()

  def files(self, export: Export) -> list[str]:
    named = export.matching("*health*connect*.db")
    single = export.names if len(export.names) == 1 else []
    others = [name for name in {*export.matching("*.db", "*.sqlite"), *single} if name not in named]
    return sorted([*named, *(name for name in others if _has_records(export, name))])

  def owners(self, export: Export, names: Sequence[str]) -> dict[str, Owner]:
    return {name: Owner(name) for name in names}

  def read(self, export: Export, name: str, account: Account) -> Iterator[Readings | Stretch]:
    note_journal(export, name, account)
    with export.on_disk(name) as path:
      database = Database(path, export.where(name), TABLES)
      try:
        yield from _Reader(database, export.participant, export.where(name), account).all()
      finally:
        database.close()


def _has_records(export: Export, name: str) -> bool:
  """True if a file is a database with a table of records, whatever it is called."""
  try:
    with export.open(name) as file:
      if file.read(len(HEADER)) != HEADER:
        return False
    with export.on_disk(name) as path:
      database = Database(path, export.where(name), TABLES)
      try:
        return any(database.columns(kind.table) for kind in (*KINDS, *STRETCHES))
      finally:
        database.close()
  except SchemaError:
    return False


@dataclasses.dataclass(frozen=True)
class _Records:
  """Columns of a batch of n records; NaN or None where a record has no value.

  Attributes:
    first: number of the first record in its table.
    start, end: milliseconds since 1970.
    value: as stored in the file.
    offset: seconds ahead of UTC.
    method: recording_method.
    plus: the parent's value to add.
    app, machine: row_id in their tables.
  """

  first: int
  start: Float64[np.ndarray, "n"]
  end: Float64[np.ndarray, "n"]
  value: Float64[np.ndarray, "n"]
  offset: Float64[np.ndarray, "n"]
  method: Float64[np.ndarray, "n"]
  plus: Float64[np.ndarray, "n"]
  app: Sequence[Any]
  machine: Sequence[Any]


class _Reader:
  """Turns one database into readings."""

  def __init__(self, database: Database, participant: str, where: str, account: Account):
    self._database = database
    self._participant = participant
    self._where = where
    self._account = account
    self._apps = self._names(APPS, "package_name")
    self._machines = self._names(MACHINES, "device_type")

  def all(self) -> Iterator[Readings | Stretch]:
    """Yields the readings and stretches of every table; SchemaError if the file has none of them."""
    if not any(self._database.columns(kind.table) for kind in (*KINDS, *STRETCHES)):
      raise SchemaError(f"{self._where}: has none of Health Connect's tables, such as steps_record_table")
    for kind in (*KINDS, *STRETCHES):
      read = self._readings if kind in KINDS else self._stretches
      try:
        for rows in self._rows(kind):
          yield from read(kind, rows)  # type: ignore[operator]
      except SchemaError as error:  # the other tables may be sound
        place = str(error).removeprefix(self._where)
        self._account.damaged(self._participant, UNREADABLE, f"{self._where} table {kind.table}", place)
    with contextlib.suppress(SchemaError):  # a damaged table of a type that is not read
      for table, records in self._database.rows(r"[a-z0-9_]{1,80}_record_table").items():
        self._account.pass_over(self._participant, table.removesuffix("_record_table"), records)

  def _names(self, table: str, column: str) -> Mapping[Any, Any]:
    if not {"row_id", column} <= self._database.columns(table):
      return {}
    query = f'SELECT row_id, "{column}" FROM "{table}"'
    return {row: name for rows in self._database.batches(query) for row, name in rows}

  def _rows(self, kind: Kind) -> Iterator[_Records]:
    if not self._database.columns(kind.table):
      return
    first = 1
    for rows in self._database.batches(self._query(kind)):
      self._account.add(self._participant, len(rows))
      *numbers, app, machine = zip(*rows, strict=True)
      start, end, value, offset, method, plus = map(_numbers, numbers)
      yield _Records(first, start, end, value, offset, method, plus, app, machine)
      first += len(rows)

  def _query(self, kind: Kind) -> str:
    """A SELECT of the columns of _Records, with NULL for those that the file lacks."""
    here = self._database.columns(kind.table)
    above = self._database.columns(kind.parent) if kind.parent else here
    link = next((name for name in ("parent_key", "parent_id") if name in here), None)
    for column in (*kind.times[:2], kind.value):
      if column not in here:
        raise SchemaError(f"{self._where}: table {kind.table!r} has no column {column!r}")
    joined = not kind.parent or (link and "row_id" in above)
    rest = (kind.times[2], "recording_method", kind.plus, "app_info_id", "device_info_id")
    columns = [f't."{name}"' for name in (*kind.times[:2], kind.value)]
    alias = "p" if kind.parent else "t"
    columns += [f'{alias}."{name}"' if joined and name and name in above else "NULL" for name in rest]
    join = f' LEFT JOIN "{kind.parent}" p ON p.row_id = t."{link}"' if kind.parent and joined else ""
    return f'SELECT {", ".join(columns)} FROM "{kind.table}" t{join}'

  def _usable(self, rows: _Records) -> Bool[np.ndarray, "n"]:
    """A mask of the records with valid times and a value; all others are counted as dropped."""
    start, end, offset = rows.start, rows.end, rows.offset
    checks = (
      ("without a time between 1970 and 2100", ~((start > 0) & (start < _YEAR_2100) & (end > 0) & (end < _YEAR_2100))),
      ("that ends before it starts", end < start),
      ("with an impossible time zone", np.abs(offset) > _LARGEST_OFFSET),
      ("without a value, or an unknown one", ~np.isfinite(rows.value)),
    )
    usable = np.ones(len(start), bool)
    for why, bad in checks:
      bad &= usable
      if bad.any():
        where = f"{self._where} row {rows.first + int(np.argmax(bad))} of its table"
        self._account.drop(self._participant, f"record {why}", int(bad.sum()), where)
      usable &= ~bad
    return usable

  def _readings(self, kind: Kind, rows: _Records) -> Iterator[Readings]:
    if kind.signal == "asleep":
      known = np.isin(rows.value, range(len(ASLEEP)))
      rows = dataclasses.replace(rows, value=ASLEEP[np.where(known, rows.value, 0).astype(np.int64)])
    usable = self._usable(rows)
    if not kind.plus:
      yield from self._by_device(kind.signal, kind.unit, rows, usable)
      return
    given = np.abs(rows.plus) > _NO_BASELINE
    yield from self._by_device(f"{kind.signal}_delta", kind.unit, rows, usable & ~given)
    yield from self._by_device(
      kind.signal, kind.unit, dataclasses.replace(rows, value=rows.value + rows.plus), usable & given
    )

  def _by_device(self, signal: str, unit: str, rows: _Records, usable: Bool[np.ndarray, "n"]) -> Iterator[Readings]:
    """Yields the usable records by device, separately with and without an offset."""
    devices, device = self._devices(rows)
    known = np.isfinite(rows.offset)
    typed_in = rows.method == _ENTERED_BY_HAND
    device, devices = np.where(typed_in, len(devices), device), [*devices, ENTERED_BY_HAND]
    for which, zoned in sorted(set(zip(device[usable].tolist(), known[usable].tolist(), strict=True))):
      chosen = usable & (device == which) & (known == zoned)
      start, end = rows.start[chosen].astype(np.int64), rows.end[chosen].astype(np.int64)
      offset = np.round(rows.offset[chosen] / 60).astype(np.int64) if zoned else None
      yield Readings(self._participant, signal, unit, start, end, rows.value[chosen], devices[which], offset)

  def _stretches(self, kind: Kind, rows: _Records) -> Iterator[Stretch]:
    for row in np.flatnonzero(self._usable(rows)):
      name = kind.signal or _exercise(rows.value[row])
      offset = None if np.isnan(rows.offset[row]) else round(rows.offset[row] / 60)
      yield Stretch(self._participant, name, int(rows.start[row]), int(rows.end[row]), offset)

  def _devices(self, rows: _Records) -> tuple[list[str], Int64[np.ndarray, "n"]]:
    """Returns device names, most trusted first, and the index of each record's device among them.

    A name such as "01 watch com.fitbit.FitbitMobile" gives the rank, the kind of device and the app.
    """
    pairs = list(zip(rows.machine, rows.app, strict=True))
    named = {pair: self._device(*pair) for pair in set(pairs)}
    devices = sorted(set(named.values()))
    place = {pair: devices.index(name) for pair, name in named.items()}
    return devices, np.array([place[pair] for pair in pairs], np.int64)

  def _device(self, machine: Any, app: Any) -> str:
    kind = self._machines.get(machine, 0)
    kind = kind if kind in TRUST else 0
    package = self._apps.get(app)
    named = isinstance(package, str) and re.fullmatch(r"[\w.]{1,100}", package)
    return f"{TRUST.index(kind):02d} {TYPES[kind]}" + (f" {package}" if named else "")


def _exercise(number: float) -> str:
  names = EXERCISES.split()
  return names[int(number)] if number in range(len(names)) else "other"


def _numbers(column: Sequence[Any]) -> Float64[np.ndarray, "n"]:
  """Numbers as stored, and NaN for NULL and for text or bytes, which SQLite allows in any column."""
  if not set(map(type, column)) <= _NUMERIC:
    column = [value if type(value) in _NUMERIC else None for value in column]
  return np.array(column, np.float64)
