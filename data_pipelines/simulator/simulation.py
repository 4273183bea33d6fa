"""The simulated cohort as a `Source` of days."""

from __future__ import annotations

import datetime
import json
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float32

from data_pipelines.errors import SchemaError, is_whole
from data_pipelines.lsm2_schema import LSM2_SCHEMA
from data_pipelines.schema import MINUTES_PER_DAY, Schema
from data_pipelines.simulator.activities import ACTIVITIES, Bout, draw_bouts, draw_motion
from data_pipelines.simulator.missingness import draw_missingness
from data_pipelines.simulator.people import Traits, draw_traits
from data_pipelines.simulator.physiology import draw_physiology
from data_pipelines.simulator.rhythm import Rhythm, draw_rhythm
from data_pipelines.source import EXCLUSIVE_EVENTS, Day, Event, Person

FIRST_DATE = datetime.date(2024, 1, 1)  # each person joins on one of the 364 days that start here


class Simulation:
  """People `sim000000`, `sim000001`, ... with `days` days each.

  A person depends on (seed, index) and `days` alone, not on how many people there are or in which order they are
  drawn. Traits and labels do not depend on `days` either.

  Attributes:
    days: number of days per person.
    seed: seed of the cohort.
  """

  def __init__(self, participants: int, days: int, seed: int) -> None:
    """Describes a cohort; people are drawn when `person` is called.

    Raises:
      SchemaError: a number is too small, or not whole.
    """
    for name, value, least in (("participants", participants, 1), ("days", days, 1), ("seed", seed, 0)):
      if not is_whole(value):
        raise SchemaError(f"simulation: {name} is {value!r}, expected a whole number")
      if value < least:
        raise SchemaError(f"simulation: {name} is {value}, expected at least {least}")
    self.days = days
    self.seed = seed
    self._index = {f"sim{i:06d}": i for i in range(participants)}
    self._participants = tuple(self._index)

  @property
  def schema(self) -> Schema:
    """The 26 channels of LSM-2's watch, one step per minute."""
    return LSM2_SCHEMA

  @property
  def participants(self) -> Sequence[str]:
    """Ids of all people."""
    return self._participants

  @property
  def n_days(self) -> int:
    """Number of days of all people."""
    return len(self._participants) * self.days

  @property
  def documents(self) -> dict[str, str]:
    """Files that are stored with the dataset: which events exclude each other."""
    return {EXCLUSIVE_EVENTS: json.dumps({"activity": [activity.name for activity in ACTIVITIES]}) + "\n"}

  def _streams(self, participant: str) -> list[np.random.Generator]:
    """Five generators, one per part of the simulation, so that the draws of one part do not shift those of another."""
    if participant not in self._index:
      last = self._participants[-1]
      raise SchemaError(f"simulation: unknown participant {participant!r}, expected {self._participants[0]} to {last}")
    root = np.random.SeedSequence(self.seed, spawn_key=(self._index[participant],))
    return [np.random.Generator(np.random.SFC64(child)) for child in root.spawn(5)]

  def traits(self, participant: str) -> Traits:
    """The traits of a person.

    Raises:
      ValueError: the id is unknown.
    """
    return draw_traits(self._streams(participant)[0])

  def _draw(self, participant: str) -> tuple[Traits, Rhythm, tuple[Bout, ...], np.ndarray, np.ndarray]:
    """Traits, rhythm, bouts, complete values and causes of missingness, the last two [days, 1440, 26]."""
    traits_rng, rhythm_rng, motion_rng, physiology_rng, missingness_rng = self._streams(participant)
    traits = draw_traits(traits_rng)
    start = FIRST_DATE + datetime.timedelta(days=int(rhythm_rng.integers(364)))
    rhythm = draw_rhythm(rhythm_rng, traits, self.days, start)
    bouts = draw_bouts(motion_rng, traits, rhythm)
    motion = draw_motion(motion_rng, traits, rhythm, bouts)
    values = draw_physiology(physiology_rng, traits, rhythm, motion)
    cause = draw_missingness(missingness_rng, traits, rhythm, motion, values)
    return traits, rhythm, bouts, values.reshape(cause.shape), cause

  def truth(self, participant: str) -> Float32[np.ndarray, "days 1440 26"]:
    """The values of a person's days as they would be if the device had lost nothing; no value is NaN.

    Raises:
      ValueError: the id is unknown.
    """
    return self._draw(participant)[3]

  def person(self, participant: str) -> Person:
    """Draws one person, with days, labels and events (bouts of exercise, and sleep).

    Raises:
      ValueError: the id is unknown.
    """
    traits, rhythm, bouts, values, cause = self._draw(participant)
    np.copyto(values, np.float32(np.nan), where=cause > 0)
    dates = [date.isoformat() for date in rhythm.dates]
    days = [Day(values[d], participant, d, dates[d], cause[d]) for d in range(self.days)]
    stretches = [(bout.start, bout.end, bout.activity.name) for bout in bouts]
    stretches += [(int(start), int(end), "sleep") for start, end in rhythm.nights]
    events = [event for stretch in stretches for event in _events(participant, dates, *stretch)]
    return Person(participant, days, traits.labels, sorted(events, key=lambda event: (event.day, event.start)))


def _events(participant: str, dates: Sequence[str], start: int, end: int, name: str) -> list[Event]:
  """Events of a stretch of minutes since the first midnight, cut at every midnight and at the ends of the record."""
  events = []
  for day in range(max(start, 0) // MINUTES_PER_DAY, min((end - 1) // MINUTES_PER_DAY + 1, len(dates))):
    midnight = day * MINUTES_PER_DAY
    first, last = max(start - midnight, 0), min(end - midnight, MINUTES_PER_DAY)
    events.append(Event(participant, day, dates[day], first, last, name))
  return events
