"""Gadgetbridge, "Export database": an SQLite file called Gadgetbridge or Gadgetbridge.db.

Tables and columns are those of its source (https://codeberg.org/Freeyourgadget/Gadgetbridge, GBDaoGenerator). TIMESTAMP
is UTC. Of Mi Band, Amazfit and Xiaomi devices, a row per minute:
  MI_BAND_ACTIVITY_SAMPLE, HUAMI_EXTENDED_ACTIVITY_SAMPLE, XIAOMI_ACTIVITY_SAMPLE   TIMESTAMP s; HEART_RATE bpm, of
    which 0, 255 and negative numbers mean none; STEPS in the minute; where there are such columns, SPO2 % and STRESS 0
    to 100, of which 0 and negative numbers mean none
Of these and other devices, with TIMESTAMP ms:
  HUAMI_SPO2_SAMPLE, GENERIC_SPO2_SAMPLE SPO2; HUAMI_STRESS_SAMPLE, GENERIC_STRESS_SAMPLE STRESS;
  GENERIC_HEART_RATE_SAMPLE HEART_RATE
DEVICE has the IDENTIFIER of each device, its Bluetooth address, by which two exports are known to be one person's if
it has readings in these tables. Each
DEVICE_ID is a device; where two have a minute, the one with the lower number counts. Not read: sleep, whose codes
differ between devices (RAW_KIND, STAGE), tables of other devices, names, workouts, places.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence

from data_pipelines.errors import SchemaError
from data_pipelines.ingest.importers.apps.rows import Row, number, readings
from data_pipelines.ingest.importers.database import HEADER, Database, note_journal
from data_pipelines.ingest.reading.account import Account
from data_pipelines.ingest.reading.clocks import MINUTE
from data_pipelines.ingest.reading.export_files import Export
from data_pipelines.ingest.reading.owners import Owner, loose_places
from data_pipelines.ingest.reading.readings import Readings
from data_pipelines.ingest.reading.signals import Signal, common_signal

_NO_HEART_RATE = 255


@dataclasses.dataclass(frozen=True)
class _Table:
  """A table: its name, ms per unit of TIMESTAMP, and the columns that it may have."""

  name: str
  unit: int
  columns: tuple[str, ...]


_MINUTES = ("HEART_RATE", "STEPS", "SPO2", "STRESS")
_TABLES = (
  _Table("MI_BAND_ACTIVITY_SAMPLE", 1000, _MINUTES),
  _Table("HUAMI_EXTENDED_ACTIVITY_SAMPLE", 1000, _MINUTES),
  _Table("XIAOMI_ACTIVITY_SAMPLE", 1000, _MINUTES),
  _Table("HUAMI_SPO2_SAMPLE", 1, ("SPO2",)),
  _Table("GENERIC_SPO2_SAMPLE", 1, ("SPO2",)),
  _Table("HUAMI_STRESS_SAMPLE", 1, ("STRESS",)),
  _Table("GENERIC_STRESS_SAMPLE", 1, ("STRESS",)),
  _Table("GENERIC_HEART_RATE_SAMPLE", 1, ("HEART_RATE",)),
)
_SIGNALS = {"HEART_RATE": ("heart_rate", "bpm"), "SPO2": ("spo2", "%"), "STRESS": ("stress", "")}


class Gadgetbridge:
  """Reads the database of Gadgetbridge; the module's docstring lists the tables."""

  signals: Sequence[Signal] = (
    common_signal("heart_rate"),
    common_signal("steps", quiet=False, high=1000),
    common_signal("spo2"),
    common_signal("stress"),
  )
  devices: Sequence[str] = ()
  beside: Sequence[str] = ()

  def files(self, export: Export) -> list[str]:
    return [name for name in export.matching("*gadgetbridge*") if _is_database(export, name)]

  def owners(self, export: Export, names: Sequence[str]) -> dict[str, Owner]:
    places = loose_places(names)
    return {name: Owner(places[name], marks=_addresses(export, name)) for name in names}

  def read(self, export: Export, name: str, account: Account) -> Iterator[Readings]:
    where = export.where(name)
    note_journal(export, name, account)
    with export.on_disk(name) as path:
      database = Database(path, where, [table.name for table in _TABLES])
      try:
        present = [table for table in _TABLES if database.columns(table.name)]
        if not present:
          raise SchemaError(f"{where}: has none of the tables that are read, such as {_TABLES[0].name}")
        for table in present:
          yield from readings(_rows(database, table), export.participant, f"{where} table {table.name}", account)
      finally:
        database.close()


def _addresses(export: Export, name: str) -> frozenset[str]:
  """The Bluetooth addresses of the devices whose readings are read; none if the file cannot be read.

  Others, such as a scale, may be those of a household.
  """
  try:
    with export.on_disk(name) as path:
      database = Database(path, export.where(name), ["DEVICE", *(table.name for table in _TABLES)])
      try:
        tables = [table.name for table in _TABLES if "DEVICE_ID" in database.columns(table.name)]
        if not tables or not {"_id", "IDENTIFIER"} <= database.columns("DEVICE"):
          return frozenset()
        is_read = " OR ".join(f'"_id" IN (SELECT "DEVICE_ID" FROM "{table}")' for table in tables)
        query = f'SELECT "IDENTIFIER" FROM "DEVICE" WHERE {is_read}'
        found = {address for rows in database.batches(query) for (address,) in rows}
      finally:
        database.close()
  except SchemaError:
    return frozenset()  # reading it says so
  return frozenset(f"bluetooth {address.upper()}" for address in found if isinstance(address, str) and address)


def _is_database(export: Export, name: str) -> bool:
  try:
    with export.open(name) as file:
      return file.read(len(HEADER)) == HEADER
  except SchemaError:
    return False


def _rows(database: Database, table: _Table) -> Iterator[Row]:
  """One row for each value that a record has."""
  here = database.columns(table.name)
  columns = [column for column in table.columns if column in here]
  chosen = [f'"{column}"' if column in here else "NULL" for column in ("TIMESTAMP", "DEVICE_ID", *columns)]
  for records in database.batches(f'SELECT {", ".join(chosen)} FROM "{table.name}"'):
    for time, device, *values in records:
      at = table.unit * number(time)
      for column, value in zip(columns, map(number, values), strict=True):
        place = ("DEVICE_ID", device, "TIMESTAMP", time)
        if column == "STEPS":
          yield Row("steps", "steps", at, at + MINUTE, value, None, _device(device), place)
        elif not (value <= 0 or (column == "HEART_RATE" and value == _NO_HEART_RATE)):  # NaN is counted
          yield Row(*_SIGNALS[column], at, at, value, None, _device(device), place)


def _device(number_: object) -> str:
  return f"device {number_:04d}" if isinstance(number_, int) else "device"
