"""The same day under two names: what would let a model be scored on days it was trained on."""

from __future__ import annotations

import hashlib

import numpy as np

from data_pipelines.dataset import Dataset
from data_pipelines.errors import DuplicateError

# A day that tells less than this may well be like another by chance: a device that lay on a table, a few zeros.
_LEAST_DISTINCT = 10


def digest(values: np.ndarray) -> bytes | None:
  """Identifies a day by its values float32 [steps, channels]; None for one with too few distinct ones to tell."""
  seen = values[~np.isnan(values)]
  # Almost every day has them among its first values; sorting all takes longer than compressing the day.
  if len(np.unique(seen[:200])) < _LEAST_DISTINCT and len(np.unique(seen)) < _LEAST_DISTINCT:
    return None
  # Every NaN has the same bits, and -0 those of 0.
  plain = np.where(np.isnan(values), np.float32(np.nan), values + np.float32(0))
  return hashlib.blake2b(plain.astype(np.float32).tobytes(), digest_size=16).digest()


class Seen:
  """Refuses the same day of two people, as days go by."""

  def __init__(self) -> None:
    self._days: dict[bytes, tuple[str, int]] = {}

  def add(self, participant: str, day: int, key: bytes | None) -> None:
    """DuplicateError if another participant has had a day of the same digest; None is like no other."""
    if key is None:
      return
    person, number = self._days.setdefault(key, (participant, day))
    if person != participant:
      raise DuplicateError(
        f"participant {participant!r}, day {day}: has the very values of participant {person!r}, day {number}; one "
        "person under two names would be trained on and scored on (--allow_duplicates to build all the same)"
      )


def check_disjoint(trained: Dataset, scored: Dataset, split: str = "eval") -> None:
  """DuplicateError if a day of `scored`'s split is among the days of `trained` that models are trained on."""
  known: dict[bytes, str] = {}
  for part in ("pretrain", "tune"):
    for day in trained.days(part) if trained.num_days(part) else ():
      key = digest(day["values"])
      if key:
        known[key] = day["participant"].decode()
  for day in scored.days(split):
    key = digest(day["values"])
    if key in known:
      raise DuplicateError(
        f"participant {day['participant'].decode()!r}, day {day['day']} of dataset {scored.name!r}, split {split!r}, "
        f"is a day of participant {known[key]!r} of dataset {trained.name!r}, which the model was trained on"
      )
