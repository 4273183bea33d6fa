"""The memory that a step's activations take if the backward pass does not compute them again: an estimate.

It decides which compiled programs recompute (config.model.remat_when). Memory is a matter of the compiler, which
preflight asks; this formula is close to it for the buffers of the published models (docs/results/accelerators.md).
"""

from __future__ import annotations

import jax.numpy as jnp

from aim.model.buffer_sizes import BufferSizes
from aim.model.lsm2 import Architecture, Tower


def activation_bytes(a: Architecture, sizes: BufferSizes, windows: int) -> int:
  """Bytes of all devices together that the forward pass of `windows` windows keeps for the backward pass.

  A slot keeps, in each block, its inputs, what the two norms give, queries, keys, values, the result of attention, and
  the hidden layer of the MLP before and after its nonlinearity. Scores are not counted, which fused attention does not
  keep; the head and the embedding are small.

  Args:
    a: the architecture.
    sizes: of the buffers.
    windows: per microbatch.
  """
  groups = sizes.groups or windows
  days = windows * sizes.slots_of_a_day if a.decoder_tokens == "all" else groups * sizes.decoder
  encoder, targets = groups * sizes.encoder, groups * sizes.targets
  values = a.encoder.layers * encoder * _per_slot(a.encoder)
  if a.decoder_tokens == "visible":
    values += a.decoder.layers * (targets * _per_slot(a.decoder) + encoder * 3 * a.decoder.width)
  elif a.decoder_tokens == "refined":
    # Keys and values are of the visible tokens alone, which are laid out and normed apart.
    queries = (a.decoder.layers - 1) * days + (days if sizes.predict_all else targets)
    values += queries * (_per_slot(a.decoder) - 2 * a.decoder.width)
    values += a.decoder.layers * encoder * 4 * a.decoder.width
  elif sizes.predict_all:
    values += a.decoder.layers * days * _per_slot(a.decoder)
  else:
    values += (a.decoder.layers - 1) * days * _per_slot(a.decoder)
    values += targets * _per_slot(a.decoder) + days * 3 * a.decoder.width
  return values * jnp.dtype(a.dtype).itemsize


def _per_slot(tower: Tower) -> int:
  return 8 * tower.width + 2 * tower.mlp
