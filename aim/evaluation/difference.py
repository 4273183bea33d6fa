"""A comparison of two models on the same people: its numbers, its outcome and the one way it is put into words.

The console of every evaluation mode, the tables of --mode=compare and the report all print `Difference.verdict`, so the
same comparison reads the same everywhere.
"""

from __future__ import annotations

import dataclasses
import enum
import math
import statistics
from collections.abc import Iterable, Mapping, Sequence

from aim.evaluation.metrics import lower_is_better

MOST_NAMES = 6  # comparisons that a tally lists by name before it says "and 3 more"
_LABELS = {
  "linear": "linear interpolation",
  "mean": "the channel's mean",
  "nearest": "the nearest value",
  "time_of_day_mean": "the time-of-day mean",
  "person_time_of_day_mean": "the person's time-of-day mean",
  "knn": "nearest neighbours (KNN)",
  "mice": "MICE",
  "locf": "the last observation carried forward",
  "LOCF": "the last observation carried forward",
  "constant": "a constant",
}


class Outcome(enum.StrEnum):
  """What a difference says about the model. Better and worse need a 95 % interval that excludes zero."""

  BETTER = "better"
  WORSE = "worse"
  CHANCE = "not beyond chance"
  NO_INTERVAL = "no interval"


@dataclasses.dataclass(frozen=True)
class Difference:
  """A metric of one model minus the same metric of another, computed on the same people.

  Attributes:
    model: the model that is judged.
    other: what it is compared with, such as "linear", "LSM-1" or "whole days".
    metric: a name known to `metrics.lower_is_better`, such as "mse", "auroc" or "mae drop".
    value: the model's metric minus the other's, or 100 * (model / other - 1) where `unit` is "%".
    ci_low, ci_high: paired 95 % interval over people; NaN where fewer than two people have rows.
    unit: "%" for a relative difference, "" for one in the metric's own unit.
  """

  model: str
  other: str
  metric: str
  value: float
  ci_low: float
  ci_high: float
  unit: str = ""

  @property
  def lower_is_better(self) -> bool:
    """Whether a negative value means that the model is better; UserError for an unknown metric."""
    return lower_is_better(self.metric)

  @property
  def gain(self) -> float:
    """The value with its sign turned so that more is better."""
    return -self.value if self.lower_is_better else self.value

  @property
  def outcome(self) -> Outcome:
    """Better or worse where the whole interval lies on one side of zero."""
    if math.isnan(self.ci_low) or math.isnan(self.ci_high):
      return Outcome.NO_INTERVAL
    if self.ci_low <= 0 <= self.ci_high:
      return Outcome.CHANCE
    return Outcome.BETTER if (self.ci_high < 0) == self.lower_is_better else Outcome.WORSE

  @property
  def amount(self) -> str:
    """The value with its interval, such as "-23 % [-27, -19]"."""
    bounds = "" if math.isnan(self.ci_low) else f" [{_signed(self.ci_low)}, {_signed(self.ci_high)}]"
    return f"{_signed(self.value)}{' ' * bool(self.unit)}{self.unit}{bounds}"

  @property
  def verdict(self) -> str:
    """The outcome and the numbers, such as "better, -23 % [-27, -19]"."""
    return f"{self.outcome}, {self.amount}"

  @property
  def against(self) -> str:
    """Who is compared with whom, such as "LSM-2 against linear interpolation"."""
    return f"{self.model} against {model_label(self.other)}"


def best_other(differences: Iterable[Difference]) -> Difference | None:
  """The comparison with the strongest of the others: the one that the model gains least against.

  Args:
    differences: one model against several others, all in the same metric; a NaN or infinite value is left out.

  Returns:
    None if no comparison is left.
  """
  return min((d for d in differences if math.isfinite(d.value)), key=lambda d: d.gain, default=None)


def tally(differences: Mapping[str, Difference], noun: str = "comparisons", same_task: bool = False) -> str:
  """Counts the outcomes of several comparisons of the same two models in the same metric.

  Args:
    differences: by the name of each comparison, such as "random, 30 %".
    noun: what is counted, in the plural.
    same_task: whether all are of one task. Errors of several tasks in their own units have no common median, which
      is left out then.

  Returns:
    Such as "better in 16 of 21 comparisons, worse in 1 (sleep, 360 min), not beyond chance in 4 (...); median -20 %".
    A single comparison is given by its verdict.
  """
  if len(differences) == 1:
    return next(iter(differences.values())).verdict
  names_by_outcome = {outcome: [name for name, d in differences.items() if d.outcome is outcome] for outcome in Outcome}
  counts = [f"{outcome} in all {len(differences)} {noun}" for outcome, names in names_by_outcome.items()
            if len(names) == len(differences)]  # fmt: skip
  if not counts:
    counts = [f"{Outcome.BETTER} in {len(names_by_outcome.pop(Outcome.BETTER))} of {len(differences)} {noun}"]
    counts += [f"{outcome} in {len(names)} ({_listed(names)})" for outcome, names in names_by_outcome.items() if names]
  first = next(iter(differences.values()))
  if first.lower_is_better and not first.unit and not same_task:
    return ", ".join(counts)
  unit = f" {first.unit}" if first.unit else ""
  return f"{', '.join(counts)}; median {_signed(statistics.median(d.value for d in differences.values()))}{unit}"


def model_label(name: str) -> str:
  """A model's name as prose has it: "linear interpolation" for the imputer "linear"; other names stay."""
  return _LABELS.get(name, name)


def _listed(names: Sequence[str]) -> str:
  more = [f"{len(names) - MOST_NAMES} more"] if len(names) > MOST_NAMES else []
  return "; ".join([*names[:MOST_NAMES], *more])


def _signed(value: float) -> str:
  """Three significant digits with a sign; ASCII, so that it can be pasted and searched anywhere."""
  if value == 0:
    return "0"
  if abs(value) >= 100:
    return f"{value:+,.0f}"
  return f"{value:+.3g}" if abs(value) >= 1e-3 else f"{value:+.1e}"
