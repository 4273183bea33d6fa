"""Small networks and examples for the tests of fine-tuning."""

from __future__ import annotations

import ml_collections
import numpy as np

from aim.evaluation.finetuning.examples import TrainingExamples
from aim.evaluation.finetuning.networks import Network, encoder_network
from aim.inference.pretrained import Pretrained
from aim.model.buffer_sizes import textbook
from experiments import default
from tests.inference.test_pretrained import days, pretrained

LAYERS = 3
SIZES = textbook(24, 0, "all")  # 3 channels, 8 patches


def trained() -> Pretrained:
  """A model with random parameters."""
  return pretrained(model__encoder__layers=LAYERS)


def config(**changes) -> ml_collections.ConfigDict:
  """config.finetune for a short training."""
  finetune = default.get_config().finetune
  finetune.update({"batch_size": 8, "steps": 40, "tune_every": 10, "weight_decay": 0.0} | changes)
  return finetune


def examples(rows: int = 8, classes: int = 2, seed: int = 0) -> TrainingExamples:
  """One day per row, whose class alternates."""
  span = np.tile([0, 24], (rows, 1, 1))
  target = np.arange(rows)[:, None] % classes
  return TrainingExamples(days(rows, seed=seed), np.arange(rows), span, target, np.ones((rows, 1), np.float32))


def encoder(layers: int = -1, decay: float = 1.0, pretrained: bool = True, outputs: int = 2) -> Network:
  """The encoder of `trained()` under a head."""
  return encoder_network(trained(), outputs, SIZES, pretrained, layers, decay)
