"""The scores of a workdir on people never seen, as a Markdown table for a model card."""

from __future__ import annotations

import math
import pathlib
from collections.abc import Sequence

from aim.evaluation.difference import best_other
from aim.evaluation.results import Result, read_csv
from aim.evaluation.scored_model import ScoredModel, why_left_out
from aim.inference.model_card import TRAINED_ON_MARK, table
from data_pipelines.text_files import counted

# The mode that writes each file.
FILES = {
  "generative.csv": "evaluate",
  "probe/results.csv": "probe",
  "finetune/results.csv": "finetune",
  "robustness/results.csv": "robustness",
}
_METRICS = ("mse", "auroc", "f1_macro", "f1", "mae", "accuracy", "r")  # the first of these that a task has


def markdown(workdir: pathlib.Path, model: ScoredModel) -> str:
  """The scores of a model as a table, with a sentence on how to read it; "" where there are none.

  Raises:
    ResultsError: a file cannot be read as results.
    ScoredModelError: a record of whose scores they are is damaged.
  """
  scores = rows(workdir, model)
  if not scores:
    return ""
  lead = (
    "The mse is in z-scores, averaged over the channels: a single channel may be better or worse than this. "
    "In brackets, 95 % intervals over people."
  )
  if any(TRAINED_ON_MARK in score[4] for score in scores):
    lead += " Where the table says so, the model was, or may have been, trained on people whom it is scored on."
  return f"{lead}\n\n{table(('data', 'task', 'level', 'score', 'people', 'strongest other'), scores)}"


def rows(workdir: pathlib.Path, model: ScoredModel) -> list[tuple[str, ...]]:
  """One row per task and level that a model was scored at: dataset, task, level, score, people, strongest other.

  Args:
    workdir: of the run; files that do not exist are passed over, and those that are not known to be scores of the model
      are left out, with a note.
    model: the model.

  Raises:
    ResultsError, ScoredModelError: see markdown().
  """
  results: list[Result] = []
  for path, mode in ((workdir / file, mode) for file, mode in FILES.items()):
    if not path.is_file():
      continue
    if reason := why_left_out(workdir, mode, model):
      print(f"note: {reason}")
    else:
      results += [result for result in read_csv(path) if result.model == model.name]
  questions = dict.fromkeys((result.dataset, result.task, result.level) for result in results)
  return [row for question in questions if (row := _row(question, results))]


def _row(question: tuple[str, str, str], results: Sequence[Result]) -> tuple[str, ...] | None:
  mine = [result for result in results if (result.dataset, result.task, result.level) == question]
  plain = {result.metric: result for result in mine if not result.compared_with and not math.isnan(result.value)}
  metric = next((name for name in _METRICS if name in plain), None)
  if metric is None:
    return None
  score = plain[metric]
  differences = [result.difference for result in mine if result.compares_models and result.difference]
  other = best_other(difference for difference in differences if difference.metric == metric)
  interval = f" [{score.ci_low:.3g}, {score.ci_high:.3g}]" if not math.isnan(score.ci_low) else ""
  against = f"{other.against}: {other.verdict}" if other else "-"
  return (*question, f"{metric} {score.value:.3g}{interval}", _people(score), against)


def _people(score: Result) -> str:
  people = counted(score.n_people, "person")
  if score.seen_in_training in ("", "none"):
    return people
  return f"{people} ({TRAINED_ON_MARK}{score.seen_in_training})"
