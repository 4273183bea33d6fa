"""The pretraining step: a pure function of (state, tokens), the same for every mesh and every token budget."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jaxtyping import Array, Float

from aim import loss, model
from aim.masking import Masking, TokenSet, training_tokens
from aim.patches import Scale
from data_pipelines.schema import UserError

State = dict[str, Any]
"""{"params": {name: array}, "optimizer": optax state, "ema": {name: array} or {}, "step": int32}"""


@dataclasses.dataclass(frozen=True)
class Step:
  """What is fixed during a run: everything the jitted functions close over."""

  architecture: model.Architecture
  masking: Masking
  scale: Scale
  optimizer: optax.GradientTransformation
  accumulate: int = 1
  ema: float = 0.0

  @functools.cached_property
  def graph(self) -> nnx.GraphDef:
    return model.abstract(self.architecture)[0]

  def init(self, key: jax.Array) -> State:
    """A fresh train state."""
    _, params = model.split(model.Lsm2(self.architecture, nnx.Rngs(key)))
    ema = jax.tree.map(jnp.copy, params) if self.ema else {}
    return {"params": params, "optimizer": self.optimizer.init(params), "ema": ema, "step": jnp.int32(0)}

  def draw(self, key: jax.Array, step: jax.Array, values: Float[Array, "b s c"]) -> tuple[TokenSet, jax.Array]:
    """Hides part of each window; also returns the largest number of visible tokens, which sizes the encoder."""
    z, observed = self.scale.normalise(values)
    tokens = training_tokens(jax.random.fold_in(key, step), self.masking, z, observed, self.architecture.patch)
    return tokens, tokens.visible_lengths.max()

  def train(self, encoder_tokens: int, state: State, tokens: TokenSet) -> tuple[State, dict[str, jax.Array]]:
    """One update. A gradient with a NaN or Inf changes nothing but the step number; metrics["bad"] tells which."""
    total, count, grads = self._gradient(encoder_tokens, state["params"], tokens)
    scored = jnp.maximum(count, 1.0)
    grads = jax.tree.map(lambda g: g / scored, grads)
    bad = jnp.stack([~jnp.isfinite(grads[name]).all() for name in sorted(grads)])
    ok = ~bad.any() & jnp.isfinite(total)
    updates, optimizer_state = self.optimizer.update(grads, state["optimizer"], state["params"])
    params = optax.apply_updates(state["params"], updates)
    ema = jax.tree.map(
      lambda e, p: self._ema_rate(state["step"]) * (p - e) + e, state["ema"], params if self.ema else {}
    )
    fresh = {"params": params, "optimizer": optimizer_state, "ema": ema}
    kept = {name: state[name] for name in fresh}
    state = jax.tree.map(lambda new, old: jnp.where(ok, new, old), fresh, kept) | {"step": state["step"] + 1}
    metrics = {
      "loss": total / scored,
      "scored_steps": count,
      "gradient_norm": optax.global_norm(grads),
      "visible_tokens": tokens.visible_lengths.sum(),
      "scored_tokens": tokens.scored_lengths.sum(),
      "bad": bad,
      "ok": ok,
    }
    return state, metrics

  def _ema_rate(self, step: jax.Array) -> jax.Array:
    # Early on the average follows closely, or it would remember the initial weights for 1 / (1 - ema) steps.
    return jnp.maximum(1.0 - self.ema, 1.0 / (10.0 + step))

  def _gradient(self, encoder_tokens: int, params: dict, tokens: TokenSet) -> tuple[jax.Array, jax.Array, dict]:
    """Sum of errors, number of scored steps, gradient of the sum, over `accumulate` microbatches."""

    def error(params: dict, tokens: TokenSet) -> tuple[jax.Array, jax.Array]:
      lsm2 = model.merge(self.graph, params)
      return loss.token_error(lsm2, tokens, jnp.asarray(self.scale.binary), encoder_tokens)

    def add(carry: tuple, part: TokenSet) -> tuple[tuple, None]:
      (total, count), grads = jax.value_and_grad(error, has_aux=True)(params, part)
      return jax.tree.map(jnp.add, carry, (total, count, grads)), None

    if self.accumulate == 1:
      (total, count), grads = jax.value_and_grad(error, has_aux=True)(params, tokens)
      return total, count, grads
    # Strided microbatches keep each device's windows on that device.
    parts = jax.tree.map(lambda x: x.reshape(-1, self.accumulate, *x.shape[1:]).swapaxes(0, 1), tokens)
    zero = (jnp.float32(0), jnp.float32(0), jax.tree.map(jnp.zeros_like, params))
    return jax.lax.scan(add, zero, parts)[0]


def encoder_buckets(tokens: int, dropped: int, form: str, count: int = 6) -> tuple[int, ...]:
  """Static encoder lengths: N - D alone for the textbook form, a few sizes up to it for the trimmed one.

  Sizes are multiples of 128 on long days (what TPU kernels want) and of 8 on short ones, evenly spaced.
  """
  largest = tokens - dropped
  if form == "textbook":
    return (largest,)
  if form != "trimmed":
    raise UserError(f"config.encoder_form is {form!r}, expected 'textbook' or 'trimmed'")
  unit = 128 if largest >= 1024 else 8
  sizes = {min(largest, int(np.ceil(largest * i / count / unit)) * unit) for i in range(1, count + 1)}
  return tuple(sorted(sizes))
