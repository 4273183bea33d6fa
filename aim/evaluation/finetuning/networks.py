"""What is fine-tuned: the encoder or a ResNet-1D under a linear head, as pure functions of flat parameters."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
from flax import nnx
from jaxtyping import Array, Float, Int

from aim.evaluation.finetuning import resnet
from aim.evaluation.finetuning.examples import Scaling, slots
from aim.evaluation.probing import learners
from aim.evaluation.probing.label_tasks import LabelRows, LabelTask
from aim.evaluation.probing.learners import FitData
from aim.inference.pretrained import Pretrained
from aim.inference.window_embeddings import sums_by_time
from aim.model import lsm2, patches
from aim.model.buffer_sizes import BufferSizes
from aim.model.layers import Dense, normalised

NETWORKS = ("encoder", "resnet")
HEAD = "classifier/"
Params = dict[str, Array]


@dataclasses.dataclass(frozen=True)
class Network:
  """A function of days, and which of its parameters are trained how fast.

  Attributes:
    init: all parameters from a key.
    pooled: (all parameters, values [b, s, c] in physical units with NaN holes, span [b, w, 2]) -> [b, w, width]: what
      the head reads of the steps [start, end) of each day, of which the whole is read.
    width, outputs: of the head.
    rates: learning-rate factor of each trained parameter; those not named stay as they are.
  """

  init: Callable[[jax.Array], Params]
  pooled: Callable[[Params, Float[Array, "b s c"], Int[Array, "b w 2"]], Float[Array, "b w width"]]
  width: int
  outputs: int
  rates: dict[str, float]

  def forward(
    self, params: Params, values: Float[Array, "b s c"], span: Int[Array, "b w 2"]
  ) -> Float[Array, "b w outputs"]:
    """What is said of each span."""
    return _head(params, self.width, self.outputs)(self.pooled(params, values, span))

  def split(self, params: Params) -> tuple[Params, Params]:
    """The trained parameters, and the frozen ones."""
    trained = {name: leaf for name, leaf in params.items() if name in self.rates}
    return trained, {name: leaf for name, leaf in params.items() if name not in self.rates}


class Head(nnx.Module):
  """An affine map of each input and a linear layer, in float32; an unknown (NaN) input counts as 0 between the two."""

  def __init__(self, width: int, outputs: int, rngs: nnx.Rngs):
    self.scale = nnx.Param(jnp.ones(width))
    self.bias = nnx.Param(jnp.zeros(width))
    self.linear = Dense(width, outputs, jnp.float32, rngs)

  def __call__(self, x: Float[Array, "... d"]) -> Float[Array, "... outputs"]:
    # The unknown ones are taken out first: NaN times nothing is NaN in a gradient too.
    known = jnp.where(jnp.isnan(x), 0.0, x) * self.scale.get_value() + self.bias.get_value()
    return self.linear(jnp.where(jnp.isnan(x), 0.0, known))


def encoder_network(
  trained: Pretrained,
  outputs: int,
  sizes: BufferSizes,
  pretrained: bool = True,
  layers: int = -1,
  layer_decay: float = 1.0,
) -> Network:
  """The encoder on a day's observed tokens, each channel's mean, and the head (AIM, "evaluation"): the inherited mask
  alone. A channel without a token is unknown to the head.

  A model of imputed days (LSM-1) reads them imputed, here too.

  Args:
    trained: gives architecture and scale, and with `pretrained` the parameters to start from.
    sizes: buffers that hold the observed tokens of every day that will be asked for.
    layers: how many of the last blocks are trained with the head; -1: all of them and the patch embedding.
    layer_decay: see `rates`.
  """
  architecture = trained.architecture
  width = trained.embedding_width("channel")
  shapes = lsm2.abstract(architecture)[1]

  def init(key: jax.Array) -> Params:
    body_key, head_key = jax.random.split(key)
    body = trained.params if pretrained else flatten(lsm2.build(architecture, nnx.Rngs(body_key)))
    return dict(body) | _prefixed(flatten(Head(width, outputs, nnx.Rngs(head_key))))

  def pooled(params: Params, values: Float[Array, "b s c"], span: Int[Array, "b w 2"]) -> Float[Array, "b w width"]:
    encoded = trained.encode({name: params[name] for name in shapes}, values, sizes)
    sums = sums_by_time(encoded, architecture)
    return mean_within(sums, architecture.patch, span).reshape(*span.shape[:2], -1)

  names = [*shapes, *_prefixed(flatten(_head_shapes(width, outputs)))]
  return Network(init, pooled, width, outputs, rates(names, architecture.encoder.layers, layers, layer_decay))


def resnet_network(trained: Pretrained, outputs: int, impute: str = "none") -> Network:
  """A ResNet-1D with about as many parameters as the encoder of `trained`, from scratch; every parameter is trained.

  Args:
    impute: "none": holes are 0 beside the observed flags; "linear": days are imputed first, as those of the paper's
      supervised baselines are.
  """
  channels = len(trained.schema.channels)
  width = resnet.width_of(channels, encoder_size(trained.architecture))
  make = lambda rngs: resnet.ResNet(channels, width, rngs)
  body = nnx.eval_shape(lambda: make(nnx.Rngs(0)))
  graph, features = nnx.graphdef(body), resnet.features(width)

  def init(key: jax.Array) -> Params:
    body_key, head_key = jax.random.split(key)
    head = _prefixed(flatten(Head(features, outputs, nnx.Rngs(head_key))))
    return flatten(make(nnx.Rngs(body_key))) | head

  def pooled(params: Params, values: Float[Array, "b s c"], span: Int[Array, "b w 2"]) -> Float[Array, "b w width"]:
    z, observed = patches.normalised_days(trained.scale, values, impute)
    mine = {name: leaf for name, leaf in params.items() if not name.startswith(HEAD)}
    x = lsm2.merge(graph, mine)(z, observed)
    sums = jnp.concatenate([x, jnp.ones((*x.shape[:2], 1))], axis=-1)[:, None]
    mean = mean_within(sums, values.shape[1] / x.shape[1], span)[:, :, 0]
    return normalised(mean.reshape(-1, features), jnp.ones(features), jnp.zeros(features)).reshape(mean.shape)

  names = [*flatten(body), *_prefixed(flatten(_head_shapes(features, outputs)))]
  return Network(init, pooled, features, outputs, dict.fromkeys(names, 1.0))


def mean_within(sums: Float[Array, "b g length d"], patch: float, span: Int[Array, "b w 2"]) -> Float[Array, "b w g e"]:
  """Each channel's mean of the tokens that overlap each span; where none of any channel does, of the whole day.

  Args:
    sums: as sums_by_time gives them, d = e + 1; the time t covers the steps [t * patch, (t + 1) * patch).
    span: steps [start, end), w of each day.

  Returns:
    NaN where a channel has no token.
  """
  time = jnp.arange(sums.shape[2])
  inside = (time * patch < span[:, :, 1:]) & ((time + 1) * patch > span[:, :, :1])
  found = jnp.einsum("bwl,bgld->bwgd", inside.astype(sums.dtype), sums)
  nothing = found[..., -1].sum(2) == 0
  found = jnp.where(nothing[:, :, None, None], sums.sum(2)[:, None], found)
  count = found[..., -1:]
  return jnp.where(count > 0, found[..., :-1] / jnp.maximum(count, 1), jnp.nan)


def rates(names: list[str], blocks: int, layers: int, decay: float) -> dict[str, float]:
  """Learning-rate factors decay^(depth below the head) of the parameters that are trained.

  The head and the encoder's last norm have 1, the last block `decay`, the one below it decay^2, ..., the patch
  embedding decay^(blocks + 1) (after Clark et al. 2020, ELECTRA, and BEiT, Bao et al. 2022, section 3.1).

  Args:
    names: of all parameters; those of the decoder are never trained.
    blocks: of the encoder.
    layers: last blocks to train; -1: everything. With 0 the encoder's norm stays too: the head alone.
  """
  found = {}
  for name in names:
    depth = _depth(name, blocks)
    if depth is not None and (name.startswith(HEAD) or layers == -1 or 0 <= depth <= layers > 0):
      found[name] = decay**depth
  return found


def _depth(name: str, blocks: int) -> int | None:
  """0 for the head and the last norm, 1 for the last block, ...; None for what the encoder does not read."""
  if name.startswith((HEAD, "encoder/norm/")):
    return 0
  if block := re.match(r"encoder/blocks/(\d+)/", name):
    return blocks - int(block[1])
  return blocks + 1 if name.startswith("patch_embedding/") else None


def encoder_size(architecture: lsm2.Architecture) -> int:
  """Parameters that the encoder reads."""
  shapes = lsm2.abstract(architecture)[1]
  return sum(leaf.size for name, leaf in shapes.items() if _depth(name, architecture.encoder.layers) is not None)


def flatten(module: nnx.Module) -> dict[str, Any]:
  """{"blocks/0/conv1/kernel": array} of a module's parameters."""
  state = nnx.to_flat_state(nnx.state(module, nnx.Param))
  return {"/".join(map(str, path)): leaf.get_value() for path, leaf in state}


def _head_shapes(width: int, outputs: int) -> Head:
  return nnx.eval_shape(lambda: Head(width, outputs, nnx.Rngs(0)))


def _head(params: Params, width: int, outputs: int) -> Head:
  mine = {name.removeprefix(HEAD): leaf for name, leaf in params.items() if name.startswith(HEAD)}
  return lsm2.merge(nnx.graphdef(_head_shapes(width, outputs)), mine)


def _prefixed(params: dict[str, Any]) -> dict[str, Any]:
  return {HEAD + name: leaf for name, leaf in params.items()}


LEAST = -10.0  # logit of a class that no training row has: most unlikely, yet it can be learnt


def probe_head(
  task: LabelTask,
  scaling: Scaling,
  rows: LabelRows,
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
  probe = learners.fit_linear(
    config, task, FitData(inputs[index, slot], rows.truth, participant[rows.day].astype(str), nobody)
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
