"""SimCLR, DINO and MSN: the losses by hand, views of days, and the step on one device, eight, and in microbatches."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aim.common import config_files as config_settings
from aim.model import from_config, lsm2
from aim.model.contrastive.dino import Dino, balanced
from aim.model.contrastive.from_config import view_changes, view_method
from aim.model.contrastive.msn import Msn
from aim.model.contrastive.simclr import Simclr
from aim.model.contrastive.views import Changes, Crop, changed, crop_tokens, view_sets
from aim.model.lsm2 import Projection, Tower
from aim.model.patches import Scale
from aim.runtime import sharding
from aim.training import optimizer
from aim.training.contrastive_step import ContrastiveStep, embedding_spread
from data_pipelines.schema import Channel, Schema
from experiments import dino_xs
from tests import tiny

C, T, P = 5, 6, 4
SCHEMA = Schema(60, (*(Channel(f"c{i}") for i in range(C - 1)), Channel("asleep", kind="binary")))
ONES = np.ones(C, np.float32)
SCALE = Scale.from_statistics(SCHEMA, {"mean": 0 * ONES, "std": ONES, "min": -9 * ONES, "max": 9 * ONES})
CHANGES = Changes(shift=2, jitter=0.1, scale=0.2, channel_dropout=0.2, cutouts=2, cutout=5)
METHODS = {
  "simclr": Simclr((Crop(2, 4),), 0.1),
  "dino": Dino((Crop(2, 4), Crop(3, 2)), 0.1, 0.04),
  "msn": Msn((Crop(1, 4), Crop(1, 4, 0.5), Crop(2, 2)), 0.1, 0.025, 1.0),
}
# What is asked of a whole step is asked of one method in `make test`, of all in `make test-all`.
ONE_OF_METHODS = ["simclr", *(pytest.param(name, marks=pytest.mark.slow) for name in METHODS if name != "simclr")]


ADAM = optax.adamw(1e-2, mask=optimizer.decay_mask)
# Of the gradient itself; Adam's first step is its sign, which rounding may turn where it is next to 0.
SGD = optax.sgd(1.0)


def architecture(name, group=2):
  head = Projection(24, 8, 2, 0 if name == "simclr" else 16)
  binary = tuple(SCHEMA.binary.tolist())
  tower = Tower(16, 24, 2, 1)
  return tiny.architecture(C, T, P, tower, tower, patch_channels=group, projection=head, binary=binary)


def step_of(name, accumulate=1, impute="linear", optimiser=ADAM):
  return ContrastiveStep(
    architecture(name), METHODS[name], CHANGES, SCALE, optimiser, 100, accumulate, ema=0.0, momentum=0.9, impute=impute
  )


@functools.cache
def program(name, accumulate=1, impute="linear", optimiser=ADAM):
  step = step_of(name, accumulate, impute, optimiser)
  return step, jax.jit(step.draw), jax.jit(lambda state, views: step.train(step.size, state, views))


def days(rows=8, seed=0):
  """Rhythms that differ from day to day, with holes."""
  rng = np.random.default_rng(seed)
  clock = 2 * np.pi * np.arange(T * P)[None, :, None] / (T * P)
  phase, level = rng.uniform(0, 6, (rows, 1, C)), rng.normal(0, 1, (rows, 1, C))
  values = level + np.sin(clock + phase) + rng.normal(0, 0.2, (rows, T * P, C))
  values[..., C - 1] = values[..., C - 1] > 0
  values[rng.random(values.shape) < 0.3] = np.nan
  return values.astype(np.float32)


# Losses.


def softmax(x):
  x = np.exp(x - x.max(-1, keepdims=True))
  return x / x.sum(-1, keepdims=True)


def vectors(*shape, seed=0):
  x = np.random.default_rng(seed).normal(size=shape)
  return x / np.linalg.norm(x, axis=-1, keepdims=True)


f32 = lambda x: jnp.asarray(x, jnp.float32)


@settings(max_examples=5)
@given(b=st.integers(2, 5), temperature=st.sampled_from([0.1, 0.5]))
def test_simclr_by_hand(b, temperature):
  x = vectors(b, 2, 8)
  flat = [(i, v) for i in range(b) for v in range(2)]
  total = 0.0
  for i, v in flat:
    others = {k: np.exp(x[i, v] @ x[k] / temperature) for k in flat if k != (i, v)}
    total -= np.log(others[i, 1 - v] / sum(others.values()))
  nothing = jnp.zeros((0, 8))
  found = Simclr((Crop(2, 4),), temperature).loss((f32(x),), nothing, (), nothing)
  assert float(found) == pytest.approx(total / (2 * b), rel=1e-5)


def test_dino_by_hand():
  large, small, teacher = vectors(4, 2, 8), vectors(4, 3, 8, seed=1), vectors(4, 2, 8, seed=2)
  ours, theirs = vectors(16, 8, seed=3), vectors(16, 8, seed=4)
  q = np.exp(teacher @ theirs.T / 0.04)
  for _ in range(3):
    q /= q.sum((0, 1), keepdims=True)
    q /= q.sum(-1, keepdims=True)
  p = softmax(np.concatenate([large, small], 1) @ ours.T / 0.1)
  errors = [-(q[:, w] * np.log(p[:, v])).sum(-1).mean() for w in range(2) for v in range(5) if v != w]
  found = METHODS["dino"].loss((f32(large), f32(small)), f32(ours), (f32(teacher),), f32(theirs))
  assert float(found) == pytest.approx(np.mean(errors), rel=1e-4)


def test_balanced_uses_all_prototypes_alike():
  logits = f32(np.random.default_rng(0).normal(size=(64, 2, 8)) + 5 * np.eye(8)[0])
  found = np.asarray(balanced(logits, rounds=50))
  np.testing.assert_allclose(found.sum(-1), 1, rtol=1e-4)
  np.testing.assert_allclose(found.mean((0, 1)), 1 / 8, rtol=1e-2)


def test_msn_by_hand():
  masked, small, teacher = vectors(4, 1, 8), vectors(4, 2, 8, seed=1), vectors(4, 1, 8, seed=2)
  ours = vectors(16, 8, seed=3)
  p = softmax(np.concatenate([masked, small], 1) @ ours.T / 0.1)
  q = softmax(teacher @ ours.T / 0.1) ** 4  # sharpened from 0.1 to 0.025
  q /= q.sum(-1, keepdims=True)
  mean = p.mean((0, 1))
  expected = -(q * np.log(p)).sum(-1).mean() + (mean * np.log(mean)).sum()
  found = METHODS["msn"].loss((f32(masked), f32(small)), f32(ours), (f32(teacher),), f32(ours))
  assert float(found) == pytest.approx(expected, rel=1e-4)


# Views.


@settings(max_examples=20)
@given(seed=st.integers(0, 2**31 - 1), rate=st.sampled_from([0.0, 0.1, 0.6, 1.0]), kept=st.sampled_from([0.3, 1.0]))
def test_a_crop_is_a_set_of_tokens_of_a_stretch(seed, rate, kept):
  a, crop = architecture("dino"), Crop(1, 4, kept)
  there = np.random.default_rng(seed).random(a.tokens) < rate
  order, length = crop_tokens(jax.random.key(seed), crop, a, jnp.asarray(there))
  order, length = np.asarray(order), int(length)
  assert len(order) == len(set(order.tolist())) == crop.tokens(a) == round(kept * 4 * 3)
  assert 1 <= length <= len(order)
  time = order[:length] % T
  assert time.max() - time.min() < 4
  if length > 1:
    assert there[order[:length]].all()
  if rate == 1.0:
    assert length == len(order)


@settings(max_examples=15)
@given(seed=st.integers(0, 2**31 - 1), dropout=st.sampled_from([0.0, 0.5, 0.99]))
def test_changed_days(seed, dropout):
  rng = np.random.default_rng(seed)
  z = f32(rng.normal(size=(T * P, C)))
  z = z.at[:, -1].set(z[:, -1] > 0)
  observed = jnp.asarray(rng.random(z.shape) < 0.7).at[:, 0].set(False)
  changes = dataclasses.replace(CHANGES, channel_dropout=dropout, cutouts=0)
  found, left = changed(jax.random.key(seed), changes, jnp.asarray(SCHEMA.binary), z, observed)
  left = np.asarray(left)
  assert left.any(), "one channel with observations stays"
  # The shift is by whole steps, the same in all channels; a binary channel moves and does nothing else.
  shifts = [s for s in range(-2, 3) if (np.roll(z[:, -1], s) == np.asarray(found)[:, -1]).all()]
  kept = left.any(0)
  moved = [s for s in shifts if (left == np.roll(observed, s, axis=0) * kept).all()]
  assert moved
  others = np.asarray(found)[:, :-1] - np.roll(z, moved[0], axis=0)[:, :-1]
  assert 0 < np.abs(others).max() < 0.2 * np.abs(z).max() + 1.0


def test_views_read_nothing_that_is_missing():
  z, observed = f32(np.nan_to_num(days())), jnp.asarray(~np.isnan(days()))
  draw = lambda z: view_sets(jax.random.key(0), CHANGES, METHODS["msn"].crops, architecture("msn"), z, observed)
  views, others = draw(z), draw(jnp.where(observed, z, 1e9))
  assert all((x == y).all() for x, y in zip(jax.tree.leaves(views), jax.tree.leaves(others), strict=True))
  flat = views[0].order.reshape(8, -1)
  assert len({tuple(row) for row in flat.tolist()}) == 8, "each day is drawn anew"


# The step.


@pytest.mark.slow
@pytest.mark.parametrize("name", ["simclr", "dino", "msn"])
def test_microbatches_and_devices_change_nothing(name):
  """The loss compares the whole batch whatever the number of microbatches (GradCache) or devices."""
  step, draw, train = program(name, optimiser=SGD)
  state = step.init(jax.random.key(0))
  views = draw(jax.random.key(1), jnp.int32(0), days())[0]
  expected, told = train(state, views)
  results = [program(name, accumulate=4, optimiser=SGD)[2](state, views)]
  for shape in ((8, 1, 1), (2, 2, 2)):
    device_mesh = sharding.make_mesh(*shape)
    with jax.set_mesh(device_mesh):
      shardings = sharding.state_shardings(state, state["params"], device_mesh)
      split = [name for name, leaf in shardings["params"].items() if not leaf.is_fully_replicated]
      assert bool(split) == (shape != (8, 1, 1))
      assert not split or {"projection/0/kernel", "encoder/blocks/0/mlp/up/kernel"} <= set(split)
      placed = jax.device_put(state, shardings), jax.device_put(views, sharding.batch_sharding(device_mesh))
      results.append(jax.jit(lambda s, v: step.train(step.size, s, v), out_shardings=(shardings, None))(*placed))
  for other, other_told in results:
    assert float(other_told["loss"]) == pytest.approx(float(told["loss"]), rel=1e-4)
    assert float(other_told["gradient_norm"]) == pytest.approx(float(told["gradient_norm"]), rel=1e-3)
    for key, leaf in expected["params"].items():
      np.testing.assert_allclose(other["params"][key], leaf, rtol=1e-3, atol=1e-4, err_msg=key)


@pytest.mark.parametrize("impute", ["linear", pytest.param("none", marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", ONE_OF_METHODS)
def test_embeddings_of_days_stay_apart(name, impute):
  step, draw, train = program(name, impute=impute)
  state, values = step.init(jax.random.key(0)), days(16)
  losses, spreads = [], []
  for i in range(60):
    views, rows, counts = draw(jax.random.key(2), jnp.int32(i), values)
    assert rows.tolist() == [step.size.encoder, 0, 0] and (counts[:, 0] <= step.size.encoder).all()
    state, told = train(state, views)
    assert bool(told["ok"])
    losses.append(float(told["loss"]))
    spreads.append(float(told["embedding_spread"]))
  assert np.mean(losses[-10:]) < np.mean(losses[:10])
  # What the head says of days collapses first: to 0.01 within 20 steps before its inputs were standardised.
  assert min(spreads[-10:]) > 0.5 * spreads[0]
  encoded = step.mean_tokens(state["params"], views)[0]
  assert float(embedding_spread(lsm2.merge(step.graph, state["params"]).project(encoded)[:, 0])) > 0.2
  assert float(told["useful_flops"]) > 0


def test_spread():
  rng = np.random.default_rng(0)
  assert float(embedding_spread(f32(rng.normal(size=(500, 32))))) == pytest.approx(1, abs=0.05)
  assert float(embedding_spread(f32(np.ones((5, 32))))) == pytest.approx(0, abs=1e-5)


@pytest.mark.parametrize("name", ONE_OF_METHODS)
def test_a_bad_gradient_changes_nothing_but_the_step(name):
  step, draw, train = program(name)
  state = step.init(jax.random.key(0))
  views = draw(jax.random.key(1), jnp.int32(0), days())[0]
  poisoned = (*views[:-1], views[-1]._replace(values=views[-1].values.at[0, 0].set(jnp.nan)))
  after, told = train(state, poisoned)
  assert not bool(told["ok"]) and bool(told["bad"].any())
  assert int(after["step"]) == 1
  for key in ("params", "ema", "optimizer"):
    for x, y in zip(jax.tree.leaves(after[key]), jax.tree.leaves(state[key]), strict=True):
      np.testing.assert_array_equal(x, y)


@pytest.mark.parametrize("name", ["dino", "msn"])
def test_the_teacher_follows_at_the_momentum(name):
  step, draw, train = program(name)
  state = step.init(jax.random.key(0)) | {"step": jnp.int32(50)}
  after, _ = train(state, draw(jax.random.key(1), jnp.int32(0), days())[0])
  # Half of the way to 100 steps: the cosine from 0.9 to 1 is at 0.95.
  for key, old in state["ema"].items():
    expected = 0.95 * np.asarray(old) + 0.05 * np.asarray(after["params"][key])
    np.testing.assert_allclose(after["ema"][key], expected, rtol=1e-4, atol=1e-6)
  assert after["ema"].keys() == after["params"].keys()


def test_simclr_has_no_teacher():
  assert step_of("simclr").init(jax.random.key(0))["ema"] == {}
  assert not any("prototypes" in name for name in lsm2.abstract(architecture("simclr"))[1])


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    ({"method": "byol"}, "config.method is 'byol', expected one of mae, simclr, dino, msn"),
    ({"optimizer.ema": 0.9}, "config.optimizer.ema is 0.9, expected 0 for dino"),
    ({"views.prototypes": 1}, "config.views.prototypes is 1, expected at least 2 for dino"),
    ({"views.global_share": 1.5}, "config.views.global_share is 1.5, expected a share above 0, at most 1"),
    ({"views.temperature": 0.0}, "config.views.temperature is 0.0, expected above 0"),
    ({"views.momentum": 1.0}, "config.views.momentum is 1.0, expected 0 to less than 1"),
    ({"views.channel_dropout": 1.0}, "config.views.channel_dropout is 1.0"),
    ({"views.jitter": -1.0}, "config.views.jitter is -1.0, expected 0 or more"),
    ({"views.projection.width": 0}, "config.views.projection.width is 0, expected at least 1"),
    ({"method": "simclr", "batch_size": 1}, "config.batch_size is 1, expected at least 2 for simclr"),
  ],
)
def test_refused(changes, message):
  config = dino_xs.get_config()
  config.update_from_flattened_dict({"model.patch_minutes": 120} | changes)
  with pytest.raises(config_settings.ConfigError, match=message):
    a = from_config.architecture(config, SCHEMA)
    view_method(config, a)
    view_changes(config, SCHEMA)
