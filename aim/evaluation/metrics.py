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
HEADLINE = {"regression": "mae", "binary": "auroc", "multiclass": "f1_macro"}

# Every metric that a results file may hold, those of the generative tasks too.
LOWER_IS_BETTER = ("mse", "mae", "rmse", "mre")
HIGHER_IS_BETTER = ("r", "auroc", "auprc", "f1", "f1_macro", "accuracy", "balanced_accuracy", "skill")


class MetricError(UserError):
  """A metric of which it is not known whether lower or higher is better."""


def lower_is_better(metric: str) -> bool:
  """Whether a lower value of the metric is better. A drop, such as "auroc drop", always is.

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
  kind: str, truth: Float[np.ndarray, " n"], predicted: Float[np.ndarray, "n k"]
) -> Float[np.ndarray, " metrics"]:
  """METRICS[kind] of predictions, NaN where a metric is not defined.

  AUROC and AUPRC of several classes are means over the classes that occur, each against the rest.

  Args:
    kind: "regression", "binary" or "multiclass".
    truth: values, or indices of classes.
    predicted: values [n, 1], or probabilities of the classes [n, k]; the most probable class is the answer.
  """
  if kind == "regression":
    return _regression(truth, predicted[:, 0])
  label = truth.astype(np.int64)
  answers = _answers(label, predicted.argmax(axis=1), predicted.shape[1])
  classes = [1] if kind == "binary" else [c for c in range(predicted.shape[1]) if (label == c).any()]
  ranked = np.array([(auroc(label == c, predicted[:, c]), auprc(label == c, predicted[:, c])) for c in classes])
  return np.concatenate([ranked.mean(axis=0) if len(ranked) else [np.nan, np.nan], answers[kind != "binary" :]])


def _regression(truth: Float[np.ndarray, " n"], predicted: Float[np.ndarray, " n"]) -> np.ndarray:
  error = predicted - truth
  spread = truth.std() * predicted.std()
  # A constant has no correlation with anything; its SD may be a rounding error.
  constant = spread <= 1e-12 * max(np.abs(truth).max() * np.abs(predicted).max(), 1e-12)
  r = np.nan if constant else ((truth - truth.mean()) * (predicted - predicted.mean())).mean() / spread
  return np.array([np.abs(error).mean(), np.sqrt((error**2).mean()), r])


def _answers(truth: Int[np.ndarray, " n"], answer: Int[np.ndarray, " n"], classes: int) -> np.ndarray:
  """F1 of the last class, macro F1 over the classes that occur in truth or answers, accuracy, balanced accuracy."""
  confusion = np.bincount(truth * classes + answer, minlength=classes**2).reshape(classes, classes)
  right, true, answered = confusion.diagonal(), confusion.sum(1), confusion.sum(0)
  both = true + answered
  f1 = 2 * right / np.maximum(both, 1)
  positive = f1[-1] if both[-1] else np.nan
  recall = right[true > 0] / true[true > 0]
  return np.array([positive, f1[both > 0].mean(), right.sum() / len(truth), recall.mean()])


def auroc(positive: Bool[np.ndarray, " n"], score: Float[np.ndarray, " n"]) -> float:
  """Probability that a positive row scores above a negative one; ties count half (Mann-Whitney). NaN for one class."""
  from scipy.stats import rankdata  # slow to import; the names of metrics are needed without it

  n = int(positive.sum())
  if n in (0, len(positive)):
    return float("nan")
  ranks = rankdata(score)
  return (ranks[positive].sum() - n * (n + 1) / 2) / (n * (len(positive) - n))


def auprc(positive: Bool[np.ndarray, " n"], score: Float[np.ndarray, " n"]) -> float:
  """Average precision: the mean over positive rows of the precision at their score, tied rows taken together."""
  if not positive.any():
    return float("nan")
  order = np.argsort(-score, kind="stable")
  hits, ranked = np.cumsum(positive[order]), score[order]
  last = np.append(np.flatnonzero(np.diff(ranked)), len(ranked) - 1)  # the last of each run of equal scores
  gained = np.diff(hits[last], prepend=0)
  return float((gained * hits[last] / (last + 1)).sum() / hits[-1])
