"""The gridded days of an import on disk until the dataset is built, so that memory holds one day at a time."""

from __future__ import annotations

import dataclasses
import json
import pathlib
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pyarrow as pa

from data_pipelines.ingest.gridding.monthly_grid import GridDay
from data_pipelines.schema import Schema
from data_pipelines.source import Day
from data_pipelines.text_files import parse_json_object

_CODEC = "zstd"


@dataclasses.dataclass(frozen=True)
class _Place:
  """Where a day is stored: its bytes in days.bin, and whether they include causes."""

  date: str
  offset: int
  size: int
  has_cause: bool


class DayStore:
  """Stores the days of one person after another, and reads them back in any order.

  FOLDER/days.bin holds the days. FOLDER/days.jsonl holds one line per completed person. After an interruption,
  storing continues after the last completed person.

  Attributes:
    summaries: the summary that `complete` was called with, for each completed person.
  """

  def __init__(self, folder: pathlib.Path, schema: Schema):
    """Opens the store in `folder`, or makes one."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    self._schema = schema
    self._shape = (schema.steps, len(schema.channels))
    self._index = folder / "days.jsonl"
    self._places: dict[str, list[_Place]] = {}
    self.summaries: dict[str, Mapping[str, Any]] = {}
    self._file = (folder / "days.bin").open("a+b")
    self._resume()

  def __getstate__(self) -> dict[str, Any]:
    return {**self.__dict__, "_file": pathlib.Path(self._file.name)}

  def __setstate__(self, state: dict[str, Any]) -> None:
    """Opens the file anew in another process, because processes must not share a file position."""
    self.__dict__.update(state)
    self._file = state["_file"].open("r+b")

  def _resume(self) -> None:
    end, complete = 0, ""
    for packed in self._index.read_bytes().splitlines(keepends=True) if self._index.exists() else ():
      if not packed.endswith(b"\n"):
        break
      try:
        line = packed.decode()
        raw = parse_json_object(line, str(self._index))
        participant, places, summary = raw["participant"], [_Place(*place) for place in raw["days"]], raw["summary"]
        end = raw["end"]
      except (ValueError, TypeError, KeyError):  # damaged: this person and those after are gridded again
        break
      complete += line
      self._places[participant], self.summaries[participant] = places, summary
    self._file.truncate(end)
    self._index.write_text(complete)

  def __contains__(self, participant: str) -> bool:
    return participant in self._places

  def add(self, participant: str, days: Iterable[GridDay]) -> None:
    """Writes a person's days. They only count as stored once `complete` has been called."""
    self._file.seek(0, 2)
    self._places[participant] = [self._append(day) for day in days]

  def _append(self, day: GridDay) -> _Place:
    raw = np.ascontiguousarray(day.values, np.float32).tobytes()
    raw += b"" if day.cause is None else np.ascontiguousarray(day.cause, np.uint8).tobytes()
    packed = pa.compress(raw, _CODEC, asbytes=True)
    offset = self._file.tell()
    self._file.write(packed)
    return _Place(day.date, offset, len(packed), day.cause is not None)

  def complete(self, participant: str, summary: Mapping[str, Any]) -> None:
    """Marks a person as completed, with a JSON-able summary that `summaries` then holds."""
    self._file.flush()
    raw = {
      "participant": participant,
      "days": [dataclasses.astuple(place) for place in self._places[participant]],
      "summary": summary,
      "end": self._file.tell(),
    }
    with self._index.open("a") as file:
      file.write(json.dumps(raw) + "\n")
    self.summaries[participant] = summary

  @property
  def people(self) -> list[str]:
    """Names of the people with at least one day, sorted."""
    return sorted(participant for participant, places in self._places.items() if places)

  def dates(self, participant: str) -> list[str]:
    """ISO dates of the person's days, in order."""
    return [place.date for place in self._places[participant]]

  def day(self, participant: str, index: int) -> Day:
    """The person's day at this index. Its day number counts from the date of the person's first day."""
    places = self._places[participant]
    place = places[index]
    steps, channels = self._shape
    size = steps * channels
    self._file.seek(place.offset)
    raw = pa.decompress(self._file.read(place.size), size * (5 if place.has_cause else 4), _CODEC, asbytes=True)
    values = np.frombuffer(raw, np.float32, size).reshape(self._shape).copy()
    cause = np.frombuffer(raw, np.uint8, size, 4 * size).reshape(self._shape).copy() if place.has_cause else None
    since = np.datetime64(place.date) - np.datetime64(places[0].date)
    return Day(values, participant, int(since.astype(int)), place.date, cause)
