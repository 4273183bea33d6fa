"""When a person sleeps, works and is awake: the frame of every day."""

from __future__ import annotations

import dataclasses
import datetime

import numpy as np

from data_pipelines.schema import MINUTES_PER_DAY
from data_pipelines.simulator.filters import wander
from data_pipelines.simulator.people import Traits


@dataclasses.dataclass(frozen=True)
class Rhythm:
  """The frame of `days` consecutive days; arrays run over minutes since the first midnight.

  Attributes:
    asleep: bool [minutes]; short awakenings are False.
    depth: float32 [minutes], 0 awake to 1 slow-wave sleep.
    rem: float32 [minutes], 1 in REM sleep.
    circadian: float32 [minutes], -1 at the night's low to 1 in the late afternoon.
    working: bool [minutes].
    nights: int [days + 1, 2], [start, end) of each night's sleep; night n ends on day n (the first starts before 0,
      the last ends after the last day).
    dates: one date a day.
  """

  asleep: np.ndarray
  depth: np.ndarray
  rem: np.ndarray
  circadian: np.ndarray
  working: np.ndarray
  nights: np.ndarray
  dates: tuple[datetime.date, ...]

  @property
  def minutes(self) -> int:
    return len(self.asleep)

  def workday(self, day: int) -> bool:
    return bool(self.working[day * MINUTES_PER_DAY : (day + 1) * MINUTES_PER_DAY].any())


def _nights(rng: np.random.Generator, traits: Traits, free: np.ndarray) -> np.ndarray:
  """[start, end) of the night before each of `free` days: later and longer before a free one (social jetlag)."""
  n = len(free)
  middle = 3.6 + traits.chronotype + 0.9 * free + 0.5 * rng.standard_normal(n)
  hours = np.clip(traits.sleep_hours + 0.6 * free + 0.7 * rng.standard_normal(n), 3.5, 11)
  end = middle + hours / 2
  end = np.where(free, end, np.minimum(end, 7.6 + 0.25 * rng.standard_normal(n)))
  start_end = np.stack([np.minimum(middle - hours / 2, end - 3.5), end], axis=1)
  return np.round(start_end * 60).astype(int) + MINUTES_PER_DAY * np.arange(n)[:, None]


def _stages(night: int, cycle: float) -> tuple[np.ndarray, np.ndarray]:
  """Depth and REM over one night's minutes: cycles of slow-wave sleep that thin out, REM that grows to the morning."""
  since = np.arange(night, dtype=np.float32)
  phase = (since / cycle) % 1
  deep = np.exp(-since / 200) * np.sin(np.pi * np.minimum(phase / 0.8, 1)) ** 2
  rem = (phase > 0.9 - 0.25 * since / night) & (since > 60)
  return np.where(rem, 0.25, 0.3 + 0.7 * deep).astype(np.float32), rem.astype(np.float32)


def draw_rhythm(rng: np.random.Generator, traits: Traits, days: int, start: datetime.date) -> Rhythm:
  """Draws the nights and working hours of `days` days from `start` on."""
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
  awake = wander(rng, minutes, 4) > light  # short awakenings, more of them when old or anxious
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
