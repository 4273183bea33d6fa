"""The static buffer sizes of a step: what makes it textbook, trimmed or packed. They change its cost, not its result.

| form | encoder | decoder's last layer |
|---|---|---|
| textbook | N - D tokens of each window, among them masked ones that nothing attends to (AIM, "dropout") | all N |
| trimmed | each window padded to the batch's largest number of visible tokens | the targets, likewise padded |
| packed | the visible tokens of a device's windows one after another in one buffer | the targets, likewise packed |
"""

from __future__ import annotations

import dataclasses
from typing import TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int

from aim.model.attention import blocks
from aim.model.masking import TokenSet
from aim.model.token_buffers import TokenBuffer
from aim.runtime.window_balance import balanced_order

# decoder_tokens of which a step may need fewer slots than there are tokens.
FEWER_THAN_ALL = ("present", "observed", "refined")
VISIBLE_KEYS = ("refined", "visible")  # those with which tokens attend to the visible ones alone
Counts = TypeVar("Counts", jax.Array, np.ndarray)


@dataclasses.dataclass(frozen=True)
class BufferSizes:
  """The slots in each buffer of one compiled step.

  Attributes:
    groups: number of buffers that the windows are packed in, one per device; 0 for a padded stretch per window.
    encoder: slots for the visible tokens, per group, or per window if groups is 0.
    decoder: slots for the tokens in the decoder.
    targets: slots for the tokens to predict.
    tokens: N, tokens per day.
    largest: N - D, the most visible tokens of a window.
    decoder_tokens: as in Architecture.
    predict_all: whether every token goes through the whole decoder, not the targets alone.
    pairs: for kernels that skip blocks (aim/model/attention/blocks.py), the pairs of query and key in the blocks that
      they compute per microbatch in one layer of the encoder, of the decoder, and in one whose queries are the targets:
      a statistic of sampled steps, for counting FLOPs. None if each window's whole length is computed.
  """

  groups: int
  encoder: int
  decoder: int
  targets: int
  tokens: int
  largest: int
  decoder_tokens: str
  predict_all: bool = False
  pairs: tuple[int, int, int] | None = None

  @property
  def slots_of_a_day(self) -> int:
    """Slots that a window has in a decoder of all tokens."""
    return self.tokens if self.pairs is None else blocks.block_and_padded_length(self.tokens)[1]

  def visible_buffer(self, tokens: TokenSet) -> TokenBuffer:
    """The layout of the visible tokens, which the encoder reads."""
    return self._buffer(jnp.zeros_like(tokens.visible_lengths), tokens.visible_lengths, self.encoder, self.largest)

  def decoder_buffer(self, tokens: TokenSet) -> TokenBuffer:
    """The layout of the tokens in the decoder; in a cross-attention decoder, of its queries."""
    if self.decoder_tokens == "visible" and not self.predict_all:
      return self.target_buffer(tokens)
    first = jnp.zeros_like(tokens.target_ends)
    if self.decoder_tokens in FEWER_THAN_ALL:
      ends = tokens.present_ends if self.decoder_tokens == "present" else tokens.target_ends
      return self._buffer(first, ends, self.decoder, self.tokens)
    if self.pairs is not None:
      return TokenBuffer.aligned(first, jnp.full_like(first, self.tokens), self.groups, self.tokens)
    windows = len(first) // self.groups if self.groups else 1
    return self._buffer(first, jnp.full_like(first, self.tokens), windows * self.tokens, self.tokens)

  def target_buffer(self, tokens: TokenSet) -> TokenBuffer:
    """The layout of the tokens to predict."""
    if self.predict_all:
      return self.decoder_buffer(tokens)
    first = tokens.target_starts
    return self._buffer(first, tokens.target_ends - first, self.targets, self.tokens)

  def _buffer(self, first: Int[Array, " b"], lengths: Int[Array, " b"], count: int, longest: int) -> TokenBuffer:
    if self.groups:
      return TokenBuffer.packed(first, lengths, self.groups, count, longest)
    return TokenBuffer.padded(first, lengths, min(count, longest))


@dataclasses.dataclass(frozen=True)
class ViewBufferSizes(BufferSizes):
  """Buffer sizes of contrastive steps, which have no decoder. `encoder` counts the slots of all views of a window.

  Attributes:
    crops: for each crop, views per window, slots per view, and encoder passes per slot (forward 1, backward 2).
  """

  crops: tuple[tuple[int, int, int], ...] = ()


def needed(lengths: Counts, groups: int, accumulate: int) -> Counts:
  """Slots [3] that a step needs for its visible, decoder and target tokens: the largest of its buffers.

  Args:
    lengths: slot_counts of the step's windows, [b, 3].
    groups: as in BufferSizes.
    accumulate: microbatches per step.
  """
  windows = _by_group(lengths, groups, accumulate)
  if groups:
    windows = windows.sum(axis=1)
  return windows.reshape(-1, 3).max(axis=0)


def block_pairs(
  lengths: Int[np.ndarray, "b 3"], groups: int, accumulate: int, tokens: int, decoder_tokens: str
) -> Int[np.ndarray, " 3"]:
  """BufferSizes.pairs of one step; arguments as in ladder() and needed()."""
  windows = _by_group(lengths, groups, accumulate)
  visible, decoder, targets = (_Side.packed(windows[:, :, i]) for i in range(3))
  queries = _Side.aligned(len(windows), windows.shape[1], tokens) if decoder_tokens == "all" else decoder
  keys = visible if decoder_tokens in VISIBLE_KEYS else queries
  own = 0 if decoder_tokens == "visible" else queries.pairs(keys)
  return np.array([visible.pairs(visible), own, targets.pairs(keys)]) // accumulate


@dataclasses.dataclass(frozen=True)
class _Side:
  """Starts and lengths of the windows of each group, [groups, windows], and the slots of a block."""

  starts: np.ndarray
  lengths: np.ndarray
  block: int

  @classmethod
  def packed(cls, lengths: np.ndarray) -> _Side:
    """Windows as in TokenBuffer.packed."""
    return cls(lengths.cumsum(axis=1) - lengths, lengths, blocks.BLOCK)

  @classmethod
  def aligned(cls, groups: int, windows: int, longest: int) -> _Side:
    """Windows as in TokenBuffer.aligned."""
    block, stride = blocks.block_and_padded_length(longest)
    starts = np.broadcast_to(np.arange(windows) * stride, (groups, windows))
    return cls(starts, np.full_like(starts, longest), block)

  def pairs(self, keys: _Side) -> int:
    """Pairs in the blocks that queries on this side and those keys compute. Idle blocks are few, and left out."""
    count = blocks.block_count(int((self.starts + self.lengths).max()), self.block)
    spans = self.starts, self.lengths, keys.starts, keys.lengths
    return int(blocks.stretches(*spans, count, self.block, keys.block)[1].sum()) * self.block * keys.block


def _by_group(lengths: Counts, groups: int, accumulate: int) -> Counts:
  """Slot counts of windows as [microbatches * groups, windows, 3]; a single group if the buffers are padded."""
  windows = lengths.reshape(-1, accumulate, 3).swapaxes(0, 1)
  return windows.reshape(accumulate * groups, -1, 3) if groups else windows


def token_counts(tokens: TokenSet) -> Int[Array, "b 3"]:
  """Numbers of visible tokens, of those that are visible or targets, and of targets, of each window."""
  ends = tokens.target_ends
  return jnp.stack([tokens.visible_lengths, ends, ends - tokens.target_starts], axis=1)


def slot_counts(tokens: TokenSet, decoder_tokens: str) -> Int[Array, "b 3"]:
  """Numbers of each window's tokens in each of the three buffers; with decoder_tokens "present" or not."""
  counts = token_counts(tokens)
  return counts.at[:, 1].set(tokens.present_ends) if decoder_tokens == "present" else counts


def textbook(tokens: int, dropped: int, decoder_tokens: str) -> BufferSizes:
  """AIM as published: N - D tokens through the encoder, all N through the decoder."""
  return BufferSizes(0, tokens - dropped, tokens, tokens, tokens, tokens - dropped, decoder_tokens, True)


def exact(
  counts: Int[np.ndarray, " 3"],
  tokens: int,
  dropped: int,
  decoder_tokens: str,
  windows: int,
  groups: int,
  by_blocks: bool = False,
) -> BufferSizes:
  """The sizes for steps in which all windows have the same slot_counts, `counts`; `by_blocks` as in ladder()."""
  per_group = windows // groups if groups else 1
  visible, decoder, targets = (int(count) * per_group for count in counts)
  size = BufferSizes(groups, visible, decoder, targets, tokens, tokens - dropped, decoder_tokens)
  if not by_blocks:
    return size
  layout = np.tile(counts, (windows, 1)), groups, 1, tokens, decoder_tokens
  return _with_pairs(size, block_pairs(*layout))


def ladder(
  counts: Int[np.ndarray, "windows 3"],
  tokens: int,
  dropped: int,
  decoder_tokens: str,
  windows: int,
  groups: int,
  accumulate: int,
  count: int,
  by_blocks: bool = False,
) -> tuple[BufferSizes, ...]:
  """At most `count` sizes in ascending order: many steps fit the smaller ones, and every step fits the last.

  Args:
    counts: slot_counts of a sample of windows. Steps are made up by drawing windows from it at random, which packed
      buffers have in balanced_order() of their visible tokens.
    tokens: N, tokens per day.
    dropped: D, masked tokens that every window drops.
    decoder_tokens: as in Architecture.
    windows: windows per microbatch.
    groups: as in BufferSizes.
    accumulate: microbatches per step.
    count: how many sizes at most.
    by_blocks: whether packed buffers are for a kernel that skips blocks, so that the sizes have `pairs`.
  """
  rng = np.random.default_rng(0)

  def draw() -> Int[np.ndarray, "b 3"]:
    drawn = counts[rng.integers(len(counts), size=windows * accumulate)]
    return drawn[balanced_order(drawn[:, 0], groups, accumulate)] if groups else drawn

  draws = [draw() for _ in range(min(500, max(200, SAMPLED // (windows * accumulate))))]
  quantiles = np.linspace(0, 1, count)[1:]
  levels = np.quantile([needed(drawn, groups, accumulate) for drawn in draws], quantiles, axis=0)
  per_group = windows // groups if groups else 1
  bound = np.array([tokens - dropped, tokens, tokens]) * per_group
  # Long buffers are multiples of 128, which TPU kernels need.
  unit = 128 if bound[0] >= 1024 else 8
  slots = [tuple(np.minimum(np.ceil(level / unit).astype(int) * unit, bound)) for level in levels] + [tuple(bound)]
  sizes = [BufferSizes(groups, int(e), int(d), int(t), tokens, tokens - dropped, decoder_tokens) for e, d, t in slots]
  if by_blocks and groups:
    layout = groups, accumulate, tokens, decoder_tokens
    # Many groups make a draw slow, and need fewer draws.
    draws = draws[: max(20, BLOCK_STATISTICS // groups)]
    pairs = np.quantile([block_pairs(drawn, *layout) for drawn in draws], quantiles, axis=0)
    pairs = np.concatenate([pairs, pairs[-1:]])
    sizes = [_with_pairs(*each) for each in zip(sizes, pairs, strict=True)]
  return tuple(dict.fromkeys(sizes))


SAMPLED = 100_000  # windows that are drawn to choose sizes; large steps are slow to draw, and need fewer draws
BLOCK_STATISTICS = 4000  # groups whose blocks are counted to choose sizes


def _with_pairs(size: BufferSizes, pairs: np.ndarray) -> BufferSizes:
  visible, decoder, last = (int(number) for number in pairs)
  return dataclasses.replace(size, pairs=(visible, decoder, last))


def smallest(sizes: tuple[BufferSizes, ...], slots: Int[np.ndarray, " numbers"]) -> BufferSizes:
  """The first size of a ladder that holds a step.

  Args:
    sizes: the ladder.
    slots: needed() of the step.
  """
  visible, decoder, targets = (int(number) for number in slots)
  return next(
    s
    for s in sizes
    if s.encoder >= visible
    and s.targets >= targets
    and (s.decoder >= decoder or s.decoder_tokens not in FEWER_THAN_ALL)
  )
