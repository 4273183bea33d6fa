"""A zero that stands for a missing value is missing everywhere: in days, statistics, shares, mixes and other clocks."""

import jax.numpy as jnp
import numpy as np
import pytest

from data_pipelines.build import build, npz_request
from data_pipelines.channels import vocabulary
from data_pipelines.channels.matched_dataset import MatchedDataset, matched
from data_pipelines.channels.matching import Matching
from data_pipelines.channels.mixed_dataset import open_mix
from data_pipelines.channels.zeros import without_zeros
from data_pipelines.dataset import Dataset
from data_pipelines.npz import NpzSource
from data_pipelines.schema import Channel, Schema
from data_pipelines.splits import ListSplit
from tests import tiny

VOCABULARY = vocabulary.load()
ZERO = ("pulse",)


@pytest.mark.parametrize("xp", [np, jnp])
def test_zeros_of_the_named_channels_alone_are_missing(xp):
  values = xp.asarray(np.array([[0, 0], [5, 0], [np.nan, 7]], np.float32))
  result = without_zeros(values, np.array([True, False]))
  np.testing.assert_array_equal(result, [[np.nan, 0], [5, 0], [np.nan, 7]])
  assert result.dtype == np.float32 and without_zeros(values, np.zeros(2, bool)) is values
  np.testing.assert_array_equal(without_zeros(xp.asarray([0, 3]), True), [np.nan, 3])


def test_zeros_are_gone_before_steps_are_joined_and_units_converted():
  source, target = (Schema(minutes, (Channel("heart_rate", "bpm"),)) for minutes in (15, 30))
  matching = Matching.between(source, target, VOCABULARY, zero_is_missing=("heart_rate",))
  own = np.tile(np.array([0, 60, 0, 0, 80, 90, 0, 70], np.float32), 12)[None, :, None]
  result = matching.apply(own)
  np.testing.assert_array_equal(result[0, :4, 0], [60, np.nan, 85, 70])
  assert matching.told()[0] == "missing where they are 0: heart_rate"
  back = matching.back(np.full_like(result, 100), own)
  np.testing.assert_array_equal(back[0, :8, 0], [100, 60, 100, 100, 80, 90, 100, 70])
  warm, hot = Schema(60, (Channel("skin_temperature", "C"),)), Schema(60, (Channel("skin_temperature", "K"),))
  kelvin = Matching.between(warm, hot, VOCABULARY, zero_is_missing=("skin_temperature",))
  assert np.isnan(kelvin.apply(np.zeros((1, 24, 1)))).all(), "0 degrees Celsius as the data have it, not 0 K"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
  """Datasets a and b of four people with two hourly days each; of p0's first day in a, all that there is are zeros."""
  folder = tmp_path_factory.mktemp("zeros")
  for name in "ab":
    arrays = tiny.arrays(people=4, channels=("pulse", "steps"))
    arrays["values"][:, :6, 0] = 0
    if name == "a":
      arrays["values"][0] = np.nan
      arrays["values"][0, 3, 0] = 0
    arrays["participant"] = np.array([f"{name}{who}" for who in arrays["participant"]])
    arrays["labels"] = np.array("{}")
    np.savez(folder / f"{name}.npz", **arrays)
    source = NpzSource(folder / f"{name}.npz")
    people = list(source.participants)
    split = ListSplit(tuple(people[:3]), (), tuple(people[3:]))
    build(source, folder / "data", name, split=split, request=npz_request(folder / f"{name}.npz"))
  return folder


def opened(folder, name="a"):
  return Dataset.open(folder / "data", name)


def values_of(dataset, split="pretrain"):
  return np.stack([day["values"] for day in dataset.days(split)])


def test_days_shares_and_statistics_of_a_dataset_are_without_zeros(folder, capsys):
  stored = opened(folder)
  seen = matched(stored, stored.schema, VOCABULARY, ZERO)
  expected = values_of(stored)[1:]  # nothing is left of the first day
  assert (expected[..., 0] == 0).any()
  expected[..., 0][expected[..., 0] == 0] = np.nan
  np.testing.assert_array_equal(values_of(seen), expected)
  assert (seen.num_days("pretrain"), seen.num_days("eval")) == (5, 2)
  assert "dataset 'a', pretrain: 1 day left out, with nothing observed" in capsys.readouterr().err
  np.testing.assert_allclose(seen.missing_shares("pretrain"), np.isnan(expected).mean((1, 2)), rtol=1e-6)
  np.testing.assert_allclose(seen.statistics.mean, np.nanmean(expected, (0, 1)), rtol=1e-6)
  np.testing.assert_allclose(seen.statistics.std, np.nanstd(expected, (0, 1)), rtol=1e-5)
  np.testing.assert_array_equal(seen.statistics.time_count, (~np.isnan(expected)).sum(0))
  assert stored.statistics.min[0] == 0 < seen.statistics.min[0]
  assert seen.digest_of("pretrain") == stored.digest_of("pretrain"), "the config says which zeros are missing"


def test_what_was_computed_once_is_not_computed_again(folder, monkeypatch):
  stored = opened(folder)
  first = matched(stored, stored.schema, VOCABULARY, ZERO)
  statistics, shares = first.statistics, first.missing_shares("pretrain")
  again = matched(opened(folder), stored.schema, VOCABULARY, ZERO)
  monkeypatch.setattr(MatchedDataset, "_computed_statistics", None)
  np.testing.assert_array_equal(again.statistics.mean, statistics.mean)
  np.testing.assert_array_equal(again.missing_shares("pretrain"), shares)


def test_a_view_without_the_zeros_needs_no_other(folder):
  stored = opened(folder)
  seen = matched(stored, stored.schema, VOCABULARY, ZERO)
  assert matched(seen, seen.schema, VOCABULARY, ZERO) is seen and matched(seen, seen.schema, VOCABULARY) is seen
  assert matched(seen, seen.schema, VOCABULARY, ("steps",)) is not seen
  assert matched(stored, stored.schema, VOCABULARY, ("absent",)) is stored


def test_a_mix_is_without_zeros(folder):
  mix = open_mix(folder / "data", {"a": 1.0, "b": 2.0}, VOCABULARY, zero_is_missing=("heart_rate",))
  assert mix.schema.names == ("heart_rate", "steps") and matched(mix, mix.schema, VOCABULARY, ("heart_rate",)) is mix
  values = values_of(mix)
  assert len(values) == 5 + 6 and not (values[..., 0] == 0).any()
  np.testing.assert_allclose(mix.statistics.mean, np.nanmean(values, (0, 1)), rtol=1e-6)
  assert mix.statistics.count.tolist() == (~np.isnan(values)).sum((0, 1)).tolist()
