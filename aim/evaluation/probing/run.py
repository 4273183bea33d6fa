"""--mode=probe: what a frozen embedding knows of a person and of their day, beside what simpler things know of it.

Probes are trained on people of the pretrain and tune splits and scored on those of eval alone.
"""

from __future__ import annotations

import dataclasses
import functools
import pathlib
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import ml_collections
import numpy as np

from aim.common.config_files import ConfigError
from aim.common.progress import progress_bar
from aim.evaluation import predictions, results
from aim.evaluation.predictions import Predictions, pool
from aim.evaluation.probing import features, learners
from aim.evaluation.probing.label_tasks import LabelRows, LabelTask, tasks
from aim.evaluation.probing.learners import FitData, FittedProbe, Predictor
from aim.evaluation.probing.oracle import Oracle, strangers
from aim.inference.pretrained import Pretrained
from aim.inference.window_embeddings import embed_windows
from data_pipelines.dataset import Dataset
from data_pipelines.day_windows.duplicates import check_disjoint
from data_pipelines.errors import SchemaError, SplitError
from data_pipelines.loader import eval_loader
from data_pipelines.splits import SPLITS

__all__ = ["ProbeInputs", "examples", "fit_probes", "pool", "probe"]

EMBEDDING, MASK, HOURLY = "embedding", "mask", "hourly"
ORACLE_DAYS, ORACLE_TRAITS = predictions.ORACLES


@dataclasses.dataclass(frozen=True)
class ProbeInputs:
  """Labelled rows of one task with what may be known of them.

  Attributes:
    participant, day, date: str, int, str [n]; day is -1 where a row is a person.
    start, end: the steps asked about, int [n].
    truth: float [n], a value or the index of a class of the task.
    inputs: float [n, f] each, NaN where unknown: "embedding", and with baselines "mask", "hourly" and others.
  """

  participant: np.ndarray
  day: np.ndarray
  date: np.ndarray
  start: np.ndarray
  end: np.ndarray
  truth: np.ndarray
  inputs: Mapping[str, np.ndarray]

  @classmethod
  def join(cls, parts: Sequence[ProbeInputs]) -> ProbeInputs:
    join = lambda name: np.concatenate([getattr(part, name) for part in parts])
    inputs = {name: np.concatenate([part.inputs[name] for part in parts]) for name in parts[0].inputs}
    return cls(*map(join, ("participant", "day", "date", "start", "end", "truth")), inputs)  # type: ignore[arg-type, call-arg]

  def of_people(self) -> ProbeInputs:
    """One row a person: the mean of their rows' inputs, unknown ones left out."""
    people, row = np.unique(self.participant, return_inverse=True)
    first = np.array([np.flatnonzero(row == i)[0] for i in range(len(people))], int)
    mean = {name: _mean_by(row, len(people), array) for name, array in self.inputs.items()}
    whole = np.full(len(people), -1), np.full(len(people), "")
    return ProbeInputs(people, *whole, self.start[first], self.end[first], self.truth[first], mean)


def _mean_by(row: np.ndarray, count: int, inputs: np.ndarray) -> np.ndarray:
  known = ~np.isnan(inputs)
  total, number = np.zeros((2, count, inputs.shape[1]))
  np.add.at(total, row, np.where(known, inputs, 0.0))
  np.add.at(number, row, known)
  return np.divide(total, number, out=np.full_like(total, np.nan), where=number > 0)


def probe(
  config: ml_collections.ConfigDict, model: Pretrained, dataset: Dataset, output: pathlib.Path
) -> list[results.Result]:
  """Fits and scores every task of config.tasks; writes results.csv, predictions.csv and probes/ to `output`.

  Args:
    config: config.probe.
    model, dataset: embeddings are the model's, labels and splits the dataset's.

  Raises:
    UserError (one line): a task that is not there, people or days of the training splits among those to be scored.
  """
  check(model, dataset)
  asked = _tasks(config, dataset)
  train = _training(config, model, dataset, asked, config.baselines)
  held_out = examples(config, model, dataset, "eval", asked, baselines=config.baselines)
  for task in asked:
    _check_apart(task, train[task.name][0], held_out[task.name])
  found: list[Predictions] = []
  with progress_bar(len(asked), "fit", "task") as bar:
    for task in asked:
      where = lambda level, task=task: output / "probes" / f"{_file_name(task.name)}_{level}.npz"
      found += _of_task(config, model, dataset, task, train[task.name], held_out[task.name], where)
      bar.update()
  lines = predictions.score(found, config.bootstrap, config.seed)
  predictions.write_csv(output / "predictions.csv", found)
  results.write_csv(output / "results.csv", lines)
  print(
    f"\n{dataset.name}: scored on {len(dataset.people('eval'))} people never seen in training; [95 % over people]\n"
  )
  print(predictions.format_tables(lines) + "\n")
  print("\n".join(predictions.verdicts(lines)))
  print(f"\n{output / 'results.csv'}\n{output / 'predictions.csv'}\n{output / 'probes'}")
  return lines


def fit_probes(
  config: ml_collections.ConfigDict, model: Pretrained, dataset: Dataset, level: str = "day"
) -> dict[str, FittedProbe]:
  """The probes of all tasks on the model's frozen embeddings, by task name, to predict with and never fit again.

  Args:
    config: config.probe.
    model, dataset: people of pretrain train the probes, those of tune choose the regularisation.
    level: "day" fits a label of a person on rows of days, "person" on means over the days of a person. Tasks whose
      rows are windows of a day are fitted on windows either way.

  Returns:
    {task name: FittedProbe}; predict(embeddings float [n, width]) gives values [n, 1] or probabilities [n, classes].
    The embeddings and truths to score them on are those of `examples(config, model, dataset, "eval", tasks)`.
  """
  asked = _tasks(config, dataset)
  train = _training(config, model, dataset, asked, baselines=False)
  return {task.name: _fit_probe(config, task, train[task.name], level) for task in asked}


def examples(
  config: ml_collections.ConfigDict,
  model: Pretrained,
  dataset: Dataset,
  split: str,
  asked: Sequence[LabelTask],
  *,
  baselines: bool = True,
  change: Callable[[np.ndarray], np.ndarray] | None = None,
) -> dict[str, ProbeInputs]:
  """The labelled rows of a split with their embeddings, by task name.

  Rows of a task "window" have something observed in their window.

  Args:
    baselines: give the inputs of the baselines too.
    change: takes days float32 [d, steps, channels] and returns them with more of them missing. Which rows there are
      is told by the unchanged days; an embedding of a day with nothing left is NaN.
  """
  model.check_dataset(dataset)
  oracle = Oracle.of(dataset) if baselines and config.oracle else None
  people = _demographics(dataset)
  parts: dict[str, list[ProbeInputs]] = {task.name: [] for task in asked}
  if not dataset.num_days(split):
    return {}
  with progress_bar(dataset.num_days(split), f"embed {split}", "day") as bar:
    for batch in eval_loader(dataset, split=split, batch_size=config.batch_size):
      days = {name: array[batch["weight"] > 0] for name, array in batch.items()}
      for name, part in _Reader(config, model, days, change, oracle, baselines, people).examples(asked).items():
        parts[name].append(part)
      bar.update(len(days["day"]))
  return {name: ProbeInputs.join(found) for name, found in parts.items() if found}


class _Reader:
  """Inputs of the rows of all tasks on one batch of days; each is computed once, and only if a task asks for it."""

  def __init__(self, config, model, days, change, oracle, baselines, people):
    self.config, self.model, self.days, self.oracle, self.baselines = config, model, days, oracle, baselines
    self.people = people
    self.values = days["values"]
    self.shown = self.values if change is None else change(self.values)
    self.there = ~np.isnan(self.shown).all(axis=(1, 2))

  def examples(self, asked: Sequence[LabelTask]) -> dict[str, ProbeInputs]:
    steps = self.values.shape[1]
    rows = {
      task.name: self._observed(task, task.rows(self.days["participant"], self.days["day"], steps)) for task in asked
    }
    windows = [rows[task.name] for task in asked if task.level == "window"]
    found = self._windows(windows) if any(len(r.day) for r in windows) else {}
    return {task.name: self._examples(task, rows[task.name], found) for task in asked if len(rows[task.name].day)}

  def _observed(self, task: LabelTask, rows: LabelRows) -> LabelRows:
    if task.level == "day":
      return rows
    observed = ~np.isnan(self.values).all(axis=2)
    places = zip(rows.day, rows.start, rows.end, strict=True)
    return rows.take(np.array([observed[d, s:e].any() for d, s, e in places], bool))

  def _examples(self, task: LabelTask, rows: LabelRows, windows: dict[str, Any]) -> ProbeInputs:
    participant = self.days["participant"][rows.day]
    if task.level == "day":
      inputs = {name: array[rows.day] for name, array in self._days.items()}
    else:
      index = np.array([windows["place"][key] for key in zip(rows.day, rows.start, rows.end, strict=True)])
      inputs = {name: array[index] for name, array in windows["inputs"].items()}
    if self.baselines:
      inputs |= _known(self.people, participant, task.name)
    if self.oracle and task.level == "day":
      inputs[ORACLE_TRAITS] = self.oracle.traits(participant, task.name)
    place = (participant, self.days["day"][rows.day], self.days["date"][rows.day])
    return ProbeInputs(*place, rows.start, rows.end, rows.truth, inputs)

  @functools.cached_property
  def _days(self) -> dict[str, np.ndarray]:
    """Inputs of whole days."""
    pool = self.config.pool
    embedding = np.full((len(self.shown), self.model.embedding_width(pool)), np.nan, np.float32)
    if self.there.any():
      embedding[self.there] = self.model.embed(self.shown[self.there], pool)
    inputs = {EMBEDDING: embedding}
    if self.baselines:
      inputs |= {MASK: features.mask(self.values), HOURLY: features.hourly(self.values)}
    if self.oracle:
      inputs[ORACLE_DAYS] = features.hourly(self._truth)
    return inputs

  @functools.cached_property
  def _truth(self) -> np.ndarray:
    return self.oracle.days(self.days["participant"], self.days["day"])

  def _windows(self, rows: Sequence[LabelRows]) -> dict[str, Any]:
    """Inputs of all windows that some task asks about, and where to find each."""
    keys = sorted({key for r in rows for key in zip(r.day, r.start, r.end, strict=True)})
    day, start, end = np.array(keys, np.int64).T
    there = np.flatnonzero(self.there[day])
    order = np.cumsum(self.there) - 1  # of the days that are there
    pool = "channel" if self.config.pool == "channel" else "mean"
    embedding = np.full((len(keys), self.model.embedding_width(pool)), np.nan, np.float32)
    if len(there):
      shown = self.shown[self.there]
      embedding[there] = embed_windows(self.model, shown, order[day[there]], start[there], end[there], pool)
    inputs = {EMBEDDING: embedding}
    if self.baselines:
      inputs[MASK] = features.window_mask(self.values, day, start, end)
      inputs[HOURLY] = features.window(self.values, day, start, end)
    if self.oracle:
      inputs[ORACLE_DAYS] = features.window(self._truth, day, start, end)
    return {"place": {key: i for i, key in enumerate(keys)}, "inputs": inputs}


def check(model: Pretrained, dataset: Dataset) -> None:
  """SplitError or DuplicateError if people or days of the eval split were trained on."""
  model.check_dataset(dataset)
  people = {split: set(dataset.people(split)) for split in SPLITS}
  stored = {split: _stored(dataset, split) for split in SPLITS}
  for a in SPLITS:
    for b in SPLITS:
      twice = (people[a] | stored[a]) & (people[b] | stored[b]) if a < b else set()
      if twice:
        raise SplitError(
          f"dataset {dataset.name!r} ({dataset.path}): participant {min(twice)!r} is in splits {a!r} and {b!r}"
        )
  trained = _trained_on(model, dataset)
  if trained is not None:
    check_disjoint(trained, dataset)


def _check_apart(task: LabelTask, train: ProbeInputs, held_out: ProbeInputs) -> None:
  """The same of the rows that are really used."""
  twice = set(train.participant.tolist()) & set(held_out.participant.tolist())
  if twice:
    raise SplitError(f"task {task.name!r}: participant {min(twice)!r} is among those to train on and those to score on")


def _stored(dataset: Dataset, split: str) -> set[str]:
  """Whose days the records of a split hold."""
  if not dataset.num_days(split):
    return set()
  table = dataset.participants()
  return {p for p, s in zip(table["participant"].to_pylist(), table["split"].to_pylist(), strict=True) if s == split}


def _trained_on(model: Pretrained, dataset: Dataset) -> Dataset | None:
  """The dataset of the model's training where it is another one and can be found."""
  data = model.config.data
  try:
    trained = Dataset.open(data.dir, data.name)
  except SchemaError:
    return None
  return None if trained.path.resolve() == dataset.path.resolve() else trained


def _tasks(config: ml_collections.ConfigDict, dataset: Dataset) -> list[LabelTask]:
  asked, left_out = tasks(config, dataset)
  for line in left_out:
    print(f"left out: {line}")
  if not asked:
    raise ConfigError(f"dataset {dataset.name!r} has no label that can be probed")
  return asked


def _training(
  config: ml_collections.ConfigDict, model: Pretrained, dataset: Dataset, asked: Sequence[LabelTask], baselines: bool
) -> dict[str, tuple[ProbeInputs, np.ndarray]]:
  """By task: the rows of the pretrain and tune people, and which are of the latter."""
  parts = [examples(config, model, dataset, split, asked, baselines=baselines) for split in ("pretrain", "tune")]
  found = {}
  for task in asked:
    there = [part[task.name] for part in parts if task.name in part]
    tune = [np.full(len(part[task.name].truth), i == 1) for i, part in enumerate(parts) if task.name in part]
    found[task.name] = ProbeInputs.join(there), np.concatenate(tune)
  return found


def _of_people(train: tuple[ProbeInputs, np.ndarray]) -> tuple[ProbeInputs, np.ndarray]:
  rows, tune = train
  people = rows.of_people()
  return people, np.isin(people.participant, rows.participant[tune])


def _rows(train: tuple[ProbeInputs, np.ndarray], name: str) -> FitData:
  rows, tune = train
  return FitData(rows.inputs[name], rows.truth, rows.participant, tune)


def _fit_probe(
  config: ml_collections.ConfigDict, task: LabelTask, train: tuple[ProbeInputs, np.ndarray], level: str
) -> FittedProbe:
  train = _of_people(train) if level == "person" and task.level == "day" else train
  return learners.fit_linear(config, task, _rows(train, EMBEDDING))


def _of_task(config, model, dataset, task, train, held_out, where: Callable[[str], pathlib.Path]) -> list[Predictions]:
  """Predictions of the model's probe and of all baselines, at every level."""
  levels = {task.level: (train, held_out)}
  plain = ml_collections.ConfigDict(config.to_dict() | {"pca": 0})
  if task.level == "day":
    levels["person"] = _of_people(train), held_out.of_people()
  found = []
  for level, (rows, scored) in levels.items():
    head = (dataset.name, task.name, level, task.kind, task.classes)
    place = (scored.participant, scored.day, scored.date, scored.start, scored.end, scored.truth)
    for name, key, fit in _competitors(model.name, rows[0]):
      known = strangers(task) if key == ORACLE_TRAITS else _rows(rows, key)
      predictor: Predictor = fit(config if key == EMBEDDING else plain, task, known)
      if isinstance(predictor, FittedProbe) and key == EMBEDDING:
        predictor.save(where(level))
      said = predictor.predict(scored.inputs[key])
      found.append(Predictions(*head, name, int(model.config.seed), *place, said))
  return found + [p.of_people() for p in found if p.level == "day"]


def _competitors(ours: str, rows: ProbeInputs) -> list[tuple[str, str, Callable[..., Predictor]]]:
  """(name, inputs, fit) of all that answer a task: those whose inputs are there."""
  named: list[tuple[str, str, Callable[..., Predictor]]] = [
    (ours, EMBEDDING, learners.fit_linear),
    (predictions.CONSTANT, EMBEDDING, learners.fit_constant),
    (predictions.MASK_ONLY, MASK, learners.fit_linear),
    (predictions.MASK_FOREST, MASK, learners.fit_forest),
    (predictions.HOURLY, HOURLY, learners.fit_forest),
  ]
  named += [(name, name, learners.fit_linear) for name in (*predictions.AGE_SEX, *predictions.ORACLES)]
  return [competitor for competitor in named if competitor[1] in rows.inputs]


def _demographics(dataset: Dataset) -> dict[str, dict[str, float]]:
  """{"age": {person: years}, "sex": {person: 0 or 1}} of what the participants table gives."""
  table, found = dataset.participants(), {}
  people = table["participant"].to_pylist()
  for name in ("age", "sex"):
    if name in table.column_names:
      known = {p: value for p, value in zip(people, table[name].to_pylist(), strict=True) if value is not None}
      # Sex comes as text or as a number, whose order says nothing.
      places = {value: float(i) for i, value in enumerate(sorted(set(known.values())))}
      found[name] = {p: float(value) if name == "age" else places[value] for p, value in known.items()}
  return found


def _known(people: dict[str, dict[str, float]], participant: np.ndarray, target: str) -> dict[str, np.ndarray]:
  """Age and sex as inputs, without what is asked for: {"age + sex": [n, 2]}, or one of them, or neither."""
  used = [name for name in people if name != target]
  if not used:
    return {}
  columns = [[people[name].get(person, np.nan) for person in participant.tolist()] for name in used]
  return {" + ".join(used): np.array(columns, np.float64).T}


def _file_name(task: str) -> str:
  return re.sub(r"[^A-Za-z0-9_.-]+", "_", task)
