"""Labelled days of a task as training examples, and a network's outputs as predictions."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, Int, Num, Shaped

from aim.common.progress import progress_bar
from aim.evaluation.finetuning.label_budget import Strata
from aim.evaluation.probing.label_tasks import LabelRows, LabelTask
from data_pipelines.dataset import Dataset

BYTES_KEPT = 64 * 2**20  # of the values of days, in memory once they were read
BATCH = 256  # days read together


class StoredValues:
  """The values of the days of a dataset, read from disk when they are indexed.

  The first days that were read stay in memory, up to BYTES_KEPT of them: a small dataset is read once.

  Attributes:
    shape: (d, s, c) of all days together.
  """

  def __init__(self, dataset: Dataset, splits: Sequence[str]):
    """The days of these splits, one split after another; an empty split adds none."""
    self._sources = [dataset.days(split) for split in splits if dataset.num_days(split)]
    self._starts = np.cumsum([0, *map(len, self._sources)])
    self.shape = int(self._starts[-1]), dataset.schema.steps, len(dataset.schema.channels)
    self._kept: dict[int, np.ndarray] = {}

  def __len__(self) -> int:
    return self.shape[0]

  def __getitem__(self, index: Int[np.ndarray, " b"]) -> Float[np.ndarray, "b s c"]:
    """float32, in physical units, NaN where missing."""
    return np.stack([self._kept[i] if i in self._kept else self.record(i)["values"] for i in index.tolist()])

  def record(self, index: int) -> dict[str, Any]:
    """Everything that is stored of a day, as Dataset.days yields it."""
    split = int(np.searchsorted(self._starts, index, side="right")) - 1
    record = self._sources[split][index - int(self._starts[split])]
    values = record["values"]
    if (len(self._kept) + 1) * values.nbytes <= BYTES_KEPT:
      self._kept[index] = values
    return record


@dataclasses.dataclass(frozen=True)
class LabelledDays:
  """Days that tasks have labels for, one per row.

  Attributes:
    values: [d, s, c] in physical units, NaN where missing; in memory, or to be read when they are needed.
    participant, day, date: person, day number and ISO date of each day, [d].
  """

  values: Float[np.ndarray, "d s c"] | StoredValues
  participant: Shaped[np.ndarray, " d"]
  day: Int[np.ndarray, " d"]
  date: Shaped[np.ndarray, " d"]
  _rows: dict[str, LabelRows] = dataclasses.field(default_factory=dict, repr=False)

  @classmethod
  def open(
    cls, dataset: Dataset, splits: Sequence[str], look: Callable[[Float[np.ndarray, "b s c"]], Any]
  ) -> LabelledDays:
    """All days of these splits; of their values only BYTES_KEPT stay in memory.

    Args:
      splits: at least one of them has days.
      look: called with the values of all days, in batches.
    """
    values = StoredValues(dataset, splits)
    people, numbers, dates = [], [], []
    with progress_bar(len(values), f"read {' and '.join(splits)}", "day") as bar:
      for index in _batches_of(len(values)):
        records = [values.record(i) for i in index.tolist()]
        people += [record["participant"].decode() for record in records]
        dates += [record["date"].decode() for record in records]
        numbers += [int(record["day"]) for record in records]
        look(np.stack([record["values"] for record in records]))
        bar.update(len(records))
    return cls(values, np.array(people), np.array(numbers, np.int64), np.array(dates))

  def rows(self, task: LabelTask) -> LabelRows:
    """The task's rows on these days, without windows in which nothing was observed."""
    if task.name not in self._rows:
      parts = []
      for index in _batches_of(len(self.day)):
        # Only windows may turn out to be empty; nobody looks at the values of the others.
        values = self.values[index] if task.level == "window" else np.empty((len(index), *self.values.shape[1:]))
        rows = task.observed_rows(self.participant[index], self.day[index], values)
        parts.append(dataclasses.replace(rows, day=index[rows.day]))
      join = lambda name: np.concatenate([getattr(part, name) for part in parts])
      self._rows[task.name] = LabelRows(join("day"), join("start"), join("end"), join("truth"))
    return self._rows[task.name]

  def of_people(self, rows: LabelRows, people: Collection[str]) -> LabelRows:
    """The rows of these people."""
    return rows.take(np.isin(self.participant[rows.day], sorted(people)))

  def strata(self, task: LabelTask, rows: LabelRows) -> Strata:
    """{person: the classes on their days}; no classes where the target is a number."""
    participant = self.participant[rows.day].tolist()
    strata: dict[str, frozenset[str]] = {person: frozenset() for person in participant}
    if task.classes:
      for person, truth in zip(participant, rows.truth.tolist(), strict=True):
        strata[person] |= {task.classes[int(truth)]}
    return strata


def _batches_of(days: int) -> Iterator[Int[np.ndarray, " b"]]:
  """The indices of all days, BATCH at a time."""
  return (np.arange(start, min(start + BATCH, days)) for start in range(0, days, BATCH))


@dataclasses.dataclass(frozen=True)
class TrainingExamples:
  """Labelled days: each has one target for the whole day, or several for windows of it.

  Attributes:
    values: as in LabelledDays.
    day: index into `values` of each example, int [n].
    span: the steps [start, end) that each target is about, int [n, w, 2].
    target: int class indices or standardised numbers, [n, w].
    weight: float32 [n, w], weight in the loss; 0 pads days that have fewer than w targets.
  """

  values: Float[np.ndarray, "d s c"] | StoredValues
  day: Int[np.ndarray, " n"]
  span: Int[np.ndarray, "n w 2"]
  target: Num[np.ndarray, "n w"]
  weight: Float[np.ndarray, "n w"]

  def __len__(self) -> int:
    return len(self.day)

  def batch(
    self, index: Int[np.ndarray, " b"], size: int
  ) -> tuple[Float[np.ndarray, "n s c"], Int[np.ndarray, "n w 2"], Num[np.ndarray, "n w"], Float[np.ndarray, "n w"]]:
    """values, span, target and weight of the examples at `index`, the arguments of Trainer.step.

    Args:
      index: at least one.
      size: of the batch; after the examples at `index` the first of them follows, with a weight of 0.
    """
    padding = np.zeros(size - len(index), int)
    pad = lambda array: np.concatenate([array, array[padding]])
    values, span, target, weight = map(
      pad, (self.values[self.day[index]], self.span[index], self.target[index], self.weight[index])
    )
    weight[len(index) :] = 0
    return values, span, target, weight


@dataclasses.dataclass(frozen=True)
class TargetScaling:
  """Scaling of targets for the network: numbers are standardised and classes weighted, by the training rows.

  Attributes:
    mean, sd: mean and SD of the numbers; 0 and 1 for classes.
    weights: weight of each class in the loss; [1] for numbers.
  """

  mean: float
  sd: float
  weights: Float[np.ndarray, " classes"]

  @classmethod
  def of_rows(cls, task: LabelTask, truth: Float[np.ndarray, " n"], balanced: bool) -> TargetScaling:
    """The scaling by these training rows.

    Args:
      balanced: every class counts alike in the loss, however rare.
    """
    if not task.classes:
      return cls(float(truth.mean()), float(truth.std()) or 1.0, np.ones(1))
    return cls(0.0, 1.0, class_weights(truth.astype(np.int64), len(task.classes), balanced))

  def examples(self, task: LabelTask, days: LabelledDays, rows: LabelRows) -> TrainingExamples:
    """One example per day that has rows; the rows of a day are its targets, in their order."""
    day, index, place = places_in_days(rows)
    shape = len(day), int(place.max()) + 1
    span, weight = np.zeros((*shape, 2), np.int32), np.zeros(shape, np.float32)
    span[:, :] = 0, days.values.shape[1]
    span[index, place] = np.stack([rows.start, rows.end], axis=1)
    truth = rows.truth.astype(np.int32) if task.classes else ((rows.truth - self.mean) / self.sd).astype(np.float32)
    target = np.zeros(shape, truth.dtype)
    target[index, place] = truth
    weight[index, place] = self.weights[truth] if task.classes else 1.0
    return TrainingExamples(days.values, day, span, target, weight)

  def predictions(
    self, task: LabelTask, rows: LabelRows, outputs: Float[np.ndarray, "n w outputs"]
  ) -> Float[np.ndarray, "r k"]:
    """The network's outputs on the examples of `rows` as values [r, 1] or class probabilities [r, k], row by row."""
    _, index, place = places_in_days(rows)
    of_rows = outputs[index, place].astype(np.float64)
    if not task.classes:
      return of_rows * self.sd + self.mean
    exponentials = np.exp(of_rows - of_rows.max(axis=1, keepdims=True))
    return exponentials / exponentials.sum(axis=1, keepdims=True)


def class_weights(truth: Int[np.ndarray, " n"], classes: int, balanced: bool = True) -> Float[np.ndarray, " classes"]:
  """Weights with which every class that occurs counts alike and the rows' mean weight is 1; ones if not `balanced`."""
  counts = np.bincount(truth, minlength=classes)
  if not balanced:
    return np.ones(classes)
  return len(truth) / (np.maximum(counts, 1) * max(int((counts > 0).sum()), 1))


def places_in_days(
  rows: LabelRows,
) -> tuple[Int[np.ndarray, " n"], Int[np.ndarray, " r"], Int[np.ndarray, " r"]]:
  """The days that have rows; and for each row, the index of its day among them and its place among the day's rows."""
  day, index, counts = np.unique(rows.day, return_inverse=True, return_counts=True)
  order = np.argsort(index, kind="stable")
  place = np.empty(len(index), np.int64)
  place[order] = np.arange(len(index)) - np.repeat(np.cumsum(counts) - counts, counts)
  return day, index, place
