"""The questions that --mode=probe and --mode=finetune ask about a day, derived from a dataset's own tables.

A label of a person (age, sex, hypertension) is a question about each of their days. An event is a question about a
window of some minutes, where its absence is recorded too (value 0): does the window contain it? Bouts of events that
exclude each other, such as the 20 activities of LSM-2, make one multi-class question: which of them is this bout?
"""

from __future__ import annotations

import collections
import dataclasses
import difflib
from collections.abc import Mapping, Sequence
from typing import Any

import ml_collections
import numpy as np
from jaxtyping import Bool, Float, Int, Shaped

from aim.common.config_files import ConfigError
from aim.model.from_config import steps
from data_pipelines.dataset import Dataset
from data_pipelines.source import LARGEST_LABEL
from data_pipelines.text_files import counted

_NOT_LABELS = ("participant", "split", "days")  # columns of the participants table
_TRAINING_SPLITS = ("pretrain", "tune")
_MAX_CLASSES = 50

Window = tuple[int, int, float]  # start, end (steps, end excluded), truth
_DayWindows = Mapping[tuple[str, int], Sequence[Window]]  # by (participant, day number)


@dataclasses.dataclass(frozen=True)
class LabelRows:
  """The labelled rows of a task on some days.

  Attributes:
    day: index of the day of each row, int [n].
    start, end: the steps that a row is about, end excluded, int [n]; the whole day for a label of a person.
    truth: a value, or the index of a class, float [n].
  """

  day: Int[np.ndarray, " n"]
  start: Int[np.ndarray, " n"]
  end: Int[np.ndarray, " n"]
  truth: Float[np.ndarray, " n"]

  def take(self, index: Int[np.ndarray, " m"] | Bool[np.ndarray, " n"]) -> LabelRows:
    """The rows at an index array, or where a mask is True."""
    return LabelRows(self.day[index], self.start[index], self.end[index], self.truth[index])


@dataclasses.dataclass(frozen=True)
class LabelTask:
  """One question and its answers.

  Attributes:
    name: name of the label, the event, or the group of events.
    kind: "binary", "multiclass" or "regression".
    level: "day" (a label of the person, the same on every day) or "window" (an event within a day).
    classes: names of the classes in order, the positive one of a binary task last; () for regression.
    people: truth by person, for level "day".
    windows: windows by (participant, day number), for level "window".
  """

  name: str
  kind: str
  level: str
  classes: tuple[str, ...]
  people: Mapping[str, float] = dataclasses.field(default_factory=dict, repr=False)
  windows: _DayWindows = dataclasses.field(default_factory=dict, repr=False)

  def rows(self, participant: Shaped[np.ndarray, " d"], day: Int[np.ndarray, " d"], steps: int) -> LabelRows:
    """All labelled rows of these days, in the order of the days.

    Args:
      participant, day: the person and the day number of each day.
      steps: steps per day.
    """
    rows: list[tuple[int, int, int, float]] = []
    for d, key in enumerate(zip(participant.tolist(), day.tolist(), strict=True)):
      if self.level == "window":
        rows += [(d, *window) for window in self.windows.get(key, ())]
      elif key[0] in self.people:
        rows.append((d, 0, steps, self.people[key[0]]))
    columns = list(zip(*rows, strict=True)) or [(), (), (), ()]
    index, start, end = (np.array(column, np.int64) for column in columns[:3])
    return LabelRows(index, start, end, np.array(columns[3], np.float64))

  def observed_rows(
    self,
    participant: Shaped[np.ndarray, " d"],
    day: Int[np.ndarray, " d"],
    values: Float[np.ndarray, "d s c"],
  ) -> LabelRows:
    """`rows`, without the windows in which no channel was observed; a label of a person keeps all of its days."""
    rows = self.rows(participant, day, values.shape[1])
    if self.level == "day":
      return rows
    observed = ~np.isnan(values).all(axis=2)
    windows = zip(rows.day, rows.start, rows.end, strict=True)
    return rows.take(np.array([observed[d, start:end].any() for d, start, end in windows], bool))

  def people_by_class(self) -> dict[float, set[str]]:
    """The people who have each truth at least once."""
    people: dict[float, set[str]] = collections.defaultdict(set)
    for person, truth in self.people.items():
      people[truth].add(person)
    for (person, _), windows in self.windows.items():
      for _, _, truth in windows:
        people[truth].add(person)
    return people


def usable_tasks(
  config: ml_collections.ConfigDict, dataset: Dataset, key: str = "config.probe.tasks"
) -> tuple[list[LabelTask], list[str]]:
  """The tasks in config.tasks, or all usable ones if it is empty; and one line for each label that is left out.

  Args:
    config: config.probe: tasks, min_people, min_people_a_class, window_minutes.
    dataset: has the labels.
    key: of the config that names the tasks, for messages.

  Raises:
    ConfigError: a requested task does not exist (the message names the nearest) or cannot be used.
  """
  usable: dict[str, LabelTask] = {}
  left_out: dict[str, str] = {}
  for name, task in (_person_tasks(dataset) | _event_tasks(config, dataset)).items():
    reason = task if isinstance(task, str) else _unusable(task, config, dataset)
    if reason:
      left_out[name] = reason
    elif isinstance(task, LabelTask):
      usable[name] = common_classes(task, config, dataset)
  requested = list(config.tasks)
  for name in requested:
    if name in left_out:
      raise ConfigError(f"{key}: {name!r} of dataset {dataset.name!r} cannot be used: {left_out[name]}")
    if name not in usable:
      nearest = difflib.get_close_matches(name, list(usable), n=1, cutoff=0.0)
      hint = f"the nearest is {nearest[0]!r}" if nearest else "it has no usable label"
      raise ConfigError(f"{key}: dataset {dataset.name!r} has no label {name!r}; {hint}")
  if requested:
    return [usable[name] for name in requested], []
  return list(usable.values()), [f"{name}: {reason}" for name, reason in left_out.items()]


def _person_tasks(dataset: Dataset) -> dict[str, LabelTask | str]:
  """Each label of the participants table as a task, or the reason why it is none."""
  table = dataset.participants()
  people = table["participant"].to_pylist()
  tasks: dict[str, LabelTask | str] = {}
  for name in table.column_names:
    if name not in _NOT_LABELS:
      labels = {p: v for p, v in zip(people, table[name].to_pylist(), strict=True) if v is not None}
      tasks[name] = _person_task(name, labels)
  return tasks


def _person_task(name: str, labels: Mapping[str, Any]) -> LabelTask | str:
  values = sorted(set(labels.values()))
  if len(values) < 2:
    return f"everyone has {values[0]!r}" if values else "known of nobody"
  is_text = isinstance(values[0], str)
  if len(values) > 2 and not is_text:
    numbers = np.array(values, np.float64)
    if len(np.unique(numbers)) < len(values):
      return f"has integers beyond 2^53, such as {max(values, key=abs)}, which are equal as numbers: an identifier"
    if np.abs(numbers).max() > LARGEST_LABEL or not numbers.std() > 0:
      return f"{values[0]} to {values[-1]} is beyond the numbers that can be learnt"
    return LabelTask(name, "regression", "day", (), {person: float(value) for person, value in labels.items()})
  if len(values) > max(2, min(_MAX_CLASSES, len(labels) // 2)):
    return f"{counted(len(values), 'value')} among {counted(len(labels), 'person')}: an identifier or free text"
  kind = "binary" if len(values) == 2 else "multiclass"
  truth = {person: float(values.index(value)) for person, value in labels.items()}
  return LabelTask(name, kind, "day", tuple(_class_name(value) for value in values), truth)


def _class_name(value: Any) -> str:
  short = f"{value:g}" if isinstance(value, float) else str(value)
  return short if not isinstance(value, float) or float(short) == value else repr(value)


def _event_tasks(config: ml_collections.ConfigDict, dataset: Dataset) -> dict[str, LabelTask | str]:
  """Each event and each group of exclusive events as a task, or the reason why it is none."""
  stretches: dict[str, dict[tuple[str, int], list[Window]]] = collections.defaultdict(
    lambda: collections.defaultdict(list)
  )
  for event in dataset.events().to_pylist():
    key = event["participant"], event["day"]
    stretches[event["name"]][key].append((event["start"], event["end"], float(event["value"])))
  tasks: dict[str, LabelTask | str] = {}
  grouped: set[str] = set()
  for group, names in dataset.exclusive_events().items():
    occurring = [name for name in names if name in stretches]
    grouped.update(occurring)
    if len(occurring) > 1:
      tasks[group] = _bout_task(group, occurring, stretches)
  # At least one step of the data, so that the default fits every dataset.
  minutes = max(config.window_minutes, dataset.schema.minutes_per_step)
  length = steps(minutes, dataset.schema, "config.probe.window_minutes") if stretches else 0
  for name, days in stretches.items():
    absence_recorded = any(value == 0 for windows in days.values() for _, _, value in windows)
    if absence_recorded:
      windows = {key: majority_windows(events, length, dataset.schema.steps) for key, events in days.items()}
      tasks[name] = LabelTask(name, "binary", "window", ("0", "1"), {}, windows)
    elif name not in grouped:
      tasks[name] = "its absence is never recorded"
  return tasks


def _bout_task(group: str, names: Sequence[str], stretches: Mapping[str, _DayWindows]) -> LabelTask:
  """The task of telling which of `names` each bout is."""
  windows: dict[tuple[str, int], list[Window]] = collections.defaultdict(list)
  for index, name in enumerate(names):
    for key, bouts in stretches[name].items():
      windows[key] += [(start, end, float(index)) for start, end, value in bouts if value]
  kind = "multiclass" if len(names) > 2 else "binary"
  ordered = {key: sorted(bouts) for key, bouts in windows.items()}
  return LabelTask(group, kind, "window", tuple(names), {}, ordered)


def majority_windows(stretches: Sequence[Window], length: int, day: int) -> list[Window]:
  """Labels windows of `length` steps by majority, from midnight on.

  A window is kept if at least half of its steps are labelled and the labels are not tied.

  Args:
    stretches: labelled steps of one day; truth is 1 where the event happens, 0 where it does not.
    length: steps per window.
    day: steps per day.
  """
  labelled, present = np.zeros((2, day), np.int64)
  for start, end, value in stretches:
    labelled[start:end] = 1
    present[start:end] = value
  windows = []
  for start in range(0, day - length + 1, length):
    known, yes = labelled[start : start + length].sum(), present[start : start + length].sum()
    if 2 * known >= length and 2 * yes != known:
      windows.append((start, start + length, float(2 * yes > known)))
  return windows


def _unusable(task: LabelTask, config: ml_collections.ConfigDict, dataset: Dataset) -> str:
  """Why a task cannot be learnt and scored on the dataset's splits; "" if it can."""
  by_class = task.people_by_class()
  everyone = set().union(*by_class.values()) if by_class else set()
  if len(everyone) < config.min_people:
    return f"known of {counted(len(everyone), 'person')}, fewer than {config.min_people} (config.probe.min_people)"
  training = _training_people(dataset)
  if len(everyone - training) < 2:
    return f"known of {counted(len(everyone - training), 'person')} of split 'eval', expected at least 2"
  if task.kind == "regression":
    return "" if len(everyone & training) > 1 else "known of nobody to train on"
  common = [c for c, people in by_class.items() if len(people & training) >= config.min_people_a_class]
  if len(common) < 2:
    counts = ", ".join(f"{task.classes[int(c)]}: {len(by_class[c] & training)}" for c in sorted(by_class))
    return f"one class has fewer than {config.min_people_a_class} people to train on ({counts})"
  return ""


def common_classes(task: LabelTask, config: ml_collections.ConfigDict, dataset: Dataset) -> LabelTask:
  """A multi-class task without the classes that fewer than config.min_people_a_class training people have."""
  if task.kind != "multiclass":
    return task
  training = _training_people(dataset)
  by_class = task.people_by_class()
  common = [c for c in sorted(by_class) if len(by_class[c] & training) >= config.min_people_a_class]
  index = {c: float(i) for i, c in enumerate(common)}
  return dataclasses.replace(
    task,
    kind="multiclass" if len(common) > 2 else "binary",
    classes=tuple(task.classes[int(c)] for c in common),
    people={person: index[c] for person, c in task.people.items() if c in index},
    windows={
      key: [(start, end, index[c]) for start, end, c in windows if c in index] for key, windows in task.windows.items()
    },
  )


def _training_people(dataset: Dataset) -> set[str]:
  return {person for split in _TRAINING_SPLITS for person in dataset.people(split)}
