"""The train state and its update by a gradient, the same for every method."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int

TrainState = dict[str, Any]

"""{"params": {name: array}, "optimizer": optax state, "ema": {name: array} or {}, "step": int32}"""


def initial_state(optimizer: optax.GradientTransformation, params: dict[str, Array], averaged: bool) -> TrainState:
  """A train state before its first step; if `averaged`, a moving average of the parameters starts at `params`."""
  ema = jax.tree.map(jnp.copy, params) if averaged else {}
  return {"params": params, "optimizer": optimizer.init(params), "ema": ema, "step": jnp.int32(0)}


def microbatches(tree: Any, count: int) -> Any:
  """Splits arrays [b, ...] into [count, b / count, ...] with a stride: each device's windows stay on that device."""
  return jax.tree.map(lambda x: x.reshape(-1, count, *x.shape[1:]).swapaxes(0, 1), tree)


def ema_rate(step: Int[Array, ""], decay: float) -> Float[Array, ""]:
  """The share of the way to the parameters that their moving average goes in one step."""
  # Early on the average follows closely; otherwise it would remember the initial weights for 1 / (1 - decay) steps.
  return jnp.maximum(1.0 - decay, 1.0 / (10.0 + step))


def update(
  optimizer: optax.GradientTransformation,
  state: TrainState,
  grads: dict[str, Array],
  loss: Float[Array, ""],
  rate: Float[Array, ""],
) -> tuple[TrainState, dict[str, Array]]:
  """Updates the state by a gradient.

  A NaN or Inf in the loss, the gradient or the new parameters changes nothing but the step number.

  Args:
    optimizer: as in initial_state.
    state: before the step.
    grads: one array per parameter.
    loss: of the step.
    rate: from ema_rate, used if the state has a moving average.

  Returns:
    The state after the step, and metrics: "gradient_norm"; "bad", bool [parameters], which gradients have a NaN or
    Inf, sorted by name; "ok", whether the update was made.
  """
  bad = jnp.stack([~jnp.isfinite(grads[name]).all() for name in sorted(grads)])
  updates, optimizer_state = optimizer.update(grads, state["optimizer"], state["params"])
  params = optax.apply_updates(state["params"], updates)
  finite = jnp.stack([jnp.isfinite(leaf).all() for leaf in params.values()]).all()
  ok = ~bad.any() & jnp.isfinite(loss) & finite
  ema = jax.tree.map(lambda e, p: rate * (p - e) + e, state["ema"], params if state["ema"] else {})
  updated = {"params": params, "optimizer": optimizer_state, "ema": ema}
  unchanged = {name: state[name] for name in updated}
  state = jax.tree.map(lambda new, old: jnp.where(ok, new, old), updated, unchanged) | {"step": state["step"] + 1}
  return state, {"gradient_norm": optax.global_norm(grads), "bad": bad, "ok": ok}
