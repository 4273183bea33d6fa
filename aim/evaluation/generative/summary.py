"""The contest in the common columns of aim/evaluation/results.py, and what its paired differences say."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np

from aim.common.progress import tracked
from aim.evaluation.defaults import IMPUTERS
from aim.evaluation.difference import Difference, Outcome, best_other, tally
from aim.evaluation.generative.scores import (
  METRICS,
  Scores,
  channel_percent_above,
  draws_of,
  interval,
  metric,
  percent_above,
  pool,
  with_mean,
)
from aim.evaluation.results import Result, differences
from data_pipelines import text_files

CARRIED = "locf"  # skill is relative to it, as in OpenMHC
SKILL = "skill vs LOCF %"
LINE = "linear"
BY_CHANNEL = "against_linear.csv"  # in the folder evaluate of a workdir
OF_CHANNEL = ", "  # between a level and a channel
SAME = 1e-3  # relative difference of two errors that a table of three digits does not show


def contest_results(scores: Scores, dataset: str, model_seed: int, n_bootstrap: int, seed: int) -> list[Result]:
  """Every task, method and metric: the mean over channels with its 95 % interval over people.

  mse, mae, rmse and mre are in z-scored units. "skill vs LOCF %" is 100 * (1 - mse / mse of the last observation
  carried forward), above 0 where the method is better. The first method also has "mse vs OTHER %", 100 * (mse / mse of
  the other - 1), below 0 where the first is better. The intervals of the last two are paired. A value that is not
  finite (the other's error is 0) is NaN.

  Args:
    scores: what the methods were scored on; the first method is the model.
    dataset: name for the column of that name.
    model_seed: seed of the model's training.
    n_bootstrap: draws of people.
    seed: seed of the draws.
  """
  lines = []
  for task in tracked(scores.tasks, "intervals", "task"):
    people, sums = scores.people(task)
    draws = draws_of(len(people), n_bootstrap, seed)
    totals = {method: of_method.sum(axis=0)[None] for method, of_method in sums.items()}
    drawn = {method: pool(draws, of_method) for method, of_method in sums.items()}
    for i, method in enumerate(sums):
      numbers = {
        (name, ""): [with_mean(metric(of[method], name))[..., 0] for of in (totals, drawn)] for name in METRICS
      }
      if CARRIED in sums and method != CARRIED:
        # Subtracted rather than negated: a tie is 0, not -0.
        numbers[SKILL, CARRIED] = [0.0 - percent_above(of[method], of[CARRIED]) for of in (totals, drawn)]
      if i == 0 and method == scores.methods[0]:
        for other in sums:
          if other != method:
            numbers[f"mse vs {other} %", other] = [percent_above(of[method], of[other]) for of in (totals, drawn)]
      for (name, other), (value, samples) in numbers.items():
        bounds = interval(samples) if len(people) > 1 else (math.nan, math.nan)
        number, low, high = (_finite(bound) for bound in (value[0], *bounds))
        head = dataset, task.name, task.amount, method, name
        lines.append(Result(*head, number, low, high, len(people), model_seed, compared_with=other))
  return lines


def channel_results(
  scores: Scores, dataset: str, model_seed: int, n_bootstrap: int, seed: int, other: str = LINE
) -> list[Result]:
  """The error of the first method on every channel against another's, "mse vs linear %" by default.

  A mean over channels can be below the line although a smooth channel is far above it. The level of a result is that of
  the task and the channel, as "30 min, glucose". Its people are those with scored values of the channel, drawn as in
  contest_results. Empty if the other was not scored. Arguments as in contest_results.
  """
  lines: list[Result] = []
  model = scores.methods[0]
  for task in scores.tasks:
    people, sums = scores.people(task)
    if other not in sums or model not in sums or model == other:
      continue
    draws = draws_of(len(people), n_bootstrap, seed)
    totals = [channel_percent_above(sums[model].sum(axis=0)[None], sums[other].sum(axis=0)[None])]
    totals.append(channel_percent_above(pool(draws, sums[model]), pool(draws, sums[other])))
    counts = (sums[model][:, 0] > 0).sum(axis=0)
    for c, channel in enumerate(scores.channels):
      if counts[c]:
        value, samples = (total[:, c] for total in totals)
        bounds = interval(samples) if counts[c] > 1 else (math.nan, math.nan)
        number, low, high = (_finite(bound) for bound in (value[0], *bounds))
        head = dataset, task.name, f"{task.amount}{OF_CHANNEL}{channel}", model, f"mse vs {other} %"
        lines.append(Result(*head, number, low, high, int(counts[c]), model_seed, compared_with=other))
  return lines


def channel_notes(results: Sequence[Result]) -> Iterator[str]:
  """One line per dataset and model: in how many channels of tasks it is better than the line, and where it is worse.

  Args:
    results: of `channel_results`, perhaps of several datasets and seeds.
  """
  of_models: dict[tuple[str, str], list[tuple[Result, Difference]]] = {}
  for result in results:
    if difference := result.difference:
      of_models.setdefault((result.dataset, result.model), []).append((result, difference))
  for (dataset, _), rows in of_models.items():
    outcomes = [difference.outcome for _, difference in rows]
    worse: dict[str, list[str]] = {}
    for result, difference in rows:
      if difference.outcome is Outcome.WORSE:
        amount, _, channel = result.level.partition(OF_CHANNEL)
        worse.setdefault(channel, []).append(f"{result.task} {amount} {difference.amount}")
    counts = [f"{outcome} in {outcomes.count(outcome)}" for outcome in Outcome if outcome in outcomes]
    names = "; ".join(f"{channel}: {', '.join(tasks)}" for channel, tasks in worse.items())
    where = f"; {Outcome.WORSE}: {names}" if names else f"; {Outcome.WORSE} in none"
    head = f"{dataset}, channel by channel, {rows[0][1].against}"
    yield f"{head}: of {text_files.counted(len(rows), 'comparison')} {', '.join(counts)}{where}"


def _finite(number: float | np.ndarray) -> float:
  return float(number) if np.isfinite(number) else math.nan


def line_notes(results: Sequence[Result]) -> list[str]:
  """One line per model that has the error of linear interpolation in some tasks, because it returns that line.

  Args:
    results: of `contest_results`, perhaps of several datasets and seeds.
  """
  errors = {(r.dataset, r.task, r.level, r.seed, r.model): r.value for r in results if r.metric == "mse"}
  datasets = {dataset for dataset, *_ in errors}
  tasks: dict[str, dict[str, None]] = {}
  for (dataset, task, level, seed, model), value in errors.items():
    line = errors.get((dataset, task, level, seed, LINE), math.nan)
    if model not in IMPUTERS and abs(value - line) <= SAME * line:
      where = f"{dataset} " * (len(datasets) > 1)
      tasks.setdefault(model, {})[f"{where}{task} {level}"] = None
  return [
    f"{model} has the error of linear interpolation in {', '.join(of_model)}: a model of imputed days (LSM-1) reads a "
    "straight line in every gap that leaves a value of its patch, and that line is what it returns there"
    for model, of_model in tasks.items()
  ]


def task_verdicts(results: Sequence[Result]) -> Iterator[str]:
  """One line per task: the model against the best of the others.

  Args:
    results: of `contest_results`.
  """
  by_task: dict[str, list[Difference]] = {}
  for result in results:
    if result.compares_models and result.metric != SKILL and result.difference:
      by_task.setdefault(f"{result.task} {result.level}", []).append(result.difference)
  for task, of_task in by_task.items():
    best = best_other(of_task)
    if best:
      yield f"{task}: {best.against}, the best of the others: {best.verdict}"


def model_verdicts(results: Sequence[Result]) -> Iterator[str]:
  """One line per other method: in how many tasks the model is better.

  Args:
    results: of `contest_results`.
  """
  paired = [result for result in results if result.metric != SKILL]
  for of_tasks in differences(paired).values():
    against = next(iter(of_tasks.values())).against
    yield f"{against}, mse: {tally(of_tasks, 'tasks')}"
