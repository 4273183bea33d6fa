"""Checksums: independent of the sharding, and changed by any single bit."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jax.sharding import NamedSharding, PartitionSpec

from aim.runtime import sharding
from aim.training.checksums import checksums, first_difference

DTYPES = ("float32", "bfloat16", "int32", "uint8", "bool")
MODULUS = 2**64


def slowly(array: np.ndarray) -> str:
  """The checksum by Python's whole numbers, element by element."""
  words = array.reshape(array.shape).view(f"uint{8 * array.dtype.itemsize}")
  total = 0
  for place in np.ndindex(array.shape):
    number = 1
    for axis, i in enumerate(place):
      x = ((i + 1) + (axis << 40)) * 0x9E3779B97F4A7C15 % MODULUS
      x = (x ^ x >> 30) * 0xBF58476D1CE4E5B9 % MODULUS
      x = (x ^ x >> 27) * 0x94D049BB133111EB % MODULUS
      number = number * ((x ^ x >> 31) | 1)
    total += int(words[place]) * number
  return f"{total % MODULUS:016x}"


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(), (1,), (7,), (3, 5), (2, 3, 4)])
def test_equal_to_a_sum_over_elements(shape, dtype):
  array = np.random.default_rng(0).normal(0, 50, shape).astype(jnp.dtype(dtype))
  assert checksums({"a/b": jnp.asarray(array)}) == {"a/b": slowly(np.asarray(array))}


@pytest.mark.parametrize("spec", [(), ("data",), (None, "fsdp"), ("fsdp", "data"), (("data", "fsdp"), "tensor")])
def test_the_same_on_any_devices(spec):
  array = np.random.default_rng(1).normal(size=(8, 12)).astype(np.float32)
  mesh = sharding.make_mesh(2, 2, 2)
  spread = jax.device_put(array, NamedSharding(mesh, PartitionSpec(*spec)))
  assert checksums([spread]) == checksums([jnp.asarray(array)]) == {"0": slowly(array)}


@given(
  st.integers(0, 10**9),
  st.sampled_from(["float32", "int32", "uint8", "float16"]),
  st.lists(st.integers(1, 9), max_size=3),
)
def test_any_flipped_bit_changes_it(place, dtype, shape):
  array = np.random.default_rng(place).integers(0, 256, (*shape, np.dtype(dtype).itemsize), np.uint8)
  flipped = array.copy()
  flipped.reshape(-1)[place // 8 % array.size] ^= 1 << place % 8
  ours, theirs = ({"a": checksums([jnp.asarray(raw.view(dtype)[..., 0])])["0"]} for raw in (array, flipped))
  assert first_difference(ours, ours) is None
  assert first_difference(ours, theirs).startswith("array 'a' is not what was saved")


def test_moved_values_change_it():
  array = jnp.arange(24.0).reshape(4, 6)
  others = [array[::-1], array.at[0, 0].set(1).at[0, 1].set(0), jnp.roll(array, 1, axis=1), -array]
  assert len({checksums([other])["0"] for other in [array, *others]}) == 5


def test_missing_arrays_are_named():
  assert first_difference({"a": "1", "b": "2"}, {"a": "1"}) == "array 'b' is missing"
  assert first_difference({"a": "1"}, {"a": "1", "b": "2"}) == "array 'b' has no checksum"
