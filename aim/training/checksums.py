"""Checksums of arrays, the same however an array is split over devices and processes.

The checksum of an array is the sum, modulo 2^64, of the bits of every element, read as an unsigned number, times an odd
number that belongs to the element's place. One flipped bit always changes it, because 2^k times an odd number is not
0 modulo 2^64; other damage goes unnoticed with a chance of about 2^-32. As it is a sum, each process adds up what it
holds, on the host: nothing is compiled, and no array has to be in one place.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from jaxtyping import Array, Shaped, UInt64

from aim.runtime import processes

_MODULUS = 2**64


def checksums(tree: Any) -> dict[str, str]:
  """The checksum of every array of a tree, 16 hex digits under the array's name, such as "optimizer/0/mu/kernel".

  Equal on all processes that share the arrays, which all have to call it. Copies of the same part of an array are
  counted once.
  """
  named = jax.tree_util.tree_leaves_with_path(tree)
  names = [jax.tree_util.keystr(path, simple=True, separator="/") for path, _ in named]
  arrays = [array for _, array in named]
  sums = [_held_here(array) for array in arrays]
  if any(not array.is_fully_addressable for array in arrays):
    everywhere = processes.gather(sums)
    sums = [
      mine if array.is_fully_addressable else sum(theirs) % _MODULUS
      for array, mine, *theirs in zip(arrays, sums, *everywhere, strict=True)
    ]
  return {name: f"{total:016x}" for name, total in zip(names, sums, strict=True)}


def first_difference(saved: Mapping[str, str], found: Mapping[str, str]) -> str | None:
  """Says which array differs, is missing or is too many, in a few words; None if all are equal."""
  for name in sorted(saved.keys() | found.keys()):
    if name not in found:
      return f"array {name!r} is missing"
    if name not in saved:
      return f"array {name!r} has no checksum"
    if saved[name] != found[name]:
      return f"array {name!r} is not what was saved (checksum {found[name]}, expected {saved[name]})"
  return None


def _held_here(array: Array) -> int:
  """The sum over the parts of an array on this process's devices; copies of a part, on any process, count once."""
  shards = (shard for shard in array.addressable_shards if shard.replica_id == 0)
  return sum(_weighted_sum(np.asarray(shard.data), shard.index) for shard in shards) % _MODULUS


def _weighted_sum(part: Shaped[np.ndarray, "..."], index: tuple[slice, ...]) -> int:
  """The sum over a part of an array that lies at `index` in the whole."""
  sums = np.ascontiguousarray(part).reshape(part.shape).view(f"uint{8 * part.dtype.itemsize}")
  # A place's number is the product of one odd number per axis, so the axes are summed away one after the other.
  for axis in reversed(range(sums.ndim)):
    start = index[axis].start or 0
    numbers = _odd_numbers(axis, start + sums.shape[axis])[start:]
    sums = np.einsum("...i,i->...", sums, numbers, dtype=np.uint64, casting="safe")
  return int(sums)


@functools.lru_cache(maxsize=64)
def _odd_numbers(axis: int, count: int) -> UInt64[np.ndarray, " count"]:
  """Odd pseudo-random numbers of the first `count` places along an axis; they never change (SplitMix64)."""
  with np.errstate(over="ignore"):
    x = np.arange(1, count + 1, dtype=np.uint64) + (np.uint64(axis) << np.uint64(40))
    x *= np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return (x ^ (x >> np.uint64(31))) | np.uint64(1)
