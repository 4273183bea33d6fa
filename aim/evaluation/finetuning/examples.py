"""Labelled days of a task as training examples, and a network's answers as predictions."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterable, Mapping

import numpy as np
from jaxtyping import Float, Int, Num

from aim.evaluation.probing.label_tasks import LabelRows, LabelTask
from data_pipelines.dataset import Dataset
from data_pipelines.loader import eval_loader
from data_pipelines.splits import ranked


@dataclasses.dataclass(frozen=True)
class LabelledDays:
  """Days in memory, row by row: values float32 [d, s, c], whose they are and which."""

  values: Float[np.ndarray, "d s c"]
  participant: np.ndarray
  day: Int[np.ndarray, " d"]
  date: np.ndarray

  @classmethod
  def read(cls, dataset: Dataset, batch_size: int) -> dict[str, LabelledDays]:
    """All days of each split, {} for an empty one."""
    found = {}
    for split in ("pretrain", "tune", "eval"):
      if dataset.num_days(split):
        batches = list(eval_loader(dataset, split=split, batch_size=batch_size))
        real = np.concatenate([batch["weight"] for batch in batches]) > 0
        join = lambda name, batches=batches, real=real: np.concatenate([batch[name] for batch in batches])[real]
        found[split] = cls(join("values"), join("participant"), join("day").astype(np.int64), join("date"))
    return found

  def join(self, other: LabelledDays) -> LabelledDays:
    names = [field.name for field in dataclasses.fields(self)]
    return LabelledDays(*(np.concatenate([getattr(self, name), getattr(other, name)]) for name in names))

  def rows(self, task: LabelTask) -> LabelRows:
    """The task's rows on these days, without windows in which nothing was observed."""
    return task.observed_rows(self.participant, self.day, self.values)

  def of(self, rows: LabelRows, people: Collection[str]) -> LabelRows:
    """The rows of these people."""
    return rows.take(np.isin(self.participant[rows.day], sorted(people)))

  def strata(self, task: LabelTask, rows: LabelRows) -> Strata:
    """{person: classes on their days}; no classes where the target is a number."""
    found: dict[str, frozenset] = {person: frozenset() for person in self.participant[rows.day].tolist()}
    if task.classes:
      for person, truth in zip(self.participant[rows.day].tolist(), rows.truth.tolist(), strict=True):
        found[person] |= {task.classes[int(truth)]}
    return found


@dataclasses.dataclass(frozen=True)
class Scaling:
  """How targets are put to the network: numbers standardised, classes weighted, both by the training rows.

  Attributes:
    mean, sd: of the numbers; 0 and 1 for classes.
    weights: of each class; one of 1 for numbers.
  """

  mean: float
  sd: float
  weights: Float[np.ndarray, " classes"]

  @classmethod
  def of(cls, task: LabelTask, truth: Float[np.ndarray, " n"], balanced: bool) -> Scaling:
    if not task.classes:
      return cls(float(truth.mean()), float(truth.std()) or 1.0, np.ones(1))
    return cls(0.0, 1.0, class_weights(truth.astype(np.int64), len(task.classes), balanced))

  def examples(self, task: LabelTask, days: LabelledDays, rows: LabelRows) -> TrainingExamples:
    """One example a day; its rows, in their order, stand one after another."""
    day, index, slot = slots(rows)
    shape = len(day), int(slot.max()) + 1
    span, weight = np.zeros((*shape, 2), np.int32), np.zeros(shape, np.float32)
    span[:, :] = 0, days.values.shape[1]
    span[index, slot] = np.stack([rows.start, rows.end], axis=1)
    truth = rows.truth.astype(np.int32) if task.classes else ((rows.truth - self.mean) / self.sd).astype(np.float32)
    target = np.zeros(shape, truth.dtype)
    target[index, slot] = truth
    weight[index, slot] = self.weights[truth] if task.classes else 1.0
    return TrainingExamples(days.values, day, span, target, weight)

  def answers(
    self, task: LabelTask, rows: LabelRows, outputs: Float[np.ndarray, "n w outputs"]
  ) -> Float[np.ndarray, "r k"]:
    """Values [r, 1], or probabilities of the classes [r, k], of rows that examples() was made from."""
    _, index, slot = slots(rows)
    found = outputs[index, slot].astype(np.float64)
    if not task.classes:
      return found * self.sd + self.mean
    raised = np.exp(found - found.max(axis=1, keepdims=True))
    return raised / raised.sum(axis=1, keepdims=True)


def class_weights(truth: Int[np.ndarray, " n"], classes: int, balanced: bool = True) -> Float[np.ndarray, " classes"]:
  """Weights with which every class that is there counts alike and the rows' mean weight is 1; or ones."""
  counts = np.bincount(truth, minlength=classes)
  if not balanced:
    return np.ones(classes)
  return len(truth) / (np.maximum(counts, 1) * max(int((counts > 0).sum()), 1))


def slots(rows: LabelRows) -> tuple[Int[np.ndarray, " n"], Int[np.ndarray, " r"], Int[np.ndarray, " r"]]:
  """The days that rows are of, and of each row the index of its day among them and its place within it."""
  day, index, counts = np.unique(rows.day, return_inverse=True, return_counts=True)
  order = np.argsort(index, kind="stable")
  slot = np.empty(len(index), np.int64)
  slot[order] = np.arange(len(index)) - np.repeat(np.cumsum(counts) - counts, counts)
  return day, index, slot


@dataclasses.dataclass(frozen=True)
class TrainingExamples:
  """Labelled days: each with one target for the whole of it, or several for stretches of it.

  Attributes:
    values: float32 [d, s, c] in physical units, NaN where missing.
    day: which of the days each example is, int [n].
    span: the steps [start, end) asked about, int [n, w, 2].
    target: int class numbers, or standardised numbers, [n, w].
    weight: float32 [n, w] in the loss; 0 where a day has fewer than w targets.
  """

  values: Float[np.ndarray, "d s c"]
  day: Int[np.ndarray, " n"]
  span: Int[np.ndarray, "n w 2"]
  target: Num[np.ndarray, "n w"]
  weight: Float[np.ndarray, "n w"]

  def __len__(self) -> int:
    return len(self.day)

  def batch(self, rows: Int[np.ndarray, " b"]) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Arguments of Trainer.step."""
    return self.values[self.day[rows]], self.span[rows], self.target[rows], self.weight[rows]


Strata = Mapping[str, frozenset]
LEAST = 2  # people of each class


def subset(strata: Strata, percent: float, seed: int) -> list[str]:
  """percent of the people, of each stratum alike; those of a smaller percentage are always among them.

  People with more than one class are strata of their own kind: a stratum is a set of classes.
  """
  chosen: list[str] = []
  for classes in sorted(set(strata.values()), key=sorted):
    people = ranked((person for person, mine in strata.items() if mine == classes), f"labels {seed}")
    chosen += people[: int(percent * len(people) / 100 + 0.5)]
  return sorted(chosen)


def too_few(strata: Strata, people: Iterable[str]) -> str | None:
  """Why these people cannot train a model of the task, in words, or None: LEAST people of each class are needed."""
  people = list(people)
  if len(people) < LEAST:
    return f"{len(people)} of {len(strata)} people, at least {LEAST} are needed"
  for name in sorted(frozenset().union(*strata.values())):
    count = sum(name in strata[person] for person in people)
    if count < LEAST:
      return f"{count} people of class {name}, at least {LEAST} are needed"
  return None


def held_back(strata: Strata, percent: float = 20) -> list[str]:
  """People to stop early on where the dataset has no tune people: a share of each class, at least one person."""
  chosen: list[str] = []
  for classes in sorted(set(strata.values()), key=sorted):
    people = ranked((person for person, mine in strata.items() if mine == classes), "early stop")
    chosen += people[: max(1, int(percent * len(people) / 100 + 0.5))] if len(people) > 1 else []
  return sorted(chosen)
