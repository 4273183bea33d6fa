"""Finding the same day under two names, which would let a model be scored on days it was trained on."""

from __future__ import annotations

import hashlib

import numpy as np
from jaxtyping import Float32

from data_pipelines.dataset import Dataset
from data_pipelines.errors import DuplicateError

# A day with fewer distinct values may equal another day by chance: a device that lay on a table, or a few zeros.
_LEAST_DISTINCT = 10


def digest(values: Float32[np.ndarray, "steps channels"]) -> bytes | None:
  """Identifies a day by its values; None if it has too few distinct values to identify it."""
  observed = values[~np.isnan(values)]
  # Almost every day has enough distinct values among its first ones, and sorting all of them is slower than compressing
  # the day.
  if len(np.unique(observed[:200])) < _LEAST_DISTINCT and len(np.unique(observed)) < _LEAST_DISTINCT:
    return None
  # Give every NaN the same bits, and -0 the bits of 0.
  canonical = np.where(np.isnan(values), np.float32(np.nan), values + np.float32(0))
  return hashlib.blake2b(canonical.astype(np.float32).tobytes(), digest_size=16).digest()


class DuplicateDetector:
  """Detects, while days are added, that two people have an identical day."""

  def __init__(self) -> None:
    self._days: dict[bytes, tuple[str, int]] = {}

  def add(self, participant: str, day: int, key: bytes | None) -> None:
    """Adds a day by its digest; a day without a digest (None) equals no other.

    Raises:
      DuplicateError: another participant has a day with this digest.
    """
    if key is None:
      return
    owner, number = self._days.setdefault(key, (participant, day))
    if owner != participant:
      raise DuplicateError(
        f"participant {participant!r}, day {day}: has the same values as participant {owner!r}, day {number}; one "
        "person under two names would be both trained on and scored on (use --allow_duplicates to build anyway)"
      )


def check_disjoint(trained: Dataset, scored: Dataset, split: str = "eval") -> None:
  """Checks that no day of a split to score on is among the days that models are trained on.

  Args:
    trained: the dataset of the training days, which are those of its splits pretrain and tune.
    scored: the dataset to score on.
    split: the split of `scored`.

  Raises:
    DuplicateError: a day of `scored` has the same values as a training day.
  """
  owners: dict[bytes, str] = {}
  for training_split in ("pretrain", "tune"):
    for day in trained.days(training_split) if trained.num_days(training_split) else ():
      key = digest(day["values"])
      if key:
        owners[key] = day["participant"].decode()
  for day in scored.days(split):
    key = digest(day["values"])
    if key in owners:
      raise DuplicateError(
        f"participant {day['participant'].decode()!r}, day {day['day']} of dataset {scored.name!r}, split {split!r}, "
        f"is a day of participant {owners[key]!r} of dataset {trained.name!r}, which the model was trained on"
      )
