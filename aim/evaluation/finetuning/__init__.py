"""The encoder trained on labels, compared with the same network and a ResNet trained from scratch.

`run` is --mode=finetune.
"""

from aim.evaluation.finetuning.cells import FinetuneCell
from aim.evaluation.finetuning.examples import LabelledDays, TargetScaling, TrainingExamples
from aim.evaluation.finetuning.heads import Head, probe_head
from aim.evaluation.finetuning.label_budget import LabelBudget, LabelledPeople
from aim.evaluation.finetuning.learning_curve import draw_learning_curves
from aim.evaluation.finetuning.networks import Network, encoder_network, resnet_network
from aim.evaluation.finetuning.run import run_finetune
from aim.evaluation.finetuning.trainer import Fitted, Trainer

__all__ = [
  "FinetuneCell",
  "Fitted",
  "Head",
  "LabelBudget",
  "LabelledDays",
  "LabelledPeople",
  "Network",
  "TargetScaling",
  "Trainer",
  "TrainingExamples",
  "draw_learning_curves",
  "encoder_network",
  "probe_head",
  "resnet_network",
  "run_finetune",
]
