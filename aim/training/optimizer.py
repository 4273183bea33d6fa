"""AdamW as masked autoencoders are trained: warm-up, then a cosine; biases, norms and tokens are not decayed."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import ml_collections
import optax

# (pattern of the name, whether weight decay applies); the first match wins, and every parameter must match one.
DECAYED: tuple[tuple[str, bool], ...] = ((r"kernel$", True), (r"(bias|scale|mask_token|prototypes)$", False))


def schedule(config: ml_collections.ConfigDict, total_steps: int) -> Callable[[Any], Any]:
  """The learning rate as a function of the step: linear warm-up over config.warmup_share of the steps, cosine to 0.

  Args:
    config: config.optimizer.
    total_steps: of the run.
  """
  warmup = max(1, round(config.warmup_share * total_steps))
  return optax.warmup_cosine_decay_schedule(0.0, config.learning_rate, warmup, max(total_steps, warmup + 1), 0.0)


def decay_mask(params: dict[str, Any]) -> dict[str, bool]:
  """Which parameters weight decay applies to.

  Raises:
    ValueError: no rule of DECAYED matches a parameter's name.
  """

  def is_decayed(name: str) -> bool:
    for pattern, decays in DECAYED:
      if re.search(pattern, name):
        return decays
    raise ValueError(f"aim/training/optimizer.py: no weight-decay rule matches parameter {name!r}")

  return {name: is_decayed(name) for name in params}


def make_optimizer(config: ml_collections.ConfigDict, total_steps: int) -> optax.GradientTransformation:
  """AdamW after clipping the global gradient norm to config.clip_norm.

  Args:
    config: config.optimizer.
    total_steps: of the run.
  """
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
