"""The pretraining step: a pure function of (state, tokens), the same for every mesh and all buffer sizes."""

from __future__ import annotations

import dataclasses
import functools

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from jaxtyping import Array, Float, Int

from aim.model import buffer_sizes, flops, loss, lsm2, patches
from aim.model.buffer_sizes import BufferSizes
from aim.model.masking import Masking, TokenSet, training_token_set
from aim.model.patches import Scale
from aim.training.train_state import TrainState, ema_rate, initial_state, microbatches, update


@dataclasses.dataclass(frozen=True)
class MaskedStep:
  """What is fixed during a run: everything the jitted functions close over.

  Attributes:
    accumulate: microbatches a step.
    impute: what fills holes before the step, config.data.impute (aim/model/patches.py, read).
    groups: packed buffers a microbatch (aim/model/buffer_sizes.py), 0 for padded ones.
  """

  architecture: lsm2.Architecture
  masking: Masking
  scale: Scale
  optimizer: optax.GradientTransformation
  accumulate: int
  groups: int
  ema: float
  impute: str

  @functools.cached_property
  def graph(self) -> nnx.GraphDef:
    return lsm2.abstract(self.architecture)[0]

  def init(self, key: jax.Array) -> TrainState:
    """A fresh train state."""
    _, params = lsm2.split(lsm2.Lsm2(self.architecture, nnx.Rngs(key)))
    return initial_state(self.optimizer, params, averaged=bool(self.ema))

  def draw(
    self, key: jax.Array, step: jax.Array, values: Float[Array, "b s c"]
  ) -> tuple[TokenSet, Int[Array, " 3"], Int[Array, "b 3"]]:
    """Hides part of each window; also returns the rows its buffers need, and each window's token counts."""
    a = self.architecture
    z, observed = (patches.fold(x, a.patch_channels) for x in patches.normalised_days(self.scale, values, self.impute))
    tokens = training_token_set(jax.random.fold_in(key, step), self.masking, z, observed, a.patch_values)
    counts = buffer_sizes.token_counts(tokens)
    return tokens, buffer_sizes.needed(counts, self.groups, self.accumulate), counts

  def train(self, buffers: BufferSizes, state: TrainState, tokens: TokenSet) -> tuple[TrainState, dict[str, jax.Array]]:
    """One update. A gradient with a NaN or Inf changes nothing but the step number; metrics["bad"] tells which."""
    total, count, grads = self._gradient(buffers, state["params"], tokens)
    scored = jnp.maximum(count, 1.0)
    grads = jax.tree.map(lambda g: g / scored, grads)
    state, told = update(self.optimizer, state, grads, total, ema_rate(state["step"], self.ema))
    metrics = told | {
      "loss": total / scored,
      "scored_steps": count,
      "visible_tokens": tokens.visible_lengths.sum(),
      "scored_tokens": tokens.target_ends.sum(),
      "useful_flops": flops.useful_flops(self.architecture, buffer_sizes.token_counts(tokens)),
    }
    return state, metrics

  def _gradient(self, buffers: BufferSizes, params: dict, tokens: TokenSet) -> tuple[jax.Array, jax.Array, dict]:
    """Sum of errors, number of scored steps, gradient of the sum, over `accumulate` microbatches."""

    def error(params: dict, tokens: TokenSet) -> tuple[jax.Array, jax.Array]:
      network = lsm2.merge(self.graph, params)
      return loss.token_error(network, tokens, jnp.asarray(self.scale.binary), buffers)

    def add(carry: tuple, part: TokenSet) -> tuple[tuple, None]:
      (total, count), grads = jax.value_and_grad(error, has_aux=True)(params, part)
      return jax.tree.map(jnp.add, carry, (total, count, grads)), None

    if self.accumulate == 1:
      (total, count), grads = jax.value_and_grad(error, has_aux=True)(params, tokens)
      return total, count, grads
    zero = (jnp.float32(0), jnp.float32(0), jax.tree.map(jnp.zeros_like, params))
    return jax.lax.scan(add, zero, microbatches(tokens, self.accumulate))[0]
