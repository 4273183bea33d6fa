"""Counts of what is missing in a dataset, made batch by batch so that memory does not grow with the number of days."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int64, UInt8

from data_pipelines.atlas import gaps
from data_pipelines.atlas.value_ranges import ValueRanges
from data_pipelines.dataset import Dataset
from data_pipelines.errors import DatasetError, is_whole
from data_pipelines.progress import progress_bar
from data_pipelines.schema import Schema
from data_pipelines.source import MISSINGNESS_MODES
from data_pipelines.splits import SPLITS
from data_pipelines.statistics import Statistics

CAUSES = ("cause unknown", *(mode.replace("_", " ") for mode in MISSINGNESS_MODES))
THRESHOLDS = np.arange(21) / 20  # shares of a day that may be missing
_BATCH_BYTES = 8 * 2**20  # of values read at once

StoredDay = Mapping[str, Any]  # an element of Dataset.days


@dataclasses.dataclass
class PersonCounts:
  """Counts of one person's days.

  Attributes:
    split: the person's split.
    days: number of days.
    missing: missing steps of each channel over these days.
    least_missing: the missing share of the most complete day.
  """

  split: str
  days: int
  missing: Int64[np.ndarray, " channels"]
  least_missing: float


class Counts:
  """Counts of the missing steps of some days.

  Attributes:
    schema: clock and channels.
    days: number of days, by split.
    by_time: [parts, channels], missing steps in each of the equal parts of the day, which are hours if the steps allow.
    by_cause: [channels, len(CAUSES)], missing steps by cause.
    gap_counts: [channels, len(LENGTHS)], number of gaps by length.
    gap_steps: [channels, len(LENGTHS)], missing steps by the length of their gap.
    together: [channels, channels], steps in which both channels are missing.
    days_within: by split, [len(THRESHOLDS)], number of days with at most that share of missing values.
    weekdays: by split, [8], number of days, Monday first; the last entry counts days without a date.
    weekday_missing: [8], sum of the missing shares of these days, over all splits.
    people: by participant.
    ranges: ranges of the observed values; None if no statistics were given.
  """

  def __init__(self, schema: Schema, statistics: Statistics | None = None):
    channels, lengths = len(schema.channels), len(gaps.LENGTHS)
    self.schema = schema
    self.days = dict.fromkeys(SPLITS, 0)
    self.by_time = np.zeros((math.gcd(24, schema.steps), channels), np.int64)
    self.by_cause = np.zeros((channels, len(CAUSES)), np.int64)
    self.gap_counts, self.gap_steps = np.zeros((channels, lengths), np.int64), np.zeros((channels, lengths), np.int64)
    self.together = np.zeros((channels, channels), np.int64)
    self.days_within = {split: np.zeros(len(THRESHOLDS), np.int64) for split in SPLITS}
    self.weekdays = {split: np.zeros(8, np.int64) for split in SPLITS}
    self.weekday_missing = np.zeros(8)
    self.people: dict[str, PersonCounts] = {}
    self.ranges = ValueRanges(schema, statistics) if statistics else None

  @property
  def n_days(self) -> int:
    """Number of days of all splits."""
    return sum(self.days.values())

  @property
  def missing(self) -> Int64[np.ndarray, " channels"]:
    """Number of missing steps of each channel."""
    return self.by_time.sum(axis=0)

  @property
  def share(self) -> Float[np.ndarray, " channels"]:
    """Missing share of each channel."""
    return self.missing / (self.n_days * self.schema.steps)

  def add(self, days: Sequence[StoredDay], split: str) -> None:
    """Adds a batch of stored days of a split; the batch must have fewer than 2**24 steps in all."""
    values = np.stack([day["values"] for day in days])
    missing = np.isnan(values)
    channels = missing.shape[2]
    self.days[split] += len(days)
    self.by_time += missing.reshape(len(days), len(self.by_time), -1, channels).sum(axis=(0, 2))
    flat = missing.reshape(-1, channels).astype(np.float32)  # exact, because a batch has fewer than 2**24 steps
    self.together += (flat.T @ flat).astype(np.int64)
    self._add_causes(missing, np.stack([cause_of(day) for day in days]))
    self._add_gaps(missing)
    self._add_days(days, missing, split)
    if self.ranges is not None:
      self.ranges.add(values)

  def _add_causes(
    self, missing: Bool[np.ndarray, "days steps channels"], cause: UInt8[np.ndarray, "days steps channels"]
  ) -> None:
    for k in range(len(CAUSES)):
      self.by_cause[:, k] += (missing & (cause == k)).sum(axis=(0, 1))

  def _add_gaps(self, missing: Bool[np.ndarray, "days steps channels"]) -> None:
    channel, length = gaps.lengths(missing)
    entries = channel, gaps.bin_of(length, self.schema.minutes_per_step)
    np.add.at(self.gap_counts, entries, 1)
    np.add.at(self.gap_steps, entries, length)

  def _add_days(self, days: Sequence[StoredDay], missing: Bool[np.ndarray, "days steps channels"], split: str) -> None:
    missing_steps = missing.sum(axis=1)
    shares = missing.mean(axis=(1, 2)).astype(np.float32)  # the same type as Dataset.missing_shares
    self.days_within[split] += (shares[:, None] <= THRESHOLDS.astype(np.float32)).sum(axis=0)
    for day, steps, share in zip(days, missing_steps, shares, strict=True):
      self.weekdays[split][day["weekday"]] += 1  # an unknown weekday is -1, the last entry
      self.weekday_missing[day["weekday"]] += share
      name = day["participant"].decode()
      person = self.people.setdefault(name, PersonCounts(split, 0, np.zeros(len(steps), np.int64), math.inf))
      person.days += 1
      person.missing += steps
      person.least_missing = min(person.least_missing, float(share))


def cause_of(day: StoredDay) -> UInt8[np.ndarray, "steps channels"]:
  """Index into CAUSES of each missing value of a day; 0 everywhere if the dataset knows no causes."""
  values = day["values"]
  return np.minimum(np.asarray(day.get("cause", np.zeros(values.shape, np.uint8))), len(CAUSES) - 1)


def count_missing(dataset: Dataset, days: int = 0, ranges: bool = True) -> Counts:
  """Reads a dataset's days and counts what is missing, with a progress bar.

  Args:
    dataset: the dataset.
    days: read at most this many days, spread evenly over all splits; 0 reads all.
    ranges: count the ranges of the values too.

  Raises:
    DatasetError: `days` is negative or not whole, or a day cannot be read.
  """
  if not is_whole(days) or days < 0:
    raise DatasetError(f"days is {days!r}, expected a positive limit, or 0 for all")
  counts = Counts(dataset.schema, dataset.statistics if ranges else None)
  indices = _spread(dataset, days)
  with progress_bar(sum(len(selected) for selected in indices.values()), "missingness", "day") as bar:
    for split, selected in indices.items():
      for batch in _batches(dataset, split, selected):
        counts.add(batch, split)
        bar.update(len(batch))
  return counts


def _spread(dataset: Dataset, days: int) -> dict[str, Int64[np.ndarray, " selected"]]:
  """Indices into the days of each split that has any, evenly spaced over all splits."""
  sizes = {split: dataset.num_days(split) for split in SPLITS if dataset.num_days(split)}
  total = sum(sizes.values())
  positions = np.unique(np.linspace(0, total - 1, min(days or total, total)).round().astype(np.int64))
  first, indices = 0, {}
  for split, size in sizes.items():
    indices[split] = positions[(positions >= first) & (positions < first + size)] - first
    first += size
  return indices


def _batches(dataset: Dataset, split: str, indices: Int64[np.ndarray, " selected"]) -> Iterator[list[StoredDay]]:
  days = dataset.days(split)
  size = max(_BATCH_BYTES // (4 * dataset.schema.steps * len(dataset.schema.channels)), 1)
  for start in range(0, len(indices), size):
    yield [days[int(index)] for index in indices[start : start + size]]
