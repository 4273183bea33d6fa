"""config.data.zero_is_missing: no program reads, scores or keeps a 0 of these channels, however the days come."""

import numpy as np
import pytest

from aim.common import datasets
from aim.evaluation.generative.contest import HeldoutDays
from data_pipelines.build import build, npz_request
from data_pipelines.dataset import Dataset
from data_pipelines.npz import NpzSource
from data_pipelines.schema import Channel, Schema
from experiments import default
from tests import tiny
from tests.inference.test_pretrained import days, pretrained

SCHEMA = Schema(60, (Channel("heart_rate", "bpm"), Channel("asleep", kind="binary"), Channel("glucose", "mmol/L")))
KEY = {"data__zero_is_missing": ("heart_rate",)}


@pytest.fixture(scope="module")
def model():
  return pretrained(SCHEMA, batch_size=8, **KEY)


@pytest.fixture(scope="module")
def both():
  """Days with zeros, and the same with holes in their place."""
  zeros = days(4, SCHEMA)
  zeros[:, 4:9, 0] = 0
  holes = zeros.copy()
  holes[:, 4:9, 0] = np.nan
  return zeros, holes


def test_described_days_are_filled_where_they_are_0(model, both):
  zeros, holes = both
  described = {"channels": ["asleep", "pulse"]}
  filled = model.impute(zeros[:, :, [1, 0]], **described)
  np.testing.assert_array_equal(filled, model.impute(holes[:, :, [1, 0]], **described))
  np.testing.assert_array_equal(model.impute(zeros), model.impute(holes))
  assert (filled[:, 4:9, 1] != 0).all()
  whole = np.nan_to_num(zeros[:, :, [1, 0]]).astype(int)
  assert (model.impute(whole, **described)[:, 4:9, 1] != 0).all(), "integers too"


def test_zeros_are_no_truths_of_the_contest(model, tmp_path):
  arrays = tiny.arrays(channels=SCHEMA.names)
  arrays["values"][:, 4:9, 0] = 0
  arrays |= {key: np.array([getattr(c, key) for c in SCHEMA.channels]) for key in ("unit", "kind")}
  path = tmp_path / "own.npz"
  np.savez(path, **arrays)
  build(NpzSource(path), tmp_path / "data", "own", request=npz_request(path))
  config = default.get_config()
  config.data.dir, config.data.name, config.data.zero_is_missing = str(tmp_path / "data"), "own", ("heart_rate",)
  configured, stored = datasets.open_named(config.data), Dataset.open(config.data.dir, "own")
  for dataset in (configured, model.matched(configured), model.matched(stored)):
    truths = np.stack([day["values"] for day in dataset.days("pretrain")])
    assert np.isnan(truths[:, 4:9, 0]).all() and dataset.statistics.min[0] > 20
  assert model.matched(configured) is configured
  heldout = HeldoutDays(config.evaluate, model, model.matched(stored))
  assert np.isnan(heldout.training_days()[:, 4:9, 0]).all()
