"""Fitabase: per-minute data and heart rates of a study's Fitbit wearers, as CSV.

There is one file per kind for everybody, with a column Id ("minuteStepsNarrow_merged.csv"), or one per person
("P07_minuteStepsNarrow_20160412_20160512.csv"). The format is described in the "Data Dictionary" of 2020,
https://www.fitabase.com/media/1930/fitabasedatadictionary102320.pdf; a public sample of 33 people is at
https://doi.org/10.5281/zenodo.53894. These kinds, recognised by part of the file's name, are read:

  minuteStepsNarrow         ActivityMinute, Steps         steps in the minute that starts then
  minuteIntensitiesNarrow   ActivityMinute, Intensity     0 sedentary, 1 light, 2 moderate, 3 very active
  minuteCaloriesNarrow      ActivityMinute, Calories      kcal in the minute, resting energy included
  minuteMETsNarrow          ActivityMinute, METs          ten times the metabolic equivalent, as documented
  minute...Wide             ActivityHour, Steps00-59 (Intensity00, Calories00, METs00)   the same, one row per hour
  heartrate_seconds         Time, Value                   bpm, every 5 to 15 s
  heartrate_1min            Time, Value                   bpm, mean of the minute
  minuteSleep               date, value, logId            1 asleep, 2 restless, 3 awake, in the minute that starts then
  30secondSleepStages       Time, SleepStage, ...         wake, light, deep, rem, with short wakes, per 30 s

All times are on the wearer's wall clock without a zone, as the Fitbit Web API gives them ("4/12/2016 1:05:00 PM";
"mm/dd/yyyy hh:mm:ss AM/PM" in the dictionary; "4/12/2016 13:05" or "12.04.2016 13:05" when a spreadsheet has saved
them), so the nights on which clocks change lack an hour or have one twice. A spreadsheet may also have put the day
first with slashes ("13/05/2016 08:00"). A date with a number above 12 shows which order a file has; a file without one
has that of the person's other files, or else of all files in the folder or zip, whose files one spreadsheet program has
probably saved, or else the month first. A file with dates of both orders is refused.
Restless minutes count as not asleep, as in Fitbit's TotalMinutesAsleep, which counts the 1s. A minute that is
in both a narrow and a wide file is read from the narrow one; heart rates by second are preferred to those by minute.
Hourly and daily files (hourlySteps, dailyActivity, sleepDay, weightLogInfo, ...) are sums of these and are not read. In
the account, a row of a wide file counts as its 60 minutes.
"""

from __future__ import annotations

import contextlib
import dataclasses
import re
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Bool, Float64, Int64

from data_pipelines.errors import SchemaError
from data_pipelines.ingest.importers.categories import ASLEEP, category_values
from data_pipelines.ingest.reading import csv_batches
from data_pipelines.ingest.reading.account import Account
from data_pipelines.ingest.reading.clocks import MINUTE
from data_pipelines.ingest.reading.date_order import DateOrder
from data_pipelines.ingest.reading.export_files import Export, base_name
from data_pipelines.ingest.reading.owners import Owner
from data_pipelines.ingest.reading.readings import Readings
from data_pipelines.ingest.reading.signals import Signal, common_signal

# As exported, and as spreadsheets save it: without seconds, on a clock of 24 hours, with points where German ones do.
_CLOCKS = ("%I:%M:%S %p", "%I:%M %p", "%H:%M:%S", "%H:%M")
_POINTS = ("%d.%m.%Y %H:%M:%S", "%d.%m.%Y %H:%M")
_DAY_FIRST = "times with the day first, as a day after the 12th shows"
_STATES = {"1": 1.0, "2": 0.0, "3": 0.0}


@dataclasses.dataclass(frozen=True)
class _Kind:
  """One kind of file.

  Attributes:
    signal, unit: what the values measure.
    time, value: the columns; in a wide file, `value` is followed by the minute, 00 to 59.
    duration: milliseconds that a value covers; 0 for a sample.
    wide: whether a row holds an hour, in 60 value columns.
    value_of: the number each text stands for, if the values are categories.
    tenfold: whether the stored values are ten times the real ones.
    preferred: the kind of file that is read instead if the export has both.
  """

  signal: str
  unit: str
  time: str
  value: str
  duration: int = 0
  wide: bool = False
  value_of: Mapping[str, float] | None = None
  tenfold: bool = False
  preferred: str = ""


def _minutes(signal: str, unit: str, value: str, plural: str, tenfold: bool = False) -> dict[str, _Kind]:
  narrow, wide = f"minute{plural}Narrow", f"minute{plural}Wide"
  return {
    narrow: _Kind(signal, unit, "ActivityMinute", value, MINUTE, tenfold=tenfold),
    wide: _Kind(signal, unit, "ActivityHour", value, MINUTE, wide=True, tenfold=tenfold, preferred=narrow),
  }


_KINDS = {
  **_minutes("steps", "steps", "Steps", "Steps"),
  **_minutes("calories", "kcal", "Calories", "Calories"),
  **_minutes("intensity", "", "Intensity", "Intensities"),
  **_minutes("mets", "MET", "METs", "METs", tenfold=True),
  "heartrate_seconds": _Kind("heart_rate", "bpm", "Time", "Value"),
  "heartrate_1min": _Kind("heart_rate", "bpm", "Time", "Value", preferred="heartrate_seconds"),
  "30secondSleepStages": _Kind("asleep", "", "Time", "SleepStage", 30_000, value_of=ASLEEP),
  "minuteSleep": _Kind("asleep", "", "date", "value", MINUTE, value_of=_STATES),
}
# The orders of the dates with slashes and with points in each file as it is on the disk, by `_state`: everybody's files
# may be looked at for each person.
_orders: dict[tuple[str, str, int, int], tuple[DateOrder, DateOrder]] = {}
# The result of `_shown_in_whole` for the export that is being read.
_whole_shown: dict[str, tuple[str, str]] = {}
_NAME = re.compile(rf"(?P<before>.*?)(?P<kind>{'|'.join(_KINDS)})(?P<after>(_.*)?\.csv)", re.IGNORECASE)
_BY_LOWER = {name.lower(): name for name in _KINDS}


class Fitabase:
  """Reads Fitabase's files of minutes and seconds; the module's docstring lists them."""

  signals: Sequence[Signal] = (
    common_signal("heart_rate"),
    common_signal("steps", quiet=False, high=1000),
    common_signal("calories", high=100),
    common_signal("intensity"),
    common_signal("mets"),
    common_signal("asleep"),
  )
  devices: Sequence[str] = ("stages",)
  beside: Sequence[str] = ()
  not_read_because: Mapping[str, str] = dict.fromkeys(
    ("*hourly*", "*daily*", "*sleepday*", "*sleeplog*", "*weightlog*"), "one value per hour, night or day"
  )

  def files(self, export: Export) -> list[str]:
    return [name for name in export.names if _NAME.fullmatch(base_name(name))]

  def owners(self, export: Export, names: Sequence[str]) -> dict[str, Owner]:
    return {name: _owner(export, name) for name in names}

  def read(self, export: Export, name: str, account: Account) -> Iterator[Readings]:
    match = _NAME.fullmatch(base_name(name))
    if not match:
      raise SchemaError(f"{export.where(name)}: not a Fitabase file of minutes or seconds")
    kind = _KINDS[_BY_LOWER[match["kind"].lower()]]
    redundant = _has_preferred(export, name, match, kind.preferred)
    device = "stages" if kind.value_of is ASLEEP else ""  # preferred, because stages say more than minutes asleep
    columns = [f"{kind.value}{minute:02d}" for minute in range(60)] if kind.wide else [kind.value]
    in_rows = _owner(export, name).in_rows
    prefix = match["before"].rstrip("_") * in_rows  # without Ids the file is of whom the import says
    owner = prefix or export.participant
    blamed = prefix or ("" if in_rows else owner)  # for rows that do not say whose they are
    bad_rows = csv_batches.counting(account, blamed, export, name)
    day_first = _is_day_first(export, name)
    if day_first:
      account.remark(blamed, _DAY_FIRST)
    forms = *(f"{'%d/%m' if day_first else '%m/%d'}/%Y {clock}" for clock in _CLOCKS), *_POINTS
    for rows in csv_batches.read_batches(export, name, [kind.time, *columns], optional=["Id"], ragged=bad_rows):
      for participant, own_rows in _people(rows, owner):
        account.add(participant, len(own_rows) * len(columns))
        if redundant:
          why = f"the same minutes in {kind.preferred}"
          account.drop(participant, why, len(own_rows) * len(columns), rows.where(int(own_rows[0])))
          continue
        start, value, usable = _values_of(kind, columns, forms, rows, own_rows, participant, account)
        if usable.any():
          begin = start[usable]
          end = begin + kind.duration
          yield Readings(participant, kind.signal, kind.unit, begin, end, value[usable], device, clock="wall")


def _owner(export: Export, name: str) -> Owner:
  """The rows say whose they are, or else the file's name, except in a file with neither."""
  match = _NAME.fullmatch(base_name(name))
  with contextlib.suppress(SchemaError):  # reading it says what is wrong
    if "Id" not in csv_batches.read_header(export, name):
      return Owner(name.rpartition("/")[0], subject=match["before"].rstrip("_") if match else "")
  return Owner(in_rows=True)


def _is_day_first(export: Export, name: str) -> bool:
  """True if dates with slashes have the day first: as the file itself shows, or else the other files do.

  Raises:
    SchemaError: the file has dates of both orders, or shows none while other files show both; or dates with points have
      the month first.
  """
  slashes, points = _date_orders(export, name)
  points.check(True, "as dates with points have it")
  if slashes.day_first and slashes.month_first:
    slashes.check(True, f"as in {slashes.day_first}")
  if slashes.day_first or slashes.month_first:
    return bool(slashes.day_first)
  day_first, month_first = _shown(export)
  if not day_first and not month_first:  # an export may be one person's part of a folder
    day_first, month_first = _shown_in_whole(export)
  if day_first and month_first:
    raise SchemaError(
      f"{export.where(name)}: no date shows whether the day or the month comes first, and other files have both: "
      f"{day_first} and {month_first}; import it alone if it has the month first"
    )
  return bool(day_first)


def _shown(export: Export) -> tuple[str, str]:
  """The first dates with slashes that only have the day first, and the month, in the files of an export."""
  orders = [_date_orders(export, name)[0] for name in Fitabase().files(export)]
  return (
    next((order.day_first for order in orders if order.day_first), ""),
    next((order.month_first for order in orders if order.month_first), ""),
  )


def _shown_in_whole(export: Export) -> tuple[str, str]:
  """The same in everybody's files, which are looked at once for all parts of an export."""
  if export.listing not in _whole_shown:
    _whole_shown[export.listing] = _shown(export.whole())
  return _whole_shown[export.listing]


def _state(export: Export, name: str) -> tuple[str, str, int, int]:
  """The place of a file, with what changes when it is written again."""
  file = export.path / name
  status = (file if file.is_file() else export.path).stat()  # in a zip, or packed by gzip
  return str(export.path.absolute()), name, status.st_mtime_ns, export.size(name)


def _date_orders(export: Export, name: str) -> tuple[DateOrder, DateOrder]:
  """The orders of the dates with slashes and with points that a file has."""
  key = _state(export, name)
  if key not in _orders:
    _orders[key] = slashes, points = DateOrder("/"), DateOrder(".")
    match = _NAME.fullmatch(base_name(name))
    time = [_KINDS[_BY_LOWER[match["kind"].lower()]].time] if match else []
    whole = export.part(export.names, export.participant)  # whose bytes no progress bar counts
    with contextlib.suppress(SchemaError):  # reading the file says what is wrong
      for rows in csv_batches.read_batches(whole, name, time, ragged=lambda row, why: None):
        slashes.add(rows, time)
        points.add(rows, time)
  return _orders[key]


def _has_preferred(export: Export, name: str, match: re.Match[str], preferred: str) -> bool:
  """True if the export holds the same minutes in the preferred kind of file."""
  folder = name[: len(name) - len(name.rsplit("/", 1)[-1])]
  other = f"{folder}{match['before']}{preferred}{match['after']}".lower()
  return bool(preferred) and any(other == file.lower() for file in export.names)


def _people(rows: csv_batches.CsvBatch, owner: str) -> Iterator[tuple[str, Int64[np.ndarray, "k"]]]:
  """Yields each participant with the indices of their rows; rows without an Id belong to the file's owner."""
  ids = pc.utf8_trim_whitespace(pc.fill_null(rows["Id"], "")).dictionary_encode()
  index = ids.indices.to_numpy()
  for place, participant in enumerate(ids.dictionary.to_pylist()):
    yield participant or owner, np.flatnonzero(index == place)


def _values_of(
  kind: _Kind,
  columns: Sequence[str],
  forms: Sequence[str],
  rows: csv_batches.CsvBatch,
  own_rows: Int64[np.ndarray, "k"],
  participant: str,
  account: Account,
) -> tuple[Int64[np.ndarray, "k c"], Float64[np.ndarray, "k c"], Bool[np.ndarray, "k c"]]:
  """Start (ms) and value of a participant's readings, [rows `own_rows`, columns], and which of them are usable."""
  part = rows.columns.take(pa.array(own_rows))
  clock, no_time = csv_batches.parse_times(part.column(kind.time), *forms)
  columns_read = [_numbers(part.column(column), kind) for column in columns]
  value = np.stack([values for values, _ in columns_read], axis=1)
  unreadable = np.stack([bad for _, bad in columns_read], axis=1)
  untimed = np.broadcast_to(no_time[:, None], unreadable.shape)
  for why, bad in (("unreadable time", untimed), (f"unreadable {kind.value}", unreadable & ~untimed)):
    if bad.any():
      first = int(own_rows[bad.any(axis=1).argmax()])
      account.drop(participant, why, int(bad.sum()), rows.where(first))
  return clock[:, None] + MINUTE * np.arange(len(columns)), value, ~(unreadable | untimed)


def _numbers(column: pa.StringArray, kind: _Kind) -> tuple[Float64[np.ndarray, "k"], Bool[np.ndarray, "k"]]:
  """The values of a column as numbers, and where there is none."""
  if kind.value_of is None:
    values, bad = csv_batches.parse_numbers(column)
    return values / 10 if kind.tenfold else values, bad
  return category_values(column, kind.value_of)
