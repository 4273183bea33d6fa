"""AdamW as masked autoencoders are trained: warm-up, cosine, no decay on biases, norms, mask token and prototypes."""

from __future__ import annotations

import re
from collections.abc import Callable

import ml_collections
import optax

# First match wins; every parameter must match.
DECAYED: tuple[tuple[str, bool], ...] = ((r"kernel$", True), (r"(bias|scale|mask_token|prototypes)$", False))


def schedule(config: ml_collections.ConfigDict, total_steps: int) -> Callable[[int], float]:
  """Linear warm-up over config.warmup_share of the steps, then cosine to 0."""
  warmup = max(1, round(config.warmup_share * total_steps))
  return optax.warmup_cosine_decay_schedule(0.0, config.learning_rate, warmup, max(total_steps, warmup + 1), 0.0)


def decay_mask(params: dict) -> dict[str, bool]:
  """Which parameters weight decay applies to; ValueError names one that no rule covers."""

  def decayed(name: str) -> bool:
    for pattern, decays in DECAYED:
      if re.search(pattern, name):
        return decays
    raise ValueError(f"aim/training/optimizer.py: no weight-decay rule matches parameter {name!r}")

  return {name: decayed(name) for name in params}


def make_optimizer(config: ml_collections.ConfigDict, total_steps: int) -> optax.GradientTransformation:
  """config is config.optimizer; the global gradient norm is clipped to config.clip_norm."""
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
