"""Labelled days of a task as training examples, and a network's outputs as predictions."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection

import numpy as np
from jaxtyping import Float, Int, Num, Shaped

from aim.evaluation.finetuning.label_budget import Strata
from aim.evaluation.probing.label_tasks import LabelRows, LabelTask
from data_pipelines.dataset import Dataset
from data_pipelines.loader import eval_loader


@dataclasses.dataclass(frozen=True)
class LabelledDays:
  """Days in memory, one per row.

  Attributes:
    values: float32 [d, s, c] in physical units, NaN where missing.
    participant, day, date: person, day number and ISO date of each day, [d].
  """

  values: Float[np.ndarray, "d s c"]
  participant: Shaped[np.ndarray, " d"]
  day: Int[np.ndarray, " d"]
  date: Shaped[np.ndarray, " d"]

  @classmethod
  def read(cls, dataset: Dataset, batch_size: int) -> dict[str, LabelledDays]:
    """All days by split; an empty split is absent."""
    days = {}
    for split in ("pretrain", "tune", "eval"):
      if dataset.num_days(split):
        batches = list(eval_loader(dataset, split=split, batch_size=batch_size))
        real = np.concatenate([batch["weight"] for batch in batches]) > 0
        join = lambda name, batches=batches, real=real: np.concatenate([batch[name] for batch in batches])[real]
        days[split] = cls(join("values"), join("participant"), join("day").astype(np.int64), join("date"))
    return days

  def join(self, other: LabelledDays) -> LabelledDays:
    """These days, then the others."""
    names = [field.name for field in dataclasses.fields(self)]
    return LabelledDays(*(np.concatenate([getattr(self, name), getattr(other, name)]) for name in names))

  def rows(self, task: LabelTask) -> LabelRows:
    """The task's rows on these days, without windows in which nothing was observed."""
    return task.observed_rows(self.participant, self.day, self.values)

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


@dataclasses.dataclass(frozen=True)
class TrainingExamples:
  """Labelled days: each has one target for the whole day, or several for windows of it.

  Attributes:
    values: float32 [d, s, c] in physical units, NaN where missing.
    day: index into `values` of each example, int [n].
    span: the steps [start, end) that each target is about, int [n, w, 2].
    target: int class indices or standardised numbers, [n, w].
    weight: float32 [n, w], weight in the loss; 0 pads days that have fewer than w targets.
  """

  values: Float[np.ndarray, "d s c"]
  day: Int[np.ndarray, " n"]
  span: Int[np.ndarray, "n w 2"]
  target: Num[np.ndarray, "n w"]
  weight: Float[np.ndarray, "n w"]

  def __len__(self) -> int:
    return len(self.day)

  def batch(
    self, index: Int[np.ndarray, " b"]
  ) -> tuple[Float[np.ndarray, "b s c"], Int[np.ndarray, "b w 2"], Num[np.ndarray, "b w"], Float[np.ndarray, "b w"]]:
    """values, span, target and weight of the examples at `index`, the arguments of Trainer.step."""
    return self.values[self.day[index]], self.span[index], self.target[index], self.weight[index]


@dataclasses.dataclass(frozen=True)
class TargetScaling:
  """How targets are presented to the network: numbers are standardised and classes weighted, by the training rows.

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
