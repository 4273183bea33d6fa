"""--mode=probe from the command line, from labels to tables."""

from __future__ import annotations

import csv

import numpy as np
import pytest

from aim.evaluation import predictions, results
from aim.evaluation.probing.learners import FittedProbe
from aim.evaluation.probing.run import fit_probes
from aim.inference import loading
from data_pipelines.splits import HashSplit
from experiments import default
from tests import tiny
from tests.evaluation.test_leaks import built, cohort

CONFIG = f"--config={tiny.CONFIG}"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
  return tmp_path_factory.mktemp("probe")


@pytest.fixture(scope="module")
def dataset(folder):
  """24 people with labels of their own and of their minutes."""
  arrays = cohort(24)
  minutes = np.full((48, 24, 1), -1, np.int8)
  minutes[:, 8:20, 0] = arrays["values"][:, 8:20, 1] > 60
  return built(
    folder,
    "labelled",
    arrays | {"minute_labels": minutes, "minute_label_names": np.array(["busy"])},
    HashSplit((0.5, 0.2, 0.3)),
  )


@pytest.fixture(scope="module")
def workdir(folder, dataset):
  """A finished run and its probes."""
  arguments = (
    CONFIG,
    *tiny.on(dataset),
    *tiny.overrides(probe__forest_trees=5, probe__bootstrap=20),
    f"--workdir={folder / 'run'}",
  )
  arguments += ("--config.probe.window_minutes=120",)
  for mode in ("pretrain", "probe"):
    ended = tiny.run(*arguments, f"--mode={mode}")
    assert ended.code == 0, ended.err
  (folder / "out.txt").write_text(ended.out)
  return folder / "run"


def test_tables_and_files(workdir, folder, dataset):
  scores = results.read_csv(workdir / "probe" / "results.csv")
  assert {(r.task, r.level) for r in scores} == {
    *((task, level) for task in ("age", "sex", "ill") for level in ("day", "person", "person, mean of days")),
    ("busy", "window"),
  }
  assert {r.n_people for r in scores} == {len(dataset.people("eval"))}
  by_line = {(r.task, r.level, r.model, r.metric): r for r in scores}
  ours, theirs = (by_line["age", "day", model, "mae"].value for model in ("LSM-2", "mask-only"))
  assert by_line["age", "day", "LSM-2", "mae vs mask-only"].value == pytest.approx(ours - theirs, rel=1e-4, abs=1e-4)
  assert by_line["ill", "person", "age + sex", "auroc"].ci_low >= 0
  out = (folder / "out.txt").read_text()
  assert "age, day: LSM-2 mae" in out
  assert "against mask-only: " in out
  assert str(workdir / "probe" / "predictions.csv") in out


def test_predictions_are_enough_to_compute_the_results_again(workdir):
  stored = {(r.task, r.level, r.model, r.metric): r.value for r in results.read_csv(workdir / "probe" / "results.csv")}
  for p in predictions.read_csv(workdir / "probe" / "predictions.csv"):
    again = predictions.score([p], 2)
    for r in again:
      assert r.value == pytest.approx(stored[r.task, r.level, r.model, r.metric], rel=1e-4, nan_ok=True)


def test_only_held_out_people_are_predicted(workdir, dataset):
  with (workdir / "probe" / "predictions.csv").open() as file:
    people = {line["participant"] for line in csv.DictReader(file)}
  assert people == set(dataset.people("eval"))


def test_stored_probes_are_those_of_fit_probes(workdir, dataset):
  model = loading.load(workdir)
  config = default.get_config().probe
  config.window_minutes = 120
  fitted = fit_probes(config, model, dataset)
  assert set(fitted) == {"age", "sex", "ill", "busy"}
  for name, probe in fitted.items():
    level = "window" if name == "busy" else "day"
    stored = FittedProbe.load(workdir / "probe" / "probes" / f"{name}_{level}.npz")
    np.testing.assert_allclose(stored.weights, probe.weights, rtol=1e-3, atol=1e-5)


def test_an_unknown_task_is_one_line(workdir, dataset):
  ended = tiny.run(
    CONFIG,
    *tiny.on(dataset),
    *tiny.overrides(),
    f"--workdir={workdir}",
    "--mode=probe",
    "--config.probe.tasks=('agee',)",
  )
  assert ended.code == 2
  assert (
    ended.err.strip().splitlines()[-1].startswith("error: config.probe.tasks: dataset 'labelled' has no label 'agee'")
  )
