"""Data of a wider range than the training data's, normalised by their own statistics."""

import pickle

import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from data_pipelines.errors import SchemaError
from data_pipelines.statistics import Accumulator
from tests import tiny
from tests.inference.test_matched_days import SCHEMA, model

HEART_RATE, ASLEEP, GLUCOSE = range(3)
MEAN = 33.0  # of glucose in the model's training data


def wide_days(shift=6.0, factor=4.0):
  """Days whose glucose is far above the model's range, and whose other channels are usual."""
  values = usual_days()
  values[:, :, GLUCOSE] = (values[:, :, GLUCOSE] - MEAN) * factor + MEAN + shift * model().scale.std[GLUCOSE]
  return values


def usual_days():
  """Days of the mean and SD of the training data, with holes."""
  rng, scale = np.random.default_rng(0), model().scale
  values = rng.normal(scale.mean, scale.std, (6, 24, 3))
  values[:, :, ASLEEP] = rng.random((6, 24)) < 0.3
  values[rng.random(values.shape) < 0.3] = np.nan
  return values.astype(np.float32)


def statistics_of(values):
  accumulator = Accumulator(SCHEMA)
  accumulator.add(values)
  return accumulator.finish(allow_unobserved=True)[0]


@settings(max_examples=4, phases=[Phase.generate])
@given(st.floats(4, 40), st.floats(2.5, 20))
def test_a_wide_channel_is_read_as_if_it_had_the_training_datas_mean_and_sd(shift, factor):
  values = wide_days(shift, factor)
  statistics, scale = statistics_of(values), model().scale
  usual = values.copy()
  z = (values[:, :, GLUCOSE] - statistics.mean[GLUCOSE]) / statistics.std[GLUCOSE]
  usual[:, :, GLUCOSE] = z * scale.std[GLUCOSE] + scale.mean[GLUCOSE]
  own = model().normalised_by_days(values)
  np.testing.assert_allclose(own.reconstruct(values), model().reconstruct(usual), atol=2e-3)
  np.testing.assert_allclose(own.embed(values), model().embed(usual), atol=2e-3)
  assert np.abs(own.embed(values) - model().embed(values)).max() > 0.01


def test_what_is_filled_in_may_lie_beyond_the_training_data():
  values = wide_days(40.0, 4.0)
  values[:, 8:16, GLUCOSE] = np.nan
  own, limit = model().normalised_by_days(values), model().scale.high[GLUCOSE]
  filled = own.impute(values)[:, 8:16, GLUCOSE]
  assert model().impute(values)[:, 8:16, GLUCOSE].max() <= limit < filled.min()
  assert np.nanmin(values[:, :, GLUCOSE]) <= filled.min() and filled.max() <= np.nanmax(values[:, :, GLUCOSE])


def test_other_channels_keep_the_models_statistics(capsys):
  values = wide_days()
  values[:, :, ASLEEP] = np.where(np.isnan(values[:, :, ASLEEP]), np.nan, 1)
  values[:, :, HEART_RATE] = model().scale.mean[HEART_RATE] + 9 * model().scale.std[HEART_RATE]  # far, but constant
  own = model().normalised_by_days(values)
  assert f"note: {model().name}: normalised by these data: glucose\n" in capsys.readouterr().err
  for name in ("mean", "std", "low", "high", "reference_mean", "reference_std", "clip"):
    ours, theirs = getattr(own.scale, name), getattr(model().scale, name)
    np.testing.assert_array_equal(ours[[HEART_RATE, ASLEEP]], theirs[[HEART_RATE, ASLEEP]])
  assert own.scale.mean[GLUCOSE] == pytest.approx(statistics_of(values).mean[GLUCOSE], rel=1e-6)


def test_days_of_the_usual_or_a_narrower_range_change_nothing(capsys):
  values = usual_days()
  assert model().normalised_by_days(values) is model()
  narrow = values.copy()
  narrow[:, :, GLUCOSE] = MEAN + 0.01 * (narrow[:, :, GLUCOSE] - MEAN)
  assert model().normalised_by_days(narrow) is model()
  assert capsys.readouterr().err.count("normalised by these data: no channel, as none is wider") == 2


def test_described_days_and_datasets_give_the_same_statistics(tmp_path):
  stored = tiny.dataset(tmp_path, "own", channels=("glucose_mgdl", "pulse"))
  values = np.stack([day["values"] for day in stored.days("pretrain")])
  of_dataset = model().normalised_by_dataset(stored)
  of_days = model().normalised_by_days(values, channels=["glucose_mgdl", "pulse"])
  assert of_dataset is not model() and of_dataset.name == f"{model().name}, statistics of the data"
  np.testing.assert_allclose(of_dataset.scale.mean, of_days.scale.mean, rtol=1e-5)
  np.testing.assert_allclose(of_dataset.scale.std, of_days.scale.std, rtol=1e-5)


def test_a_pickled_model_keeps_them():
  own = model().normalised_by_days(wide_days())
  copy = pickle.loads(pickle.dumps(own))
  assert copy.name == own.name
  np.testing.assert_array_equal(copy.scale.mean, own.scale.mean)
  np.testing.assert_allclose(copy.embed(wide_days()), own.embed(wide_days()), atol=1e-5)


def test_no_days_are_refused():
  with pytest.raises(SchemaError, match="no days"):
    model().normalised_by_days(np.zeros((0, 24, 3), np.float32))
