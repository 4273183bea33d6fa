"""Predictions of labels for held-out people: their file, their scores with intervals, and folds pooled."""

from __future__ import annotations

import csv
import dataclasses
import itertools
import json
import math
import pathlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from aim.common.progress import tracked
from aim.common.tables import write_rows
from aim.evaluation.difference import CONSTANT, bounds, model_label
from aim.evaluation.metrics import HEADLINE, METRICS, agreement
from aim.evaluation.results import (
  Result,
  ResultsError,
  bootstrap,
  folds_note,
  mark_neither_beats_constant,
  no_better_than_constant,
)
from data_pipelines import text_files
from data_pipelines.text_files import parse_json_object, plain_number, read_fields, read_number, read_whole_number

COLUMNS = (
  "dataset", "task", "level", "kind", "model", "seed", "participant", "day", "date", "start", "end", "truth",
  "prediction", "probabilities", "n_labelled_people",
)  # fmt: skip
OLD_COLUMNS = COLUMNS[:-1]  # of files written before labelled people were counted
MASK_ONLY, MASK_FOREST, HOURLY = "mask-only", "mask-only forest", "hourly forest"
AGE_SEX = ("age + sex", "age", "sex")
ORACLES = ("oracle days", "oracle traits")
BASELINES = (CONSTANT, MASK_ONLY, MASK_FOREST, HOURLY, *AGE_SEX, *ORACLES)


@dataclasses.dataclass(frozen=True)
class Predictions:
  """One model's predictions for the n rows of one task.

  Attributes:
    dataset, task, level, model, seed: as in results.csv. The level is "day", "person" (one row each), "person, mean of
      days" or "window".
    kind: "regression", "binary" or "multiclass".
    classes: names of the task's classes, empty for a regression.
    participant, day, date, start, end: the row's person, day (-1 for all days of the person) and steps [start, end).
    truth: value or index of a class, float [n].
    predicted: values [n, 1], or probabilities of the classes [n, k].
    n_labelled_people: people whose labels the model saw, in fitting and in early stopping; None where not counted.
    fold: which of several separately fitted models predicted the row, int [n]; None where one model predicted all.
  """

  dataset: str
  task: str
  level: str
  kind: str
  classes: tuple[str, ...]
  model: str
  seed: int
  participant: np.ndarray
  day: np.ndarray
  date: np.ndarray
  start: np.ndarray
  end: np.ndarray
  truth: np.ndarray
  predicted: np.ndarray
  n_labelled_people: int | None = None
  fold: np.ndarray | None = None

  @property
  def n_folds(self) -> int:
    """Number of separately fitted models that predicted the rows."""
    return 1 if self.fold is None else len(np.unique(self.fold))

  @property
  def question(self) -> tuple[str, str, str, int]:
    """The key on which models are compared: dataset, task, level and seed."""
    return self.dataset, self.task, self.level, self.seed

  def of_people(self) -> Predictions:
    """One row per person: the mean of the predictions for their days."""
    people, row = np.unique(self.participant, return_inverse=True)
    first = np.array([np.flatnonzero(row == i)[0] for i in range(len(people))])
    # The last digits of a mean of equal numbers depend on how many there are; without rounding, ties would be broken.
    mean = np.array([self.predicted[row == i].mean(axis=0) for i in range(len(people))]).round(12)
    whole: dict[str, Any] = {"day": np.full(len(people), -1), "date": np.full(len(people), ""), "participant": people}
    names = ("start", "end", "truth", *(["fold"] if self.fold is not None else []))
    part: dict[str, Any] = {name: getattr(self, name)[first] for name in names}
    return dataclasses.replace(self, level="person, mean of days", predicted=mean, **whole, **part)


def write_csv(path: str | pathlib.Path, predictions: Iterable[Predictions]) -> None:
  """Writes one line per row and model under COLUMNS; probabilities as JSON {class: number}, empty for values."""
  write_rows(path, COLUMNS, (line for p in predictions for line in _lines(p)))


def _lines(p: Predictions) -> Iterator[Sequence[Any]]:
  head = (p.dataset, p.task, p.level, p.kind, p.model, p.seed)
  for i in range(len(p.truth)):
    place = (p.participant[i], p.day[i], p.date[i], p.start[i], p.end[i])
    yield *head, *place, *_answer_fields(p, i), "" if p.n_labelled_people is None else p.n_labelled_people


def _answer_fields(p: Predictions, i: int) -> tuple[str, str, str]:
  if p.kind == "regression":
    return f"{p.truth[i]:.9g}", f"{p.predicted[i, 0]:.9g}", ""
  shares = {name: float(f"{share:.7g}") for name, share in zip(p.classes, p.predicted[i].tolist(), strict=True)}
  return p.classes[int(p.truth[i])], p.classes[int(p.predicted[i].argmax())], json.dumps(shares)


def read_csv(path: str | pathlib.Path) -> list[Predictions]:
  """Reads what write_csv wrote.

  Raises:
    ResultsError: the file is anything else; the message names file and line.
  """
  try:
    with pathlib.Path(path).open(newline="", encoding="utf-8") as file:
      lines = list(read_fields(csv.reader(file)))
  except (OSError, UnicodeDecodeError, csv.Error) as error:
    raise ResultsError(f"{path}: cannot be read: {error}") from None
  if not lines or tuple(lines[0]) not in (COLUMNS, OLD_COLUMNS):
    raise ResultsError(f"{path}: columns are {','.join(lines[0]) if lines else 'none'}, expected {','.join(COLUMNS)}")
  groups: dict[tuple[str, ...], list[_Row]] = {}
  for number, line in enumerate(lines[1:], start=2):
    if len(line) != len(lines[0]):
      raise ResultsError(f"{path} line {number}: {len(line)} fields, expected {len(lines[0])}")
    try:
      groups.setdefault(tuple(line[:6]), []).append(_row(line))
    except ValueError as error:
      raise ResultsError(f"{path} line {number}: {error}") from None
  return [_of_rows(head, rows) for head, rows in groups.items()]


class _Row(NamedTuple):
  """A line of the file, its numbers read; the truth and the answer are names of classes where there are classes."""

  participant: str
  day: int
  date: str
  start: int
  end: int
  truth: float | str
  answer: float
  shares: dict[str, float]
  n_labelled_people: int | None


def _row(line: Sequence[str]) -> _Row:
  """Raises ValueError if a field is not what its column holds."""
  _, _, _, kind, _, seed, person, day, date, start, end, truth, answer, shares, *labelled = line
  if kind not in METRICS:
    raise ValueError(f"kind is {kind!r}, expected one of {', '.join(METRICS)}")
  read_whole_number(seed, "seed")
  place = person, read_whole_number(day, "day"), date, read_whole_number(start, "start"), read_whole_number(end, "end")
  count = read_whole_number(labelled[0], COLUMNS[-1]) if labelled and labelled[0] else None
  if kind == "regression":
    return _Row(*place, read_number(truth, "truth"), read_number(answer, "prediction"), {}, count)
  of_class = parse_json_object(shares, "probabilities")
  if truth not in of_class or not all(type(share) in (int, float) for share in of_class.values()):
    raise ValueError(f"probabilities are {shares[:60]!r}, expected a number for each class, such as {truth!r}")
  return _Row(*place, truth, math.nan, of_class, count)


def _of_rows(head: tuple[str, ...], rows: Sequence[_Row]) -> Predictions:
  dataset, task, level, kind, model, seed = head
  column = lambda name: np.array([getattr(row, name) for row in rows])
  if kind == "regression":
    classes: tuple[str, ...] = ()
    truth, predicted = column("truth"), column("answer")[:, None]
  else:
    classes = tuple(dict.fromkeys(name for row in rows for name in row.shares))
    truth = np.array([float(classes.index(str(row.truth))) for row in rows])
    predicted = np.array([[row.shares.get(name, 0.0) for name in classes] for row in rows], float)
  person, day, date, start, end = map(column, ("participant", "day", "date", "start", "end"))
  about = dataset, task, level, kind, classes, model, int(seed)
  return Predictions(*about, person, day, date, start, end, truth, predicted, rows[0].n_labelled_people)


def score(
  predictions: Sequence[Predictions],
  n_bootstrap: int = 1000,
  seed: int = 0,
  against: Sequence[str] = BASELINES,
) -> list[Result]:
  """Scores every model, and compares each model that is not in `against` with each that is ("mae vs mask-only").

  Every model is compared with the constant too, so that it is known whether a difference of two models means anything.
  Models are compared on the same rows and the same bootstrap draws; intervals are 95 %, over people. With several folds
  the draws are of all their people, who stay in their fold.

  Args:
    predictions: of any tasks and models.
    n_bootstrap: draws of people.
    seed: seed of the draws.
    against: names of the models to compare with.

  Raises:
    ResultsError: two models predict different rows of one question.
  """
  results: list[Result] = []
  by_question = sorted(predictions, key=lambda p: p.question)
  questions = [list(group) for _, group in itertools.groupby(by_question, key=lambda p: p.question)]
  for group in tracked(questions, "score", "question"):
    results += _score(group, n_bootstrap, seed, against)
  return results


def _score(group: list[Predictions], n_bootstrap: int, seed: int, against: Sequence[str]) -> list[Result]:
  first = group[0]
  for other in group[1:]:
    same = all(np.array_equal(getattr(first, name), getattr(other, name)) for name in ("participant", "day", "start"))
    if not same or first.classes != other.classes:
      raise ResultsError(
        f"{first.task}, {first.level}: {first.model} and {other.model} predict different rows; "
        "one of their files was changed: remove them and repeat"
      )
  names = [p.model for p in group]
  pairs = [(i, j) for i, a in enumerate(names) for j, b in enumerate(names)
           if (a not in against and b in against) or (b == CONSTANT != a)]  # fmt: skip

  def statistic(rows: np.ndarray) -> np.ndarray:
    fold = None if first.fold is None else first.fold[rows]
    scores = np.array([agreement(p.kind, p.truth[rows], p.predicted[rows], fold) for p in group])
    return np.concatenate([scores.ravel(), *(scores[i] - scores[j] for i, j in pairs)])

  columns = bootstrap(statistic, first.participant, n_bootstrap, seed)
  metrics = METRICS[first.kind]
  labels = [(p, metric, "") for p in group for metric in metrics]
  labels += [(group[i], f"{metric} vs {names[j]}", names[j]) for i, j in pairs for metric in metrics]
  people = len(set(first.participant.tolist()))
  results = [
    Result(
      *(first.dataset, first.task, first.level, p.model, metric, float(value), float(low), float(high), people),
      first.seed,
      compared_with=other,
      n_labelled_people=p.n_labelled_people,
      n_folds=first.n_folds,
    )
    for (p, metric, other), value, low, high in zip(labels, *columns, strict=True)
  ]
  return mark_neither_beats_constant(results)


def pool(
  paths: Sequence[str | pathlib.Path],
  dataset: str,
  n_bootstrap: int = 1000,
  seed: int = 0,
  against: Sequence[str] = BASELINES,
) -> list[Result]:
  """Scores the people of all folds together, from the predictions.csv of each.

  What ranks answers does so within a fold; see `metrics.agreement`.

  Args:
    paths, dataset: as in read_folds.
    n_bootstrap: draws of people.
    seed: seed of the draws.
    against: models to compare the others with, where they occur; add "LSM-1" to compare with it.

  Raises:
    ResultsError: as in read_folds, or two models predict different rows.
  """
  return score(read_folds(paths, dataset), n_bootstrap, seed, against)


def read_folds(paths: Sequence[str | pathlib.Path], dataset: str) -> list[Predictions]:
  """The predictions of all folds, joined for each task, level, model and seed.

  Args:
    paths: predictions.csv files of several folds, and of several models on the same folds.
    dataset: name for the folds together; seeds stay apart.

  Raises:
    ResultsError: a person is held out in two of the folds, or a fold occurs twice.
  """
  parts: dict[tuple, dict[str, Predictions]] = {}
  for path in paths:
    for p in read_csv(path):
      fold = parts.setdefault((p.task, p.level, p.model, p.seed), {})
      # Baselines do not depend on the model that they were run beside, so the first of a fold stands for all.
      if p.dataset in fold and p.model not in BASELINES:
        raise ResultsError(f"{path}: {p.task}, {p.level}, {p.model}: fold {p.dataset!r} occurs twice")
      fold.setdefault(p.dataset, p)
  return [_joined(list(fold.values()), dataset) for fold in parts.values()]


def _joined(folds: list[Predictions], dataset: str) -> Predictions:
  folds = sorted(folds, key=lambda p: p.dataset)  # so that folds have the same number for every model
  seen: set[str] = set()
  for p in folds:
    twice = seen & set(p.participant.tolist())
    if twice:
      raise ResultsError(f"{p.task}: participant {min(twice)!r} is held out in two folds, {p.dataset!r} is one of them")
    seen |= set(p.participant.tolist())
  # A fold without some class has fewer names, perhaps in another order.
  classes = tuple(sorted({name for p in folds for name in p.classes}))
  classes = folds[0].classes if set(classes) == set(folds[0].classes) else classes
  parts = [_with_classes(p, classes) for p in folds]
  arrays = ("participant", "day", "date", "start", "end", "truth", "predicted")
  joined = {name: np.concatenate([getattr(p, name) for p in parts]) for name in arrays}
  joined["fold"] = np.repeat(np.arange(len(parts)), [len(p.truth) for p in parts])
  order = np.lexsort((joined["start"], joined["day"], joined["participant"]))
  ordered: dict[str, Any] = {name: array[order] for name, array in joined.items()}
  # Each fold trains a model of its own; the largest of their label budgets stands for all.
  labelled = max((p.n_labelled_people for p in folds if p.n_labelled_people is not None), default=None)
  return dataclasses.replace(parts[0], dataset=dataset, classes=classes, n_labelled_people=labelled, **ordered)


def _with_classes(p: Predictions, classes: tuple[str, ...]) -> Predictions:
  if p.kind == "regression" or p.classes == classes:
    return p
  place = np.array([classes.index(name) for name in p.classes])
  predicted = np.zeros((len(p.truth), len(classes)))
  predicted[:, place] = p.predicted
  return dataclasses.replace(p, classes=classes, truth=place[p.truth.astype(int)].astype(float), predicted=predicted)


def format_tables(results: Sequence[Result]) -> str:
  """One table per question: a line per model, a column per metric, with intervals; then how folds were scored."""
  tables = []
  key = lambda r: (r.dataset, r.task, r.level, r.seed)
  for (_, task, level, _), group in itertools.groupby(results, key=key):
    plain = [r for r in group if not r.compared_with]
    metrics = list(dict.fromkeys(r.metric for r in plain))
    labelled = [r.n_labelled_people for r in plain if r.n_labelled_people is not None]
    seen = f", labels of {max(labelled)} seen" if labelled else ""
    rows = [[f"{task}, {level} ({text_files.counted(plain[0].n_people, 'person')}{seen})", *metrics]]
    for model in dict.fromkeys(r.model for r in plain):
      rows.append([model, *(_interval(r) for r in plain if r.model == model)])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(field.ljust(w) for field, w in zip(row, widths, strict=True)).rstrip() for row in rows]
    tables.append("\n".join([lines[0], "-" * len(lines[0]), *lines[1:]]))
  return "\n\n".join([*tables, *filter(None, [folds_note(results)])])


def _interval(r: Result) -> str:
  if math.isnan(r.value):
    return "-"
  number = lambda x: plain_number(x) if abs(x) >= 1 else f"{x:.3f}" if abs(x) >= 5e-4 or x == 0 else f"{x:.3g}"
  return number(r.value) + bounds(r.ci_low, r.ci_high, number)


def verdicts(results: Sequence[Result]) -> list[str]:
  """One line per question and model: its score and its paired difference to each baseline; then what beats nothing."""
  lines: list[str] = []
  headline: list[Result] = []
  key = lambda r: (r.dataset, r.task, r.level, r.seed, r.model)
  for (_, task, level, _, model), group in itertools.groupby(sorted(results, key=key), key=key):
    numbers = {r.metric: r for r in group}
    metric = next(m for m in HEADLINE.values() if m in numbers and (m != "f1_macro" or "f1" not in numbers))
    paired = [r.difference for r in numbers.values() if r.compares_models]
    compared = [d for d in paired if d and d.metric == metric]
    if compared:
      against = "; ".join(f"against {model_label(d.other)}: {d.verdict}" for d in compared)
      lines.append(f"{task}, {level}: {model} {metric} {_interval(numbers[metric])}; {against}")
      headline += [r for r in numbers.values() if r.difference and r.difference.metric == metric]
  return lines + no_better_than_constant(headline)
