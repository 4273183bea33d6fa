"""Counts against those of ActiGraph's own package."""

import numpy as np
import pytest

from data_pipelines.ingest.importers.accelerometers.counts import RATES, CountFilter

# agcounts.extract.get_counts(movement(rate, 3), freq=rate, epoch=60) of agcounts 0.2.6, by ActiGraph.
AGCOUNTS = {
  30: [[9462, 6101, 8132], [9462, 6144, 8124], [9462, 6144, 8124]],
  40: [[9421, 6082, 8106], [9421, 6126, 8106], [9421, 6126, 8106]],
  50: [[9447, 6106, 8110], [9447, 6156, 8106], [9447, 6156, 8106]],
  60: [[9462, 6101, 8132], [9462, 6144, 8124], [9462, 6144, 8124]],
  70: [[9465, 6168, 8117], [9465, 6222, 8112], [9465, 6222, 8112]],
  80: [[9467, 6157, 8126], [9467, 6210, 8130], [9467, 6210, 8130]],
  90: [[9462, 6101, 8132], [9462, 6144, 8124], [9462, 6144, 8124]],
  100: [[9453, 6140, 8117], [9453, 6192, 8118], [9453, 6192, 8118]],
}


def movement(rate, minutes):
  """[n, 3] in g: half minutes of swinging and rest, a tilting axis, and a walk with hard steps."""
  time = np.arange(rate * 60 * minutes) / rate
  swing = np.where(time % 60 < 30, np.sin(2 * np.pi * 1.3 * time), 0)
  tilt = 1 + 0.3 * np.sin(2 * np.pi * 0.7 * time + 0.2)
  walk = 1.5 * np.abs(np.sin(2 * np.pi * 0.95 * time)) ** 8 - 0.2
  return np.stack([swing, tilt, walk], axis=1)


def minute_counts(samples, rate, cuts):
  count_filter = CountFilter(rate)
  tenths = [count_filter.counts(part) for part in np.split(samples, cuts)]
  return np.concatenate(tenths, axis=1).reshape(3, -1, 600).sum(axis=2).T


@pytest.mark.parametrize("rate", RATES)
def test_counts_are_actigraphs(rate):
  assert minute_counts(movement(rate, 3), rate, []).tolist() == AGCOUNTS[rate]


@pytest.mark.parametrize("rate", (30, 100))
def test_blocks_of_any_size_give_the_same_counts(rate):
  samples = movement(rate, 2)
  cuts = np.sort(np.random.default_rng(0).integers(0, len(samples), 40))
  assert np.array_equal(minute_counts(samples, rate, cuts), minute_counts(samples, rate, []))


def test_rest_is_zero_and_no_axis_counts_above_128_per_tenth_of_a_second():
  still = np.tile([0.0, 0.0, 1.0], (30 * 120, 1))
  assert (minute_counts(still, 30, []) == 0).all()
  wild = np.random.default_rng(1).choice([-8.0, 8.0], (30 * 60, 1)).repeat(3, axis=1)
  assert minute_counts(wild, 30, []).max() <= 600 * 128
