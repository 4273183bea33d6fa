"""Linear probes and the other learners, compared with scikit-learn's pipelines."""

from __future__ import annotations

import dataclasses
import warnings

import numpy as np
import pytest
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from aim.evaluation.probing import learners
from aim.evaluation.probing.label_tasks import LabelTask
from aim.evaluation.probing.learners import FitData, FittedProbe
from experiments import default


def config(**changes):
  probe = default.get_config().probe
  probe.update({"forest_trees": 5, "strengths": (10.0,), "bootstrap": 20} | changes)
  return probe


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


@pytest.mark.parametrize("fit", [learners.fit_linear, learners.fit_forest], ids=["linear", "forest"])
@pytest.mark.parametrize(("offset", "factor"), [(1e9, 1.0), (1.7e12, 1e3), (0.0, 2.0**116), (0.0, 2.0**-116)])
def test_learners_follow_the_offset_and_the_unit_of_a_label(fit, offset, factor):
  """Seconds since 1970 that differ by 30 are equal in float32, the precision of embeddings."""
  task, rows = training("regression")
  rows = dataclasses.replace(rows, inputs=rows.inputs.astype(np.float32))
  expected = fit(config(), task, rows).predict(rows.inputs)
  moved = fit(config(), task, dataclasses.replace(rows, truth=rows.truth * factor + offset)).predict(rows.inputs)
  np.testing.assert_allclose((moved - offset) / factor, expected, atol=1e-4)


def test_an_unknown_input_is_replaced_by_the_training_mean():
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
  """Tune rows that contradict the training rows make the strongest penalty best."""
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
    probability = fit(config(strengths=(1.0, 10.0)), task, few).predict(rows.inputs)
    assert probability.shape == (60, 3)
    assert (probability[:, 1] == 0).all()
    np.testing.assert_allclose(probability.sum(1), 1)


@pytest.mark.parametrize(("kind", "classes"), [("regression", 0), ("binary", 2), ("multiclass", 3)])
@pytest.mark.parametrize("case", ["holes", "an unknown input", "equal rows in a fold", "equal rows", "separable"])
def test_no_runtime_warning_is_raised(kind, classes, case):
  task, rows = training(kind, classes=classes, tune=15)
  inputs = rows.inputs.copy()
  if case == "holes":
    inputs[np.random.default_rng(0).random(inputs.shape) < 0.3] = np.nan
  if case == "an unknown input":
    inputs[:, 2] = np.nan
  if case.startswith("equal rows"):
    inputs[rows.tune == 0 if "fold" in case else slice(None)] = 1
  if case == "separable":
    inputs[:, 0] = 1e3 * rows.truth
  with warnings.catch_warnings():
    warnings.simplefilter("error", RuntimeWarning)
    fitted = learners.fit_linear(config(pca=3, strengths=(1.0, 1e3)), task, dataclasses.replace(rows, inputs=inputs))
  assert np.isfinite(fitted.predict(inputs)).all()
