"""The account of an import: for each person, how many rows were read, and how many were dropped and why."""

from __future__ import annotations

import collections
from collections.abc import Mapping
from typing import Any, Self


class Account:
  """What became of every row of an export, per person. A row is read once and dropped at most once.

  Attributes:
    read: number of rows read, by participant.
    dropped: number of rows dropped, by participant and reason.
    example: location of the first dropped row, such as "steps.csv row 7", by participant and reason.
  """

  def __init__(self) -> None:
    self.read: collections.Counter[str] = collections.Counter()
    self.dropped: collections.Counter[tuple[str, str]] = collections.Counter()
    self.example: dict[tuple[str, str], str] = {}

  def add(self, participant: str, rows: int = 1) -> None:
    """Counts rows that hold something this importer reads, whether usable or not."""
    self.read[participant] += rows

  def drop(self, participant: str, why: str, rows: int = 1, where: str = "") -> None:
    """Counts rows as dropped that `add` has counted as read.

    Args:
      participant: the person.
      why: the reason in a few words; it never quotes a value.
      rows: how many rows.
      where: location of the first of them, as "file row 7".
    """
    if rows:
      self.dropped[participant, why] += rows
      self.example.setdefault((participant, why), where)

  def merge(self, other: Account) -> None:
    """Adds another account's rows to this one."""
    self.read.update(other.read)
    self.dropped.update(other.dropped)
    for key, where in other.example.items():
      self.example.setdefault(key, where)

  def to_json(self) -> dict[str, Any]:
    """The account as plain values, for `from_json`."""
    dropped = [[*key, rows, self.example.get(key, "")] for key, rows in self.dropped.items()]
    return {"read": dict(self.read), "dropped": dropped}

  @classmethod
  def from_json(cls, raw: Mapping[str, Any]) -> Self:
    """Restores an account from the result of `to_json`."""
    account = cls()
    account.read.update(raw["read"])
    for participant, why, rows, where in raw["dropped"]:
      account.drop(participant, why, rows, where)
    return account
