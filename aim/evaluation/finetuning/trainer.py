"""Supervised training of one network on one task: a pure step, early stopping on the tune people, best weights kept."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import optax
from jaxtyping import Array, Float, Int, Num

from aim.common.config_files import ConfigError
from aim.evaluation.finetuning.examples import TrainingExamples
from aim.evaluation.finetuning.heads import Params
from aim.evaluation.finetuning.networks import Network
from aim.runtime import compile_options, sharding
from aim.training.optimizer import make_optimizer

State = dict[str, Any]  # {"params": the trained parameters, "optimizer": their optax state}


@dataclasses.dataclass(frozen=True)
class Fitted:
  """A trained network.

  Attributes:
    params: all parameters, trained and frozen, of the step with the lowest tune loss.
    best_step: that step; 0 where no step improved on the head it started from.
    steps: steps that were made.
    curve: (step, mean training loss since the previous entry, tune loss), one entry per evaluation.
  """

  params: Params
  best_step: int
  steps: int
  curve: list[tuple[int, float, float]]


def losses(outputs: Float[Array, "... outputs"], target: Num[Array, "..."]) -> Float[Array, "..."]:
  """Cross-entropy where targets are class indices (int), squared error where they are numbers (float)."""
  if jnp.issubdtype(target.dtype, jnp.integer):
    return optax.softmax_cross_entropy_with_integer_labels(outputs, target)
  return jnp.square(outputs[..., 0] - target)


class Trainer:
  """Trains one network. It is compiled once and can then be trained on any examples.

  The devices of the network's mesh share the days of each batch, which is padded to a multiple of their number.

  Args:
    config: config.finetune.
    learning_rate: peak learning rate of parameters whose factor is 1.
  """

  def __init__(self, network: Network, config: ml_collections.ConfigDict, learning_rate: float):
    self.network, self.config = network, config
    raw = ml_collections.ConfigDict(config.to_dict() | {"learning_rate": learning_rate})
    scaled = lambda updates: {name: update * network.rates[name] for name, update in updates.items()}
    self.optimizer = optax.chain(make_optimizer(raw, config.steps), optax.stateless(lambda u, _: scaled(u)))
    self.size = -(-config.batch_size // network.mesh.size) * network.mesh.size  # of padded batches
    self._everywhere, self._divided = sharding.replicated(network.mesh), sharding.batch_sharding(network.mesh)
    options = compile_options.compiler_options()
    placement = (*(self._everywhere,) * 2, *(self._divided,) * 4)
    self.jitted_step = jax.jit(self.step, donate_argnums=0, in_shardings=placement, compiler_options=options)
    of_days = lambda function: jax.jit(
      sharding.on_own_windows(function, network.mesh),
      in_shardings=(self._everywhere, *(self._divided,) * 2),
      compiler_options=options,
    )
    self._forward, self._pooled = of_days(network.forward), of_days(network.pooled)

  def init(self, seed: int) -> tuple[State, Params]:
    """A train state, and the frozen parameters."""
    # The parameters are copied because a step donates its state, and the pretrained ones are needed again.
    params, frozen = self.network.split(self.network.init(jax.random.key(seed)))
    params = {name: jnp.array(leaf) for name, leaf in params.items()}
    return jax.device_put(({"params": params, "optimizer": self.optimizer.init(params)}, frozen), self._everywhere)

  def step(
    self,
    state: State,
    frozen: Params,
    values: Float[Array, "b s c"],
    span: Int[Array, "b w 2"],
    target: Num[Array, "b w"],
    weight: Float[Array, "b w"],
  ) -> tuple[State, Float[Array, ""]]:
    """The state after one update, and the loss before it."""

    total = weight.sum()

    def loss(params: Params, values: Array, span: Array, target: Array, weight: Array) -> Float[Array, ""]:
      return (weight * losses(self.network.forward(params | frozen, values, span), target)).sum() / total

    value_and_gradient = sharding.on_own_windows(jax.value_and_grad(loss), self.network.mesh, summed=True)
    value, gradient = value_and_gradient(state["params"], values, span, target, weight)
    updates, optimizer = self.optimizer.update(gradient, state["optimizer"], state["params"])
    return {"params": optax.apply_updates(state["params"], updates), "optimizer": optimizer}, value

  def predict(self, params: Params, examples: TrainingExamples) -> Float[np.ndarray, "n w outputs"]:
    """The network's outputs for all examples."""
    return self._in_batches(self._forward, params, examples)

  def pooled(self, params: Params, examples: TrainingExamples) -> Float[np.ndarray, "n w width"]:
    """The head's inputs for all examples, NaN where unknown."""
    return self._in_batches(self._pooled, params, examples)

  def _in_batches(
    self, function: Callable[..., Array], params: Params, examples: TrainingExamples
  ) -> Float[np.ndarray, "n w k"]:
    """Applies a function to batches of one shape; the last batch is padded with its first example."""
    outputs: list[Any] = []
    for start in range(0, len(examples), self.size):
      values, span, _, _ = examples.batch(np.arange(start, min(start + self.size, len(examples))), self.size)
      outputs.append(function(params, values, span))
      if len(outputs) > 1:  # while this batch is computed, but never more of them waiting on the device
        outputs[-2] = np.asarray(outputs[-2])
    return np.concatenate(outputs)[: len(examples)]

  def fit(
    self,
    train: TrainingExamples,
    tune: TrainingExamples,
    seed: int,
    progress: Callable[[int], Any] = lambda steps: None,
    head: Params | None = None,
  ) -> Fitted:
    """Trains for config.steps, or until the tune loss has not fallen for config.patience evaluations.

    Args:
      train: examples to fit.
      tune: examples whose loss decides when to stop.
      seed: seed of the initial parameters and of the order of days.
      progress: called with the number of steps made, at each evaluation.
      head: parameters of the head to start from. They are evaluated before the first step too, and kept if no step
        improves on them.

    Raises:
      ConfigError: no evaluation gave a finite loss.
    """
    config = self.config
    state, frozen = self.init(seed)
    batches = day_order(len(train), config.batch_size, seed)
    best, best_step, best_loss = state["params"], 0, math.inf
    evaluations, recent, curve = 0, [], []  # evaluations since the best one, training losses since the last one
    if head is not None:
      state["params"] |= {name: jax.device_put(jnp.array(leaf), self._everywhere) for name, leaf in head.items()}
      best_loss = self.loss(state["params"] | frozen, tune)
      best = jax.tree.map(jnp.copy, state["params"])
    for step in range(1, config.steps + 1):
      state, loss = self.jitted_step(state, frozen, *train.batch(next(batches), self.size))
      recent.append(loss)
      if step % config.tune_every and step != config.steps:
        continue
      tune_loss = self.loss(state["params"] | frozen, tune)
      curve.append((step, float(np.mean(jax.device_get(recent))), tune_loss))
      recent, evaluations = [], evaluations + 1
      progress(step)
      if tune_loss < best_loss:
        best, best_step, best_loss = jax.tree.map(jnp.copy, state["params"]), step, tune_loss
        evaluations = 0
      elif evaluations >= config.patience:
        break
    if not math.isfinite(best_loss):
      raise ConfigError("fine-tuning: the loss of the tune people is never finite; lower config.finetune.learning_rate")
    return Fitted(dict(best) | frozen, best_step, curve[-1][0], curve)

  def loss(self, params: Params, examples: TrainingExamples) -> float:
    """Weighted mean loss of all examples."""
    errors = losses(jnp.asarray(self.predict(params, examples)), jnp.asarray(examples.target))
    return float((errors * examples.weight).sum() / examples.weight.sum())


def day_order(days: int, batch: int, seed: int) -> Iterator[Int[np.ndarray, " batch"]]:
  """Endless batches of indices of days: each day once before any comes again, in a new order each time."""
  rng = np.random.default_rng(seed)
  waiting = np.empty(0, int)
  while True:
    while len(waiting) < batch:
      waiting = np.concatenate([waiting, rng.permutation(days)])
    yield waiting[:batch]
    waiting = waiting[batch:]
