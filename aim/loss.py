"""The reconstruction loss: sums over scored minutes, so that batches, microbatches and hosts add up exactly."""

from __future__ import annotations

import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float

from aim import patches
from aim.evidence import FEATURES, evidence
from aim.masking import TokenSet
from aim.model import Architecture, Lsm2


def reconstruction_error(
  prediction: Float[Array, "b m p"],
  values: Float[Array, "b m p"],
  target: Bool[Array, "b m p"],
  binary: Bool[Array, "b m"],
) -> tuple[Float[Array, ""], Float[Array, ""]]:
  """Sum of errors and number of scored steps: squared error, or cross-entropy on binary channels (AIM, "loss")."""
  squared = jnp.square(prediction - values)
  entropy = optax.sigmoid_binary_cross_entropy(prediction, jnp.clip(values, 0, 1))
  error = jnp.where(binary[:, :, None], entropy, squared)
  return jnp.where(target, error, 0.0).sum(), target.sum().astype(jnp.float32)


def forward(
  model: Lsm2, tokens: TokenSet, encoder_tokens: int, decoder_tokens: int, all_positions: bool
) -> Float[Array, "b m p"]:
  """Encodes the first encoder_tokens of each window and predicts its first decoder_tokens.

  encoder_tokens may be any static number at or above the largest visible length: what is cut off is never attended to.
  With all_positions the decoder sees the mask token at inherited-missing positions too (the published decoder).
  """
  cut = lambda x, k: x[:, :k]
  k = encoder_tokens
  lengths = jnp.minimum(tokens.visible_lengths, k)
  encoded = model.encode(cut(tokens.values, k), cut(tokens.shown, k), cut(tokens.order, k), lengths)
  order = cut(tokens.order, decoder_tokens)
  decoder_lengths = jnp.full_like(lengths, decoder_tokens) if all_positions else tokens.scored_lengths
  found = None
  if model.architecture.interpolation_skip:
    found = cut(token_evidence(tokens, model.architecture), decoder_tokens)
  return model.decode(encoded, lengths, order, decoder_lengths, found)


def token_evidence(tokens: TokenSet, a: Architecture) -> Float[Array, "b n p features"]:
  """aim/evidence.py on the shown steps of token sets, in the order of the tokens."""
  grid = jnp.argsort(tokens.order, axis=1)
  on_grid = lambda x: patches.unpatchify(jnp.take_along_axis(x, grid[:, :, None], axis=1), a.channels)
  shown = on_grid(tokens.shown)
  binary = jnp.asarray(a.binary or (False,) * a.channels)
  found = evidence(jnp.where(shown, on_grid(tokens.values), 0.0), shown, binary)
  in_order = lambda x: jnp.take_along_axis(patches.patchify(x, a.patch), tokens.order[:, :, None], axis=1)
  return jnp.stack([in_order(found[..., i]) for i in range(FEATURES)], axis=-1)


def token_error(
  model: Lsm2, tokens: TokenSet, binary: Bool[Array, " c"], encoder_tokens: int
) -> tuple[Float[Array, ""], Float[Array, ""]]:
  """reconstruction_error of a batch of token sets."""
  a = model.architecture
  prediction = forward(model, tokens, encoder_tokens, a.tokens, all_positions=True)
  return reconstruction_error(prediction, tokens.values, tokens.target, jnp.asarray(binary)[tokens.order // a.length])
