"""aim/evaluation/metrics.py against scikit-learn's metrics."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics

from aim.evaluation.metrics import METRICS, agreement, auprc, auroc


def draw(seed: int, classes: int, digits: int) -> tuple[np.ndarray, np.ndarray]:
  """Truth and probabilities of 40 rows; few digits make ties."""
  rng = np.random.default_rng(seed)
  odds = np.round(rng.random((40, classes)), digits) + 0.01
  truth = np.append(np.arange(classes), rng.integers(0, classes, 40 - classes))
  return truth.astype(float), odds / odds.sum(1, keepdims=True)


@given(st.integers(0, 10_000), st.integers(2, 5), st.integers(1, 6))
def test_metrics_of_classes_equal_scikit_learn(seed, classes, digits):
  truth, predicted = draw(seed, classes, digits)
  kind = "binary" if classes == 2 else "multiclass"
  scores = dict(zip(METRICS[kind], agreement(kind, truth, predicted), strict=True))
  answer = predicted.argmax(1)
  compared = range(classes) if classes > 2 else [1]
  expected = {
    "auroc": np.mean([metrics.roc_auc_score(truth == c, predicted[:, c]) for c in compared]),
    "auprc": np.mean([metrics.average_precision_score(truth == c, predicted[:, c]) for c in compared]),
    "f1_macro": metrics.f1_score(truth, answer, average="macro"),
    "accuracy": metrics.accuracy_score(truth, answer),
    "balanced_accuracy": metrics.balanced_accuracy_score(truth, answer),
  }
  if kind == "binary":
    expected["f1"] = metrics.f1_score(truth, answer)
  assert scores == pytest.approx(expected)


@given(st.integers(0, 10_000))
def test_metrics_of_values_equal_scikit_learn_and_numpy(seed):
  rng = np.random.default_rng(seed)
  truth, predicted = rng.normal(50, 20, (2, 30))
  mae, rmse, r = agreement("regression", truth, predicted[:, None])
  assert mae == pytest.approx(metrics.mean_absolute_error(truth, predicted))
  assert rmse == pytest.approx(metrics.root_mean_squared_error(truth, predicted))
  assert r == pytest.approx(np.corrcoef(truth, predicted)[0, 1])


def test_what_is_not_defined_is_nan():
  assert np.isnan(auroc(np.ones(3, bool), np.arange(3.0)))
  assert np.isnan(auprc(np.zeros(3, bool), np.arange(3.0)))
  assert np.isnan(agreement("regression", np.arange(3.0), np.full((3, 1), 45.1))[2])
  assert np.isfinite(agreement("binary", np.ones(3), np.tile([0.2, 0.8], (3, 1)))[2:]).all()
