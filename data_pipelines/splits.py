"""Participant-disjoint splits: every person belongs to exactly one of pretrain, tune and eval.

People are assigned by a keyed hash of their id, so a split needs no random state, is the same on every machine and does
not depend on the order of a file. It is made once, when a dataset is built, and stored in its splits.json.
"""

from __future__ import annotations

import collections
import dataclasses
import hashlib
import json
import math
import os
import pathlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from data_pipelines.errors import SchemaError, SplitError, is_number, is_whole
from data_pipelines.text_files import counted, json_text, read_json

SPLITS = ("pretrain", "tune", "eval")
DEFAULT_KEY = "day-windows"
DEFAULT_SHARES = (0.8, 0.1, 0.1)
FEW_FOLDS = 5  # for studies that are too small for the default shares
FEW_PEOPLE = 5  # fewer held-out people than this say little about others
_HASH_BYTES = 8


def _hash(participant: str, key: str) -> int:
  """Keyed BLAKE2b (RFC 7693) of the id, as an integer below 2**64."""
  raw = key.encode()
  if len(raw) > hashlib.blake2b.MAX_KEY_SIZE:
    raise SplitError(f"split key has {len(raw)} bytes, expected at most {hashlib.blake2b.MAX_KEY_SIZE}")
  return int.from_bytes(hashlib.blake2b(participant.encode(), key=raw, digest_size=_HASH_BYTES).digest())


def ranked(names: Iterable[str], key: str) -> list[str]:
  """Sorts names by their keyed hash; the order of two names is the same on every machine and in every set of names."""
  return sorted(names, key=lambda name: (_hash(name, key), name))


@dataclasses.dataclass(frozen=True)
class HashSplit:
  """Assigns each person by their own hash alone, so adding people never moves anyone to another split.

  Attributes:
    shares: expected shares of people in pretrain, tune and eval, which sum to 1.
    key: key of the hash; different keys give independent splits.

  Raises:
    SplitError: the shares are not three non-negative numbers that sum to 1.
  """

  shares: tuple[float, float, float] = DEFAULT_SHARES
  key: str = DEFAULT_KEY

  def __post_init__(self) -> None:
    shares = tuple(self.shares)
    good = len(shares) == len(SPLITS) and all(is_number(share) and share >= 0 for share in shares)
    if not good or not math.isclose(sum(shares), 1):
      listed = ",".join(f"{share:g}" if is_number(share) else repr(share) for share in shares)
      raise SplitError(f"split shares are {listed}, expected three shares (pretrain, tune, eval) that sum to 1")

  def assign(self, participants: Sequence[str]) -> dict[str, str]:
    """The split of each participant.

    Raises:
      SplitError: the key has more than 64 bytes.
    """
    return {participant: self._place(participant) for participant in participants}

  def _place(self, participant: str) -> str:
    position = _hash(participant, self.key) / 2 ** (8 * _HASH_BYTES)
    shares = [(name, share) for name, share in zip(SPLITS, self.shares, strict=True) if share > 0]
    bound = 0.0
    for name, share in shares:
      bound += share
      if position < bound:
        return name
    return shares[-1][0]  # rounding may leave the sum of the shares just below 1

  def to_dict(self) -> dict[str, Any]:
    """The rule as JSON-able data."""
    return {"rule": "hash", "shares": list(self.shares), "key": self.key}


@dataclasses.dataclass(frozen=True)
class FoldSplit:
  """Leaves one fold of the people out as eval; everybody else is pretrain, and tune is empty.

  People are dealt to folds in the order of their hash, so folds differ in size by at most one person: 4 folds of 12
  people leave 3 out.

  Attributes:
    folds: number of folds, at least 2.
    fold: the fold that is left out, from 0.
    key: key of the hash.

  Raises:
    SplitError: folds or fold is out of range.
  """

  folds: int
  fold: int
  key: str = DEFAULT_KEY

  def __post_init__(self) -> None:
    for name, number in (("folds", self.folds), ("fold", self.fold)):
      if not is_whole(number):
        raise SplitError(f"{name} is {number!r}, expected a whole number")
    if self.folds < 2:
      raise SplitError(f"folds is {self.folds}, expected at least 2")
    if not 0 <= self.fold < self.folds:
      raise SplitError(f"fold is {self.fold}, expected 0 to {self.folds - 1}")

  def assign(self, participants: Sequence[str]) -> dict[str, str]:
    """The split of each participant.

    Raises:
      SplitError: there are fewer people than folds, or the key has more than 64 bytes.
    """
    if len(participants) < self.folds:
      people = counted(len(participants), "person")
      raise SplitError(f"{counted(self.folds, 'fold')} of {people}, expected at least one person per fold")
    left_out = set(ranked(participants, self.key)[self.fold :: self.folds])
    return {participant: "eval" if participant in left_out else "pretrain" for participant in participants}

  def to_dict(self) -> dict[str, Any]:
    """The rule as JSON-able data."""
    return {"rule": "folds", "folds": self.folds, "fold": self.fold, "key": self.key}


@dataclasses.dataclass(frozen=True)
class ListSplit:
  """Assigns people by lists of their ids; each person of the source must be in exactly one list.

  Attributes:
    pretrain, tune, eval: ids of the people in each split.

  Raises:
    SplitError: an id is listed twice.
  """

  pretrain: tuple[str, ...]
  tune: tuple[str, ...] = ()
  eval: tuple[str, ...] = ()

  def __post_init__(self) -> None:
    ids = [participant for split in SPLITS for participant in getattr(self, split)]
    repeated = sorted({participant for participant in ids if ids.count(participant) > 1})
    if repeated:
      raise SplitError(f"participant {repeated[0]!r} is listed in more than one split, or twice")

  def assign(self, participants: Sequence[str]) -> dict[str, str]:
    """The split of each participant.

    Raises:
      SplitError: a participant is in no list, or a listed one is not among the participants.
    """
    listed = {participant: split for split in SPLITS for participant in getattr(self, split)}
    unlisted = [participant for participant in participants if participant not in listed]
    if unlisted:
      raise SplitError(f"participant {unlisted[0]!r} is in no list; name every person in pretrain, tune or eval")
    unknown = sorted(set(listed) - set(participants))
    if unknown:
      raise SplitError(f"participant {unknown[0]!r} is listed in {listed[unknown[0]]} but is not in the data")
    return {participant: listed[participant] for participant in participants}

  def to_dict(self) -> dict[str, Any]:
    """The rule as JSON-able data."""
    return {"rule": "lists", **{split: list(getattr(self, split)) for split in SPLITS}}

  @classmethod
  def load(cls, path: str | os.PathLike) -> ListSplit:
    """Reads JSON {"pretrain": [...], "tune": [...], "eval": [...]}, such as the splits.json of another dataset.

    Raises:
      SplitError: the file is absent, is not JSON, or does not hold lists of ids.
    """
    raw = _read(path)
    lists = {split: raw.get(split, []) for split in SPLITS}
    for split, people in lists.items():
      if not isinstance(people, list) or not all(isinstance(participant, str) for participant in people):
        raise SplitError(f"{path}: {split!r} is not a list of participants")
    return cls(**{split: tuple(people) for split, people in lists.items()})


Split = HashSplit | FoldSplit | ListSplit


def for_few_people(split: Split, participants: Sequence[str]) -> tuple[Split, list[str]]:
  """Replaces the default split by folds where it would leave nobody to train on or nobody to evaluate on.

  Returns:
    The split to use, and notes for the user, one line each.

  Raises:
    SplitError: the key has more than 64 bytes.
  """
  if not isinstance(split, HashSplit) or tuple(split.shares) != DEFAULT_SHARES:
    return split, []
  count = len(participants)
  counts = collections.Counter(split.assign(participants).values())
  held_out = counts["eval"]
  if count < 2:
    return ListSplit(tuple(participants)), ["there is only one person, so nobody can be held out to evaluate on"]
  if not held_out or not counts["pretrain"]:
    folds = min(FEW_FOLDS, count)
    note = (
      f"{count} people are few for the split {','.join(f'{share:g}' for share in split.shares)}, which would leave "
      f"nobody to {'evaluate' if not held_out else 'train'} on: --folds={folds} --fold=0 is used instead"
    )
    return FoldSplit(folds, 0, split.key), [note]
  if held_out < FEW_PEOPLE:
    folds = min(FEW_FOLDS, count)
    note = (
      f"split 'eval' has {held_out} of {counted(count, 'person')}, too few to say much about others; "
      f"--folds={folds} --fold=0 holds out {-(-count // folds)}"
    )
    return split, [note] if -(-count // folds) > held_out else []
  return split, []


def assign(split: Split, participants: Sequence[str]) -> dict[str, list[str]]:
  """Applies a split rule.

  Returns:
    The people of each split, in the order of `participants`.

  Raises:
    SplitError: the rule does not fit these people, or pretrain would be empty.
  """
  split_of = split.assign(participants)
  people: dict[str, list[str]] = {name: [] for name in SPLITS}
  for participant in participants:
    people[split_of[participant]].append(participant)
  if not people["pretrain"]:
    raise SplitError(
      f"no people in split 'pretrain' ({counted(len(participants), 'person')} by {json.dumps(split.to_dict())})"
    )
  return people


def save(path: str | os.PathLike, split: Split, people: Mapping[str, Sequence[str]]) -> None:
  """Writes splits.json: the rule and the people of each split."""
  raw = {"rule": split.to_dict(), **{name: list(people[name]) for name in SPLITS}}
  pathlib.Path(path).write_text(json_text(raw, indent=2) + "\n")


def load(path: str | os.PathLike) -> dict[str, list[str]]:
  """Reads the people of each split from a splits.json.

  Raises:
    SplitError: the file is absent, is not JSON, or lacks a split.
  """
  raw = _read(path)
  missing = [name for name in SPLITS if name not in raw]
  if missing:
    raise SplitError(f"{path}: key {missing[0]!r} is missing")
  return {name: raw[name] for name in SPLITS}


def _read(path: str | os.PathLike) -> dict[str, Any]:
  try:
    raw = read_json(path)
  except SchemaError as error:
    raise SplitError(str(error)) from None
  if not isinstance(raw, dict):
    raise SplitError(f"{path}: holds a JSON {type(raw).__name__}, expected an object of lists")
  return raw
