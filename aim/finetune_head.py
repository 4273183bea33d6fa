"""The head that fine-tuning a pretrained encoder starts from: its linear probe.

Under a random head the first steps distort what the encoder knows (Kumar et al. 2022, "Fine-tuning can distort
pretrained features and underperform out-of-distribution", LP-FT).
"""

from __future__ import annotations

from collections.abc import Sequence

import jax.numpy as jnp
import ml_collections
import numpy as np
from jaxtyping import Float

from aim import linear
from aim.finetune_data import Scaling, slots
from aim.finetune_network import HEAD, Params
from aim.labels import Rows, Task
from aim.linear import Training

LEAST = -10.0  # logit of a class that no training row has: most unlikely, yet it can be learnt


def probe_head(
  task: Task,
  scaling: Scaling,
  rows: Rows,
  participant: np.ndarray,
  inputs: Float[np.ndarray, "n w width"],
  strengths: Sequence[float],
  pca: int,
  balanced: bool,
) -> Params:
  """Parameters of a head that says of the training rows what a ridge or logistic regression does.

  Its regularisation is chosen in a cross-validation over the training people: those of tune tell when to stop, and are
  not fitted to. The head's scale and bias standardise, its linear layer is the regression.

  Args:
    scaling: how targets are put to the network.
    rows: the training rows, and participant: whose each day is.
    inputs: what the head reads of the examples that scaling.examples() made of `rows`.
    strengths: of the penalty, to choose from.
    pca: as config.probe.pca.
  """
  _, index, slot = slots(rows)
  config = ml_collections.ConfigDict({"pca": pca, "strengths": tuple(strengths), "balanced": balanced})
  nobody = np.zeros(len(index), bool)
  probe = linear.fit_linear(
    config, task, Training(inputs[index, slot], rows.truth, participant[rows.day].astype(str), nobody)
  )
  weights, intercept = probe.weights, np.maximum(probe.intercept, LEAST if task.classes else -np.inf)
  if not task.classes:
    weights, intercept = weights / scaling.sd, (intercept - scaling.mean) / scaling.sd
  found = {
    "scale": 1 / probe.scale,
    "bias": -probe.mean / probe.scale,
    "linear/kernel": weights.T,
    "linear/bias": intercept,
  }
  return {HEAD + name: jnp.asarray(leaf, jnp.float32) for name, leaf in found.items()}
