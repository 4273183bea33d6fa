"""The train state and its update by a gradient, the same for every method."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import optax

TrainState = dict[str, Any]

"""{"params": {name: array}, "optimizer": optax state, "ema": {name: array} or {}, "step": int32}"""


def initial_state(optimizer: optax.GradientTransformation, params: dict, averaged: bool) -> TrainState:
  """A train state before its first step; a moving average, where it is to have one, starts at the parameters."""
  ema = jax.tree.map(jnp.copy, params) if averaged else {}
  return {"params": params, "optimizer": optimizer.init(params), "ema": ema, "step": jnp.int32(0)}


def microbatches(tree: Any, count: int) -> Any:
  """Arrays [b, ...] as [count, b / count, ...], strided: each device's windows stay on that device."""
  return jax.tree.map(lambda x: x.reshape(-1, count, *x.shape[1:]).swapaxes(0, 1), tree)


def ema_rate(step: jax.Array, ema: float) -> jax.Array:
  """How much of the way to the parameters a moving average of them goes in a step."""
  # Early on the average follows closely, or it would remember the initial weights for 1 / (1 - ema) steps.
  return jnp.maximum(1.0 - ema, 1.0 / (10.0 + step))


def update(
  optimizer: optax.GradientTransformation, state: TrainState, grads: dict, loss: jax.Array, rate: jax.Array
) -> tuple[TrainState, dict[str, jax.Array]]:
  """The state after a step by the gradient, and what to tell of it.

  A NaN or Inf in loss or gradient changes nothing but the step number; "bad" tells which gradients, sorted by name. A
  moving average, where the state has one, goes `rate` of its way to the parameters.
  """
  bad = jnp.stack([~jnp.isfinite(grads[name]).all() for name in sorted(grads)])
  ok = ~bad.any() & jnp.isfinite(loss)
  updates, optimizer_state = optimizer.update(grads, state["optimizer"], state["params"])
  params = optax.apply_updates(state["params"], updates)
  ema = jax.tree.map(lambda e, p: rate * (p - e) + e, state["ema"], params if state["ema"] else {})
  fresh = {"params": params, "optimizer": optimizer_state, "ema": ema}
  kept = {name: state[name] for name in fresh}
  state = jax.tree.map(lambda new, old: jnp.where(ok, new, old), fresh, kept) | {"step": state["step"] + 1}
  return state, {"gradient_norm": optax.global_norm(grads), "bad": bad, "ok": ok}
