"""Training one network: early stopping, repeatability, and eight days learnt by heart."""

from __future__ import annotations

import functools

import jax
import numpy as np
import pytest

from aim.common.config_files import ConfigError
from aim.evaluation.finetuning.examples import TrainingExamples
from aim.evaluation.finetuning.networks import resnet_network
from aim.evaluation.finetuning.trainer import Trainer, day_order
from tests.evaluation.finetuning.small_networks import config, encoder, examples, trained

NETWORKS = ["encoder", pytest.param("resnet", marks=pytest.mark.slow)]


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
  assert (result.best_step, result.steps) == (2, 5)  # training stops before the lower loss of step 6
  for name, leaf in result.params.items():
    np.testing.assert_array_equal(leaf, seen[1][name])


def test_a_loss_that_is_never_finite_is_an_error(monkeypatch):
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


def test_predict_does_not_depend_on_the_batch():
  trainer, result = fitted("encoder")
  many = examples(11, seed=4)
  alone = [trainer.predict(result.params, TrainingExamples(many.values, *(np.asarray(x)[i : i + 1] for x in (
    many.day, many.span, many.target, many.weight)))) for i in range(11)]  # fmt: skip
  np.testing.assert_allclose(trainer.predict(result.params, many), np.concatenate(alone), rtol=1e-5, atol=1e-6)


def test_every_day_comes_once_before_any_comes_again():
  batches = day_order(5, 3, 0)
  drawn = np.concatenate([next(batches) for _ in range(10)]).reshape(6, 5)
  assert (np.sort(drawn, axis=1) == np.arange(5)).all()
  assert len(np.unique(drawn, axis=0)) > 1
