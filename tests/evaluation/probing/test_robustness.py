"""What is removed in each setting, what a drop is, and the mode from the command line."""

import json

import numpy as np
import pytest

from aim.evaluation import results
from aim.evaluation.metrics import METRICS
from aim.evaluation.probing import robustness, sensor_dropout
from aim.evaluation.probing.label_tasks import LabelTask
from data_pipelines.build import build, npz_request
from data_pipelines.lsm2_schema import LSM2_SCHEMA
from data_pipelines.npz import NpzSource
from data_pipelines.schema import Channel, Schema
from data_pipelines.splits import ListSplit
from tests import tiny


def schema_of(*sensors: str) -> Schema:
  return Schema(60, tuple(Channel(f"c{i}", sensor=sensor) for i, sensor in enumerate(sensors)))


@pytest.mark.parametrize(
  "schema, lost",
  [
    (schema_of(""), 0),
    (schema_of("A", "A"), 2),  # one sensor, whose channels go one by one
    (schema_of(*4 * [""]), 8),
    (schema_of(*8 * [""]), 8),
    (schema_of(*34 * [""]), 8),
    (LSM2_SCHEMA, 8),
  ],
)
def test_settings_of_a_schema(schema, lost):
  settings = sensor_dropout.removals(schema)
  assert settings == sensor_dropout.removals(schema)
  assert len(settings) == lost + 4 and len({setting.name for setting in settings}) == len(settings)
  days = np.ones((2, schema.steps, len(schema.channels)), np.float32)
  for setting in settings[:lost]:
    left = setting(days)
    gone = np.isnan(left)
    assert (gone == gone[:1, :1]).all() and 0 < gone[0, 0].sum() < len(schema.channels)
  quarters = [np.isnan(setting(days)) for setting in settings[lost:]]
  assert all((quarter == quarter[:1, :, :1]).all() for quarter in quarters)
  assert (np.sum(quarters, axis=0) == 1).all()  # every step once
  assert (days == 1).all()


def test_every_sensor_of_the_watch_goes_once():
  names = [setting.name for setting in sensor_dropout.removals(LSM2_SCHEMA)]
  assert names[:5] == ["PPG", "ACC", "ALT", "EDA", "TEMP"]
  assert all(" + " in name for name in names[5:8]) and names[8:] == ["0-6 h", "6-12 h", "12-18 h", "18-24 h"]
  ppg = sensor_dropout.removals(LSM2_SCHEMA)[0]
  assert [LSM2_SCHEMA.channels[c].sensor for c in ppg.channels] == ["PPG"] * 10


ABOUT = ("d", "M", 7, 50, 0)  # dataset, model, its seed, draws and their seed


def test_drops_are_paired_and_know_what_is_worse():
  truth = np.array([10.0, 20, 30, 40, 50, 60])
  people = np.array(["a", "a", "b", "b", "c", "c"])
  intact, hurt = truth[:, None] + 1, truth[:, None] + 3
  kept = np.array([True, True, True, True, True, False])
  hurt[5] = np.nan
  answers = robustness.Answers(people, truth, intact, {"PPG": hurt}, {"PPG": kept})
  found = robustness.score(LabelTask("age", "regression", "day", ()), answers, *ABOUT)
  of = {(result.task, result.metric): result for result in found}
  assert of["age", "mae"].value == 1 and of["age without PPG", "mae"].value == 3
  drop = of["age without PPG", "mae drop"]
  assert (drop.value, drop.ci_low, drop.ci_high) == (2, 2, 2)  # every person alike, though errors are not 0
  assert of["age without PPG", "mae drop %"].value == 200
  assert of[f"age without {robustness.MEAN}", "mae drop %"].value == 200
  assert {result.seed for result in found} == {7} and {result.n_people for result in found} == {3}

  scores = np.array([[0.9, 0.1], [0.8, 0.2], [0.3, 0.7], [0.2, 0.8], [0.6, 0.4], [0.1, 0.9]])
  truth = np.array([0.0, 0, 1, 1, 0, 1])
  answers = robustness.Answers(people, truth, scores, {"x": scores[:, ::-1]}, {"x": np.ones(6, bool)})
  of = {
    (r.task, r.metric): r.value
    for r in robustness.score(LabelTask("ill", "binary", "day", ("0", "1")), answers, *ABOUT)
  }
  assert of["ill", "auroc"] == 1 and of["ill without x", "auroc"] == 0 and of["ill without x", "auroc drop"] == 1
  assert len(of) == len(METRICS["binary"]) * (1 + 3 + 2)


def test_from_the_command_line(tmp_path):
  """Labels that the days tell: what is lost with them is seen, and days with nothing left are told."""
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
  found = results.read_csv(tmp_path / "run" / "robustness" / "results.csv")
  tasks = {result.task for result in found}
  assert tasks == {"age", *(f"age without {name}" for name in (
    "pulse", "steps", "asleep", "pulse + steps", "pulse + asleep", "steps + asleep",
    "0-6 h", "6-12 h", "12-18 h", "18-24 h", robustness.MEAN))}  # fmt: skip
  assert {result.n_people for result in found} == {8} and {result.model for result in found} == {"LSM-2"}
  of = {(result.task, result.metric): result.value for result in found}
  assert of["age without pulse", "mae"] > of["age without steps", "mae"]
  assert "without pulse" in ended.out and "1 rows left out, which lose everything" in ended.out
  assert (tmp_path / "run" / "robustness" / "robustness.png").read_bytes().startswith(b"\x89PNG")
