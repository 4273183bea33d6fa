"""Datasets from arrays of days in memory, such as those of imputation libraries."""

from __future__ import annotations

import collections
import json
import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from data_pipelines.build import build, npz_request
from data_pipelines.dataset import Dataset
from data_pipelines.errors import SchemaError
from data_pipelines.in_memory.plain_arrays import check_unmasked
from data_pipelines.in_memory.temporary_files import temporary_files
from data_pipelines.lsm2_schema import LSM2_SCHEMA
from data_pipelines.npz import NpzSource
from data_pipelines.source import MAX_MISSING, NOBODY, Label, check_one_kind, is_date
from data_pipelines.splits import Split

_DAY = 1440  # minutes


def from_arrays(
  values: Any,
  data_dir: str | os.PathLike,
  name: str,
  *,
  participant: str | Sequence[str],
  channels: Sequence[str] | None = None,
  date: Sequence[str] | None = None,
  units: Mapping[str, str] | None = None,
  labels: Mapping[str, Mapping[str, Label]] | None = None,
  max_missing: float = MAX_MISSING,
  split: Split | None = None,
  overwrite: bool = False,
) -> Dataset:
  """Builds a dataset from an array of days, or opens it if it was built from the same one.

  Args:
    values: [days, steps, channels], NaN where missing, with days from midnight to midnight: an array or tensor, or a
      mapping with it under "X", as PyPOTS passes it on. The length of a step follows from their number, 1,440 for
      minutes.
    data_dir: directory that holds the datasets.
    name: name of the dataset.
    participant: whose days they are: one person, or one per day. It has no default, because days of one person under
      several names would be in several splits.
    channels: names of the channels. Without them, 26 channels are those of LSM-2's watch (data_pipelines.lsm2_schema),
      in the order of the paper's table.
    date: ISO date of each day, "" where unknown. Without it, each person's days are numbered in order.
    units: units of channels, {"glucose": "mg/dL"}.
    labels: {participant: {label: value}}.
    max_missing, split, overwrite: as in data_pipelines.build.

  Raises:
    SchemaError: the arrays do not fit one another; the message says which.
    DatasetError: another dataset of this name exists.
  """
  if isinstance(values, Mapping):
    if "X" not in values:
      raise SchemaError(f"values: has the keys {', '.join(map(str, values))}, expected X")
    others = [str(key) for key in values if key != "X"]
    if others:
      print(f"note: of values only X is read, not {', '.join(others)}")
    values = values["X"]
  days = _days(values)
  named = _channels(channels, days.shape[2], units or {})
  people = [participant] * len(days) if isinstance(participant, str) else _texts("participant", participant)
  dates = [""] * len(days) if date is None else _texts("date", date)
  for what, found in ("participant", people), ("date", dates):
    if len(found) != len(days):
      raise SchemaError(f"{what}: has {len(found)} entries, expected one for each of the {len(days)} days")
  with temporary_files(from_arrays="arrays.npz") as paths:
    path = paths["from_arrays"]
    np.savez(
      path,
      values=days,
      participant=np.array(people, dtype=str),
      day=np.array(_numbers(people, dates)),
      date=np.array(dates, dtype=str),
      minutes_per_step=np.array(_DAY // days.shape[1]),
      labels=np.array(json.dumps(labels or {})),
      **{key: np.array(column, dtype=str) for key, column in named.items()},  # type: ignore[arg-type]
    )
    request = {**npz_request(path, max_missing), "source": "from_arrays"}
    make = lambda: NpzSource(path, max_missing)
    return build(make, data_dir, name, split=split, request=request, overwrite=overwrite)


def _days(values: Any) -> np.ndarray:
  """float32 [days, steps, channels]."""
  check_unmasked(values, "from_arrays", "values")
  try:
    given = np.asarray(values)
    with np.errstate(over="ignore"):
      days = np.asarray(given, np.float32)
  except (TypeError, ValueError) as error:
    raise SchemaError(f"values: is no array of numbers: {str(error).splitlines()[0]}") from None
  if days.ndim != 3 or not days.size:
    raise SchemaError(f"values: has shape {list(days.shape)}, expected [days, steps, channels]")
  if _DAY % days.shape[1]:
    raise SchemaError(f"values: has {days.shape[1]} steps per day, expected a divisor of {_DAY}")
  if np.isinf(days).any():
    place = tuple(map(int, np.argwhere(np.isinf(days))[0]))
    raise SchemaError(f"values: is {given[place]} on day {place[0]}, step {place[1]}, channel {place[2]}; too large")
  return days


def _texts(what: str, entries: Sequence[Any]) -> list[str]:
  """Ids, names or dates as texts; "" is one, a missing entry is not."""
  if isinstance(entries, set | frozenset):
    raise SchemaError(f"{what}: is a {type(entries).__name__}, which has no order; expected a list")
  check_unmasked(entries, "from_arrays", f"the entries of {what}")
  texts = [entry.decode(errors="backslashreplace") if isinstance(entry, bytes) else str(entry) for entry in entries]
  for place, text in enumerate(texts):
    if text in NOBODY - {""}:
      raise SchemaError(f'{what}: entry {place} is {text}, which is nothing; write "" where a date is unknown')
  if what == "participant":
    check_one_kind(list(entries), what)
  return texts


def check_units(units: object) -> None:
  """Raises SchemaError if `units` is not a mapping of channels to the names of their units."""
  if not isinstance(units, Mapping):
    raise SchemaError(f'units: is a {type(units).__name__}, expected {{"glucose": "mg/dL"}} and so on')
  for channel, unit in units.items():
    if not isinstance(unit, str):
      raise SchemaError(f"units: that of {channel!r} is {unit!r}, expected text")


def _channels(names: Sequence[str] | None, number: int, units: Mapping[str, str]) -> dict[str, list[str]]:
  """Arrays of the npz layout that describe the channels."""
  if names is None:
    if number != len(LSM2_SCHEMA.channels):
      raise SchemaError(f"channels: are missing; only {len(LSM2_SCHEMA.channels)} channels are known without names")
    named = {
      key: [getattr(c, field) for c in LSM2_SCHEMA.channels]
      for key, field in (("channels", "name"), ("unit", "unit"), ("sensor", "sensor"), ("kind", "kind"))
    }
  else:
    if len(names) != number:
      raise SchemaError(f"channels: has {len(names)} names, expected one for each of the {number} channels")
    named = {"channels": _texts("channels", names)}
  check_units(units)
  unknown = [name for name in units if name not in named["channels"]]
  if unknown:
    raise SchemaError(f"units: has {unknown[0]!r}, expected one of the channels {', '.join(named['channels'])}")
  if units:
    present = named.get("unit", [""] * number)
    named["unit"] = [units.get(name, unit) for name, unit in zip(named["channels"], present, strict=True)]
  return named


def _numbers(people: Sequence[str], dates: Sequence[str]) -> list[int]:
  """Day numbers: those of the calendar if all days have a date, else one after another for each person."""
  if all(is_date(date) for date in dates):
    return np.array(dates, "datetime64[D]").astype(int).tolist()
  count: collections.Counter[str] = collections.Counter()
  numbers = []
  for who in people:
    numbers.append(count[who])
    count[who] += 1
  return numbers
