"""--mode=probe from labels to tables: parity with scikit-learn, windows by hand, the oracle, folds pooled."""

from __future__ import annotations

import csv
import dataclasses

import numpy as np
import pytest
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from aim.evaluation import predictions, results
from aim.evaluation.predictions import Predictions
from aim.evaluation.probing import label_tasks, learners, oracle
from aim.evaluation.probing import run as probing_run
from aim.evaluation.probing.label_tasks import LabelTask
from aim.evaluation.probing.learners import FitData, FittedProbe
from aim.evaluation.probing.oracle import Oracle
from aim.inference.window_embeddings import embed_windows
from data_pipelines.build import build, simulate_request
from data_pipelines.simulator import Simulation
from data_pipelines.splits import FoldSplit, HashSplit
from experiments import default
from tests import tiny
from tests.evaluation.test_leaks import built, cohort
from tests.inference.test_pretrained import SCHEMA, days, encoded_by_hand, pretrained

CONFIG = f"--config={tiny.CONFIG}"


def config(**changes):
  found = default.get_config().probe
  found.update({"forest_trees": 5, "strengths": (10.0,), "bootstrap": 20} | changes)
  return found


# ---- linear probes


def training(kind: str, rows: int = 60, width: int = 5, classes: int = 3, tune: int = 0) -> tuple[LabelTask, FitData]:
  rng = np.random.default_rng(rows + classes)
  inputs = rng.normal(3, 2, (rows, width))
  truth = rng.normal(inputs[:, 0], 1)
  names = () if kind == "regression" else tuple("abc"[:classes])
  if kind != "regression":
    truth = np.digitize(truth, np.quantile(truth, np.arange(1, classes) / classes)).astype(float)
  people = np.array([f"p{i // 3}" for i in range(rows)])
  return LabelTask("t", kind, "day", names), FitData(inputs, truth, people, np.arange(rows) >= rows - tune)


@pytest.mark.parametrize("pca", [0, 3])
@pytest.mark.parametrize(("kind", "classes"), [("regression", 0), ("binary", 2), ("multiclass", 3)])
def test_a_fitted_probe_is_scikit_learns_pipeline(kind, classes, pca, tmp_path):
  task, rows = training(kind, classes=classes)
  fitted = learners.fit_linear(config(pca=pca), task, rows)
  model = (
    Ridge(10.0) if kind == "regression" else LogisticRegression(C=0.1, class_weight="balanced", max_iter=200, tol=1e-3)
  )
  pipeline = make_pipeline(StandardScaler(), *([PCA(pca, random_state=0)] if pca else []), model)
  pipeline.fit(rows.inputs, rows.truth)
  new = np.random.default_rng(1).normal(3, 2, (7, 5))
  expected = pipeline.predict(new)[:, None] if kind == "regression" else pipeline.predict_proba(new)
  np.testing.assert_allclose(fitted.predict(new), expected, atol=1e-9)
  fitted.save(tmp_path / "probe.npz")
  np.testing.assert_array_equal(FittedProbe.load(tmp_path / "probe.npz").predict(new), fitted.predict(new))


def test_what_is_unknown_is_the_training_mean():
  task, rows = training("regression")
  holes = dataclasses.replace(rows, inputs=np.where(np.arange(60)[:, None] % 4 == 0, np.nan, rows.inputs))
  fitted = learners.fit_linear(config(), task, holes)
  np.testing.assert_allclose(fitted.fill, np.nanmean(holes.inputs, axis=0))
  nothing = np.full((1, 5), np.nan)
  np.testing.assert_allclose(fitted.predict(nothing), fitted.predict(fitted.fill[None]))


def test_an_input_that_nobody_trained_on_is_not_read():
  task, rows = training("regression")
  inputs = rows.inputs.copy()
  inputs[:, 2] = np.nan
  fitted = learners.fit_linear(config(), task, dataclasses.replace(rows, inputs=inputs))
  new = np.random.default_rng(1).normal(3, 2, (4, 5))
  other = new.copy()
  other[:, 2] = 99
  np.testing.assert_array_equal(fitted.predict(new), fitted.predict(other))


def test_the_tune_people_choose_the_regularisation():
  """Two answers of the training rows are contradicted by the tune rows, so only the strongest penalty will do."""
  task, rows = training("regression", tune=30)
  against = np.where(rows.tune, -rows.truth, rows.truth)
  grid = {"strengths": (0.01, 1e6)}
  weak = learners.fit_linear(config(**grid), task, rows)
  strong = learners.fit_linear(config(**grid), task, dataclasses.replace(rows, truth=against))
  assert np.abs(weak.weights).max() > 100 * np.abs(strong.weights).max()


def test_a_class_that_training_lacks_has_probability_zero():
  task, rows = training("multiclass")
  few = dataclasses.replace(rows, truth=np.where(rows.truth == 1, 0.0, rows.truth))
  for fit in (learners.fit_linear, learners.fit_forest, learners.fit_constant):
    found = fit(config(strengths=(1.0, 10.0)), task, few).predict(rows.inputs)
    assert found.shape == (60, 3)
    assert (found[:, 1] == 0).all()
    np.testing.assert_allclose(found.sum(1), 1)


# ---- embeddings of windows


@pytest.mark.parametrize("pool", ["mean", "channel"])
def test_a_window_has_the_mean_of_the_tokens_that_overlap_it(pool):
  model, values = pretrained(), days(3)
  values[2, 12:, 0] = np.nan
  a = model.architecture
  place = [(0, 0, 1), (0, 2, 7), (2, 12, 24), (1, 5, 9), (2, 0, 3)]
  day, start, end = np.array(place).T
  found = embed_windows(model, values, day, start, end, pool)
  for row, (d, first, last) in zip(found, place, strict=True):
    tokens, encoded = encoded_by_hand(model, values[d])
    time = np.array(tokens) % a.length
    inside = (time * a.patch < last) & ((time + 1) * a.patch > first)
    inside = inside if inside.any() else np.full(len(tokens), True)
    groups = [inside & (np.array(tokens) // a.length == c) for c in range(3)] if pool == "channel" else [inside]
    expected = np.concatenate([encoded[g].mean(0) if g.any() else np.full(16, np.nan) for g in groups])
    np.testing.assert_allclose(row, expected, atol=2e-5)


@pytest.mark.parametrize("pool", ["mean", "channel"])
@pytest.mark.parametrize("lsm1", [False, True])
def test_a_window_of_the_whole_day_is_the_days_embedding(lsm1, pool):
  changes = {"data__impute": "linear", "model__patch_channels": 2} if lsm1 else {}
  model, values = pretrained(**changes), days(5)
  every, steps = np.arange(5), np.full(5, SCHEMA.steps)
  found = embed_windows(model, values, every, 0 * every, steps, pool)
  np.testing.assert_allclose(found, model.embed(values, pool), atol=2e-5)


# ---- the whole mode


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
  return tmp_path_factory.mktemp("probe")


@pytest.fixture(scope="module")
def dataset(folder):
  """Twenty-four people with labels, the first with minute labels too."""
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
  """A finished run with its probes."""
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


def test_the_mode_ends_with_tables_and_files(workdir, folder, dataset):
  found = results.read_csv(workdir / "probe" / "results.csv")
  assert {(r.task, r.level) for r in found} == {
    *((task, level) for task in ("age", "sex", "ill") for level in ("day", "person", "person, mean of days")),
    ("busy", "window"),
  }
  assert {r.n_people for r in found} == {len(dataset.people("eval"))}
  by_line = {(r.task, r.level, r.model, r.metric): r for r in found}
  ours, theirs = (by_line["age", "day", model, "mae"].value for model in ("LSM-2", "mask-only"))
  assert by_line["age", "day", "LSM-2", "mae vs mask-only"].value == pytest.approx(ours - theirs, rel=1e-4, abs=1e-4)
  assert by_line["ill", "person", "age + sex", "auroc"].ci_low >= 0
  out = (folder / "out.txt").read_text()
  assert "age, day: LSM-2 mae" in out
  assert "below mask-only:" in out
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
  from aim.inference import pretrained as trained

  model = trained.load(workdir)
  asked = config(window_minutes=120, strengths=default.get_config().probe.strengths)
  fitted = probing_run.fit_probes(asked, model, dataset)
  assert set(fitted) == {"age", "sex", "ill", "busy"}
  for name, found in fitted.items():
    level = "window" if name == "busy" else "day"
    stored = FittedProbe.load(workdir / "probe" / "probes" / f"{name}_{level}.npz")
    np.testing.assert_allclose(stored.weights, found.weights, rtol=1e-3, atol=1e-5)


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


def test_changed_days_keep_their_rows(dataset):
  model = pretrained(dataset.schema)
  asked, _ = label_tasks.tasks(config(window_minutes=120), dataset)
  read = lambda change: probing_run.examples(
    config(window_minutes=120), model, dataset, "eval", asked, baselines=False, change=change
  )

  def nothing_left(values):
    return np.where(np.arange(len(values))[:, None, None] == 1, np.nan, values)

  intact, hurt = read(None), read(nothing_left)
  for name, rows in intact.items():
    np.testing.assert_array_equal(rows.truth, hurt[name].truth)
    gone = np.isnan(hurt[name].inputs["embedding"]).all(1)
    second = (hurt[name].participant == rows.participant[0]) & (hurt[name].day == 1)
    assert 0 < gone.sum() < len(gone)
    np.testing.assert_array_equal(gone, second)
    np.testing.assert_allclose(hurt[name].inputs["embedding"][~gone], rows.inputs["embedding"][~gone], atol=1e-5)


# ---- folds


def predicted(
  dataset: str, people: list[str], model: str = "LSM-2", seed: int = 0, classes=("no", "yes")
) -> Predictions:
  rng = np.random.default_rng(len(dataset) + len(model))
  n = len(people)
  share = rng.random(n)
  truth = (np.arange(n) % 2).astype(float)
  place = (np.array(people), np.zeros(n, int), np.full(n, ""), np.zeros(n, int), np.full(n, 24))
  probabilities = np.stack([1 - share, share], 1)
  return Predictions(dataset, "ill", "day", "binary", classes, model, seed, *place, truth, probabilities)


def test_folds_are_pooled_over_people(tmp_path):
  parts = [predicted("f0", ["a", "b", "c", "d"]), predicted("fold1", ["e", "f", "g"])]
  paths = [tmp_path / "0.csv", tmp_path / "1.csv"]
  for path, part in zip(paths, parts, strict=True):
    predictions.write_csv(path, [part, dataclasses.replace(part, model="mask-only", predicted=part.predicted[:, ::-1])])
  found = {(r.model, r.metric): r for r in predictions.pool(paths, "both", 10)}
  truth = np.concatenate([p.truth for p in parts])
  score = np.concatenate([p.predicted[:, 1] for p in parts])
  assert found["LSM-2", "auroc"].value == pytest.approx(roc_auc_score(truth, score), abs=1e-6)
  assert found["LSM-2", "auroc"].n_people == 7
  assert found["LSM-2", "auroc"].dataset == "both"
  assert found["LSM-2", "auroc vs mask-only"].value == pytest.approx(2 * roc_auc_score(truth, score) - 1, abs=1e-6)


def test_folds_that_share_a_person_are_refused(tmp_path):
  for name, people in (("f0", ["a", "b"]), ("f1", ["b", "c"])):
    predictions.write_csv(tmp_path / name, [predicted(name, people)])
  with pytest.raises(results.ResultsError, match="'b' is held out in two folds"):
    predictions.pool([tmp_path / "f0", tmp_path / "f1"], "both")


def test_models_that_answer_other_rows_are_refused():
  parts = [predicted("f", ["a", "b"]), predicted("f", ["a", "c"], model="SimCLR")]
  with pytest.raises(results.ResultsError, match="answer different rows"):
    predictions.score(parts)


@pytest.mark.parametrize(
  ("text", "message"), [("a,b\n", "columns are a,b"), (",".join(predictions.COLUMNS) + "\n1,2\n", "line 2: 2")]
)
def test_another_file_is_no_predictions(tmp_path, text, message):
  (tmp_path / "p.csv").write_text(text)
  with pytest.raises(results.ResultsError, match=message):
    predictions.read_csv(tmp_path / "p.csv")


# ---- what can be reached


def test_the_oracle_of_traits_is_the_posterior():
  """Hypertension given all else, by Bayes from the numbers of simulator/people.py, against what strangers teach."""
  task = LabelTask("hypertension", "binary", "day", ("False", "True"))
  simulation = Simulation(participants=4000, days=1, seed=1)
  people = [simulation.traits(person) for person in simulation.participants]
  truth = np.array([p.hypertension for p in people])
  fitted = learners.fit_linear(config(strengths=(1.0,)), task, oracle.strangers(task))
  found = fitted.predict(Oracle(simulation).traits(np.array(simulation.participants), "hypertension"))[:, 1]
  best = roc_auc_score(truth, [hypertension_odds(p) for p in people])
  assert 0.75 < best < 0.95
  assert best - 0.01 < roc_auc_score(truth, found) < best + 0.005


def hypertension_odds(p) -> float:
  """Log odds: the prior's, and the likelihood ratios of resting heart rate and log RMSSD."""
  decades, weight, female = (p.age - 45) / 10, (p.bmi - 27) / 5, p.sex == "F"
  prior = -0.9 + 0.75 * decades + 0.55 * weight - 0.2 * p.fitness
  healthy = 74.8 + 2.5 * (female - 0.5) + 1.6 * weight - 3.2 * p.fitness + 3.5 * p.anxiety
  calm = 3.46 - 0.17 * decades + 0.14 * p.fitness - 0.18 * p.anxiety
  ratio = lambda x, mean, shift, sd: ((x - mean) ** 2 - (x - mean - shift) ** 2) / (2 * sd**2)
  return prior + ratio(p.resting_heart_rate, healthy, 3.0, 5.2) + ratio(np.log(p.rmssd), calm, -0.22, 0.32)


def test_the_oracle_sees_the_simulated_days_without_holes(tmp_path):
  simulation = Simulation(participants=4, days=2, seed=3)
  made = build(simulation, tmp_path, "sim", split=FoldSplit(2, 0), request=simulate_request(4, 2, 3))
  known = Oracle.of(made)
  for day in made.days("eval"):
    person, number = day["participant"].decode(), int(day["day"])
    truth = known.days(np.array([person]), np.array([number]))[0]
    assert not np.isnan(truth).any()
    observed = ~np.isnan(day["values"])
    np.testing.assert_array_equal(truth[observed], day["values"][observed])
  people = np.array(made.people("eval"))
  assert known.traits(people, "age").shape == (2, known.traits(people, "none").shape[1] - 1)


def test_days_of_the_world_have_no_oracle(dataset):
  assert Oracle.of(dataset) is None
