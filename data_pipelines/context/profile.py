"""The mean of some days at each step, and the choice of a day's nearest other days in arrays."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Float32, Int, Shaped, UInt8

from data_pipelines.context.day_order import people_and_order

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
    """True for the profiles that have a value of any day."""
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

  A day without any value is none of them, as in a dataset, which has no such days.

  Args:
    values: days, NaN where missing.
    most: days behind a mean, at most.
    people, dates, where: see people_and_order().

  Raises:
    SchemaError: see people_and_order().
  """
  made = Profile(np.empty(values.shape, np.float32), np.empty(values.shape, np.uint8))
  for rows in _groups(*people_and_order(len(values), people, dates, where)):
    recorded = [row for row in rows if not np.isnan(values[row]).all()]
    own = 0  # its place among them
    for row in rows:
      present = own < len(recorded) and recorded[own] == row
      places = recorded if present else [*recorded[:own], row, *recorded[own:]]
      others = (np.asarray(values[i], np.float32) for i in nearest(places, own, most))
      made.mean[row], made.days[row] = Profile.of(others, values.shape[1:])
      own += present
  return made


def _groups(whose: Int[np.ndarray, " days"], when: Int[np.ndarray, " days"]) -> Iterable[list[int]]:
  """The rows of each person, in the order of time."""
  order = np.lexsort((when, whose))
  return (rows.tolist() for rows in np.split(order, np.flatnonzero(np.diff(whose[order])) + 1))
