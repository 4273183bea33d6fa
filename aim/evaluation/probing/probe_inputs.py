"""The labelled rows of a split, with the model's embeddings and the inputs of the baselines."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence

import ml_collections
import numpy as np
from jaxtyping import Float, Int, Shaped

from aim.common.progress import progress_bar
from aim.evaluation import predictions
from aim.evaluation.probing import features
from aim.evaluation.probing.label_tasks import LabelRows, LabelTask
from aim.evaluation.probing.oracle import trait_inputs
from aim.inference.pretrained import Pretrained
from aim.inference.window_embeddings import embed_windows
from data_pipelines.dataset import Dataset
from data_pipelines.ground_truth import GroundTruth
from data_pipelines.loader import eval_loader

EMBEDDING, MASK, HOURLY = "embedding", "mask", "hourly"
ORACLE_DAYS, ORACLE_TRAITS = predictions.ORACLES

Change = Callable[[Float[np.ndarray, "d s c"]], Float[np.ndarray, "d s c"]]


@dataclasses.dataclass(frozen=True)
class ProbeInputs:
  """Labelled rows of one task, with everything that a probe or a baseline may read about them.

  Attributes:
    participant, day, date: str, int, str [n]; day is -1 where a row stands for all days of a person.
    start, end: the steps that a row is about, int [n].
    truth: float [n], a value or the index of a class of the task.
    inputs: float [n, f] by name, NaN where unknown: "embedding", and with baselines "mask", "hourly" and others.
  """

  participant: Shaped[np.ndarray, " n"]
  day: Int[np.ndarray, " n"]
  date: Shaped[np.ndarray, " n"]
  start: Int[np.ndarray, " n"]
  end: Int[np.ndarray, " n"]
  truth: Float[np.ndarray, " n"]
  inputs: Mapping[str, Float[np.ndarray, "n f"]]

  @classmethod
  def join(cls, parts: Sequence[ProbeInputs]) -> ProbeInputs:
    """The rows of all parts, one part after another."""
    join = lambda name: np.concatenate([getattr(part, name) for part in parts])
    inputs = {name: np.concatenate([part.inputs[name] for part in parts]) for name in parts[0].inputs}
    return cls(*map(join, ("participant", "day", "date", "start", "end", "truth")), inputs)  # type: ignore[arg-type, call-arg]

  def of_people(self) -> ProbeInputs:
    """One row per person: the mean of the known inputs of their rows."""
    people, first, row = np.unique(self.participant, return_index=True, return_inverse=True)
    mean = {name: _mean_by_person(row, len(people), array) for name, array in self.inputs.items()}
    whole = np.full(len(people), -1), np.full(len(people), "")
    return ProbeInputs(people, *whole, self.start[first], self.end[first], self.truth[first], mean)


def _mean_by_person(
  person: Int[np.ndarray, " n"], people: int, inputs: Float[np.ndarray, "n f"]
) -> Float[np.ndarray, "people f"]:
  known = ~np.isnan(inputs)
  total, count = np.zeros((2, people, inputs.shape[1]))
  np.add.at(total, person, np.where(known, inputs, 0.0))
  np.add.at(count, person, known)
  return np.divide(total, count, out=np.full_like(total, np.nan), where=count > 0)


def read_inputs(
  config: ml_collections.ConfigDict,
  model: Pretrained,
  dataset: Dataset,
  split: str,
  tasks: Sequence[LabelTask],
  *,
  baselines: bool = True,
  change: Change | None = None,
) -> dict[str, ProbeInputs]:
  """The labelled rows of a split with their embeddings, by task name; a task without rows is absent.

  Windows in which nothing was observed are left out.

  Args:
    config: config.probe: pool, batch_size, oracle.
    baselines: also compute the inputs of the baselines.
    change: maps days float32 [d, steps, channels] to days with more values missing, which the model then embeds. The
      rows are those of the unchanged days; the embedding of a day with nothing left is NaN.

  Raises:
    SchemaError: the dataset has another schema than the model.
  """
  model.check_unseen_people(dataset)
  if not dataset.num_days(split):
    return {}
  ground_truth = GroundTruth.of_dataset(dataset) if baselines and config.oracle else None
  age_and_sex = _age_and_sex(dataset) if baselines else {}
  parts: dict[str, list[ProbeInputs]] = {task.name: [] for task in tasks}
  with progress_bar(dataset.num_days(split), f"embed {split}", "day") as bar:
    for batch in eval_loader(dataset, split=split, batch_size=config.batch_size):
      days = {name: array[batch["weight"] > 0] for name, array in batch.items()}
      reader = _BatchReader(config.pool, model, days, change, ground_truth, baselines, age_and_sex)
      for name, part in reader.read(tasks).items():
        parts[name].append(part)
      bar.update(len(days["day"]))
  return {name: ProbeInputs.join(of_task) for name, of_task in parts.items() if of_task}


class _BatchReader:
  """Reads the rows of all tasks on one batch of days. Each input is computed once, and only if a task needs it."""

  def __init__(
    self,
    pool: str,
    model: Pretrained,
    days: Mapping[str, np.ndarray],
    change: Change | None,
    ground_truth: GroundTruth | None,
    baselines: bool,
    age_and_sex: Mapping[str, Mapping[str, float]],
  ):
    self.pool, self.model, self.days = pool, model, days
    self.ground_truth, self.baselines, self.age_and_sex = ground_truth, baselines, age_and_sex
    self.values = days["values"]
    self.embedded_values = self.values if change is None else change(self.values)
    self.not_empty = ~np.isnan(self.embedded_values).all(axis=(1, 2))

  def read(self, tasks: Sequence[LabelTask]) -> dict[str, ProbeInputs]:
    rows = {task.name: task.observed_rows(self.days["participant"], self.days["day"], self.values) for task in tasks}
    windows = [rows[task.name] for task in tasks if task.level == "window" and len(rows[task.name].day)]
    keys, window_inputs = self._window_inputs(windows) if windows else ({}, {})
    inputs_by_task = {}
    for task in tasks:
      if not len(rows[task.name].day):
        continue
      of_task = rows[task.name]
      if task.level == "day":
        inputs = {name: array[of_task.day] for name, array in self._day_inputs.items()}
      else:
        index = np.array([keys[window] for window in _windows(of_task)])
        inputs = {name: array[index] for name, array in window_inputs.items()}
      inputs_by_task[task.name] = self._probe_inputs(task, of_task, inputs)
    return inputs_by_task

  def _probe_inputs(self, task: LabelTask, rows: LabelRows, inputs: dict[str, np.ndarray]) -> ProbeInputs:
    participant = self.days["participant"][rows.day]
    inputs |= _demographic_inputs(self.age_and_sex, participant, task.name)
    if self.ground_truth and task.level == "day":
      inputs[ORACLE_TRAITS] = trait_inputs(self.ground_truth, participant, task.name)
    day, date = self.days["day"][rows.day], self.days["date"][rows.day]
    return ProbeInputs(participant, day, date, rows.start, rows.end, rows.truth, inputs)

  @functools.cached_property
  def _day_inputs(self) -> dict[str, np.ndarray]:
    """Inputs of whole days."""
    embedding = np.full((len(self.values), self.model.embedding_width(self.pool)), np.nan, np.float32)
    if self.not_empty.any():
      embedding[self.not_empty] = self.model.embed(self.embedded_values[self.not_empty], self.pool)
    inputs = {EMBEDDING: embedding}
    if self.baselines:
      inputs |= {MASK: features.mask(self.values), HOURLY: features.hourly(self.values)}
    if self.ground_truth:
      inputs[ORACLE_DAYS] = features.hourly(self._complete_days)
    return inputs

  @functools.cached_property
  def _complete_days(self) -> Float[np.ndarray, "d s c"]:
    assert self.ground_truth is not None
    return self.ground_truth.days(self.days["participant"], self.days["day"])

  def _window_inputs(self, rows: Sequence[LabelRows]) -> tuple[dict[tuple[int, int, int], int], dict[str, np.ndarray]]:
    """Inputs of every window of any task, and the row of each (day, start, end) in them."""
    keys = sorted({window for r in rows for window in _windows(r)})
    day, start, end = np.array(keys, np.int64).T
    embeddable = np.flatnonzero(self.not_empty[day])
    index = np.cumsum(self.not_empty) - 1  # of a day among those that are not empty
    pool = "channel" if self.pool == "channel" else "mean"
    embedding = np.full((len(keys), self.model.embedding_width(pool)), np.nan, np.float32)
    if len(embeddable):
      days, day_index = self.embedded_values[self.not_empty], index[day[embeddable]]
      embedding[embeddable] = embed_windows(self.model, days, day_index, start[embeddable], end[embeddable], pool)
    inputs = {EMBEDDING: embedding}
    if self.baselines:
      inputs[MASK] = features.window_mask(self.values, day, start, end)
      inputs[HOURLY] = features.window(self.values, day, start, end)
    if self.ground_truth:
      inputs[ORACLE_DAYS] = features.window(self._complete_days, day, start, end)
    return {key: i for i, key in enumerate(keys)}, inputs


def _windows(rows: LabelRows) -> list[tuple[int, int, int]]:
  """(day, start, end) of each row."""
  return list(zip(rows.day.tolist(), rows.start.tolist(), rows.end.tolist(), strict=True))


def _age_and_sex(dataset: Dataset) -> dict[str, dict[str, float]]:
  """{"age": {person: years}, "sex": {person: 0 or 1}}, as far as the participants table has them."""
  table, columns = dataset.participants(), {}
  people = table["participant"].to_pylist()
  for name in ("age", "sex"):
    if name in table.column_names:
      known = {p: value for p, value in zip(people, table[name].to_pylist(), strict=True) if value is not None}
      # Sex may be text or an arbitrary code, so it is replaced by its index among the sorted values.
      index = {value: float(i) for i, value in enumerate(sorted(set(known.values())))}
      columns[name] = {p: float(value) if name == "age" else index[value] for p, value in known.items()}
  return columns


def _demographic_inputs(
  age_and_sex: Mapping[str, Mapping[str, float]], participant: Shaped[np.ndarray, " n"], target: str
) -> dict[str, Float[np.ndarray, "n f"]]:
  """Age and sex without the target: {"age + sex": [n, 2]}, only one of them, or neither."""
  used = [name for name in age_and_sex if name != target]
  if not used:
    return {}
  columns = [[age_and_sex[name].get(person, np.nan) for person in participant.tolist()] for name in used]
  return {" + ".join(used): np.array(columns, np.float64).T}
