"""Floating-point operations of a step, counted by formula, and the peak of the devices: both halves of an MFU."""

from __future__ import annotations

import itertools
import time
from collections.abc import Sequence
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from aim.model import person_context
from aim.model.buffer_sizes import VISIBLE_KEYS, BufferSizes, ViewBufferSizes
from aim.model.interpolation_skip import EMBEDDED, MEAN_MINUTES, head_outputs
from aim.model.lsm2 import Architecture, Tower
from aim.runtime import devices

Number = TypeVar("Number", float, jax.Array, np.ndarray)


def tower_flops(tower: Tower, tokens: Number, pairs: Number, layers: int | None = None) -> Number:
  """Forward FLOPs of a tower; a multiply-add counts as 2.

  Args:
    tower: its dimensions.
    tokens: tokens that go through its projections and MLPs.
    pairs: pairs of query and key in its attention.
    layers: number of layers to count, all by default.
  """
  per_token = 2 * (4 * tower.width**2 + 2 * tower.width * tower.mlp)
  return (tower.layers if layers is None else layers) * (tokens * per_token + 4 * pairs * tower.width)


def useful_flops(a: Architecture, counts: Int[Array, "b 3"]) -> Float[Array, ""]:
  """Forward and backward FLOPs (3 x forward) of the computations that contribute to the result.

  Visible tokens attend to visible ones in the encoder. In the decoder, visible and target tokens attend to one another
  (with decoder_tokens "visible" and "refined" only to visible ones), and in its last layer only the targets are
  computed. Masked tokens in the encoder, inherited-missing positions in the decoder and padding are not useful.

  Args:
    a: the architecture.
    counts: buffer_sizes.token_counts of the windows: visible, visible or target, target.
  """
  return _useful_flops(a, *(counts[:, i].astype(jnp.float32) for i in range(3)))


def _useful_flops(a: Architecture, visible: Any, decoder: Any, targets: Any) -> Any:
  """useful_flops of arrays [b] of either kind: of visible tokens, of visible or target ones, and of targets."""
  d = a.decoder
  forward = tower_flops(a.encoder, visible, visible**2) + _ends(a, visible, targets)
  if a.decoder_tokens == "visible":
    forward += _cross_flops(d, targets, visible, targets * visible) + _skip_flops(a, targets, targets)
  else:
    keys = visible if a.decoder_tokens in VISIBLE_KEYS else decoder
    forward += (
      _skip_flops(a, decoder, targets)
      + _cross_flops(d, decoder, keys, decoder * keys, d.layers - 1)
      + _cross_flops(d, targets, keys, targets * keys, 1)
    )
  return 3 * forward.sum() + len(visible) * local_mean_flops(a)


def executed_parts(
  a: Architecture, sizes: BufferSizes, windows: int, counts: Int[np.ndarray, "b 3"]
) -> dict[str, float]:
  """Splits executed_flops, per window of a sample, into parts that add up to it: {part: FLOPs}.

  "useful" is useful_flops; "missing" the decoder's work on positions that have no value; "padding" the slots and the
  outputs that no result needs; "blocks" the pairs of attention beyond those of a window's own tokens.

  Args:
    a, sizes, windows: as in executed_flops.
    counts: buffer_sizes.slot_counts of the sample.
  """
  # In NumPy, because preflight calls this under a mesh of devices that are not here.
  visible, decoder, targets = (counts[:, i].astype(float) for i in range(3))
  useful = float(_useful_flops(a, visible, decoder, targets)) / len(counts)
  keys = np.full_like(decoder, a.tokens) if a.decoder_tokens == "all" else decoder
  needed = float(_useful_flops(a, visible, keys, targets)) / len(counts)
  read = visible if a.decoder_tokens in VISIBLE_KEYS else keys
  own_pairs = [float((x * y).mean()) * windows for x, y in ((visible, visible), (keys, read), (targets, read))]
  tight, executed = (executed_flops(a, sizes, windows, pairs) / windows for pairs in (own_pairs, None))
  return {"useful": useful, "missing": needed - useful, "padding": tight - needed, "blocks": executed - tight}


def executed_flops(a: Architecture, sizes: BufferSizes, windows: int, pairs: Sequence[float] | None = None) -> float:
  """Forward and backward FLOPs (3 x forward) of a compiled step's buffers, for `windows` windows per microbatch.

  Attention counts the blocks that a kernel computes if the sizes know them, and otherwise each window's whole buffer,
  although the native kernel skips padding; `pairs` are counted instead if they are given, in the order of
  BufferSizes.pairs. Recomputation is not counted.
  """
  if isinstance(sizes, ViewBufferSizes):
    per_view = lambda slots: tower_flops(a.encoder, slots, slots**2) + _embedding_flops(a, slots) + _head_flops(a)
    return windows * sum(passes * views * per_view(slots) for views, slots, passes in sizes.crops)
  groups = sizes.groups or windows
  encoder, targets = groups * sizes.encoder, groups * sizes.targets
  # The length of one window's attention: if windows are packed, that of a whole day.
  visible_length = sizes.largest if sizes.groups else sizes.encoder
  target_length = sizes.tokens if sizes.groups else sizes.targets
  all_tokens = a.decoder_tokens == "all"
  queries = sizes.tokens if all_tokens or sizes.groups else sizes.decoder
  keys = visible_length if a.decoder_tokens in VISIBLE_KEYS else queries
  visible_pairs, decoder_pairs, last_pairs = (
    pairs
    or sizes.pairs
    or (
      windows * visible_length**2,
      windows * queries * keys,
      windows * target_length * keys,
    )
  )
  forward = tower_flops(a.encoder, encoder, visible_pairs) + _ends(a, encoder, targets)
  once = windows * local_mean_flops(a)
  if a.decoder_tokens == "visible":
    forward += _cross_flops(a.decoder, targets, encoder, last_pairs)
    return 3 * (forward + _skip_flops(a, targets, targets)) + once
  decoder = windows * sizes.slots_of_a_day if all_tokens else groups * sizes.decoder
  forward += _skip_flops(a, decoder, decoder if sizes.predict_all else targets)
  read = encoder if a.decoder_tokens in VISIBLE_KEYS else decoder
  last, last_pairs = (decoder, decoder_pairs) if sizes.predict_all else (targets, last_pairs)
  forward += _cross_flops(a.decoder, decoder, read, decoder_pairs, a.decoder.layers - 1)
  return 3 * (forward + _cross_flops(a.decoder, last, read, last_pairs, 1)) + once


def view_flops(
  a: Architecture, lengths: list[Int[Array, "b _"]], student: tuple[int, ...], teacher: tuple[int, ...]
) -> Float[Array, ""]:
  """Useful FLOPs of a contrastive step: the student's crops forward and backward (3 x forward), the teacher's forward.

  Args:
    a: the architecture.
    lengths: the number of tokens in each view, one array per crop (aim/model/contrastive/views.py).
    student, teacher: the indices of the crops that each of them sees.
  """
  total = jnp.float32(0)
  for i, length in enumerate(lengths):
    tokens = length.astype(jnp.float32)
    forward = tower_flops(a.encoder, tokens, tokens**2) + _embedding_flops(a, tokens) + _head_flops(a)
    total += (3 * (i in student) + (i in teacher)) * forward.sum()
  return total


def _embedding_flops(a: Architecture, tokens: Number) -> Number:
  return 2 * tokens * a.encoder.width * a.patch_values * (2 if a.observed_flags else 1)


def _head_flops(a: Architecture) -> int:
  """The projection of one view. Comparing views with each other costs little in comparison and is left out."""
  head = a.projection
  assert head is not None
  widths = [a.encoder.width, *[head.hidden] * (head.layers - 1), head.width]
  return 2 * sum(x * y for x, y in itertools.pairwise(widths)) + 2 * head.width * head.prototypes


def _ends(a: Architecture, visible: Number, targets: Number) -> Number:
  """The patch embedding, the bridge and the head."""
  inputs = a.patch_values * (2 if a.observed_flags else 1)
  return 2 * visible * a.encoder.width * (inputs + a.decoder.width) + 2 * targets * a.decoder.width * a.patch_values


def _skip_flops(a: Architecture, tokens: Number, targets: Number) -> Number:
  """The interpolation skip: the embedding of the evidence, and the outputs of the head beside the correction."""
  if not a.interpolation_skip:
    return 0 * tokens
  more_outputs = head_outputs(a.patch_values, a.skip_evidence) - a.patch_values
  embedded = EMBEDDED + (person_context.EMBEDDED if a.context_days else 0)
  more_outputs += person_context.SHIFTS if a.context_days else 0
  given = tokens if a.evidence_embedding == "before" else targets
  return 2 * a.decoder.width * (given * embedded * a.patch_values + targets * more_outputs)


def local_mean_flops(a: Architecture) -> float:
  """The products that make a window's local means, of values and of their number. They have no gradient.

  A float, because a compiled step counts with it, in which a whole number has 32 bits.
  """
  means = len(MEAN_MINUTES) if a.interpolation_skip and a.skip_evidence == "smooth" else 0
  means += 1 if a.context_days else 0
  return float(means * 2 * (a.length * a.patch) ** 2 * 2 * a.channels)


def _cross_flops(tower: Tower, queries: Number, keys: Number, pairs: Number, layers: int | None = None) -> Number:
  """Layers, all by default, in which tokens attend to others: projections of both, attention, and MLPs of queries."""
  per_query, per_key = 2 * (2 * tower.width**2 + 2 * tower.width * tower.mlp), 2 * 2 * tower.width**2
  return (tower.layers if layers is None else layers) * (queries * per_query + keys * per_key + 4 * pairs * tower.width)


def peak_flops() -> float | None:
  """The peak of all devices together in FLOP/s; None if there is no data sheet for them, as for a CPU."""
  sheet = devices.data_sheet(jax.devices()[0].device_kind)
  return sheet.flops * jax.device_count() if sheet else None


def measured_flops() -> float:
  """FLOP/s that a float32 matrix product of a transformer's shape reaches on this device; takes about 0.1 s."""
  x, w = jnp.ones((2048, 512)), jnp.ones((512, 512))
  product = jax.jit(lambda x, w: x @ w)
  product(x, w).block_until_ready()
  seconds = []
  for _ in range(5):
    start = time.perf_counter()
    product(x, w).block_until_ready()
    seconds.append(time.perf_counter() - start)
  return 2 * 2048 * 512 * 512 / float(np.median(seconds))
