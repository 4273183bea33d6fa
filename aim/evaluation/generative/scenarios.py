"""The six public scenarios: holes as they happen to people, after the benchmark OpenMHC.

Three are drawn at random (patches, slices of time, channels), three depend on the day's own values (the night, the
workout, a heart sensor that fails while the heart races).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float

from data_pipelines.schema import Schema

UNITS = {
  "patches": "%",
  "slices": "%",
  "channels": "%",
  "sleep": "min",
  "workout": "min",
  "high_heart_rate": "bpm",
}
OF_VALUES = ("sleep", "workout", "high_heart_rate")  # depend on the day's values

PATCH_MINUTES = 30
SLICE_MINUTES = (30, 60)
AROUND_MINUTES = 30  # lost before and after each step of high heart rate
# A workout shows in the first channel whose name contains the earliest possible of these words.
MOTION = ("step", "activity", "intensity", "motion", "acc", "act_")
HEART = ("heart_rate", "pulse")

Hidden = Bool[np.ndarray, "s c"]


def obstacle(name: str, level: int, schema: Schema) -> str | None:
  """Why the scenario `name` is impossible on the schema, or None."""
  if name == "patches" and PATCH_MINUTES % schema.minutes_per_step:
    return f"patches of {PATCH_MINUTES} min are not whole steps of {schema.minutes_per_step} min"
  if name == "slices":
    return _slices_obstacle(level, schema)
  if name == "channels" and len(schema.channels) < 2:
    return "the schema has 1 channel, at least one must remain"
  if name in ("sleep", "workout") and not schema.minutes_per_step <= level < schema.minutes_per_step * schema.steps:
    return f"expected at least a step of {schema.minutes_per_step} min and less than a day"
  if name == "workout" and motion_channel(schema) is None:
    return f"no channel shows motion (named {', '.join(MOTION)} ...)"
  if name == "high_heart_rate" and heart_channel(schema) is None:
    return f"no channel is a heart rate (named {', '.join(HEART)} ...)"
  return None


def hidden_by(
  name: str,
  level: int,
  schema: Schema,
  rng: np.random.Generator,
  values: Float[np.ndarray, "s c"] | None,
  asleep: Bool[np.ndarray, " s"] | None,
) -> Hidden:
  """The values that the scenario `name` hides; `tasks.hidden_values` describes each and the arguments."""
  steps, channels = schema.steps, len(schema.channels)
  hidden = np.zeros((steps, channels), bool)
  if name == "patches":
    return random_patches(rng, level, PATCH_MINUTES // schema.minutes_per_step, steps, channels)
  if name == "channels":
    hidden[:, rng.choice(channels, share_of_channels(level, channels), replace=False)] = True
  elif name == "slices":
    hidden[_slices(rng, level, schema)] = True
  else:
    assert values is not None  # tasks.hidden_values has checked it
    if name == "high_heart_rate":
      return _high_heart_rate(level, schema, values)
    amount = _sleep(schema, values, asleep) if name == "sleep" else _motion(schema, values)
    if amount is not None:
      hidden[fullest_window(amount, max(1, round(level / schema.minutes_per_step)))] = True
    elif name == "sleep":  # nobody knows when: the first hours after midnight
      hidden[: max(1, round(level / schema.minutes_per_step))] = True
  return hidden


def random_patches(rng: np.random.Generator, percent: int, patch: int, steps: int, channels: int) -> Hidden:
  """Hides exactly `percent` % (rounded half up) of the [steps / patch, channels] patches of `patch` steps."""
  total = steps // patch * channels
  chosen = np.zeros(total, bool)
  chosen[rng.choice(total, (percent * total + 50) // 100, replace=False)] = True
  return np.repeat(chosen.reshape(-1, channels), patch, axis=0)


def share_of_channels(percent: float, channels: int) -> int:
  """`percent` % of the channels, rounded half up; at least one is lost and one stays."""
  return min(max(1, math.floor(percent * channels / 100 + 0.5)), channels - 1)


def fullest_window(amount: Float[np.ndarray, " s"], length: int) -> slice:
  """The first window of `length` steps with the largest sum."""
  total = np.concatenate([[0.0], np.cumsum(amount)])
  start = int(np.argmax(np.round(total[length:] - total[:-length], 6)))
  return slice(start, start + length)


def motion_channel(schema: Schema) -> int | None:
  """The channel that shows a workout, or None."""
  return _first_named(schema, MOTION)


def heart_channel(schema: Schema) -> int | None:
  """The channel that is a heart rate, or None."""
  return _first_named(schema, HEART)


def _first_named(schema: Schema, words: Sequence[str]) -> int | None:
  return next((c for word in words for c, name in enumerate(schema.names) if word in name.lower()), None)


def _slices_obstacle(level: int, schema: Schema) -> str | None:
  shortest, longest = _slice_steps(schema)
  if longest < 1 or longest < 2 * shortest - 1:
    return f"slices of 30 to 60 min are not whole steps of {schema.minutes_per_step} min"
  total = _total(level, schema)
  if total < shortest:
    return f"shorter than a slice of {SLICE_MINUTES[0]} min"
  # A slice of the shortest length for each free step is the worst draw.
  return "slices leave no room between them" if -(-total // shortest) > schema.steps - total + 1 else None


def _slice_steps(schema: Schema) -> tuple[int, int]:
  shortest, longest = SLICE_MINUTES
  return max(1, math.ceil(shortest / schema.minutes_per_step)), longest // schema.minutes_per_step


def _total(level: int, schema: Schema) -> int:
  return (level * schema.steps + 50) // 100


def _slices(rng: np.random.Generator, level: int, schema: Schema) -> Bool[np.ndarray, " s"]:
  """Slices of 30 to 60 min with at least one step between them, together exactly `level` % of the day."""
  shortest, longest = _slice_steps(schema)
  lengths, left = [], _total(level, schema)
  while left > longest:
    lengths.append(int(rng.integers(shortest, min(longest, left - shortest) + 1)))
    left -= lengths[-1]
  lengths.append(left)
  free = schema.steps - sum(lengths)
  # Each slice stands before one of the free steps, or at the end of the day.
  places = np.sort(rng.choice(free + 1, len(lengths), replace=False))
  order = rng.permutation(lengths)
  day = np.zeros(schema.steps, bool)
  before = 0
  for place, length in zip(places, order, strict=True):
    day[place + before : place + before + length] = True
    before += int(length)
  return day


def _sleep(schema: Schema, values: np.ndarray, asleep: np.ndarray | None) -> np.ndarray | None:
  """Share of each step asleep, float [S]: by the events, or else by a binary channel named sleep; None if unknown."""
  if asleep is not None and asleep.any():
    return asleep.astype(np.float64)
  for c, channel in enumerate(schema.channels):
    if channel.kind == "binary" and "sleep" in channel.name.lower():
      slept = np.nan_to_num(values[:, c]).astype(np.float64)
      return slept if slept.any() else None
  return None


def _motion(schema: Schema, values: np.ndarray) -> np.ndarray | None:
  """Motion of each step, float [S], 0 where not observed; None if there is none all day."""
  channel = motion_channel(schema)
  assert channel is not None  # obstacle() has checked it
  moved = np.nan_to_num(values[:, channel]).astype(np.float64)
  return moved if moved.max(initial=0) > 0 else None


def _high_heart_rate(level: int, schema: Schema, values: np.ndarray) -> Hidden:
  """Hides all channels of the heart rate's sensor, half an hour around every step above `level`."""
  heart = heart_channel(schema)
  assert heart is not None  # obstacle() has checked it
  sensor = schema.channels[heart].sensor
  lost = np.array(
    [c == heart or bool(sensor and channel.sensor == sensor) for c, channel in enumerate(schema.channels)]
  )
  high = np.nan_to_num(values[:, heart]) > level
  around = 2 * (AROUND_MINUTES // schema.minutes_per_step) + 1
  near = np.convolve(high, np.ones(around), mode="full")[around // 2 :][: len(high)] > 0.5
  return near[:, None] & lost
