"""Views of days: crops are sets of tokens, changes keep what a day is, and missing values are never read."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from aim.model.contrastive.dino import Dino
from aim.model.contrastive.msn import Msn
from aim.model.contrastive.simclr import Simclr
from aim.model.contrastive.views import Changes, Crop, changed, crop_tokens, view_sets
from aim.model.lsm2 import Architecture, Projection, Tower
from data_pipelines.schema import Channel, Schema
from tests import tiny

C, T, P = 5, 6, 4  # channels, patches per day, steps per patch
SCHEMA = Schema(60, (*(Channel(f"c{i}") for i in range(C - 1)), Channel("asleep", kind="binary")))
CHANGES = Changes(shift=2, jitter=0.1, scale=0.2, channel_dropout=0.2, cutouts=2, cutout=5)
METHODS = {
  "simclr": Simclr((Crop(2, 4),), 0.1),
  "dino": Dino((Crop(2, 4), Crop(3, 2)), 0.1, 0.04),
  "msn": Msn((Crop(1, 4), Crop(1, 4, 0.5), Crop(2, 2)), 0.1, 0.025, 1.0),
}


def architecture(name: str, group: int = 2) -> Architecture:
  head = Projection(24, 8, 2, 0 if name == "simclr" else 16)
  binary = tuple(SCHEMA.binary.tolist())
  tower = Tower(16, 24, 2, 1)
  return tiny.architecture(C, T, P, tower, tower, patch_channels=group, projection=head, binary=binary)


def days(rows: int = 8, seed: int = 0) -> np.ndarray:
  """float32 [rows, steps, C]: rhythms that differ from day to day, with holes."""
  rng = np.random.default_rng(seed)
  clock = 2 * np.pi * np.arange(T * P)[None, :, None] / (T * P)
  phase, level = rng.uniform(0, 6, (rows, 1, C)), rng.normal(0, 1, (rows, 1, C))
  values = level + np.sin(clock + phase) + rng.normal(0, 0.2, (rows, T * P, C))
  values[..., C - 1] = values[..., C - 1] > 0
  values[rng.random(values.shape) < 0.3] = np.nan
  return values.astype(np.float32)


@settings(max_examples=20)
@given(seed=st.integers(0, 2**31 - 1), rate=st.sampled_from([0.0, 0.1, 0.6, 1.0]), kept=st.sampled_from([0.3, 1.0]))
def test_a_crop_is_a_set_of_tokens_within_a_stretch_of_the_day(seed, rate, kept):
  a, crop = architecture("dino"), Crop(1, 4, kept)
  observed = np.random.default_rng(seed).random(a.tokens) < rate
  order, length = crop_tokens(jax.random.key(seed), crop, a, jnp.asarray(observed))
  order, length = np.asarray(order), int(length)
  assert len(order) == len(set(order.tolist())) == crop.tokens(a) == round(kept * 4 * 3)
  assert 1 <= length <= len(order)
  time = order[:length] % T
  assert time.max() - time.min() < 4
  if length > 1:
    assert observed[order[:length]].all()
  if rate == 1.0:
    assert length == len(order)


@settings(max_examples=15)
@given(seed=st.integers(0, 2**31 - 1), dropout=st.sampled_from([0.0, 0.5, 0.99]))
def test_changes_shift_drop_and_jitter(seed, dropout):
  rng = np.random.default_rng(seed)
  z = jnp.asarray(rng.normal(size=(T * P, C)), jnp.float32)
  z = z.at[:, -1].set(z[:, -1] > 0)
  observed = jnp.asarray(rng.random(z.shape) < 0.7).at[:, 0].set(False)
  changes = dataclasses.replace(CHANGES, channel_dropout=dropout, cutouts=0)
  values, left = changed(jax.random.key(seed), changes, jnp.asarray(SCHEMA.binary), z, observed)
  left = np.asarray(left)
  assert left.any(), "one channel with observations must stay"
  # The shift is by whole steps and the same in all channels; a binary channel is shifted and otherwise unchanged.
  shifts = [s for s in range(-2, 3) if (np.roll(z[:, -1], s) == np.asarray(values)[:, -1]).all()]
  in_channel = left.any(0)
  consistent = [s for s in shifts if (left == np.roll(observed, s, axis=0) * in_channel).all()]
  assert consistent
  others = np.asarray(values)[:, :-1] - np.roll(z, consistent[0], axis=0)[:, :-1]
  assert 0 < np.abs(others).max() < 0.2 * np.abs(z).max() + 1.0


def test_views_read_nothing_that_is_missing():
  z, observed = jnp.asarray(np.nan_to_num(days())), jnp.asarray(~np.isnan(days()))
  draw = jax.jit(
    lambda z: view_sets(jax.random.key(0), CHANGES, METHODS["msn"].crops, architecture("msn"), z, observed)
  )
  views, others = draw(z), draw(jnp.where(observed, z, 1e9))
  assert all((x == y).all() for x, y in zip(jax.tree.leaves(views), jax.tree.leaves(others), strict=True))
  flat = views[0].order.reshape(8, -1)
  assert len({tuple(row) for row in flat.tolist()}) == 8, "every day must be drawn independently"
