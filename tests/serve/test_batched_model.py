"""Days of many threads in shared batches: the same results as alone, and nothing is compiled once all is."""

import concurrent.futures
import pickle
import threading

import jax
import numpy as np
import pytest

from aim.common.config_files import ConfigError
from aim.inference.day_runner import DayRunner
from aim.inference.pretrained import Pretrained
from aim.runtime import compile_time
from aim.serve.batched_model import BatchedModel
from data_pipelines.errors import SchemaError
from tests import tiny
from tests.inference.test_clipped_channels import fast_days
from tests.inference.test_matched_days import SCHEMA
from tests.inference.test_pretrained import pretrained
from tests.training.trained.test_exported import restored


@pytest.fixture(scope="module")
def alone():
  return Pretrained(restored(), batch_size=4, devices=jax.local_devices()[:1])


def test_calls_of_many_threads_get_their_own_days(model, alone, client):
  values = tiny.arrays(people=8, days=3)["values"]
  parts = [values[start : start + size] for start, size in ((0, 1), (1, 2), (3, 1), (4, 6), (10, 5), (15, 1), (16, 8))]
  with concurrent.futures.ThreadPoolExecutor(14) as pool:
    embedded = list(pool.map(model.embed, parts))
    filled = list(pool.map(model.impute, parts))
  np.testing.assert_allclose(np.concatenate(embedded), alone.embed(values), rtol=1e-5, atol=1e-5)
  np.testing.assert_allclose(np.concatenate(filled), alone.impute(values), rtol=1e-5, atol=1e-5)


def test_nothing_is_compiled_once_all_is(model, client):
  values = tiny.arrays(people=8, days=2)["values"]
  values[3, :, :2] = np.nan  # without two of three channels
  values[4, :18] = np.nan
  before = compile_time.compile_seconds()
  for days in (1, 2, 3, 4, 5, 9, 16):
    model.embed(values[:days])
    model.impute(values[:days])
  model.embed(values[3:4])
  assert compile_time.compile_seconds() == before


def test_one_batch_holds_what_waits(model, monkeypatch, client):
  """While the first call is computed, the others gather; a call that does not fit waits for the next batch."""
  sizes, entered, go_on = [], threading.Event(), threading.Event()
  original = DayRunner.map_days

  def computed(self, name, function, values, *rest, **options):
    sizes.append(len(values))
    entered.set()
    assert go_on.wait(60)
    return original(self, name, function, values, *rest, **options)

  monkeypatch.setattr(DayRunner, "map_days", computed)
  values = tiny.arrays(people=8)["values"]
  with concurrent.futures.ThreadPoolExecutor(6) as pool:
    first = pool.submit(model.embed, values[:4])
    assert entered.wait(60)
    others = [pool.submit(model.embed, values[start : start + 2]) for start in (0, 2)]
    while model.days_waiting < 4:
      pass
    others.append(pool.submit(model.embed, values[4:7]))
    while model.days_waiting < 7:
      pass
    go_on.set()
    assert [len(first.result(60)), *(len(other.result(60)) for other in others)] == [4, 2, 2, 3]
  assert sizes == [4, 4, 3]


def test_an_error_reaches_the_call_that_made_it(model, client):
  values = tiny.arrays(people=2)["values"]
  with pytest.raises(SchemaError, match="row 1 has no observed value"):
    model.embed(np.stack([values[0], np.full_like(values[0], np.nan)]))
  assert model.embed(values).shape == (4, 16)


def test_batches_have_few_sizes(model):
  assert model.batch_sizes == (1, 4)
  assert [model.days_per_batch(days) for days in (1, 2, 4, 9)] == [1, 4, 4, 4]
  with pytest.raises(ConfigError, match="wait_seconds is -1, expected a number of at least 0"):
    BatchedModel(restored(), wait_seconds=-1)


def test_a_pickled_model_gives_the_same_results():
  served = BatchedModel(restored(), batch_size=4, wait_seconds=0.01)
  copy = pickle.loads(pickle.dumps(served))
  assert type(copy) is BatchedModel and copy.batch_sizes == served.batch_sizes
  values = np.random.default_rng(0).normal(50, 20, (3, 24, 3)).astype(np.float32)
  values[..., 2] = values[..., 2] > 50
  np.testing.assert_array_equal(copy.embed(values), served.embed(values))


def test_models_that_are_made_from_it_give_the_same_results():
  read = pretrained(SCHEMA, batch_size=4)
  served = BatchedModel(read.__reduce__()[1][0], batch_size=4, devices=jax.local_devices()[:1])
  ours, theirs = (model.normalised_by_days(fast_days()).impute(fast_days()) for model in (served, read))
  np.testing.assert_allclose(ours, theirs, rtol=1e-5)
  np.testing.assert_allclose(served.with_plain_attention().embed(fast_days()), read.embed(fast_days()), atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize(
  "changes",
  [
    {"model__decoder__tokens": "present"},
    {"data__impute": "linear", "model__patch_channels": 3, "model__interpolation_skip": False},
    {"masking__min_observed_share": 1.0, "masking__any_observed": ("pulse",), "data__zero_is_missing": ("skin",)},
  ],
  ids=str,
)
def test_all_kinds_of_models_are_compiled_whole(changes):
  read = pretrained(**changes)
  served = BatchedModel(*read.__reduce__()[1][:1], batch_size=4, devices=jax.local_devices()[:1])
  served.compile_all()
  values = np.random.default_rng(0).normal(50, 20, (6, 24, 3)).astype(np.float32)
  values[..., 1] = values[..., 1] > 50
  values[np.random.default_rng(1).random(values.shape) < 0.2] = np.nan
  values[2, :, 0], values[3, :12] = np.nan, np.nan
  before = compile_time.compile_seconds()
  embedded, filled = served.embed(values), served.impute(values)
  assert compile_time.compile_seconds() == before
  np.testing.assert_allclose(embedded, read.embed(values), rtol=1e-5, atol=1e-5)
  np.testing.assert_allclose(filled, read.impute(values), rtol=1e-5, atol=1e-4)
