"""Whose the days are that a caller passes, and what a model that reads a person's other days is given of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Shaped

from data_pipelines.context.day_order import people_and_order
from data_pipelines.context.profile import Profile, profiles_of_rows
from data_pipelines.in_memory.plain_arrays import check_unmasked
from data_pipelines.schema import SchemaError

# One entry per day: ids of people, or dates.
People = Shaped[np.ndarray, " days"] | Sequence


def profile_of_rows(
  days: Shaped[np.ndarray, "days steps channels"],
  people: People | None,
  dates: People | None,
  context_days: int,
  where: str,
) -> Profile | None:
  """Gathers what a model is given of each person's other days among `days`; None without people, or if it reads none.

  Args:
    days: of the model's schema.
    people, dates: see Pretrained.impute; checked whether or not the model reads other days.
    context_days: the most other days that the model reads.
    where: begins messages.

  Raises:
    SchemaError: people or dates are masked, not one for each day, missing for one or of several kinds; a person has
      a date twice; or there are dates without people.
  """
  if people is None:
    if dates is not None:
      raise SchemaError(f"{where}: has dates without people, expected whose each day is, too")
    return None
  check_unmasked(people, where, "people")
  check_unmasked(dates, where, "dates")
  if not context_days:
    people_and_order(len(days), people, dates, where)
    return None
  return profiles_of_rows(days, people, context_days, dates, where)


def check_profile(profile: Any, shape: tuple[int, ...], where: str) -> None:
  """Raises SchemaError unless it is a Profile of days of this shape; `where` begins the message."""
  if not isinstance(profile, Profile):
    raise SchemaError(f"{where}: profile is a {type(profile).__name__}, expected a Profile")
  for name, array, kinds in (("mean", profile.mean, "f"), ("days", profile.days, "iu")):
    if not isinstance(array, np.ndarray) or array.shape != shape or array.dtype.kind not in kinds:
      found = f"{array.dtype} {array.shape}" if isinstance(array, np.ndarray) else f"a {type(array).__name__}"
      expected = "floats" if name == "mean" else "whole numbers"
      raise SchemaError(f"{where}: profile's {name} is {found}, expected {expected} {shape}")
