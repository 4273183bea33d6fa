"""The metrics of label tasks, fast enough for a thousand bootstrap draws, and which metrics are better when lower."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float, Int

from data_pipelines.errors import UserError

METRICS = {
  "regression": ("mae", "rmse", "r"),
  "binary": ("auroc", "auprc", "f1", "f1_macro", "accuracy", "balanced_accuracy"),
  "multiclass": ("auroc", "auprc", "f1_macro", "accuracy", "balanced_accuracy"),
}
WITHIN_FOLDS = ("auroc", "auprc", "balanced_accuracy", "r")  # compare the rows of a fold with one another only
HEADLINE = {"regression": "mae", "binary": "auroc", "multiclass": "f1_macro"}

# Every metric that a results file may hold, those of the generative tasks too.
LOWER_IS_BETTER = ("mse", "mae", "rmse", "mre")
HIGHER_IS_BETTER = ("r", "auroc", "auprc", "f1", "f1_macro", "accuracy", "balanced_accuracy", "skill")


class MetricError(UserError):
  """An unknown metric, or predictions that cannot be scored."""


def lower_is_better(metric: str) -> bool:
  """True if a lower value of the metric is better. A drop, such as "auroc drop", always is.

  Args:
    metric: one of LOWER_IS_BETTER or HIGHER_IS_BETTER, or one followed by " drop"; " vs OTHER" and " %" are ignored.

  Raises:
    MetricError: the metric is none of these.
  """
  name = metric.split(" vs ")[0].removesuffix(" %")
  known = (*LOWER_IS_BETTER, *HIGHER_IS_BETTER)
  if name.removesuffix(" drop") not in known:
    raise MetricError(f"unknown metric {metric!r}, expected one of {', '.join(known)}")
  return name.endswith(" drop") or name in LOWER_IS_BETTER


def agreement(
  kind: str,
  truth: Float[np.ndarray, " n"],
  predicted: Float[np.ndarray, "n k"],
  fold: Int[np.ndarray, " n"] | None = None,
) -> Float[np.ndarray, " metrics"]:
  """METRICS[kind] of predictions, NaN where a metric is not defined.

  Models of several folds are fitted apart, so an answer of one fold need not be on the scale of another. AUROC, AUPRC,
  balanced accuracy and r therefore compare the rows of a fold with one another only (WITHIN_FOLDS), and a constant per
  fold has an AUROC and a balanced accuracy of 0.5 and no r. Errors, and the counts of right and wrong answers that F1
  and accuracy are made of, are added up over the folds (Forman and Scholz 2010, "Apples-to-apples in cross-validation
  studies").

  AUROC and AUPRC of several classes are means over the classes that occur, each against the rest.

  Args:
    kind: "regression", "binary" or "multiclass".
    truth: values, or indices of classes.
    predicted: values [n, 1], or probabilities of the classes [n, k]; the most probable class is the answer.
    fold: number of the fold of each row, from 0; None if one model predicted all rows.

  Raises:
    MetricError: kind is unknown, there are no rows, arrays do not belong together, or a value is NaN or no class.
  """
  if kind not in METRICS:
    raise MetricError(f"kind is {kind!r}, expected one of {', '.join(METRICS)}")
  truth, predicted = np.asarray(truth), np.asarray(predicted)
  if truth.ndim != 1 or predicted.ndim != 2 or not len(truth) or len(truth) != len(predicted):
    raise MetricError(f"truth {truth.shape} and predictions {predicted.shape}, expected [rows] and [rows, columns]")
  if fold is not None and np.shape(fold) != truth.shape:
    raise MetricError(f"fold has shape {np.shape(fold)}, expected {truth.shape}")
  if np.isnan(truth).any() or np.isnan(predicted).any():
    raise MetricError(f"{'truth' if np.isnan(truth).any() else 'a prediction'} is NaN, expected numbers in every row")
  if kind != "regression" and (truth.min() < 0 or truth.max() >= predicted.shape[1] or (truth % 1).any()):
    raise MetricError(f"truth is {truth.min():g} to {truth.max():g}, expected classes 0 to {predicted.shape[1] - 1}")
  fold = np.zeros(len(truth), np.int64) if fold is None else fold
  if kind == "regression":
    return _regression(truth, predicted[:, 0], fold)
  label = truth.astype(np.int64)
  answers = _answers(label, predicted.argmax(axis=1), predicted.shape[1], fold)
  classes = [1] if kind == "binary" else [c for c in range(predicted.shape[1]) if (label == c).any()]
  ranked = np.array([ranking(label == c, predicted[:, c], fold) for c in classes])
  # A class that every row of every fold has, or none, cannot be ranked; the mean is over the others.
  known = ranked[~np.isnan(ranked).any(axis=1)] if len(ranked) else ranked
  return np.concatenate([known.mean(axis=0) if len(known) else [np.nan, np.nan], answers[kind != "binary" :]])


def _regression(
  truth: Float[np.ndarray, " n"], predicted: Float[np.ndarray, " n"], fold: Int[np.ndarray, " n"]
) -> np.ndarray:
  error = predicted - truth
  x, y = (values - _fold_mean(values, fold)[fold] for values in (predicted, truth))
  spread, of_truth = np.sqrt((x**2).mean()), np.sqrt((y**2).mean())
  # A constant has no correlation with anything; its SD may be a rounding error.
  constant = spread <= 1e-12 * np.abs(predicted).max() or of_truth <= 1e-12 * np.abs(truth).max()
  r = np.nan if constant else (x / spread * (y / of_truth)).mean()
  return np.array([np.abs(error).mean(), np.sqrt((error**2).mean()), r])


def _fold_mean(values: Float[np.ndarray, " n"], fold: Int[np.ndarray, " n"]) -> Float[np.ndarray, " folds"]:
  return np.bincount(fold, values) / np.maximum(np.bincount(fold), 1)


def _answers(
  truth: Int[np.ndarray, " n"], answer: Int[np.ndarray, " n"], classes: int, fold: Int[np.ndarray, " n"]
) -> np.ndarray:
  """F1 of the last class, macro F1 over the classes that occur in truth or answers, accuracy, balanced accuracy.

  Balanced accuracy is the mean recall of a fold's classes; folds are weighted by their rows, and a fold of one class is
  left out.
  """
  of_folds = np.bincount((fold * classes + truth) * classes + answer, minlength=(fold.max() + 1) * classes**2)
  of_folds = of_folds.reshape(-1, classes, classes)
  confusion = of_folds.sum(axis=0)
  right, both = confusion.diagonal(), confusion.sum(1) + confusion.sum(0)
  f1 = 2 * right / np.maximum(both, 1)
  positive = f1[-1] if both[-1] else np.nan
  true = of_folds.sum(axis=2)
  recall = of_folds.diagonal(axis1=1, axis2=2) / np.maximum(true, 1)
  rows = np.where((true > 0).sum(axis=1) > 1, true.sum(axis=1), 0)
  balanced = (
    (rows * recall.sum(axis=1) / np.maximum((true > 0).sum(axis=1), 1)).sum() / rows.sum() if rows.any() else np.nan
  )
  return np.array([positive, f1[both > 0].mean(), right.sum() / len(truth), balanced])


def ranking(
  positive: Bool[np.ndarray, " n"], score: Float[np.ndarray, " n"], fold: Int[np.ndarray, " n"]
) -> tuple[float, float]:
  """AUROC and AUPRC of scores that are comparable within a fold only.

  AUROC is the share of the pairs of a positive and a negative row of one fold in which the positive one scores higher;
  ties count half (Mann-Whitney). AUPRC is average precision: the mean over positive rows of the precision at their
  score in their fold, tied rows taken together. Both are NaN if no fold has both classes; other folds are left out.
  """
  order = np.lexsort((score, fold))
  ranked, folds = score[order], fold[order]
  # Rows with equal scores in a fold form a run; the arrays below have an entry per run, in ascending order of scores.
  first = np.append(True, (np.diff(ranked) != 0) | (np.diff(folds) != 0))
  run, fold_of_run = np.cumsum(first) - 1, folds[first]
  positives = np.bincount(run, positive[order])
  negatives = np.bincount(run) - positives
  positives_of_fold, negatives_of_fold = (np.bincount(fold_of_run, counts) for counts in (positives, negatives))
  pairs = (positives_of_fold * negatives_of_fold).sum()
  if not pairs:
    return float("nan"), float("nan")
  # Rows of the same fold with lower scores.
  positives_below, negatives_below = (
    np.cumsum(counts) - counts - (np.cumsum(of_fold) - of_fold)[fold_of_run]
    for counts, of_fold in ((positives, positives_of_fold), (negatives, negatives_of_fold))
  )
  hits = positives_of_fold[fold_of_run] - positives_below  # positive rows with this score or a higher one
  precision = hits / (hits + negatives_of_fold[fold_of_run] - negatives_below)
  comparable = positives * (negatives_of_fold[fold_of_run] > 0)
  auroc = (positives * (negatives_below + negatives / 2)).sum() / pairs
  return float(auroc), float((comparable * precision).sum() / comparable.sum())
