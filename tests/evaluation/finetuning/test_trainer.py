"""Fine-tuning one network: which parameters move and how fast, early stop, holes, and eight days learnt by heart."""

from __future__ import annotations

import copy
import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from aim.common.config_files import ConfigError
from aim.evaluation.finetuning import networks, resnet
from aim.evaluation.finetuning.examples import TrainingExamples
from aim.evaluation.finetuning.networks import encoder_network, resnet_network
from aim.evaluation.finetuning.trainer import Trainer, order
from aim.model import lsm2
from aim.model.buffer_sizes import textbook
from aim.model.from_config import architecture
from data_pipelines.lsm2_schema import LSM2_SCHEMA
from experiments import default, lsm2_xs
from tests.inference.test_pretrained import days, pretrained

NETWORKS = ["encoder", pytest.param("resnet", marks=pytest.mark.slow)]
LAYERS = 3
SIZES = textbook(24, 0, "all")  # 3 channels, 8 patches


def trained():
  return pretrained(model__encoder__layers=LAYERS)


def config(**changes):
  config = default.get_config().finetune
  config.update({"batch_size": 8, "steps": 40, "tune_every": 10, "weight_decay": 0.0} | changes)
  return config


def examples(rows: int = 8, classes: int = 2, seed: int = 0) -> TrainingExamples:
  span = np.tile([0, 24], (rows, 1, 1))
  target = np.arange(rows)[:, None] % classes
  return TrainingExamples(days(rows, seed=seed), np.arange(rows), span, target, np.ones((rows, 1), np.float32))


def encoder(layers: int = -1, decay: float = 1.0, pretrained: bool = True, outputs: int = 2):
  return encoder_network(trained(), outputs, SIZES, pretrained, layers, decay)


@functools.cache
def fitted(kind: str):
  network = encoder() if kind == "encoder" else resnet_network(trained(), 2)
  trainer = Trainer(network, config(steps=150, tune_every=50), 3e-3)
  return trainer, trainer.fit(examples(), examples(), 0)


@pytest.mark.parametrize("kind", NETWORKS)
def test_learns_eight_days_by_heart(kind):
  trainer, result = fitted(kind)
  guessed = trainer.predict(result.params, examples()).argmax(2)
  assert (guessed == examples().target).mean() == 1.0


@pytest.mark.parametrize("layers", [0, 1, 2, 3, -1])
def test_exactly_the_layers_asked_for_are_trained(layers):
  network = encoder(layers)
  trainer = Trainer(network, config(steps=2, tune_every=1), 3e-3)
  start = network.init(jax.random.key(0))
  end = trainer.fit(examples(), examples(), 0).params
  assert set(start) == set(end)
  moved = {name for name in start if not np.array_equal(start[name], end[name])}
  blocks = {f"encoder/blocks/{i}/" for i in range(LAYERS - layers if layers >= 0 else 0, LAYERS)}
  wanted = {name for name in start if name.startswith(("classifier/", *blocks))}
  wanted |= {name for name in start if name.startswith("encoder/norm/") and layers}
  wanted |= {name for name in start if name.startswith("patch_embedding/") and layers == -1}
  assert moved == wanted


def contrastive():
  """A model without a decoder, of the same encoder."""
  other = copy.copy(trained())
  other.architecture = dataclasses.replace(other.architecture, projection=lsm2.Projection(8, 4, 2, 5))
  other.params = networks.flatten(lsm2.build(other.architecture, nnx.Rngs(0)))
  return other


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


def test_layer_decay_slows_the_first_update():
  start, ends = encoder().init(jax.random.key(0)), {}
  for decay in (1.0, 0.5):
    trainer = Trainer(encoder(decay=decay), config(steps=1, warmup_share=0.0), 1e-3)
    state, frozen = trainer.init(0)
    state, _ = trainer._step(state, frozen, *examples().batch(np.arange(8)))
    state, _ = trainer._step(state, frozen, *examples().batch(np.arange(8)))  # the first one has a learning rate of 0
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


def test_early_stop_keeps_the_best_weights(monkeypatch):
  trainer = Trainer(encoder(), config(steps=100, tune_every=1, patience=3), 3e-3)
  seen, losses = [], iter([5.0, 3.0, 4.0, float("nan"), 3.5, 1.0])
  real = trainer.loss

  def loss(params, batch):
    seen.append(jax.tree.map(np.array, params))
    assert np.isfinite(real(params, batch))
    return next(losses)

  monkeypatch.setattr(trainer, "loss", loss)
  result = trainer.fit(examples(), examples(), 0)
  assert (result.best_step, result.steps) == (2, 5)  # the lower loss of step 6 is never seen
  for name, leaf in result.params.items():
    np.testing.assert_array_equal(leaf, seen[1][name])


def test_a_loss_that_is_never_finite_is_told(monkeypatch):
  trainer = Trainer(encoder(), config(steps=2, tune_every=1), 3e-3)
  monkeypatch.setattr(trainer, "loss", lambda params, batch: float("nan"))
  with pytest.raises(ConfigError, match=r"never finite; lower config\.finetune\.learning_rate"):
    trainer.fit(examples(), examples(), 0)


def test_the_same_seed_gives_the_same_weights():
  trainer, result = fitted("encoder")
  again = trainer.fit(examples(), examples(), 0)
  other = trainer.fit(examples(), examples(), 1)
  for name in ("classifier/linear/kernel", "encoder/blocks/0/mlp/up/kernel"):
    np.testing.assert_array_equal(again.params[name], result.params[name])
    assert not np.array_equal(other.params[name], result.params[name])


@pytest.mark.parametrize("kind", NETWORKS)
def test_what_lies_under_a_hole_is_never_seen(kind, monkeypatch):
  """Values under the mask reach neither outputs nor gradients: the normalised day holds garbage in its holes."""
  network = encoder() if kind == "encoder" else resnet_network(trained(), 2)
  params = network.init(jax.random.key(0))
  batch = examples()

  def of(values):
    total = lambda params: (network.forward(params, jnp.asarray(values), jnp.asarray(batch.span)) ** 2).sum()
    return jax.value_and_grad(total)(params)

  filled = np.where(np.isnan(batch.values), 3.0, batch.values).astype(np.float32)
  value, gradient = of(batch.values)
  assert np.isfinite(value) and value != of(filled)[0]  # the hole itself is seen
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
  nothing = jnp.zeros(8).at[7].set(1)  # another channel, seen at the end alone
  sums = jnp.stack([jnp.stack([jnp.arange(8.0) * s, s], axis=1) for s in (seen, nothing)])[None]
  both = lambda start, end: networks.mean_within(sums, 3, jnp.array([[[start, end]]]))[0, 0, :, 0]
  mean = lambda start, end: float(both(start, end)[0])
  assert mean(0, 24) == pytest.approx((0 + 1 + 3 + 4 + 5) / 5)
  assert mean(0, 3) == 0 and mean(2, 4) == 0.5 and mean(3, 10) == 2  # tokens 1, 2 (not seen) and 3
  assert mean(18, 21) == mean(0, 24)  # nothing of any channel
  assert both(0, 3).tolist()[0] == 0 and np.isnan(both(0, 3)[1]) and np.isnan(mean(21, 24)) and both(21, 24)[1] == 7


def test_predict_does_not_depend_on_the_batch():
  trainer, result = fitted("encoder")
  many = examples(11, seed=4)
  alone = [trainer.predict(result.params, TrainingExamples(many.values, *(np.asarray(x)[i : i + 1] for x in (
    many.day, many.span, many.target, many.weight)))) for i in range(11)]  # fmt: skip
  np.testing.assert_allclose(trainer.predict(result.params, many), np.concatenate(alone), rtol=1e-5, atol=1e-6)


def test_order_shows_every_day_before_any_again():
  batches = order(5, 3, 0)
  drawn = np.concatenate([next(batches) for _ in range(10)]).reshape(6, 5)
  assert (np.sort(drawn, axis=1) == np.arange(5)).all()
  assert len(np.unique(drawn, axis=0)) > 1


def test_resnet_has_about_the_encoder_s_parameters():
  a = architecture(lsm2_xs.get_config(), LSM2_SCHEMA)
  wanted = networks.encoder_size(a)
  width = resnet.width_of(26, wanted)
  assert resnet.parameters(26, width) == pytest.approx(wanted, rel=0.2)
  shapes = lsm2.abstract(a)[1]
  assert wanted == sum(leaf.size for name, leaf in shapes.items() if name.startswith(("patch_embedding/", "encoder/")))


@pytest.mark.parametrize(("channels", "steps", "width"), [(1, 24, 1), (3, 24, 4), (14, 288, 2), (26, 1440, 2)])
def test_resnet_takes_any_schema(channels, steps, width):
  network = resnet.ResNet(channels, width, nnx.Rngs(0))
  z = jnp.ones((2, steps, channels))
  out = network(z, z > 0)
  assert out.shape == (2, -(-steps // 16), resnet.features(width))
  assert lsm2.merge(nnx.graphdef(network), networks.flatten(network))(z, z > 0).shape == out.shape
