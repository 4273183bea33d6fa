"""The reconstruction loss (AIM, "loss"): errors of the hidden values that were really observed.

Functions return sums and counts rather than means, so that batches, microbatches and processes add up exactly. The
training step divides by the number of scored values in the global batch.

Notation: b windows, n tokens per window, p values per patch, c channels. g and r are those of the token buffer that
holds the predicted tokens: g groups of windows (each window is one if sizes.groups is 0) and r slots per group.
"""

from __future__ import annotations

import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float

from aim.model import patches, person_context
from aim.model.buffer_sizes import BufferSizes
from aim.model.interpolation_skip import interpolation_evidence
from aim.model.lsm2 import Architecture, Lsm2
from aim.model.masking import TokenSet
from aim.model.token_buffers import TokenBuffer


def reconstruction_error(
  prediction: Float[Array, "g r p"],
  values: Float[Array, "g r p"],
  target: Bool[Array, "g r p"],
  binary: Bool[Array, "g r #p"],
) -> tuple[Float[Array, ""], Float[Array, ""]]:
  """The sum of errors over the target values, and their number (AIM, "loss").

  The error is squared, or a cross-entropy on binary channels, whose predictions are logits.

  Args:
    prediction: z-scores, or logits on binary channels, in g groups of r slots.
    values: z-scores, or 0 and 1 on binary channels.
    target: the values that count.
    binary: whether each value belongs to a binary channel; a last axis of 1 stands for the whole patch.
  """
  squared = jnp.square(prediction - values)
  entropy = optax.sigmoid_binary_cross_entropy(prediction, jnp.clip(values, 0, 1))
  error = jnp.where(binary, entropy, squared)
  return jnp.where(target, error, 0.0).sum(), target.sum().astype(jnp.float32)


def token_error(
  model: Lsm2, tokens: TokenSet, binary: Bool[Array, " c"], sizes: BufferSizes
) -> tuple[Float[Array, ""], Float[Array, ""]]:
  """reconstruction_error of a batch of token sets, computed in buffers of `sizes`, which must hold the batch."""
  return reconstruction_error(*predictions(model, tokens, binary, sizes))


def predictions(
  model: Lsm2, tokens: TokenSet, binary: Bool[Array, " c"], sizes: BufferSizes
) -> tuple[Float[Array, "g r p"], Float[Array, "g r p"], Bool[Array, "g r p"], Bool[Array, "g r #p"]]:
  """The arguments of reconstruction_error. If sizes.groups is 0, each window is a group."""
  a = model.architecture
  targets = sizes.target_buffer(tokens)
  prediction = forward(model, tokens, sizes, targets)
  channel = targets.take(tokens.order) // a.length
  return prediction, targets.take(tokens.values), targets.take(tokens.target), _binary_values(binary, a)[channel]


def _binary_values(binary: Bool[Array, " c"], a: Architecture) -> Bool[Array, "groups values"]:
  """Mask of each channel group's binary patch values. One value stands for all if patches have a single channel."""
  if a.patch_channels == 1:
    return jnp.asarray(binary)[:, None]
  return patches.patchify(jnp.broadcast_to(binary, (1, a.patch, a.channels)), a.patch, a.patch_channels)[0]


def forward(model: Lsm2, tokens: TokenSet, sizes: BufferSizes, targets: TokenBuffer) -> Float[Array, "g r p"]:
  """Encodes the visible tokens and predicts those in `targets`: z-scores, or logits on binary channels."""
  visible = sizes.visible_buffer(tokens)
  x = model.encode(visible.take(tokens.values), visible.take(tokens.visible), visible.take(tokens.order), visible)
  a = model.architecture
  evidence = token_evidence(tokens, a) if a.interpolation_skip else None
  context = token_context(tokens, a) if a.context_days else None
  decoder = sizes.decoder_buffer(tokens)
  return model.decode(x, visible, tokens.order, decoder, None if sizes.predict_all else targets, evidence, context)


def token_evidence(tokens: TokenSet, a: Architecture) -> Float[Array, "b n p features"]:
  """interpolation_evidence (aim/model/interpolation_skip.py) of the visible values, in the order of the tokens."""
  return _in_order(interpolation_evidence(*_visible_days(tokens, a), a.skip_evidence), tokens, a)


def token_context(tokens: TokenSet, a: Architecture) -> Float[Array, "b n p features"]:
  """context_evidence (aim/model/person_context.py), in the order of the tokens; without tokens.context of no days."""
  values, visible, binary = _visible_days(tokens, a)
  context = person_context.Context.none(values) if tokens.context is None else tokens.context
  return _in_order(person_context.context_evidence(values, visible, binary, context), tokens, a)


def _visible_days(
  tokens: TokenSet, a: Architecture
) -> tuple[Float[Array, "b s c"], Bool[Array, "b s c"], Bool[Array, " c"]]:
  """The visible values on the grid of the day, 0 elsewhere; which they are; which channels are binary."""
  grid = jnp.argsort(tokens.order, axis=1)
  on_grid = lambda x: patches.unpatchify(jnp.take_along_axis(x, grid[:, :, None], axis=1), a.channels, a.patch_channels)
  visible = on_grid(tokens.visible)
  binary = jnp.asarray(a.binary or (False,) * a.channels)
  return jnp.where(visible, on_grid(tokens.values), 0.0), visible, binary


def _in_order(
  evidence: Float[Array, "b s c features"], tokens: TokenSet, a: Architecture
) -> Float[Array, "b n p features"]:
  """Evidence of the grid of the day in the order of the tokens."""
  in_order = lambda x: jnp.take_along_axis(
    patches.patchify(x, a.patch, a.patch_channels), tokens.order[:, :, None], axis=1
  )
  return jnp.stack([in_order(evidence[..., i]) for i in range(evidence.shape[-1])], axis=-1)
