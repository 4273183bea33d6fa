"""Supervised training of one network on one task: a pure step, early stop on the tune people, best weights kept."""

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
from aim.evaluation.finetuning.networks import Network, Params
from aim.runtime import compile_options
from aim.training.optimizer import make_optimizer

State = dict[str, Any]

"""{"params": trained parameters, "optimizer": optax state}"""


@dataclasses.dataclass(frozen=True)
class Fitted:
  """A trained network.

  Attributes:
    params: all of them, at the step where the tune people's loss was lowest.
    best_step, steps: that step, and how many were made.
    curve: (step, training loss since the line before, tune loss), one at each look at the tune people.
  """

  params: Params
  best_step: int
  steps: int
  curve: list[tuple[int, float, float]]


def losses(outputs: Float[Array, "... outputs"], target: Num[Array, "..."]) -> Float[Array, "..."]:
  """Cross-entropy of class numbers, squared error of numbers."""
  if jnp.issubdtype(target.dtype, jnp.integer):
    return optax.softmax_cross_entropy_with_integer_labels(outputs, target)
  return jnp.square(outputs[..., 0] - target)


class Trainer:
  """Training of one kind of network: compiled once, whatever it is then trained on.

  Args:
    config: config.finetune.
    learning_rate: at its highest, of parameters whose factor is 1.
  """

  def __init__(self, network: Network, config: ml_collections.ConfigDict, learning_rate: float):
    self.network, self.config = network, config
    raw = ml_collections.ConfigDict(config.to_dict() | {"learning_rate": learning_rate})
    slower = lambda updates: {name: update * network.rates[name] for name, update in updates.items()}
    self.optimizer = optax.chain(make_optimizer(raw, config.steps), optax.stateless(lambda u, _: slower(u)))
    self._step = jax.jit(self.step, donate_argnums=0, compiler_options=compile_options.compiler_options())
    self._forward = jax.jit(
      lambda params, frozen, values, span: network.forward(params | frozen, values, span),
      compiler_options=compile_options.compiler_options(),
    )
    self._pooled = jax.jit(
      lambda params, frozen, values, span: network.pooled(params | frozen, values, span),
      compiler_options=compile_options.compiler_options(),
    )

  def init(self, seed: int) -> tuple[State, Params]:
    """A train state, and the parameters that stay as they are."""
    # Copies: a state is used up by a step, and the pretrained parameters are wanted again.
    params, frozen = self.network.split(self.network.init(jax.random.key(seed)))
    params = {name: jnp.array(leaf) for name, leaf in params.items()}
    return {"params": params, "optimizer": self.optimizer.init(params)}, frozen

  def step(
    self,
    state: State,
    frozen: Params,
    values: Float[Array, "b s c"],
    span: Int[Array, "b w 2"],
    target: Num[Array, "b w"],
    weight: Float[Array, "b w"],
  ) -> tuple[State, Float[Array, ""]]:
    """One update, and the loss before it."""

    def loss(params: Params) -> Float[Array, ""]:
      return (weight * losses(self.network.forward(params | frozen, values, span), target)).sum() / weight.sum()

    value, gradient = jax.value_and_grad(loss)(state["params"])
    updates, optimizer = self.optimizer.update(gradient, state["optimizer"], state["params"])
    return {"params": optax.apply_updates(state["params"], updates), "optimizer": optimizer}, value

  def predict(self, params: Params, examples: TrainingExamples) -> Float[np.ndarray, "n w outputs"]:
    """The network's outputs."""
    return self._of_all(self._forward, params, examples)

  def pooled(self, params: Params, examples: TrainingExamples) -> Float[np.ndarray, "n w width"]:
    """What the head reads."""
    return self._of_all(self._pooled, params, examples)

  def _of_all(
    self, function: Callable[..., Array], params: Params, examples: TrainingExamples
  ) -> Float[np.ndarray, "n w k"]:
    """In batches of one shape: the last one is filled up with its first example."""
    trained, frozen = self.network.split(params)
    size, found = self.config.batch_size, []
    for start in range(0, len(examples), size):
      rows = np.arange(start, start + size)
      values, span, _, _ = examples.batch(np.where(rows < len(examples), rows, start))
      found.append(function(trained, frozen, values, span))
    return np.concatenate(jax.device_get(found))[: len(examples)]

  def fit(
    self,
    train: TrainingExamples,
    tune: TrainingExamples,
    seed: int,
    progress: Callable[[int], Any] = lambda steps: None,
    head: Params | None = None,
  ) -> Fitted:
    """Trains until the tune people's loss has not fallen for config.patience looks, or for config.steps.

    Args:
      head: parameters of the head to start from, which is then looked at before the first step too: what training
        does not better is kept.

    Raises:
      ConfigError: no look found a finite loss.
    """
    config = self.config
    state, frozen = self.init(seed)
    batches = order(len(train), config.batch_size, seed)
    best, best_step, best_loss, looks, since, curve = state["params"], 0, math.inf, 0, [], []
    if head is not None:
      state["params"] |= {name: jnp.array(leaf) for name, leaf in head.items()}
      best_loss = self.loss(state["params"] | frozen, tune)
      best = jax.tree.map(jnp.copy, state["params"])
    for step in range(1, config.steps + 1):
      state, loss = self._step(state, frozen, *train.batch(next(batches)))
      since.append(loss)
      if step % config.tune_every and step != config.steps:
        continue
      tune_loss = self.loss(state["params"] | frozen, tune)
      curve.append((step, float(np.mean(jax.device_get(since))), tune_loss))
      since, looks = [], looks + 1
      progress(step)
      if tune_loss < best_loss:
        best, best_step, best_loss, looks = jax.tree.map(jnp.copy, state["params"]), step, tune_loss, 0
      elif looks >= config.patience:
        break
    if not math.isfinite(best_loss):
      raise ConfigError("fine-tuning: the loss of the tune people is never finite; lower config.finetune.learning_rate")
    return Fitted(dict(best) | frozen, best_step, curve[-1][0], curve)

  def loss(self, params: Params, examples: TrainingExamples) -> float:
    """Weighted mean loss."""
    errors = losses(jnp.asarray(self.predict(params, examples)), jnp.asarray(examples.target))
    return float((errors * examples.weight).sum() / examples.weight.sum())


def order(days: int, batch: int, seed: int) -> Iterator[Int[np.ndarray, " batch"]]:
  """Endless batches of day numbers: every day once before any comes again, in a new order each time."""
  rng = np.random.default_rng(seed)
  waiting = np.empty(0, int)
  while True:
    while len(waiting) < batch:
      waiting = np.concatenate([waiting, rng.permutation(days)])
    yield waiting[:batch]
    waiting = waiting[batch:]
