"""The common results file: one line per number, whatever was evaluated, with an interval over people.

generative.csv, probe/results.csv, finetune/results.csv and robustness/results.csv all have these columns, so reports
and studies read them alike.
"""

from __future__ import annotations

import csv
import dataclasses
import math
import pathlib
import re
from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np
from jaxtyping import Float, Int

from aim.common.tables import PERCENTILES, csv_field, write_rows
from aim.evaluation.difference import CONSTANT, Difference, Outcome
from aim.evaluation.metrics import WITHIN_FOLDS, MetricError, lower_is_better
from data_pipelines.errors import UserError, is_whole
from data_pipelines.text_files import read_fields, read_number, read_whole_number

WHOLE_DAYS = "whole days"  # what a score is compared with when a sensor or a part of the day is lost
# "mse vs linear %", "mae vs LSM-1"; files written before the column compared_with say it in the metric alone.
_COMPARED = re.compile(r".+? vs (?P<other>.+?)(?: %)?")


class ResultsError(UserError):
  """The file cannot be read as results, or there is nothing to draw results from."""


@dataclasses.dataclass(frozen=True)
class Result:
  """One number of one model. `value` and the interval are NaN where they are not defined.

  Attributes:
    dataset: name of the dataset.
    task: such as "hypertension", "random" or "age without PPG".
    level: such as "day", "person", "30 %", "60 min" or "10 % of labels".
    model: the config's `name`, or the name of a baseline.
    metric: such as "mse", "auroc", "mae"; "mse vs LSM-1 %" for a paired difference, "mae drop" for a loss of score.
    value, ci_low, ci_high: the number and its 95 % bootstrap interval over people.
    n_people: held-out people that it was computed from.
    seed: seed of the model's training.
    compared_with: the other model of a paired difference, WHOLE_DAYS for a drop; "" for a plain number.
    n_labelled_people: people whose labels the model saw, in fitting and in early stopping; None where not counted.
    n_folds: separately fitted models whose answers were scored together, each within its fold where the metric ranks
      them (`metrics.WITHIN_FOLDS`); None where not recorded.
    seen_in_training: how many of the people who were scored the model was trained on, by their ids: "none", "2 of 7" or
      "not known"; "" where not recorded.
    neither_beats_constant: whether a paired difference is one of two models of which neither is better than a constant.
  """

  dataset: str
  task: str
  level: str
  model: str
  metric: str
  value: float
  ci_low: float
  ci_high: float
  n_people: int
  seed: int
  compared_with: str = ""
  n_labelled_people: int | None = None
  n_folds: int | None = None
  seen_in_training: str = ""
  neither_beats_constant: bool = False

  @property
  def compares_models(self) -> bool:
    """True if the number is a paired difference of two models."""
    return self.compared_with not in ("", WHOLE_DAYS)

  @property
  def difference(self) -> Difference | None:
    """The comparison that this number is; None for a plain number and where the value is not defined."""
    if not self.compared_with or math.isnan(self.value):
      return None
    unit = "%" if self.metric.endswith(" %") else ""
    metric = self.metric.split(" vs ")[0].removesuffix(" %")
    numbers = self.value, self.ci_low, self.ci_high
    return Difference(
      self.model, self.compared_with, metric, *numbers, unit, self.n_people, self.neither_beats_constant
    )


_FIELDS = tuple(field.name for field in dataclasses.fields(Result))[:-1]  # the last one is part of the outcome
COLUMNS = (*_FIELDS, "lower_is_better", "outcome")
OLD_COLUMNS = _FIELDS[: _FIELDS.index("compared_with")]  # of files written before differences had columns
LATER_COLUMNS = ("seen_in_training", "n_folds", "n_labelled_people")  # which files may lack, the newest first


def write_csv(path: str | pathlib.Path, results: Iterable[Result]) -> None:
  """Writes one line per result under COLUMNS and makes the folder; NaN becomes an empty field.

  `lower_is_better` ("true" or "false") describes the metric. `outcome` (see `Outcome`) describes the difference and is
  empty for a plain number.
  """
  write_rows(path, COLUMNS, (_line(result) for result in results))


def _line(result: Result) -> list[object]:
  outcome = result.difference.outcome if result.difference else ""
  numbers = ["" if value is None else csv_field(value) for value in dataclasses.astuple(result)[: len(_FIELDS)]]
  return [*numbers, str(lower_is_better(result.metric)).lower(), str(outcome)]


def read_csv(path: str | pathlib.Path) -> list[Result]:
  """Reads what write_csv wrote, also under OLD_COLUMNS.

  Raises:
    ResultsError: the file is missing or not such a file; the message names file and line.
  """
  try:
    with pathlib.Path(path).open(newline="", encoding="utf-8") as file:
      header, *lines = list(read_fields(csv.reader(file))) or [[]]
  except FileNotFoundError:
    raise ResultsError(f"{path}: no such file") from None
  except (UnicodeDecodeError, csv.Error) as error:
    raise ResultsError(f"{path}: not a CSV file: {error}") from None
  older = [tuple(name for name in COLUMNS if name not in LATER_COLUMNS[:n]) for n in range(1, len(LATER_COLUMNS) + 1)]
  if tuple(header) not in (COLUMNS, *older, OLD_COLUMNS):
    raise ResultsError(f"{path}: columns are {','.join(header) or 'none'}, expected {','.join(COLUMNS)}")
  results = []
  for number, line in enumerate(lines, start=2):
    try:
      results.append(_result(dict(zip(header, line, strict=True))))
    except MetricError as error:
      raise ResultsError(f"{path} line {number}: {error}") from None
    except (TypeError, ValueError):
      raise ResultsError(f"{path} line {number}: {','.join(line)!r}, expected {','.join(header)}") from None
  return results


def _result(fields: Mapping[str, str]) -> Result:
  metric = fields["metric"]
  lower_is_better(metric)  # an unknown metric is refused here, where the line is known
  value, low, high = (read_number(fields[name] or "nan") for name in ("value", "ci_low", "ci_high"))
  head = fields["dataset"], fields["task"], fields["level"], fields["model"], metric
  compared_with = fields.get("compared_with", _compared_with(metric))
  counts = read_whole_number(fields["n_people"]), read_whole_number(fields["seed"])
  labelled, folds = (
    read_whole_number(fields[name]) if fields.get(name) else None for name in ("n_labelled_people", "n_folds")
  )
  neither = fields.get("outcome") == Outcome.NEITHER
  return Result(
    *head, value, low, high, *counts, compared_with, labelled, folds, fields.get("seen_in_training", ""), neither
  )


def marked_seen(results: Iterable[Result], model: str, seen: str) -> list[Result]:
  """The results, those of a model with `seen_in_training`; other methods have not been pretrained."""
  return [dataclasses.replace(r, seen_in_training=seen) if r.model == model else r for r in results]


def seen_note(results: Iterable[Result]) -> str:
  """Says that people who were scored had been trained on, or that nobody knows; "" where neither is so."""
  found = dict.fromkeys(
    (r.dataset, r.model, r.seen_in_training) for r in results if r.seen_in_training not in ("", "none")
  )
  parts = [
    f"{model} on {dataset}: whether the people scored were trained on is not known"
    if seen == "not known"
    else f"{model} on {dataset}: {seen} people scored were trained on (by their ids)"
    for dataset, model, seen in found
  ]
  return "; ".join(parts)


def _compared_with(metric: str) -> str:
  if metric.removesuffix(" %").endswith(" drop"):
    return WHOLE_DAYS
  match = _COMPARED.fullmatch(metric)
  return match["other"] if match else ""


def differences(
  results: Iterable[Result],
) -> dict[tuple[str, str, str, str], dict[str, Difference]]:
  """Paired differences of models, grouped by what can be counted together.

  Returns:
    {(dataset, model, other, metric): {"task, level": difference}}; the name has the seed too where a file has several.
  """
  paired = [result for result in results if result.compares_models and result.difference]
  several_seeds = len({result.seed for result in paired}) > 1
  groups: dict[tuple[str, str, str, str], dict[str, Difference]] = {}
  for result in paired:
    difference = result.difference
    assert difference is not None
    name = ", ".join(part for part in (result.task, result.level) if part)
    name += f", seed {result.seed}" * several_seeds
    key = result.dataset, result.model, difference.other, difference.metric
    groups.setdefault(key, {})[name] = difference
  return groups


def mark_neither_beats_constant(results: Sequence[Result]) -> list[Result]:
  """The results, with those differences marked whose two models are both known not to be better than a constant."""
  question = lambda r, d: (r.dataset, r.task, r.level, r.seed, d.metric)
  fails: set[tuple] = set()
  for r in results:
    if r.compared_with == CONSTANT and r.difference and r.difference.outcome in (Outcome.CHANCE, Outcome.WORSE):
      fails.add((question(r, r.difference), r.model))

  def marked(r: Result) -> bool:
    if not r.compares_models or r.compared_with == CONSTANT or not r.difference:
      return False
    return all((question(r, r.difference), model) in fails for model in (r.model, r.compared_with))

  return [dataclasses.replace(r, neither_beats_constant=True) if marked(r) else r for r in results]


def no_better_than_constant(results: Iterable[Result]) -> list[str]:
  """One line per question that no model answers better than a constant, such as "age, person, mae: no model ..."."""
  outcomes: dict[tuple, set[Outcome]] = {}
  for r in results:
    if r.compared_with == CONSTANT and r.difference:
      outcomes.setdefault((r.dataset, r.task, r.level, r.difference.metric, r.seed), set()).add(r.difference.outcome)
  several_seeds = len({seed for *_, seed in outcomes}) > 1
  return [
    f"{dataset}: {task}, {level}, {metric}{f', seed {seed}' * several_seeds}: no model is beyond chance of a constant, "
    "so nothing here tells which of them is better"
    for (dataset, task, level, metric, seed), of_question in outcomes.items()
    if of_question <= {Outcome.CHANCE, Outcome.WORSE}
  ]


def folds_note(results: Iterable[Result]) -> str:
  """A note on how the people of several folds were scored together; "" if there was one fold."""
  folds = max((r.n_folds or 1 for r in results), default=1)
  if folds == 1:
    return ""
  return (
    f"{folds} folds, each predicted by a model of its own: {', '.join(WITHIN_FOLDS)} compare the rows of a fold with "
    "one another only and are combined over the folds; other metrics add up the errors or answers of all folds. "
    "Intervals are over the people of all folds."
  )


def bootstrap(
  statistic: Callable[[Int[np.ndarray, " rows"]], Float[np.ndarray, " k"]],
  participants: Sequence[str] | np.ndarray,
  n_bootstrap: int = 1000,
  seed: int = 0,
) -> tuple[Float[np.ndarray, " k"], Float[np.ndarray, " k"], Float[np.ndarray, " k"]]:
  """Computes k statistics with their 95 % percentile intervals over people (Efron 1979).

  Args:
    statistic: function of row indices, which may repeat, to k numbers; NaN where one is not defined. Statistics
      computed in one call share their draws, so the difference of two models is paired.
    participants: the person that each row belongs to.
    n_bootstrap: draws of people.
    seed: seed of the draws.

  Returns:
    value, low, high: float64 [k]. Draws in which a statistic is NaN are left out; with one person low and high are NaN.

  Raises:
    ResultsError: there are no rows, or n_bootstrap is not a whole number of at least 1.
  """
  if not is_whole(n_bootstrap) or n_bootstrap < 1:
    raise ResultsError(f"n_bootstrap is {n_bootstrap!r}, expected a whole number of at least 1")
  if np.ndim(participants) != 1 or not len(participants):
    raise ResultsError(f"participants have shape {np.shape(participants)}, expected [rows], at least one")
  people, of_row = np.unique(np.asarray(participants), return_inverse=True)
  rows = np.split(np.argsort(of_row, kind="stable"), np.cumsum(np.bincount(of_row, minlength=len(people)))[:-1])
  value = np.asarray(statistic(np.arange(len(of_row))), np.float64)
  if len(people) < 2:
    return value, np.full_like(value, np.nan), np.full_like(value, np.nan)
  rng = np.random.default_rng(seed)
  drawn = (np.concatenate([rows[i] for i in rng.integers(len(people), size=len(people))]) for _ in range(n_bootstrap))
  samples = np.array([statistic(indices) for indices in drawn], np.float64)
  known = ~np.isnan(samples).all(axis=0)
  low, high = np.full((2, len(value)), np.nan)
  low[known], high[known] = np.nanpercentile(samples[:, known], PERCENTILES, axis=0)
  return value, low, high
