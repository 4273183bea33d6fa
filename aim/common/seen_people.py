"""Overlap between the people that a model is scored on and those that it was trained on.

A checkpoint records digests of the ids of the people it was trained on, so the answer does not depend on the dataset
that is scored. Exports record their number alone: whoever has a list of ids could find those of it by their digests.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

from data_pipelines.dataset import Dataset
from data_pipelines.subset import chosen_days, day_owners
from data_pipelines.text_files import counted

MOST_PEOPLE = 100_000  # of whom there are digests; they would be too large a part of a checkpoint for more
RECORD, DIGESTS = "trained_on", "people_digests"
NONE, NOT_KNOWN = "none", "not known"  # in files of results
_KEY = b"people trained on"


@dataclasses.dataclass(frozen=True)
class SeenPeople:
  """The number of people that a model is scored on, and of those among them that it was trained on.

  Attributes:
    people: the people that it is scored on.
    trained_on: how many of them were trained on; None where nobody knows.
    unknown: why nobody knows.
  """

  people: int
  trained_on: int | None
  unknown: str = ""

  @property
  def text(self) -> str:
    """Such as "7 people never seen in training" or "7 people, of whom 2 were trained on (by their ids)"."""
    who = counted(self.people, "person")
    if self.trained_on is None:
      return f"{who} (whether they were trained on is not known: {self.unknown})"
    if not self.trained_on:
      return f"{who} never seen in training"
    return f"{who}, of whom {self.trained_on:,} {'was' if self.trained_on == 1 else 'were'} trained on (by their ids)"

  @property
  def field(self) -> str:
    """The same for a file of results: "none", "2 of 7" or "not known"."""
    if self.trained_on is None:
      return NOT_KNOWN
    return f"{self.trained_on} of {self.people}" if self.trained_on else NONE


def record(dataset: Dataset, subset: Mapping[str, Any]) -> dict[str, Any]:
  """Numbers of the people and days that a run trains on, and digests of the people: the key RECORD of its data.

  Args:
    dataset: the data of the run.
    subset: the limits of data_pipelines.subset.chosen_days.
  """
  people: set[str] = set()
  days = 0
  for member, _ in dataset.members:
    of_member, count = _trained_on(member, subset)
    people |= of_member
    days += count
  known = {DIGESTS: sorted(map(_digest, people))} if len(people) <= MOST_PEOPLE else {}
  return {"people": len(people), "days": days} | known


def counts(dataset: Dataset, subset: Mapping[str, Any]) -> dict[str, int]:
  """Numbers of the people and days of a dataset that a run trains on."""
  people, days = _trained_on(dataset, subset)
  return {"people": len(people), "days": days}


def _trained_on(dataset: Dataset, subset: Mapping[str, Any]) -> tuple[set[str], int]:
  if not dataset.num_days("pretrain"):
    return set(), 0
  chosen = chosen_days(dataset, "pretrain", **subset)
  return set(day_owners(dataset, "pretrain")[0][chosen].tolist()), len(chosen)


def _digest(person: str) -> str:
  return hashlib.blake2b(person.encode(), key=_KEY, digest_size=8).hexdigest()


def went_on(before: Mapping[str, Any] | None, now: Mapping[str, Any], same_days: bool) -> dict[str, Any]:
  """The training data of a run that goes on: of all people that it ever trained on.

  Args:
    before: training_data of the checkpoint; None in format 1.
    now: training_data of the run as it goes on.
    same_days: whether the config chooses the same days as that of the checkpoint.
  """
  old, new = (before or {}).get(RECORD), now.get(RECORD)
  if new == old or (old is None and same_days):
    return dict(now)
  changed: dict[str, Any] = {key: value for key, value in now.items() if key not in (RECORD, "mix")}
  if "mix" in now:
    changed["mix"] = [{k: v for k, v in member.items() if k not in ("people", "days")} for member in now["mix"]]
  if old and new and DIGESTS in old and DIGESTS in new:
    everyone = sorted({*old[DIGESTS], *new[DIGESTS]})
    # Nobody knows which of the days were the same ones.
    changed[RECORD] = {"people": len(everyone), "days": None, DIGESTS: everyone}
  return changed


def chosen_anew(before: Mapping[str, Any] | None, now: Mapping[str, Any]) -> str:
  """Says that the limits on training days, which are the same, choose other days than when a run began; "" if not.

  Args:
    before: training_data of the checkpoint.
    now: training_data of the run as it goes on.
  """
  old, new = (before or {}).get(RECORD), now.get(RECORD)
  if not old or not new or old["days"] is None or old == new:
    return ""
  return (
    f"this version chooses other training days by the same limits: {counts_text(now)}, until here "
    f"{counts_text(before)}; train in another workdir to have the same days from the first step on"
  )


def known_counts(saved: Mapping[str, Any] | None) -> tuple[int | None, int | None]:
  """People and days that a model was trained on; None where its checkpoint does not say."""
  found = (saved or {}).get(RECORD) or {}
  return found.get("people"), found.get("days")


def counts_text(saved: Mapping[str, Any] | None) -> str:
  """The same in words, such as "42 days of 14 people"; "" where the checkpoint does not say."""
  people, days = known_counts(saved)
  if people is None:
    return ""
  return f"{counted(days, 'day') if days is not None else 'days'} of {counted(people, 'person')}"


def is_training_data(saved: Mapping[str, Any], dataset: Dataset) -> bool:
  """True if a dataset is the one that a model was trained on, or of its mix."""
  if saved["content"] == dataset.digest:
    return True
  trained_on = {saved["content"], *(digest for member in saved.get("mix", ()) for digest in member["stored"])}
  return all(stored.digest in trained_on for stored in dataset.stored)


def seen_people(trained: Sequence[Mapping[str, Any] | None], dataset: Dataset, people: Collection[str]) -> SeenPeople:
  """Counts the people that a model is scored on, and those among them that it was trained on.

  Args:
    trained: training_data of the model and of the weights that it started from, if any; None where not recorded.
    dataset: has the people.
    people: ids of those who are scored.
  """
  seen: set[str] = set()
  unknown = ""
  for saved in trained:
    digests = (saved or {}).get(RECORD, {}).get(DIGESTS)
    if digests is not None:
      known = set(digests)
      seen |= {person for person in people if _digest(person) in known}
    elif saved is None:
      unknown = "its checkpoint does not record its training data"
    elif is_training_data(saved, dataset) or saved["people"] == dataset.people_digest("pretrain"):
      if not set(people).isdisjoint(dataset.people("pretrain")):
        unknown = "its checkpoint does not record on whom it was trained"
    else:
      unknown = "the model was trained on other data"
  if unknown and len(seen) < len(people):
    return SeenPeople(len(people), None, unknown)
  return SeenPeople(len(people), len(seen))


def without_digests(metadata: Mapping[str, Any]) -> dict[str, Any]:
  """A checkpoint's metadata without digests of people, also of the weights that it started from."""
  kept = dict(metadata)
  if kept.get("training_data"):
    kept["training_data"] = _numbers_only(kept["training_data"])
  if "history" in kept:
    kept["history"] = list(_entries(kept["history"]))
  return kept


def _entries(history: Iterable[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
  for entry in history:
    data = {"training_data": _numbers_only(entry["training_data"])} if entry.get("training_data") else {}
    yield dict(entry) | data


def _numbers_only(data: Mapping[str, Any]) -> dict[str, Any]:
  if RECORD not in data:
    return dict(data)
  return dict(data) | {RECORD: {key: value for key, value in data[RECORD].items() if key != DIGESTS}}
