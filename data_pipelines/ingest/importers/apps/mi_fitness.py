"""Xiaomi's Mi Fitness, by a request of the account's data (https://account.xiaomi.com): hlth_center_fitness_data.csv.

Its columns are Uid, Sid, Key, Time (s since 1970 UTC), Value (JSON) and UpdateTime. By Key: heart_rate and
single_heart_rate "bpm"; spo2 and single_spo2 "spo2" (%); stress and single_stress "stress" (0 to 100). The shape is
that on which readers of real exports agree; Xiaomi describes it nowhere. Not read, and counted: steps, calories and
intensity, as it is said nowhere how long a record of these lasts; sleep, whose codes of stages are described nowhere;
other keys. A file with several Uid is of as many people, who are named by it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from data_pipelines.errors import SchemaError
from data_pipelines.ingest.importers.apps.rows import Row, entry, fields, number, parsed, readings
from data_pipelines.ingest.reading import csv_batches
from data_pipelines.ingest.reading.account import Account
from data_pipelines.ingest.reading.csv_batches import CsvBatch
from data_pipelines.ingest.reading.export_files import Export, without_copy_number
from data_pipelines.ingest.reading.owners import Owner
from data_pipelines.ingest.reading.readings import Readings
from data_pipelines.ingest.reading.signals import Signal, common_signal

_NAME = re.compile(r"(.*/)?[^/]*hlth_center_fitness_data\.csv", re.IGNORECASE)
_KEYS = {
  **dict.fromkeys(("heart_rate", "single_heart_rate"), ("heart_rate", "bpm", "bpm")),
  **dict.fromkeys(("spo2", "single_spo2"), ("spo2", "%", "spo2")),
  **dict.fromkeys(("stress", "single_stress"), ("stress", "", "stress")),
}


class MiFitness:
  """Reads the readings of Mi Fitness; the module's docstring lists them."""

  signals: Sequence[Signal] = (common_signal("heart_rate"), common_signal("spo2"), common_signal("stress"))
  devices: Sequence[str] = ()
  beside: Sequence[str] = ()

  def files(self, export: Export) -> list[str]:
    return [name for name in export.names if _NAME.fullmatch(without_copy_number(name))]

  def owners(self, export: Export, names: Sequence[str]) -> dict[str, Owner]:
    return {name: _owner(export, name) for name in names}

  def read(self, export: Export, name: str, account: Account) -> Iterator[Readings]:
    owners = _uids(export, name)
    bad_rows = csv_batches.counting(account, export.participant, export, name)
    for batch in csv_batches.read_batches(export, name, ["Uid", "Key", "Time", "Value"], ragged=bad_rows):
      for uid in sorted(set(fields(batch, "Uid"))):
        who = export.participant if len(owners) < 2 else uid or export.participant
        yield from readings(_rows(batch, uid, who, account), who, export.where(name), account)


def _uids(export: Export, name: str) -> set[str]:
  """The accounts that the rows name."""
  batches = csv_batches.read_batches(export, name, ["Uid"], ragged=lambda row, why: None)
  return {uid for batch in batches for uid in fields(batch, "Uid")} - {""}


def _owner(export: Export, name: str) -> Owner:
  """The account, if all rows that name one name the same."""
  try:
    uids = _uids(export, name)
  except SchemaError:
    return Owner(name)  # reading it says so
  folder = name.rpartition("/")[0]
  return Owner(folder, account=f"xiaomi {min(uids)}") if len(uids) == 1 else Owner(folder, in_rows=len(uids) > 1)


def _rows(batch: CsvBatch, owner: str, participant: str, account: Account) -> Iterator[Row]:
  columns = (fields(batch, column) for column in ("Uid", "Key", "Time", "Value"))
  for row, uid, key, time, value in zip(batch.numbers().tolist(), *columns, strict=True):
    if uid != owner:
      continue
    if key not in _KEYS:
      account.pass_over(participant, key)
      continue
    signal, unit, field = _KEYS[key]
    at = 1000 * number(time)
    yield Row(signal, unit, at, at, number(entry(parsed(value), field)), place=("row", row))
