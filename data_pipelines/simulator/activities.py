"""Exercise as labelled bouts of 20 activities, and the unlabelled movement around them."""

from __future__ import annotations

import dataclasses

import numpy as np
from jaxtyping import Bool, Float32

from data_pipelines.schema import MINUTES_PER_DAY
from data_pipelines.simulator.filters import relax, wander, white
from data_pipelines.simulator.people import Traits
from data_pipelines.simulator.rhythm import Rhythm


@dataclasses.dataclass(frozen=True)
class Activity:
  """An activity: its demands on the body, and how the watch records it.

  Attributes:
    name: label of its bouts.
    effort: share of the heart rate reserve that it demands.
    steps: counted steps per minute.
    movement: wrist movement, from 0 (still) to 1 (violent).
    rhythm: regularity of the movement, from 0 (erratic) to 1 (like a metronome).
    climb: SD of the altimeter during the activity, in the altimeter's unit.
    chill: degrees C by which air or water cools the skin.
    minutes: median duration.
    popularity: relative frequency.
  """

  name: str
  effort: float
  steps: float
  movement: float
  rhythm: float
  climb: float
  chill: float
  minutes: float
  popularity: float


ACTIVITIES = (
  Activity("walk", 0.26, 105, 0.55, 0.80, 0.02, 0.3, 35, 9),
  Activity("bike", 0.52, 3, 0.42, 0.45, 0.05, 1.0, 45, 3),
  Activity("sports", 0.55, 55, 0.75, 0.20, 0.00, 0.2, 60, 2),
  Activity("run", 0.72, 162, 0.92, 0.95, 0.03, 0.3, 35, 4),
  Activity("aerobics", 0.55, 70, 0.78, 0.60, 0.00, 0.0, 40, 1.5),
  Activity("elliptical", 0.58, 115, 0.62, 0.92, 0.00, 0.0, 35, 1.5),
  Activity("spinning", 0.66, 2, 0.34, 0.65, 0.00, 0.0, 45, 1.5),
  Activity("weightlifting", 0.38, 7, 0.48, 0.22, 0.00, 0.0, 50, 3),
  Activity("swim", 0.55, 0, 0.82, 0.78, 0.00, 3.5, 40, 1.5),
  Activity("hike", 0.44, 92, 0.60, 0.62, 0.12, 0.8, 110, 1.5),
  Activity("tennis", 0.54, 58, 0.80, 0.25, 0.00, 0.4, 70, 1),
  Activity("CrossFit", 0.68, 35, 0.84, 0.32, 0.00, 0.0, 45, 1),
  Activity("pilates", 0.24, 3, 0.36, 0.30, 0.00, 0.0, 45, 1.2),
  Activity("stairclimber", 0.64, 88, 0.52, 0.90, 0.00, 0.0, 25, 0.8),
  Activity("dancing", 0.48, 65, 0.72, 0.50, 0.00, 0.0, 60, 1),
  Activity("indoor climbing", 0.44, 6, 0.56, 0.12, 0.20, 0.0, 80, 0.7),
  Activity("golf", 0.25, 55, 0.46, 0.35, 0.03, 0.4, 150, 0.8),
  Activity("skiing", 0.45, 10, 0.62, 0.30, 0.70, 3.0, 130, 0.6),
  Activity("snowboarding", 0.45, 6, 0.66, 0.18, 0.70, 3.0, 130, 0.5),
  Activity("kayaking", 0.45, 0, 0.70, 0.78, 0.00, 1.5, 75, 0.6),
)


@dataclasses.dataclass(frozen=True)
class Bout:
  """A labelled stretch of exercise, minutes [start, end) since the first midnight."""

  start: int
  end: int
  activity: Activity


@dataclasses.dataclass(frozen=True)
class Motion:
  """The body's motion in each minute: the quantities of `Activity`, and whether the minute belongs to a bout."""

  effort: Float32[np.ndarray, " minutes"]
  steps: Float32[np.ndarray, " minutes"]
  movement: Float32[np.ndarray, " minutes"]
  rhythm: Float32[np.ndarray, " minutes"]
  climb: Float32[np.ndarray, " minutes"]
  chill: Float32[np.ndarray, " minutes"]
  exercising: Bool[np.ndarray, " minutes"]


def draw_bouts(rng: np.random.Generator, traits: Traits, rhythm: Rhythm) -> tuple[Bout, ...]:
  """Draws a person's exercise: a few favourite activities, outside working hours and sleep, sorted by start."""
  taste = rng.gamma(0.6, size=len(ACTIVITIES)) * [activity.popularity for activity in ACTIVITIES]
  taste[0] += 1.5  # everybody walks
  days = len(rhythm.dates)
  bouts: list[Bout] = []
  busy = rhythm.asleep | rhythm.working
  for day in range(days):
    workday = rhythm.workday(day)
    first = rhythm.nights[day, 1] + 20
    last = min(rhythm.nights[day + 1, 0] - 45, (day + 1) * MINUTES_PER_DAY)
    for _ in range(min(rng.poisson(traits.bouts_per_day * (0.85 if workday else 1.3)), 4)):
      activity = ACTIVITIES[rng.choice(len(ACTIVITIES), p=taste / taste.sum())]
      length = activity.minutes * np.exp(0.35 * rng.standard_normal()) * (0.75 if workday else 1.0)
      length = int(np.clip(length, 12, 300))
      start = int(rng.integers(first, max(last - length, first + 1)))
      if start + length > last or busy[start : start + length].any():
        continue  # there is no time for it
      bouts.append(Bout(start, start + length, activity))
      busy[max(start - 20, 0) : start + length + 20] = True
  return tuple(sorted(bouts, key=lambda bout: bout.start))


def _background(rng: np.random.Generator, traits: Traits, rhythm: Rhythm) -> dict[str, np.ndarray]:
  """Movement outside exercise: stillness in sleep, fidgeting when awake, short walks and stairs."""
  n = rhythm.minutes
  awake = ~rhythm.asleep
  urge = wander(rng, n, 6) + 0.35 * wander(rng, n, 90) + 0.2 * traits.restlessness
  urge += 0.35 * rhythm.circadian - np.float32(0.35) * rhythm.working - 0.45
  walking = (urge > 1.0) & awake
  pace = np.where(walking, np.clip(0.35 + 0.5 * (urge - 1.0), 0, 1), 0).astype(np.float32)
  turn = np.abs(white(rng, n))
  fidget = np.maximum(0.18 + 0.09 * urge + 0.05 * turn, 0.02)
  moving = np.maximum(fidget, np.where(walking, 0.25 + 0.35 * pace, 0))
  turning = np.where(turn > 2.3, 0.12 * (1 - rhythm.depth), 0)
  return {
    "effort": np.where(awake, 0.04 + 0.24 * pace + 0.025 * np.clip(urge, -1.5, 1.5), 0),
    "steps": pace * (75 + 12 * white(rng, n)),
    "movement": np.where(awake, moving, 0.015 + 0.01 * turn + turning),
    "rhythm": np.where(awake, 0.2 + 0.6 * pace, 0.3),
    "climb": np.where(walking & (rng.random(n, np.float32) < 0.035), 0.25 + 0.6 * turn, 0),
  }


def draw_motion(rng: np.random.Generator, traits: Traits, rhythm: Rhythm, bouts: tuple[Bout, ...]) -> Motion:
  """Draws the motion of each minute: background movement, replaced by each bout while it lasts."""
  n = rhythm.minutes
  drives = {name: np.asarray(drive, np.float32) for name, drive in _background(rng, traits, rhythm).items()}
  drives["chill"] = np.zeros(n, np.float32)
  exercising = np.zeros(n, bool)
  vigour = np.exp(0.12 * wander(rng, n, 6) + 0.06 * white(rng, n))  # the pace varies within a bout
  burst = np.abs(white(rng, n))
  keenness = np.exp(0.15 * rng.standard_normal(len(bouts)))
  for bout, keen in zip(bouts, keenness, strict=True):
    span = slice(bout.start, bout.end)
    exercising[span] = True
    pace = np.float32(keen) * vigour[span]
    drives["effort"][span] = bout.activity.effort * np.minimum(pace, 1.35)
    drives["steps"][span] = bout.activity.steps * pace**0.25
    drives["movement"][span] = np.minimum(bout.activity.movement * np.sqrt(pace), 1)
    drives["rhythm"][span] = bout.activity.rhythm
    drives["climb"][span] = bout.activity.climb * burst[span]
    drives["chill"][span] = bout.activity.chill
  drives["effort"] = relax(drives["effort"], 0.5)
  return Motion(**drives, exercising=exercising)
