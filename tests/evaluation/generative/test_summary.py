"""The channels beside the mean: which are worse than linear interpolation, and how that is said."""

import numpy as np
import pytest

from aim.evaluation import results
from aim.evaluation.generative import summary
from aim.evaluation.generative.scores import Scores
from aim.evaluation.generative.tasks import GenerativeTask

GAP, RANDOM = GenerativeTask("interpolation", 30), GenerativeTask("random", 80)
CHANNELS = ("heart", "glucose", "rare")


def made_up(people: int = 8) -> Scores:
  """The model is far better than the line on heart and twice as far off on glucose; rare is of one person."""
  rng = np.random.default_rng(0)
  truth = rng.normal(size=(people, 20, 3)).astype(np.float32)
  scored = np.ones(truth.shape, bool)
  scored[1:, :, 2] = False
  table = Scores(CHANNELS)
  for task in (GAP, RANDOM):
    sizes = {"AIM": [0.5, 0.2 if task == GAP else 0.05, 0.5], "linear": [1.0, 0.1, 1.0]}
    for method, size in sizes.items():
      guess = (truth + np.array(size) * rng.normal(size=truth.shape)).astype(np.float32)
      table.add(task, method, [f"p{i}" for i in range(people)], guess, truth, scored)
  return table


def test_a_channel_is_worse_although_the_mean_is_better():
  scores = made_up()
  (mean,) = [r for r in summary.contest_results(scores, "d", 0, 200, 0)
             if r.metric == "mse vs linear %" and r.task == "interpolation"]  # fmt: skip
  assert mean.difference.outcome == "better"
  lines = summary.channel_results(scores, "d", 3, 200, 0)
  assert [(r.task, r.level, r.n_people, r.seed) for r in lines] == [
    ("interpolation", "30 min, heart", 8, 3), ("interpolation", "30 min, glucose", 8, 3),
    ("interpolation", "30 min, rare", 1, 3), ("random", "80 %, heart", 8, 3), ("random", "80 %, glucose", 8, 3),
    ("random", "80 %, rare", 1, 3),
  ]  # fmt: skip
  (note,) = summary.channel_notes(lines)
  assert note.startswith(
    "d, channel by channel, AIM against linear interpolation: of 6 comparisons better in 3, worse in 1, "
    "cannot be told in 2; worse: glucose: interpolation 30 min +"
  )


def test_the_numbers_are_the_ratio_of_channel_errors_with_a_paired_bootstrap():
  scores = made_up()
  line = summary.channel_results(scores, "d", 0, 300, 5)[1]
  sse = {m: np.array([scores.sums[GAP, m][f"p{i}"][1, 1] for i in range(8)]) for m in ("AIM", "linear")}
  draws = np.random.default_rng(5).multinomial(8, np.full(8, 1 / 8), 300)
  samples = 100 * (draws @ sse["AIM"] / (draws @ sse["linear"]) - 1)
  expected = [100 * (sse["AIM"].sum() / sse["linear"].sum() - 1), *np.percentile(samples, [2.5, 97.5])]
  assert [line.value, line.ci_low, line.ci_high] == pytest.approx(expected, rel=1e-9)


def test_they_come_back_from_a_file_and_say_the_same(tmp_path):
  lines = summary.channel_results(made_up(), "d", 0, 100, 0)
  results.write_csv(tmp_path / "against_linear.csv", lines)
  assert list(summary.channel_notes(results.read_csv(tmp_path / "against_linear.csv"))) == list(
    summary.channel_notes(lines)
  )


def test_without_the_line_there_is_nothing_to_say():
  scores = made_up()
  for task in (GAP, RANDOM):
    del scores.sums[task, "linear"]
  assert summary.channel_results(scores, "d", 0, 100, 0) == []
  assert list(summary.channel_notes([])) == []
