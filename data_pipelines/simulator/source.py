"""The simulated cohort as a source of days."""

from __future__ import annotations

import datetime
from collections.abc import Sequence

import numpy as np

from data_pipelines.lsm2_schema import LSM2_SCHEMA
from data_pipelines.schema import MINUTES_PER_DAY, Schema
from data_pipelines.simulator.activities import Bout, draw_bouts, draw_motion
from data_pipelines.simulator.missingness import lose
from data_pipelines.simulator.people import Traits, draw_traits
from data_pipelines.simulator.physiology import draw_physiology
from data_pipelines.simulator.rhythm import Rhythm, draw_rhythm
from data_pipelines.source import Day, Event, Person

FIRST_DATE = datetime.date(2024, 1, 1)  # people join on any day of the year after


class Simulation:
  """People `sim000000`, `sim000001`, ... with `days` days each.

  A person is a function of (seed, index) and `days` alone: the order in which people are asked for, and how many there
  are, change nothing; traits and labels do not depend on `days` either.
  """

  def __init__(self, participants: int, days: int, seed: int) -> None:
    for name, found, least in (("participants", participants, 1), ("days", days, 1), ("seed", seed, 0)):
      if found < least:
        raise ValueError(f"simulation: {name} is {found}, expected at least {least}")
    self.days = days
    self.seed = seed
    self._index = {f"sim{i:06d}": i for i in range(participants)}
    self._participants = tuple(self._index)

  @property
  def schema(self) -> Schema:
    return LSM2_SCHEMA

  @property
  def participants(self) -> Sequence[str]:
    return self._participants

  @property
  def n_days(self) -> int:
    """Days in all."""
    return len(self._participants) * self.days

  def _streams(self, participant: str) -> list[np.random.Generator]:
    """Five generators, one a part of the simulation, so that none shifts another's draws."""
    if participant not in self._index:
      last = self._participants[-1]
      raise ValueError(f"simulation: unknown participant {participant!r}, expected {self._participants[0]} to {last}")
    root = np.random.SeedSequence(self.seed, spawn_key=(self._index[participant],))
    return [np.random.Generator(np.random.SFC64(child)) for child in root.spawn(5)]

  def traits(self, participant: str) -> Traits:
    return draw_traits(self._streams(participant)[0])

  def _draw(self, participant: str) -> tuple[Traits, Rhythm, tuple[Bout, ...], np.ndarray, np.ndarray]:
    of_traits, of_rhythm, of_motion, of_physiology, of_missingness = self._streams(participant)
    traits = draw_traits(of_traits)
    start = FIRST_DATE + datetime.timedelta(days=int(of_rhythm.integers(364)))
    rhythm = draw_rhythm(of_rhythm, traits, self.days, start)
    bouts = draw_bouts(of_motion, traits, rhythm)
    motion = draw_motion(of_motion, traits, rhythm, bouts)
    values = draw_physiology(of_physiology, traits, rhythm, motion)
    cause = lose(of_missingness, traits, rhythm, motion, values)
    return traits, rhythm, bouts, values.reshape(cause.shape), cause

  def truth(self, participant: str) -> np.ndarray:
    """float32 [days, 1440, 26]: what `person` would hold had the device lost nothing."""
    return self._draw(participant)[3]

  def person(self, participant: str) -> Person:
    """One person with days, labels and events; ValueError for an unknown id."""
    traits, rhythm, bouts, values, cause = self._draw(participant)
    np.copyto(values, np.float32(np.nan), where=cause > 0)
    dates = [date.isoformat() for date in rhythm.dates]
    days = [Day(values[d], participant, d, dates[d], cause[d]) for d in range(self.days)]
    stretches = [(bout.start, bout.end, bout.activity.name) for bout in bouts]
    stretches += [(int(start), int(end), "sleep") for start, end in rhythm.nights]
    events = [event for stretch in stretches for event in _events(participant, dates, *stretch)]
    return Person(participant, days, traits.labels, sorted(events, key=lambda event: (event.day, event.start)))


def _events(participant: str, dates: Sequence[str], start: int, end: int, name: str) -> list[Event]:
  """A stretch of minutes since the first midnight as events, cut at midnights and at the ends of the record."""
  events = []
  for day in range(max(start, 0) // MINUTES_PER_DAY, min((end - 1) // MINUTES_PER_DAY + 1, len(dates))):
    midnight = day * MINUTES_PER_DAY
    first, last = max(start - midnight, 0), min(end - midnight, MINUTES_PER_DAY)
    events.append(Event(participant, day, dates[day], first, last, name))
  return events
