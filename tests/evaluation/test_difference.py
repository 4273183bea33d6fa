"""aim/evaluation/difference.py: one outcome and one wording of a comparison, wherever it is printed."""

from __future__ import annotations

import math

import ml_collections
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aim.evaluation import difference, metrics, predictions, results, scored_model
from aim.evaluation.difference import Difference, Outcome
from aim.evaluation.finetuning import learning_curve
from aim.evaluation.generative import summary
from aim.evaluation.generative.scores import Scores
from aim.evaluation.generative.tasks import GenerativeTask
from aim.evaluation.probing import robustness
from aim.evaluation.results import Result
from aim.report import tables
from aim.report.workdir import Workdir
from aim.studies.compare import table as compare_table
from data_pipelines.errors import SchemaError
from data_pipelines.page.blocks import Table, TextLine


def compared(metric: str, value: float, low: float, high: float, unit: str = "", people: int = 12) -> Difference:
  return Difference("LSM-2", "linear", metric, value, low, high, unit, people)


@pytest.mark.parametrize(
  ("made", "outcome", "verdict"),
  [
    (compared("mse", -23.4, -27, -19, "%"), Outcome.BETTER, "better, -23.4 % [-27, -19]"),
    (compared("mse", 4, 1, 7, "%"), Outcome.WORSE, "worse, +4 % [+1, +7]"),
    (compared("mae", -1, -3, 0.5), Outcome.CHANCE, "not beyond chance, -1 [-3, +0.5]"),
    # Above the other, but not beyond chance: never a plain "no".
    (compared("mse", 0.5, -1, 2, "%"), Outcome.CHANCE, "not beyond chance, +0.5 % [-1, +2]"),
    (compared("auroc", 0.1, 0.05, 0.2), Outcome.BETTER, "better, +0.1 [+0.05, +0.2]"),
    (compared("auroc", -0.1, -0.2, -0.05), Outcome.WORSE, "worse, -0.1 [-0.2, -0.05]"),
    (compared("auroc drop", 0.1, 0.05, 0.2), Outcome.WORSE, "worse, +0.1 [+0.05, +0.2]"),
    (compared("f1", 0, 0, 0), Outcome.CHANCE, "not beyond chance, 0"),
    (compared("auroc", 0.5, 0.5, 0.5), Outcome.UNTOLD, "cannot be told (12 people), +0.5"),
    (compared("auroc", 0.5, 0.5, 0.5, people=40), Outcome.BETTER, "better, +0.5"),
    (compared("mse", -23, -27, -19, "%", 5), Outcome.UNTOLD, "cannot be told (5 people), -23 % [-27, -19]"),
    (compared("mse", -23, -27, -19, "%", 6), Outcome.BETTER, "better, -23 % [-27, -19]"),
    # What a study found: the first read "no" and the second "not surely".
    (compared("mse", 17, -6, 44, "%"), Outcome.CHANCE, "not beyond chance, +17 % [-6, +44]"),
    (compared("mse", -2, -7, 4, "%"), Outcome.CHANCE, "not beyond chance, -2 % [-7, +4]"),
    (compared("mse", -5, -9, 0, "%"), Outcome.CHANCE, "not beyond chance, -5 % [-9, 0]"),
    (compared("f1", 0.1, math.nan, math.nan), Outcome.UNTOLD, "cannot be told (12 people), +0.1"),
    (compared("mse", -2345.6, -3e5, -0.00004), Outcome.BETTER, "better, -2,346 [-300,000, -4.0e-05]"),
  ],
)
def test_outcome_and_words(made, outcome, verdict):
  assert (made.outcome, made.verdict) == (outcome, verdict)


@given(st.floats(-50, 50), st.floats(0, 20), st.sampled_from([*metrics.LOWER_IS_BETTER, *metrics.HIGHER_IS_BETTER]))
def test_what_is_better_for_one_is_worse_for_the_other(value, half, metric):
  mirror = {Outcome.BETTER: Outcome.WORSE, Outcome.WORSE: Outcome.BETTER}
  ours = compared(metric, value, value - half, value + half)
  theirs = compared(metric, -value, -value - half, -value + half)
  assert mirror.get(ours.outcome, ours.outcome) == theirs.outcome
  told = ours.ci_low != ours.ci_high or value == 0
  assert (ours.outcome == Outcome.UNTOLD) == (not told)
  assert (ours.outcome == Outcome.CHANCE) == (told and ours.ci_low <= 0 <= ours.ci_high)
  assert ours.gain == -theirs.gain


def test_every_metric_is_known_to_be_better_low_or_high():
  for names in metrics.METRICS.values():
    assert {metrics.lower_is_better(name) for name in names} <= {True, False}
  assert metrics.lower_is_better("mse vs linear %") and not metrics.lower_is_better("skill vs LOCF %")
  assert metrics.lower_is_better("auroc drop %")
  with pytest.raises(metrics.MetricError, match="unknown metric 'kappa', expected one of mse, mae"):
    metrics.lower_is_better("kappa")


def test_tallies():
  better, chance, worse = (compared("mse", v, v - 1, v + 1, "%") for v in (-5.0, 0.5, 4.0))
  assert difference.tally({"a": better}) == better.verdict
  assert difference.tally({"a": better, "b": better}, "rows") == "better in all 2 rows; median -5 %"
  assert difference.tally({"a": worse, "b": worse}) == "worse in all 2 comparisons; median +4 %"
  mixed = {"a": better, "b": worse, "c": chance, "d": chance}
  assert difference.tally(mixed) == (
    "better in 1 of 4 comparisons, worse in 1 (b), not beyond chance in 2 (c; d); median +0.5 %"
  )
  years, index = compared("mae", -3.0, -4.0, -2.0), compared("mae", -0.2, -0.4, -0.1)
  assert difference.tally({"age": years, "bmi": index}) == "better in all 2 comparisons", "no median of years and kg/m2"
  assert difference.tally({"a": years, "b": years}, "seeds", same_task=True) == "better in all 2 seeds; median -3"
  many = {str(i): chance for i in range(9)} | {"x": worse}
  assert "not beyond chance in 9 (0; 1; 2; 3; 4; 5; 3 more)" in difference.tally(many)


def test_the_best_other_is_the_one_we_gain_least_against():
  low = [Difference("a", name, "mse", value, -9, 9, "%") for name, value in (("x", -20), ("y", -3), ("z", math.inf))]
  high = [Difference("a", name, "auroc", value, -1, 1) for name, value in (("x", 0.2), ("y", 0.1), ("z", math.nan))]
  assert [difference.best_other(group).other for group in (low, high)] == ["y", "y"]
  assert difference.best_other([]) is None


# ----- the same words everywhere


def page_of(lines: list[Result], kind: str, folder) -> list:
  """The report's blocks for a results file; verdicts are the texts of its lines and tables."""
  file, mode = tables.RESULTS[kind]
  results.write_csv(folder / file, lines)
  scored_model.record(folder, mode, scored_model.ScoredModel("LSM-2", 6, "0" * 32))

  def no_data(config):
    raise SchemaError("no data here")

  blocks = tables.section(
    [Workdir(folder, ml_collections.ConfigDict({"name": "LSM-2", "evaluate": {"batch_size": 8}}), no_data)], kind
  ).blocks
  texts = [block.text for block in blocks if isinstance(block, TextLine)]
  fields = [field for block in blocks if isinstance(block, Table) for row in block.rows for field in row]
  return [*texts, *(field.text if isinstance(field, TextLine) else str(field) for field in fields)]


@pytest.mark.parametrize(
  ("people", "outcome"), [(8, "better"), (8, "worse"), (8, "not beyond chance"), (1, "cannot be told (1 person)")]
)
def test_generative_verdicts_read_alike(tmp_path, people, outcome):
  ratio = {"better": 0.8, "worse": 1.3}.get(outcome, 1.0)
  scores, rng = Scores(["x"]), np.random.default_rng(0)
  truth, target = np.zeros((1, 50, 1), np.float32), np.ones((1, 50, 1), bool)
  for p in range(people):
    for method, factor in (("LSM-2", ratio), ("linear", 1.0)):
      error = factor * rng.normal(size=truth.shape)
      scores.add(GenerativeTask("random", 30), method, [f"p{p}"], error, truth, target)
  lines = summary.contest_results(scores, "d", 0, 100, 0)
  [made] = scores.differences("LSM-2", "linear", 100).values()
  verdict = made.verdict
  assert verdict.startswith(outcome)
  [by_task], [by_model] = summary.task_verdicts(lines), summary.model_verdicts(lines)
  assert by_task == f"random 30 %: LSM-2 against linear interpolation, the best of the others: {verdict}"
  assert by_model == f"LSM-2 against linear interpolation, mse: {verdict}"
  counted, table, words = compare_table.verdicts("evaluate", lines)
  assert words == f"Verdicts: {difference.WORDS}"
  assert counted == f"- d, mse: LSM-2 against linear interpolation: {verdict}"
  assert table.splitlines()[-1] == f"| d | random | 30 % | mse | LSM-2 | {verdict} |"
  page = page_of(lines, "generative", tmp_path)
  assert f"LSM-2 against linear interpolation (random, 30 %, mse): {verdict}" in page
  assert f"LSM-2 against linear interpolation: {verdict}" in page and verdict in page
  [stored] = [line for line in results.read_csv(tmp_path / "generative.csv") if line.compares_models]
  assert stored.difference.verdict == verdict


@pytest.mark.parametrize(
  ("kind", "level"), [("probe", "person"), ("finetune", "10 % of labels, person")], ids=["probe", "finetune"]
)
@pytest.mark.parametrize(
  ("task", "metric", "outcome"), [("ill", "auroc", "better"), ("age", "mae", "worse")], ids=["auroc", "mae"]
)
def test_label_verdicts_read_alike(tmp_path, kind, level, task, metric, outcome):
  head = "d", task, level, "LSM-2"
  lines = [
    Result(*head, metric, 0.8, 0.7, 0.9, 9, 0),
    Result(*head, f"{metric} vs constant", 0.3, 0.2, 0.4, 9, 0, "constant"),
    *([Result(*head, "f1", 0.5, 0.4, 0.6, 9, 0)] if metric == "auroc" else []),
  ]
  verdict = f"{outcome}, +0.3 [+0.2, +0.4]"
  if kind == "probe":
    console, *note = predictions.verdicts(lines)
    assert console.endswith(f"; against a constant: {verdict}")
  else:
    console, *note = learning_curve.verdicts(lines, "LSM-2")
    assert console.endswith(f"LSM-2 against a constant: 10 % of labels: {verdict}")
  assert bool(note) == (outcome == "worse"), "no model is beyond chance of a constant"
  counted, table, *_ = compare_table.verdicts(kind, lines)
  assert counted.endswith(f": {verdict}") and table.endswith(f"| {verdict} |")
  assert f"LSM-2 against a constant ({task}, {level}, {metric}): {verdict}" in page_of(lines, kind, tmp_path)


def test_a_drop_reads_like_any_other_difference():
  """Robustness compares a score without a sensor with that on whole days."""
  lines = [Result("d", "age", "day", "LSM-2", name, 5.0, 4.0, 6.0, 9, 0) for name in metrics.METRICS["regression"]]
  for setting in ("PPG", robustness.MEAN):
    head = "d", f"age without {setting}", "day", "LSM-2"
    lines += [Result(*head, f"mae {suffix}", 0.4, 0.1, 0.7, 9, 0, results.WHOLE_DAYS) for suffix in ("drop", "drop %")]
  some = np.zeros((3, 1))
  predicted = robustness.SettingPredictions(
    np.array(["p", "q", "r"]), some[:, 0], some, {"PPG": some}, {"PPG": np.ones(3, bool)}
  )
  head, *drops = robustness.verdicts(lines, {"age": predicted})
  assert head == "age: mae 5.000 [4.000, 6.000] on whole days"
  assert len(drops) == 2 and all("worse, +0.4 [+0.1, +0.7], +0.4 %" in drop for drop in drops)
