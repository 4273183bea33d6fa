"""What a drop is, and --mode=robustness from the command line."""

import json

import numpy as np

from aim.evaluation import results
from aim.evaluation.metrics import METRICS
from aim.evaluation.probing import robustness
from aim.evaluation.probing.label_tasks import LabelTask
from data_pipelines.build import build, npz_request
from data_pipelines.npz import NpzSource
from data_pipelines.splits import ListSplit
from tests import tiny

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
  assert (tmp_path / "run" / "robustness" / "robustness.png").read_bytes().startswith(b"\x89PNG")
