"""Whose labels a learning curve uses: nested, stratified subsets of people by keyed hash."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from data_pipelines.splits import ranked

Strata = Mapping[str, frozenset]
"""{person: the classes seen on their days}; one empty or common set for all where the target is a number."""

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
