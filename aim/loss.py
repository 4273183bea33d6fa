"""The reconstruction loss: sums over scored minutes, so that batches, microbatches and hosts add up exactly."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float

from aim.masking import Masking, TokenSet, training_tokens
from aim.model import Lsm2


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
  return model.decode(encoded, lengths, order, decoder_lengths)


def pretraining_error(
  model: Lsm2,
  masking: Masking,
  key: jax.Array,
  z: Float[Array, "b s c"],
  observed: Bool[Array, "b s c"],
  binary: Bool[Array, " c"],
  encoder_tokens: int,
) -> tuple[Float[Array, ""], Float[Array, ""]]:
  """One AIM pretraining forward pass: sum of errors and number of scored steps of a batch."""
  tokens = training_tokens(key, masking, z, observed, model.architecture.patch)
  return token_error(model, tokens, binary, encoder_tokens)


def token_error(
  model: Lsm2, tokens: TokenSet, binary: Bool[Array, " c"], encoder_tokens: int
) -> tuple[Float[Array, ""], Float[Array, ""]]:
  """reconstruction_error of a batch of token sets."""
  a = model.architecture
  prediction = forward(model, tokens, encoder_tokens, a.tokens, all_positions=True)
  return reconstruction_error(prediction, tokens.values, tokens.target, jnp.asarray(binary)[tokens.order // a.length])
