"""Only the requested parameters of a network are trained, each at its rate, and holes of a day are never read."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from aim.evaluation.finetuning import networks
from aim.evaluation.finetuning.heads import flatten
from aim.evaluation.finetuning.networks import encoder_network, resnet_network
from aim.evaluation.finetuning.trainer import Trainer
from aim.inference.pretrained import Pretrained
from aim.model import lsm2
from aim.model.buffer_sizes import textbook
from aim.training.checkpoint import Restored
from tests.evaluation.finetuning.small_networks import LAYERS, config, encoder, examples, trained
from tests.inference.test_pretrained import pretrained

NETWORKS = ["encoder", pytest.param("resnet", marks=pytest.mark.slow)]


@pytest.mark.parametrize("layers", [0, 2, *(pytest.param(n, marks=pytest.mark.slow) for n in (1, 3, -1))])
def test_exactly_the_requested_layers_are_trained(layers):
  network = encoder(layers)
  trainer = Trainer(network, config(steps=2, tune_every=1), 3e-3)
  start = network.init(jax.random.key(0))
  end = trainer.fit(examples(), examples(), 0).params
  assert set(start) == set(end)
  moved = {name for name in start if not np.array_equal(start[name], end[name])}
  blocks = {f"encoder/blocks/{i}/" for i in range(LAYERS - layers if layers >= 0 else 0, LAYERS)}
  expected = {name for name in start if name.startswith(("classifier/", *blocks))}
  expected |= {name for name in start if name.startswith("encoder/norm/") and layers}
  expected |= {name for name in start if name.startswith("patch_embedding/") and layers == -1}
  assert moved == expected


def contrastive():
  """A model with the same encoder and no decoder."""
  other = trained()
  architecture = dataclasses.replace(other.architecture, projection=lsm2.Projection(8, 4, 2, 5))
  params = flatten(lsm2.build(architecture, nnx.Rngs(0)))
  return Pretrained(Restored(other.config, other.schema, other.scale, architecture, params, 7))


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["LSM-2", "LSM-1", "DINO"])
def test_the_encoder_reads_no_parameter_that_is_never_trained(kind):
  lsm1 = {"model__patch_channels": 2, "data__impute": "linear"}
  other = (
    contrastive() if kind == "DINO" else pretrained(model__encoder__layers=LAYERS, **lsm1 if kind == "LSM-1" else {})
  )
  network = encoder_network(other, 2, textbook(other.architecture.tokens, 0, "all"))
  params = network.init(jax.random.key(0))
  batch = examples()
  total = lambda params: network.forward(params, jnp.asarray(batch.values), jnp.asarray(batch.span)).sum()
  gradient = jax.grad(total)(params)
  assert {name for name, leaf in gradient.items() if np.any(leaf)} == set(network.rates)


@pytest.mark.slow
def test_layer_decay_slows_the_first_update():
  start, ends = encoder().init(jax.random.key(0)), {}
  for decay in (1.0, 0.5):
    trainer = Trainer(encoder(decay=decay), config(steps=1, warmup_share=0.0), 1e-3)
    state, frozen = trainer.init(0)
    state, _ = trainer.jitted_step(state, frozen, *examples().batch(np.arange(8), 8))
    state, _ = trainer.jitted_step(
      state, frozen, *examples().batch(np.arange(8), 8)
    )  # the first step has a learning rate of 0
    ends[decay] = state["params"]
  for name, depth in {
    "classifier/linear/kernel": 0,
    "encoder/norm/scale": 0,
    "encoder/blocks/2/mlp/up/kernel": 1,
    "encoder/blocks/0/mlp/up/kernel": 3,
    "patch_embedding/kernel": 4,
  }.items():
    full, slow = (np.asarray(ends[decay][name]) - np.asarray(start[name]) for decay in (1.0, 0.5))
    np.testing.assert_allclose(slow, full * 0.5**depth, rtol=2e-2, atol=1e-7, err_msg=name)


def test_scratch_starts_elsewhere_and_pretrained_at_the_checkpoint():
  at = encoder().init(jax.random.key(0))
  scratch = encoder(pretrained=False).init(jax.random.key(0))
  for name, leaf in trained().params.items():
    np.testing.assert_array_equal(at[name], leaf)
    if name.endswith("kernel"):
      assert not np.array_equal(scratch[name], leaf)


@pytest.mark.parametrize("kind", NETWORKS)
def test_values_under_holes_are_never_read(kind, monkeypatch):
  """Garbage in the holes of a normalised day reaches neither outputs nor gradients."""
  network = encoder() if kind == "encoder" else resnet_network(trained(), 2)
  params = network.init(jax.random.key(0))
  batch = examples()

  def of(values):
    total = lambda params: (network.forward(params, jnp.asarray(values), jnp.asarray(batch.span)) ** 2).sum()
    return jax.jit(jax.value_and_grad(total))(params)

  filled = np.where(np.isnan(batch.values), 3.0, batch.values).astype(np.float32)
  value, gradient = of(batch.values)
  assert np.isfinite(value) and value != of(filled)[0]  # that there is a hole is seen
  assert all(np.isfinite(leaf).all() for leaf in gradient.values())
  if kind == "encoder":
    normalise = type(trained().scale).normalise
    garbage = lambda scale, values: (jnp.where(jnp.isnan(values), 1e3, normalise(scale, values)[0]), ~jnp.isnan(values))
    monkeypatch.setattr(type(trained().scale), "normalise", garbage)
    other, gradients = of(batch.values)
    assert other == value
    for name in gradient:
      np.testing.assert_array_equal(gradient[name], gradients[name])


def test_a_span_reads_its_own_tokens_and_falls_back_to_the_day():
  seen = jnp.array([1, 1, 0, 1, 1, 1, 0, 0])
  nothing = jnp.zeros(8).at[7].set(1)  # another channel, with a token at the end alone
  sums = jnp.stack([jnp.stack([jnp.arange(8.0) * s, s], axis=1) for s in (seen, nothing)])[None]
  both = lambda start, end: networks.mean_within(sums, 3, jnp.array([[[start, end]]]))[0, 0, :, 0]
  mean = lambda start, end: float(both(start, end)[0])
  assert mean(0, 24) == pytest.approx((0 + 1 + 3 + 4 + 5) / 5)
  assert mean(0, 3) == 0 and mean(2, 4) == 0.5 and mean(3, 10) == 2  # tokens 1, 2 (not observed) and 3
  assert mean(18, 21) == mean(0, 24)  # no token of any channel
  assert both(0, 3).tolist()[0] == 0 and np.isnan(both(0, 3)[1]) and np.isnan(mean(21, 24)) and both(21, 24)[1] == 7
