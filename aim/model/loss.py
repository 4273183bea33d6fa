"""The reconstruction loss: sums over scored minutes, so that batches, microbatches and hosts add up exactly."""

from __future__ import annotations

import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float

from aim.model import patches
from aim.model.buffer_sizes import BufferSizes
from aim.model.interpolation_skip import FEATURES, interpolation_evidence
from aim.model.lsm2 import Architecture, Lsm2
from aim.model.masking import TokenSet
from aim.model.token_buffers import TokenBuffer


def reconstruction_error(
  prediction: Float[Array, "g r p"],
  values: Float[Array, "g r p"],
  target: Bool[Array, "g r p"],
  binary: Bool[Array, "g r #p"],
) -> tuple[Float[Array, ""], Float[Array, ""]]:
  """Sum of errors and number of scored steps: squared error, or cross-entropy on binary channels (AIM, "loss")."""
  squared = jnp.square(prediction - values)
  entropy = optax.sigmoid_binary_cross_entropy(prediction, jnp.clip(values, 0, 1))
  error = jnp.where(binary, entropy, squared)
  return jnp.where(target, error, 0.0).sum(), target.sum().astype(jnp.float32)


def token_error(
  model: Lsm2, tokens: TokenSet, binary: Bool[Array, " c"], sizes: BufferSizes
) -> tuple[Float[Array, ""], Float[Array, ""]]:
  """reconstruction_error of a batch of token sets, computed in buffers of `sizes`, which must be enough for it."""
  return reconstruction_error(*predictions(model, tokens, binary, sizes))


def predictions(
  model: Lsm2, tokens: TokenSet, binary: Bool[Array, " c"], sizes: BufferSizes
) -> tuple[Float[Array, "g r p"], Float[Array, "g r p"], Bool[Array, "g r p"], Bool[Array, "g r #p"]]:
  """The arguments of reconstruction_error; where sizes.groups is 0, a window a group."""
  a = model.architecture
  wanted = sizes.target_buffer(tokens)
  prediction = forward(model, tokens, sizes, wanted)
  channel = wanted.take(tokens.order) // a.length
  return prediction, wanted.take(tokens.values), wanted.take(tokens.target), _binary_cells(binary, a)[channel]


def _binary_cells(binary: Bool[Array, " c"], a: Architecture) -> Bool[Array, "groups cells"]:
  """Which cells of a group's patches are of a binary channel; one cell for all where patches have one channel."""
  if a.patch_channels == 1:
    return jnp.asarray(binary)[:, None]
  return patches.patchify(jnp.broadcast_to(binary, (1, a.patch, a.channels)), a.patch, a.patch_channels)[0]


def forward(model: Lsm2, tokens: TokenSet, sizes: BufferSizes, wanted: TokenBuffer) -> Float[Array, "g r p"]:
  """Encodes the visible tokens and predicts the `wanted` ones."""
  encoded = sizes.visible_buffer(tokens)
  x = model.encode(encoded.take(tokens.values), encoded.take(tokens.visible), encoded.take(tokens.order), encoded)
  found = token_evidence(tokens, model.architecture) if model.architecture.interpolation_skip else None
  decoded = sizes.decoder_buffer(tokens)
  return model.decode(x, encoded, tokens.order, decoded, None if sizes.predict_all else wanted, found)


def token_evidence(tokens: TokenSet, a: Architecture) -> Float[Array, "b n p features"]:
  """aim/model/interpolation_skip.py on the shown steps of token sets, in the order of the tokens."""
  grid = jnp.argsort(tokens.order, axis=1)
  on_grid = lambda x: patches.unpatchify(jnp.take_along_axis(x, grid[:, :, None], axis=1), a.channels, a.patch_channels)
  shown = on_grid(tokens.visible)
  binary = jnp.asarray(a.binary or (False,) * a.channels)
  found = interpolation_evidence(jnp.where(shown, on_grid(tokens.values), 0.0), shown, binary)
  in_order = lambda x: jnp.take_along_axis(
    patches.patchify(x, a.patch, a.patch_channels), tokens.order[:, :, None], axis=1
  )
  return jnp.stack([in_order(found[..., i]) for i in range(FEATURES)], axis=-1)
