"""What can be asked of a day or of a stretch of it, for --mode=probe and finetune: tasks from a dataset's own tables.

A label of a person (age, sex, hypertension) is asked of each of their days. Events are asked of stretches: where their
absence is known too (value 0), whether a window of some minutes has one; where they are bouts of the 20 activities of
LSM-2, which one a bout is (task "activity").
"""

from __future__ import annotations

import collections
import dataclasses
import difflib
from collections.abc import Mapping, Sequence
from typing import Any

import ml_collections
import numpy as np
from jaxtyping import Float, Int, Shaped

from aim.common.config_files import ConfigError
from aim.model.from_config import steps
from data_pipelines.dataset import Dataset
from data_pipelines.simulator.activities import ACTIVITIES

ACTIVITY = "activity"
_COLUMNS = ("participant", "split", "days")  # of the participants table that are no labels
_TRAINING = ("pretrain", "tune")
_MOST_CLASSES = 50

Window = tuple[int, int, float]  # start, end (steps, excluded), truth


@dataclasses.dataclass(frozen=True)
class LabelRows:
  """The rows of a task among some days.

  Attributes:
    day: which of the days, int [n].
    start, end: the steps asked about, end excluded, int [n]; the whole day for a label of a person.
    truth: a value, or the index of a class, float [n].
  """

  day: Int[np.ndarray, " n"]
  start: Int[np.ndarray, " n"]
  end: Int[np.ndarray, " n"]
  truth: Float[np.ndarray, " n"]

  def take(self, index: Any) -> LabelRows:
    return LabelRows(self.day[index], self.start[index], self.end[index], self.truth[index])


@dataclasses.dataclass(frozen=True)
class LabelTask:
  """One question with its answers.

  Attributes:
    name: the label's or the event's.
    kind: "binary", "multiclass" or "regression".
    level: "day" (a label of the person, asked of every day) or "window" (an event, asked of a stretch of a day).
    classes: names of the classes in order, the positive one of a binary task last; () for regression.
    people: truth of each person, level "day".
    windows: the stretches of each (participant, day), level "window".
  """

  name: str
  kind: str
  level: str
  classes: tuple[str, ...]
  people: Mapping[str, float] = dataclasses.field(default_factory=dict, repr=False)
  windows: Mapping[tuple[str, int], Sequence[Window]] = dataclasses.field(default_factory=dict, repr=False)

  def rows(self, participant: Shaped[np.ndarray, " d"], day: Int[np.ndarray, " d"], steps: int) -> LabelRows:
    """The rows of days known by their person and day number, in the order of the days; `steps` a day."""
    found: list[tuple[int, int, int, float]] = []
    for d, key in enumerate(zip(participant.tolist(), day.tolist(), strict=True)):
      if self.level == "window":
        found += [(d, *window) for window in self.windows.get(key, ())]
      elif key[0] in self.people:
        found.append((d, 0, steps, self.people[key[0]]))
    columns = list(zip(*found, strict=True)) or [(), (), (), ()]
    index, start, end = (np.array(column, np.int64) for column in columns[:3])
    return LabelRows(index, start, end, np.array(columns[3], np.float64))

  def people_by_class(self) -> dict[float, set[str]]:
    """Who has each class at least once."""
    found: dict[float, set[str]] = collections.defaultdict(set)
    for person, truth in self.people.items():
      found[truth].add(person)
    for (person, _), windows in self.windows.items():
      for _, _, truth in windows:
        found[truth].add(person)
    return found


def tasks(config: ml_collections.ConfigDict, dataset: Dataset) -> tuple[list[LabelTask], list[str]]:
  """The tasks of config.tasks, or all usable ones where it is empty, and a line for each label that is left out.

  Args:
    config: config.probe: tasks, min_people, min_people_a_class, window_minutes.

  Raises:
    ConfigError: a task that is asked for by name and does not exist, naming the nearest, or cannot be used.
  """
  found: dict[str, LabelTask] = {}
  left_out: dict[str, str] = {}
  for name, task in _all(config, dataset).items():
    reason = task if isinstance(task, str) else _unusable(task, config, dataset)
    if reason:
      left_out[name] = reason
    elif isinstance(task, LabelTask):
      found[name] = _common_classes(task, config, dataset)
  wanted = list(config.tasks)
  for name in wanted:
    if name in left_out:
      raise ConfigError(f"config.probe.tasks: {name!r} of dataset {dataset.name!r} cannot be used: {left_out[name]}")
    if name not in found:
      near = difflib.get_close_matches(name, list(found), n=1, cutoff=0.0)
      hint = f"the nearest is {near[0]!r}" if near else "it has no usable label"
      raise ConfigError(f"config.probe.tasks: dataset {dataset.name!r} has no label {name!r}; {hint}")
  if wanted:
    return [found[name] for name in wanted], []
  return list(found.values()), [f"{name}: {reason}" for name, reason in left_out.items()]


def _all(config: ml_collections.ConfigDict, dataset: Dataset) -> dict[str, LabelTask | str]:
  """Every label and event as a task, or the reason why it is none."""
  table = dataset.participants()
  people = table["participant"].to_pylist()
  found: dict[str, LabelTask | str] = {}
  for name in table.column_names:
    if name not in _COLUMNS:
      known = {p: v for p, v in zip(people, table[name].to_pylist(), strict=True) if v is not None}
      found[name] = _of_people(name, known)
  return found | _of_events(config, dataset)


def _of_people(name: str, known: Mapping[str, Any]) -> LabelTask | str:
  values = sorted(set(known.values()))
  if len(values) < 2:
    return f"everyone has {values[0]!r}" if values else "known of nobody"
  text = isinstance(values[0], str)
  if len(values) > 2 and not text:
    return LabelTask(name, "regression", "day", (), {person: float(value) for person, value in known.items()})
  if len(values) > max(2, min(_MOST_CLASSES, len(known) // 2)):
    return f"{len(values)} values among {len(known)} people: an identifier or free text"
  kind = "binary" if len(values) == 2 else "multiclass"
  truth = {person: float(values.index(value)) for person, value in known.items()}
  return LabelTask(name, kind, "day", tuple(_class_name(value) for value in values), truth)


def _class_name(value: Any) -> str:
  return f"{value:g}" if isinstance(value, float) else str(value)


def _of_events(config: ml_collections.ConfigDict, dataset: Dataset) -> dict[str, LabelTask | str]:
  stretches: dict[str, dict[tuple[str, int], list[Window]]] = collections.defaultdict(
    lambda: collections.defaultdict(list)
  )
  for event in dataset.events().to_pylist():
    key = event["participant"], event["day"]
    stretches[event["name"]][key].append((event["start"], event["end"], float(event["value"])))
  found: dict[str, LabelTask | str] = {}
  activities = [activity.name for activity in ACTIVITIES if activity.name in stretches]
  if len(activities) > 1:
    found[ACTIVITY] = _bouts(activities, stretches)
  # Never shorter than the data's own step, so that the default fits whatever data.
  minutes = max(config.window_minutes, dataset.schema.minutes_per_step)
  length = steps(minutes, dataset.schema, "config.probe.window_minutes") if stretches else 0
  for name, days in stretches.items():
    absent = any(value == 0 for windows in days.values() for _, _, value in windows)
    if absent:
      cut = {key: _cut(windows, length, dataset.schema.steps) for key, windows in days.items()}
      found[name] = LabelTask(name, "binary", "window", ("0", "1"), {}, cut)
    elif name not in activities:
      found[name] = "its absence is never recorded"
  return found


def _bouts(names: Sequence[str], stretches: Mapping[str, Mapping[tuple[str, int], Sequence[Window]]]) -> LabelTask:
  windows: dict[tuple[str, int], list[Window]] = collections.defaultdict(list)
  for index, name in enumerate(names):
    for key, bouts in stretches[name].items():
      windows[key] += [(start, end, float(index)) for start, end, value in bouts if value]
  kind = "multiclass" if len(names) > 2 else "binary"
  ordered = {key: sorted(bouts) for key, bouts in windows.items()}
  return LabelTask(ACTIVITY, kind, "window", tuple(names), {}, ordered)


def _cut(stretches: Sequence[Window], length: int, day: int) -> list[Window]:
  """Windows of `length` steps from midnight on that are labelled for half of their time or more, by majority."""
  labelled, present = np.zeros((2, day), np.int64)
  for start, end, value in stretches:
    labelled[start:end] = 1
    present[start:end] = value
  found = []
  for start in range(0, day - length + 1, length):
    known, yes = labelled[start : start + length].sum(), present[start : start + length].sum()
    if 2 * known >= length and 2 * yes != known:
      found.append((start, start + length, float(2 * yes > known)))
  return found


def _unusable(task: LabelTask, config: ml_collections.ConfigDict, dataset: Dataset) -> str:
  """Why a task cannot be learnt and scored on the dataset's splits; "" if it can."""
  by_class = task.people_by_class()
  everyone = set().union(*by_class.values()) if by_class else set()
  if len(everyone) < config.min_people:
    return f"known of {len(everyone)} people, fewer than {config.min_people} (config.probe.min_people)"
  training = {person for split in _TRAINING for person in dataset.people(split)}
  if len(everyone - training) < 2:
    return f"known of {len(everyone - training)} people of split 'eval', expected at least 2"
  if task.kind == "regression":
    return "" if len(everyone & training) > 1 else "known of nobody to train on"
  enough = [c for c, people in by_class.items() if len(people & training) >= config.min_people_a_class]
  if len(enough) < 2:
    counts = ", ".join(f"{task.classes[int(c)]}: {len(by_class[c] & training)}" for c in sorted(by_class))
    return f"one class has fewer than {config.min_people_a_class} people to train on ({counts})"
  return ""


def _common_classes(task: LabelTask, config: ml_collections.ConfigDict, dataset: Dataset) -> LabelTask:
  """The task without the classes that too few training people have."""
  if task.kind != "multiclass":
    return task
  training = {person for split in _TRAINING for person in dataset.people(split)}
  by_class = task.people_by_class()
  kept = [c for c in sorted(by_class) if len(by_class[c] & training) >= config.min_people_a_class]
  place = {c: float(i) for i, c in enumerate(kept)}
  return dataclasses.replace(
    task,
    kind="multiclass" if len(kept) > 2 else "binary",
    classes=tuple(task.classes[int(c)] for c in kept),
    people={person: place[c] for person, c in task.people.items() if c in place},
    windows={
      key: [(start, end, place[c]) for start, end, c in windows if c in place] for key, windows in task.windows.items()
    },
  )
