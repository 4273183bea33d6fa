"""Views of a day for SimCLR, DINO and MSN: what may change of a day that stays the same person's same day.

A view is the day shifted by some minutes, with noise, each channel rescaled, some channels and some stretches of time
removed; a crop of it is a *set of tokens*: a stretch of the day in all channels, thinned out at random for MSN's masked
views. What is removed is unobserved: it is in no set, and 0 in a patch that is there. All is drawn on the device.
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
  """How much a view differs from its day.

  Attributes:
    shift: largest shift in steps, either way; the day's ends are joined.
    jitter: SD of the noise on every step, in z-scores.
    scale: a channel's factor is uniform in 1 - scale to 1 + scale. Neither touches binary channels.
    channel_dropout: chance of each channel to be removed; one always stays.
    cutouts, cutout: number of stretches removed in all channels, and the longest one's steps.
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
    views: how many a day.
    patches: length of the stretch of the day, in patches.
    kept: share of its tokens that are in the set, at random.
  """

  views: int
  patches: int
  kept: float = 1.0

  def tokens(self, a: Architecture) -> int:
    """The most tokens a view has."""
    return max(1, round(self.kept * self.patches * a.channel_groups))


class ViewSet(NamedTuple):
  """The views of one crop of b windows as token sets; the first `lengths` tokens of each are there.

  Attributes:
    order: grid positions (group of channels * length + time).
    values: z-scores, 0 where not shown.
    visible: the values that may be read.
    lengths: tokens, at least 1.
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
  """The views of every window, each drawn anew."""

  def of_crop(key: Key[Array, ""], crop: Crop) -> ViewSet:
    one = lambda key, z, observed: _view(key, changes, crop, a, z, observed)
    several = lambda keys, z, observed: jax.vmap(lambda key: one(key, z, observed))(keys)
    return ViewSet(*jax.vmap(several)(jax.random.split(key, (len(z), crop.views)), z, observed))

  return tuple(of_crop(jax.random.fold_in(key, i), crop) for i, crop in enumerate(crops))


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
  values, shown = (patches.patchify(x[None], a.patch, a.patch_channels)[0] for x in (z, observed))
  order, length = crop_tokens(crop_key, crop, a, shown.any(-1))
  return order, jnp.where(shown, values, 0.0)[order], shown[order], length


def changed(
  key: Key[Array, ""],
  changes: Changes,
  binary: Bool[Array, " c"],
  z: Float[Array, "s c"],
  observed: Bool[Array, "s c"],
) -> tuple[Float[Array, "s c"], Bool[Array, "s c"]]:
  """One day changed, and which of its steps are left."""
  steps, channels = z.shape
  keys = jax.random.split(key, 6)
  shift = jax.random.randint(keys[0], (), -changes.shift, changes.shift + 1)
  z, observed = jnp.roll(z, shift, axis=0), jnp.roll(observed, shift, axis=0)
  factor = jax.random.uniform(keys[1], (channels,), minval=1 - changes.scale, maxval=1 + changes.scale)
  z = jnp.where(binary, z, z * factor + changes.jitter * jax.random.normal(keys[2], z.shape))
  kept = jax.random.uniform(keys[3], (channels,)) >= changes.channel_dropout
  # Of the channels with any observation one stays.
  there = observed.any(0)
  kept |= (jnp.arange(channels) == jnp.argmax(there)) & ~(kept & there).any()
  start = jax.random.randint(keys[4], (changes.cutouts,), 0, steps)
  size = jax.random.randint(keys[5], (changes.cutouts,), 0, changes.cutout + 1)
  clock = jnp.arange(steps)[:, None]
  cut = ((clock >= start) & (clock < start + size)).any(1)
  return z, observed & kept & ~cut[:, None]


def crop_tokens(
  key: Key[Array, ""], crop: Crop, a: Architecture, there: Bool[Array, " n"]
) -> tuple[Int[Array, " k"], Int[Array, ""]]:
  """A crop of the tokens that are `there`: grid positions, and how many of them count.

  Where the stretch has no token that is there, one that is not stands for it.
  """
  start_key, order_key = jax.random.split(key)
  start = jax.random.randint(start_key, (), 0, a.length - crop.patches + 1)
  time = jnp.arange(a.tokens) % a.length
  inside = (time >= start) & (time < start + crop.patches)
  rank = jnp.where(inside, jnp.where(there, 0.0, 2.0), 4.0) + jax.random.uniform(order_key, (a.tokens,))
  count = crop.tokens(a)
  length = jnp.round(crop.kept * (inside & there).sum()).astype(jnp.int32)
  return jnp.argsort(rank)[:count].astype(jnp.int32), jnp.clip(length, 1, count)
