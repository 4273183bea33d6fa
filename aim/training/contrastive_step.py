"""The training step of SimCLR, DINO and MSN; it has the interface of MaskedStep, so that one loop trains all models."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jaxtyping import Array, Float, Int

from aim.model import flops, lsm2, patches
from aim.model.buffer_sizes import BufferSizes, ViewBufferSizes
from aim.model.contrastive.dino import Dino
from aim.model.contrastive.msn import Msn
from aim.model.contrastive.simclr import Simclr
from aim.model.contrastive.views import Changes, ViewSet, view_sets
from aim.model.patches import Scale
from aim.model.token_buffers import TokenBuffer
from aim.training.train_state import TrainState, ema_rate, initial_state, microbatches, update

Method = Simclr | Dino | Msn


@dataclasses.dataclass(frozen=True)
class ContrastiveStep:
  """What is fixed during a run.

  The loss compares all windows of the step, whatever the number of devices and microbatches: with `accumulate` above 1
  all views are encoded first, and once more with the gradient of the loss at their embeddings (GradCache, Gao et al.
  2021), which is exact.

  Attributes:
    method: crops and loss.
    changes: what views differ in.
    impute: as in MaskedStep.
    momentum: of the teacher, state["ema"], rising to 1 by a cosine over total_steps (DINO, section 3.1).
    ema: of the average for inference where the method has no teacher; 0: none.
  """

  architecture: lsm2.Architecture
  method: Method
  changes: Changes
  scale: Scale
  optimizer: optax.GradientTransformation
  total_steps: int
  accumulate: int
  ema: float
  momentum: float
  impute: str

  @functools.cached_property
  def graph(self) -> nnx.GraphDef:
    return lsm2.abstract(self.architecture)[0]

  def init(self, key: jax.Array) -> TrainState:
    """A fresh train state; the teacher starts as the student."""
    _, params = lsm2.split(lsm2.build(self.architecture, nnx.Rngs(key)))
    return initial_state(self.optimizer, params, averaged=bool(self.method.teacher or self.ema))

  @functools.cached_property
  def size(self) -> BufferSizes:
    """The one size of this step's buffers."""
    passes = lambda i: ((4 if self.accumulate > 1 else 3) * (i in self.method.student)) + (i in self.method.teacher)
    a = self.architecture
    crops = tuple((crop.views, crop.tokens(a), passes(i)) for i, crop in enumerate(self.method.crops))
    rows = sum(views * tokens for views, tokens, _ in crops)
    return ViewBufferSizes(0, rows, 0, 0, a.tokens, a.tokens, a.decoder_tokens, crops=crops)

  def draw(
    self, key: jax.Array, step: jax.Array, values: Float[Array, "b s c"]
  ) -> tuple[tuple[ViewSet, ...], Int[Array, " 3"], Int[Array, "b 3"]]:
    """Draws each window's views; also returns the buffer sizes they need and token counts, as MaskedStep.draw."""
    z, observed = patches.normalised_days(self.scale, values, self.impute)
    key = jax.random.fold_in(key, step)
    views = view_sets(key, self.changes, self.method.crops, self.architecture, z, observed)
    visible = sum((view.lengths.sum(1) for view in views), start=jnp.zeros(len(values), jnp.int32))
    counts = jnp.stack([visible, jnp.zeros_like(visible), jnp.zeros_like(visible)], axis=1)
    return views, jnp.array([self.size.encoder, 0, 0], jnp.int32), counts

  def train(
    self, buffers: BufferSizes, state: TrainState, views: tuple[ViewSet, ...]
  ) -> tuple[TrainState, dict[str, jax.Array]]:
    """One update, as MaskedStep.train; "embedding_spread" is 1 for embeddings all over the sphere, 0 for equal ones."""
    loss, grads, embeddings = self._gradient(state, views)
    state, told = update(self.optimizer, state, grads, loss, self._ema_rate(state["step"]))
    lengths = [view.lengths for view in views]
    metrics = told | {
      "loss": loss,
      "visible_tokens": jnp.stack([length.sum() for length in lengths]).sum(),
      "useful_flops": flops.view_flops(self.architecture, lengths, self.method.student, self.method.teacher),
      "embedding_spread": embedding_spread(embeddings[0][:, 0]),
    }
    return state, metrics

  def _ema_rate(self, step: jax.Array) -> jax.Array:
    if not self.method.teacher:
      return ema_rate(step, self.ema)
    done = jnp.minimum(step / self.total_steps, 1.0)
    return (1.0 - self.momentum) * (jnp.cos(np.pi * done) + 1) / 2

  def _gradient(self, state: TrainState, views: tuple[ViewSet, ...]) -> tuple[jax.Array, dict, tuple[jax.Array, ...]]:
    """Loss, its gradient, and the embeddings of the student's views."""
    params = state["params"]
    seen = tuple(views[i] for i in self.method.student)
    target = self._targets(state, tuple(views[i] for i in self.method.teacher))
    if self.accumulate == 1:
      embeddings, back = jax.vjp(lambda params: self.mean_tokens(params, seen), params)
      loss, head, slopes = self._loss(params, embeddings, target)
      return loss, jax.tree.map(jnp.add, head, back(slopes)[0]), embeddings
    parts = self._split(seen)
    embeddings = self._joined(jax.lax.map(lambda part: self.mean_tokens(params, part), parts))
    loss, head, slopes = self._loss(params, embeddings, target)

    def add(total: dict, part: tuple[Any, Any]) -> tuple[dict, None]:
      part_views, part_slopes = part
      _, back = jax.vjp(lambda params: self.mean_tokens(params, part_views), params)
      return jax.tree.map(jnp.add, total, back(part_slopes)[0]), None

    return loss, jax.lax.scan(add, head, (parts, self._split(slopes)))[0], embeddings

  def _targets(self, state: TrainState, views: tuple[ViewSet, ...]) -> tuple[tuple[jax.Array, ...], jax.Array]:
    """The teacher's unit vectors of its views, and its prototypes: none where the method has no teacher."""
    if not views:
      return (), jnp.zeros((0, self.architecture.projection.width))  # type: ignore[union-attr]
    params = state["ema"]
    encoded = self._joined(jax.lax.map(lambda part: self.mean_tokens(params, part), self._split(views)))
    teacher = lsm2.merge(self.graph, params)
    found = tuple(teacher.project(x) for x in encoded), teacher.unit_prototypes()
    return jax.lax.stop_gradient(found)

  def _loss(self, params: dict, embeddings: tuple, target: tuple) -> tuple[jax.Array, dict, tuple]:
    """The loss, and its gradient by the parameters of the head and by the embeddings."""

    def loss(params: dict, embeddings: tuple) -> jax.Array:
      student = lsm2.merge(self.graph, params)
      projected = tuple(student.project(x) for x in embeddings)
      return self.method.loss(projected, student.unit_prototypes(), *target)

    value, (head, slopes) = jax.value_and_grad(loss, (0, 1))(params, embeddings)
    return value, head, slopes

  def mean_tokens(self, params: dict, views: tuple[ViewSet, ...]) -> tuple[Float[Array, "b _ d"], ...]:
    """The mean token of every view."""
    encoder = lsm2.merge(self.graph, params)

    def mean(view: ViewSet) -> Float[Array, "b v d"]:
      flat = ViewSet(*(x.reshape(-1, *x.shape[2:]) for x in view))
      rows = TokenBuffer.padded(jnp.zeros_like(flat.lengths), flat.lengths, flat.order.shape[1])
      encoded = encoder.encode(flat.values, flat.visible, flat.order, rows)
      return lsm2.pooled(encoded.astype(jnp.float32), flat.lengths).reshape(*view.lengths.shape, -1)

    return tuple(mean(view) for view in views)

  def _split(self, tree: Any) -> Any:
    return microbatches(tree, self.accumulate)

  def _joined(self, tree: Any) -> Any:
    return jax.tree.map(lambda x: x.swapaxes(0, 1).reshape(-1, *x.shape[2:]), tree)


def embedding_spread(embeddings: Float[Array, "b d"]) -> Float[Array, ""]:
  """SD of the unit vectors over the batch times the root of their dimension (Chen and He 2021, 4.1): 0 is collapse."""
  return lsm2.unit_vectors(embeddings).std(0).mean() * jnp.sqrt(embeddings.shape[1])
