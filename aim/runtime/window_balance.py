"""Assignment of windows to devices and microbatches, so that all of these have about as many tokens.

Buffers have one size on all devices, which is that of the fullest. If windows stay where the loader put them, the
fullest of 128 devices has a fifth more than the mean. Here devices deal windows to their neighbours so that sums come
out nearly equal. Every device sends equally many windows to each neighbour, so one all-to-all exchange of equal parts
moves them. What a step adds up over windows stays the same but for the order of the sums.

Notation: d devices in g groups of k = gcd(d, w) neighbours; each has w windows, in n = w / k hands of k.
"""

from __future__ import annotations

import math
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import PartitionSpec
from jaxtyping import Array, Int

from aim.runtime.sharding import WINDOW_AXES

Lengths = TypeVar("Lengths", jax.Array, np.ndarray)


def balanced_order(lengths: Lengths, groups: int, accumulate: int) -> Lengths:
  """The window that is computed at each place: [b] indices, all different.

  Args:
    lengths: tokens of each window, [b].
    groups: devices that share the windows, each those of a stretch; 0 or 1 if there is one.
    accumulate: microbatches per step, to which each device's windows belong in turn.
  """
  xp = lengths.__array_namespace__()
  devices = max(groups, 1)
  windows = xp.arange(len(lengths)).reshape(devices, -1)
  if devices > 1:
    order, dealt = _deal(lengths.reshape(devices, -1))
    hands = xp.take_along_axis(windows, order, axis=1).reshape(dealt.shape)
    windows = xp.take_along_axis(hands, dealt, axis=3).transpose(0, 3, 1, 2).reshape(devices, -1)
  if accumulate > 1:
    windows = xp.take_along_axis(windows, _in_microbatches(lengths[windows], accumulate), axis=1)
  return windows.reshape(-1)


def balanced(tree: Any, lengths: Int[Array, " b"], groups: int, accumulate: int) -> Any:
  """Arrays [b, ...] of windows in balanced_order(), with each device's part where that device computes it.

  Args:
    tree: arrays whose first axis is divided over the devices of the mesh that is set, if there are several.
    lengths, groups, accumulate: as in balanced_order.
  """
  if groups <= 1 and accumulate == 1:
    return tree
  mesh = jax.sharding.get_abstract_mesh()
  if groups <= 1 or mesh.empty or mesh.size == 1:
    order = balanced_order(lengths, groups, accumulate)
    return jax.tree.map(lambda x: x[order], tree)
  windows = PartitionSpec(WINDOW_AXES)
  exchange = lambda tree, lengths: _exchange(tree, lengths, groups, accumulate)
  return jax.shard_map(exchange, in_specs=windows, out_specs=windows, check_vma=False)(tree, lengths)


def _exchange(tree: Any, lengths: Int[Array, " w"], groups: int, accumulate: int) -> Any:
  """One device's part of balanced(): brings windows into balanced_order() by an exchange of equal parts."""
  device = jax.lax.axis_index(WINDOW_AXES)
  order, dealt = _deal(jax.lax.all_gather(lengths, WINDOW_AXES))
  k = dealt.shape[1]
  own = dealt[device // k, device % k]
  sent = jnp.take_along_axis(order[device].reshape(own.shape), own, axis=1).T  # [destination, hand]
  neighbours = np.arange(groups).reshape(-1, k).tolist() if k < groups else None

  def received(x: Array) -> Array:
    x = jax.lax.all_to_all(x[sent], WINDOW_AXES, 0, 0, axis_index_groups=neighbours)
    return x.reshape(-1, *x.shape[2:])

  tree, lengths = jax.tree.map(received, (tree, lengths))
  if accumulate > 1:
    order = _in_microbatches(lengths[None], accumulate)[0]
    tree = jax.tree.map(lambda x: x[order], tree)
  return tree


def _deal(lengths: Lengths) -> tuple[Lengths, Lengths]:
  """Who gets which of each device's windows [d, w].

  Returns:
    order [d, w], which sorts a device's windows, the longest first; and [g, source, hand, destination], which window of
    the source's hand each destination gets, where a hand is k windows that follow one another in that order.
  """
  xp = lengths.__array_namespace__()
  devices, windows = lengths.shape
  k = math.gcd(devices, windows)
  order = _longest_first(lengths)
  hands = xp.take_along_axis(lengths, order, axis=1).reshape(devices // k, windows, k)
  # Each destination gets every rank about equally often. Then hand by hand, who has least of all others gets the most.
  dealt = xp.asarray((np.arange(k) - np.arange(windows)[:, None]) % k) + xp.zeros_like(hands)

  def redeal(hand: Any, state: tuple[Lengths, Lengths]) -> tuple[Lengths, Lengths]:
    total, dealt = state
    of_hand = lambda rank: xp.take_along_axis(hands[:, hand], rank, axis=1)
    others = total - of_hand(dealt[:, hand])
    rank = xp.argsort(xp.argsort(others, axis=1, stable=True), axis=1)
    return others + of_hand(rank), xp.where(xp.arange(windows)[:, None] == hand, rank[:, None], dealt)

  state = xp.take_along_axis(hands, dealt, axis=2).sum(axis=1), dealt
  if xp is np:
    for hand in range(windows):
      state = redeal(hand, state)
  else:
    state = jax.lax.fori_loop(0, windows, redeal, state)
  return order, state[1].reshape(devices // k, k, windows // k, k)


def _longest_first(lengths: Lengths) -> Lengths:
  """Indices that sort each row in descending order; of equal ones the first comes first."""
  return lengths.__array_namespace__().argsort(-lengths, axis=1, stable=True)


def _in_microbatches(lengths: Lengths, accumulate: int) -> Lengths:
  """Order of each device's windows [d, w] in its places, which belong to the microbatches in turn.

  Every other turn goes back, so that who got a longer one in a turn gets a shorter one in the next.
  """
  turn, microbatch = np.divmod(np.arange(lengths.shape[1]), accumulate)
  rank = turn * accumulate + np.where(turn % 2, accumulate - 1 - microbatch, microbatch)
  return _longest_first(lengths)[:, rank]
