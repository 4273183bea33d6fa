"""Decides which tokens the encoder sees and which values are scored (AIM, "Adaptive and inherited masking").

The mask has two parts:

- *inherited*: what the sensor lost (`inherited_missing`). It is neither read nor scored.
- *artificial*: what we hide (`artificial_mask`, one strategy per window). The observed values in it are the targets.

`sorted_token_set` joins the two and sorts each window's tokens into visible | target | inherited-missing | of channels
without any observed value, so that visible tokens are a prefix and dropping tokens is slicing. `training_token_set` is
the entry for pretraining, `evaluation_token_set` for everything else.

All shapes are static under jit. Every window's mask is drawn on the device from a key of its own, so a run repeats
exactly.
Notation: b windows, c channels, s steps per day, t patches per day, n = c * t tokens, p steps per patch.

Days come folded (patches.fold). Where patches span several channels, a channel here is therefore a group of channels,
and each step of the day counts once for every channel of the group.
"""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Key

from aim.model import patches
from aim.model.patches import Arrays
from aim.model.person_context import Context

STRATEGIES = ("random", "temporal", "sensor", "gaps")


@dataclasses.dataclass(frozen=True)
class Masking:
  """Settings of the artificial and the inherited mask (AIM, section "Adaptive and inherited masking").

  from_config.masking makes one from config.masking and checks it. Steps are those of folded days.

  Attributes:
    weights: share of windows that get each of STRATEGIES; they need not sum to 1. None is negative, and one that is
      usable is above 0.
    random_ratio: share of the grid that `random` hides, in pieces of random_unit steps of one channel.
    random_unit: length of these pieces in steps, a divisor of the patch; 0 stands for whole patches.
    temporal_ratio: share of the day's patches that `temporal` hides, in all channels at once.
    temporal_block: number of patches in the contiguous blocks that `temporal` hides; 1 for independent patches.
    sensor_ratio: share of the channels that `sensor` hides for the whole day.
    gap_steps: shortest and longest gap of `gaps`, in steps; lengths are log-uniform.
    gap_count: largest number of gaps per window. There are 1 to this many, each in all channels or in a random half.
    min_observed_share: a token is inherited-missing if a smaller share of its steps is observed. 1.0 means that one
      missing step is enough; 0.0 keeps every token with any observed step.
    any_observed: for each channel, whether any observed step keeps its tokens, whatever min_observed_share is; empty
      if that holds for none.
    drop_ratio: share of the tokens that every window drops in training, visible ones too where fewer are masked; -1
      for as many as every window masks.
  """

  weights: tuple[float, float, float, float]
  random_ratio: float
  random_unit: int
  temporal_ratio: float
  temporal_block: int
  sensor_ratio: float
  gap_steps: tuple[int, int]
  gap_count: int
  min_observed_share: float
  any_observed: tuple[bool, ...]
  drop_ratio: float

  def strategy_weights(self, channels: int) -> np.ndarray:
    """float32 [4] weights of STRATEGIES. `sensor` gets 0 if there is no second channel to predict from.

    Args:
      channels: number of folded channels, the model's channel groups; so too in the other methods.
    """
    weights = np.asarray(self.weights, np.float32).copy()
    if channels == 1:
      weights[STRATEGIES.index("sensor")] = 0
    return weights

  def strategies_in_use(self, channels: int) -> list[str]:
    """Those of STRATEGIES that some window may get: their weight is above 0."""
    return [name for name, weight in zip(STRATEGIES, self.strategy_weights(channels), strict=True) if weight > 0]

  def hidden_count(self, strategy: str, channels: int, length: int) -> int:
    """Number of whole tokens that `strategy` hides in every window of [channels x length] tokens; 0 if it varies."""
    if strategy == "random" and not self.random_unit:
      return _share(self.random_ratio, channels * length)
    if strategy == "temporal":
      return _share(self.temporal_ratio, length) * channels
    if strategy == "sensor":
      return _share(self.sensor_ratio, channels) * length
    return 0

  def dropped_count(self, channels: int, length: int) -> int:
    """D, how many tokens every window drops: the least that a strategy in use hides, or drop_ratio (AIM, "dropout")."""
    if self.drops_visible:
      return min(channels * length - 1, int(self.drop_ratio * channels * length))
    counts = [self.hidden_count(name, channels, length) for name in self.strategies_in_use(channels)]
    # One token always stays visible, even if the day is a single patch and hidden.
    return min(channels * length - 1, *counts)

  @property
  def drops_visible(self) -> bool:
    """True if training drops a fixed share of the tokens, visible ones too where fewer are masked."""
    return self.drop_ratio >= 0

  def trains_short_holes(self, patch_values: int) -> bool:
    """True if training scores what a model gives in the holes of a patch of which it sees the rest, or never sees it.

    Args:
      patch_values: values per patch, steps x channels, which random_unit is counted in.
    """
    if self.min_observed_share >= 1:  # a patch with a hole is lost whole
      return True
    weights = dict(zip(STRATEGIES, self.weights, strict=True))
    return weights["gaps"] > 0 or (weights["random"] > 0 and 0 < self.random_unit < patch_values)

  def hides_equal_counts(self, channels: int) -> bool:
    """True if the only strategy in use hides whole tokens, so that every window has the same number of hidden ones."""
    used = self.strategies_in_use(channels)
    return used in (["temporal"], ["sensor"]) or (used == ["random"] and not self.random_unit)


def _share(ratio: float, n: int) -> int:
  """The count nearest to ratio * n, at least 1, and at most n - 1 if n is 2 or more."""
  return int(np.clip(np.floor(ratio * n + 0.5), 1, max(n - 1, 1)))


class TokenSet(NamedTuple):
  """A batch of windows as token sets, each sorted visible | target | inherited-missing | of absent channels.

  A token of which some values are visible and others hidden is both visible and a target; such tokens stand between the
  two groups. So the visible tokens are [0, visible_lengths) and the targets [target_starts, target_ends).

  Attributes:
    order: int32 [b, n], the grid position (channel * t + time) of each sorted token.
    values: float32 [b, n, p], z-scores to predict, 0 where unobserved.
    visible: bool [b, n, p], the values that the encoder may read; False outside visible tokens.
    target: bool [b, n, p], the values to predict: in training those that are observed and hidden.
    visible_lengths: int32 [b], number of visible tokens, at least 1.
    target_starts: int32 [b], number of tokens before the first with a target.
    target_ends: int32 [b], number of tokens up to the last that is visible or a target.
    present_ends: int32 [b], number of tokens up to the last of a channel with an observed value, hidden or not.
    context: what the person's other days say of these, on the grid of the day rather than sorted; None if nothing does.
  """

  order: Int[Array, "b n"]
  values: Float[Array, "b n p"]
  visible: Bool[Array, "b n p"]
  target: Bool[Array, "b n p"]
  visible_lengths: Int[Array, " b"]
  target_starts: Int[Array, " b"]
  target_ends: Int[Array, " b"]
  present_ends: Int[Array, " b"]
  context: Context | None = None


def inherited_missing(observed: Arrays, masking: Masking) -> Arrays:
  """Tokens [b, n] that the sensor lost, by where it gave a number [b, n, p].

  Less than min_observed_share of their steps is observed, or none if any_observed.
  """
  least = max(1, int(np.ceil(masking.min_observed_share * observed.shape[-1] - 1e-9)))
  if not any(masking.any_observed) or least == 1:
    return observed.sum(-1) < least
  by_channel = np.where(masking.any_observed, 1, least)
  return observed.sum(-1) < by_channel.repeat(observed.shape[1] // len(by_channel))


def random_mask(key: Key[Array, ""], channels: int, length: int, count: int) -> Bool[Array, " n"]:
  """Hides exactly `count` tokens of the grid."""
  return _lowest(jax.random.uniform(key, (channels * length,)), count)


def temporal_mask(key: Key[Array, ""], channels: int, length: int, count: int, block: int) -> Bool[Array, " n"]:
  """Hides all channels at exactly `count` of the `length` times, in contiguous blocks with a random phase."""
  phase_key, block_key = jax.random.split(key)
  phase = jax.random.randint(phase_key, (), 0, block)
  blocks = jax.random.uniform(block_key, ((length - 1 + block) // block + 1,))
  hidden = _lowest(blocks[(jnp.arange(length) + phase) // block], count)
  return jnp.tile(hidden, channels)


def sensor_mask(key: Key[Array, ""], channels: int, length: int, count: int) -> Bool[Array, " n"]:
  """Hides exactly `count` channels for the whole day."""
  return jnp.repeat(_lowest(jax.random.uniform(key, (channels,)), count), length, total_repeat_length=channels * length)


def gap_mask(key: Key[Array, ""], masking: Masking, channels: int, steps: int) -> Bool[Array, "s c"]:
  """Hides 1 to gap_count gaps of log-uniform length anywhere in the day, not aligned to patches."""
  keys = jax.random.split(key, 5)
  gaps = masking.gap_count
  low, high = np.log(masking.gap_steps[0]), np.log(masking.gap_steps[1])
  sizes = jnp.exp(jax.random.uniform(keys[0], (gaps,), minval=low, maxval=high)).round()
  # A gap may start before the day does; otherwise steps near its edges would be hidden less often than others.
  starts = jnp.floor(jax.random.uniform(keys[1], (gaps,)) * (steps + sizes - 1)) - sizes + 1
  used = jnp.arange(gaps) < jax.random.randint(keys[2], (), 1, gaps + 1)
  everywhere = jax.random.bernoulli(keys[3], 0.5, (gaps, 1))
  hit = (everywhere | jax.random.bernoulli(keys[4], 0.5, (gaps, channels))) & used[:, None]
  clock = jnp.arange(steps)
  inside = (clock >= starts[:, None]) & (clock < (starts + sizes)[:, None])
  return (inside[:, :, None] & hit[:, None, :]).any(0)


def _lowest(scores: Float[Array, " n"], count: int) -> Bool[Array, " n"]:
  """True at the `count` lowest scores. Ties are broken by position, so the count is exact. No score is negative."""
  # Bits of floats that are not negative are in the order of the floats. The count-th lowest score is the highest number
  # that has fewer than `count` scores below it; found bit by bit, on a CPU some thirty times as fast as by sorting.
  bits = jax.lax.bitcast_convert_type(scores, jnp.int32)

  def with_bit(i: Array, found: Array) -> Array:
    higher = found | (1 << (30 - i))
    return jnp.where((bits < higher).sum() < count, higher, found)

  threshold = jax.lax.fori_loop(0, 31, with_bit, jnp.int32(0))
  below, equal = bits < threshold, bits == threshold
  return below | (equal & (jnp.cumsum(equal) <= count - below.sum()))


def artificial_mask(
  key: Key[Array, ""], masking: Masking, channels: int, length: int, patch: int
) -> Bool[Array, "n p"]:
  """Draws a strategy for one window and the values that it hides.

  sorted_token_set has the last word: it also hides what is left of a token that keeps too few visible values, and it
  makes one token visible again if none is left (_keep_one).

  Args:
    key: of this window.
    masking: the strategies and how much they hide.
    channels: number of folded channels, the model's channel groups.
    length: patches per day.
    patch: values per patch, over all channels of a group.
  """
  choice_key, token_key, gap_key = jax.random.split(key, 3)
  weights = masking.strategy_weights(channels)
  strategy = jax.random.categorical(choice_key, jnp.log(weights))
  whole = lambda tokens: jnp.broadcast_to(tokens[:, None], (channels * length, patch))
  unit = masking.random_unit or patch
  pieces = length * patch // unit  # per channel
  random_count = _share(masking.random_ratio, channels * pieces)
  draws = {
    "random": lambda: random_mask(token_key, channels, pieces, random_count).repeat(unit).reshape(-1, patch),
    "temporal": lambda: whole(
      temporal_mask(token_key, channels, length, _share(masking.temporal_ratio, length), masking.temporal_block)
    ),
    "sensor": lambda: whole(sensor_mask(token_key, channels, length, _share(masking.sensor_ratio, channels))),
    "gaps": lambda: patches.patchify(gap_mask(gap_key, masking, channels, length * patch)[None], patch)[0],
  }
  hidden = jnp.zeros((channels * length, patch), bool)
  # Every strategy in use is drawn, and all but one are discarded. A branch would save nothing, because under vmap it
  # computes both sides anyway.
  for i, name in enumerate(STRATEGIES):
    if weights[i] > 0:
      hidden |= draws[name]() & (strategy == i)
  return hidden


def training_token_set(
  key: Key[Array, ""], masking: Masking, z: Float[Array, "b s c"], observed: Bool[Array, "b s c"], patch: int
) -> TokenSet:
  """The token sets of a pretraining step: hides part of every window, drawn from `key`.

  Args:
    key: one key for the batch.
    masking: what to hide.
    z: z-scores of folded days, 0 where missing.
    observed: where the sensor gave a number.
    patch: steps per patch.
  """
  b, s, c = z.shape
  length = s // patch
  mask_key, order_key = jax.random.split(key)
  hidden = jax.vmap(lambda k: artificial_mask(k, masking, c, length, patch))(jax.random.split(mask_key, b))
  shuffle = jax.random.uniform(order_key, (b, c * length))
  return sorted_token_set(masking, z, observed, patch, hidden, shuffle, drop=masking.drops_visible)


def fixed_token_set(
  key: Key[Array, ""],
  masking: Masking,
  z: Float[Array, "b s c"],
  observed: Bool[Array, "b s c"],
  patch: int,
  place: Int[Array, " b"],
) -> TokenSet:
  """Hides values as in training, by a mask that depends on the key and the day's place alone, not on the batch.

  training_token_set draws its keys for the batch as a whole, here each day has one.

  Args:
    key: of all masks.
    masking, z, observed, patch: as in training_token_set.
    place: number of each day among those scored.
  """
  _, s, c = z.shape
  length = s // patch

  def draw(place: Int[Array, ""]) -> tuple[Array, Array]:
    mask_key, order_key = jax.random.split(jax.random.fold_in(key, place))
    hidden = artificial_mask(mask_key, masking, c, length, patch)
    return hidden, jax.random.uniform(order_key, (c * length,))

  hidden, shuffle = jax.vmap(draw)(place)
  return sorted_token_set(masking, z, observed, patch, hidden, shuffle, drop=masking.drops_visible)


def evaluation_token_set(
  masking: Masking,
  z: Float[Array, "b s c"],
  observed: Bool[Array, "b s c"],
  patch: int,
  target: Bool[Array, "b s c"] | None = None,
) -> TokenSet:
  """The token sets of an evaluation: the inherited mask alone, nothing hidden, tokens of each group in grid order.

  `target` marks the values to predict, observed or not; none by default. Other arguments as in training_token_set.
  """
  b, s, c = z.shape
  n = c * (s // patch)
  grid = jnp.broadcast_to(jnp.arange(n) / n, (b, n))
  target = patches.patchify(jnp.zeros_like(observed) if target is None else target, patch)
  return sorted_token_set(masking, z, observed, patch, jnp.zeros((b, n, patch), bool), grid, target)


def sorted_token_set(
  masking: Masking,
  z: Float[Array, "b s c"],
  observed: Bool[Array, "b s c"],
  patch: int,
  hidden: Bool[Array, "b n p"],
  shuffle: Float[Array, "b n"],
  target: Bool[Array, "b n p"] | None = None,
  drop: bool = False,
) -> TokenSet:
  """Joins the inherited mask with the hidden values and sorts the tokens.

  This is where it is decided which tokens are visible, target or inherited-missing.

  Args:
    masking: for what it says of tokens that the sensor lost, and of dropped ones.
    z: z-scores of folded days, 0 where missing.
    observed: where the sensor gave a number.
    patch: steps per patch.
    hidden: the values that the artificial mask hides.
    shuffle: numbers in [0, 1) that order the tokens within each group.
    target: the values to predict, observed or not; by default the observed values that are not visible.
    drop: whether visible tokens beyond N - D are dropped; they are no targets.
  """
  channels = observed.shape[2]
  present = jnp.repeat(observed.any(axis=1), observed.shape[1] // patch, axis=1)
  z, observed = patches.patchify(z, patch), patches.patchify(observed, patch)
  inherited = inherited_missing(observed, masking)
  # A token that hiding leaves with too few visible values is hidden whole.
  artificial = inherited_missing(observed & ~hidden, masking) & ~inherited
  visible_tokens = _keep_one(~(inherited | artificial), inherited)
  visible = observed & ~hidden & visible_tokens[:, :, None]
  if target is None:
    target = observed & ~visible & ~inherited[:, :, None]
  if drop:
    length = z.shape[1] // channels
    visible_tokens &= _first(visible_tokens, shuffle, z.shape[1] - masking.dropped_count(channels, length))
    visible &= visible_tokens[:, :, None]
  target_tokens = target.any(-1)
  taking_part = visible_tokens | target_tokens
  # Visible, visible and target, target, the rest: both the visible tokens and the targets are then contiguous.
  rest = jnp.where(present, 3.0, 4.0)
  group = jnp.where(visible_tokens, jnp.where(target_tokens, 1.0, 0.0), jnp.where(target_tokens, 2.0, rest))
  order = jnp.argsort(group + 0.5 * shuffle, axis=1)  # half, because 2 + 0.9999999 rounds up to 3 in float32
  take = lambda x: jnp.take_along_axis(x, order[:, :, None], axis=1)
  return TokenSet(
    order=order.astype(jnp.int32),
    values=take(jnp.where(observed, z, 0.0)),
    visible=take(visible),
    target=take(target),
    visible_lengths=visible_tokens.sum(1).astype(jnp.int32),
    target_starts=(visible_tokens & ~target_tokens).sum(1).astype(jnp.int32),
    target_ends=taking_part.sum(1).astype(jnp.int32),
    present_ends=(taking_part | present).sum(1).astype(jnp.int32),
  )


def _first(tokens: Bool[Array, "b n"], shuffle: Float[Array, "b n"], count: int) -> Bool[Array, "b n"]:
  """Marks the tokens that are among the first `count` of them in this order."""
  return jax.vmap(lambda scores: _lowest(scores, count))(jnp.where(tokens, shuffle, 1.0))


def _keep_one(visible: Bool[Array, "b n"], inherited: Bool[Array, "b n"]) -> Bool[Array, "b n"]:
  """If a window has no visible token, makes its first observed one visible, or its very first if none is observed."""
  first = jnp.argmin(inherited, axis=1)
  rescued = jnp.arange(visible.shape[1]) == first[:, None]
  return visible | (rescued & ~visible.any(1, keepdims=True))
