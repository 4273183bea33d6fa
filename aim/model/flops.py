"""Floating-point operations of a step, by hand, and what a device could do: the two halves of an MFU."""

from __future__ import annotations

import dataclasses
import itertools
import time
from typing import TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from aim.model.buffer_sizes import BufferSizes, ViewBufferSizes
from aim.model.lsm2 import Architecture, Tower
from aim.runtime import devices

Number = TypeVar("Number", float, jax.Array)


def tower_flops(tower: Tower, tokens: Number, pairs: Number, layers: int | None = None) -> Number:
  """Forward FLOPs of a tower, multiply-adds counted as 2.

  Args:
    tokens: tokens through its projections and MLPs.
    pairs: pairs of query and key in its attention.
    layers: of that tower, all by default.
  """
  a_token = 2 * (4 * tower.width**2 + 2 * tower.width * tower.mlp)
  return (tower.layers if layers is None else layers) * (tokens * a_token + 4 * pairs * tower.width)


def useful_flops(a: Architecture, counts: Int[Array, "b 3"]) -> Float[Array, ""]:
  """Forward and backward FLOPs (3 x forward) that the tokens with something to say need.

  Args:
    counts: token_counts (aim/model/buffer_sizes.py) of the windows: visible, scored, targets.

  Visible tokens attend to visible ones in the encoder; in the decoder visible and target tokens attend to one another
  (the visible ones are all that a cross-attention decoder sees), in its last layer for the targets alone. Masked
  tokens in the encoder, inherited-missing positions in the decoder and padding are not useful.
  """
  visible, scored, targets = (counts[:, i].astype(jnp.float32) for i in range(3))
  d = a.decoder
  forward = tower_flops(a.encoder, visible, visible**2) + _ends(a, visible, targets)
  if a.decoder_tokens == "visible":
    forward += _cross_flops(d, targets, visible, targets * visible)
  else:
    forward += tower_flops(d, scored, scored**2, d.layers - 1) + _last_flops(d, scored, targets, targets * scored)
  return 3 * forward.sum()


def executed_flops(a: Architecture, sizes: BufferSizes, windows: int) -> float:
  """Forward and backward FLOPs (3 x forward) of the buffers a compiled step works on, `windows` windows a microbatch.

  Attention counts whole buffers a window, though the native kernel skips their padding; recomputation does not count.
  """
  if isinstance(sizes, ViewBufferSizes):
    a_view = lambda rows: tower_flops(a.encoder, rows, rows**2) + _embedding_flops(a, rows) + _head_flops(a)
    return windows * sum(passes * views * a_view(rows) for views, rows, passes in sizes.crops)
  groups = sizes.groups or windows
  encoder, wanted = groups * sizes.encoder, groups * sizes.targets
  longest = sizes.largest if sizes.groups else sizes.encoder
  targets = sizes.tokens if sizes.groups else sizes.targets
  forward = tower_flops(a.encoder, encoder, windows * longest**2) + _ends(a, encoder, wanted)
  if a.decoder_tokens == "visible":
    return 3 * (forward + _cross_flops(a.decoder, wanted, encoder, windows * targets * longest))
  everyone = a.decoder_tokens == "all"
  decoder = windows * sizes.tokens if everyone else groups * sizes.decoder
  keys = sizes.tokens if everyone or sizes.groups else sizes.decoder
  if sizes.predict_all:
    return 3 * (forward + tower_flops(a.decoder, decoder, windows * keys**2))
  forward += tower_flops(a.decoder, decoder, windows * keys**2, a.decoder.layers - 1)
  return 3 * (forward + _last_flops(a.decoder, decoder, wanted, windows * targets * keys))


def view_flops(
  a: Architecture, lengths: list[Int[Array, "b _"]], student: tuple[int, ...], teacher: tuple[int, ...]
) -> Float[Array, ""]:
  """Useful FLOPs of a step on views (aim/model/contrastive/views.py) of so many tokens: the student's crops forward and backward (3 x
  forward), the teacher's forward."""
  total = jnp.float32(0)
  for i, length in enumerate(lengths):
    tokens = length.astype(jnp.float32)
    forward = tower_flops(a.encoder, tokens, tokens**2) + _embedding_flops(a, tokens) + _head_flops(a)
    total += (3 * (i in student) + (i in teacher)) * forward.sum()
  return total


def _embedding_flops(a: Architecture, tokens: Number) -> Number:
  return 2 * tokens * a.encoder.width * a.patch_values * (2 if a.observed_flags else 1)


def _head_flops(a: Architecture) -> int:
  """Projection of a view; comparing it with others is little beside it."""
  head = a.projection
  assert head is not None
  widths = [a.encoder.width, *[head.hidden] * (head.layers - 1), head.width]
  return 2 * sum(x * y for x, y in itertools.pairwise(widths)) + 2 * head.width * head.prototypes


def _ends(a: Architecture, visible: Number, targets: Number) -> Number:
  """Patch embedding, bridge and head."""
  inputs = a.patch_values * (2 if a.observed_flags else 1)
  return 2 * visible * a.encoder.width * (inputs + a.decoder.width) + 2 * targets * a.decoder.width * a.patch_values


def _last_flops(tower: Tower, tokens: Number, targets: Number, pairs: Number) -> Number:
  """A layer in which `tokens` give keys and values, and only the targets go further."""
  one = dataclasses.replace(tower, layers=1)
  return tower_flops(one, targets, pairs) + 2 * 2 * (tokens - targets) * tower.width**2


def _cross_flops(tower: Tower, queries: Number, keys: Number, pairs: Number) -> Number:
  """Layers in which queries attend to keys that no layer changes."""
  a_query, a_key = 2 * (2 * tower.width**2 + 2 * tower.width * tower.mlp), 2 * 2 * tower.width**2
  return tower.layers * (queries * a_query + keys * a_key + 4 * pairs * tower.width)


def peak_flops() -> float | None:
  """Peak of all devices together in FLOP/s; None where the data sheet is not known (a CPU)."""
  sheet = devices.data_sheet(jax.devices()[0].device_kind)
  return sheet.flops * jax.device_count() if sheet else None


def measured_flops() -> float:
  """What a plain float32 matrix product of a transformer's shape reaches here, in FLOP/s; takes about 0.1 s."""
  x, w = jnp.ones((2048, 512)), jnp.ones((512, 512))
  product = jax.jit(lambda x, w: x @ w)
  product(x, w).block_until_ready()
  seconds = []
  for _ in range(5):
    start = time.perf_counter()
    product(x, w).block_until_ready()
    seconds.append(time.perf_counter() - start)
  return 2 * 2048 * 512 * 512 / float(np.median(seconds))
