"""The mean of some days at each step, and the choice of a day's nearest other days in arrays."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Float32, Int, Shaped, UInt8

from data_pipelines.errors import SchemaError
from data_pipelines.source import NOBODY

MOST_DAYS = 255  # behind one mean: counts are bytes


class Profile(NamedTuple):
  """The mean of some days at each step, and how many of them were observed there.

  Attributes:
    mean: in the days' units, of a binary channel the share of ones; NaN where none of the days has a value.
    days: number of days behind each mean.
  """

  mean: Float32[np.ndarray, "*days steps channels"]
  days: UInt8[np.ndarray, "*days steps channels"]

  @classmethod
  def of(cls, days: Iterable[Float[np.ndarray, "steps channels"]], shape: tuple[int, int]) -> Profile:
    """The profile of at most MOST_DAYS days of this shape, NaN where missing; the same for the same days in order."""
    total, count = np.zeros(shape), np.zeros(shape, np.uint8)
    for day in days:
      observed = ~np.isnan(day)
      np.add(total, day, out=total, where=observed)
      count += observed
    with np.errstate(divide="ignore", invalid="ignore"):
      return cls((total / count).astype(np.float32), count)

  @classmethod
  def stacked(cls, profiles: Sequence[Profile]) -> Profile:
    """Profiles of several days as one, with the days as an axis in front."""
    return cls(*(np.stack(arrays) for arrays in zip(*profiles, strict=True)))

  @property
  def known(self) -> Bool[np.ndarray, "*days"]:
    """Which of the profiles have a value of any day."""
    return np.asarray(self.days.any(axis=(-2, -1)))

  def at(self, rows: Any) -> Profile:
    """The profiles of some of the days, by whatever indexes an array."""
    return Profile(self.mean[rows], self.days[rows])


def nearest(places: Sequence[int], own: int, most: int) -> list[int]:
  """The `most` others of a person's days that are nearest to the `own`-th of them, in ascending order.

  Near is counted in days that there are, so that it follows from the order of the days alone; of two equally near days
  the earlier one comes first.

  Args:
    places: of all of the person's days, in the order of time.
    own: index into `places`.
    most: how many are returned, if there are as many.
  """
  first, last = max(0, own - most), min(len(places), own + most + 1)
  others = [i for i in range(first, last) if i != own]
  return [places[i] for i in sorted(sorted(others, key=lambda i: abs(i - own))[:most])]


def profiles_of_rows(
  values: Float[np.ndarray, "days steps channels"],
  people: Sequence[Any] | Shaped[np.ndarray, " days"],
  most: int,
  dates: Sequence[Any] | Shaped[np.ndarray, " days"] | None = None,
  where: str = "days",
) -> Profile:
  """The profile of the nearest other days of the same person, for each day of an array.

  Args:
    values: days, NaN where missing.
    people: whose each day is: names or numbers.
    most: days behind a mean, at most.
    dates: numbers or text by which the days of a person are in order; by default they come in the order of time.
    where: begins messages.

  Raises:
    SchemaError: see people_and_order().
  """
  made = Profile(np.empty(values.shape, np.float32), np.empty(values.shape, np.uint8))
  for rows in _groups(*people_and_order(len(values), people, dates, where)):
    for own, row in enumerate(rows):
      others = (np.asarray(values[i], np.float32) for i in nearest(rows, own, most))
      made.mean[row], made.days[row] = Profile.of(others, values.shape[1:])
  return made


def people_and_order(
  count: int,
  people: Sequence[Any] | Shaped[np.ndarray, " days"],
  dates: Sequence[Any] | Shaped[np.ndarray, " days"] | None = None,
  where: str = "days",
) -> tuple[Int[np.ndarray, " days"], Int[np.ndarray, " days"]]:
  """Whose each day is and its place in time, as numbers: equal ones for equal entries, in the entries' order.

  Args:
    count: of the days.
    people, dates, where: see profiles_of_rows.

  Raises:
    SchemaError: people or dates are not one for each day, one of them is missing, or they cannot be compared.
  """
  whose = _ranks(count, people, where, "people")
  return whose, np.arange(count) if dates is None else _ranks(count, dates, where, "dates")


def _ranks(count: int, given: Any, where: str, name: str) -> Int[np.ndarray, " days"]:
  """The place of each entry among the different ones, in ascending order."""
  try:
    shape, entries = np.shape(given), np.asarray(given)
  except (TypeError, ValueError) as error:
    raise SchemaError(f"{where}: {name} are no array: {str(error).splitlines()[0]}") from None
  if shape != (count,):
    raise SchemaError(f"{where}: {name} have shape {shape}, expected one for each of {count} days")
  for row, entry in enumerate(entries):
    text = entry.decode(errors="replace") if isinstance(entry, bytes) else str(entry)
    if text in NOBODY:
      raise SchemaError(f"{where}: {name}: row {row} is {text!r}, which says that it is missing; expected one per day")
  try:
    return np.unique(entries, return_inverse=True)[1]
  except TypeError as error:
    raise SchemaError(f"{where}: {name} cannot be put in an order: {str(error).splitlines()[0]}") from None


def _groups(whose: Int[np.ndarray, " days"], when: Int[np.ndarray, " days"]) -> Iterable[list[int]]:
  """The rows of each person, in the order of time."""
  order = np.lexsort((when, whose))
  return (rows.tolist() for rows in np.split(order, np.flatnonzero(np.diff(whose[order])) + 1))
