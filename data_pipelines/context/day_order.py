"""Whose the days of an array are, and their order in time, from what a caller says about each row."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Int, Shaped

from data_pipelines.errors import SchemaError, first_line, is_number, is_whole, shown
from data_pipelines.source import NOBODY, check_one_kind, check_people, is_date

_EPOCH = datetime.date(1970, 1, 1).toordinal()


def people_and_order(
  count: int,
  people: Sequence[Any] | Shaped[np.ndarray, " days"],
  dates: Sequence[Any] | Shaped[np.ndarray, " days"] | None = None,
  where: str = "days",
) -> tuple[Int[np.ndarray, " days"], Int[np.ndarray, " days"]]:
  """Whose each day is and its place in time, as numbers: equal ones for equal entries, in the entries' order.

  Args:
    count: of the days.
    people: whose each day is: all text, all numbers, or all of another type that has an order. Bytes are text.
    dates: the date of each day, by default in the order of time: all dates (of datetime or NumPy, or text that begins
      YYYY-MM-DD; an ISO time behind it makes no difference), or all whole numbers. Each occurs once per person.
    where: begins messages.

  Raises:
    SchemaError: people or dates are not one for each day, one of them is missing or of another kind, names of people
      look alike (source.check_people), or a person has two days of the same date.
  """
  owners = _owners(_entries(count, people, where, "people"), where)
  if dates is None:
    return _ranks(owners), np.arange(count)
  given = _entries(count, dates, where, "dates")
  days = _days(given, where)
  rows: dict[Any, int] = {}
  for row, day in enumerate(zip(owners, days, strict=True)):
    first = rows.setdefault(day, row)
    if first != row:
      date = day[1] if is_number(given[row]) else np.datetime64(day[1], "D")
      raise SchemaError(
        f"{where}: dates: rows {first} and {row} are both {date} of person {shown(owners[row])}, expected each date "
        "once per person"
      )
  return _ranks(owners), _ranks(days)


def _entries(count: int, given: Any, where: str, name: str) -> list[Any]:
  """The entries given for each day. Those of lists stay as they are: an array of them makes a text of a number."""
  try:
    shape, array = np.shape(given), np.asarray(given)
  except (TypeError, ValueError) as error:
    raise SchemaError(f"{where}: {name} are no array: {first_line(error)}") from None
  if shape != (count,):
    raise SchemaError(f"{where}: {name} have shape {shape}, expected one for each of {count} days")
  entries = [_plain(entry) for entry in (given if isinstance(given, Sequence) else array)]
  for row, entry in enumerate(entries):
    if str(entry) in NOBODY:
      raise SchemaError(f"{where}: {name}: row {row} is {str(entry)!r}, which says that it is missing; one is expected")
  return entries


def _plain(entry: Any) -> Any:
  """Text of Python for text and bytes; the number of an array without axes."""
  if isinstance(entry, bytes):
    return entry.decode(errors="backslashreplace")
  if isinstance(entry, str):
    return str(entry)
  if hasattr(entry, "__array__") and not isinstance(entry, np.generic):
    return np.asarray(entry)[()]
  return entry


def _owners(people: list[Any], where: str) -> list[Any]:
  """The people, if they can be told apart and put in an order."""
  check_one_kind(people, f"{where}: people")
  if people and isinstance(people[0], str):
    check_people(people, f"{where}: people")
  try:
    sorted(set(people))
  except TypeError as error:
    raise SchemaError(f"{where}: people cannot be put in an order: {first_line(error)}") from None
  return people


def _days(dates: list[Any], where: str) -> list[int]:
  """Whole numbers as they are, or the days from 1970-01-01 to each date."""
  days = []
  for row, date in enumerate(dates):
    day = _day(date)
    if day is None:
      expected = "a date, text that begins YYYY-MM-DD or a whole number"
      raise SchemaError(f"{where}: dates: row {row} is {shown(date)}, expected {expected}")
    if is_number(date) != is_number(dates[0]):
      both = f"row 0 is {shown(dates[0])} and row {row} is {shown(date)}"
      raise SchemaError(f"{where}: dates: {both}, expected all dates or all whole numbers")
    days.append(day)
  return days


def _day(date: Any) -> int | None:
  """The number of a date, None for what is none."""
  if is_whole(date) or (is_number(date) and date == date // 1):
    return int(date)
  if isinstance(date, datetime.date):
    return date.toordinal() - _EPOCH
  if isinstance(date, np.datetime64):
    return int(date.astype("datetime64[D]").astype(int))
  if not isinstance(date, str) or not is_date(date[:10]):
    return None
  try:
    return datetime.datetime.fromisoformat(date).toordinal() - _EPOCH
  except ValueError:
    return None


def _ranks(entries: list[Any]) -> Int[np.ndarray, " days"]:
  """The place of each entry among the different ones, in ascending order."""
  places = {entry: place for place, entry in enumerate(sorted(set(entries)))}
  return np.array([places[entry] for entry in entries], np.int64)
