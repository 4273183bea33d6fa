"""What is counted of a dataset's days as they go by, block by block, so that any number of days fits in memory."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int64, UInt8

from data_pipelines.atlas import gaps
from data_pipelines.atlas.value_ranges import Ranges
from data_pipelines.dataset import Dataset
from data_pipelines.progress import progress_bar
from data_pipelines.schema import Schema
from data_pipelines.source import MISSINGNESS_MODES
from data_pipelines.splits import SPLITS
from data_pipelines.statistics import Statistics

CAUSES = ("cause unknown", *(mode.replace("_", " ") for mode in MISSINGNESS_MODES))
THRESHOLDS = np.arange(21) / 20  # shares of a day that may be missing
_BLOCK_BYTES = 8 * 2**20  # of values looked at together

StoredDay = Mapping[str, Any]


@dataclasses.dataclass
class OnePerson:
  """split; days; missing [C] steps over them; the missing share of the fullest day."""

  split: str
  days: int
  missing: Int64[np.ndarray, "c"]
  least: float


class Counts:
  """Counts of missing steps over some days; C channels.

  Attributes:
    days: of each split.
    slots: [H, C] missing steps in each of H equal parts of the day: hours, if the steps allow.
    causes: [C, 7], by CAUSES.
    gaps, gap_steps: [C, len(LENGTHS)] gaps by length, and their missing steps.
    together: [C, C] steps in which both channels are missing.
    kept: of each split, [len(THRESHOLDS)] days that miss at most that share of their values.
    weekdays: of each split, [8] days, Monday first; the last are days without a date.
    weekday_missing: [8] sum of the missing shares of these days.
    people: by participant.
    ranges: of the observed values; None where no statistics were given.
  """

  def __init__(self, schema: Schema, statistics: Statistics | None = None):
    channels, lengths = len(schema.channels), len(gaps.LENGTHS)
    self.schema = schema
    self.days = dict.fromkeys(SPLITS, 0)
    self.slots = np.zeros((math.gcd(24, schema.steps), channels), np.int64)
    self.causes = np.zeros((channels, len(CAUSES)), np.int64)
    self.gaps, self.gap_steps = np.zeros((channels, lengths), np.int64), np.zeros((channels, lengths), np.int64)
    self.together = np.zeros((channels, channels), np.int64)
    self.kept = {split: np.zeros(len(THRESHOLDS), np.int64) for split in SPLITS}
    self.weekdays = {split: np.zeros(8, np.int64) for split in SPLITS}
    self.weekday_missing = np.zeros(8)
    self.people: dict[str, OnePerson] = {}
    self.ranges = Ranges(schema, statistics) if statistics else None

  @property
  def n_days(self) -> int:
    return sum(self.days.values())

  @property
  def missing(self) -> Int64[np.ndarray, "c"]:
    """Steps."""
    return self.slots.sum(axis=0)

  @property
  def share(self) -> Float[np.ndarray, "c"]:
    """Missing share of each channel."""
    return self.missing / (self.n_days * self.schema.steps)

  def add(self, days: Sequence[StoredDay], split: str) -> None:
    """Days of a split as Dataset.days gives them."""
    values = np.stack([day["values"] for day in days])
    hole = np.isnan(values)
    channels = hole.shape[2]
    self.days[split] += len(days)
    self.slots += hole.reshape(len(days), len(self.slots), -1, channels).sum(axis=(0, 2))
    flat = hole.reshape(-1, channels).astype(np.float32)  # exact: a block has fewer than 2**24 steps
    self.together += (flat.T @ flat).astype(np.int64)
    self._add_causes(hole, np.stack([cause_of(day) for day in days]))
    self._add_gaps(hole)
    self._add_days(days, hole, split)
    if self.ranges is not None:
      self.ranges.add(values)

  def _add_causes(self, hole: Bool[np.ndarray, "n s c"], cause: UInt8[np.ndarray, "n s c"]) -> None:
    for k in range(len(CAUSES)):
      self.causes[:, k] += (hole & (cause == k)).sum(axis=(0, 1))

  def _add_gaps(self, hole: Bool[np.ndarray, "n s c"]) -> None:
    channel, length = gaps.lengths(hole)
    place = channel, gaps.bin_of(length, self.schema.minutes_per_step)
    np.add.at(self.gaps, place, 1)
    np.add.at(self.gap_steps, place, length)

  def _add_days(self, days: Sequence[StoredDay], hole: Bool[np.ndarray, "n s c"], split: str) -> None:
    missing = hole.sum(axis=1)
    shares = hole.mean(axis=(1, 2)).astype(np.float32)  # as Dataset.missing_shares has them
    self.kept[split] += (shares[:, None] <= THRESHOLDS.astype(np.float32)).sum(axis=0)
    for day, steps, share in zip(days, missing, shares, strict=True):
      self.weekdays[split][day["weekday"]] += 1  # -1, unknown, is the last
      self.weekday_missing[day["weekday"]] += share
      name = day["participant"].decode()
      person = self.people.setdefault(name, OnePerson(split, 0, np.zeros(len(steps), np.int64), math.inf))
      person.days += 1
      person.missing += steps
      person.least = min(person.least, float(share))


def cause_of(day: StoredDay) -> UInt8[np.ndarray, "s c"]:
  """Into CAUSES, to be read where a value is missing; 0 where the dataset knows no causes."""
  values = day["values"]
  return np.minimum(np.asarray(day.get("cause", np.zeros(values.shape, np.uint8))), len(CAUSES) - 1)


def count_missing(dataset: Dataset, days: int = 0, ranges: bool = True) -> Counts:
  """Counts of up to `days` days, evenly over all splits; 0: all."""
  counts = Counts(dataset.schema, dataset.statistics if ranges else None)
  places = _spread(dataset, days)
  with progress_bar(sum(len(chosen) for chosen in places.values()), "missingness", "day") as bar:
    for split, chosen in places.items():
      for block in _blocks(dataset, split, chosen):
        counts.add(block, split)
        bar.update(len(block))
  return counts


def _spread(dataset: Dataset, days: int) -> dict[str, np.ndarray]:
  """Places in the sources of the splits that have days."""
  sizes = {split: dataset.num_days(split) for split in SPLITS if dataset.num_days(split)}
  total = sum(sizes.values())
  chosen = np.unique(np.linspace(0, total - 1, min(days or total, total)).round().astype(np.int64))
  first, places = 0, {}
  for split, size in sizes.items():
    places[split] = chosen[(chosen >= first) & (chosen < first + size)] - first
    first += size
  return places


def _blocks(dataset: Dataset, split: str, places: Int64[np.ndarray, "d"]) -> Iterator[list[StoredDay]]:
  source = dataset.days(split)
  length = max(_BLOCK_BYTES // (4 * dataset.schema.steps * len(dataset.schema.channels)), 1)
  for start in range(0, len(places), length):
    yield [source[int(place)] for place in places[start : start + length]]
