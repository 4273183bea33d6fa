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

FEWER_THAN_ALL = ("present", "observed")  # decoder_tokens of which a step may need fewer slots than there are tokens
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
    most: for kernels that skip blocks, how many blocks of keys a block of targets reaches at most, and how many blocks
      of targets a block of keys (aim/model/attention/blocks.py). Unlike in self-attention, no length of a window bounds
      these numbers. None if all blocks must be gone through.
    pairs: pairs of query and key that such a kernel computes per microbatch in one layer of the encoder, of the
      decoder, and in one whose queries are the targets: a statistic of sampled steps, for counting FLOPs. None if each
      window's whole length is computed.
  """

  groups: int
  encoder: int
  decoder: int
  targets: int
  tokens: int
  largest: int
  decoder_tokens: str
  predict_all: bool = False
  most: tuple[int, int] | None = None
  pairs: tuple[int, int, int] | None = None

  def visible_buffer(self, tokens: TokenSet) -> TokenBuffer:
    """The layout of the visible tokens, which the encoder reads."""
    return self._buffer(jnp.zeros_like(tokens.visible_lengths), tokens.visible_lengths, self.encoder, self.largest)

  def decoder_buffer(self, tokens: TokenSet) -> TokenBuffer:
    """The layout of the tokens in the decoder; in a cross-attention decoder, of its queries."""
    if self.decoder_tokens == "visible" and not self.predict_all:
      return self.target_buffer(tokens)
    first = jnp.zeros_like(tokens.target_ends)
    if self.decoder_tokens in FEWER_THAN_ALL:
      ends = tokens.target_ends if self.decoder_tokens == "observed" else tokens.present_ends
      return self._buffer(first, ends, self.decoder, self.tokens)
    windows = len(first) // self.groups if self.groups else 1
    return self._buffer(first, jnp.full_like(first, self.tokens), windows * self.tokens, self.tokens)

  def target_buffer(self, tokens: TokenSet) -> TokenBuffer:
    """The layout of the tokens to predict."""
    if self.predict_all:
      return self.decoder_buffer(tokens)
    first = tokens.target_starts
    buffer = self._buffer(first, tokens.target_ends - first, self.targets, self.tokens)
    return dataclasses.replace(buffer, most=self.most)

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


def blocks_needed(lengths: Counts, groups: int, accumulate: int, tokens: int, decoder_tokens: str) -> Counts:
  """The least BufferSizes.most [2] of a step in packed buffers; arguments as in ladder() and needed()."""
  windows = _by_group(lengths, groups, accumulate)
  targets, keys = windows[:, :, 2], _key_lengths(windows, tokens, decoder_tokens)
  xp, slots = windows.__array_namespace__(), windows.shape[1] * tokens
  return xp.stack([_reached(targets, keys, slots).max(), _reached(keys, targets, slots).max()])


def block_pairs(
  lengths: Int[np.ndarray, "b 3"], groups: int, accumulate: int, tokens: int, decoder_tokens: str
) -> Int[np.ndarray, " 3"]:
  """BufferSizes.pairs of one step; arguments as in ladder() and needed()."""
  windows = _by_group(lengths, groups, accumulate)
  visible, targets, keys = windows[:, :, 0], windows[:, :, 2], _key_lengths(windows, tokens, decoder_tokens)
  layers = [(visible, visible), (targets, keys)]
  # Padding blocks compute one block of keys; there are few, and they are left out.
  encoder, last = (
    _reached(queries, keys, int(queries.sum(axis=1).max())).sum() * blocks.BLOCK**2 // accumulate
    for queries, keys in layers
  )
  if decoder_tokens == "visible":
    return np.array([encoder, 0, last])
  decoder = _reached(keys, keys, int(keys.sum(axis=1).max())).sum() * blocks.BLOCK**2 // accumulate
  return np.array([encoder, decoder, last])


def _by_group(lengths: Counts, groups: int, accumulate: int) -> Counts:
  """Slot counts of windows as [microbatches * groups, windows, 3]; a single group if the buffers are padded."""
  windows = lengths.reshape(-1, accumulate, 3).swapaxes(0, 1)
  return windows.reshape(accumulate * groups, -1, 3) if groups else windows


def _key_lengths(windows: Counts, tokens: int, decoder_tokens: str) -> Counts:
  """Numbers of the keys that each window's targets attend to."""
  if decoder_tokens == "all":
    return windows[:, :, 0] * 0 + tokens
  return windows[:, :, 0 if decoder_tokens == "visible" else 1]


def _reached(lengths: Counts, others: Counts, slots: int) -> Counts:
  """Blocks of the windows with lengths `others` that each block of those with `lengths` reaches, [g, n]."""
  starts = lambda lengths: lengths.cumsum(axis=1) - lengths
  count = blocks.block_count(slots, blocks.BLOCK)
  return blocks.stretches(starts(lengths), lengths, starts(others), others, count, blocks.BLOCK)[1]


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
  return _with_blocks(size, blocks_needed(*layout), block_pairs(*layout))


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
    counts: slot_counts of a sample of windows. Steps are made up by drawing windows from it at random.
    tokens: N, tokens per day.
    dropped: D, masked tokens that every window drops.
    decoder_tokens: as in Architecture.
    windows: windows per microbatch.
    groups: as in BufferSizes.
    accumulate: microbatches per step.
    count: how many sizes at most.
    by_blocks: whether packed buffers are for a kernel that skips blocks, so that the sizes have `most` and `pairs`.
  """
  rng = np.random.default_rng(0)
  draw = lambda: counts[rng.integers(len(counts), size=windows * accumulate)]
  draws = [draw() for _ in range(500)]
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
    most = np.quantile([blocks_needed(drawn, *layout) for drawn in draws], quantiles, axis=0)
    pairs = np.quantile([block_pairs(drawn, *layout) for drawn in draws], quantiles, axis=0)
    keys = bound[0] if decoder_tokens == "visible" else bound[1]
    all_blocks = np.array([blocks.block_count(int(slots), blocks.BLOCK) for slots in (keys, bound[2])])
    most = np.concatenate([np.minimum(np.ceil(most), all_blocks), all_blocks[None]])
    pairs = np.concatenate([pairs, pairs[-1:]])
    sizes = [_with_blocks(*each) for each in zip(sizes, most, pairs, strict=True)]
  return tuple(dict.fromkeys(sizes))


BLOCK_STATISTICS = 4000  # groups whose blocks are counted to choose sizes


def _with_blocks(size: BufferSizes, most: np.ndarray, pairs: np.ndarray) -> BufferSizes:
  visible, decoder, last = (int(number) for number in pairs)
  return dataclasses.replace(size, most=(int(most[0]), int(most[1])), pairs=(visible, decoder, last))


def smallest(sizes: tuple[BufferSizes, ...], slots: Int[np.ndarray, " numbers"]) -> BufferSizes:
  """The first size of a ladder that holds a step.

  Args:
    sizes: the ladder.
    slots: needed() of the step; if the sizes have `most`, followed by its blocks_needed().
  """
  visible, decoder, targets, *most = (int(number) for number in slots)
  return next(
    s
    for s in sizes
    if s.encoder >= visible
    and s.targets >= targets
    and (s.decoder >= decoder or s.decoder_tokens not in FEWER_THAN_ALL)
    and (s.most is None or (s.most[0] >= most[0] and s.most[1] >= most[1]))
  )
