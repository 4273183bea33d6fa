"""The generative tasks: which cells of a day are hidden from an imputer, and then scored.

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

from aim.evaluation.generative import scenarios
from data_pipelines.schema import MINUTES_PER_DAY, Schema

Integer = int | np.integer

UNITS = {"random": "%", "interpolation": "min", "extrapolation": "min", "sensor": "channels"} | scenarios.UNITS


@dataclasses.dataclass(frozen=True)
class GenerativeTask:
  """One generative task; ValueError for an unknown name or a level out of range.

  Attributes:
    name: "random" (patches anywhere), "interpolation" (one gap inside the day), "extrapolation" (the end of the day),
      "sensor" (channels lost for the whole day), or a scenario:
      "patches" (random, of 30 minutes), "slices" (30 to 60 minutes of all channels), "channels" (lost all day), "sleep"
      (the hours of most sleep), "workout" (the hour of most motion), "high_heart_rate" (the heart sensor around it).
    level: how much, in UNITS; of a high heart rate, above how many beats a minute.
  """

  name: str
  level: int

  def __post_init__(self) -> None:
    if self.name not in UNITS:
      raise ValueError(f"task: name is {self.name!r}, expected one of {', '.join(UNITS)}")
    if isinstance(self.level, bool) or not isinstance(self.level, int) or self.level < 1:
      raise ValueError(f"task {self.name}: level is {self.level!r}, expected a whole number of {UNITS[self.name]}")
    if UNITS[self.name] == "%" and self.level > 99:
      raise ValueError(f"task {self.name}: level is {self.level}, expected 1 to 99 %")

  @property
  def label(self) -> str:
    """For people, such as "interpolation 180 min"."""
    return f"{self.name} {self.amount}"

  @property
  def amount(self) -> str:
    """The level with its unit, such as "180 min"."""
    return f"{self.level} {'channel' if self.name == 'sensor' and self.level == 1 else UNITS[self.name]}"


def generative_tasks(
  schema: Schema,
  random: Sequence[int] = (30, 50, 80),
  interpolation: Sequence[int] = (10, 30, 60, 180),
  extrapolation: Sequence[int] = (10, 30, 60, 180),
  sensor: Sequence[int] = (2, 6, 12),
  sensor_of: int = 26,
  public: Mapping[str, int] = scenarios.LEVELS,
) -> tuple[tuple[GenerativeTask, ...], tuple[str, ...]]:
  """The tasks that make sense on `schema`, and one line for each that was left out or changed, telling why.

  The default levels are those of LSM-1 and LSM-2, and of the public scenarios.

  Args:
    random, interpolation, extrapolation, sensor: levels of these tasks.
    sensor_of: a sensor level that the schema has too few channels for is replaced by its share of so many channels, as
      2 of 26 is 1 of 8; 0: such a level is left out.
    public: {scenario: level}.
  """
  levels: dict[str, Sequence[int]] = {"random": random, "interpolation": interpolation, "extrapolation": extrapolation}
  levels |= {"sensor": sensor} | {name: (level,) for name, level in public.items()}
  tasks = [GenerativeTask(name, level) for name, of_name in levels.items() for level in of_name]
  kept: dict[GenerativeTask, None] = {}
  told = []
  for task in tasks:
    obstacle = _obstacle(task, schema)
    share = _share(task, schema, sensor_of) if obstacle else None
    if obstacle:
      instead = f"; its share of {sensor_of} is taken: {share.amount}" if share else ""
      told.append(f"{task.label}: {obstacle}{instead}")
    if share or not obstacle:
      kept[share or task] = None
  return tuple(sorted(kept, key=lambda task: (list(levels).index(task.name), task.level))), tuple(told)


def _share(task: GenerativeTask, schema: Schema, sensor_of: int) -> GenerativeTask | None:
  """The sensor task of as large a share of the channels; None for other tasks, and where there is one channel."""
  channels = len(schema.channels)
  if task.name != "sensor" or not task.level < sensor_of or channels < 2:
    return None
  return GenerativeTask("sensor", scenarios.share_of_channels(100 * task.level / sensor_of, channels))


def hidden_cells(
  task: GenerativeTask,
  schema: Schema,
  participant: str,
  day: Integer,
  seed: Integer,
  patch_minutes: int,
  values: np.ndarray | None = None,
  asleep: np.ndarray | None = None,
) -> np.ndarray:
  """Cells of one day that the task hides.

  random: exactly `level` % (rounded half up) of the patches of patch_minutes x 1 channel. interpolation: one gap in all
  channels, at any step such that the first and the last step stay. extrapolation: the last minutes, all channels.
  sensor: `level` channels, the whole day. Minutes are rounded to the nearest number of steps.

  patches: as random, of 30 minutes. slices: gaps of 30 to 60 min in all channels, `level` % of the day. channels: that
  share of the channels, the whole day. sleep: the `level` minutes with most sleep by the events, else by a binary
  channel named sleep, else those after midnight. workout: the `level` minutes with most motion, by the first channel
  that shows it. high_heart_rate: all channels of the heart rate's sensor, half an hour around every step above `level`.

  Args:
    task: what to hide.
    schema: gives steps S and channels C.
    participant: whose day it is.
    day: its number, as in `Day.day`.
    seed: of the evaluation.
    patch_minutes: size of the `random` task's patches; the other tasks do not use it.
    values: [S, C] of the day in physical units, for the scenarios that follow them.
    asleep: bool [S] by the day's events, where known.

  Returns:
    bool [S, C], True where hidden, whether the sensor gave a number there or not.

  Raises:
    ValueError: the task is impossible on the schema, patch_minutes does not divide the day into whole steps, or the
      task needs values and there are none.
  """
  obstacle = _obstacle(task, schema)
  if obstacle is not None:
    raise ValueError(f"task {task.label}: {obstacle}")
  if task.name in scenarios.OF_VALUES and values is None:
    raise ValueError(f"task {task.label}: follows the day's values, and there are none")
  rng = _generator(task, participant, day, seed)
  if task.name in scenarios.UNITS:
    return scenarios.hidden(task.name, task.level, schema, rng, values, asleep)
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


def hidden_days(
  task: GenerativeTask,
  schema: Schema,
  participants: Sequence[str] | np.ndarray,
  days: Sequence[int] | np.ndarray,
  seed: Integer,
  patch_minutes: int,
  values: np.ndarray | None = None,
  asleep: np.ndarray | None = None,
) -> np.ndarray:
  """`hidden_cells` of several days: bool [D, S, C] for participants [D], days [D], values [D, S, C], asleep [D, S]."""
  of_day = lambda array, i: None if array is None else array[i]
  rows = [
    hidden_cells(task, schema, participant, day, seed, patch_minutes, of_day(values, i), of_day(asleep, i))
    for i, (participant, day) in enumerate(zip(participants, days, strict=True))
  ]
  return np.stack(rows) if rows else np.zeros((0, schema.steps, len(schema.channels)), bool)


def asked_days(task: GenerativeTask, days: int, most: int, seed: Integer) -> np.ndarray:
  """bool [days]: which of them a task is asked of, evenly, at most `most`; all where that is 0.

  Each task begins elsewhere, so that together they see more days.
  """
  if not most or most >= days:
    return np.ones(days, bool)
  first = _generator(task, "asked days", 0, seed).random()
  asked = np.zeros(days, bool)
  asked[((np.arange(most) + first) * days / most).astype(int)] = True
  return asked


def target_cells(hidden: np.ndarray, values: np.ndarray) -> np.ndarray:
  """bool [..., S, C]: the cells that are scored, hidden by the task and really observed (`values` not NaN)."""
  return hidden & ~np.isnan(values)


def _gap_steps(task: GenerativeTask, schema: Schema) -> int:
  return max(1, round(task.level / schema.minutes_per_step))


def _obstacle(task: GenerativeTask, schema: Schema) -> str | None:
  """Why the task cannot be posed on the schema, or None."""
  if task.name in scenarios.UNITS:
    return scenarios.obstacle(task.name, task.level, schema)
  channels = len(schema.channels)
  if task.name == "sensor" and task.level >= channels:
    return f"the schema has {channels} channel{'s' * (channels != 1)}, at least one must remain"
  if task.name in ("interpolation", "extrapolation"):
    if task.level < schema.minutes_per_step:
      return f"shorter than a step of {schema.minutes_per_step} min"
    kept = 2 if task.name == "interpolation" else 1
    if _gap_steps(task, schema) > schema.steps - kept:
      return f"leaves fewer than {kept} of the day's {schema.steps} steps"
  return None


def _patch_steps(schema: Schema, patch_minutes: int) -> int:
  if patch_minutes < 1 or patch_minutes % schema.minutes_per_step or MINUTES_PER_DAY % patch_minutes:
    raise ValueError(
      f"task random: patch_minutes is {patch_minutes}, expected a divisor of {MINUTES_PER_DAY} "
      f"and a multiple of the step of {schema.minutes_per_step} min"
    )
  return patch_minutes // schema.minutes_per_step


def _generator(task: GenerativeTask, participant: str, day: Integer, seed: Integer) -> np.random.Generator:
  key = json.dumps([int(seed), task.name, task.level, str(participant), int(day)])
  digest = hashlib.blake2b(key.encode(), digest_size=16).digest()
  return np.random.default_rng(int.from_bytes(digest, "little"))
