"""Reading and writing days in the project's npz layout.

  values             float32 [days, steps, channels], NaN where missing; steps = 1440 / minutes_per_step
  channels           str [channels], names
  participant        str [days]
  day, date          int [days], str [days]: day number of the person, which counts the days of the calendar or the
                     recorded days from any one, also below 0; ISO date, or empty
  minutes_per_step   int
  labels             JSON text {participant: {name: value}}; optional
  minute_labels      int8 [days, steps, K]: 1 present, 0 absent, -1 unlabelled; optional
  minute_label_names str [K]; with minute_labels
  unit, sensor, kind str [channels], see Channel; optional
  cause              uint8 [days, steps, channels], see MISSINGNESS_MODES; optional

Row d of every array with a `days` axis is the d-th day; error messages count rows from 0. Pickled objects are never
loaded.
"""

from __future__ import annotations

import collections
import dataclasses
import datetime
import difflib
import itertools
import math
import os
import pathlib
import tokenize
import zipfile
import zlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import IO, Any

import numpy as np
from jaxtyping import Bool, Float32, Float64, Int8, Integer, Shaped, UInt8

from data_pipelines.errors import SchemaError, is_number
from data_pipelines.schema import Channel, Schema
from data_pipelines.source import MISSINGNESS_MODES, Day, Event, Label, Person, check_label, check_people, is_date
from data_pipelines.text_files import (
  check_names,
  check_regular,
  counted,
  parse_json,
  percentage,
  plain_number,
  replacing,
)

_KEYS = (
  *("values", "channels", "participant", "day", "date", "minutes_per_step", "labels", "minute_labels"),
  *("minute_label_names", "unit", "sensor", "kind", "cause"),
)
_LARGEST_DAY = 2**31 - 1  # datasets store int32
_KIND_NAMES = {"f": "float32", "U": "strings", "iu": "integers", "i": "int8", "u": "uint8"}


@dataclasses.dataclass(frozen=True)
class DayArrays:
  """All days of one npz file; row d of every array is one day.

  Attributes:
    path: the file.
    schema: its clock and channels.
    values: in physical units, NaN where missing.
    participant: str, ids of the people.
    day: day numbers, each once per person.
    date: str, ISO dates, "" where unknown.
    original: every array of the file as it was read, by key.
    notes: what was inferred or is not read and should be reported to the user, one line each.
  """

  path: pathlib.Path
  schema: Schema
  values: Float32[np.ndarray, "days steps channels"]
  participant: Shaped[np.ndarray, " days"]
  day: Integer[np.ndarray, " days"]
  date: Shaped[np.ndarray, " days"]
  original: dict[str, np.ndarray]
  notes: tuple[str, ...] = ()


def read_days(path: str | os.PathLike, schema: Schema | None = None, allow_empty_days: bool = False) -> DayArrays:
  """Reads and checks an npz of days.

  Args:
    path: the file.
    schema: the schema that the file must fit, for example that of a checkpoint: its clock and channel names must match,
      and so must the units, sensors and kinds that it declares. Those that it does not declare are taken from the
      schema. Without a schema they come from the file.
    allow_empty_days: accept days without a single observed value.

  Raises:
    SchemaError: the file does not fit the layout or the schema; the message names the file and the key or row.
  """
  path = pathlib.Path(path)
  arrays = _load(path)
  notes = _unread(path, arrays)
  values = _array(path, arrays, "values", "f", 3)
  n_days, steps, n_channels = values.shape
  names = _array(path, arrays, "channels", "U", 1, n_channels)
  participant = _array(path, arrays, "participant", "U", 1, n_days)
  day = _array(path, arrays, "day", "iu", 1, n_days)
  date = _array(path, arrays, "date", "U", 1, n_days)
  minutes_per_step = int(_array(path, arrays, "minutes_per_step", "iu", 0))
  if n_days == 0:
    raise SchemaError(f"{path}: key 'values' holds no days")
  if schema is None:
    schema, inferred = _file_schema(path, arrays, [str(name) for name in names], minutes_per_step)
    notes = (*inferred, *notes)
  else:
    _check_schema(path, schema, arrays, [str(name) for name in names], minutes_per_step)
  if steps != schema.steps:
    raise SchemaError(
      f"{path}: key 'values' has {counted(steps, 'step')} per day, expected {schema.steps} at "
      f"{minutes_per_step} minutes per step"
    )
  schema.check(values, f"{path}: key 'values'")
  _check_rows(path, participant, day, date)
  check_people(map(str, np.unique(participant)), f"{path}: key 'participant'")
  if not allow_empty_days:
    empty = np.flatnonzero(np.isnan(values).all(axis=(1, 2)))
    if len(empty):
      d = empty[0]
      who = f"participant {str(participant[d])!r}, day {day[d]}"
      raise SchemaError(f"{path}: row {d} ({who}): every value is NaN, expected at least one observed value")
  return DayArrays(path, schema, values, participant, day, date, arrays, notes)


def declared_channels(path: str | os.PathLike) -> tuple[Schema, frozenset[str]]:
  """Clock and channels as a file declares them, and which of "unit", "sensor" and "kind" it declares; no day is read.

  Raises:
    SchemaError: the file is no npz of days.
  """
  path = pathlib.Path(path)
  keys = ("channels", "minutes_per_step", "unit", "sensor", "kind")
  arrays = _load(path, keys)
  names = [str(name) for name in _array(path, arrays, "channels", "U", 1)]
  declared = _declared(path, arrays, names)
  minutes_per_step = int(_array(path, arrays, "minutes_per_step", "iu", 0))
  try:
    channels = [Channel(name, **{key: column[c] for key, column in declared.items()}) for c, name in enumerate(names)]
    return Schema(minutes_per_step, tuple(channels)), frozenset(declared)
  except SchemaError as error:
    raise SchemaError(f"{path}: {error}") from None


def write_days(
  path: str | os.PathLike,
  original: Mapping[str, np.ndarray],
  values: Float32[np.ndarray, "days steps channels"],
  extra: Mapping[str, np.ndarray] | None = None,
) -> None:
  """Writes a copy of a file that was read: new values and extra arrays, all else bit for bit as it was.

  The file appears complete or not at all.

  Args:
    path: file to write; no extension is added.
    original: `DayArrays.original` of the file that was read.
    values: the new values, of the same shape as the original ones.
    extra: additional arrays by key, such as a mask of the values that were filled in.

  Raises:
    SchemaError: the values have another type or shape, or a key of `extra` exists in the original.
  """
  path = pathlib.Path(path)
  extra = dict(extra or {})
  expected, values = original["values"], np.asarray(values)
  if values.dtype != np.float32 or values.shape != expected.shape:
    actual = f"{values.dtype} {list(values.shape)}"
    raise SchemaError(f"{path}: values to write are {actual}, expected float32 {list(expected.shape)}")
  existing = sorted(set(extra) & set(original))
  if existing:
    raise SchemaError(f"{path}: key {existing[0]!r} to add already exists in the file that was read")
  path.parent.mkdir(parents=True, exist_ok=True)
  with replacing(path) as unfinished, unfinished.open("wb") as file:
    np.savez_compressed(file, **{**original, "values": values, **extra})  # type: ignore[arg-type]


class NpzSource:
  """The people of one npz file in the layout described above; a `Source`.

  Attributes:
    notes: what was inferred from the values, one line each, for the user and the dataset's README.md.
    labels_from: names the labels of the file in messages.
  """

  def __init__(self, path: str | os.PathLike, max_missing: float = 1.0):
    """Reads the whole file into memory.

    Args:
      path: the file.
      max_missing: days on which a greater share of values is missing, over the channels that the day has, are left out.

    Raises:
      SchemaError: the file does not fit the layout, max_missing is not between 0 and 1, or no day is left.
    """
    if not is_number(max_missing) or not 0 <= max_missing <= 1:
      raise SchemaError(f"max_missing is {max_missing!r}, expected 0 to 1")
    self._path, self._max_missing = pathlib.Path(path).absolute(), max_missing
    days = read_days(path)
    self._days = days
    everybody = list(dict.fromkeys(days.participant.tolist()))
    kept = _share_missing(days.values) <= max_missing
    self._rows: dict[str, list[int]] = {}
    for d in np.flatnonzero(kept).tolist():
      self._rows.setdefault(str(days.participant[d]), []).append(d)
    self.notes = (*days.notes, *self._left_out(kept, everybody))
    if not self._rows:
      raise SchemaError(f"{path}: no day is left to build; {'; '.join(self.notes)}")
    self.labels_from = f"{self._path}: key 'labels'"
    self._labels, notes = _labels(days, everybody)
    self.notes += notes
    self._cause = _cause(days)
    self._minute_labels = _minute_labels(days)

  def _left_out(self, kept: Bool[np.ndarray, " days"], everybody: Sequence[str]) -> Iterator[str]:
    """Yields notes on days that are left out, and on people without any other day."""
    if kept.all():
      return
    people = len(set(self._days.participant[~kept].tolist()))
    share = f"with more than {100 * self._max_missing:g} % missing (--max_missing)"
    yield f"left out {counted(int((~kept).sum()), 'day')} of {counted(people, 'person')} {share}"
    lost = [participant for participant in everybody if participant not in self._rows]
    if lost:
      yield f"no day is left of {counted(len(lost), 'person')} ({', '.join(lost[:5])}{', ...' * (len(lost) > 5)})"

  def __reduce__(self) -> tuple[type[NpzSource], tuple[pathlib.Path, float]]:
    # Pickled as its path, because reading the file again is cheaper than sending its contents.
    return NpzSource, (self._path, self._max_missing)

  @property
  def channel_lines(self) -> list[str]:
    """A line per channel: the share of steps that have a value, and the range of the values."""
    values = self._days.values[[d for rows in self._rows.values() for d in rows]]
    lines = []
    for c, channel in enumerate(self.schema.channels):
      observed = values[..., c][~np.isnan(values[..., c])]
      head = f"- {channel.name}" + f" ({channel.unit})" * bool(channel.unit)
      if not len(observed):
        lines.append(f"{head}: no value")
        continue
      share, mean = 100 * len(observed) / values[..., c].size, observed.mean(dtype=np.float64)
      low, high, middle = (plain_number(float(x), 4) for x in (observed.min(), observed.max(), mean))
      lines.append(f"{head}: {percentage(share)} of steps, {low} to {high}, mean {middle}")
    return lines

  @property
  def schema(self) -> Schema:
    """Clock and channels of the file."""
    return self._days.schema

  @property
  def participants(self) -> Sequence[str]:
    """Ids of all people, in the order in which they first appear."""
    return tuple(self._rows)

  @property
  def n_days(self) -> int:
    """Number of days of all people together."""
    return sum(map(len, self._rows.values()))

  def person(self, participant: str) -> Person:
    """One person, with the days in the order of their numbers."""
    rows = sorted(self._rows[participant], key=lambda d: int(self._days.day[d]))
    days = [
      Day(
        values=self._days.values[d],
        participant=participant,
        day=int(self._days.day[d]),
        date=str(self._days.date[d]),
        cause=None if self._cause is None else self._cause[d],
      )
      for d in rows
    ]
    events = [event for d in rows for event in self._events(d)]
    return Person(participant, days, self._labels.get(participant, {}), events)

  def _events(self, d: int) -> Iterator[Event]:
    if self._minute_labels is None:
      return
    names, labels = self._minute_labels
    for k, name in enumerate(names):
      for start, end, value in _runs(labels[d, :, k]):
        if value >= 0:
          participant, day, date = self._days.participant[d], self._days.day[d], self._days.date[d]
          yield Event(str(participant), int(day), str(date), start, end, name, value)


def _share_missing(values: Float32[np.ndarray, "days steps channels"]) -> Float64[np.ndarray, " days"]:
  """Share of missing values of each day, over the channels that have a value on that day; 1 for a day without any."""
  missing, steps = np.isnan(values).sum(axis=1), values.shape[1]
  observed = missing < steps
  # A quotient of whole numbers: a mean of shares may be 0.8000000000000002 on a day of which 80 % is missing.
  share = np.where(observed, missing, 0).sum(axis=1) / (steps * np.maximum(observed.sum(axis=1), 1))
  return np.where(observed.any(axis=1), share, 1.0)


def _runs(labels: Integer[np.ndarray, " steps"]) -> Iterator[tuple[int, int, int]]:
  """Yields the maximal runs of equal values in a 1-D array as (start, end, value)."""
  edges = [0, *(np.flatnonzero(np.diff(labels)) + 1).tolist(), len(labels)]
  for start, end in itertools.pairwise(edges):
    yield start, end, int(labels[start])


def _load(path: pathlib.Path, keys: Sequence[str] | None = None) -> dict[str, np.ndarray]:
  """The arrays of an archive, or those of some keys that it has."""
  check_regular(path)
  try:
    archive = np.load(path, allow_pickle=False)
  except (OSError, EOFError, ValueError, zipfile.BadZipFile):
    raise SchemaError(f"{path}: not an npz archive, or a truncated one") from None
  if not isinstance(archive, np.lib.npyio.NpzFile):
    raise SchemaError(f"{path}: holds a single array, expected an npz archive")
  arrays = {}
  with archive:
    if archive.zip is not None:
      repeated = collections.Counter(name.removesuffix(".npy") for name in archive.zip.namelist()).most_common(1)
      if repeated and repeated[0][1] > 1:
        raise SchemaError(f"{path}: key {repeated[0][0]!r} appears twice, expected once")
      _check_sizes(path, archive.zip)
    for key in archive.files if keys is None else [key for key in keys if key in archive.files]:
      try:
        arrays[key] = archive[key]
      except ValueError as error:
        if "allow_pickle" in str(error):
          raise SchemaError(f"{path}: key {key!r} is a pickled object array, which is not loaded") from None
        raise SchemaError(f"{path}: key {key!r} is damaged") from None
      except (OSError, EOFError, zipfile.BadZipFile, zlib.error, NotImplementedError, SyntaxError, tokenize.TokenError):
        raise SchemaError(f"{path}: key {key!r} is damaged or truncated") from None
      if not isinstance(arrays[key], np.ndarray):
        raise SchemaError(f"{path}: key {key!r} is not an array")
  return arrays


def _check_sizes(path: pathlib.Path, archive: zipfile.ZipFile) -> None:
  """Refuses arrays that claim more than their bytes hold, and files that do not fit into the memory of this machine."""
  members = archive.infolist()
  for info in members:
    try:
      with archive.open(info) as member:
        shape, dtype = _read_header(member)
        held = info.file_size - member.tell()
    except Exception:  # damaged, or no array: reading it says so
      continue
    claimed = math.prod(shape) * dtype.itemsize
    if not dtype.hasobject and claimed > held:
      key = info.filename.removesuffix(".npy")
      raise SchemaError(f"{path}: key {key!r} claims {claimed:,} bytes in its header, but holds {held:,}")
  size = sum(info.file_size for info in members)
  memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
  if size > memory:
    raise SchemaError(f"{path}: unpacks to {size:,} bytes, more than the {memory:,} bytes of memory of this machine")


def _read_header(file: IO[bytes]) -> tuple[tuple[int, ...], np.dtype]:
  """Shape and type that an npy file claims."""
  if np.lib.format.read_magic(file) == (1, 0):
    shape, _, dtype = np.lib.format.read_array_header_1_0(file)
  else:
    shape, _, dtype = np.lib.format.read_array_header_2_0(file)
  return shape, dtype


def _unread(path: pathlib.Path, arrays: Mapping[str, np.ndarray]) -> tuple[str, ...]:
  """A note for every key that is not of the layout; one that is nearly one of the layout's is refused as mistyped."""
  notes = []
  for key in arrays:
    if key in _KEYS:
      continue
    near = [known for known in _KEYS if abs(len(known) - len(key)) <= 1]
    nearest = difflib.get_close_matches(key.lower(), near, n=1, cutoff=0.8)
    if nearest:
      raise SchemaError(f"{path}: key {key!r} is not of the layout; the nearest is {nearest[0]!r}")
    reason = ": values that were filled in count as observed" * (key == "filled")
    notes.append(f"key {key!r} is not read{reason}")
  return tuple(notes)


def _array(
  path: pathlib.Path, arrays: Mapping[str, np.ndarray], key: str, kinds: str, ndim: int, length: int | None = None
) -> np.ndarray:
  """Returns arrays[key] in this machine's byte order, after checking its dtype kind, rank and length.

  The kinds "f", "i" and "u" mean float32, int8 and uint8.
  """
  if key not in arrays:
    raise SchemaError(f"{path}: key {key!r} is missing; the file has {', '.join(sorted(arrays)) or 'no keys'}")
  array = arrays[key]
  width = {"f": 4, "i": 1, "u": 1}.get(kinds)
  if array.dtype.kind not in kinds or (width and array.dtype.itemsize != width):
    raise SchemaError(f"{path}: key {key!r} is {array.dtype}, expected {_KIND_NAMES[kinds]}")
  if array.ndim != ndim or (length is not None and array.shape[0] != length):
    expected = {0: "a scalar", 1: f"[{length}]", 3: "[days, steps, channels]"}[ndim]
    raise SchemaError(f"{path}: key {key!r} has shape {list(array.shape)}, expected {expected}")
  return array.astype(array.dtype.newbyteorder("="), copy=False)


def _file_schema(
  path: pathlib.Path, arrays: Mapping[str, np.ndarray], names: Sequence[str], minutes_per_step: int
) -> tuple[Schema, tuple[str, ...]]:
  """The schema that the file itself describes, and notes on what had to be inferred."""
  declared = _declared(path, arrays, names)
  channels: list[dict[str, Any]] = [
    {"name": name, **{key: column[c] for key, column in declared.items()}} for c, name in enumerate(names)
  ]
  notes: tuple[str, ...] = ()
  if "kind" not in declared:
    for c in [c for c in range(len(names)) if _looks_binary(arrays["values"][..., c])]:
      channels[c]["kind"] = "binary"
      note = f"channel {names[c]!r} holds only 0 and 1, so it is treated as binary (the key 'kind' would override this)"
      notes += (note,)
  try:
    return Schema(minutes_per_step, tuple(Channel(**channel) for channel in channels)), notes
  except SchemaError as error:
    raise SchemaError(f"{path}: {error}") from None


def _looks_binary(values: Float32[np.ndarray, "days steps"]) -> bool:
  zero, one = values == 0, values == 1
  return bool(zero.any() and one.any() and (zero | one | np.isnan(values)).all())


def _check_schema(
  path: pathlib.Path,
  schema: Schema,
  arrays: Mapping[str, np.ndarray],
  names: Sequence[str],
  minutes_per_step: int,
) -> None:
  """Checks clock and names, and what the file declares of its channels; what it does not declare is as expected."""
  known = {channel.name: channel for channel in schema.channels}
  declared = _declared(path, arrays, names)
  try:
    channels = [
      dataclasses.replace(known.get(name, Channel(name)), **{key: column[c] for key, column in declared.items()})
      for c, name in enumerate(names)
    ]
    difference = schema.difference(Schema(minutes_per_step, tuple(channels)))
  except SchemaError as error:
    raise SchemaError(f"{path}: {error}") from None
  if difference:
    raise SchemaError(f"{path}: {difference}")


def _declared(path: pathlib.Path, arrays: Mapping[str, np.ndarray], names: Sequence[str]) -> dict[str, Any]:
  """Units, sensors and kinds of channels that the file declares, {key: a word per channel}."""
  keys = [key for key in ("unit", "sensor", "kind") if key in arrays]
  return {key: [str(word) for word in _array(path, arrays, key, "U", 1, len(names))] for key in keys}


def _check_rows(
  path: pathlib.Path,
  participant: Shaped[np.ndarray, " days"],
  day: Integer[np.ndarray, " days"],
  date: Shaped[np.ndarray, " days"],
) -> None:
  seen_days: dict[tuple[str, int], int] = {}
  seen_dates: dict[tuple[str, str], int] = {}
  rows = zip(participant.tolist(), day.tolist(), date.tolist(), strict=True)
  for d, (person, number, text) in enumerate(rows):
    if not person:
      raise SchemaError(f"{path}: row {d}: key 'participant' is empty")
    if text and not is_date(text):
      raise SchemaError(f"{path}: row {d}: date is {text!r}, expected YYYY-MM-DD or an empty string")
    if text and (person, text) in seen_dates:
      first = seen_dates[person, text]
      raise SchemaError(f"{path}: row {d}: participant {person!r} already has date {text} in row {first}")
    if (person, number) in seen_days:
      first = seen_days[person, number]
      raise SchemaError(f"{path}: row {d}: participant {person!r} already has day {number} in row {first}")
    if abs(number) > _LARGEST_DAY:
      raise SchemaError(f"{path}: row {d}: day is {number}, expected at most {_LARGEST_DAY:,} in size")
    seen_days[person, number] = d
    seen_dates[person, text] = d
  _check_order(path, [(person, number, d) for (person, number), d in seen_days.items() if date[d]], date)


def _check_order(path: pathlib.Path, rows: list[tuple[str, int, int]], date: Shaped[np.ndarray, " days"]) -> None:
  """Checks the (person, day number, row) of all rows with a date: the dates must be as far apart as the numbers.

  They may be further apart, where the numbers count the recorded days.
  """
  for (person, number, d), (other, following, e) in itertools.pairwise(sorted(rows)):
    if person != other:
      continue
    days_apart = (datetime.date.fromisoformat(str(date[e])) - datetime.date.fromisoformat(str(date[d]))).days
    if days_apart < following - number:
      raise SchemaError(
        f"{path}: rows {d} and {e}: participant {person!r} has day {number} on {date[d]} and day {following} on "
        f"{date[e]}, expected dates at least {following - number} days apart, in the order of the days"
      )


def _labels(days: DayArrays, people: Collection[str]) -> tuple[dict[str, dict[str, Label]], tuple[str, ...]]:
  """The labels by person, and notes on those that were taken for missing."""
  if "labels" not in days.original:
    return {}, ()
  where = f"{days.path}: key 'labels'"
  labels = parse_json(str(_array(days.path, days.original, "labels", "U", 0)), where)
  if not isinstance(labels, dict):
    raise SchemaError(f"{where}: holds a JSON {type(labels).__name__}, expected {{participant: {{name: value}}}}")
  unknown: collections.Counter[str] = collections.Counter()
  for participant, row in labels.items():
    if participant not in people:
      raise SchemaError(f"{where}: participant {participant!r} has no days in this file")
    if not isinstance(row, dict):
      raise SchemaError(f"{where}: participant {participant!r}: found {row!r}, expected {{name: value}}")
    for name, value in row.items():
      if not isinstance(value, float | int | str | bool | None):
        raise SchemaError(f"{where}: participant {participant!r}, {name!r}: found {value!r}, expected a single value")
      check_label(value, f"{where}: participant {participant!r}, label {name!r}")
      if isinstance(value, float) and math.isnan(value):
        row[name] = None  # NaN is another way to write an unknown value
        unknown[name] += 1
  check_names((name for row in labels.values() for name in row), "label", where)
  given = collections.Counter(name for row in labels.values() for name in row)
  notes = (
    f"label {name!r}: {count:,} of {counted(given[name], 'value')} taken for missing (NaN)"
    for name, count in unknown.items()
  )
  return labels, tuple(notes)


def _cause(days: DayArrays) -> UInt8[np.ndarray, "days steps channels"] | None:
  if "cause" not in days.original:
    return None
  cause = _array(days.path, days.original, "cause", "u", 3)
  if cause.shape != days.values.shape:
    actual, expected = list(cause.shape), list(days.values.shape)
    raise SchemaError(f"{days.path}: key 'cause' has shape {actual}, expected {expected}")
  unknown = np.flatnonzero((cause > len(MISSINGNESS_MODES)).any(axis=(1, 2)))
  if len(unknown):
    d = unknown[0]
    limit = len(MISSINGNESS_MODES)
    raise SchemaError(f"{days.path}: key 'cause': row {d} holds {cause[d].max()}, expected at most {limit}")
  wrong = np.flatnonzero(((cause > 0) & ~np.isnan(days.values)).any(axis=(1, 2)))
  if len(wrong):
    raise SchemaError(f"{days.path}: key 'cause': row {wrong[0]} gives a cause where a value is observed, expected 0")
  return cause


def _minute_labels(days: DayArrays) -> tuple[list[str], Int8[np.ndarray, "days steps labels"]] | None:
  if "minute_labels" not in days.original:
    return None
  labels = _array(days.path, days.original, "minute_labels", "i", 3)
  names = _array(days.path, days.original, "minute_label_names", "U", 1, labels.shape[2]).tolist()
  if labels.shape[:2] != days.values.shape[:2]:
    actual, expected = list(labels.shape), [*days.values.shape[:2], len(names)]
    raise SchemaError(f"{days.path}: key 'minute_labels' has shape {actual}, expected {expected}")
  if len(set(names)) < len(names):
    raise SchemaError(f"{days.path}: key 'minute_label_names' has a repeated name")
  check_names(names, "label", f"{days.path}: key 'minute_label_names'")
  invalid = np.argwhere((labels < -1) | (labels > 1))
  if len(invalid):
    d, step, k = invalid[0]
    value = labels[d, step, k]
    raise SchemaError(
      f"{days.path}: key 'minute_labels': row {d} step {step} {names[k]!r} is {value}, expected -1, 0, 1"
    )
  return names, labels
