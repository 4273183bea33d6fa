"""Networks to fine-tune: the encoder or a ResNet-1D under a linear head, as pure functions of flat parameters."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import nnx
from jax.sharding import Mesh
from jaxtyping import Array, Float, Int

from aim.evaluation.finetuning import resnet
from aim.evaluation.finetuning.heads import HEAD, Params, apply_head, flatten, fresh_head, head_names
from aim.inference.pretrained import Pretrained
from aim.inference.window_embeddings import sums_by_time
from aim.model import lsm2, patches
from aim.model.buffer_sizes import BufferSizes
from aim.model.layers import normalised


@dataclasses.dataclass(frozen=True)
class Network:
  """A function from days to outputs, and how fast each of its parameters is trained.

  Attributes:
    init: makes all parameters from a key.
    pooled: (all parameters, values [b, s, c] in physical units with NaN holes, span [b, w, 2]) -> [b, w, width], the
      head's input for the steps [start, end) of each day. The network reads the whole day.
    width, outputs: inputs and outputs of the head.
    rates: learning-rate factor of each trained parameter by name; parameters that are not named are frozen.
    mesh: the devices that share the days of a batch.
  """

  init: Callable[[jax.Array], Params]
  pooled: Callable[[Params, Float[Array, "b s c"], Int[Array, "b w 2"]], Float[Array, "b w width"]]
  width: int
  outputs: int
  rates: dict[str, float]
  mesh: Mesh

  def forward(
    self, params: Params, values: Float[Array, "b s c"], span: Int[Array, "b w 2"]
  ) -> Float[Array, "b w outputs"]:
    """The head's outputs for each span."""
    return apply_head(params, self.pooled(params, values, span), self.width, self.outputs)

  def split(self, params: Params) -> tuple[Params, Params]:
    """The trained parameters, and the frozen ones."""
    trained = {name: leaf for name, leaf in params.items() if name in self.rates}
    return trained, {name: leaf for name, leaf in params.items() if name not in self.rates}


def encoder_network(
  trained: Pretrained,
  outputs: int,
  sizes: BufferSizes,
  pretrained: bool = True,
  layers: int = -1,
  layer_decay: float = 1.0,
) -> Network:
  """The encoder on a day's observed tokens, averaged per channel, under the head (AIM, "evaluation").

  Nothing is hidden or dropped: attention is masked by what was inherited as missing, and by nothing else. A channel
  without a token is unknown to the head. A model of imputed days (LSM-1) reads imputed days here too.

  Args:
    trained: gives the architecture, the scale and, if `pretrained`, the parameters to start from.
    outputs: outputs of the head.
    sizes: buffers that hold the observed tokens of every day that will be read.
    pretrained: start from the parameters of `trained` rather than from fresh ones.
    layers: number of last encoder layers that are trained with the head; -1: all of them and the patch embedding.
    layer_decay: see `learning_rate_factors`.
  """
  architecture = trained.architecture
  width = trained.embedding_width("channel")
  shapes = lsm2.abstract(architecture)[1]

  def init(key: jax.Array) -> Params:
    body_key, head_key = jax.random.split(key)
    body = trained.params if pretrained else flatten(lsm2.build(architecture, nnx.Rngs(body_key)))
    return dict(body) | fresh_head(width, outputs, nnx.Rngs(head_key))

  def pooled(params: Params, values: Float[Array, "b s c"], span: Int[Array, "b w 2"]) -> Float[Array, "b w width"]:
    encoded = trained.encode({name: params[name] for name in shapes}, values, sizes)
    sums = sums_by_time(encoded, architecture)
    return mean_within(sums, architecture.patch, span).reshape(*span.shape[:2], -1)

  names = [*shapes, *head_names(width, outputs)]
  factors = learning_rate_factors(names, architecture.encoder.layers, layers, layer_decay)
  return Network(init, pooled, width, outputs, factors, trained.mesh)


def resnet_network(trained: Pretrained, outputs: int, impute: str = "none") -> Network:
  """A ResNet-1D from scratch with about as many parameters as the encoder of `trained`; every parameter is trained.

  Args:
    trained: gives the channels, the scale and the number of parameters.
    outputs: outputs of the head.
    impute: "none": holes are 0 beside the observed flags; "linear": days are imputed first, as they are for the
      supervised baselines of the AIM paper.
  """
  channels = len(trained.schema.channels)
  width = resnet.width_of(channels, encoder_size(trained.architecture))
  make = lambda rngs: resnet.ResNet(channels, width, rngs)
  body = nnx.eval_shape(lambda: make(nnx.Rngs(0)))
  graph, features = nnx.graphdef(body), resnet.features(width)

  def init(key: jax.Array) -> Params:
    body_key, head_key = jax.random.split(key)
    head = fresh_head(features, outputs, nnx.Rngs(head_key))
    return flatten(make(nnx.Rngs(body_key))) | head

  def pooled(params: Params, values: Float[Array, "b s c"], span: Int[Array, "b w 2"]) -> Float[Array, "b w width"]:
    z, observed = patches.normalised_days(trained.scale, values, impute)
    of_body = {name: leaf for name, leaf in params.items() if not name.startswith(HEAD)}
    x = lsm2.merge(graph, of_body)(z, observed)
    sums = jnp.concatenate([x, jnp.ones((*x.shape[:2], 1))], axis=-1)[:, None]
    mean = mean_within(sums, values.shape[1] / x.shape[1], span)[:, :, 0]
    return normalised(mean.reshape(-1, features), jnp.ones(features), jnp.zeros(features)).reshape(mean.shape)

  names = [*flatten(body), *head_names(features, outputs)]
  return Network(init, pooled, features, outputs, dict.fromkeys(names, 1.0), trained.mesh)


def mean_within(sums: Float[Array, "b g length d"], patch: float, span: Int[Array, "b w 2"]) -> Float[Array, "b w g e"]:
  """Each channel's mean over the tokens that overlap each span; over the whole day if no channel has one there.

  Args:
    sums: output of sums_by_time, d = e + 1; time t covers the steps [t * patch, (t + 1) * patch).
    patch: steps per token.
    span: steps [start, end), w spans per day.

  Returns:
    NaN where a channel has no token.
  """
  time = jnp.arange(sums.shape[2])
  inside = (time * patch < span[:, :, 1:]) & ((time + 1) * patch > span[:, :, :1])
  within = jnp.einsum("bwl,bgld->bwgd", inside.astype(sums.dtype), sums)
  nothing = within[..., -1].sum(2) == 0
  within = jnp.where(nothing[:, :, None, None], sums.sum(2)[:, None], within)
  count = within[..., -1:]
  return jnp.where(count > 0, within[..., :-1] / jnp.maximum(count, 1), jnp.nan)


def learning_rate_factors(names: list[str], blocks: int, layers: int, decay: float) -> dict[str, float]:
  """Learning-rate factors decay^(depth below the head) of the parameters that are trained.

  The head and the encoder's last norm have 1, the last block `decay`, the one below it decay^2, ..., the patch
  embedding decay^(blocks + 1) (after Clark et al. 2020, ELECTRA, and BEiT, Bao et al. 2022, section 3.1).

  Args:
    names: names of all parameters; those of a decoder are never trained.
    blocks: blocks of the encoder.
    layers: number of last blocks to train; -1: everything; 0: the head alone, without the encoder's last norm.
    decay: the factor per block.
  """
  factors = {}
  for name in names:
    depth = _depth(name, blocks)
    if depth is not None and (name.startswith(HEAD) or layers == -1 or 0 <= depth <= layers > 0):
      factors[name] = decay**depth
  return factors


def _depth(name: str, blocks: int) -> int | None:
  """0 for the head and the last norm, 1 for the last block, ...; None for what the encoder does not read."""
  if name.startswith((HEAD, "encoder/norm/")):
    return 0
  if block := re.match(r"encoder/blocks/(\d+)/", name):
    return blocks - int(block[1])
  return blocks + 1 if name.startswith("patch_embedding/") else None


def encoder_size(architecture: lsm2.Architecture) -> int:
  """Number of parameters that the encoder reads."""
  shapes = lsm2.abstract(architecture)[1]
  return sum(leaf.size for name, leaf in shapes.items() if _depth(name, architecture.encoder.layers) is not None)
