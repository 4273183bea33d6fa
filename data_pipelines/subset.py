"""Selecting fewer days to train on: nearly complete ones, those of some people, or a limited number.

Smaller selections lie inside larger ones, which makes learning curves over data size comparable: people and days are
ranked by a keyed hash of their names, so the first n are the same on every machine and in every run, and are among the
first n + 1.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Int, Shaped

from data_pipelines.dataset import Dataset
from data_pipelines.errors import DatasetError, is_number, is_whole
from data_pipelines.splits import ranked
from data_pipelines.text_files import counted

KEY = "subset"


def chosen_days(
  dataset: Dataset, split: str, max_missing: float = 1.0, max_participants: int = 0, max_days: int = 0
) -> Int[np.ndarray, " selected"]:
  """Indices into `dataset.days(split)` of the days to train on, ascending.

  The limits apply one after another; in a mix of datasets, to each of them. People come first: a study recruits them
  before it sees their days, so the fuller days of n people lie inside all days of n people.

  Args:
    dataset: the dataset.
    split: the split to choose from.
    max_missing: of their days, those with at most this share of missing values.
    max_participants: at most this many people; 0 for all people.
    max_days: of those days, at most this many over all people; 0 for all days.

  Raises:
    DatasetError: no day is left, or a number is out of range.
  """
  for name, limit in (("max_participants", max_participants), ("max_days", max_days)):
    if not is_whole(limit) or limit < 0:
      raise DatasetError(f"{name} is {limit!r}, expected a positive limit, or 0 for no limit")
  if not is_number(max_missing) or not 0 <= max_missing <= 1:
    raise DatasetError(f"max_missing is {max_missing!r}, expected 0 to 1")
  if len(dataset.members) > 1:
    chosen, first = [], 0
    for member, _ in dataset.members:
      if member.num_days(split):
        chosen.append(first + chosen_days(member, split, max_missing, max_participants, max_days))
        first += member.num_days(split)
    return np.concatenate(chosen) if chosen else np.arange(0)
  indices = dataset.days_within(split, max_missing) if max_missing < 1 else np.arange(dataset.num_days(split))
  owners, ordinals = day_owners(dataset, split)
  if max_participants:
    people = ranked(set(owners.tolist()), KEY)[:max_participants]
    indices = indices[np.isin(owners[indices], people)]
    if not len(indices):
      raise DatasetError(
        f"max_missing is {max_missing} and max_participants {max_participants}: no day in split {split!r} of dataset "
        f"{dataset.name!r} that is so complete is of the chosen {counted(len(people), 'person')}"
      )
  if max_days and max_days < len(indices):
    index_of = {f"{owners[i]} {ordinals[i]}": i for i in indices.tolist()}
    indices = np.array(sorted(index_of[name] for name in ranked(index_of, KEY)[:max_days]))
  return indices


def day_owners(dataset: Dataset, split: str) -> tuple[Shaped[np.ndarray, " days"], Int[np.ndarray, " days"]]:
  """Participant of each day of `dataset.days(split)`, and how many of that person's days precede it.

  This follows from the tables of the dataset; no day is read.
  """
  table = dataset.participants()
  counts = dict(zip(table["participant"].to_pylist(), table["days"].to_pylist(), strict=True))
  people = dataset.people(split)  # in the order of the records
  owners = np.repeat(np.array(people, object), [counts[name] for name in people])
  ordinals = np.concatenate([np.arange(counts[name]) for name in people])
  return owners, ordinals
