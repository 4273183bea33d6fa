"""Windows are dealt so that devices and microbatches have about as many tokens; none is lost, and none comes twice."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aim.runtime import sharding
from aim.runtime.window_balance import balanced, balanced_order


def sums(lengths, groups, accumulate):
  """Tokens of each device and microbatch; a device's windows belong to the microbatches in turn."""
  return lengths.reshape(groups, -1, accumulate).sum(axis=1)


@given(st.integers(1, 12), st.integers(1, 6), st.integers(1, 4), st.integers(0, 2**32 - 1))
def test_every_window_has_one_place(groups, per_microbatch, accumulate, seed):
  lengths = np.random.default_rng(seed).integers(0, 3000, groups * per_microbatch * accumulate)
  order = balanced_order(lengths, groups, accumulate)
  assert sorted(order.tolist()) == list(range(len(lengths)))


@pytest.mark.parametrize(("groups", "windows", "bound"), [(128, 32, 1.04), (8, 32, 1.01), (4, 4, 1.15)])
def test_the_fullest_device_has_little_more_than_the_mean(groups, windows, bound):
  """Busiest over mean, mean of ten draws; as they come it is above 1.12 in each case."""
  rng = np.random.default_rng(0)
  before, after = [], []
  for _ in range(10):
    lengths = rng.gamma(3, 300, groups * windows).astype(int)
    for ratios, order in ((before, slice(None)), (after, balanced_order(lengths, groups, 1))):
      of_devices = sums(lengths[order], groups, 1)
      ratios.append(of_devices.max() / of_devices.mean())
  assert np.mean(before) > 1.12
  assert np.mean(after) < bound


def test_microbatches_of_one_device():
  lengths = np.random.default_rng(0).integers(0, 1000, 16)
  of_microbatches = sums(lengths[balanced_order(lengths, 1, 4)], 1, 4)[0]
  assert of_microbatches.max() / of_microbatches.mean() < 1.05 < sums(lengths, 1, 4).max() / of_microbatches.mean()


@pytest.mark.parametrize(
  ("mesh", "windows", "accumulate"),
  [((8, 1, 1), 8, 1), ((2, 2, 2), 6, 2), ((4, 2, 1), 4, 1), ((4, 1, 2), 2, 2), ((1, 1, 8), 6, 3)],
)
def test_an_exchange_between_devices_gives_that_order(mesh, windows, accumulate):
  """Also where fewer windows than devices, or a tensor axis, make groups of devices that exchange."""
  groups = mesh[0] * mesh[1]
  lengths = np.random.default_rng(1).integers(0, 3000, groups * windows).astype(np.int32)
  order = balanced_order(lengths, groups, accumulate)
  with jax.set_mesh(sharding.make_mesh(*mesh)) as _:
    place = sharding.batch_sharding(jax.sharding.get_mesh())
    numbers, placed = (jax.device_put(x, place) for x in (np.arange(len(lengths)), lengths))
    moved = jax.jit(lambda x, y: balanced((x, x[:, None] * 2.0), y, groups, accumulate))(numbers, placed)
    assert moved[0].sharding.is_equivalent_to(place, 1)
  np.testing.assert_array_equal(moved[0], order)
  np.testing.assert_array_equal(moved[1][:, 0], order * 2.0)
  np.testing.assert_array_equal(balanced_order(jnp.asarray(lengths), groups, accumulate), order)
