"""Paired differences as sentences of the page, coloured by their outcome."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from aim.evaluation.difference import Difference, Outcome, tally
from aim.evaluation.results import Result, differences
from data_pipelines.page.blocks import TextLine

_TONES = {Outcome.BETTER: "yes", Outcome.WORSE: "no"}


def verdict_line(difference: Difference) -> TextLine:
  """The verdict of one comparison in its colour."""
  return TextLine(difference.verdict, _TONES.get(difference.outcome, "open"))


def sentences(results: Sequence[Result]) -> list[TextLine]:
  """One sentence per pair of models and metric: the verdict of one comparison, or the tally of several."""
  groups = differences(results)
  datasets = {dataset for dataset, *_ in groups}
  lines = []
  for (dataset, _, _, metric), group in groups.items():
    [first, *more] = group
    about = [metric] if more else [first, metric]
    about += [dataset] * (len(datasets) > 1)
    lines.append(TextLine(f"{group[first].against} ({', '.join(about)}): {tally(group)}", tone(group.values())))
  return lines


def tone(differences: Iterable[Difference]) -> str:
  """The colour of several comparisons together: "yes" if all are better, "no" if more are worse than better.

  Comparisons of which nothing can be told do not count.
  """
  outcomes = [d.outcome for d in differences if d.outcome is not Outcome.UNTOLD]
  better, worse = outcomes.count(Outcome.BETTER), outcomes.count(Outcome.WORSE)
  return "yes" if 0 < better == len(outcomes) else "no" if worse > better else "open"
