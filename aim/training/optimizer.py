"""AdamW as masked autoencoders are trained: warm-up, then a cosine; biases, norms and tokens are not decayed."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

import ml_collections
import optax

# (pattern of the name, whether weight decay applies); the first match wins, and every parameter must match one.
DECAYED: tuple[tuple[str, bool], ...] = (
  (r"kernel$", True),
  (r"(bias|scale|mask_token|skip_curves|context_curves|prototypes)$", False),
)


def schedule(config: ml_collections.ConfigDict, total_steps: int) -> Callable[[Any], Any]:
  """The learning rate as a function of the step: linear warm-up over config.warmup_share of the steps, cosine to 0.

  Args:
    config: config.optimizer.
    total_steps: of the run.
  """
  warmup = max(1, round(config.warmup_share * total_steps))
  return optax.warmup_cosine_decay_schedule(0.0, config.learning_rate, warmup, max(total_steps, warmup + 1), 0.0)


def decay_mask(params: dict[str, Any]) -> dict[str, bool]:
  """True for the parameters that weight decay applies to.

  Raises:
    ValueError: no rule of DECAYED matches a parameter's name.
  """

  def is_decayed(name: str) -> bool:
    for pattern, decays in DECAYED:
      if re.search(pattern, name):
        return decays
    raise ValueError(f"aim/training/optimizer.py: no weight-decay rule matches parameter {name!r}")

  return {name: is_decayed(name) for name in params}


def make_optimizer(
  config: ml_collections.ConfigDict, total_steps: int, rates: Mapping[str, float] | None = None
) -> optax.GradientTransformation:
  """AdamW after clipping the global gradient norm to config.clip_norm.

  Args:
    config: config.optimizer.
    total_steps: of the run.
    rates: factors of the learning rate by parameter. A factor of 0 leaves a parameter as it is, without moments of its
      own, and its gradient out of the norm. None: 1 for all.
  """
  optimizer = _adamw(config, total_steps)
  if rates is None or all(rate == 1 for rate in rates.values()):
    return optimizer
  scale = lambda updates, _: {name: optax.tree.scale(rates[name], update) for name, update in updates.items()}
  groups = {name: "trained" if rate else "frozen" for name, rate in rates.items()}
  trained = optax.chain(optimizer, optax.stateless(scale))
  return optax.partition({"trained": trained, "frozen": optax.set_to_zero()}, groups)


def _adamw(config: ml_collections.ConfigDict, total_steps: int) -> optax.GradientTransformation:
  return optax.chain(
    optax.clip_by_global_norm(config.clip_norm),
    optax.adamw(
      schedule(config, total_steps),
      b1=config.b1,
      b2=config.b2,
      weight_decay=config.weight_decay,
      mask=decay_mask,
    ),
  )
