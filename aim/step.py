"""The pretraining step: a pure function of (state, tokens), the same for every mesh and all buffer sizes."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from jaxtyping import Array, Float, Int

from aim import flops, loss, model, patches, sizes
from aim.masking import Masking, TokenSet, training_tokens
from aim.patches import Scale
from aim.sizes import Sizes

State = dict[str, Any]
"""{"params": {name: array}, "optimizer": optax state, "ema": {name: array} or {}, "step": int32}"""


def fresh_state(optimizer: optax.GradientTransformation, params: dict, averaged: bool) -> State:
  """A train state before its first step; a moving average, where it is to have one, starts at the parameters."""
  ema = jax.tree.map(jnp.copy, params) if averaged else {}
  return {"params": params, "optimizer": optimizer.init(params), "ema": ema, "step": jnp.int32(0)}


def microbatches(tree: Any, count: int) -> Any:
  """Arrays [b, ...] as [count, b / count, ...], strided: each device's windows stay on that device."""
  return jax.tree.map(lambda x: x.reshape(-1, count, *x.shape[1:]).swapaxes(0, 1), tree)


def following(step: jax.Array, ema: float) -> jax.Array:
  """How much of the way to the parameters a moving average of them goes in a step."""
  # Early on the average follows closely, or it would remember the initial weights for 1 / (1 - ema) steps.
  return jnp.maximum(1.0 - ema, 1.0 / (10.0 + step))


def update(
  optimizer: optax.GradientTransformation, state: State, grads: dict, loss: jax.Array, ema_rate: jax.Array
) -> tuple[State, dict[str, jax.Array]]:
  """The state after a step by the gradient, and what to tell of it.

  A NaN or Inf in loss or gradient changes nothing but the step number; "bad" tells which gradients, sorted by name. A
  moving average, where the state has one, goes ema_rate of its way to the parameters.
  """
  bad = jnp.stack([~jnp.isfinite(grads[name]).all() for name in sorted(grads)])
  ok = ~bad.any() & jnp.isfinite(loss)
  updates, optimizer_state = optimizer.update(grads, state["optimizer"], state["params"])
  params = optax.apply_updates(state["params"], updates)
  ema = jax.tree.map(lambda e, p: ema_rate * (p - e) + e, state["ema"], params if state["ema"] else {})
  fresh = {"params": params, "optimizer": optimizer_state, "ema": ema}
  kept = {name: state[name] for name in fresh}
  state = jax.tree.map(lambda new, old: jnp.where(ok, new, old), fresh, kept) | {"step": state["step"] + 1}
  return state, {"gradient_norm": optax.global_norm(grads), "bad": bad, "ok": ok}


@dataclasses.dataclass(frozen=True)
class Step:
  """What is fixed during a run: everything the jitted functions close over.

  Attributes:
    accumulate: microbatches a step.
    impute: what fills holes before the step, config.data.impute (aim/patches.py, read).
    groups: packed buffers a microbatch (aim/sizes.py), 0 for padded ones.
  """

  architecture: model.Architecture
  masking: Masking
  scale: Scale
  optimizer: optax.GradientTransformation
  accumulate: int = 1
  groups: int = 0
  ema: float = 0.0
  impute: str = "none"

  @functools.cached_property
  def graph(self) -> nnx.GraphDef:
    return model.abstract(self.architecture)[0]

  def init(self, key: jax.Array) -> State:
    """A fresh train state."""
    _, params = model.split(model.Lsm2(self.architecture, nnx.Rngs(key)))
    return fresh_state(self.optimizer, params, averaged=bool(self.ema))

  def draw(
    self, key: jax.Array, step: jax.Array, values: Float[Array, "b s c"]
  ) -> tuple[TokenSet, Int[Array, " 3"], Int[Array, "b 3"]]:
    """Hides part of each window; also returns the rows its buffers need, and each window's token counts."""
    a = self.architecture
    z, observed = (patches.fold(x, a.patch_channels) for x in patches.read(self.scale, values, self.impute))
    tokens = training_tokens(jax.random.fold_in(key, step), self.masking, z, observed, a.cells)
    counts = sizes.token_counts(tokens)
    return tokens, sizes.needed(counts, self.groups, self.accumulate), counts

  def train(self, buffers: Sizes, state: State, tokens: TokenSet) -> tuple[State, dict[str, jax.Array]]:
    """One update. A gradient with a NaN or Inf changes nothing but the step number; metrics["bad"] tells which."""
    total, count, grads = self._gradient(buffers, state["params"], tokens)
    scored = jnp.maximum(count, 1.0)
    grads = jax.tree.map(lambda g: g / scored, grads)
    state, told = update(self.optimizer, state, grads, total, following(state["step"], self.ema))
    metrics = told | {
      "loss": total / scored,
      "scored_steps": count,
      "visible_tokens": tokens.visible_lengths.sum(),
      "scored_tokens": tokens.scored_lengths.sum(),
      "useful_flops": flops.useful_flops(self.architecture, sizes.token_counts(tokens)),
    }
    return state, metrics

  def _gradient(self, buffers: Sizes, params: dict, tokens: TokenSet) -> tuple[jax.Array, jax.Array, dict]:
    """Sum of errors, number of scored steps, gradient of the sum, over `accumulate` microbatches."""

    def error(params: dict, tokens: TokenSet) -> tuple[jax.Array, jax.Array]:
      lsm2 = model.merge(self.graph, params)
      return loss.token_error(lsm2, tokens, jnp.asarray(self.scale.binary), buffers)

    def add(carry: tuple, part: TokenSet) -> tuple[tuple, None]:
      (total, count), grads = jax.value_and_grad(error, has_aux=True)(params, part)
      return jax.tree.map(jnp.add, carry, (total, count, grads)), None

    if self.accumulate == 1:
      (total, count), grads = jax.value_and_grad(error, has_aux=True)(params, tokens)
      return total, count, grads
    zero = (jnp.float32(0), jnp.float32(0), jax.tree.map(jnp.zeros_like, params))
    return jax.lax.scan(add, zero, microbatches(tokens, self.accumulate))[0]
