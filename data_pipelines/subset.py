"""Fewer days to train on: nearly complete ones, of some people, some of theirs; smaller choices lie inside larger ones.

People and days are ranked by keyed hashes of their own, so that the first n of them are the same on every machine, in
every run, and are among the first n + 1.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Int

from data_pipelines.dataset import Dataset
from data_pipelines.errors import DatasetError
from data_pipelines.splits import ranked

KEY = "subset"


def chosen_days(
  dataset: Dataset, split: str, max_missing: float = 1.0, max_participants: int = 0, max_days: int = 0
) -> Int[np.ndarray, " kept"]:
  """The days of dataset.days(split) that are taken, in its order.

  Args:
    dataset, split: whose days.
    max_missing: those that miss at most this share of their values.
    max_participants: of those, the days of at most so many people; 0: of all.
    max_days: of those, at most so many days, of all these people together; 0: all.

  Raises:
    DatasetError: no day is left, or a number is negative.
  """
  for name, most in (("max_participants", max_participants), ("max_days", max_days)):
    if most < 0:
      raise DatasetError(f"{name} is {most}, expected a number to keep, or 0 for all")
  kept = dataset.days_within(split, max_missing) if max_missing < 1 else np.arange(dataset.num_days(split))
  person, number = day_owners(dataset, split)
  if max_participants:
    people = ranked(set(person[kept].tolist()), KEY)[:max_participants]
    kept = kept[np.isin(person[kept], people)]
  if max_days and max_days < len(kept):
    of_name = {f"{person[i]} {number[i]}": i for i in kept.tolist()}
    kept = np.array(sorted(of_name[name] for name in ranked(of_name, KEY)[:max_days]))
  return kept


def day_owners(dataset: Dataset, split: str) -> tuple[np.ndarray, np.ndarray]:
  """Whose each day of days(split) is, and how many days of theirs come before it; no day is read."""
  table = dataset.participants()
  days = dict(zip(table["participant"].to_pylist(), table["days"].to_pylist(), strict=True))
  people = dataset.people(split)  # in the order of the records
  person = np.repeat(np.array(people, object), [days[name] for name in people])
  number = np.concatenate([np.arange(days[name]) for name in people])
  return person, number
