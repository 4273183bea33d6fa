"""Linear probes and the other learners of --mode=probe: fitted on training people, plain functions afterwards."""

from __future__ import annotations

import dataclasses
import pathlib
import warnings
from collections.abc import Callable
from typing import Any, Protocol

import ml_collections
import numpy as np
from jaxtyping import Bool, Float
from sklearn.base import BaseEstimator
from sklearn.decomposition import PCA
from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor
from sklearn.exceptions import ConvergenceWarning
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import GridSearchCV, GroupKFold, PredefinedSplit
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler

from aim.evaluation.probing.label_tasks import LabelTask

_INNER_FOLDS = 5
_LEAST = 1e-12  # probability of a class that a learner has never seen


@dataclasses.dataclass(frozen=True)
class FitData:
  """Rows to learn from: whose they are and which of them only choose the regularisation.

  Attributes:
    inputs: float [n, f], NaN where unknown.
    truth: float [n], a value or the index of a class.
    participant: str [n].
    tune: bool [n], rows of the tune people.
  """

  inputs: Float[np.ndarray, "n f"]
  truth: Float[np.ndarray, " n"]
  participant: np.ndarray
  tune: Bool[np.ndarray, " n"]


class Predictor(Protocol):
  """Predictions for inputs [n, f]: values [n, 1] of a regression, probabilities [n, classes] of a classification."""

  def predict(self, inputs: Float[np.ndarray, "n f"]) -> Float[np.ndarray, "n k"]: ...


@dataclasses.dataclass(frozen=True)
class FittedProbe:
  """A linear probe: predict(embeddings) fills, standardises and maps; nothing is ever fitted again.

  Attributes:
    task: its name.
    kind: "binary", "multiclass" or "regression".
    classes: names of the columns of predict().
    fill: float [f], stands for an unknown (NaN) input: the training mean.
    mean, scale: float [f], of the training rows.
    weights, intercept: float [k, f], float [k], on standardised inputs; for classes logits.
  """

  task: str
  kind: str
  classes: tuple[str, ...]
  fill: np.ndarray
  mean: np.ndarray
  scale: np.ndarray
  weights: np.ndarray
  intercept: np.ndarray

  def predict(self, inputs: Float[np.ndarray, "n f"]) -> Float[np.ndarray, "n k"]:
    """Values [n, 1] of a regression, probabilities [n, classes] of a classification."""
    known = np.where(np.isnan(inputs), self.fill, inputs).astype(np.float64)
    scores = (known - self.mean) / self.scale @ self.weights.T + self.intercept
    if self.kind == "regression":
      return scores
    odds = np.exp(scores - scores.max(axis=1, keepdims=True))
    return odds / odds.sum(axis=1, keepdims=True)

  def save(self, path: str | pathlib.Path) -> None:
    """Every attribute as an array of an npz file."""
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    arrays = {field.name: np.asarray(getattr(self, field.name)) for field in dataclasses.fields(self)}
    np.savez(path, **arrays)  # type: ignore[arg-type]

  @classmethod
  def load(cls, path: str | pathlib.Path) -> FittedProbe:
    with np.load(path, allow_pickle=False) as arrays:
      fields: dict[str, Any] = {field.name: arrays[field.name] for field in dataclasses.fields(cls)}
    names = {"task": str(fields["task"]), "kind": str(fields["kind"])}
    return cls(**{**fields, **names, "classes": tuple(fields["classes"].tolist())})


def fit_linear(config: ml_collections.ConfigDict, task: LabelTask, rows: FitData) -> FittedProbe:
  """Standardise, PCA where there are more inputs than config.pca (0: never), then logistic or ridge regression.

  The regularisation (config.strengths) is the one that is best on the tune people, or in an inner cross-validation
  over training people where there are none; the probe is then fitted on all of them.
  """
  known = ~np.isnan(rows.inputs).all(axis=0)  # an input that nobody has teaches nothing, and is not read
  steps: list[tuple[str, Any]] = [("fill", SimpleImputer(keep_empty_features=True)), ("scale", StandardScaler())]
  if 0 < config.pca < rows.inputs.shape[1]:
    fewest = min([len(train) for train, _ in _folds(rows, rows.truth, False)] or [len(rows.truth)])
    steps.append(("pca", PCA(min(config.pca, fewest), random_state=0)))
  steps.append(("model", _linear(config, task)))
  key, grid = _grid(config, task)
  found = _search(Pipeline(steps), {key: grid}, task, rows)
  return _as_affine(task, found, known)


def _linear(config: ml_collections.ConfigDict, task: LabelTask) -> BaseEstimator:
  if task.kind == "regression":
    return Ridge()
  return LogisticRegression(max_iter=200, tol=1e-3, class_weight="balanced" if config.balanced else None)


def _grid(config: ml_collections.ConfigDict, task: LabelTask) -> tuple[str, list[float]]:
  strengths = [float(strength) for strength in config.strengths]
  return ("model__alpha", strengths) if task.kind == "regression" else ("model__C", [1 / s for s in strengths])


def _search(pipeline: Pipeline, grid: dict[str, list[float]], task: LabelTask, rows: FitData) -> Pipeline:
  """The pipeline with the best value of the grid, fitted on all rows."""
  truth = rows.truth if task.kind == "regression" else rows.truth.astype(int)
  folds = _folds(rows, truth, task.kind != "regression")
  if not folds or len(next(iter(grid.values()))) == 1:
    (key, values), *_ = grid.items()
    search: Any = pipeline.set_params(**{key: values[len(values) // 2]})
  else:
    score = "neg_mean_squared_error" if task.kind == "regression" else _log_likelihood
    search = GridSearchCV(pipeline, grid, scoring=score, cv=folds)
  with warnings.catch_warnings():
    # The weakest regularisations need not converge to be compared, and are seldom chosen.
    warnings.simplefilter("ignore", ConvergenceWarning)
    warnings.simplefilter("ignore", RuntimeWarning)
    search.fit(rows.inputs, truth)
  return search.best_estimator_ if isinstance(search, GridSearchCV) else search


def _folds(rows: FitData, truth: np.ndarray, classes: bool) -> list[tuple[np.ndarray, np.ndarray]]:
  """(training, validation) rows: the tune people's, or those of an inner cross-validation; [] where neither works."""
  people = len(set(rows.participant.tolist()))
  if rows.tune.any():
    splitter: Any = PredefinedSplit(np.where(rows.tune, 0, -1)).split()
  elif people > 1:
    splitter = GroupKFold(min(_INNER_FOLDS, people)).split(rows.inputs, truth, rows.participant)
  else:
    return []
  folds = [(train, test) for train, test in splitter if len(train) and len(test)]
  return [fold for fold in folds if not classes or len(np.unique(truth[fold[0]])) > 1]


def _log_likelihood(estimator: Any, inputs: np.ndarray, truth: np.ndarray) -> float:
  """Mean log probability of the truth, each class with the same weight; unseen classes are most unlikely."""
  probability = np.full((len(truth), int(max(truth.max(), estimator.classes_.max())) + 1), _LEAST)
  probability[:, estimator.classes_] = estimator.predict_proba(inputs)
  log = np.log(np.maximum(probability[np.arange(len(truth)), truth], _LEAST))
  return float(np.mean([log[truth == c].mean() for c in np.unique(truth)]))


def _as_affine(task: LabelTask, pipeline: Pipeline, known: np.ndarray) -> FittedProbe:
  """The fitted pipeline as one affine map; logits of classes that no training row has are -inf."""
  model, scale = pipeline["model"], pipeline["scale"]
  weights, intercept = np.atleast_2d(model.coef_), np.atleast_1d(model.intercept_).astype(np.float64)
  if "pca" in pipeline.named_steps:
    pca = pipeline["pca"]
    intercept = intercept - weights @ (pca.components_ @ pca.mean_)
    weights = weights @ pca.components_
  if task.kind != "regression":
    if len(weights) == 1:  # two classes: the logit of the second
      weights, intercept = np.concatenate([0 * weights, weights]), np.concatenate([[0.0], intercept])
    every = np.zeros((len(task.classes), weights.shape[1])), np.full(len(task.classes), -np.inf)
    every[0][model.classes_], every[1][model.classes_] = weights, intercept
    weights, intercept = every
  weights = np.where(known, weights, 0.0)  # exactly, also after principal components
  fill = np.where(known, pipeline["fill"].statistics_, 0.0)
  return FittedProbe(task.name, task.kind, task.classes, fill, scale.mean_, scale.scale_, weights, intercept)


@dataclasses.dataclass(frozen=True)
class Learner:
  """A fitted scikit-learn pipeline as a Predictor."""

  task: LabelTask
  pipeline: Pipeline

  def predict(self, inputs: Float[np.ndarray, "n f"]) -> Float[np.ndarray, "n k"]:
    if self.task.kind == "regression":
      return self.pipeline.predict(inputs)[:, None]
    probability = np.zeros((len(inputs), len(self.task.classes)))
    probability[:, self.pipeline["model"].classes_] = self.pipeline.predict_proba(inputs)
    return probability


def fit_forest(config: ml_collections.ConfigDict, task: LabelTask, rows: FitData) -> Learner:
  """A random forest on all training rows, unknown inputs filled with the training mean."""
  kind: Callable[..., Any] = RandomForestRegressor if task.kind == "regression" else RandomForestClassifier
  weight = {} if task.kind == "regression" else {"class_weight": "balanced" if config.balanced else None}
  model = kind(config.forest_trees, min_samples_leaf=3, max_features="sqrt", random_state=0, **weight)
  pipeline = Pipeline([("fill", SimpleImputer(keep_empty_features=True)), ("model", model)])
  return Learner(task, pipeline.fit(rows.inputs, rows.truth if task.kind == "regression" else rows.truth.astype(int)))


@dataclasses.dataclass(frozen=True)
class Constant:
  """The same answer for everyone: the training median, or the training shares of the classes."""

  answer: np.ndarray

  def predict(self, inputs: Float[np.ndarray, "n f"]) -> Float[np.ndarray, "n k"]:
    return np.repeat(self.answer[None], len(inputs), axis=0)


def fit_constant(config: ml_collections.ConfigDict, task: LabelTask, rows: FitData) -> Constant:
  if task.kind == "regression":
    return Constant(np.array([np.median(rows.truth)]))
  return Constant(np.bincount(rows.truth.astype(int), minlength=len(task.classes)) / len(rows.truth))
