"""Views of a day for SimCLR, DINO and MSN: random changes after which it is still recognisably the same day.

A view is the day shifted by some minutes, with noise added, each channel rescaled, and some channels and stretches of
time removed. A crop of it is a *set of tokens*: a stretch of the day in all channels, thinned out at random for MSN's
masked views. What is removed counts as unobserved: such tokens are in no set, and such values are 0. Everything is
drawn on the device.
"""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key

from aim.model import patches
from aim.model.lsm2 import Architecture


@dataclasses.dataclass(frozen=True)
class Changes:
  """Strengths of the random changes that turn a day into a view.

  Attributes:
    shift: largest shift in steps, in either direction; the ends of the day are joined.
    jitter: SD of the noise added to every step, in z-scores; none in binary channels.
    scale: each channel is multiplied by a factor uniform in 1 - scale to 1 + scale; binary channels are not.
    channel_dropout: probability that a channel is removed; one observed channel always remains.
    cutouts: number of stretches removed in all channels.
    cutout: length of the longest of them, in steps.
  """

  shift: int
  jitter: float
  scale: float
  channel_dropout: float
  cutouts: int
  cutout: int


@dataclasses.dataclass(frozen=True)
class Crop:
  """Views of one size.

  Attributes:
    views: number of views per day.
    patches: length of the stretch of the day, in patches.
    kept: share of its tokens, chosen at random, that are in the set.
  """

  views: int
  patches: int
  kept: float = 1.0

  def tokens(self, a: Architecture) -> int:
    """The largest number of tokens of a view."""
    return max(1, round(self.kept * self.patches * a.channel_groups))


class ViewSet(NamedTuple):
  """The views of one crop, for b windows, as token sets. Only the first `lengths` tokens of each count.

  Attributes:
    order: grid positions (group of channels * length + time).
    values: z-scores, 0 where not visible.
    visible: the values that may be read.
    lengths: number of tokens, at least 1.
  """

  order: Int[Array, "b v k"]
  values: Float[Array, "b v k p"]
  visible: Bool[Array, "b v k p"]
  lengths: Int[Array, "b v"]


def view_sets(
  key: Key[Array, ""],
  changes: Changes,
  crops: tuple[Crop, ...],
  a: Architecture,
  z: Float[Array, "b s c"],
  observed: Bool[Array, "b s c"],
) -> tuple[ViewSet, ...]:
  """Draws new views of every window, one ViewSet per crop."""

  def views_of(key: Key[Array, ""], crop: Crop) -> ViewSet:
    one_view = lambda key, z, observed: _view(key, changes, crop, a, z, observed)
    views_of_day = lambda keys, z, observed: jax.vmap(lambda key: one_view(key, z, observed))(keys)
    return ViewSet(*jax.vmap(views_of_day)(jax.random.split(key, (len(z), crop.views)), z, observed))

  return tuple(views_of(jax.random.fold_in(key, i), crop) for i, crop in enumerate(crops))


def _view(
  key: Key[Array, ""],
  changes: Changes,
  crop: Crop,
  a: Architecture,
  z: Float[Array, "s c"],
  observed: Bool[Array, "s c"],
) -> tuple[Array, Array, Array, Array]:
  change_key, crop_key = jax.random.split(key)
  z, observed = changed(change_key, changes, jnp.asarray(a.binary or (False,) * a.channels), z, observed)
  values, visible = (patches.patchify(x[None], a.patch, a.patch_channels)[0] for x in (z, observed))
  order, length = crop_tokens(crop_key, crop, a, visible.any(-1))
  return order, jnp.where(visible, values, 0.0)[order], visible[order], length


def changed(
  key: Key[Array, ""],
  changes: Changes,
  binary: Bool[Array, " c"],
  z: Float[Array, "s c"],
  observed: Bool[Array, "s c"],
) -> tuple[Float[Array, "s c"], Bool[Array, "s c"]]:
  """Applies random changes to one day; returns its z-scores and where they still count as observed."""
  steps, channels = z.shape
  keys = jax.random.split(key, 6)
  shift = jax.random.randint(keys[0], (), -changes.shift, changes.shift + 1)
  z, observed = jnp.roll(z, shift, axis=0), jnp.roll(observed, shift, axis=0)
  factor = jax.random.uniform(keys[1], (channels,), minval=1 - changes.scale, maxval=1 + changes.scale)
  z = jnp.where(binary, z, z * factor + changes.jitter * jax.random.normal(keys[2], z.shape))
  kept = jax.random.uniform(keys[3], (channels,)) >= changes.channel_dropout
  # At least one of the channels with an observed value remains.
  has_values = observed.any(0)
  kept |= (jnp.arange(channels) == jnp.argmax(has_values)) & ~(kept & has_values).any()
  start = jax.random.randint(keys[4], (changes.cutouts,), 0, steps)
  size = jax.random.randint(keys[5], (changes.cutouts,), 0, changes.cutout + 1)
  clock = jnp.arange(steps)[:, None]
  cut = ((clock >= start) & (clock < start + size)).any(1)
  return z, observed & kept & ~cut[:, None]


def crop_tokens(
  key: Key[Array, ""], crop: Crop, a: Architecture, observed: Bool[Array, " n"]
) -> tuple[Int[Array, " k"], Int[Array, ""]]:
  """Draws a crop of the tokens with an observed value: grid positions, and how many of them count.

  If the stretch has no observed token, one unobserved token is returned, so that no set is empty.
  """
  start_key, order_key = jax.random.split(key)
  start = jax.random.randint(start_key, (), 0, a.length - crop.patches + 1)
  time = jnp.arange(a.tokens) % a.length
  inside = (time >= start) & (time < start + crop.patches)
  rank = jnp.where(inside, jnp.where(observed, 0.0, 2.0), 4.0) + jax.random.uniform(order_key, (a.tokens,))
  count = crop.tokens(a)
  length = jnp.round(crop.kept * (inside & observed).sum()).astype(jnp.int32)
  return jnp.argsort(rank)[:count].astype(jnp.int32), jnp.clip(length, 1, count)
