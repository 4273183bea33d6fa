"""The days of an import on disk until they are built: how many there are is known, and memory holds one."""

from __future__ import annotations

import dataclasses
import json
import pathlib
from collections.abc import Iterable
from typing import Any

import numpy as np
import pyarrow as pa

from data_pipelines.ingest.gridding.monthly_grid import GridDay
from data_pipelines.schema import Schema
from data_pipelines.source import Day

_CODEC = "zstd"


@dataclasses.dataclass(frozen=True)
class _Place:
  """Where a day is: its bytes in the file, without and with its causes."""

  date: str
  offset: int
  size: int
  has_cause: bool


class KeptDays:
  """Appends the days of person after person, then gives them back.

  An interrupted one goes on behind the last person that is complete: FOLDER/days.bin, and a line for each in
  FOLDER/days.jsonl, with what else is to be known of them (`told`).
  """

  def __init__(self, folder: pathlib.Path, schema: Schema):
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    self._schema = schema
    self._shape = (schema.steps, len(schema.channels))
    self._index = folder / "days.jsonl"
    self._places: dict[str, list[_Place]] = {}
    self.told: dict[str, dict[str, Any]] = {}
    self._file = (folder / "days.bin").open("a+b")
    self._resume()

  def __getstate__(self) -> dict[str, Any]:
    return {**self.__dict__, "_file": pathlib.Path(self._file.name)}

  def __setstate__(self, state: dict[str, Any]) -> None:
    """In another process: a file of its own, whose place nobody else moves."""
    self.__dict__.update(state)
    self._file = state["_file"].open("r+b")

  def _resume(self) -> None:
    end, complete = 0, ""
    for line in self._index.read_text().splitlines(keepends=True) if self._index.exists() else ():
      if not line.endswith("\n"):
        break
      raw = json.loads(line)
      complete, end = complete + line, raw["end"]
      self._take(raw)
    self._file.truncate(end)
    self._index.write_text(complete)

  def _take(self, raw: dict[str, Any]) -> None:
    self._places[raw["participant"]] = [_Place(*place) for place in raw["days"]]
    self.told[raw["participant"]] = raw["told"]

  def __contains__(self, participant: str) -> bool:
    return participant in self._places

  def add(self, participant: str, days: Iterable[GridDay]) -> None:
    """Writes a person's days; they are there when `tell` has been called too."""
    self._file.seek(0, 2)
    self._places[participant] = [self._append(day) for day in days]

  def _append(self, day: GridDay) -> _Place:
    raw = np.ascontiguousarray(day.values, np.float32).tobytes()
    raw += b"" if day.cause is None else np.ascontiguousarray(day.cause, np.uint8).tobytes()
    packed = pa.compress(raw, _CODEC, asbytes=True)
    offset = self._file.tell()
    self._file.write(packed)
    return _Place(day.date, offset, len(packed), day.cause is not None)

  def tell(self, participant: str, told: dict[str, Any]) -> None:
    """Completes a person: what else is to be known of them, JSON-able."""
    self._file.flush()
    raw = {
      "participant": participant,
      "days": [dataclasses.astuple(place) for place in self._places[participant]],
      "told": told,
      "end": self._file.tell(),
    }
    with self._index.open("a") as file:
      file.write(json.dumps(raw) + "\n")
    self.told[participant] = told

  @property
  def people(self) -> list[str]:
    """Those who have a day, by name."""
    return sorted(participant for participant, places in self._places.items() if places)

  def dates(self, participant: str) -> list[str]:
    """ISO dates of the person's days, in order."""
    return [place.date for place in self._places[participant]]

  def day(self, participant: str, number: int) -> Day:
    """The person's day at this place; day numbers count from the first one's date."""
    places = self._places[participant]
    place = places[number]
    steps, channels = self._shape
    cells = steps * channels
    self._file.seek(place.offset)
    raw = pa.decompress(self._file.read(place.size), cells * (5 if place.has_cause else 4), _CODEC, asbytes=True)
    values = np.frombuffer(raw, np.float32, cells).reshape(self._shape).copy()
    cause = np.frombuffer(raw, np.uint8, cells, 4 * cells).reshape(self._shape).copy() if place.has_cause else None
    since = np.datetime64(place.date) - np.datetime64(places[0].date)
    return Day(values, participant, int(since.astype(int)), place.date, cause)
