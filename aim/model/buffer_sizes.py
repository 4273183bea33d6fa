"""The static buffer sizes of a step: what makes it textbook, trimmed or packed. They change the work and not the
result.

| form | encoder | decoder's last layer |
|---|---|---|
| textbook | N - D tokens of each window, masked ones that nobody attends to among them (AIM, "dropout") | all N |
| trimmed | each window padded to the batch's largest visible count | targets, likewise padded |
| packed | the visible tokens of a device's windows one after another in one buffer | targets, likewise packed |
"""

from __future__ import annotations

import dataclasses
from typing import TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int

from aim.model.masking import TokenSet
from aim.model.token_buffers import TokenBuffer

Counts = TypeVar("Counts", jax.Array, np.ndarray)

FORMS = ("auto", "textbook", "trimmed", "packed")


@dataclasses.dataclass(frozen=True)
class BufferSizes:
  """Rows of the buffers of one compiled step.

  Attributes:
    groups: buffers that the windows are packed in, one a device; 0: a padded stretch of rows for each window.
    encoder, decoder, targets: rows a group, or a window where groups is 0, for the visible tokens, those in the decoder
    and
      those to predict.
    tokens: N, tokens of a day.
    largest: no window shows more tokens than this (N - D).
    decoder_tokens: as in Architecture.
    predict_all: every token in the decoder, not the targets alone.
  """

  groups: int
  encoder: int
  decoder: int
  targets: int
  tokens: int
  largest: int
  decoder_tokens: str
  predict_all: bool = False

  def visible_buffer(self, tokens: TokenSet) -> TokenBuffer:
    return self._rows(jnp.zeros_like(tokens.visible_lengths), tokens.visible_lengths, self.encoder, self.largest)

  def decoder_buffer(self, tokens: TokenSet) -> TokenBuffer:
    """The tokens that take part in the decoder (of a cross-attention one, its queries)."""
    if self.decoder_tokens == "visible" and not self.predict_all:
      return self.target_buffer(tokens)
    first = jnp.zeros_like(tokens.target_ends)
    if self.decoder_tokens == "observed":
      return self._rows(first, tokens.target_ends, self.decoder, self.tokens)
    windows = len(first) // self.groups if self.groups else 1
    return self._rows(first, jnp.full_like(first, self.tokens), windows * self.tokens, self.tokens)

  def target_buffer(self, tokens: TokenSet) -> TokenBuffer:
    """The tokens to predict."""
    if self.predict_all:
      return self.decoder_buffer(tokens)
    first = tokens.target_starts
    return self._rows(first, tokens.target_ends - first, self.targets, self.tokens)

  def _rows(self, first: Int[Array, " b"], lengths: Int[Array, " b"], count: int, longest: int) -> TokenBuffer:
    if self.groups:
      return TokenBuffer.packed(first, lengths, self.groups, count, longest)
    return TokenBuffer.padded(first, lengths, min(count, longest))


@dataclasses.dataclass(frozen=True)
class ViewBufferSizes(BufferSizes):
  """Of a step that encodes views and decodes nothing; `encoder` counts the rows of all views of a window.

  Attributes:
    crops: (views a window, rows a view, encoder passes each row goes through; forward counts 1, backward 2).
  """

  crops: tuple[tuple[int, int, int], ...] = ()


def needed(lengths: Counts, groups: int, accumulate: int) -> Counts:
  """Rows [3] that a step needs for visible, decoded and wanted tokens [b, 3], the most of its microbatches and
  groups."""
  windows = lengths.reshape(-1, accumulate, 3).swapaxes(0, 1)
  if groups:
    windows = windows.reshape(accumulate * groups, -1, 3).sum(axis=1)
  return windows.reshape(-1, 3).max(axis=0)


def token_counts(tokens: TokenSet) -> Int[Array, "b 3"]:
  """Visible tokens, those that are visible or targets, and targets of each window."""
  scored = tokens.target_ends
  return jnp.stack([tokens.visible_lengths, scored, scored - tokens.target_starts], axis=1)


def textbook(tokens: int, dropped: int, decoder_tokens: str) -> BufferSizes:
  """AIM as published: N - D tokens in the encoder, all N through the decoder."""
  return BufferSizes(0, tokens - dropped, tokens, tokens, tokens, tokens - dropped, decoder_tokens, True)


def exact(
  counts: Int[np.ndarray, " 3"], tokens: int, dropped: int, decoder_tokens: str, windows: int, groups: int
) -> BufferSizes:
  """For steps of windows that all have the same token_counts."""
  visible, decoded, wanted = (int(count) * (windows // groups if groups else 1) for count in counts)
  return BufferSizes(groups, visible, decoded, wanted, tokens, tokens - dropped, decoder_tokens)


def ladder(
  counts: Int[np.ndarray, "windows 3"],
  tokens: int,
  dropped: int,
  decoder_tokens: str,
  windows: int,
  groups: int,
  accumulate: int,
  count: int,
) -> tuple[BufferSizes, ...]:
  """At most `count` sizes, from one that many steps fit in to one that any step does.

  Args:
    counts: token_counts of a sample of windows; steps are made up from it by drawing windows at random.
    windows: windows of a microbatch.
    groups: as in BufferSizes.
  """
  rng = np.random.default_rng(0)
  draws = [needed(counts[rng.integers(len(counts), size=windows * accumulate)], groups, accumulate) for _ in range(500)]
  levels = np.quantile(np.stack(draws), np.linspace(0, 1, count)[1:], axis=0)
  a_group = windows // groups if groups else 1
  bound = np.array([tokens - dropped, tokens, tokens]) * a_group
  # Multiples of 128 on long buffers, as TPU kernels want them.
  unit = 128 if bound[0] >= 1024 else 8
  rows = {tuple(np.minimum(np.ceil(level / unit).astype(int) * unit, bound)) for level in levels} | {tuple(bound)}
  return tuple(
    BufferSizes(groups, int(e), int(d), int(w), tokens, tokens - dropped, decoder_tokens) for e, d, w in sorted(rows)
  )


def smallest(sizes: tuple[BufferSizes, ...], rows: Int[np.ndarray, " 3"]) -> BufferSizes:
  """The first of the ladder that holds so many visible, decoded and wanted tokens."""
  visible, decoded, wanted = (int(number) for number in rows)
  return next(
    s
    for s in sizes
    if s.encoder >= visible and s.targets >= wanted and (s.decoder >= decoded or s.decoder_tokens != "observed")
  )
