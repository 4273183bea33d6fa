"""One training run: the pretraining loop, its steps, the optimiser, checkpoints and logs.

Start at `pretrain`, the loop; `masked_step` and `contrastive_step` are the pure steps that it runs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from aim.runtime.lazy_exports import lazy_getattr

if TYPE_CHECKING:
  from aim.training.checkpoint import Checkpoints, Restored
  from aim.training.checkpoint_metadata import CheckpointError
  from aim.training.contrastive_step import ContrastiveStep
  from aim.training.masked_step import MaskedStep
  from aim.training.metrics_writer import MetricsWriter
  from aim.training.optimizer import make_optimizer
  from aim.training.pretrain import TrainingRun
  from aim.training.train_log import TrainingError, TrainLog

# The function `pretrain` is left out: it would hide the module of that name.
__all__ = [
  "CheckpointError",
  "Checkpoints",
  "ContrastiveStep",
  "MaskedStep",
  "MetricsWriter",
  "Restored",
  "TrainLog",
  "TrainingError",
  "TrainingRun",
  "make_optimizer",
]

_MODULES = {
  "CheckpointError": "checkpoint_metadata",
  "Checkpoints": "checkpoint",
  "ContrastiveStep": "contrastive_step",
  "MaskedStep": "masked_step",
  "MetricsWriter": "metrics_writer",
  "Restored": "checkpoint",
  "TrainLog": "train_log",
  "TrainingError": "train_log",
  "TrainingRun": "pretrain",
  "make_optimizer": "optimizer",
}

# Loaded on first use: configs import aim.training.defaults while flags are parsed, and jax takes seconds.
__getattr__ = lazy_getattr(__name__, _MODULES)
