"""Drops are paired on the same people and rows, and --mode=robustness reports them."""

import dataclasses
import json

import numpy as np
import pytest

from aim.evaluation import predictions, results
from aim.evaluation.metrics import METRICS
from aim.evaluation.predictions import Predictions
from aim.evaluation.probing import robustness
from aim.evaluation.probing.label_tasks import LabelTask
from aim.evaluation.results import ResultsError
from aim.studies.compare import table as compare_table
from data_pipelines.build import build, npz_request
from data_pipelines.npz import NpzSource
from data_pipelines.splits import ListSplit
from tests import tiny

ROWS = ("participant", "day", "date", "start", "end", "truth", "predicted")
ABOUT = ("d", "M", 7, 50, 0)  # dataset, model, its seed, bootstrap draws and their seed


def test_drops_are_paired_and_positive_where_a_setting_is_worse():
  truth = np.array([10.0, 20, 30, 40, 50, 60])
  people = np.array(["a", "a", "b", "b", "c", "c"])
  intact, reduced = truth[:, None] + 1, truth[:, None] + 3
  answerable = np.array([True, True, True, True, True, False])
  reduced[5] = np.nan
  predicted = robustness.SettingPredictions(people, truth, intact, {"PPG": reduced}, {"PPG": answerable})
  scores = robustness.score_settings(LabelTask("age", "regression", "day", ()), predicted, *ABOUT)
  by_line = {(result.task, result.metric): result for result in scores}
  assert by_line["age", "mae"].value == 1 and by_line["age without PPG", "mae"].value == 3
  drop = by_line["age without PPG", "mae drop"]
  assert (drop.value, drop.ci_low, drop.ci_high) == (2, 2, 2)  # for every person, though errors are not 0
  assert by_line["age without PPG", "mae drop %"].value == 200
  assert by_line[f"age without {robustness.MEAN}", "mae drop %"].value == 200
  assert {result.seed for result in scores} == {7} and {result.n_people for result in scores} == {3}

  probabilities = np.array([[0.9, 0.1], [0.8, 0.2], [0.3, 0.7], [0.2, 0.8], [0.6, 0.4], [0.1, 0.9]])
  truth = np.array([0.0, 0, 1, 1, 0, 1])
  predicted = robustness.SettingPredictions(
    people, truth, probabilities, {"x": probabilities[:, ::-1]}, {"x": np.ones(6, bool)}
  )
  by_line = {
    (r.task, r.metric): r.value
    for r in robustness.score_settings(LabelTask("ill", "binary", "day", ("0", "1")), predicted, *ABOUT)
  }
  assert (
    by_line["ill", "auroc"] == 1
    and by_line["ill without x", "auroc"] == 0
    and by_line["ill without x", "auroc drop"] == 1
  )
  assert len(by_line) == len(METRICS["binary"]) * (1 + 3 + 2)


def two_folds(model: str, error: float, loss: float, kind: str = "regression") -> list[list[Predictions]]:
  """A model's predictions on whole days and without two sensors, of two folds of five people with two days each."""
  folds = []
  for fold in range(2):
    person = np.repeat([f"f{fold}p{i}" for i in range(5)], 2)
    day, nothing = np.tile([0, 1], 5), np.zeros(10, int)
    rng = np.random.default_rng(fold)
    truth = np.repeat(rng.normal(50, 10, 5), 2) if kind == "regression" else np.repeat([0.0, 1, 0, 1, 1], 2)
    noise = rng.uniform(-0.5, 0.5, 10)
    of_fold = []
    for task, lost, kept in (("y", 0.0, 10), ("y without PPG", loss, 9), ("y without steps", 2 * loss, 10)):
      if kind == "regression":
        outputs, classes = (truth + error + lost + noise)[:, None], ()
      else:
        share = np.clip(0.5 + (truth - 0.5) * (0.8 - lost) + error * noise, 0.01, 0.99)
        outputs, classes = np.stack([1 - share, share], axis=1), ("no", "yes")
      columns = (person, day, np.repeat("", 10), nothing, nothing + 24, truth, outputs)
      head = (f"d-fold{fold}", task, "day", kind, classes, model, 3)
      of_fold.append(Predictions(*head, *(array[:kept] for array in columns)))
    folds.append(of_fold)
  return folds


@pytest.mark.parametrize("kind", ["regression", "binary"])
def test_models_are_paired_on_the_people_of_all_folds(tmp_path, kind):
  paths = []
  scale = 1 if kind == "regression" else 0.1
  for model, error, loss in (("LSM-2", 1 * scale, 1 * scale), ("LSM-1", 2 * scale, 3 * scale)):
    for fold, of_fold in enumerate(two_folds(model, error, loss, kind)):
      paths.append(tmp_path / f"{model}{fold}.csv")
      predictions.write_csv(paths[-1], of_fold)
  scores = robustness.score_models(predictions.read_folds(paths, "d"), 50, 0, ["LSM-1"])
  value = {(r.task, r.model, r.metric): r.value for r in scores}
  name = METRICS[kind][0]
  for task in ("y", "y without PPG", "y without steps"):
    difference = value[task, "LSM-2", f"{name} vs LSM-1"]
    assert difference == pytest.approx(value[task, "LSM-2", name] - value[task, "LSM-1", name])
  of_all = f"y without {robustness.MEAN}"
  drops = [value[task, "LSM-2", f"{name} drop vs LSM-1"] for task in ("y without PPG", "y without steps")]
  assert value[of_all, "LSM-2", f"{name} drop vs LSM-1"] == pytest.approx(np.mean(drops))
  assert value[of_all, "LSM-2", f"{name} drop vs LSM-1"] == pytest.approx(
    value[of_all, "LSM-2", f"{name} drop"] - value[of_all, "LSM-1", f"{name} drop"]
  )
  paired = [r for r in scores if r.compares_models]
  assert {(r.model, r.compared_with, r.n_people, r.n_folds, r.seed) for r in paired} == {("LSM-2", "LSM-1", 10, 2, 3)}
  if kind == "regression":
    (drop,) = [r for r in paired if r.task == of_all and r.metric == "mae drop vs LSM-1"]
    assert drop.difference.verdict.startswith(("better, -3", "better, -2.9"))
    text = "\n".join(compare_table.verdicts("robustness", scores))
    assert f"| d | {of_all} | day | mae drop | LSM-2 | better, -" in text
    assert f"| d | {of_all} | day | mae | LSM-2 | better, -" in text and "y without PPG" not in text
    assert " vs " not in compare_table.table("robustness", scores)


def test_models_that_were_scored_on_other_rows_are_refused():
  ours, theirs = two_folds("a", 1, 1)[0], two_folds("b", 1, 1)[0]
  with pytest.raises(ResultsError, match="y: not every model was scored in every setting"):
    robustness.score_models([*ours, *theirs[:2]], 10, 0, ["b"])
  fewer = [dataclasses.replace(p, **{name: getattr(p, name)[2:] for name in ROWS}) for p in theirs]
  with pytest.raises(ResultsError, match="y: a and b predict different rows or settings"):
    robustness.score_models([*ours, *fewer], 10, 0, ["b"])


@pytest.mark.slow
def test_from_the_command_line(tmp_path):
  """The pulse follows age, so losing it costs most; rows that lose everything are reported."""
  arrays = tiny.arrays(people=24, days=2)
  people = list(dict.fromkeys(arrays["participant"].tolist()))
  ages = {name: 20 + 3 * i for i, name in enumerate(people)}
  arrays["values"][:, :, 0] += np.array([ages[name] for name in arrays["participant"].tolist()])[:, None]
  arrays["values"][-1, :, 1:] = np.nan  # the last day has the pulse alone
  arrays["labels"] = np.array(json.dumps({name: {"age": age} for name, age in ages.items()}))
  np.savez(tmp_path / "aged.npz", **arrays)
  source = NpzSource(tmp_path / "aged.npz")
  split = ListSplit(tuple(people[0:24:3]), tuple(people[1:24:3]), tuple(people[2:24:3]))
  dataset = build(source, tmp_path / "data", "aged", split=split, request=npz_request(tmp_path / "aged.npz"))
  common = [f"--config={tiny.CONFIG}", *tiny.on(dataset), *tiny.overrides(), f"--workdir={tmp_path / 'run'}"]
  assert tiny.run(*common).code == 0
  few = ["--config.probe.min_people=1", "--config.robustness.bootstrap=20"]
  ended = tiny.run(*common, *few, "--mode=robustness")
  assert ended.code == 0, ended.err
  scores = results.read_csv(tmp_path / "run" / "robustness" / "results.csv")
  tasks = {result.task for result in scores}
  assert tasks == {"age", *(f"age without {name}" for name in (
    "pulse", "steps", "asleep", "pulse + steps", "pulse + asleep", "steps + asleep",
    "0-6 h", "6-12 h", "12-18 h", "18-24 h", robustness.MEAN))}  # fmt: skip
  assert {result.n_people for result in scores} == {8} and {result.model for result in scores} == {"LSM-2"}
  by_line = {(result.task, result.metric): result.value for result in scores}
  assert by_line["age without pulse", "mae"] > by_line["age without steps", "mae"]
  assert "without pulse" in ended.out and "left out because they lose everything: 1 row" in ended.out
  stored = predictions.read_folds([tmp_path / "run" / "robustness" / "predictions.csv"], "aged")
  again = {(r.task, r.metric): r.value for r in robustness.score_models(stored, 20, 0, ())}
  assert again.keys() == by_line.keys()
  np.testing.assert_allclose([again[key] for key in by_line], list(by_line.values()), rtol=1e-4)
  assert (tmp_path / "run" / "robustness" / "robustness.png").read_bytes().startswith(b"\x89PNG")
