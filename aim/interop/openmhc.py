"""OpenMHC's protocols: a trained model as its Imputer and its Method, its imputers in our contest, its skill scores.

OpenMHC's arrays are [days, channels, minutes], ours [days, minutes, channels]. Sources: src/openmhc/_protocols.py and
tools/leaderboard_docs/SCHEMA.md at github.com/AshleyLab/OpenMHC.
"""

from __future__ import annotations

import os
import pathlib
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float, Shaped
from sklearn.linear_model import LogisticRegression, RidgeCV
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from aim.inference.loading import load
from aim.inference.pretrained import Pretrained
from data_pipelines.errors import SchemaError
from data_pipelines.in_memory.plain_arrays import check_unmasked, plain_array

FLOOR = 0.005  # of 1 - AUC, before ratios are taken
RATIOS = (0.01, 100.0)  # smallest and largest ratio of two errors


class DataSpec(NamedTuple):
  """The data that a Method requests of each person, in the form of openmhc.DataSpec: every day by the minute."""

  resolution: str = "minute"
  window: str = "day"


@runtime_checkable
class TheirImputer(Protocol):
  """Whatever has OpenMHC's `impute`."""

  def impute(self, data: np.ndarray, observed_mask: np.ndarray, target_mask: np.ndarray) -> np.ndarray:
    """Arrays [days, channels, steps]: the data, filled where target_mask is 1."""
    ...


class Imputer:
  """A trained model as OpenMHC's Imputer, for openmhc.evaluate_imputation.

  Attributes:
    model: of OpenMHC's 19 channels, or of any others in this order.
  """

  def __init__(self, model: Pretrained | str | os.PathLike):
    """Wraps a model, or loads whatever aim.load takes."""
    self.model = _loaded(model)

  def impute(
    self,
    data: Float[np.ndarray, "_ _ _"],
    observed_mask: Shaped[np.ndarray, "_ _ _"],
    target_mask: Shaped[np.ndarray, "_ _ _"],
  ) -> Float[np.ndarray, "days channels steps"]:
    """Fills the targets: with what the model expects, in binary channels with probabilities.

    Args:
      data: [days, channels, steps], as the masks, in the model's units; what stands where
        observed_mask is 0 or target_mask is 1 is never read.
      observed_mask: 1 where a value was observed, hidden or not.
      target_mask: 1 where a value is to be filled in.

    Returns:
      float32, equal to `data` elsewhere.

    Raises:
      SchemaError: the arrays are not of one shape, or not of the model's channels and steps.
    """
    for array in (data, observed_mask, target_mask):
      check_unmasked(array, "impute", "data and masks")
    shapes = {np.shape(array) for array in (data, observed_mask, target_mask)}
    if len(shapes) > 1:
      raise SchemaError(f"impute: data and masks have shapes {', '.join(map(str, sorted(shapes)))}, expected one")
    target = np.asarray(target_mask) == 1
    filled = np.array(data, np.float32)
    if target.any():
      known = (np.asarray(observed_mask) == 1) & ~target
      days = _turned(np.where(known, filled, np.nan))
      expected = self.model.reconstruct(days, _turned(target))
      expected = np.where(self.model.scale.binary, expected, self.model.physical(expected))
      filled[target] = _turned(expected)[target]
    return filled


class Method:
  """A trained model as OpenMHC's Method, for openmhc.evaluate_prediction: a linear probe on a person's mean day.

  Attributes:
    model: of OpenMHC's 19 channels.
    data_spec: asks for days by the minute.
  """

  data_spec: Any = DataSpec()

  def __init__(self, model: Pretrained | str | os.PathLike, probe: Callable[[str], Any] | None = None):
    """Wraps a model.

    Args:
      model: a model, or whatever aim.load takes.
      probe: makes what is fitted for a task_type, with fit(embeddings, labels) and predict(embeddings). In OpenMHC's
        own evaluation pass openmhc.LinearProbe, with which it compares representations. By default ridge regression,
        or logistic regression for "binary" (which predicts the probability of the larger label) and "multiclass".
    """
    self.model, self._make_probe = _loaded(model), probe or linear_probe
    self._probe: Any = None

  def fit(self, data: Iterable[np.ndarray], labels: Shaped[np.ndarray, " people"], task_type: str) -> None:
    """Fits the probe.

    Args:
      data: one array [days, 1440, 2 * channels] per person: values with NaN where missing, then masks.
      labels: one per person.
      task_type: "binary", "multiclass", "ordinal" or "regression".
    """
    embeddings = self.embed(data)
    known = ~np.isnan(embeddings).any(axis=1)
    self._probe = self._make_probe(task_type)
    self._probe.fit(embeddings[known], plain_array(labels, "fit", "labels")[known])

  def predict(self, data: Iterable[np.ndarray]) -> Float[np.ndarray, " people"]:
    """One prediction per person; NaN for one without a readable day.

    Raises:
      SchemaError: fit() was not called.
    """
    if self._probe is None:
      raise SchemaError("predict: call fit() first")
    embeddings = self.embed(data)
    known = ~np.isnan(embeddings).any(axis=1)
    predictions = np.full(len(embeddings), np.nan)
    if known.any():
      predictions[known] = np.asarray(self._probe.predict(embeddings[known]), np.float64)
    return predictions

  def embed(self, data: Iterable[np.ndarray]) -> Float[np.ndarray, "people width"]:
    """The mean embedding of each person's readable days; NaN for a person without one."""
    channels = len(self.model.schema.channels)
    people = []
    for days in data:
      values = plain_array(days, "embed").astype(np.float32)[..., :channels]
      readable = self.model.readable_days(values) if len(values) else np.zeros(0, bool)
      width = self.model.embedding_width("mean")
      people.append(self.model.embed(values[readable]).mean(axis=0) if readable.any() else np.full(width, np.nan))
    return np.stack(people)


class _LargerLabel:
  """A classifier of two labels whose prediction is the probability of the larger one."""

  def __init__(self, classifier: Any):
    self._classifier = classifier

  def fit(self, inputs: np.ndarray, labels: np.ndarray) -> None:
    self._classifier.fit(inputs, labels)

  def predict(self, inputs: np.ndarray) -> np.ndarray:
    return self._classifier.predict_proba(inputs)[:, -1]


class _StandardisedLabel:
  """A regression of standardised labels: by itself it has the precision of its inputs, float32."""

  def __init__(self, regression: Any):
    self._regression, self._mean, self._sd = regression, 0.0, 1.0

  def fit(self, inputs: np.ndarray, labels: np.ndarray) -> None:
    labels = np.asarray(labels, np.float64)
    self._mean, self._sd = float(labels.mean()), float(labels.std()) or 1.0
    self._regression.fit(inputs, (labels - self._mean) / self._sd)

  def predict(self, inputs: np.ndarray) -> np.ndarray:
    return self._regression.predict(inputs).astype(np.float64) * self._sd + self._mean


def linear_probe(task_type: str) -> Any:
  """The default probe of a Method, see there."""
  if task_type in ("binary", "multiclass"):
    classifier = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    return _LargerLabel(classifier) if task_type == "binary" else classifier
  return _StandardisedLabel(make_pipeline(StandardScaler(), RidgeCV(np.logspace(-2, 4, 13))))


def fill_tasks(imputer: TheirImputer, tasks: str | os.PathLike, output: str | os.PathLike) -> list[pathlib.Path]:
  """Lets an imputer of OpenMHC's protocol fill the tasks of our contest.

  Args:
    imputer: whatever has `impute`; it gets days in their channels' units.
    tasks: the folder that config.evaluate.export named.
    output: a folder to make, which config.evaluate.external=NAME=FOLDER reads.

  Returns:
    The files written, one per task.

  Raises:
    SchemaError: the folder has no tasks, or the imputer returned another shape.
  """
  files = [path for path in sorted(pathlib.Path(tasks).glob("*.npz")) if path.name != "train.npz"]
  if not files:
    raise SchemaError(f"{tasks}: holds no tasks, which config.evaluate.export writes")
  written = []
  for path in files:
    with np.load(path, allow_pickle=False) as arrays:
      x, truth, mean, std = (arrays[name] for name in ("X", "X_ori", "mean", "std"))
      about = {name: arrays[name] for name in ("indicating_mask", "participant", "day", "task", "level")}
    observed = ~np.isnan(truth)
    masks = (_turned(mask).astype(np.float32) for mask in (observed, observed & np.isnan(x)))
    filled = np.asarray(imputer.impute(_turned(x * std + mean).astype(np.float32), *masks))
    if filled.shape != _turned(x).shape:
      raise SchemaError(f"{path}: the imputer returned shape {filled.shape}, expected {_turned(x).shape}")
    z = (_turned(filled) - mean) / std
    written.append(pathlib.Path(output) / path.name)
    written[-1].parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(written[-1], imputation=np.where(np.isnan(x), z, x).astype(np.float32), **about)
  return written


def person_error(truth: Float[np.ndarray, " values"], filled: Float[np.ndarray, " values"], binary: bool) -> float:
  """The error of one person in one channel: mean absolute error, or 1 - AUC of a binary channel.

  NaN without a value, and in a binary channel without both labels.
  """
  if not len(truth) or (binary and len(np.unique(truth)) < 2):
    return float("nan")
  return float(1 - roc_auc_score(truth, filled) if binary else np.abs(truth - filled).mean())


def skill_score(
  errors: Mapping[Any, Mapping[str, float]], baseline: Mapping[Any, Mapping[str, float]], floor: Iterable[Any] = ()
) -> float:
  """Skill score against a baseline: 1 - geometric mean over tasks of the ratio of errors, at most 1.

  A task's ratio is that of the mean errors of the people whom both have an error of, bounded by RATIOS. OpenMHC reports
  it in percent, with last observation carried forward as the baseline of imputation.

  Args:
    errors: of each task, such as a scenario and a channel, the error of each person.
    baseline: the same.
    floor: tasks of binary channels, whose errors are at least FLOOR.

  Raises:
    SchemaError: there is no task with an error of the same person on both sides.
  """
  floor = set(floor)
  logs = []
  for task in errors.keys() & baseline.keys():
    people = [
      person
      for person in errors[task].keys() & baseline[task].keys()
      if np.isfinite([errors[task][person], baseline[task][person]]).all()
    ]
    least = FLOOR if task in floor else 0.0
    own, other = (sum(max(side[task][person], least) for person in people) for side in (errors, baseline))
    if people and (own or other):
      logs.append(np.log(np.clip(own / other if other else np.inf, *RATIOS)))
    elif people:
      logs.append(0.0)  # both are perfect
  if not logs:
    raise SchemaError("skill score: there is no task with errors of the same person on both sides")
  return float(1 - np.exp(np.mean(logs)))


def _loaded(model: Pretrained | str | os.PathLike) -> Pretrained:
  return model if isinstance(model, Pretrained) else load(os.fspath(model))


def _turned(array: Shaped[np.ndarray, "days a b"]) -> Shaped[np.ndarray, "days b a"]:
  return array.swapaxes(1, 2)
