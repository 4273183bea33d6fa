"""A comparison of two models on the same people: its numbers, its outcome and the one way it is put into words.

The console of every evaluation mode, the tables of --mode=compare and the report all print `Difference.verdict`, so the
same comparison reads the same everywhere.
"""

from __future__ import annotations

import dataclasses
import enum
import math
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence

from aim.evaluation.metrics import lower_is_better
from data_pipelines.text_files import plain_number

CONSTANT = "constant"  # the model that answers the same for everyone
# With five people, all of whom agree, chance alone gives a difference with this sign or the other in 2 of 32 cases:
# more than the 5 % that a 95 % interval allows. So nothing can be said about fewer than six.
MIN_PEOPLE = 6
# An interval has no width if every draw gives the same number, as when everyone is ranked without a mistake. If one of
# n people has a label, a model that knows nothing ranks that person first or last in 2 of n cases, and 2 / 40 is 5 %.
MIN_PEOPLE_WITHOUT_WIDTH = 40
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
  CONSTANT: "a constant",
}


class Outcome(enum.StrEnum):
  """The verdict of a difference on the model, in the same words on the console, in tables, in files and in reports.

  WORDS explains them to readers.
  """

  BETTER = "better"
  WORSE = "worse"
  CHANCE = "not beyond chance"
  UNTOLD = "cannot be told"
  NEITHER = "neither beats a constant"


WORDS = (
  f"{Outcome.BETTER} or {Outcome.WORSE}: the 95 % interval of the difference, over people, excludes zero; "
  f"{Outcome.CHANCE}: it includes zero; {Outcome.UNTOLD}: fewer than {MIN_PEOPLE} people, no interval, or one "
  f"without width of fewer than {MIN_PEOPLE_WITHOUT_WIDTH} people; {Outcome.NEITHER}: whichever of the two is ahead, "
  f"neither is {Outcome.BETTER} than the same answer for everyone."
)


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
    people: held-out people that both were scored on.
    neither_beats_constant: whether both were compared with a constant and neither is better.
  """

  model: str
  other: str
  metric: str
  value: float
  ci_low: float
  ci_high: float
  unit: str = ""
  people: int = 0
  neither_beats_constant: bool = False

  @property
  def lower_is_better(self) -> bool:
    """True if a negative value means that the model is better; UserError for an unknown metric."""
    return lower_is_better(self.metric)

  @property
  def gain(self) -> float:
    """The value with its sign turned so that more is better."""
    return -self.value if self.lower_is_better else self.value

  @property
  def outcome(self) -> Outcome:
    """The verdict that follows from the value and its interval; see Outcome."""
    no_interval = math.isnan(self.ci_low) or math.isnan(self.ci_high)
    no_width = self.ci_low == self.ci_high != 0
    if no_interval or self.people < (MIN_PEOPLE_WITHOUT_WIDTH if no_width else MIN_PEOPLE):
      return Outcome.UNTOLD
    if self.neither_beats_constant:
      return Outcome.NEITHER
    if self.ci_low <= 0 <= self.ci_high:
      return Outcome.CHANCE
    return Outcome.BETTER if (self.ci_high < 0) == self.lower_is_better else Outcome.WORSE

  @property
  def amount(self) -> str:
    """The value with its interval, such as "-23 % [-27, -19]"."""
    interval = bounds(self.ci_low, self.ci_high, _signed)
    return f"{_signed(self.value)}{' ' * bool(self.unit)}{self.unit}{interval}"

  @property
  def verdict(self) -> str:
    """The outcome and the numbers, such as "better, -23 % [-27, -19]" or "cannot be told (4 people), -23 %"."""
    people = f" ({self.people} {'person' if self.people == 1 else 'people'})" * (self.outcome is Outcome.UNTOLD)
    return f"{self.outcome}{people}, {self.amount}"

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


def bounds(low: float, high: float, number: Callable[[float], str]) -> str:
  """An interval as text after a value, " [0.1, 0.2]"; "" if it is NaN or has no width, because it then says nothing."""
  return "" if math.isnan(low) or math.isnan(high) or low == high else f" [{number(low)}, {number(high)}]"


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
  return plain_number(value, sign="+") if abs(value) >= 1e-3 else f"{value:+.1e}"
