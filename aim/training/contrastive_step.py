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
  """Everything that stays fixed during a run and that the jitted functions close over.

  The loss compares all windows of the step, whatever the number of devices and microbatches. With `accumulate` above 1
  all views are encoded first without a gradient, then once more, part by part, with the gradient of the loss at their
  embeddings (GradCache, Gao et al. 2021). The result is exact.

  Attributes:
    architecture, scale, optimizer, accumulate, impute: as in MaskedStep.
    method: its crops and its loss.
    changes: how the views of a window differ.
    total_steps: of the run.
    ema: decay of the moving average for inference, for methods without a teacher; 0 for none.
    momentum: decay of the teacher, state["ema"]; it rises to 1 along a cosine over total_steps (DINO, section 3.1).
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
    """The network without its parameters."""
    return lsm2.abstract(self.architecture)[0]

  def init(self, key: jax.Array) -> TrainState:
    """A fresh train state; the teacher starts as a copy of the student."""
    _, params = lsm2.split(lsm2.build(self.architecture, nnx.Rngs(key)))
    return initial_state(self.optimizer, params, averaged=bool(self.method.teacher or self.ema))

  @functools.cached_property
  def size(self) -> BufferSizes:
    """The one set of buffer sizes of this step: every window has the same views."""
    # Passes: forward 1 and backward 2, another forward for GradCache, and one forward for the teacher.
    passes = lambda i: ((4 if self.accumulate > 1 else 3) * (i in self.method.student)) + (i in self.method.teacher)
    a = self.architecture
    crops = tuple((crop.views, crop.tokens(a), passes(i)) for i, crop in enumerate(self.method.crops))
    slots = sum(views * tokens for views, tokens, _ in crops)
    return ViewBufferSizes(0, slots, 0, 0, a.tokens, a.tokens, a.decoder_tokens, crops=crops)

  def draw(
    self, key: jax.Array, step: int | Int[Array, ""], values: Float[Array, "b s c"]
  ) -> tuple[tuple[ViewSet, ...], Int[Array, " 3"], Int[Array, "b 3"]]:
    """Draws each window's views.

    Args:
      key: of the run; with `step` it decides the views.
      step: steps completed.
      values: days in physical units, NaN where missing.

    Returns:
      One set of views per crop of the method; the buffer sizes that they need; each window's token counts, of which
      only the first, visible tokens, is above 0.
    """
    z, observed = patches.normalised_days(self.scale, values, self.impute)
    key = jax.random.fold_in(key, step)
    views = view_sets(key, self.changes, self.method.crops, self.architecture, z, observed)
    visible = sum((view.lengths.sum(1) for view in views), start=jnp.zeros(len(values), jnp.int32))
    counts = jnp.stack([visible, jnp.zeros_like(visible), jnp.zeros_like(visible)], axis=1)
    return views, jnp.array([self.size.encoder, 0, 0], jnp.int32), counts

  def train(
    self, buffers: BufferSizes, state: TrainState, views: tuple[ViewSet, ...]
  ) -> tuple[TrainState, dict[str, jax.Array]]:
    """Makes one update.

    Args:
      buffers: self.size; views have no other.
      state: before the step.
      views: from draw().

    Returns:
      The state after the step, and metrics: those of train_state.update, "loss", "visible_tokens", "useful_flops" and
      "embedding_spread" (see embedding_spread).
    """
    loss, grads, embeddings = self._gradient(state, views)
    state, update_metrics = update(self.optimizer, state, grads, loss, self._ema_rate(state["step"]))
    lengths = [view.lengths for view in views]
    metrics = update_metrics | {
      "loss": loss,
      "visible_tokens": jnp.stack([length.sum() for length in lengths]).sum(),
      "useful_flops": flops.view_flops(self.architecture, lengths, self.method.student, self.method.teacher),
      "embedding_spread": embedding_spread(embeddings[0][:, 0]),
    }
    return state, metrics

  def heldout(
    self, key: jax.Array, weights: TrainState, values: Float[Array, "b s c"], place: Int[Array, " b"]
  ) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """The loss of a batch of days that are not trained on, times their number; and their number.

    Args:
      key: of the views; with the place of the first day it decides them.
      weights: the parts "params" and "ema" of a train state. The average is the teacher or, in methods without one,
        used in place of the parameters, if there is one.
      values: days in physical units, NaN where missing.
      place: number of each day among those scored.
    """
    step = dataclasses.replace(self, accumulate=1)
    views = step.draw(key, place[0], values)[0]
    target = step._targets(weights, tuple(views[i] for i in self.method.teacher))
    params = weights["params"] if self.method.teacher else weights["ema"] or weights["params"]
    embeddings = step.mean_tokens(params, tuple(views[i] for i in self.method.student))
    student = lsm2.merge(self.graph, params)
    loss = self.method.loss(tuple(student.project(x) for x in embeddings), student.unit_prototypes(), *target)
    count = jnp.float32(len(values))
    return loss * count, count

  def _ema_rate(self, step: Int[Array, ""]) -> Float[Array, ""]:
    if not self.method.teacher:
      return ema_rate(step, self.ema)
    progress = jnp.minimum(step / self.total_steps, 1.0)
    return (1.0 - self.momentum) * (jnp.cos(np.pi * progress) + 1) / 2

  def _gradient(
    self, state: TrainState, views: tuple[ViewSet, ...]
  ) -> tuple[Float[Array, ""], dict[str, Array], tuple[Array, ...]]:
    """The loss, its gradient, and the embeddings of the student's views."""
    params = state["params"]
    student_views = tuple(views[i] for i in self.method.student)
    target = self._targets(state, tuple(views[i] for i in self.method.teacher))
    if self.accumulate == 1:
      embeddings, encoder_vjp = jax.vjp(lambda params: self.mean_tokens(params, student_views), params)
      loss, head_grads, embedding_grads = self._loss(params, embeddings, target)
      return loss, jax.tree.map(jnp.add, head_grads, encoder_vjp(embedding_grads)[0]), embeddings
    parts = self._split(student_views)
    embeddings = self._joined(jax.lax.map(lambda part: self.mean_tokens(params, part), parts))
    loss, head_grads, embedding_grads = self._loss(params, embeddings, target)

    def add(total: dict[str, Array], part: tuple[Any, Any]) -> tuple[dict[str, Array], None]:
      part_views, part_grads = part
      _, encoder_vjp = jax.vjp(lambda params: self.mean_tokens(params, part_views), params)
      return jax.tree.map(jnp.add, total, encoder_vjp(part_grads)[0]), None

    return loss, jax.lax.scan(add, head_grads, (parts, self._split(embedding_grads)))[0], embeddings

  def _targets(self, state: TrainState, views: tuple[ViewSet, ...]) -> tuple[tuple[Array, ...], Float[Array, "k e"]]:
    """The teacher's unit vectors of its views, and its prototypes; both empty if the method has no teacher."""
    if not views:
      return (), jnp.zeros((0, self.architecture.projection.width))  # type: ignore[union-attr]
    params = state["ema"]
    encoded = self._joined(jax.lax.map(lambda part: self.mean_tokens(params, part), self._split(views)))
    teacher = lsm2.merge(self.graph, params)
    return jax.lax.stop_gradient((tuple(teacher.project(x) for x in encoded), teacher.unit_prototypes()))

  def _loss(
    self, params: dict[str, Array], embeddings: tuple[Array, ...], target: tuple
  ) -> tuple[Float[Array, ""], dict[str, Array], tuple[Array, ...]]:
    """The loss, and its gradients with respect to the parameters of the head and to the embeddings."""

    def loss(params: dict[str, Array], embeddings: tuple[Array, ...]) -> Float[Array, ""]:
      student = lsm2.merge(self.graph, params)
      projected = tuple(student.project(x) for x in embeddings)
      return self.method.loss(projected, student.unit_prototypes(), *target)

    value, (head_grads, embedding_grads) = jax.value_and_grad(loss, (0, 1))(params, embeddings)
    return value, head_grads, embedding_grads

  def mean_tokens(self, params: dict[str, Array], views: tuple[ViewSet, ...]) -> tuple[Float[Array, "b _ d"], ...]:
    """The mean token of every view: one array [b, views, d] per crop."""
    encoder = lsm2.merge(self.graph, params)

    def mean(view: ViewSet) -> Float[Array, "b v d"]:
      flat = ViewSet(*(x.reshape(-1, *x.shape[2:]) for x in view))
      buffer = TokenBuffer.padded(jnp.zeros_like(flat.lengths), flat.lengths, flat.order.shape[1])
      encoded = encoder.encode(flat.values, flat.visible, flat.order, buffer)
      return lsm2.pooled(encoded.astype(jnp.float32), flat.lengths).reshape(*view.lengths.shape, -1)

    return tuple(mean(view) for view in views)

  def _split(self, tree: Any) -> Any:
    """Microbatches of arrays [b, ...]."""
    return microbatches(tree, self.accumulate)

  def _joined(self, tree: Any) -> Any:
    """The inverse of _split."""
    return jax.tree.map(lambda x: x.swapaxes(0, 1).reshape(-1, *x.shape[2:]), tree)


def embedding_spread(embeddings: Float[Array, "b d"]) -> Float[Array, ""]:
  """SD of the unit vectors over the batch, times the square root of their dimension (Chen and He 2021, section 4.1).

  It is 1 for embeddings spread all over the sphere and 0 for equal ones, that is, for a collapsed model.
  """
  return lsm2.unit_vectors(embeddings).std(0).mean() * jnp.sqrt(embeddings.shape[1])
