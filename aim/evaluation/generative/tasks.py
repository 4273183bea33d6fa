"""The generative tasks: which values of a day are hidden from every method and then scored.

Four are those of LSM-1 and LSM-2, six are the public scenarios (aim/evaluation/generative/scenarios.py). What is hidden
is a pure function of (task, participant, day, seed) and for some scenarios of the day's values, never of a model, so
every method fills exactly the same values.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Bool, Float

from aim.evaluation.generative import scenarios
from data_pipelines.schema import MINUTES_PER_DAY, Schema

Integer = int | np.integer

UNITS = {"random": "%", "interpolation": "min", "extrapolation": "min", "sensor": "channels"} | scenarios.UNITS


@dataclasses.dataclass(frozen=True)
class GenerativeTask:
  """One generative task. `hidden_values` says exactly what each hides.

  Attributes:
    name: "random" (patches anywhere), "interpolation" (one gap inside the day), "extrapolation" (the end of the day),
      "sensor" (channels lost for the whole day), or a scenario: "patches" (random, 30 minutes long), "slices" (30 to 60
      minutes of all channels), "channels" (lost all day), "sleep" (the hours with most sleep), "workout" (the hour with
      most motion), "high_heart_rate" (the heart sensor while the heart races).
    level: how much is hidden, in UNITS; for high_heart_rate the rate above which the sensor is lost.

  Raises:
    ValueError: the name is unknown or the level is out of range.
  """

  name: str
  level: int

  def __post_init__(self) -> None:
    if self.name not in UNITS:
      raise ValueError(f"task: name is {self.name!r}, expected one of {', '.join(UNITS)}")
    if isinstance(self.level, bool) or not isinstance(self.level, int | np.integer) or self.level < 1:
      raise ValueError(f"task {self.name}: level is {self.level!r}, expected a whole number of {UNITS[self.name]}")
    if UNITS[self.name] == "%" and self.level > 99:
      raise ValueError(f"task {self.name}: level is {self.level}, expected 1 to 99 %")

  @property
  def label(self) -> str:
    """The task as people read it, such as "interpolation 180 min"."""
    return f"{self.name} {self.amount}"

  @property
  def amount(self) -> str:
    """The level with its unit, such as "180 min"."""
    return f"{self.level} {'channel' if self.name == 'sensor' and self.level == 1 else UNITS[self.name]}"


def generative_tasks(
  schema: Schema,
  random: Sequence[int],
  interpolation: Sequence[int],
  extrapolation: Sequence[int],
  sensor: Sequence[int],
  sensor_of: int,
  public: Mapping[str, int],
) -> tuple[tuple[GenerativeTask, ...], tuple[str, ...]]:
  """Chooses the tasks that are possible on the schema.

  Args:
    schema: steps and channels of the days.
    random, interpolation, extrapolation, sensor: levels of these tasks.
    sensor_of: a sensor level that the schema has too few channels for becomes the same share of its channels as the
      level is of this number, as 2 of 26 is 1 of 8; 0 leaves such a level out.
    public: {scenario: level}.

  Returns:
    The tasks, and one line for each that was left out or changed, with the reason.

  Raises:
    ValueError: a name is unknown or a level is out of range.
  """
  levels: dict[str, Sequence[int]] = {"random": random, "interpolation": interpolation, "extrapolation": extrapolation}
  levels |= {"sensor": sensor} | {name: (level,) for name, level in public.items()}
  possible: dict[GenerativeTask, None] = {}
  notes = []
  for task in (GenerativeTask(name, level) for name, of_name in levels.items() for level in of_name):
    obstacle = _obstacle(task, schema)
    share = _share(task, schema, sensor_of) if obstacle else None
    if obstacle:
      instead = f"; replaced by its share of {sensor_of}: {share.amount}" if share else ""
      notes.append(f"{task.label}: {obstacle}{instead}")
    if share or not obstacle:
      possible[share or task] = None
  return tuple(sorted(possible, key=lambda task: (list(levels).index(task.name), task.level))), tuple(notes)


def _share(task: GenerativeTask, schema: Schema, sensor_of: int) -> GenerativeTask | None:
  """The sensor task for the same share of the channels; None for other tasks and where there is one channel."""
  channels = len(schema.channels)
  if task.name != "sensor" or not task.level < sensor_of or channels < 2:
    return None
  return GenerativeTask("sensor", scenarios.share_of_channels(100 * task.level / sensor_of, channels))


def hidden_values(
  task: GenerativeTask,
  schema: Schema,
  participant: str,
  day: Integer,
  seed: Integer,
  patch_minutes: int,
  values: Float[np.ndarray, "s c"] | None = None,
  asleep: Bool[np.ndarray, " s"] | None = None,
) -> Bool[np.ndarray, "s c"]:
  """The values of one day that the task hides.

  random: exactly `level` % (rounded half up) of the patches of patch_minutes x 1 channel. interpolation: one gap in all
  channels, at any step such that the first and the last step stay. extrapolation: the last minutes, all channels.
  sensor: `level` channels, the whole day. Minutes are rounded to the nearest number of steps.

  patches: as random, with patches of 30 minutes. slices: gaps of 30 to 60 min in all channels, `level` % of the day.
  channels: that share of the channels, the whole day. sleep: the `level` minutes with most sleep by the events, or else
  by a binary channel named sleep, or else those after midnight. workout: the `level` minutes with most motion, by the
  first channel that shows it. high_heart_rate: all channels of the heart rate's sensor, half an hour around every step
  above `level`.

  Args:
    task: what to hide.
    schema: gives steps S and channels C.
    participant: whose day it is.
    day: its number, as in the dataset.
    seed: seed of the evaluation.
    patch_minutes: size of the `random` task's patches; the other tasks do not use it.
    values: the day in physical units, for the scenarios that depend on them.
    asleep: the steps asleep by the day's events, where known.

  Returns:
    True where hidden, whether the sensor gave a number there or not.

  Raises:
    ValueError: the task is impossible on the schema, patch_minutes does not divide the day into whole steps, or the
      task needs values and there are none.
  """
  obstacle = _obstacle(task, schema)
  if obstacle is not None:
    raise ValueError(f"task {task.label}: {obstacle}")
  if task.name in scenarios.OF_VALUES and values is None:
    raise ValueError(f"task {task.label}: depends on the day's values, and there are none")
  rng = _generator(task, participant, day, seed)
  if task.name in scenarios.UNITS:
    return scenarios.hidden_by(task.name, task.level, schema, rng, values, asleep)
  steps, channels = schema.steps, len(schema.channels)
  hidden = np.zeros((steps, channels), bool)
  if task.name == "random":
    hidden = scenarios.random_patches(rng, task.level, _patch_steps(schema, patch_minutes), steps, channels)
  elif task.name == "interpolation":
    gap = _gap_steps(task, schema)
    start = int(rng.integers(1, steps - gap))  # start + gap <= steps - 1: the last step stays
    hidden[start : start + gap] = True
  elif task.name == "extrapolation":
    hidden[steps - _gap_steps(task, schema) :] = True
  else:
    hidden[:, rng.choice(channels, task.level, replace=False)] = True
  return hidden


def hidden_in_days(
  task: GenerativeTask,
  schema: Schema,
  participants: Sequence[str] | np.ndarray,
  days: Sequence[int] | np.ndarray | range,
  seed: Integer,
  patch_minutes: int,
  values: Float[np.ndarray, "d s c"] | None = None,
  asleep: Bool[np.ndarray, "d s"] | None = None,
) -> Bool[np.ndarray, "d s c"]:
  """`hidden_values` of D days, for participants [D] and day numbers [D]."""
  of_day = lambda array, i: None if array is None else array[i]
  hidden = [
    hidden_values(task, schema, participant, day, seed, patch_minutes, of_day(values, i), of_day(asleep, i))
    for i, (participant, day) in enumerate(zip(participants, days, strict=True))
  ]
  return np.stack(hidden) if hidden else np.zeros((0, schema.steps, len(schema.channels)), bool)


def scored_days(task: GenerativeTask, days: int, most: int, seed: Integer) -> Bool[np.ndarray, " days"]:
  """Mask of the days that a task is scored on: at most `most`, spread evenly, or all where `most` is 0.

  Each task begins at another day, so that together the tasks see more days.
  """
  if not most or most >= days:
    return np.ones(days, bool)
  first = _generator(task, "asked days", 0, seed).random()  # the text is part of the draw: changing it changes scores
  scored = np.zeros(days, bool)
  scored[((np.arange(most) + first) * days / most).astype(int)] = True
  return scored


def scored_values(
  hidden: Bool[np.ndarray, "*days c"], values: Float[np.ndarray, "*days c"]
) -> Bool[np.ndarray, "*days c"]:
  """The values that are scored: hidden by the task and really observed (`values` not NaN)."""
  return hidden & ~np.isnan(values)


def _gap_steps(task: GenerativeTask, schema: Schema) -> int:
  return max(1, round(task.level / schema.minutes_per_step))


def _obstacle(task: GenerativeTask, schema: Schema) -> str | None:
  """Why the task is impossible on the schema, or None."""
  if task.name in scenarios.UNITS:
    return scenarios.obstacle(task.name, task.level, schema)
  channels = len(schema.channels)
  if task.name == "sensor" and task.level >= channels:
    return f"the schema has {channels} channel{'s' * (channels != 1)}, at least one must remain"
  if task.name in ("interpolation", "extrapolation"):
    if task.level < schema.minutes_per_step:
      return f"shorter than a step of {schema.minutes_per_step} min"
    fewest = 2 if task.name == "interpolation" else 1
    if _gap_steps(task, schema) > schema.steps - fewest:
      return f"leaves fewer than {fewest} of the day's {schema.steps} steps"
  return None


def _patch_steps(schema: Schema, patch_minutes: int) -> int:
  if patch_minutes < 1 or patch_minutes % schema.minutes_per_step or MINUTES_PER_DAY % patch_minutes:
    raise ValueError(
      f"task random: config.evaluate.random_patch_minutes is {patch_minutes}, expected a divisor of {MINUTES_PER_DAY} "
      f"and a multiple of the step of {schema.minutes_per_step} min"
    )
  return patch_minutes // schema.minutes_per_step


def _generator(task: GenerativeTask, participant: str, day: Integer, seed: Integer) -> np.random.Generator:
  key = json.dumps([int(seed), task.name, task.level, str(participant), int(day)])
  digest = hashlib.blake2b(key.encode(), digest_size=16).digest()
  return np.random.default_rng(int.from_bytes(digest, "little"))
