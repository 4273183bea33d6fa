"""The contest in the common columns of aim/evaluation/results.py, and in plain words."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from aim.evaluation.generative.scores import (
  METRICS,
  Difference,
  Scores,
  draws_of,
  interval,
  metric,
  percent_above,
  pool,
  with_mean,
)
from aim.evaluation.generative.tasks import GenerativeTask
from aim.evaluation.results import Result

CARRIED = "locf"  # skill is told against it, as OpenMHC does
SKILL = "skill vs LOCF %"


def results(scores: Scores, dataset: str, model_seed: int, n_bootstrap: int, seed: int) -> list[Result]:
  """Every task, method and metric, the mean over channels with its 95 % interval over people.

  mse, mae, rmse, mre in z-scored units; "skill vs LOCF %", 100 * (1 - mse / mse of the last observation carried
  forward), above 0 where better; of the first method also "mse vs OTHER %", below 0 where it is better than the other.
  Intervals of the last two are paired.
  """
  found = []
  for task in scores.tasks:
    people, sums = scores.people(task)
    draws = draws_of(len(people), n_bootstrap, seed)
    totals = {method: of_method.sum(axis=0)[None] for method, of_method in sums.items()}
    drawn = {method: pool(draws, of_method) for method, of_method in sums.items()}
    for i, method in enumerate(sums):
      numbers = {name: [with_mean(metric(of[method], name))[..., 0] for of in (totals, drawn)] for name in METRICS}
      if CARRIED in sums and method != CARRIED:
        numbers[SKILL] = [-percent_above(of[method], of[CARRIED]) for of in (totals, drawn)]
      if i == 0 and method == scores.methods[0]:
        others = [other for other in sums if other != method]
        numbers |= {
          f"mse vs {other} %": [percent_above(of[method], of[other]) for of in (totals, drawn)] for other in others
        }
      for name, (value, samples) in numbers.items():
        low, high = interval(samples) if len(people) > 1 else (math.nan, math.nan)
        number, low, high = (_finite(each) for each in (value[0], low, high))
        found.append(Result(dataset, task.name, task.amount, method, name, number, low, high, len(people), model_seed))
  return found


def _finite(number: float | np.ndarray) -> float:
  return float(number) if np.isfinite(number) else math.nan


def against(scores: Scores, n_bootstrap: int, seed: int) -> dict[str, dict[GenerativeTask, Difference]]:
  """The first method against each other one, by task."""
  ours, *others = scores.methods
  return {other: {_task(d): d for d in scores.difference(ours, other, n_bootstrap, seed)} for other in others}


def of_rows(ours: str, against: Mapping[str, Mapping[GenerativeTask, Difference]]) -> list[str]:
  """A line for each task: whether `ours` beats the best of the others, by how much, and how sure."""
  lines = []
  for task in dict.fromkeys(task for of_task in against.values() for task in of_task):
    known = [(of_task[task].percent, other) for other, of_task in against.items() if task in of_task]
    known = [each for each in known if math.isfinite(each[0])]
    if known:
      best = max(known)[1]  # the lower the other's error, the higher we lie above it
      lines.append(f"{task.label}: {ours} beats {best}, the best of the others: {verdict(against[best][task])}")
  return lines


def verdict(d: Difference) -> str:
  """Such as "yes, -23 % [-27, -19]"."""
  word = "yes" if d.ci_high < 0 else "no" if d.percent >= 0 else "not surely"
  bounds = f" [{d.ci_low:+.0f}, {d.ci_high:+.0f}]" if math.isfinite(d.ci_low) else ""
  return f"{word}, {d.percent:+.0f} %{bounds}"


def summary(ours: str, against: Mapping[str, Mapping[GenerativeTask, Difference]]) -> list[str]:
  """A line for each other method: in how many tasks `ours` is below it."""
  return [_below(ours, other, list(of_task.values())) for other, of_task in against.items()]


def _below(ours: str, other: str, differences: Sequence[Difference]) -> str:
  lower = [d for d in differences if d.percent < 0]
  surely = [d for d in lower if d.ci_high < 0]
  higher = ", ".join(_task(d).label for d in differences if d.percent >= 0)
  line = f"{ours} below {other}: {len(lower)} of {len(differences)} rows, {len(surely)} beyond chance (95 %)"
  return f"{line}; not in {higher}" if higher else line


def _task(d: Difference) -> GenerativeTask:
  return GenerativeTask(d.task, d.level)
