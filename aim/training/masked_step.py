"""The training step of LSM-1 and LSM-2: a pure function of (state, tokens), the same for every mesh and buffer size."""

from __future__ import annotations

import dataclasses
import functools

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from jaxtyping import Array, Float, Int, Shaped

from aim.model import buffer_sizes, flops, loss, lsm2, patches
from aim.model.activation_memory import activation_bytes
from aim.model.buffer_sizes import BufferSizes
from aim.model.heldout import heldout_errors
from aim.model.masking import Masking, TokenSet, training_token_set
from aim.model.patches import Scale
from aim.model.person_context import Context
from aim.runtime.window_balance import balanced
from aim.training.train_state import TrainState, ema_rate, initial_state, microbatches, update


@dataclasses.dataclass(frozen=True)
class MaskedStep:
  """Everything that stays fixed during a run and that the jitted functions close over.

  Attributes:
    architecture, masking, scale, optimizer: of the model, the hiding, the normalisation and the update.
    accumulate: microbatches per step.
    groups: packed buffers per microbatch (aim/model/buffer_sizes.py), 0 for padded ones.
    ema: decay of the moving average of the parameters, 0 for none.
    impute: how missing values are filled before the step, config.data.impute (aim/model/patches.py, `normalised_days`).
    activation_room: bytes of all devices together that activations may take before a program recomputes them in the
      backward pass, if the architecture has remat; None if none may keep them.
  """

  architecture: lsm2.Architecture
  masking: Masking
  scale: Scale
  optimizer: optax.GradientTransformation
  accumulate: int
  groups: int
  ema: float
  impute: str
  activation_room: float | None = None

  @functools.cached_property
  def graph(self) -> nnx.GraphDef:
    """The network without its parameters."""
    return lsm2.abstract(self.architecture)[0]

  def recomputes(self, buffers: BufferSizes, windows: int) -> bool:
    """True if the program for these buffers, of so many windows per microbatch, recomputes activations."""
    if self.activation_room is None or not self.architecture.remat:
      return self.architecture.remat
    return activation_bytes(self.architecture, buffers, windows) > self.activation_room

  def init(self, key: jax.Array) -> TrainState:
    """A fresh train state."""
    _, params = lsm2.split(lsm2.Lsm2(self.architecture, nnx.Rngs(key)))
    return initial_state(self.optimizer, params, averaged=bool(self.ema))

  @property
  def skips_blocks(self) -> bool:
    """True if packed buffers are for a kernel that skips blocks, so that their sizes count them (BufferSizes.pairs)."""
    return bool(self.groups) and self.architecture.attention == "splash"

  def draw(
    self,
    key: jax.Array,
    step: int | Int[Array, ""],
    values: Float[Array, "b s c"],
    *profile: Shaped[Array, "b s c"],
  ) -> tuple[TokenSet, Int[Array, " 3"], Int[Array, "b 3"]]:
    """Hides part of each window.

    Args:
      key: of the run; with `step` it decides the masks.
      step: steps completed.
      values: days in physical units, NaN where missing.
      profile: mean and number of other days of the same people, if the model reads them.

    Returns:
      The token sets, in balanced order if they are packed (aim/runtime/window_balance.py); the slots that they need, by
      which smallest() chooses their buffer sizes; each window's slot counts (both in aim/model/buffer_sizes.py).
    """
    a = self.architecture
    z, observed = (patches.fold(x, a.patch_channels) for x in patches.normalised_days(self.scale, values, self.impute))
    tokens = training_token_set(jax.random.fold_in(key, step), self.masking, z, observed, a.patch_values)
    tokens = tokens._replace(context=Context.normalised(self.scale, *profile) if profile else None)
    if self.groups:
      tokens = balanced(tokens, tokens.visible_lengths, self.groups, self.accumulate)
    counts = buffer_sizes.slot_counts(tokens, a.decoder_tokens)
    return tokens, buffer_sizes.needed(counts, self.groups, self.accumulate), counts

  def train(self, buffers: BufferSizes, state: TrainState, tokens: TokenSet) -> tuple[TrainState, dict[str, Array]]:
    """Makes one update.

    Args:
      buffers: sizes that are large enough for `tokens`; any such sizes give the same update.
      state: before the step.
      tokens: from draw().

    Returns:
      The state after the step, and metrics: those of train_state.update, "loss" (mean over scored values),
      "scored_steps" (the number of scored values, not of steps; the name is that in the logs of earlier runs),
      "visible_tokens", "scored_tokens", "useful_flops".
    """
    total, count, grads = self.gradient(buffers, state["params"], tokens)
    scored = jnp.maximum(count, 1.0)
    grads = jax.tree.map(lambda g: g / scored, grads)
    state, update_metrics = update(self.optimizer, state, grads, total, ema_rate(state["step"], self.ema))
    metrics = update_metrics | {
      "loss": total / scored,
      "scored_steps": count,
      "visible_tokens": tokens.visible_lengths.sum(),
      "scored_tokens": tokens.target_ends.sum(),
      "useful_flops": flops.useful_flops(self.architecture, buffer_sizes.token_counts(tokens)),
    }
    return state, metrics

  def gradient(
    self, buffers: BufferSizes, params: dict[str, Array], tokens: TokenSet
  ) -> tuple[Float[Array, ""], Float[Array, ""], dict[str, Array]]:
    """Adds up the microbatches of a step.

    Returns:
      The sum of errors, the number of scored values, and the gradient of the sum.
    """

    remat = self.recomputes(buffers, len(tokens.order) // self.accumulate)
    graph = lsm2.abstract(dataclasses.replace(self.architecture, remat=remat))[0]

    def error(params: dict[str, Array], tokens: TokenSet) -> tuple[Float[Array, ""], Float[Array, ""]]:
      network = lsm2.merge(graph, params)
      return loss.token_error(network, tokens, jnp.asarray(self.scale.binary), buffers)

    def add(sums: tuple, part: TokenSet) -> tuple[tuple, None]:
      (total, count), grads = jax.value_and_grad(error, has_aux=True)(params, part)
      return jax.tree.map(jnp.add, sums, (total, count, grads)), None

    if self.accumulate == 1:
      (total, count), grads = jax.value_and_grad(error, has_aux=True)(params, tokens)
      return total, count, grads
    zero = (jnp.float32(0), jnp.float32(0), jax.tree.map(jnp.zeros_like, params))
    return jax.lax.scan(add, zero, microbatches(tokens, self.accumulate))[0]

  def heldout(
    self,
    key: jax.Array,
    weights: TrainState,
    values: Float[Array, "b s c"],
    place: Int[Array, " b"],
    *profile: Shaped[Array, "b s c"],
  ) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """The sum of errors and the number of scored values of days that are not trained on.

    Args:
      key: of the masks; with each day's place it decides what is hidden.
      weights: the parts "params" and "ema" of a train state; the average is used if there is one.
      values: days in physical units, NaN where missing.
      place: number of each day among those scored.
      profile: as in draw().
    """
    network = lsm2.merge(self.graph, weights["ema"] or weights["params"])
    error, scored, _ = heldout_errors(network, self.masking, self.scale, self.impute, key, values, place, *profile)
    return error.sum(), scored.sum()
