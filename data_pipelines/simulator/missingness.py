"""Draws the values of a person's days that the device loses: gaps of six modes, each labelled with its mode."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float32, Float64, Int, UInt8

from data_pipelines.lsm2_schema import LSM2_SCHEMA
from data_pipelines.schema import MINUTES_PER_DAY
from data_pipelines.simulator.activities import Motion
from data_pipelines.simulator.filters import relax, wander
from data_pipelines.simulator.people import Traits
from data_pipelines.simulator.rhythm import Rhythm
from data_pipelines.source import MISSINGNESS_MODES

LEAST_SHARE, MOST_SHARE = 0.02, 0.80  # published range of the missing share of a day

_CODES = {mode: np.uint8(code) for code, mode in enumerate(MISSINGNESS_MODES, start=1)}
_SENSORS = np.array([channel.sensor for channel in LSM2_SCHEMA.channels])
_CHANNELS = len(_SENSORS)
_CONTACT = LSM2_SCHEMA.index("lead_contact_counts")


def _channels_of(*sensors: str) -> Bool[np.ndarray, " channels"]:
  """True for the channels of these sensors."""
  return np.isin(_SENSORS, sensors)


_ALL = np.ones(_CHANNELS, bool)
_LOOSE_FIT = _channels_of("PPG", "EDA", "TEMP")
_SAVED = (_channels_of("PPG"), _channels_of("EDA"), _channels_of("ALT"), _channels_of("TEMP"), _channels_of("ACC"))
_SAVED_ODDS = np.array((0.30, 0.34, 0.16, 0.12, 0.08))
_EXPOSED = (
  _channels_of("EDA", "TEMP"),  # sweat and cold
  _channels_of("ALT"),  # wind
  _channels_of("TEMP"),  # draught
  _channels_of("EDA"),  # dry skin
)
_EXPOSED_ODDS = np.array((0.45, 0.25, 0.15, 0.15))
_CHARGING_ODDS = np.array((0.25, 0.50, 0.25))


def _pick(rng: np.random.Generator, odds: Float64[np.ndarray, " options"]) -> int:
  """Draws an index with probabilities `odds`, which sum to 1, in a fifth of the time of `rng.choice`."""
  return min(int(np.searchsorted(np.cumsum(odds), rng.random())), len(odds) - 1)


def _minutes(rng: np.random.Generator, log_median: float, spread: float, least: float, most: float) -> float:
  """Draws the length of a gap in minutes: log-normal, bounded by `least` and `most`."""
  return min(max(rng.lognormal(log_median, spread), least), most)


def gap_lengths(missing: Bool[np.ndarray, "rows steps"]) -> Int[np.ndarray, " gaps"]:
  """Lengths, in steps, of the runs of True along each row."""
  edges = np.diff(np.pad(missing.astype(np.int8), ((0, 0), (1, 1))), axis=1)
  return np.argwhere(edges == -1)[:, 1] - np.argwhere(edges == 1)[:, 1]


class _DayLosses:
  """The values that one day has lost so far, up to a given share of the day.

  Attributes:
    cause: code of the mode of each lost value, 0 where the value is observed; changed in place.
    left: how many more values the day may lose.
  """

  def __init__(self, cause: UInt8[np.ndarray, "channels 1440"], share: float) -> None:
    self.cause = cause
    self.left = int(share * cause.size) - int(np.count_nonzero(cause))

  def add(self, mode: str, start: float, end: float, channels: Bool[np.ndarray, " channels"]) -> None:
    """Marks `channels` as lost in minutes [start, end), or until the day's share is used up."""
    stretch = self.cause[:, max(int(start), 0) : max(int(end), 0)]
    free = (stretch == 0) & channels[:, None]
    used = np.cumsum(np.add.reduce(free, axis=0, dtype=np.uint8), dtype=np.int64)
    stop = int(np.searchsorted(used, self.left, side="right"))
    if stop:
      np.copyto(stretch[:, :stop], _CODES[mode], where=free[:, :stop])
      self.left -= int(used[stop - 1])

  @property
  def full(self) -> bool:
    """True if less than one minute of all channels is left to lose."""
    return self.left < _CHANNELS


def _day_shares(rng: np.random.Generator, traits: Traits, days: int) -> Float64[np.ndarray, " days"]:
  """Draws the missing share of each day: around the person's expected share, reflected into the published range."""
  low, high = LEAST_SHARE + 0.002, MOST_SHARE - 0.002
  shares = traits.missing_share + 0.118 * rng.standard_normal(days)
  shares = np.where(shares < low, 2 * low - shares, shares)
  shares = np.where(shares > high, 2 * high - shares, shares)
  return np.clip(shares, low, high)


def _artefacts(rng: np.random.Generator, traits: Traits, motion: Motion) -> Bool[np.ndarray, " minutes"]:
  """Draws the minutes whose optical signal is spoilt by movement, in spells, more often when the strap is loose."""
  luck = wander(rng, len(motion.movement), 15)
  return relax(motion.movement, 2) * np.exp(0.6 * luck - 0.25 * traits.fit) > 0.85


def _charge(rng: np.random.Generator, losses: _DayLosses, wake: int, bed: int) -> None:
  """Draws a gap for charging: after getting up, in the evening, or at any hour."""
  when = _pick(rng, _CHARGING_ODDS)
  start = (wake + rng.normal(20, 15), bed - rng.gamma(2.0, 50), rng.uniform(0, MINUTES_PER_DAY))[when]
  start = min(max(start, 0), MINUTES_PER_DAY - 20)
  losses.add("charging", start, start + _minutes(rng, 4.3, 0.45, 20, 240), _ALL)


def _loosen(rng: np.random.Generator, losses: _DayLosses, contact: Float32[np.ndarray, " 1440"]) -> None:
  """Draws a gap for a loose strap; it starts where contact is poor, at the worst of a few random minutes."""
  starts = rng.integers(0, MINUTES_PER_DAY - 5, 12)
  start = starts[np.argmin(contact[starts])]
  losses.add("loose_fit", start, start + _minutes(rng, 3.3, 0.8, 4, 240), _LOOSE_FIT)


def _save_power(rng: np.random.Generator, losses: _DayLosses) -> None:
  """Draws a gap for power saving: one sensor is off for hours, sometimes all day."""
  channels = _SAVED[_pick(rng, _SAVED_ODDS)]
  length = MINUTES_PER_DAY if rng.random() < 0.2 else _minutes(rng, 5.7, 0.6, 90, MINUTES_PER_DAY)
  start = rng.uniform(0, MINUTES_PER_DAY - length) if length < MINUTES_PER_DAY else 0
  losses.add("power_saving", start, start + length, channels)


def _expose(rng: np.random.Generator, losses: _DayLosses, exercise: Int[np.ndarray, " exercising"]) -> None:
  """Draws a gap for cold, water, heat or wind, most often during exercise.

  `exercise` lists the minutes of the day in which the person exercises.
  """
  start = int(rng.integers(MINUTES_PER_DAY - 20))
  if len(exercise) and rng.random() < 0.6:
    start = int(exercise[rng.integers(len(exercise))])
  channels = _EXPOSED[_pick(rng, _EXPOSED_ODDS)]
  losses.add("environment", start, start + _minutes(rng, 3.9, 0.6, 10, 300), channels)


def _remove(rng: np.random.Generator, losses: _DayLosses, wake: int, bed: int) -> float:
  """Draws a gap for the device being put down while the person is awake; returns the minute at which it is put on."""
  start = rng.uniform(wake, min(max(bed - 30, wake + 1), MINUTES_PER_DAY))
  end = start + _minutes(rng, 5.6, 0.7, 10, 1200)
  losses.add("device_removed", start, end, _ALL)
  return end


def draw_missingness(
  rng: np.random.Generator,
  traits: Traits,
  rhythm: Rhythm,
  motion: Motion,
  values: Float32[np.ndarray, "minutes 26"],
) -> UInt8[np.ndarray, "days 1440 26"]:
  """Draws which values the device loses.

  The missing share of each day is drawn first. Habits come next (nights without the device, charging), and then gaps of
  all modes, in proportions that are drawn per person, until the share is reached; the last gap ends there.

  Returns:
    0 where the value stays observed, else 1 + the index of the mode in MISSINGNESS_MODES.
  """
  days = len(rhythm.dates)
  cause = np.zeros((days, _CHANNELS, MINUTES_PER_DAY), np.uint8)
  contact = values[:, _CONTACT].reshape(days, MINUTES_PER_DAY)
  exercising = motion.exercising.reshape(days, MINUTES_PER_DAY)
  artefacts = _artefacts(rng, traits, motion).reshape(days, MINUTES_PER_DAY)
  cause[:, _channels_of("PPG")] = np.where(artefacts, _CODES["motion_artefact"], np.uint8(0))[:, None]
  shares = _day_shares(rng, traits, days)
  taken_off = rng.random(days + 1) < traits.night_off
  habit = rng.dirichlet((3.0, 2.5, 2.5, 2.0))  # proportions of removal, loose fit, power saving and environment
  put_on_again = 0.0  # minute of the day at which a removal that began on the day before ends
  for d in range(days):
    midnight = d * MINUTES_PER_DAY
    wake, bed = int(rhythm.nights[d, 1] - midnight), int(rhythm.nights[d + 1, 0] - midnight)
    losses = _DayLosses(cause[d], shares[d])
    losses.add("device_removed", 0, put_on_again, _ALL)
    put_on_again = 0.0
    if taken_off[d]:
      losses.add("device_removed", 0, wake + 15, _ALL)
    if taken_off[d + 1]:
      losses.add("device_removed", bed - 15, MINUTES_PER_DAY, _ALL)
    if rng.random() < 0.7:
      _charge(rng, losses, wake, bed)
    exercise = np.flatnonzero(exercising[d])
    while not losses.full:
      mode = _pick(rng, habit)
      if mode == 0:
        put_on_again = max(put_on_again, _remove(rng, losses, wake, bed) - MINUTES_PER_DAY)
      elif mode == 1:
        _loosen(rng, losses, contact[d])
      elif mode == 2:
        _save_power(rng, losses)
      else:
        _expose(rng, losses, exercise)
    if not (cause[d, :, -1] == _CODES["device_removed"]).all():
      put_on_again = 0.0
  return np.ascontiguousarray(cause.transpose(0, 2, 1))
