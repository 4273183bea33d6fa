"""The linear head on top of a network, and how it starts as the linear probe of the frozen encoder."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import ml_collections
import numpy as np
from flax import nnx
from jaxtyping import Array, Float, Shaped

from aim.evaluation.finetuning.examples import TargetScaling, places_in_days
from aim.evaluation.probing import learners
from aim.evaluation.probing.label_tasks import LabelRows, LabelTask
from aim.evaluation.probing.learners import FitData
from aim.model import lsm2
from aim.model.layers import Dense

HEAD = "classifier/"  # prefix of the head's parameters
UNSEEN_LOGIT = -10.0  # of a class without training rows: unlikely, but finite, so that it can be learnt

Params = dict[str, Array]


class Head(nnx.Module):
  """An affine map of each input and a linear layer, in float32; an unknown (NaN) input counts as 0 between the two."""

  def __init__(self, width: int, outputs: int, rngs: nnx.Rngs):
    self.scale = nnx.Param(jnp.ones(width))
    self.bias = nnx.Param(jnp.zeros(width))
    self.linear = Dense(width, outputs, jnp.float32, rngs)

  def __call__(self, x: Float[Array, "... d"]) -> Float[Array, "... outputs"]:
    """x: NaN where unknown."""
    # NaN is replaced before the map as well, because NaN times 0 is NaN in a gradient too.
    mapped = jnp.where(jnp.isnan(x), 0.0, x) * self.scale.get_value() + self.bias.get_value()
    return self.linear(jnp.where(jnp.isnan(x), 0.0, mapped))


def fresh_head(width: int, outputs: int, rngs: nnx.Rngs) -> Params:
  """Parameters of a head, under HEAD."""
  return _under_head(flatten(Head(width, outputs, rngs)))


def head_names(width: int, outputs: int) -> list[str]:
  """Names of a head's parameters."""
  return list(_under_head(flatten(_shapes(width, outputs))))


def apply_head(
  params: Params, inputs: Float[Array, "... width"], width: int, outputs: int
) -> Float[Array, "... outputs"]:
  """The head's outputs; `params` may hold other parameters too."""
  own = {name.removeprefix(HEAD): leaf for name, leaf in params.items() if name.startswith(HEAD)}
  return lsm2.merge(nnx.graphdef(_shapes(width, outputs)), own)(inputs)


def probe_head(
  task: LabelTask,
  scaling: TargetScaling,
  rows: LabelRows,
  participant: Shaped[np.ndarray, " d"],
  inputs: Float[np.ndarray, "n w width"],
  strengths: Sequence[float],
  pca: int,
  balanced: bool,
) -> Params:
  """Parameters of a head that predicts what the linear probe of the training rows predicts.

  The probe's penalty is chosen by cross-validation over the training people; no other label is read. The head's scale
  and bias standardise, its linear layer is the ridge or logistic regression. Starting from the probe follows LP-FT
  (Kumar et al. 2022).

  Args:
    scaling: how targets are presented to the network.
    rows: the training rows.
    participant: the person of each day that rows.day may refer to.
    inputs: what the head reads of the examples that scaling.examples() made of `rows`.
    strengths: penalties to choose from.
    pca: as config.probe.pca.
    balanced: every class counts alike in the probe's fit.
  """
  _, index, place = places_in_days(rows)
  config = ml_collections.ConfigDict({"pca": pca, "strengths": tuple(strengths), "balanced": balanced})
  no_tune_rows = np.zeros(len(index), bool)
  data = FitData(inputs[index, place], rows.truth, participant[rows.day].astype(str), no_tune_rows)
  probe = learners.fit_linear(config, task, data)
  weights, intercept = probe.weights, np.maximum(probe.intercept, UNSEEN_LOGIT if task.classes else -np.inf)
  if not task.classes:
    weights, intercept = weights / scaling.sd, (intercept - scaling.mean) / scaling.sd
  params = {
    "scale": 1 / probe.scale,
    "bias": -probe.mean / probe.scale,
    "linear/kernel": weights.T,
    "linear/bias": intercept,
  }
  return {HEAD + name: jnp.asarray(leaf, jnp.float32) for name, leaf in params.items()}


def flatten(module: nnx.Module) -> dict[str, Any]:
  """A module's parameters by name, for example "blocks/0/conv1/kernel"; shapes where the module has only shapes."""
  state = nnx.to_flat_state(nnx.state(module, nnx.Param))
  return {"/".join(map(str, path)): leaf.get_value() for path, leaf in state}


def _shapes(width: int, outputs: int) -> Head:
  return nnx.eval_shape(lambda: Head(width, outputs, nnx.Rngs(0)))


def _under_head(params: dict[str, Any]) -> dict[str, Any]:
  return {HEAD + name: leaf for name, leaf in params.items()}
