"""The daily rhythm of a person: sleep, work and waking hours."""

from __future__ import annotations

import dataclasses
import datetime

import numpy as np
from jaxtyping import Bool, Float32, Int

from data_pipelines.schema import MINUTES_PER_DAY
from data_pipelines.simulator.filters import wander
from data_pipelines.simulator.people import Traits


@dataclasses.dataclass(frozen=True)
class Rhythm:
  """Sleep and work over consecutive days; arrays run over the minutes since the first midnight.

  Attributes:
    asleep: whether the person sleeps; short awakenings are False.
    depth: depth of sleep, from 0 (awake) to 1 (slow-wave sleep).
    rem: 1 in REM sleep, else 0.
    circadian: daily rhythm, from -1 (the low of the night) to 1 (late afternoon).
    working: whether the person is at work.
    nights: [start, end) of each night's sleep, in minutes. Night n ends on day n: the first may start before minute 0,
      and the last ends after the last day.
    dates: one date per day.
  """

  asleep: Bool[np.ndarray, " minutes"]
  depth: Float32[np.ndarray, " minutes"]
  rem: Float32[np.ndarray, " minutes"]
  circadian: Float32[np.ndarray, " minutes"]
  working: Bool[np.ndarray, " minutes"]
  nights: Int[np.ndarray, "nights 2"]
  dates: tuple[datetime.date, ...]

  @property
  def minutes(self) -> int:
    """Number of minutes of all days."""
    return len(self.asleep)

  def workday(self, day: int) -> bool:
    """True if the person works on a day, counted from 0."""
    return bool(self.working[day * MINUTES_PER_DAY : (day + 1) * MINUTES_PER_DAY].any())


def _nights(rng: np.random.Generator, traits: Traits, free: Bool[np.ndarray, " nights"]) -> Int[np.ndarray, "nights 2"]:
  """Draws [start, end) of the night before each day; nights before free days are later and longer (social jetlag)."""
  n = len(free)
  middle = 3.6 + traits.chronotype + 0.9 * free + 0.5 * rng.standard_normal(n)
  hours = np.clip(traits.sleep_hours + 0.6 * free + 0.7 * rng.standard_normal(n), 3.5, 11)
  end = middle + hours / 2
  end = np.where(free, end, np.minimum(end, 7.6 + 0.25 * rng.standard_normal(n)))
  start_end = np.stack([np.minimum(middle - hours / 2, end - 3.5), end], axis=1)
  return np.round(start_end * 60).astype(int) + MINUTES_PER_DAY * np.arange(n)[:, None]


def _stages(night: int, cycle: float) -> tuple[Float32[np.ndarray, " night"], Float32[np.ndarray, " night"]]:
  """Depth and REM over the minutes of a night: slow-wave sleep fades from cycle to cycle, REM grows until morning."""
  since = np.arange(night, dtype=np.float32)
  phase = (since / cycle) % 1
  deep = np.exp(-since / 200) * np.sin(np.pi * np.minimum(phase / 0.8, 1)) ** 2
  rem = (phase > 0.9 - 0.25 * since / night) & (since > 60)
  return np.where(rem, 0.25, 0.3 + 0.7 * deep).astype(np.float32), rem.astype(np.float32)


def draw_rhythm(rng: np.random.Generator, traits: Traits, days: int, start: datetime.date) -> Rhythm:
  """Draws the nights and the working hours of `days` days, of which `start` is the first."""
  minutes = days * MINUTES_PER_DAY
  dates = tuple(start + datetime.timedelta(days=d) for d in range(days + 1))
  workday = np.array([traits.works and date.weekday() < 5 for date in dates]) & (rng.random(days + 1) > 0.05)
  nights = _nights(rng, traits, ~workday)

  asleep = np.zeros(minutes, bool)
  depth, rem = np.zeros((2, minutes), np.float32)
  cycles = rng.normal(95, 7, days + 1)
  for (begin, end), cycle in zip(nights, cycles, strict=True):
    inside = slice(*np.clip((begin, end), 0, minutes))
    of_night = slice(max(-begin, 0), max(minutes - begin, 0))
    night_depth, night_rem = _stages(end - begin, cycle)
    asleep[inside] = True
    depth[inside], rem[inside] = night_depth[of_night], night_rem[of_night]
  light = 2.1 - 0.2 * traits.anxiety - 0.008 * (traits.age - 45)
  awake = wander(rng, minutes, 4) > light  # short awakenings, more often in old or anxious people
  asleep &= ~awake
  depth[awake], rem[awake] = 0, 0

  working = np.zeros(minutes, bool)
  begins = 9 * 60 + 25 * rng.standard_normal(days)
  ends = 17 * 60 + 35 * rng.standard_normal(days)
  for d in np.flatnonzero(workday[:-1]):
    working[d * MINUTES_PER_DAY + int(begins[d]) : d * MINUTES_PER_DAY + int(ends[d])] = True

  hour = np.arange(minutes, dtype=np.float32) / 60
  circadian = -np.cos(2 * np.pi * (hour - 4.5 - traits.chronotype) / 24).astype(np.float32)
  return Rhythm(asleep, depth, rem, circadian, working & ~asleep, nights, dates[:-1])
