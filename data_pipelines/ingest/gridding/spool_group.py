"""The readings of a group of files on disk, sorted by person and time.

PATH-N.parquet   columns person, series and file (numbers of this group), start, end, value and offset, sorted by person
                 and start; a series is a combination of signal, unit, device and clock
PATH.json        written when the group is complete (see index_file.py): names of its people, series and files, the
                 number of readings per person, the ranges of the row groups, the account, the stretches, and where
                 each name was found first

What belongs to no PATH.json was being written when an import was interrupted.
"""

from __future__ import annotations

import collections
import dataclasses
import os
import pathlib
from collections.abc import Collection, Mapping
from typing import Self

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import Int64

from data_pipelines.errors import SchemaError
from data_pipelines.ingest.gridding.index_file import read_index, write_index
from data_pipelines.ingest.reading.account import Account
from data_pipelines.ingest.reading.clocks import NO_OFFSET
from data_pipelines.ingest.reading.readings import Readings, Stretch
from data_pipelines.text_files import alike, folded, replacing

# Readings held in memory before they are written as a part: 34 bytes each, and as much again to sort them.
ROWS_PER_PART = 2**20
ROWS_PER_GROUP = 2**15  # of a Parquet file

# What is named ("participant" or "channel"), its name, and the file that has it first, in the order of the files.
Names = list[tuple[str, str, str]]

_SCHEMA = pa.schema(
  [
    ("person", pa.int32()),
    ("series", pa.int32()),
    ("start", pa.int64()),
    ("end", pa.int64()),
    ("value", pa.float64()),
    ("offset", pa.int16()),
    ("file", pa.int32()),
  ]
)


@dataclasses.dataclass(frozen=True)
class SeriesKey:
  """Identity of a series: the fields of Readings that all readings of a block share, except the person."""

  signal: str
  unit: str
  device: str
  clock: str


class Spellings:
  """The names of people and channels; none may differ from another in spelling only.

  Attributes:
    names: in the order in which files have them.
  """

  def __init__(self) -> None:
    self.names: Names = []
    self._first: dict[tuple[str, str], str] = {}  # spelling, by what is named and the folded name

  def check(self, what: str, name: str, where: str) -> None:
    """Adds the name of a "participant" or "channel", which the file `where` has.

    Raises:
      SchemaError: it is an earlier one in another spelling.
    """
    key = what, folded(name)
    if key not in self._first or self._first[key] != name:
      self.names.append((what, name, where))
    if (first := self._first.setdefault(key, name)) != name:
      raise SchemaError(f"{where}: {alike(what, first, name)}")


@dataclasses.dataclass(frozen=True)
class SpoolGroup:
  """A complete group.

  Attributes:
    parts: its Parquet files.
    people: names; a person's number is the index.
    rows: number of readings of each person.
    series: keys; the number of a series is the index.
    files: names of the files with readings, as messages name them; the number of a file is the index.
    row_groups: [g, 6], for each row group of the parts: index of the part, index of the row group in it, first and last
      person, first and last start.
    names: people and channels, also of stretches.
    account: account of the files.
    stretches: labelled stretches in the files.
  """

  parts: tuple[pathlib.Path, ...]
  people: tuple[str, ...]
  rows: tuple[int, ...]
  series: tuple[SeriesKey, ...]
  files: tuple[str, ...]
  row_groups: Int64[np.ndarray, "g 6"]
  names: Names
  account: Account
  stretches: tuple[Stretch, ...]

  @staticmethod
  def delete_others(folder: pathlib.Path, complete: Collection[pathlib.Path]) -> None:
    """Deletes all files in a folder but those of these groups."""
    kept = {path.name for path in complete}
    for file in folder.iterdir():
      if file.name.split(".")[0].split("-")[0] not in kept:
        file.unlink()

  @classmethod
  def load(cls, path: pathlib.Path) -> Self:
    """Reads what the JSON file of a group says."""
    content = read_index(path)
    return cls(
      parts=tuple(path.with_name(name) for name in content["parts"]),
      people=tuple(content["people"]),
      rows=tuple(content["rows"]),
      series=tuple(SeriesKey(*fields) for fields in content["series"]),
      files=tuple(content["files"]),
      row_groups=np.array(content["row_groups"], np.int64).reshape(-1, 6),
      names=[(what, name, where) for what, name, where in content["names"]],
      account=Account.from_json(content["account"]),
      stretches=tuple(Stretch(**fields) for fields in content["stretches"]),
    )


class SpoolWriter:
  """Writes the readings of a group, file by file.

  Attributes:
    spellings: of the people and channels so far.
  """

  def __init__(self, path: pathlib.Path):
    """Prepares the files PATH-N.parquet and PATH.json."""
    self._path = path
    self._blocks: list[tuple[int, int, int, Readings]] = []  # with the numbers of person, series and file
    self._held = 0
    self._parts: list[str] = []
    self._row_groups: list[tuple[int, ...]] = []
    self._people: dict[str, int] = {}
    self._series: dict[SeriesKey, int] = {}
    self._files: list[str] = []
    self._rows: collections.Counter[int] = collections.Counter()
    self._account = Account()
    self._stretches: list[Stretch] = []
    self.spellings = Spellings()

  def add(self, item: Readings | Stretch, where: str = "readings") -> None:
    """Adds readings or a stretch from the file that is being read; `where` names it in messages.

    Raises:
      SchemaError: the name of the person or the signal is an earlier one of the group in another spelling.
    """
    self.spellings.check("participant", item.participant, where)
    if isinstance(item, Stretch):
      self._stretches.append(item)
      return
    self.spellings.check("channel", item.signal, where)
    if self._files[-1:] != [where]:  # a file is read from its start to its end
      self._files.append(where)
    person = self._people.setdefault(item.participant, len(self._people))
    key = SeriesKey(item.signal, item.unit, item.device, item.clock)
    series = self._series.setdefault(key, len(self._series))
    self._blocks.append((person, series, len(self._files) - 1, item))
    self._rows[person] += len(item.start)
    self._held += len(item.start)
    if self._held >= ROWS_PER_PART:
      self._write_part()

  def end_file(self, account: Account) -> None:
    """Adds the account of the file that was being read."""
    self._account.merge(account)

  def complete(self) -> None:
    """Writes everything to disk, so that an interrupted import does not read the files again."""
    self._write_part()
    content = {
      "parts": self._parts,
      "people": [*self._people],
      "rows": [self._rows[person] for person in self._people.values()],
      "series": [dataclasses.astuple(key) for key in self._series],
      "files": self._files,
      "row_groups": self._row_groups,
      "names": self.spellings.names,
      "account": self._account.to_json(),
      "stretches": [dataclasses.asdict(stretch) for stretch in self._stretches],
    }
    write_index(self._path, content, self._parts)

  def _write_part(self) -> None:
    if not self._held:
      return
    columns = _columns(self._blocks)
    self._blocks, self._held = [], 0
    order = np.lexsort((columns["start"], columns["person"]))
    columns = {name: column[order] for name, column in columns.items()}
    table = pa.table(columns, schema=_SCHEMA)
    path = self._path.with_name(f"{self._path.name}-{len(self._parts)}.parquet")
    with replacing(path) as unfinished, unfinished.open("wb") as file:
      pq.write_table(table, file, row_group_size=ROWS_PER_GROUP, compression="zstd", compression_level=1)
      file.flush()
      os.fsync(file.fileno())
    for first in range(0, len(order), ROWS_PER_GROUP):
      person, start = (columns[name][first : first + ROWS_PER_GROUP] for name in ("person", "start"))
      ranges = (person.min(), person.max(), start.min(), start.max())
      self._row_groups.append((len(self._parts), first // ROWS_PER_GROUP, *map(int, ranges)))
    self._parts.append(path.name)


def _columns(blocks: list[tuple[int, int, int, Readings]]) -> Mapping[str, np.ndarray]:
  """The columns of a part, from blocks with the number of their person, series and file."""
  sizes = [len(block.start) for *_, block in blocks]
  offsets = [np.full(n, NO_OFFSET) if b.offset is None else b.offset for n, (*_, b) in zip(sizes, blocks, strict=True)]
  fields = {name: np.concatenate([getattr(b, name) for *_, b in blocks]) for name in ("start", "end", "value")}
  return {
    "person": np.repeat(np.array([person for person, *_ in blocks], np.int32), sizes),
    "series": np.repeat(np.array([series for _, series, _, _ in blocks], np.int32), sizes),
    **fields,
    "offset": np.clip(np.concatenate(offsets), NO_OFFSET, np.iinfo(np.int16).max).astype(np.int16),
    "file": np.repeat(np.array([file for _, _, file, _ in blocks], np.int32), sizes),
  }
