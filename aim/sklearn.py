"""scikit-learn's estimators of a trained model: DayEmbedding and DayImputer, for pipelines and cross-validation.

A row of X is a day: its values step by step, [steps * channels], as array, DataFrame or Arrow table, with NaN where
missing. Arrays [days, steps, channels] are taken as they are.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Float, Shaped
from sklearn.base import BaseEstimator, OneToOneFeatureMixin, TransformerMixin
from sklearn.utils.validation import check_is_fitted, validate_data

from aim.inference.loading import load
from aim.inference.pretrained import Pretrained
from data_pipelines.errors import SchemaError
from data_pipelines.in_memory.plain_arrays import check_unmasked, plain_array


class _OfDays(TransformerMixin, BaseEstimator):
  """Common base of the two estimators: fit() loads the model, and learns nothing."""

  checkpoint: Any
  model_: Pretrained

  def fit(self, X: Any, y: Any = None) -> _OfDays:
    """Loads the model and checks that the days are of its schema.

    Raises:
      CheckpointError: there is no model.
      SchemaError: the rows are not days of the model.
    """
    model = self.checkpoint if isinstance(self.checkpoint, Pretrained) else load(self.checkpoint)
    self._check_width(self._rows(X, reset=True), model)
    self.model_ = model
    return self

  def _rows(self, X: Any, reset: bool = False) -> Float[np.ndarray, "days values"]:
    if hasattr(X, "to_pandas") and not hasattr(X, "iloc"):  # an Arrow table
      X = X.to_pandas()
    if getattr(X, "ndim", 2) == 3:
      X = plain_array(X, type(self).__name__, "X's values").reshape(len(X), -1)
    check_unmasked(X, type(self).__name__, "X's values")
    return validate_data(self, X, reset=reset, dtype=(np.float64, np.float32), ensure_all_finite="allow-nan")

  @staticmethod
  def _check_width(rows: Float[np.ndarray, "days values"], model: Pretrained) -> None:
    steps, channels = model.schema.steps, len(model.schema.channels)
    if rows.shape[1] != steps * channels:
      raise SchemaError(
        f"X has {rows.shape[1]} values per day, expected {steps * channels}: {steps} steps of {channels} channels"
      )

  def _days(self, X: Any) -> Float[np.ndarray, "days steps channels"]:
    check_is_fitted(self)
    rows = self._rows(X)
    return rows.reshape(len(rows), self.model_.schema.steps, -1)

  def __sklearn_tags__(self) -> Any:
    tags = super().__sklearn_tags__()
    tags.input_tags.allow_nan = True
    return tags


class DayEmbedding(_OfDays):
  """Embeds days; a pipeline with any estimator behind it is a probe of the model.

  Attributes:
    checkpoint: whatever aim.load takes, or a model.
    pool: see Pretrained.embed.
    model_: the model, after fit().
  """

  def __init__(
    self, checkpoint: Any = "lsm2-watch-xs", pool: Any = "mean"
  ):  # scikit-learn checks values in fit, not here
    self.checkpoint = checkpoint
    self.pool = pool

  def transform(self, X: Any) -> Float[np.ndarray, "days features"]:
    """The embedding of each day; a day without a readable value has NaN.

    Raises:
      SchemaError: the rows are not days of the model.
      ConfigError: pool is unknown.
    """
    days = self._days(X)
    readable = self.model_.readable_days(days)
    embeddings = np.full((len(days), self.model_.embedding_width(self.pool)), np.nan, np.float32)
    if readable.any():
      embeddings[readable] = self.model_.embed(days[readable], self.pool)
    return embeddings

  def __sklearn_tags__(self) -> Any:
    tags = super().__sklearn_tags__()
    tags.transformer_tags.preserves_dtype = []  # float32 whatever comes in
    return tags

  def get_feature_names_out(self, input_features: Any = None) -> Shaped[np.ndarray, " features"]:
    """The names embedding0, embedding1, ..."""
    check_is_fitted(self)
    return np.array([f"embedding{i}" for i in range(self.model_.embedding_width(self.pool))], object)


class DayImputer(OneToOneFeatureMixin, _OfDays):
  """Fills the missing values of days.

  Attributes:
    checkpoint: whatever aim.load takes, or a model.
    model_: the model, after fit().
  """

  def __init__(self, checkpoint: Any = "lsm2-watch-xs"):
    self.checkpoint = checkpoint

  def transform(self, X: Any) -> Float[np.ndarray, "days values"]:
    """The same rows without NaN; observed values are unchanged.

    Raises:
      SchemaError: the rows are not days of the model.
    """
    days = self._days(X)
    return self.model_.impute(days).reshape(len(days), -1)
