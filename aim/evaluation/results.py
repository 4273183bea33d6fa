"""One line per number, whatever was evaluated, and intervals over people.

Every results file (probe/results.csv, finetune/results.csv, generative.csv, robustness/results.csv) has these columns,
so that reports and comparisons read them alike.
"""

from __future__ import annotations

import csv
import dataclasses
import math
import pathlib
from collections.abc import Callable, Iterable, Sequence

import numpy as np
from jaxtyping import Float, Int

from aim.common.tables import PERCENTILES, csv_field, write_rows
from data_pipelines.errors import UserError


class ResultsError(UserError):
  """A results file that is not one."""


@dataclasses.dataclass(frozen=True)
class Result:
  """One number of one model; NaN where there is nothing to say.

  Attributes:
    dataset: its name.
    task: what was asked, such as "hypertension", "random" or "age without PPG".
    level: of what, such as "day", "person", "30 %", "60 min" or "10 % of labels".
    model: who answered: the config's `name`, or a baseline's.
    metric: such as "mse", "auroc", "mae"; "mse vs LSM-1 %" for a paired difference.
    value, ci_low, ci_high: the number and its 95 % bootstrap interval over people.
    n_people: held-out people it was computed from.
    seed: of the model's training.
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


COLUMNS = tuple(field.name for field in dataclasses.fields(Result))


def write_csv(path: str | pathlib.Path, results: Iterable[Result]) -> None:
  """Writes the lines under COLUMNS, making the folder; NaN as an empty cell."""
  write_rows(path, COLUMNS, ([csv_field(value) for value in dataclasses.astuple(result)] for result in results))


def read_csv(path: str | pathlib.Path) -> list[Result]:
  """What write_csv wrote; ResultsError naming file and line otherwise."""
  try:
    with pathlib.Path(path).open(newline="", encoding="utf-8") as file:
      lines = list(csv.reader(file))
  except FileNotFoundError:
    raise ResultsError(f"{path}: no such file") from None
  except (UnicodeDecodeError, csv.Error) as error:
    raise ResultsError(f"{path}: not a CSV file: {error}") from None
  if not lines or tuple(lines[0]) != COLUMNS:
    raise ResultsError(f"{path}: columns are {','.join(lines[0]) if lines else 'none'}, expected {','.join(COLUMNS)}")
  results = []
  for number, line in enumerate(lines[1:], start=2):
    try:
      dataset, task, level, model, metric, *numbers, people, seed = line
      value, low, high = (float(number) if number else math.nan for number in numbers)
      results.append(Result(dataset, task, level, model, metric, value, low, high, int(people), int(seed)))
    except (TypeError, ValueError):
      raise ResultsError(f"{path} line {number}: {','.join(line)!r}, expected {','.join(COLUMNS)}") from None
  return results


def bootstrap(
  statistic: Callable[[Int[np.ndarray, " rows"]], Float[np.ndarray, " k"]],
  participants: Sequence[str] | np.ndarray,
  n_bootstrap: int = 1000,
  seed: int = 0,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
  """k statistics of some rows with their percentile intervals over people (Efron 1979).

  Args:
    statistic: of the rows with these indices, which may repeat; NaN where it is not defined. Statistics computed in one
      call share their draws, so a difference of two models is paired.
    participants: whose row each is.

  Returns:
    value, low, high: float64 [k]. Draws in which a statistic is NaN are left out; with one person low and high are NaN.
  """
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
