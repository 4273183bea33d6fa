"""What the device loses of a person's days: six modes, each gap labelled with its own."""

from __future__ import annotations

import numpy as np

from data_pipelines.lsm2_schema import LSM2_SCHEMA
from data_pipelines.schema import MINUTES_PER_DAY
from data_pipelines.simulator.activities import Motion
from data_pipelines.simulator.filters import relax, wander
from data_pipelines.simulator.people import Traits
from data_pipelines.simulator.rhythm import Rhythm
from data_pipelines.source import MISSINGNESS_MODES

LEAST_SHARE, MOST_SHARE = 0.02, 0.80  # published range of a day's missing share

_CODES = {mode: np.uint8(code) for code, mode in enumerate(MISSINGNESS_MODES, start=1)}
_SENSORS = np.array([channel.sensor for channel in LSM2_SCHEMA.channels])
_CHANNELS = len(_SENSORS)
_CONTACT = LSM2_SCHEMA.index("lead_contact_counts")


def _cells(*sensors: str) -> np.ndarray:
  return np.isin(_SENSORS, sensors)


_ALL = np.ones(_CHANNELS, bool)
_LOOSE = _cells("PPG", "EDA", "TEMP")
_SAVED = (_cells("PPG"), _cells("EDA"), _cells("ALT"), _cells("TEMP"), _cells("ACC"))
_SAVED_ODDS = np.array((0.30, 0.34, 0.16, 0.12, 0.08))
_EXPOSED = (_cells("EDA", "TEMP"), _cells("ALT"), _cells("TEMP"), _cells("EDA"))  # sweat and cold, wind, draught, dry
_EXPOSED_ODDS = np.array((0.45, 0.25, 0.15, 0.15))
_CHARGING_ODDS = np.array((0.25, 0.50, 0.25))


def _pick(rng: np.random.Generator, odds: np.ndarray) -> int:
  """Index drawn with probabilities `odds` (summing to 1); `rng.choice` takes five times as long."""
  return min(int(np.searchsorted(np.cumsum(odds), rng.random())), len(odds) - 1)


def _minutes(rng: np.random.Generator, log_median: float, spread: float, least: float, most: float) -> float:
  """Log-normal length of a gap, bounded."""
  return min(max(rng.lognormal(log_median, spread), least), most)


def gap_lengths(missing: np.ndarray) -> np.ndarray:
  """Lengths in steps of the runs of True along the last axis of bool [rows, steps]."""
  edges = np.diff(np.pad(missing.astype(np.int8), ((0, 0), (1, 1))), axis=1)
  return np.argwhere(edges == -1)[:, 1] - np.argwhere(edges == 1)[:, 1]


class _Loss:
  """One day's gaps, uint8 [channels, 1440], filled up to a number of cells."""

  def __init__(self, cause: np.ndarray, share: float) -> None:
    self.cause = cause
    self.left = int(share * cause.size) - int(np.count_nonzero(cause))

  def add(self, mode: str, start: float, end: float, channels: np.ndarray) -> None:
    """Loses what is left of `channels` in minutes [start, end), ending early where the day's share is used up."""
    block = self.cause[:, max(int(start), 0) : max(int(end), 0)]
    free = (block == 0) & channels[:, None]
    used = np.cumsum(np.add.reduce(free, axis=0, dtype=np.uint8), dtype=np.int64)
    stop = int(np.searchsorted(used, self.left, side="right"))
    if stop:
      np.copyto(block[:, :stop], _CODES[mode], where=free[:, :stop])
      self.left -= int(used[stop - 1])

  @property
  def full(self) -> bool:
    return self.left < _CHANNELS


def _day_shares(rng: np.random.Generator, traits: Traits, days: int) -> np.ndarray:
  """Missing share of each day [days]: around the person's own, reflected into the published range."""
  low, high = LEAST_SHARE + 0.002, MOST_SHARE - 0.002
  shares = traits.missing_share + 0.118 * rng.standard_normal(days)
  shares = np.where(shares < low, 2 * low - shares, shares)
  shares = np.where(shares > high, 2 * high - shares, shares)
  return np.clip(shares, low, high)


def _artefacts(rng: np.random.Generator, traits: Traits, motion: Motion) -> np.ndarray:
  """bool [minutes]: movement spoils the optical signal, the more so in a loose strap; spells of a few minutes."""
  luck = wander(rng, len(motion.movement), 15)
  return relax(motion.movement, 2) * np.exp(0.6 * luck - 0.25 * traits.fit) > 0.85


def _charge(rng: np.random.Generator, loss: _Loss, wake: int, bed: int) -> None:
  """Charging after getting up, in the evening, or at any hour."""
  when = _pick(rng, _CHARGING_ODDS)
  start = (wake + rng.normal(20, 15), bed - rng.gamma(2.0, 50), rng.uniform(0, MINUTES_PER_DAY))[when]
  start = min(max(start, 0), MINUTES_PER_DAY - 20)
  loss.add("charging", start, start + _minutes(rng, 4.3, 0.45, 20, 240), _ALL)


def _loosen(rng: np.random.Generator, loss: _Loss, contact: np.ndarray) -> None:
  """A loose strap, where contact was poor already: the worst of a few minutes."""
  starts = rng.integers(0, MINUTES_PER_DAY - 5, 12)
  start = starts[np.argmin(contact[starts])]
  loss.add("loose_fit", start, start + _minutes(rng, 3.3, 0.8, 4, 240), _LOOSE)


def _save_power(rng: np.random.Generator, loss: _Loss) -> None:
  """One sensor off for hours, now and then all day."""
  channels = _SAVED[_pick(rng, _SAVED_ODDS)]
  length = MINUTES_PER_DAY if rng.random() < 0.2 else _minutes(rng, 5.7, 0.6, 90, MINUTES_PER_DAY)
  start = rng.uniform(0, MINUTES_PER_DAY - length) if length < MINUTES_PER_DAY else 0
  loss.add("power_saving", start, start + length, channels)


def _expose(rng: np.random.Generator, loss: _Loss, exercise: np.ndarray) -> None:
  """Cold, water, heat or wind, more often than not around exercise."""
  start = int(rng.integers(MINUTES_PER_DAY - 20))
  if len(exercise) and rng.random() < 0.6:
    start = int(exercise[rng.integers(len(exercise))])
  channels = _EXPOSED[_pick(rng, _EXPOSED_ODDS)]
  loss.add("environment", start, start + _minutes(rng, 3.9, 0.6, 10, 300), channels)


def _remove(rng: np.random.Generator, loss: _Loss, wake: int, bed: int) -> float:
  """The device is put down while awake, mostly for hours; returns the minute it is taken up again."""
  start = rng.uniform(wake, min(max(bed - 30, wake + 1), MINUTES_PER_DAY))
  end = start + _minutes(rng, 5.6, 0.7, 10, 1200)
  loss.add("device_removed", start, end, _ALL)
  return end


def lose(rng: np.random.Generator, traits: Traits, rhythm: Rhythm, motion: Motion, values: np.ndarray) -> np.ndarray:
  """Draws what is missing of `values` [minutes, 26].

  A day's missing share is drawn first; habits come next (nights without the device, charging), then gaps of all modes
  in a person's own proportions until the share is reached. The last gap ends when it is.

  Returns:
    uint8 [days, 1440, 26]: 0 where observed, else 1 + index into MISSINGNESS_MODES.
  """
  days = len(rhythm.dates)
  cause = np.zeros((days, _CHANNELS, MINUTES_PER_DAY), np.uint8)
  contact = values[:, _CONTACT].reshape(days, MINUTES_PER_DAY)
  exercising = motion.exercising.reshape(days, MINUTES_PER_DAY)
  artefacts = _artefacts(rng, traits, motion).reshape(days, MINUTES_PER_DAY)
  cause[:, _cells("PPG")] = np.where(artefacts, _CODES["motion_artefact"], np.uint8(0))[:, None]
  shares = _day_shares(rng, traits, days)
  taken_off = rng.random(days + 1) < traits.night_off
  habit = rng.dirichlet((3.0, 2.5, 2.5, 2.0))  # of removing, loose wear, power saving, exposure
  taken_up = 0.0  # minute of the day that ends what the day before began
  for d in range(days):
    midnight = d * MINUTES_PER_DAY
    wake, bed = int(rhythm.nights[d, 1] - midnight), int(rhythm.nights[d + 1, 0] - midnight)
    loss = _Loss(cause[d], shares[d])
    loss.add("device_removed", 0, taken_up, _ALL)
    taken_up = 0.0
    if taken_off[d]:
      loss.add("device_removed", 0, wake + 15, _ALL)
    if taken_off[d + 1]:
      loss.add("device_removed", bed - 15, MINUTES_PER_DAY, _ALL)
    if rng.random() < 0.7:
      _charge(rng, loss, wake, bed)
    exercise = np.flatnonzero(exercising[d])
    while not loss.full:
      mode = _pick(rng, habit)
      if mode == 0:
        taken_up = max(taken_up, _remove(rng, loss, wake, bed) - MINUTES_PER_DAY)
      elif mode == 1:
        _loosen(rng, loss, contact[d])
      elif mode == 2:
        _save_power(rng, loss)
      else:
        _expose(rng, loss, exercise)
    if not (cause[d, :, -1] == _CODES["device_removed"]).all():
      taken_up = 0.0
  return np.ascontiguousarray(cause.transpose(0, 2, 1))
