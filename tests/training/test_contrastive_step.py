"""The contrastive step: the same on one device, on eight and in microbatches; embeddings of days stay apart."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from aim.model import lsm2
from aim.model.patches import Scale
from aim.runtime import sharding
from aim.training.contrastive_step import ContrastiveStep, embedding_spread
from aim.training.optimizer import decay_mask
from tests.model.contrastive.test_views import CHANGES, METHODS, SCHEMA, C, architecture, days

ONES = np.ones(C, np.float32)
SCALE = Scale.from_statistics(SCHEMA, {"mean": 0 * ONES, "std": ONES, "min": -9 * ONES, "max": 9 * ONES})
# `make test` checks a whole step of one method, `make test-all` of all.
ONE_OF_METHODS = ["simclr", *(pytest.param(name, marks=pytest.mark.slow) for name in METHODS if name != "simclr")]

ADAM = optax.adamw(1e-2, mask=decay_mask)
# To compare gradients: Adam's first step is only their sign, which rounding may flip if a gradient is close to 0.
SGD = optax.sgd(1.0)


def step_of(name, accumulate=1, impute="linear", optimiser=ADAM):
  return ContrastiveStep(
    architecture(name), METHODS[name], CHANGES, SCALE, optimiser, 100, accumulate, ema=0.0, momentum=0.9, impute=impute
  )


@functools.cache
def program(name, accumulate=1, impute="linear", optimiser=ADAM):
  step = step_of(name, accumulate, impute, optimiser)
  return step, jax.jit(step.draw), jax.jit(lambda state, views: step.train(step.size, state, views))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["simclr", "dino", "msn"])
def test_microbatches_and_devices_change_nothing(name):
  """The loss compares the whole batch whatever the number of microbatches (GradCache) or devices."""
  step, draw, train = program(name, optimiser=SGD)
  state = step.init(jax.random.key(0))
  views = draw(jax.random.key(1), jnp.int32(0), days())[0]
  expected, metrics = train(state, views)
  results = [program(name, accumulate=4, optimiser=SGD)[2](state, views)]
  for shape in ((8, 1, 1), (2, 2, 2)):
    mesh = sharding.make_mesh(*shape)
    with jax.set_mesh(mesh):
      shardings = sharding.state_shardings(state, state["params"], mesh)
      split = [name for name, leaf in shardings["params"].items() if not leaf.is_fully_replicated]
      assert bool(split) == (shape != (8, 1, 1))
      assert not split or {"projection/0/kernel", "encoder/blocks/0/mlp/up/kernel"} <= set(split)
      placed = jax.device_put(state, shardings), jax.device_put(views, sharding.batch_sharding(mesh))
      results.append(jax.jit(lambda s, v: step.train(step.size, s, v), out_shardings=(shardings, None))(*placed))
  for other, other_metrics in results:
    assert float(other_metrics["loss"]) == pytest.approx(float(metrics["loss"]), rel=1e-4)
    assert float(other_metrics["gradient_norm"]) == pytest.approx(float(metrics["gradient_norm"]), rel=1e-3)
    for key, leaf in expected["params"].items():
      np.testing.assert_allclose(other["params"][key], leaf, rtol=1e-3, atol=1e-4, err_msg=key)


@pytest.mark.parametrize("impute", ["linear", "none"])
@pytest.mark.parametrize("name", ONE_OF_METHODS)
@pytest.mark.slow
def test_embeddings_of_days_stay_apart(name, impute):
  step, draw, train = program(name, impute=impute)
  state, values = step.init(jax.random.key(0)), days(16)
  losses, spreads = [], []
  for i in range(60):
    views, needed, counts = draw(jax.random.key(2), jnp.int32(i), values)
    assert needed.tolist() == [step.size.encoder, 0, 0] and (counts[:, 0] <= step.size.encoder).all()
    state, metrics = train(state, views)
    assert bool(metrics["ok"])
    losses.append(float(metrics["loss"]))
    spreads.append(float(metrics["embedding_spread"]))
  assert np.mean(losses[-10:]) < np.mean(losses[:10])
  # The head's outputs collapse first: to 0.01 within 20 steps before its inputs were standardised.
  assert min(spreads[-10:]) > 0.5 * spreads[0]
  encoded = step.mean_tokens(state["params"], views)[0]
  assert float(embedding_spread(lsm2.merge(step.graph, state["params"]).project(encoded)[:, 0])) > 0.2
  assert float(metrics["useful_flops"]) > 0


def test_spread():
  rng = np.random.default_rng(0)
  assert float(embedding_spread(jnp.asarray(rng.normal(size=(500, 32)), jnp.float32))) == pytest.approx(1, abs=0.05)
  assert float(embedding_spread(jnp.ones((5, 32)))) == pytest.approx(0, abs=1e-5)


@pytest.mark.parametrize("name", ONE_OF_METHODS)
def test_a_bad_gradient_changes_nothing_but_the_step_number(name):
  step, draw, train = program(name)
  state = step.init(jax.random.key(0))
  views = draw(jax.random.key(1), jnp.int32(0), days())[0]
  poisoned = (*views[:-1], views[-1]._replace(values=views[-1].values.at[0, 0].set(jnp.nan)))
  after, metrics = train(state, poisoned)
  assert not bool(metrics["ok"]) and bool(metrics["bad"].any())
  assert int(after["step"]) == 1
  for key in ("params", "ema", "optimizer"):
    for x, y in zip(jax.tree.leaves(after[key]), jax.tree.leaves(state[key]), strict=True):
      np.testing.assert_array_equal(x, y)


@pytest.mark.parametrize("name", ["dino", pytest.param("msn", marks=pytest.mark.slow)])
def test_the_teacher_follows_at_the_momentum(name):
  step, draw, train = program(name)
  state = step.init(jax.random.key(0)) | {"step": jnp.int32(50)}
  after, _ = train(state, draw(jax.random.key(1), jnp.int32(0), days())[0])
  # Half way to 100 steps, the cosine from 0.9 to 1 is at 0.95.
  for key, old in state["ema"].items():
    expected = 0.95 * np.asarray(old) + 0.05 * np.asarray(after["params"][key])
    np.testing.assert_allclose(after["ema"][key], expected, rtol=1e-4, atol=1e-6)
  assert after["ema"].keys() == after["params"].keys()


def test_simclr_has_no_teacher():
  assert step_of("simclr").init(jax.random.key(0))["ema"] == {}
  assert not any("prototypes" in name for name in lsm2.abstract(architecture("simclr"))[1])
