"""The spool: readings on disk between the files of exports and the grid, sorted by person and time.

FOLDER/part-N.parquet   columns person (a number), series (the number of a combination of signal, unit, device and
                        clock), start, end, value, offset and file (a number), sorted by person and start
FOLDER/journal.jsonl    one line per commit: its files and their digests, its parts, new people, series and names of
                        files, the number of readings per person, the account and the stretches

Files that end between two commits share parts. A part that the journal does not list was being written when an import
was interrupted, and is deleted. Readings from a file that has changed since are discarded.
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

from data_pipelines.channels import units
from data_pipelines.errors import SchemaError
from data_pipelines.ingest.reading.account import Account
from data_pipelines.ingest.reading.clocks import NO_OFFSET
from data_pipelines.ingest.reading.export_files import Export
from data_pipelines.ingest.reading.importer import Importer
from data_pipelines.ingest.reading.input_files import CountingExport, ExportSet
from data_pipelines.ingest.reading.readings import Readings, Stretch
from data_pipelines.text_files import alike, folded, parse_json_object, replace_text

# Readings held in memory before they are written as a part: 34 bytes each, and as much again to sort them.
ROWS_PER_PART = 2**20
ROWS_PER_GROUP = 2**15
SECONDS_PER_COMMIT = 60.0

_SCHEMA = pa.schema(
  [
    ("person", pa.int32()),
    ("series", pa.int16()),
    ("start", pa.int64()),
    ("end", pa.int64()),
    ("value", pa.float64()),
    ("offset", pa.int16()),
    ("file", pa.int32()),
  ]
)


@dataclasses.dataclass(frozen=True)
class SeriesKey:
  """What identifies a series: the fields of Readings that all readings of a block share, except the person."""

  signal: str
  unit: str
  device: str
  clock: str


class Spool:
  """Stores readings, file by file. After an interruption, it continues after the last commit.

  Attributes:
    folder: the folder that holds it.
    parts: names of the Parquet files that are committed.
    people: names; a person's number is the index.
    series: keys; the number of a series is the index.
    file_names: of files with readings, as messages name them; the number of a file is the index.
    rows: number of readings, by the person's number.
    complete: keys of the files that were read to the end.
    account: account of these files.
    stretches: labelled stretches in these files.
  """

  def __init__(self, folder: pathlib.Path, files: Mapping[str, str]):
    """Opens or makes a spool.

    Args:
      folder: holds the spool and nothing else.
      files: a digest of each file to be read, by key (see ExportSet.digests).
    """
    self.folder = folder
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    self._files = files
    self._journal = folder / "journal.jsonl"
    self._lines = [_still_valid(line, files) for line in _read_journal(self._journal)]
    replace_text(self._journal, "".join(json.dumps(line) + "\n" for line in self._lines))
    self.parts = [part for line in self._lines for part in line["parts"]]
    for stray in folder.glob("part-*"):
      if stray.name not in self.parts:
        stray.unlink()
    self._load()
    self._next_part = 1 + max((int(part[5:-8]) for part in self.parts), default=-1)
    self._begin_commit()

  def _load(self) -> None:
    self.people = [name for line in self._lines for name in line["people"]]
    self.series = [SeriesKey(*fields) for line in self._lines for fields in line["series"]]
    self.file_names = [name for line in self._lines for name in line["file_names"]]
    self._person_numbers = {name: n for n, name in enumerate(self.people)}
    self._spellings: dict[tuple[str, str], str] = {}  # of people and signals, by what they are and their folded name
    for what, names in ("participant", self.people), ("channel", [key.signal for key in self.series]):
      self._spellings.update({(what, folded(name)): name for name in names})
    self._series_numbers = {series: n for n, series in enumerate(self.series)}
    self.complete = {name for line in self._lines for name in line["files"]}
    self.rows: collections.Counter[int] = collections.Counter()
    self.account = Account()
    self.stretches: list[Stretch] = []
    for line in self._lines:
      self._apply(line)

  def _apply(self, line: Mapping[str, Any]) -> None:
    for person, rows in line["rows"]:
      self.rows[person] += rows
    self.account.merge(Account.from_json(line["account"]))
    self.stretches += [Stretch(**fields) for fields in line["stretches"]]

  def _begin_commit(self) -> None:
    self._blocks: list[tuple[int, int, Readings]] = []  # with the numbers of series and file
    self._held = 0
    self._since = time.monotonic()
    self._new_parts: list[str] = []
    self._new_rows: collections.Counter[int] = collections.Counter()
    self._new_files: dict[str, str] = {}
    self._new_stretches: list[Stretch] = []
    self._new_account = Account()
    self._committed = len(self.people), len(self.series), len(self.file_names)

  def add(self, item: Readings | Stretch, where: str = "readings") -> None:
    """Adds readings or a stretch from the file that is being read; `where` names it in messages.

    Raises:
      SchemaError: the name of the person or the signal is an earlier one in another spelling.
    """
    self._check_spelling("participant", item.participant, where)
    if isinstance(item, Stretch):
      self._new_stretches.append(item)
      return
    self._check_spelling("channel", item.signal, where)
    if self.file_names[-1:] != [where]:  # a file is read from its start to its end
      self.file_names.append(where)
    self._blocks.append((self._series_number(item), len(self.file_names) - 1, item))
    self._new_rows[self._person_number(item.participant)] += len(item.start)
    self._held += len(item.start)
    if self._held >= ROWS_PER_PART:
      self._write_part()

  def end_file(self, name: str, account: Account) -> None:
    """Marks the file that was being read as complete."""
    self._new_files[name] = self._files[name]
    self._new_account.merge(account)
    if self._new_parts or time.monotonic() - self._since > SECONDS_PER_COMMIT:
      self.commit()

  def commit(self) -> None:
    """Writes everything to disk, so that an interrupted import does not read the complete files again."""
    self._write_part()
    people, series, file_names = self._committed
    line = {
      "files": self._new_files,
      "parts": self._new_parts,
      "people": self.people[people:],
      "series": [dataclasses.astuple(key) for key in self.series[series:]],
      "file_names": self.file_names[file_names:],
      "rows": list(self._new_rows.items()),
      "account": self._new_account.to_json(),
      "stretches": [dataclasses.asdict(stretch) for stretch in self._new_stretches],
    }
    with self._journal.open("a") as file:
      file.write(json.dumps(line) + "\n")
      file.flush()
      os.fsync(file.fileno())
    self.parts += self._new_parts
    self._apply(line)
    self.complete |= set(self._new_files)
    self._begin_commit()

  def _check_spelling(self, what: str, name: str, where: str) -> None:
    if (first := self._spellings.setdefault((what, folded(name)), name)) != name:
      raise SchemaError(f"{where}: {alike(what, first, name)}")

  def _person_number(self, participant: str) -> int:
    if participant not in self._person_numbers:
      self._person_numbers[participant] = len(self.people)
      self.people.append(participant)
    return self._person_numbers[participant]

  def _series_number(self, block: Readings) -> int:
    key = SeriesKey(block.signal, block.unit, block.device, block.clock)
    if key not in self._series_numbers:
      self._series_numbers[key] = len(self.series)
      self.series.append(key)
    return self._series_numbers[key]

  def _write_part(self) -> None:
    if not self._held:
      return
    person = self._person_numbers
    columns = _columns([(person[block.participant], series, file, block) for series, file, block in self._blocks])
    self._blocks, self._held = [], 0
    order = np.lexsort((columns["start"], columns["person"]))
    table = pa.table({name: column[order] for name, column in columns.items()}, schema=_SCHEMA)
    name = f"part-{self._next_part:06d}.parquet"
    self._next_part += 1
    with (self.folder / name).open("wb") as file:
      pq.write_table(table, file, row_group_size=ROWS_PER_GROUP, compression="zstd", compression_level=1)
      file.flush()
      os.fsync(file.fileno())
    self._new_parts.append(name)


def fill_spool(export_set: ExportSet, folder: pathlib.Path, strict: bool = False) -> Spool:
  """Reads all files of the exports into a spool in `folder`, except those that an interrupted import has already read.

  What cannot be read (a file, its rest, or readings in a unit that does not convert to their signal's) is counted in
  the account, and the other files are read.

  Raises:
    SchemaError: two people or channels differ in spelling only; or something cannot be read and `strict` is set.
  """
  units_of = {signal.name: signal.unit for signal in export_set.importer.signals}
  spool = Spool(folder, export_set.digests)
  if strict:
    spool.account.check_damage()
    for error in export_set.unreadable.values():
      raise error
  with tqdm(total=sum(export_set.files.values()), desc="reading", unit="B", unit_scale=True, disable=None) as progress:
    for n, export in enumerate(export_set.exports):
      counting = CountingExport(export, progress.update)
      for name in export_set.names[n]:
        before, key = progress.n, export_set.key(n, name)
        if key not in spool.complete:
          account = Account(strict)
          for how in export.conversions(name):
            account.remark(export_set.blamed(n), how)
          for item in _readable(export_set.importers[n], counting, name, account, export_set.blamed(n)):
            if isinstance(item, Stretch) or _convertible(item, units_of, account, export.where(name)):
              spool.add(item, export.where(name))
          spool.end_file(key, account)
        progress.update(before + export_set.files[n, name] - progress.n)  # for files that are not read as a stream
  spool.commit()
  for error in export_set.unreadable.values():
    spool.account.unreadable("", str(error).partition(": ")[0], error)
  return spool


def _readable(
  importer: Importer, export: Export, name: str, account: Account, blamed: str
) -> Iterator[Readings | Stretch]:
  """Yields what a file holds, up to where it cannot be read; the account of `blamed` then says why."""
  try:
    yield from importer.read(export, name, account)
  except SchemaError as error:
    where = export.where(name)
    account.unreadable(blamed, where, error if export.size(name) else SchemaError(f"{where}: empty"))


def _convertible(readings: Readings, units_of: Mapping[str, str], account: Account, where: str) -> bool:
  """Whether the unit of the readings converts to that of their signal; the account says where it does not."""
  try:
    units.convert(np.empty(0), readings.unit, units_of.get(readings.signal, readings.unit), readings.signal)
  except SchemaError as error:
    account.damaged(readings.participant, "unit that does not convert", where, f": {error}", len(readings.start))
    return False
  return True


def _columns(blocks: list[tuple[int, int, int, Readings]]) -> dict[str, np.ndarray]:
  """The columns of a part, from blocks with the number of their person, series and file."""
  sizes = [len(block.start) for *_, block in blocks]
  offsets = [np.full(n, NO_OFFSET) if b.offset is None else b.offset for n, (*_, b) in zip(sizes, blocks, strict=True)]
  fields = {name: np.concatenate([getattr(b, name) for *_, b in blocks]) for name in ("start", "end", "value")}
  return {
    "person": np.repeat(np.array([person for person, *_ in blocks], np.int32), sizes),
    "series": np.repeat(np.array([series for _, series, _, _ in blocks], np.int16), sizes),
    **fields,
    "offset": np.clip(np.concatenate(offsets), NO_OFFSET, np.iinfo(np.int16).max).astype(np.int16),
    "file": np.repeat(np.array([file for _, _, file, _ in blocks], np.int32), sizes),
  }


def _read_journal(journal: pathlib.Path) -> Iterator[dict[str, Any]]:
  """The lines of a journal, up to one that was cut off or that an earlier version wrote."""
  if not journal.exists():
    return
  for line in journal.read_bytes().splitlines():
    try:
      content = parse_json_object(line.decode(), str(journal))
    except ValueError:
      return
    if "file_names" not in content:
      return
    yield content


def _still_valid(line: dict[str, Any], files: Mapping[str, str]) -> dict[str, Any]:
  """A line of the journal, without its readings if one of its files has changed.

  New people, series and names of files stay, because later lines use their numbers.
  """
  if all(files.get(name) == digest for name, digest in line["files"].items()):
    return line
  empty = {"files": {}, "parts": [], "rows": [], "account": Account().to_json(), "stretches": []}
  return {**line, **empty}
