"""The records every source of day windows yields, and the protocol a source follows."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Protocol

import numpy as np

from data_pipelines.schema import Schema

# Why a minute is missing (LSM-2, section on real-world missingness). A day's `cause` holds 0 where observed and
# 1 + index into this tuple where a gap's mode is known.
MISSINGNESS_MODES = (
  "device_removed",
  "charging",
  "loose_fit",
  "motion_artefact",
  "power_saving",
  "environment",
)

Label = float | int | str | bool | None


@dataclasses.dataclass(frozen=True)
class Day:
  """One person's day.

  Attributes:
    values: float32 [steps, channels] in physical units, NaN where missing.
    participant: the person.
    day: consecutive day number of the person.
    date: ISO date, or "" where the data set gives none.
    cause: uint8 [steps, channels], see MISSINGNESS_MODES; None where causes are unknown.
  """

  values: np.ndarray
  participant: str
  day: int
  date: str = ""
  cause: np.ndarray | None = None


@dataclasses.dataclass(frozen=True)
class Event:
  """A labelled stretch of a day, steps [start, end); value 0 is a known absence of `name`."""

  participant: str
  day: int
  date: str
  start: int
  end: int
  name: str
  value: int = 1


@dataclasses.dataclass(frozen=True)
class Person:
  """All that a source knows of one participant."""

  participant: str
  days: Sequence[Day]
  labels: dict[str, Label]
  events: Sequence[Event] = ()


class Source(Protocol):
  """Where days come from: people are known in advance, their days are made or read one person at a time."""

  @property
  def schema(self) -> Schema: ...

  @property
  def participants(self) -> Sequence[str]: ...

  @property
  def n_days(self) -> int: ...

  def person(self, participant: str) -> Person: ...
