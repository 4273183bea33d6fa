"""What a paired difference says in plain words."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Sequence

from aim.evaluation.results import Result
from data_pipelines.page.blocks import TextLine, number

# "mse vs linear %", "mae vs LSM-1", "auroc vs mask-only"
_PAIRED = re.compile(r"(?P<measure>.+?) vs (?P<other>.+?)(?P<unit> %)?")
_MORE_IS_BETTER = ("auroc", "auprc", "f1", "accuracy", "pearson", "r2", "skill", "kappa", "correlation")
_SPOKEN = {
  "linear": "linear interpolation",
  "mean": "the channel's mean",
  "nearest": "the nearest value",
  "time_of_day_mean": "the time-of-day mean",
  "person_time_of_day_mean": "the person's time-of-day mean",
  "knn": "nearest neighbours (KNN)",
  "mice": "MICE",
  "locf": "last observation carried forward",
  "constant": "a constant",
}


@dataclasses.dataclass(frozen=True)
class Difference:
  """A result whose metric compares its model with another's on the same people."""

  result: Result
  measure: str
  other: str
  unit: str

  @property
  def better(self) -> bool:
    return self.result.value > 0 if more_is_better(self.measure) else self.result.value < 0

  @property
  def sure(self) -> bool:
    return self.result.ci_low > 0 or self.result.ci_high < 0

  @property
  def amount(self) -> str:
    """−23 % [−27, −19]"""
    return f"{_signed(self.result.value)}{self.unit}{interval(self.result)}"

  @property
  def answer(self) -> TextLine:
    """Does the model beat the other?"""
    if math.isnan(self.result.ci_low):
      return TextLine("no interval: too few people", "open")
    if not self.sure:
      return TextLine("not beyond chance", "open")
    return TextLine("yes", "yes") if self.better else TextLine("no, worse", "no")

  @property
  def sentence(self) -> TextLine:
    """The whole verdict."""
    r, answer = self.result, self.answer
    about = ", ".join(part for part in (r.task, r.level, self.measure) if part)
    return TextLine(f"{r.model} beats {spoken(self.other)} ({about}): {answer.text}, {self.amount}", answer.tone)


def differences(results: Sequence[Result]) -> list[Difference]:
  """The paired rows."""
  found = [(result, _PAIRED.fullmatch(result.metric)) for result in results]
  return [
    Difference(result, match["measure"], match["other"], match["unit"] or "")
    for result, match in found
    if match and not math.isnan(result.value)
  ]


def is_paired(result: Result) -> bool:
  return bool(_PAIRED.fullmatch(result.metric))


def summary(found: Sequence[Difference]) -> list[TextLine]:
  """One line for each model, other and measure."""
  groups: dict[tuple[str, str, str, str], list[Difference]] = {}
  for d in found:
    groups.setdefault((d.result.dataset, d.result.model, d.other, d.measure), []).append(d)
  lines, datasets = [], {d.result.dataset for d in found}
  for (dataset, model, other, measure), each in groups.items():
    if len(each) == 1:
      lines.append(each[0].sentence)
      continue
    better, worse = sum(d.better and d.sure for d in each), sum(not d.better and d.sure for d in each)
    tone = "yes" if better == len(each) else "no" if worse > better else "open"
    typical = sorted(each, key=lambda d: d.result.value)[len(each) // 2]
    where = f"{measure}, {dataset}" if len(datasets) > 1 else measure
    how = "yes, in all" if better == len(each) else f"in {better} of"
    but = f", worse beyond chance in {worse}" if worse else ""
    lines.append(
      TextLine(
        f"{model} beats {spoken(other)} ({where}): {how} {len(each)} rows beyond chance{but}; "
        f"the middle row is {typical.amount}",
        tone,
      )
    )
  return lines


def more_is_better(measure: str) -> bool:
  """Of a metric's name; errors and drops want to be small."""
  name = measure.lower()
  return "drop" not in name and (name == "r" or any(word in name for word in _MORE_IS_BETTER))


def spoken(model: str) -> str:
  return _SPOKEN.get(model, model)


def interval(result: Result) -> str:
  return "" if math.isnan(result.ci_low) else f" [{number(result.ci_low)}, {number(result.ci_high)}]"


def _signed(value: float) -> str:
  return f"+{number(value)}" if value > 0 else number(value)
