"""Fitabase: the minutes and heart rates of a study's Fitbit wearers as CSV, one file of a kind for all (with a column
Id: "minuteStepsNarrow_merged.csv") or one for each of them ("P07_minuteStepsNarrow_20160412_20160512.csv").

Format: https://www.fitabase.com/media/1930/fitabasedatadictionary102320.pdf ("Data Dictionary", 2020). Public sample of
33 people: https://doi.org/10.5281/zenodo.53894. Read are, by the part of the name that tells the kind:

  minuteStepsNarrow         ActivityMinute, Steps         steps of the minute that starts there
  minuteIntensitiesNarrow   ActivityMinute, Intensity     0 sedentary, 1 light, 2 moderate, 3 very active
  minuteCaloriesNarrow      ActivityMinute, Calories      kcal of the minute, those at rest included
  minuteMETsNarrow          ActivityMinute, METs          ten times the metabolic equivalent, as the dictionary warns
  minute...Wide             ActivityHour, Steps00-59 (Intensity00, Calories00, METs00)   the same, a row an hour
  heartrate_seconds         Time, Value                   bpm, every 5 to 15 s
  heartrate_1min            Time, Value                   bpm, mean of the minute
  minuteSleep               date, value, logId            1 asleep, 2 restless, 3 awake, of the minute that starts there
  30secondSleepStages       Time, SleepStage, ...         wake, light, deep, rem, with short wakes, of 30 s

Clock: all times are the wearer's wall clock, as the Fitbit Web API gives them ("4/12/2016 1:05:00 PM", no zone; the
dictionary: "mm/dd/yyyy hh:mm:ss AM/PM"). So a night of daylight saving lacks an hour or has one twice.
Restless minutes count as not asleep: so does Fitbit (its TotalMinutesAsleep is the number of ones).
A minute that is in both a narrow and a wide file is read from the narrow one; so for heart rates by second and minute.
Hours and days (hourlySteps, dailyActivity, sleepDay, weightLogInfo, ...) are sums of these, and not read. In the
account a row of a wide file counts as its 60 minutes.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Bool, Float64, Int64

from data_pipelines.errors import SchemaError
from data_pipelines.ingest.importers.words import ASLEEP, meant
from data_pipelines.ingest.reading import csv_batches
from data_pipelines.ingest.reading.account import Account
from data_pipelines.ingest.reading.export_files import Export
from data_pipelines.ingest.reading.readings import Readings
from data_pipelines.ingest.reading.signals import Signal, common_signal

_TIME = "%m/%d/%Y %I:%M:%S %p"
_MINUTE = 60_000
_STATES = {"1": 1.0, "2": 0.0, "3": 0.0}


@dataclasses.dataclass(frozen=True)
class _Kind:
  """One kind of file.

  Attributes:
    signal, unit: of its values.
    time, value: its columns; of a wide file there are 60 of the latter, numbered.
    lasts: milliseconds that a value is of; 0 for a sample.
    words: what its values stand for, where they are no numbers to take as they are.
    tenfold: values are ten times what they say.
    rather: the kind of file that is read instead where the export has both.
  """

  signal: str
  unit: str
  time: str
  value: str
  lasts: int = 0
  wide: bool = False
  words: Mapping[str, float] | None = None
  tenfold: bool = False
  rather: str = ""


def _minutes(signal: str, unit: str, value: str, plural: str, tenfold: bool = False) -> dict[str, _Kind]:
  narrow, wide = f"minute{plural}Narrow", f"minute{plural}Wide"
  return {
    narrow: _Kind(signal, unit, "ActivityMinute", value, _MINUTE, tenfold=tenfold),
    wide: _Kind(signal, unit, "ActivityHour", value, _MINUTE, wide=True, tenfold=tenfold, rather=narrow),
  }


_KINDS = {
  **_minutes("steps", "steps", "Steps", "Steps"),
  **_minutes("calories", "kcal", "Calories", "Calories"),
  **_minutes("intensity", "", "Intensity", "Intensities"),
  **_minutes("mets", "MET", "METs", "METs", tenfold=True),
  "heartrate_seconds": _Kind("heart_rate", "bpm", "Time", "Value"),
  "heartrate_1min": _Kind("heart_rate", "bpm", "Time", "Value", rather="heartrate_seconds"),
  "30secondSleepStages": _Kind("asleep", "", "Time", "SleepStage", 30_000, words=ASLEEP),
  "minuteSleep": _Kind("asleep", "", "date", "value", _MINUTE, words=_STATES),
}
_NAME = re.compile(rf"(?P<before>.*?)(?P<kind>{'|'.join(_KINDS)})(?P<after>(_.*)?\.csv)", re.IGNORECASE)
_BY_LOWER = {name.lower(): name for name in _KINDS}


class Fitabase:
  """Importer of Fitabase's files of minutes and seconds; see the module."""

  signals: Sequence[Signal] = (
    common_signal("heart_rate"),
    common_signal("steps", quiet=False, high=1000),
    common_signal("calories", high=100),
    Signal("intensity", "", "ACC", rule="mean", low=0, high=3),
    Signal("mets", "MET", "ACC", rule="mean", zero_is_missing=True, low=0, high=30),
    common_signal("asleep"),
  )
  devices: Sequence[str] = ("stages",)
  beside: Sequence[str] = ()

  def files(self, export: Export) -> list[str]:
    return [name for name in export.names if _NAME.fullmatch(_base(name))]

  def read(self, export: Export, name: str, account: Account) -> Iterator[Readings]:
    match = _NAME.fullmatch(_base(name))
    if not match:
      raise SchemaError(f"{export.where(name)}: not a file of Fitabase's minutes or seconds")
    kind = _KINDS[_BY_LOWER[match["kind"].lower()]]
    spare = _has_twin(export, name, match, kind.rather)
    device = "stages" if kind.words is ASLEEP else ""  # which tell more than minutes asleep do
    columns = [f"{kind.value}{minute:02d}" for minute in range(60)] if kind.wide else [kind.value]
    for rows in csv_batches.read_batches(export, name, [kind.time, *columns], optional=["Id"]):
      for participant, mine in _people(rows, match["before"].rstrip("_") or export.participant):
        account.add(participant, len(mine) * len(columns))
        if spare:
          why = f"the same minutes in {kind.rather}"
          account.drop(participant, why, len(mine) * len(columns), rows.where(int(mine[0])))
          continue
        start, value, keep = _cells(kind, columns, rows, mine, participant, account)
        if keep.any():
          begin = start[keep]
          end = begin + kind.lasts
          yield Readings(participant, kind.signal, kind.unit, begin, end, value[keep], device, clock="wall")


def _base(name: str) -> str:
  return name.rsplit("/", 1)[-1]


def _has_twin(export: Export, name: str, match: re.Match[str], rather: str) -> bool:
  """Whether the export has the same minutes in the kind of file that is read instead."""
  folder = name[: len(name) - len(_base(name))]
  other = f"{folder}{match['before']}{rather}{match['after']}".lower()
  return bool(rather) and any(other == there.lower() for there in export.names)


def _people(rows: csv_batches.CsvBatch, owner: str) -> Iterator[tuple[str, Int64[np.ndarray, "k"]]]:
  """Every participant of some rows, with the places of theirs; rows without Id are the file's owner's."""
  ids = pc.utf8_trim_whitespace(pc.fill_null(rows["Id"], "")).dictionary_encode()
  index = ids.indices.to_numpy()
  for place, participant in enumerate(ids.dictionary.to_pylist()):
    yield participant or owner, np.flatnonzero(index == place)


def _cells(
  kind: _Kind,
  columns: Sequence[str],
  rows: csv_batches.CsvBatch,
  mine: Int64[np.ndarray, "k"],
  participant: str,
  account: Account,
) -> tuple[Int64[np.ndarray, "k c"], Float64[np.ndarray, "k c"], Bool[np.ndarray, "k c"]]:
  """Start (ms) and value of a participant's cells, rows `mine` of some by columns, and which of them can be used."""
  part = rows.columns.take(pa.array(mine))
  clock, no_time = csv_batches.parse_times(part.column(kind.time), _TIME)
  found = [_values(part.column(column), kind) for column in columns]
  value = np.stack([values for values, _ in found], axis=1)
  odd = np.stack([bad for _, bad in found], axis=1)
  untimed = np.broadcast_to(no_time[:, None], odd.shape)
  for why, bad in (("unreadable time", untimed), (f"unreadable {kind.value}", odd & ~untimed)):
    if bad.any():
      first = int(mine[bad.any(axis=1).argmax()])
      account.drop(participant, why, int(bad.sum()), rows.where(first))
  return clock[:, None] + _MINUTE * np.arange(len(columns)), value, ~(odd | untimed)


def _values(column: pa.StringArray, kind: _Kind) -> tuple[Float64[np.ndarray, "k"], Bool[np.ndarray, "k"]]:
  """Numbers, or what the words stand for; and where there is none."""
  if kind.words is None:
    values, bad = csv_batches.parse_numbers(column)
    return values / 10 if kind.tenfold else values, bad
  return meant(column, kind.words)
