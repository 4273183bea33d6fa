"""aim/evaluation/metrics.py against scikit-learn's metrics."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics

from aim.evaluation.metrics import METRICS, WITHIN_FOLDS, agreement, ranking


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


@pytest.mark.parametrize(("offset", "factor"), [(1e9, 1.0), (1.7e12, 1e3), (0.0, 1e-30), (0.0, 1e35)])
def test_r_is_that_of_any_offset_and_unit(offset, factor):
  truth, predicted = np.random.default_rng(0).normal(50, 20, (2, 30))
  moved = agreement("regression", truth * factor + offset, (predicted * factor + offset)[:, None])
  assert moved[2] == pytest.approx(agreement("regression", truth, predicted[:, None])[2], abs=1e-5)


def test_what_is_not_defined_is_nan():
  one_fold = np.zeros(3, int)
  assert np.isnan(ranking(np.ones(3, bool), np.arange(3.0), one_fold)).all()
  assert np.isnan(ranking(np.zeros(3, bool), np.arange(3.0), one_fold)).all()
  # Every fold has one class only, as where one person at a time is held out.
  assert np.isnan(ranking(np.arange(4) < 2, np.arange(4.0), np.array([0, 0, 1, 1]))).all()
  assert np.isnan(agreement("regression", np.arange(3.0), np.full((3, 1), 45.1))[2])
  of_one_class = agreement("binary", np.ones(3), np.tile([0.2, 0.8], (3, 1)))
  assert np.isnan(of_one_class).tolist() == [True, True, False, False, False, True]


# ----- folds, each with a model of its own

FOLDS = st.integers(2, 6)


def drawn_folds(seed: int, folds: int, digits: int = 1) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
  """Truth, scores with ties and fold of 40 rows; every fold has both classes."""
  rng = np.random.default_rng(seed)
  fold = np.append(np.repeat(np.arange(folds), 2), rng.integers(0, folds, 40 - 2 * folds))
  truth = np.append(np.tile([0, 1], folds), rng.integers(0, 2, 40 - 2 * folds))
  return truth.astype(float), np.round(rng.random(40), digits), fold


def binary(truth: np.ndarray, score: np.ndarray, fold: np.ndarray) -> dict[str, float]:
  return dict(zip(METRICS["binary"], agreement("binary", truth, np.stack([1 - score, score], 1), fold), strict=True))


@given(st.integers(0, 10_000), FOLDS)
def test_ranks_are_those_of_scikit_learn_in_every_fold(seed, folds):
  """AUROC weighs a fold by its pairs of a positive and a negative row, AUPRC by its positive rows."""
  truth, score, fold = drawn_folds(seed, folds)
  rows = [fold == f for f in range(folds)]
  positive = np.array([truth[r].sum() for r in rows])
  negative = np.array([(1 - truth[r]).sum() for r in rows])
  roc = [metrics.roc_auc_score(truth[r], score[r]) for r in rows]
  precision = [metrics.average_precision_score(truth[r], score[r]) for r in rows]
  expected = np.average(roc, weights=positive * negative), np.average(precision, weights=positive)
  assert ranking(truth == 1, score, fold) == pytest.approx(expected)


@given(st.integers(0, 10_000), FOLDS, st.lists(st.floats(0.1, 5), min_size=6, max_size=6), st.booleans())
def test_a_monotone_change_of_a_folds_scores_changes_no_rank(seed, folds, powers, shifted):
  truth, score, fold = drawn_folds(seed, folds)
  changed = score ** np.array(powers)[fold] + 10 * shifted * np.random.default_rng(seed).normal(size=6)[fold]
  assert ranking(truth == 1, changed, fold) == pytest.approx(ranking(truth == 1, score, fold))


@given(st.integers(0, 10_000), FOLDS, st.lists(st.floats(0, 1), min_size=6, max_size=6))
def test_a_constant_per_fold_is_worth_nothing(seed, folds, constants):
  """Not even where the folds' constants follow, or oppose, their shares of positive rows."""
  truth, _, fold = drawn_folds(seed, folds)
  scores = binary(truth, np.array(constants)[fold], fold)
  assert scores["auroc"] == pytest.approx(0.5)
  assert scores["balanced_accuracy"] == pytest.approx(0.5)
  share = np.array([truth[fold == f].mean() for f in range(folds)])
  assert scores["auprc"] == pytest.approx((truth * share[fold]).sum() / truth.sum())
  of_values = agreement("regression", truth, np.array(constants)[fold][:, None], fold)
  assert np.isnan(of_values[METRICS["regression"].index("r")])


@given(st.integers(0, 10_000), FOLDS, st.floats(-50, 50))
def test_r_knows_no_shift_of_a_fold(seed, folds, shift):
  rng = np.random.default_rng(seed)
  truth, predicted, fold = rng.normal(50, 20, 40), rng.normal(50, 20, 40), np.arange(40) % folds
  shifted = predicted + shift * rng.normal(size=folds)[fold]
  mae, rmse, r = agreement("regression", truth, shifted[:, None], fold)
  centred = [values - np.array([values[fold == f].mean() for f in range(folds)])[fold] for values in (truth, shifted)]
  assert r == pytest.approx(np.corrcoef(*centred)[0, 1])
  assert (mae, rmse) == pytest.approx(agreement("regression", truth, shifted[:, None])[:2]), "errors add up over folds"


def test_folds_by_hand():
  """Two folds rank their own people perfectly on scales of their own; ranked across folds they would have .75."""
  truth, score, fold = np.array([0.0, 1, 0, 1]), np.array([0.1, 0.2, 0.8, 0.9]), np.array([0, 0, 1, 1])
  assert binary(truth, score, fold)["auroc"] == 1
  assert binary(truth, score, np.zeros(4, int))["auroc"] == 0.75
  assert binary(truth, score, fold)["balanced_accuracy"] == binary(truth, score, fold)["accuracy"] == 0.5
  # A fold of one class has no pair to rank; its answers count all the same.
  more = np.append(truth, [1, 1]), np.append(score, [0.01, 0.6]), np.append(fold, [2, 2])
  assert binary(*more)["auroc"] == 1 and binary(*more)["accuracy"] == 0.5
  assert set(WITHIN_FOLDS) < {name for names in METRICS.values() for name in names}
