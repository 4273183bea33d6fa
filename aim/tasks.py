"""The four generative tasks: which cells of a day are hidden from an imputer, and then scored.

The cells are a pure function of (task, participant, day, seed), never of a model, so that every method is asked for
exactly the same ones.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Sequence

import numpy as np

from data_pipelines.schema import MINUTES_PER_DAY, Schema

Integer = int | np.integer

UNITS = {"random": "%", "interpolation": "min", "extrapolation": "min", "sensor": "channels"}


@dataclasses.dataclass(frozen=True)
class Task:
  """One generative task; ValueError for an unknown name or a level out of range.

  Attributes:
    name: "random" (patches anywhere), "interpolation" (one gap inside the day), "extrapolation" (the end of the day) or
      "sensor" (channels lost for the whole day).
    level: percent of the patches; minutes; minutes; channels.
  """

  name: str
  level: int

  def __post_init__(self) -> None:
    if self.name not in UNITS:
      raise ValueError(f"task: name is {self.name!r}, expected one of {', '.join(UNITS)}")
    if isinstance(self.level, bool) or not isinstance(self.level, int) or self.level < 1:
      raise ValueError(f"task {self.name}: level is {self.level!r}, expected a whole number of {UNITS[self.name]}")
    if self.name == "random" and self.level > 99:
      raise ValueError(f"task random: level is {self.level}, expected 1 to 99 %")

  @property
  def label(self) -> str:
    """For people, such as "interpolation 180 min"."""
    return f"{self.name} {self.level} {'channel' if self.name == 'sensor' and self.level == 1 else UNITS[self.name]}"


def generative_tasks(
  schema: Schema,
  random: Sequence[int] = (30, 50, 80),
  interpolation: Sequence[int] = (10, 30, 60, 180),
  extrapolation: Sequence[int] = (10, 30, 60, 180),
  sensor: Sequence[int] = (2, 6, 12),
) -> tuple[tuple[Task, ...], tuple[str, ...]]:
  """The tasks that make sense on `schema`, and one line for each that was left out, telling why.

  The default levels are those of LSM-1 and LSM-2.
  """
  levels = {"random": random, "interpolation": interpolation, "extrapolation": extrapolation, "sensor": sensor}
  tasks = [Task(name, level) for name, of_name in levels.items() for level in of_name]
  obstacles = {task: _obstacle(task, schema) for task in tasks}
  kept = tuple(task for task, obstacle in obstacles.items() if obstacle is None)
  left_out = tuple(f"{task.label}: {obstacle}" for task, obstacle in obstacles.items() if obstacle is not None)
  return kept, left_out


def hidden_cells(
  task: Task, schema: Schema, participant: str, day: Integer, seed: Integer, patch_minutes: int
) -> np.ndarray:
  """Cells of one day that the task hides.

  random: exactly `level` % (rounded half up) of the patches of patch_minutes x 1 channel. interpolation: one gap in all
  channels, at any step such that the first and the last step stay. extrapolation: the last minutes, all channels.
  sensor: `level` channels, the whole day. Minutes are rounded to the nearest number of steps.

  Args:
    task: what to hide.
    schema: gives steps S and channels C.
    participant: whose day it is.
    day: its number, as in `Day.day`.
    seed: of the evaluation.
    patch_minutes: size of the `random` task's patches; the other tasks do not use it.

  Returns:
    bool [S, C], True where hidden, whether the sensor gave a number there or not.

  Raises:
    ValueError: the task is impossible on the schema, or patch_minutes does not divide the day into whole steps.
  """
  obstacle = _obstacle(task, schema)
  if obstacle is not None:
    raise ValueError(f"task {task.label}: {obstacle}")
  rng = _generator(task, participant, day, seed)
  steps, channels = schema.steps, len(schema.channels)
  hidden = np.zeros((steps, channels), bool)
  if task.name == "random":
    hidden = _random_patches(rng, task.level, _patch_steps(schema, patch_minutes), steps, channels)
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
  task: Task,
  schema: Schema,
  participants: Sequence[str] | np.ndarray,
  days: Sequence[int] | np.ndarray,
  seed: Integer,
  patch_minutes: int,
) -> np.ndarray:
  """`hidden_cells` of several days: bool [D, S, C] for participants [D] and days [D]."""
  rows = [
    hidden_cells(task, schema, participant, day, seed, patch_minutes)
    for participant, day in zip(participants, days, strict=True)
  ]
  return np.stack(rows) if rows else np.zeros((0, schema.steps, len(schema.channels)), bool)


def target_cells(hidden: np.ndarray, values: np.ndarray) -> np.ndarray:
  """bool [..., S, C]: the cells that are scored, hidden by the task and really observed (`values` not NaN)."""
  return hidden & ~np.isnan(values)


def _gap_steps(task: Task, schema: Schema) -> int:
  return max(1, round(task.level / schema.minutes_per_step))


def _obstacle(task: Task, schema: Schema) -> str | None:
  """Why the task cannot be posed on the schema, or None."""
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


def _random_patches(rng: np.random.Generator, percent: int, patch: int, steps: int, channels: int) -> np.ndarray:
  """bool [steps, channels] with exactly percent % of the [steps / patch, channels] patches True."""
  total = steps // patch * channels
  chosen = np.zeros(total, bool)
  chosen[rng.choice(total, (percent * total + 50) // 100, replace=False)] = True
  return np.repeat(chosen.reshape(-1, channels), patch, axis=0)


def _generator(task: Task, participant: str, day: Integer, seed: Integer) -> np.random.Generator:
  key = json.dumps([int(seed), task.name, task.level, str(participant), int(day)])
  digest = hashlib.blake2b(key.encode(), digest_size=16).digest()
  return np.random.default_rng(int.from_bytes(digest, "little"))
