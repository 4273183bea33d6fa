"""The gridded days of an import on disk until the dataset is built, so that memory holds one day at a time.

PATH.bin    the days of some people, one after another
PATH.json   written when it is complete (see index_file.py): where each day is, and a summary per person
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import pathlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import IO, Any

import numpy as np
import pyarrow as pa
from jaxtyping import Bool, Int64, Shaped

from data_pipelines.ingest.gridding.index_file import read_index, write_index
from data_pipelines.ingest.gridding.monthly_grid import GridDay
from data_pipelines.schema import Schema
from data_pipelines.source import Day
from data_pipelines.text_files import replacing

_CODEC = "zstd"


@contextlib.contextmanager
def day_writer(path: pathlib.Path) -> Iterator[DayWriter]:
  """Writes days to PATH.bin and, when the block ends without an error, PATH.json."""
  with replacing(_days(path)) as unfinished, unfinished.open("wb") as file:
    writer = DayWriter(file)
    yield writer
    file.flush()
    os.fsync(file.fileno())
  write_index(path, {"people": writer.people}, [_days(path).name])


class DayWriter:
  """Stores the days of one person after another.

  Attributes:
    people: name, days (date, offset, bytes, and whether they include causes) and summary of each person.
  """

  def __init__(self, file: IO[bytes]):
    """Writes to an empty file."""
    self.people: list[tuple[str, list[tuple[str, int, int, bool]], Mapping[str, Any]]] = []
    self._file = file
    self._places: list[tuple[str, int, int, bool]] = []

  def add(self, days: Iterable[GridDay]) -> None:
    """Writes a person's days, in order of date."""
    self._places += map(self._append, days)

  def complete(self, participant: str, summary: Mapping[str, Any]) -> None:
    """Ends a person, with a JSON-able summary that DayStore.summaries then holds."""
    self.people.append((participant, self._places, summary))
    self._places = []

  def _append(self, day: GridDay) -> tuple[str, int, int, bool]:
    raw = np.ascontiguousarray(day.values, np.float32).tobytes()
    raw += b"" if day.cause is None else np.ascontiguousarray(day.cause, np.uint8).tobytes()
    packed = pa.compress(raw, _CODEC, asbytes=True)
    offset = self._file.tell()
    self._file.write(packed)
    return day.date, offset, len(packed), day.cause is not None


@dataclasses.dataclass(frozen=True)
class _Places:
  """Places where a person's days are stored: the file, and the date, first byte and bytes of each day.

  Arrays, because there may be millions of days.
  """

  file: int
  date: Shaped[np.ndarray, "days"]
  offset: Int64[np.ndarray, "days"]
  size: Int64[np.ndarray, "days"]
  has_cause: Bool[np.ndarray, "days"]


class DayStore:
  """Reads days that were stored in several files, in any order. It can be pickled to other processes.

  Attributes:
    summaries: the summary of each person, in the order of the files; empty in other processes.
  """

  def __init__(self, paths: Sequence[pathlib.Path], schema: Schema):
    """Opens complete files, by their names without suffix."""
    self._paths = [path.absolute() for path in paths]
    self._shape = (schema.steps, len(schema.channels))
    self._places: dict[str, _Places] = {}
    self.summaries: dict[str, Mapping[str, Any]] = {}
    for n, path in enumerate(self._paths):
      for participant, days, summary in read_index(path)["people"]:
        dates, offsets, sizes, has_cause = zip(*days, strict=True) if days else ((), (), (), ())
        self._places[participant] = _Places(
          n, np.array(dates, "datetime64[D]"), np.array(offsets, int), np.array(sizes, int), np.array(has_cause, bool)
        )
        self.summaries[participant] = summary
    self._open: tuple[int, IO[bytes]] | None = None  # number of a file, and the file

  def __getstate__(self) -> dict[str, Any]:
    return {**self.__dict__, "summaries": {}, "_open": None}  # processes must not share a file position

  def __contains__(self, participant: str) -> bool:
    return participant in self._places

  @property
  def people(self) -> list[str]:
    """Names of the people with at least one day, sorted."""
    return sorted(participant for participant, places in self._places.items() if len(places.date))

  def dates(self, participant: str) -> list[str]:
    """ISO dates of the person's days, in order."""
    return [str(date) for date in self._places[participant].date]

  def count(self, participant: str) -> int:
    """Number of the person's days."""
    return len(self._places[participant].date)

  def day(self, participant: str, index: int) -> Day:
    """The person's day at this index. Its day number counts from the date of the person's first day."""
    places = self._places[participant]
    date, has_cause = places.date[index], places.has_cause[index]
    size = self._shape[0] * self._shape[1]
    file = self._file(places.file)
    file.seek(int(places.offset[index]))
    packed = file.read(int(places.size[index]))
    raw = pa.decompress(packed, size * (5 if has_cause else 4), _CODEC, asbytes=True)
    values = np.frombuffer(raw, np.float32, size).reshape(self._shape).copy()
    cause = np.frombuffer(raw, np.uint8, size, 4 * size).reshape(self._shape).copy() if has_cause else None
    return Day(values, participant, int((date - places.date[0]).astype(int)), str(date), cause)

  def _file(self, number: int) -> IO[bytes]:
    """A file of days; only the last one used is kept open."""
    if self._open is None or self._open[0] != number:
      if self._open is not None:
        self._open[1].close()
      self._open = number, _days(self._paths[number]).open("rb")
    return self._open[1]


def _days(path: pathlib.Path) -> pathlib.Path:
  return path.with_name(f"{path.name}.bin")
