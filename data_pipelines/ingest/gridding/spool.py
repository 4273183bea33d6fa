"""Readings on their way from the files of exports to days: on disk, by person and time, in a private folder.

FOLDER/part-N.parquet   person (a number), series (signal, unit, device and clock, numbered), start, end, value, offset,
                        sorted by person and start
FOLDER/journal.jsonl    a line for every commit: its files and their digests, its parts, new people and series, rows of
                        each person, the account and the stretches

Files that end between two commits share the parts. A part that no line tells of was being written when the import was
interrupted, and is thrown away; so is what was read from a file that has changed since.
"""

from __future__ import annotations

import collections
import dataclasses
import json
import os
import pathlib
import time
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from tqdm import tqdm

from data_pipelines.ingest.reading import units
from data_pipelines.ingest.reading.clocks import NO_OFFSET
from data_pipelines.ingest.reading.input_files import Input, Watched
from data_pipelines.ingest.reading.readings import Account, Readings, Stretch

ROWS_A_PART = 2**20  # readings held in memory while reading, 34 bytes each and as much again to sort them
ROWS_A_GROUP = 2**15
SECONDS_A_COMMIT = 60.0

_SCHEMA = pa.schema(
  [
    ("person", pa.int32()),
    ("series", pa.int16()),
    ("start", pa.int64()),
    ("end", pa.int64()),
    ("value", pa.float64()),
    ("offset", pa.int16()),
  ]
)


@dataclasses.dataclass(frozen=True)
class Series:
  """What rows of a part have in common: fields of Readings."""

  signal: str
  unit: str
  device: str
  clock: str


class Spool:
  """Appends readings file by file.

  Attributes:
    people: names, by number.
    series: by number.
    rows: readings of each person, by number.
    account: of all files that are complete.
    stretches: of these too.
  """

  def __init__(self, folder: pathlib.Path, files: Mapping[str, str]):
    """Opens or makes a spool.

    Args:
      folder: nothing else may be in it.
      files: names of the files to read, and what changes if their content does.
    """
    self.folder = folder
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    self._files = files
    self._journal = folder / "journal.jsonl"
    self._lines = [_valid(line, files) for line in _read(self._journal)]
    _replace(self._journal, "".join(json.dumps(line) + "\n" for line in self._lines))
    self.parts = [part for line in self._lines for part in line["parts"]]
    for stray in folder.glob("part-*"):
      if stray.name not in self.parts:
        stray.unlink()
    self._load()
    self._number = 1 + max((int(part[5:-8]) for part in self.parts), default=-1)
    self._started()

  def _load(self) -> None:
    self.people = [name for line in self._lines for name in line["people"]]
    self.series = [Series(*fields) for line in self._lines for fields in line["series"]]
    self._person = {name: n for n, name in enumerate(self.people)}
    self._numbers = {series: n for n, series in enumerate(self.series)}
    self.complete = {name for line in self._lines for name in line["files"]}
    self.rows: collections.Counter[int] = collections.Counter()
    self.account = Account()
    self.stretches: list[Stretch] = []
    for line in self._lines:
      self._take(line)

  def _take(self, line: Mapping[str, Any]) -> None:
    for person, rows in line["rows"]:
      self.rows[person] += rows
    merge(self.account, account_of(line["account"]))
    self.stretches += [Stretch(**fields) for fields in line["stretches"]]

  def _started(self) -> None:
    self._blocks: list[tuple[int, Readings]] = []
    self._held = 0
    self._since = time.monotonic()
    self._new_parts: list[str] = []
    self._new_rows: collections.Counter[int] = collections.Counter()
    self._new_files: dict[str, str] = {}
    self._new_stretches: list[Stretch] = []
    self._new_account = Account()
    self._known = len(self.people), len(self.series)

  def add(self, found: Readings | Stretch) -> None:
    """Something that the file being read holds."""
    if isinstance(found, Stretch):
      self._new_stretches.append(found)
      return
    self._blocks.append((self._series(found), found))
    self._new_rows[self._number_of(found.participant)] += len(found.start)
    self._held += len(found.start)
    if self._held >= ROWS_A_PART:
      self._write_part()

  def end_file(self, name: str, account: Account) -> None:
    """The file that was being read is complete."""
    self._new_files[name] = self._files[name]
    merge(self._new_account, account)
    if self._new_parts or time.monotonic() - self._since > SECONDS_A_COMMIT:
      self.commit()

  def commit(self) -> None:
    """Makes all complete files last."""
    self._write_part()
    people, series = self._known
    line = {
      "files": self._new_files,
      "parts": self._new_parts,
      "people": self.people[people:],
      "series": [dataclasses.astuple(one) for one in self.series[series:]],
      "rows": list(self._new_rows.items()),
      "account": as_json(self._new_account),
      "stretches": [dataclasses.asdict(one) for one in self._new_stretches],
    }
    with self._journal.open("a") as file:
      file.write(json.dumps(line) + "\n")
      file.flush()
      os.fsync(file.fileno())
    self.parts += self._new_parts
    self._take(line)
    self.complete |= set(self._new_files)
    self._started()

  def _number_of(self, participant: str) -> int:
    if participant not in self._person:
      self._person[participant] = len(self.people)
      self.people.append(participant)
    return self._person[participant]

  def _series(self, found: Readings) -> int:
    series = Series(found.signal, found.unit, found.device, found.clock)
    if series not in self._numbers:
      self._numbers[series] = len(self.series)
      self.series.append(series)
    return self._numbers[series]

  def _write_part(self) -> None:
    if not self._held:
      return
    columns = _columns([(self._person[block.participant], series, block) for series, block in self._blocks])
    self._blocks, self._held = [], 0
    order = np.lexsort((columns["start"], columns["person"]))
    table = pa.table({name: column[order] for name, column in columns.items()}, schema=_SCHEMA)
    name = f"part-{self._number:06d}.parquet"
    self._number += 1
    with (self.folder / name).open("wb") as file:
      pq.write_table(table, file, row_group_size=ROWS_A_GROUP, compression="zstd", compression_level=1)
      file.flush()
      os.fsync(file.fileno())
    self._new_parts.append(name)


def spooled(given: Input, folder: pathlib.Path) -> Spool:
  """All readings of an input in a spool in `folder`; what is there of an interrupted import is not read again."""
  units_of = {signal.name: signal.unit for signal in given.importer.signals}
  spool = Spool(folder, given.digests)
  with tqdm(total=sum(given.files.values()), desc="reading", unit="B", unit_scale=True, disable=None) as progress:
    for n, export in enumerate(given.exports):
      watched = Watched(export.path, export.participant, progress.update)
      for name in given.importer.files(export):
        before, key = progress.n, given.key(n, name)
        if key not in spool.complete:
          account = Account()
          for found in given.importer.read(watched, name, account):
            if isinstance(found, Readings) and found.signal in units_of:
              units.convert(np.empty(0), found.unit, units_of[found.signal], export.where(name))
            spool.add(found)
          spool.end_file(key, account)
        progress.update(before + given.files[n, name] - progress.n)  # of files that are not read as a stream
  spool.commit()
  return spool


def _columns(blocks: list[tuple[int, int, Readings]]) -> dict[str, np.ndarray]:
  """The columns of a part: of each block the person's number, that of the series, and the readings."""
  sizes = [len(block.start) for _, _, block in blocks]
  offsets = [
    np.full(n, NO_OFFSET) if b.offset is None else b.offset for n, (_, _, b) in zip(sizes, blocks, strict=True)
  ]
  fields = {name: np.concatenate([getattr(b, name) for _, _, b in blocks]) for name in ("start", "end", "value")}
  return {
    "person": np.repeat(np.array([person for person, _, _ in blocks], np.int32), sizes),
    "series": np.repeat(np.array([series for _, series, _ in blocks], np.int16), sizes),
    **fields,
    "offset": np.clip(np.concatenate(offsets), NO_OFFSET, np.iinfo(np.int16).max).astype(np.int16),
  }


def _read(journal: pathlib.Path) -> Iterator[dict[str, Any]]:
  """Lines of a journal; one that was cut off ends it."""
  if not journal.exists():
    return
  for line in journal.read_text().splitlines():
    try:
      yield json.loads(line)
    except ValueError:
      return


def _valid(line: dict[str, Any], files: Mapping[str, str]) -> dict[str, Any]:
  """A line of the journal, without its readings if one of its files is not what it was; numbers stay given."""
  if all(files.get(name) == digest for name, digest in line["files"].items()):
    return line
  empty = {"files": {}, "parts": [], "rows": [], "account": as_json(Account()), "stretches": []}
  return {**line, **empty}


def _replace(path: pathlib.Path, text: str) -> None:
  unfinished = path.with_suffix(".incomplete")
  unfinished.write_text(text)
  unfinished.replace(path)


def merge(account: Account, other: Account) -> None:
  """Adds the rows of another account to this one."""
  account.read.update(other.read)
  account.dropped.update(other.dropped)
  for key, where in other.example.items():
    account.example.setdefault(key, where)


def as_json(account: Account) -> dict[str, Any]:
  dropped = [[*key, rows, account.example.get(key, "")] for key, rows in account.dropped.items()]
  return {"read": dict(account.read), "dropped": dropped}


def account_of(raw: Mapping[str, Any]) -> Account:
  """What as_json made a plain object of."""
  account = Account()
  account.read.update(raw["read"])
  for participant, why, rows, where in raw["dropped"]:
    account.drop(participant, why, rows, where)
  return account
