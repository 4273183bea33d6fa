"""Linear probes and the other learners of --mode=probe: fitted once on training people, plain functions afterwards."""

from __future__ import annotations

import dataclasses
import pathlib
import warnings
from collections.abc import Callable
from typing import Any, Protocol

import ml_collections
import numpy as np
from jaxtyping import Bool, Float, Shaped
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
from data_pipelines.errors import SchemaError

_INNER_FOLDS = 5
_UNSEEN_PROBABILITY = 1e-12  # of a class that a learner has never seen


@dataclasses.dataclass(frozen=True)
class FitData:
  """The rows that a learner is fitted on.

  Attributes:
    inputs: float [n, f], NaN where unknown.
    truth: float [n], a value or the index of a class.
    participant: the person of each row, str [n].
    tune: bool [n], rows of the tune people, which choose the regularisation; the final fit uses all rows.

  Raises:
    SchemaError: there are no rows, arrays do not belong together, an input is infinite or a truth is NaN or infinite.
  """

  inputs: Float[np.ndarray, "n f"]
  truth: Float[np.ndarray, " n"]
  participant: Shaped[np.ndarray, " n"]
  tune: Bool[np.ndarray, " n"]

  def __post_init__(self) -> None:
    shapes = {name: np.shape(getattr(self, name)) for name in ("inputs", "truth", "participant", "tune")}
    rows = shapes["truth"][:1]
    expected = {name: rows for name in shapes} | {"inputs": (*rows, *shapes["inputs"][1:2])}
    for name, shape in shapes.items():
      if shape != expected[name] or len(shape) != 1 + (name == "inputs"):
        raise SchemaError(f"rows to fit: {name} has shape {shape}, expected {'[n, f]' if name == 'inputs' else '[n]'}")
    if not rows[0]:
      raise SchemaError("rows to fit: there are none")
    if np.asarray(self.tune).dtype != bool:
      raise SchemaError(f"rows to fit: tune is {np.asarray(self.tune).dtype}, expected bool")
    if np.isinf(self.inputs).any() or not np.isfinite(self.truth).all():
      raise SchemaError("rows to fit: an input is infinite, or a truth is NaN or infinite")


class Predictor(Protocol):
  """A fitted learner."""

  def predict(self, inputs: Float[np.ndarray, "n f"]) -> Float[np.ndarray, "n k"]:
    """Values [n, 1] of a regression, probabilities [n, classes] of a classification."""
    ...


@dataclasses.dataclass(frozen=True)
class FittedProbe:
  """A linear probe: fills unknown inputs, standardises and applies an affine map.

  Attributes:
    task: name of the task.
    kind: "binary", "multiclass" or "regression".
    classes: names of the columns of predict(); () for regression.
    fill: float [f], the training mean, which replaces an unknown (NaN) input.
    mean, scale: float [f], mean and SD of the training rows.
    weights, intercept: float [k, f], float [k], on standardised inputs; they give logits for classes.
  """

  task: str
  kind: str
  classes: tuple[str, ...]
  fill: Float[np.ndarray, " f"]
  mean: Float[np.ndarray, " f"]
  scale: Float[np.ndarray, " f"]
  weights: Float[np.ndarray, "k f"]
  intercept: Float[np.ndarray, " k"]

  def predict(self, inputs: Float[np.ndarray, "n f"]) -> Float[np.ndarray, "n k"]:
    """Values [n, 1] of a regression, probabilities [n, classes] of a classification."""
    if np.ndim(inputs) != 2 or np.shape(inputs)[1] != len(self.fill):
      raise SchemaError(f"probe {self.task!r}: inputs have shape {np.shape(inputs)}, expected [n, {len(self.fill)}]")
    known = np.where(np.isnan(inputs), self.fill, inputs).astype(np.float64)
    scores = (known - self.mean) / self.scale @ self.weights.T + self.intercept
    if self.kind == "regression":
      return scores
    odds = np.exp(scores - scores.max(axis=1, keepdims=True))
    return odds / odds.sum(axis=1, keepdims=True)

  def save(self, path: str | pathlib.Path) -> None:
    """Writes an npz file with one array per attribute."""
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    arrays = {field.name: np.asarray(getattr(self, field.name)) for field in dataclasses.fields(self)}
    np.savez(path, **arrays)  # type: ignore[arg-type]

  @classmethod
  def load(cls, path: str | pathlib.Path) -> FittedProbe:
    """Reads what save() wrote."""
    with np.load(path, allow_pickle=False) as arrays:
      fields: dict[str, Any] = {field.name: arrays[field.name] for field in dataclasses.fields(cls)}
    names = {"task": str(fields["task"]), "kind": str(fields["kind"])}
    return cls(**{**fields, **names, "classes": tuple(fields["classes"].tolist())})


@dataclasses.dataclass(frozen=True)
class TruthScale:
  """Mean and SD of the numbers of a regression, 0 and 1 for classes.

  Learners are fitted on standardised numbers, because scikit-learn computes in the precision of the inputs, which is
  float32: it cannot tell times in seconds since 1970 apart.
  """

  mean: float
  sd: float

  @classmethod
  def of(cls, task: LabelTask, truth: Float[np.ndarray, " n"]) -> TruthScale:
    """That of the rows that are fitted."""
    return cls(float(truth.mean()), float(truth.std()) or 1.0) if task.kind == "regression" else cls(0.0, 1.0)

  def apply(self, rows: FitData) -> FitData:
    """The rows with standardised numbers."""
    return dataclasses.replace(rows, truth=(rows.truth - self.mean) / self.sd)


def fit_linear(config: ml_collections.ConfigDict, task: LabelTask, rows: FitData) -> FittedProbe:
  """Fits a logistic or ridge regression on standardised inputs, after a PCA if there are more than config.pca of them.

  The penalty is the one of config.strengths that is best on the tune people or, where there are none, in a
  cross-validation over the training people. The probe is then fitted on all rows.

  Args:
    config: config.probe: pca (0: never), strengths, balanced.
  """
  known = ~np.isnan(rows.inputs).all(axis=0)  # an input that no row has teaches nothing, so the probe ignores it
  steps: list[tuple[str, Any]] = [("fill", SimpleImputer(keep_empty_features=True)), ("scale", StandardScaler())]
  if 0 < config.pca < rows.inputs.shape[1]:
    smallest_fold = min([len(train) for train, _ in _folds(rows, rows.truth, False)] or [len(rows.truth)])
    steps.append(("pca", PCA(min(config.pca, smallest_fold), random_state=0)))
  steps.append(("model", _linear(config, task)))
  key, grid = _grid(config, task)
  scale = TruthScale.of(task, rows.truth)
  pipeline = _search(Pipeline(steps), {key: grid}, task, scale.apply(rows))
  return _as_affine(task, pipeline, scale, known)


def _linear(config: ml_collections.ConfigDict, task: LabelTask) -> BaseEstimator:
  if task.kind == "regression":
    return Ridge()
  return LogisticRegression(max_iter=200, tol=1e-3, class_weight="balanced" if config.balanced else None)


def _grid(config: ml_collections.ConfigDict, task: LabelTask) -> tuple[str, list[float]]:
  """The pipeline's parameter for the penalty, and its values; C of a logistic regression is 1 / strength."""
  strengths = [float(strength) for strength in config.strengths]
  return ("model__alpha", strengths) if task.kind == "regression" else ("model__C", [1 / s for s in strengths])


def _search(pipeline: Pipeline, grid: dict[str, list[float]], task: LabelTask, rows: FitData) -> Pipeline:
  """Fits the pipeline on all rows, with the best value of the grid."""
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
    # PCA divides by the variance of its rows for a ratio that nobody reads: 0 / 0 if all rows of a fold are the same.
    warnings.filterwarnings("ignore", "invalid value encountered in divide", RuntimeWarning, r"sklearn\.decomposition")
    search.fit(rows.inputs, truth)
  return search.best_estimator_ if isinstance(search, GridSearchCV) else search


def _folds(rows: FitData, truth: np.ndarray, classes: bool) -> list[tuple[np.ndarray, np.ndarray]]:
  """(training, validation) rows: tune people validate, or else folds of people do; [] where neither is possible.

  Args:
    classes: truth holds classes; folds whose training rows have only one of them are left out.
  """
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
  """Mean log probability of the truth, every class with the same weight."""
  probability = np.full((len(truth), int(max(truth.max(), estimator.classes_.max())) + 1), _UNSEEN_PROBABILITY)
  probability[:, estimator.classes_] = estimator.predict_proba(inputs)
  log = np.log(np.maximum(probability[np.arange(len(truth)), truth], _UNSEEN_PROBABILITY))
  return float(np.mean([log[truth == c].mean() for c in np.unique(truth)]))


def _as_affine(task: LabelTask, pipeline: Pipeline, truth: TruthScale, known: Bool[np.ndarray, " f"]) -> FittedProbe:
  """The fitted pipeline as one affine map; classes that no training row has get the logit -inf."""
  model, scale = pipeline["model"], pipeline["scale"]
  weights, intercept = (np.asarray(fitted, np.float64) for fitted in (model.coef_, model.intercept_))
  weights, intercept = np.atleast_2d(weights) * truth.sd, np.atleast_1d(intercept) * truth.sd + truth.mean
  if "pca" in pipeline.named_steps:
    pca = pipeline["pca"]
    intercept = intercept - weights @ (pca.components_ @ pca.mean_)
    weights = weights @ pca.components_
  if task.kind != "regression":
    if len(weights) == 1:  # two classes: the logit of the second
      weights, intercept = np.concatenate([0 * weights, weights]), np.concatenate([[0.0], intercept])
    seen_weights, seen_intercept = weights, intercept
    weights, intercept = np.zeros((len(task.classes), weights.shape[1])), np.full(len(task.classes), -np.inf)
    weights[model.classes_], intercept[model.classes_] = seen_weights, seen_intercept
  weights = np.where(known, weights, 0.0)  # a PCA leaves rounding errors there
  fill = np.where(known, pipeline["fill"].statistics_, 0.0)
  return FittedProbe(task.name, task.kind, task.classes, fill, scale.mean_, scale.scale_, weights, intercept)


@dataclasses.dataclass(frozen=True)
class PipelinePredictor:
  """A fitted scikit-learn pipeline as a Predictor."""

  task: LabelTask
  pipeline: Pipeline
  truth: TruthScale

  def predict(self, inputs: Float[np.ndarray, "n f"]) -> Float[np.ndarray, "n k"]:
    """Values [n, 1] of a regression, probabilities [n, classes]; 0 for a class that no training row has."""
    if self.task.kind == "regression":
      return self.pipeline.predict(inputs)[:, None] * self.truth.sd + self.truth.mean
    probability = np.zeros((len(inputs), len(self.task.classes)))
    probability[:, self.pipeline["model"].classes_] = self.pipeline.predict_proba(inputs)
    return probability


def fit_forest(config: ml_collections.ConfigDict, task: LabelTask, rows: FitData) -> PipelinePredictor:
  """Fits a random forest of config.forest_trees on all rows; the training mean replaces unknown inputs."""
  kind: Callable[..., Any] = RandomForestRegressor if task.kind == "regression" else RandomForestClassifier
  weight = {} if task.kind == "regression" else {"class_weight": "balanced" if config.balanced else None}
  model = kind(config.forest_trees, min_samples_leaf=3, max_features="sqrt", random_state=0, **weight)
  pipeline = Pipeline([("fill", SimpleImputer(keep_empty_features=True)), ("model", model)])
  scale = TruthScale.of(task, rows.truth)
  truth = scale.apply(rows).truth if task.kind == "regression" else rows.truth.astype(int)
  return PipelinePredictor(task, pipeline.fit(rows.inputs, truth), scale)


@dataclasses.dataclass(frozen=True)
class Constant:
  """Predicts the same for everyone."""

  prediction: Float[np.ndarray, " k"]

  def predict(self, inputs: Float[np.ndarray, "n f"]) -> Float[np.ndarray, "n k"]:
    """The constant, once per row."""
    return np.repeat(self.prediction[None], len(inputs), axis=0)


def fit_constant(config: ml_collections.ConfigDict, task: LabelTask, rows: FitData) -> Constant:
  """The training median of a regression, the training shares of the classes otherwise; reads no inputs."""
  if task.kind == "regression":
    return Constant(np.array([np.median(rows.truth)]))
  return Constant(np.bincount(rows.truth.astype(int), minlength=len(task.classes)) / len(rows.truth))
