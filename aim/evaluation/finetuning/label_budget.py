"""Whose labels a fine-tuning may see: a share of the labelled people, to train on and to stop early on.

At 10 % of the labels, training sees 10 % of the people to train on, and early stopping sees 10 % of the tune people.
The choice is stratified by class, nested (a smaller share is part of every larger one) and the same on every machine.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping

from data_pipelines.splits import ranked
from data_pipelines.text_files import counted

Strata = Mapping[str, frozenset[str]]  # {person: the classes on their days}; no class where the target is a number
MIN_PEOPLE = 2  # to train on, of each class
HELD_BACK_PERCENT = 20  # of each class, to stop early on where a dataset has no tune people


@dataclasses.dataclass(frozen=True)
class LabelBudget:
  """The people whose labels one training sees.

  Attributes:
    train: people whose labels are fitted.
    tune: people whose labels decide when to stop.
  """

  train: tuple[str, ...]
  tune: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class LabelledPeople:
  """Everyone outside the eval split who has a label of a task.

  Attributes:
    train: people to train on.
    tune: people to stop early on.
  """

  train: Strata
  tune: Strata

  @classmethod
  def divide(cls, strata: Strata, tune_people: Collection[str]) -> LabelledPeople:
    """Puts the people of the tune split into `tune`; if none of them has a label, the people of `held_back` instead."""
    tune = {person for person in strata if person in tune_people} or set(held_back(strata))
    part = lambda in_tune: {person: classes for person, classes in strata.items() if (person in tune) == in_tune}
    return cls(part(False), part(True))

  def budget(self, percent: float, seed: int) -> LabelBudget:
    """The same share of `train` and of `tune`.

    Of `tune`, at least one person of each class is chosen, so that the loss that stops training covers every class.

    Args:
      percent: above 0, up to 100.
      seed: another seed chooses other people.
    """
    tune = {*subset(self.tune, percent, seed), *first_of_each_class(self.tune, seed)}
    return LabelBudget(tuple(subset(self.train, percent, seed)), tuple(sorted(tune)))

  def too_few(self, budget: LabelBudget) -> str | None:
    """Why a budget cannot train a model of the task, or None: every class needs MIN_PEOPLE people to train on."""
    if not budget.tune:
      return "nobody is left to stop early on"
    if len(budget.train) < MIN_PEOPLE:
      return f"{len(budget.train)} of {counted(len(self.train), 'person')}, at least {MIN_PEOPLE} are needed"
    for name in sorted(frozenset().union(*self.train.values())):
      count = sum(name in self.train[person] for person in budget.train)
      if count < MIN_PEOPLE:
        return f"{counted(count, 'person')} of class {name}, at least {MIN_PEOPLE} are needed"
    return None


def subset(strata: Strata, percent: float, seed: int) -> list[str]:
  """`percent` of the people of each stratum, in alphabetical order.

  People with more than one class form strata of their own, because a stratum is a set of classes.
  """
  chosen: list[str] = []
  for people in _ranked_strata(strata, f"labels {seed}").values():
    chosen += people[: _share(percent, len(people))]
  return sorted(chosen)


def first_of_each_class(strata: Strata, seed: int) -> list[str]:
  """The person of each class whom `subset` chooses first as the share grows; one person where there are no classes.

  This is the first of the largest stratum with the class, so these people are part of every subset with the class.
  """
  by_size = sorted(_ranked_strata(strata, f"labels {seed}").items(), key=lambda item: -len(item[1]))
  first: dict[str, str] = {}
  for classes, people in by_size:
    for name in classes or {""}:
      first.setdefault(name, people[0])
  return sorted(set(first.values()))


def held_back(strata: Strata) -> list[str]:
  """HELD_BACK_PERCENT of the people of each stratum, at least one where it has two or more."""
  chosen: list[str] = []
  for people in _ranked_strata(strata, "early stop").values():
    chosen += people[: max(1, _share(HELD_BACK_PERCENT, len(people)))] if len(people) > 1 else []
  return sorted(chosen)


def _ranked_strata(strata: Strata, key: str) -> dict[frozenset[str], list[str]]:
  """The people of each stratum in the order of a keyed hash; strata in the order of their classes' names."""
  groups: dict[frozenset[str], list[str]] = {}
  for classes in sorted(set(strata.values()), key=sorted):
    groups[classes] = ranked((person for person, own in strata.items() if own == classes), key)
  return groups


def _share(percent: float, people: int) -> int:
  return int(percent * people / 100 + 0.5)
