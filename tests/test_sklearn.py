"""DayEmbedding and DayImputer as scikit-learn's estimators: its own checks, pipelines, pandas and Arrow."""

import contextlib
import dataclasses
import functools
import pickle

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from sklearn.linear_model import Ridge
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.utils.estimator_checks import parametrize_with_checks

from aim.common import config_files
from aim.inference.pretrained import Pretrained
from aim.model import lsm2
from aim.sklearn import DayEmbedding, DayImputer
from aim.training import checkpoint
from data_pipelines.errors import SchemaError
from data_pipelines.schema import Channel, Schema
from tests import tiny


def model_of(schema, patch_minutes, devices):
  """A model with random parameters."""
  config = config_files.resolve("lsm2_tiny", tiny.overrides(model__patch_minutes=patch_minutes))
  ones = [1.0] * len(schema.channels)
  statistics = {"mean": [0.0 * x for x in ones], "std": ones, "min": [-9e9 * x for x in ones], "max": [9e9] * len(ones)}
  metadata = {"config": config_files.to_dict(config), "schema": schema.to_dict(), "statistics": statistics}
  read = checkpoint.without_params(metadata, 0, "tests")
  shapes, rng = lsm2.abstract(read.architecture)[1], np.random.default_rng(0)
  params = {name: jnp.asarray(rng.normal(0, 0.3, leaf.shape), leaf.dtype) for name, leaf in sorted(shapes.items())}
  return Pretrained(dataclasses.replace(read, params=params), devices=devices)


@functools.cache
def model_of_width(width):
  """A model whose days are a single step of so many channels."""
  return model_of(Schema(1440, tuple(Channel(f"c{i}") for i in range(width))), 1440, jax.local_devices())


class AnyWidth:
  """scikit-learn's checks fit arrays of many widths; each gets a model of its own."""

  def fit(self, X, y=None):
    given, width = self.checkpoint, 1
    with contextlib.suppress(Exception):
      width = max(np.asarray(X).shape[1], 1)
    self.checkpoint = model_of_width(width)
    try:
      return super().fit(X, y)
    finally:
      self.checkpoint = given


class CheckedEmbedding(AnyWidth, DayEmbedding):
  pass


class CheckedImputer(AnyWidth, DayImputer):
  pass


@pytest.mark.slow
@parametrize_with_checks([CheckedEmbedding(), CheckedImputer()])
def test_the_checks_of_scikit_learn(estimator, check):
  check(estimator)


SCHEMA = Schema(60, (Channel("pulse", "bpm"), Channel("steps", "count"), Channel("asleep", kind="binary")))


@pytest.fixture(scope="module")
def model():
  return model_of(SCHEMA, 120, jax.local_devices()[:1])


@pytest.fixture(scope="module")
def days():
  return tiny.arrays()["values"]


def test_they_do_what_the_model_does(model, days):
  rows = days.reshape(len(days), -1)
  expected = model.embed(days)
  for X in (days, rows, pd.DataFrame(rows), pa.table(pd.DataFrame(rows).rename(columns=str))):
    np.testing.assert_array_equal(DayEmbedding(model).fit_transform(X), expected)
    np.testing.assert_array_equal(DayImputer(model).fit_transform(X).reshape(days.shape), model.impute(days))
  frame = DayEmbedding(model).set_output(transform="pandas").fit_transform(pd.DataFrame(rows))
  assert list(frame.columns)[:2] == ["embedding0", "embedding1"]
  lost = np.where(np.arange(len(days))[:, None, None] == 1, np.nan, days)
  assert (np.isnan(DayEmbedding(model).fit_transform(lost)).all(1) == (np.arange(len(days)) == 1)).all()


def test_a_pipeline_is_cross_validated(model, days):
  pipeline = make_pipeline(DayEmbedding(model), Ridge())
  assert np.isfinite(cross_val_score(pipeline, days.reshape(len(days), -1), np.arange(len(days)), cv=2)).all()


def test_a_fitted_one_is_pickled(model, days):
  fitted = DayEmbedding(model).fit(days)
  np.testing.assert_allclose(pickle.loads(pickle.dumps(fitted)).transform(days), fitted.transform(days), atol=1e-6)


def test_days_of_another_model_are_one_line(model, days):
  with pytest.raises(SchemaError, match=r"^X has 48 values per day, expected 72: 24 steps of 3 channels$"):
    DayEmbedding(model).fit(days[:, :, :2])


def masked(days):
  return np.ma.masked_array(np.nan_to_num(days, nan=-999), mask=np.isnan(days))


@pytest.mark.parametrize("shape", ["days", "rows"])
def test_masks_are_not_lost(model, days, shape):
  X = masked(days) if shape == "days" else masked(days.reshape(len(days), -1))
  for estimator in (DayEmbedding(model), DayImputer(model)):
    with pytest.raises(SchemaError, match=f"^{type(estimator).__name__}: X's values are a masked array, expected NaN"):
      estimator.fit_transform(X)


def test_whole_numbers_stay_what_they_are(model, days):
  whole = np.ones((2, *days.shape[1:]), int)
  whole[:, :, 0] = 2**24 + 1  # which float32 does not hold
  rows = whole.reshape(2, -1)
  np.testing.assert_array_equal(DayImputer(model).fit_transform(rows), rows)
