"""Reads the JSON files of a Fitbit export: minutes, heart rates, nights, workouts. fitbit.py describes their format."""

from __future__ import annotations

import contextlib
import dataclasses
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Bool, Float64, Int64

from data_pipelines.errors import SchemaError
from data_pipelines.ingest.importers.categories import ASLEEP
from data_pipelines.ingest.reading import csv_batches
from data_pipelines.ingest.reading.account import Account
from data_pipelines.ingest.reading.clocks import MINUTE
from data_pipelines.ingest.reading.export_files import Export
from data_pipelines.ingest.reading.readings import ENTERED_BY_HAND, Readings, Stretch

_TIME = "%m/%d/%y %H:%M:%S"
# A comma before three digits may separate thousands, unless another number says that it is a decimal sign.
_CERTAIN_COMMA, _COMMA = r"^[+-]?[0-9]+,([0-9]{1,2}|[0-9]{4,})$", r"^([+-]?[0-9]+),([0-9]+)$"
_LONGEST_STAGE = 24 * 3600  # seconds


@dataclasses.dataclass(frozen=True)
class JsonFiles:
  """A kind of JSON file, an array of {"dateTime": ..., "value": ...}.

  Attributes:
    signal, unit: what the values measure.
    duration: milliseconds that a value covers; 0 for a sample.
    device: what measured the values.
    clock: the clock of dateTime.
  """

  signal: str
  unit: str
  duration: int
  device: str
  clock: Literal["utc", "wall"] = "utc"

  def read(self, export: Export, name: str, account: Account) -> Iterator[Readings]:
    """Yields a file's readings, block by block."""
    before = 0
    _check_dates(export, name, "dateTime")
    for items in export.json_items(name, _damaged(export, name, account)):
      account.add(export.participant, len(items))
      clock, no_time, no_clock = self._times(_texts(_get_all(_date_time, items)))
      value, no_value, untrusted = self._values(items)
      reasons = {"unreadable time": no_time & ~no_clock, "ISO time on an unknown clock": no_clock}
      reasons[f"unreadable {self.signal}"] = no_value & ~no_time
      reasons["confidence 0"] = untrusted & ~no_value & ~no_time
      _drop(export, name, account, reasons, before)
      usable = ~(no_time | no_value | untrusted)
      before += len(items)
      if usable.any():
        start = clock[usable]
        end = start + self.duration
        yield Readings(
          export.participant, self.signal, self.unit, start, end, value[usable], self.device, clock=self.clock
        )

  def _times(
    self, texts: pa.StringArray
  ) -> tuple[Int64[np.ndarray, "n"], Bool[np.ndarray, "n"], Bool[np.ndarray, "n"]]:
    """Milliseconds on the file's clock, where there is none, and where that is for want of an offset."""
    clock, bad = csv_batches.parse_times(texts, _TIME)
    if not bad.any():
      return clock, bad, np.zeros_like(bad)
    iso, ahead, zoned, no_iso = csv_batches.parse_zoned_times(texts)
    usable = bad & zoned & ~no_iso
    clock = np.where(usable, iso - MINUTE * ahead * (self.clock == "utc"), clock)
    return clock, bad & ~usable, bad & ~no_iso & ~zoned

  def _values(
    self, items: Sequence[Any]
  ) -> tuple[Float64[np.ndarray, "n"], Bool[np.ndarray, "n"], Bool[np.ndarray, "n"]]:
    """Values, where there is none, and where the watch itself has no confidence in them."""
    if self.signal != "heart_rate":
      value, bad = _numbers(_get_all(_value, items))
      return value, bad, np.zeros_like(bad)
    value, bad = _numbers(_get_all(_bpm, items))
    return value, bad, _numbers(_get_all(_confidence, items))[0] == 0


def nights(export: Export, name: str, account: Account, device: str) -> Iterator[Readings]:
  """Yields the signal "asleep" for every night of a sleep-*.json; each stage counts as a row of the account."""
  for night, record in enumerate(_records(export, name, account), start=1):
    levels = record.get("levels")
    lists = [levels.get("data"), levels.get("shortData", [])] if isinstance(levels, dict) else [None]
    if not all(isinstance(part, list) for part in lists):
      _damaged(export, name, account)(f" row {night}", "night without lists of its stages")
    stages, wakes = (_stages(levels, part) for part in ("data", "shortData"))
    account.add(export.participant, len(stages) + len(wakes))
    good, short = ([stage for stage in part if stage is not None] for part in (stages, wakes))
    unreadable = len(stages) - len(good) + len(wakes) - len(short)
    account.drop(export.participant, "unreadable sleep stage", unreadable, export.where(name, night))
    if good:
      start, end, value = _cut(np.array(sorted(good)), np.array(sorted(short)).reshape(-1, 3))
      source = ENTERED_BY_HAND if record.get("logType") == "manual" else device
      yield Readings(export.participant, "asleep", "", start, end, value, source, clock="wall")


def workouts(export: Export, name: str, account: Account, redundant: bool) -> Iterator[Stretch]:
  """Yields the workouts of an exercise-*.json; `redundant` if the export has them in a better file."""
  _check_dates(export, name, "startTime")
  for row, record in enumerate(_records(export, name, account), start=1):
    account.add(export.participant)
    stretch = _workout(export.participant, record)
    if stretch is None or redundant:
      why = "the same workouts in UserExercises" if redundant else "unreadable workout"
      account.drop(export.participant, why, 1, export.where(name, row))
    else:
      yield stretch


def _check_dates(export: Export, name: str, key: str) -> None:
  """Refuses a file with a date that has the day first; its other days would be in other months.

  The text is searched before it is parsed, which takes a hundredth of the time.
  """
  whole = export.part(export.names, export.participant)  # whose bytes no progress bar counts
  text = ""
  with contextlib.suppress(SchemaError), whole.text(name) as file:  # reading the file says what is wrong
    text = file.read()
  if date := re.search(f'"{key}"\\s*:\\s*"((?:1[3-9]|2[0-9]|3[01])/(?:0?[1-9]|1[0-2])/[0-9]{{2,4}})', text):
    row = text.count(f'"{key}"', 0, date.start()) + 1
    raise SchemaError(f"{export.where(name, row)} ({date[1]!r}): a date with the day first, expected the month first")


def _records(export: Export, name: str, account: Account) -> Iterator[dict[str, Any]]:
  """The objects of a file; what is none counts as damaged."""
  damaged = _damaged(export, name, account)
  first = 1
  for items in export.json_items(name, damaged):
    for row, item in enumerate(items, start=first):
      if isinstance(item, dict):
        yield item
      else:
        damaged(f" row {row}", "not a JSON object")
    first += len(items)


def _damaged(export: Export, name: str, account: Account) -> Callable[[str, str], None]:
  return lambda place, why: account.damaged(export.participant, why, export.where(name), place)


def _stages(levels: Any, part: str) -> list[tuple[int, int, float] | None]:
  stages = levels.get(part) if isinstance(levels, dict) else None
  return [_stage(stage) for stage in stages] if isinstance(stages, list) else []


def _stage(stage: Any) -> tuple[int, int, float] | None:
  """Start and end (ms, wall clock), and 1 for asleep or 0; None if this is not a stage."""
  with contextlib.suppress(KeyError, TypeError, AttributeError):
    seconds, start = stage["seconds"], _moment(stage["dateTime"])
    asleep = ASLEEP.get(stage["level"].lower())
    if start is not None and asleep is not None and not isinstance(seconds, bool) and 0 < seconds <= _LONGEST_STAGE:
      return start, start + round(1000 * seconds), asleep
  return None


def _moment(text: Any, *formats: str) -> int | None:
  clock, bad = csv_batches.parse_times(_texts([text]), *formats)
  return None if bad[0] else int(clock[0])


def _cut(
  stages: Float64[np.ndarray, "n 3"], wakes: Float64[np.ndarray, "k 3"]
) -> tuple[Int64[np.ndarray, "m"], Int64[np.ndarray, "m"], Float64[np.ndarray, "m"]]:
  """Start, end and state of the pieces of a night; wakes under three minutes override the stages they overlap."""
  edges = np.unique(np.concatenate([stages[:, :2].ravel(), wakes[:, :2].ravel()])).astype(np.int64)
  start, end = edges[:-1], edges[1:]
  place, within = _within(start, stages)
  _, awake = _within(start, wakes)
  value = np.where(awake, 0.0, stages[place, 2])
  return start[within], end[within], value[within]


def _within(
  start: Int64[np.ndarray, "m"], stages: Float64[np.ndarray, "n 3"]
) -> tuple[Int64[np.ndarray, "m"], Bool[np.ndarray, "m"]]:
  """The index of the latest stage that has begun at each start, and whether that stage is still going on."""
  if not len(stages):
    return np.zeros(len(start), np.int64), np.zeros(len(start), bool)
  place = np.searchsorted(stages[:, 0], start, side="right") - 1
  return place, (place >= 0) & (start < stages[place, 1])


def _workout(participant: str, record: dict[str, Any]) -> Stretch | None:
  name, length, start = record.get("activityName"), record.get("duration"), _moment(record.get("startTime"), _TIME)
  if start is None or not isinstance(name, str) or not name.strip():
    return None
  if isinstance(length, bool) or not isinstance(length, int | float) or not 0 < length < 1000 * _LONGEST_STAGE:
    return None
  return Stretch(participant, name.strip().lower(), start, start + round(length))


def _drop(export: Export, name: str, account: Account, reasons: dict[str, Bool[np.ndarray, "n"]], before: int) -> None:
  for why, bad in reasons.items():
    if bad.any():
      account.drop(export.participant, why, int(bad.sum()), export.where(name, before + int(bad.argmax()) + 1))


def _date_time(item: Any) -> Any:
  return item["dateTime"]


def _value(item: Any) -> Any:
  return item["value"]


def _bpm(item: Any) -> Any:
  return item["value"]["bpm"]


def _confidence(item: Any) -> Any:
  return item["value"]["confidence"]


def _get_all(part: Callable[[Any], Any], items: Sequence[Any]) -> list[Any]:
  """The same part of every item; None where an item lacks it."""
  try:
    return [part(item) for item in items]
  except (KeyError, TypeError, IndexError):
    return [_or_none(part, item) for item in items]


def _or_none(part: Callable[[Any], Any], item: Any) -> Any:
  with contextlib.suppress(KeyError, TypeError, IndexError):
    return part(item)
  return None


def _texts(values: Sequence[Any]) -> pa.StringArray:
  """The texts among the values, and "" for everything else."""
  try:
    return pa.array(values, pa.string()).fill_null("")
  except (pa.ArrowException, TypeError, UnicodeError):
    return pa.array([_plain(value) if isinstance(value, str) else "" for value in values], pa.string())


def _plain(text: str) -> str:
  return text.encode(errors="replace").decode()


def _numbers(values: Sequence[Any]) -> tuple[Float64[np.ndarray, "n"], Bool[np.ndarray, "n"]]:
  """Numbers, including those written as text, and a mask of where there is none."""
  kinds = set(map(type, values))
  if kinds <= {int, float}:
    with contextlib.suppress(OverflowError):
      numbers = np.array(values, float)
      return numbers, ~np.isfinite(numbers)
  texts = _texts([repr(value) if type(value) in (int, float) else value for value in values])
  if pc.any(pc.match_substring_regex(texts, _CERTAIN_COMMA)).as_py():
    texts = pc.replace_substring_regex(texts, _COMMA, r"\1.\2")
  return csv_batches.parse_numbers(texts)
