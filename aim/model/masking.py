"""AIM's masks: what the sensor lost (inherited), what we hide (artificial), and the order that drops tokens.

All shapes are static under jit. Everything is drawn from one key per window on the device, so a run repeats exactly.
Notation: b windows, c channels, t patches a day, n = c * t tokens, p steps a patch.
"""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Key

from aim.model import patches
from data_pipelines.errors import UserError

STRATEGIES = ("random", "temporal", "sensor", "gaps")


@dataclasses.dataclass(frozen=True)
class Masking:
  """The artificial mask's settings (AIM, section "Adaptive and inherited masking").

  Attributes:
    weights: share of windows that get each strategy of STRATEGIES; they need not sum to 1.
    random_ratio: share of the grid that `random` hides, in pieces of random_unit steps of one channel.
    random_unit: a divisor of the patch; 0 stands for the patch itself, whole tokens.
    temporal_ratio: share of the day's patches that `temporal` hides, in all channels at once.
    temporal_block: `temporal` hides contiguous blocks of this many patches (1: independent patches).
    sensor_ratio: share of the channels that `sensor` hides for the whole day.
    gap_steps: shortest and longest gap of `gaps`, in steps; lengths are log-uniform.
    gap_count: largest number of gaps a window; 1 to this many, each in all channels or in a random half of them.
    min_observed_share: a token is inherited-missing when fewer than this share of its steps is observed;
      1.0 is the rule "one missing step is enough", 0.0 keeps every token with any observed step.
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

  def strategy_weights(self, channels: int) -> np.ndarray:
    """float32 [4] weights of the strategies, `sensor` at 0 where there is no second channel to predict from."""
    weights = np.asarray(self.weights, np.float32).copy()
    if channels == 1:
      weights[STRATEGIES.index("sensor")] = 0
    if (weights < 0).any() or not weights.sum() > 0:
      raise UserError(f"config.masking: strategy weights are {self.weights}; one usable weight must be above 0")
    return weights

  def hidden_count(self, strategy: str, channels: int, length: int) -> int:
    """Number of whole tokens that `strategy` is sure to hide in every window of [channels x length] tokens."""
    if strategy == "random" and not self.random_unit:
      return _share(self.random_ratio, channels * length)
    if strategy == "temporal":
      return _share(self.temporal_ratio, length) * channels
    if strategy == "sensor":
      return _share(self.sensor_ratio, channels) * length
    return 0

  def dropped_count(self, channels: int, length: int) -> int:
    """D, the fixed number of masked tokens dropped: what every strategy in use is sure to hide (AIM, "dropout")."""
    used = [name for name, weight in zip(STRATEGIES, self.strategy_weights(channels), strict=True) if weight > 0]
    # A window always shows one token, even a day of one patch that is hidden whole.
    return min(channels * length - 1, *(self.hidden_count(name, channels, length) for name in used))

  def hides_equal_counts(self, channels: int) -> bool:
    """Whether one strategy of whole tokens does all, so that the same number is hidden in every window."""
    used = [name for name, weight in zip(STRATEGIES, self.strategy_weights(channels), strict=True) if weight > 0]
    return used in (["temporal"], ["sensor"]) or (used == ["random"] and not self.random_unit)


def _share(ratio: float, n: int) -> int:
  """The exact count for a ratio of n things: nearest, at least 1, and at least one left over where there are two."""
  return int(np.clip(np.floor(ratio * n + 0.5), 1, max(n - 1, 1)))


class TokenSet(NamedTuple):
  """A batch of windows as token sets, sorted visible | target | inherited-missing.

  Attributes:
    order: int32 [b, n], the grid position (channel * t + time) of each sorted token.
    values: float32 [b, n, p] z-scores to predict, 0 where unobserved.
    visible: bool [b, n, p], steps the encoder may read; none outside visible tokens.
    target: bool [b, n, p], the steps to predict: in training those that are observed and hidden.
    visible_lengths: int32 [b], number of visible tokens, at least 1.
    target_starts: int32 [b], number of tokens from the front that hold no target.
    target_ends: int32 [b], number of tokens from the front that hold every visible and every target token.
  """

  order: Int[Array, "b n"]
  values: Float[Array, "b n p"]
  visible: Bool[Array, "b n p"]
  target: Bool[Array, "b n p"]
  visible_lengths: Int[Array, " b"]
  target_starts: Int[Array, " b"]
  target_ends: Int[Array, " b"]


def inherited_missing(observed: Bool[Array, "b n p"], min_observed_share: float) -> Bool[Array, "b n"]:
  """Tokens the sensor lost: fewer than the given share of their steps observed (always those with none)."""
  least = max(1, int(np.ceil(min_observed_share * observed.shape[-1] - 1e-9)))
  return observed.sum(-1) < least


def random_mask(key: Key[Array, ""], channels: int, length: int, count: int) -> Bool[Array, " n"]:
  """Exactly `count` tokens of the grid."""
  return _lowest(jax.random.uniform(key, (channels * length,)), count)


def temporal_mask(key: Key[Array, ""], channels: int, length: int, count: int, block: int) -> Bool[Array, " n"]:
  """All channels at exactly `count` of the `length` times, in contiguous blocks at a random phase."""
  phase_key, block_key = jax.random.split(key)
  phase = jax.random.randint(phase_key, (), 0, block)
  blocks = jax.random.uniform(block_key, ((length - 1 + block) // block + 1,))
  hidden = _lowest(blocks[(jnp.arange(length) + phase) // block], count)
  return jnp.tile(hidden, channels)


def sensor_mask(key: Key[Array, ""], channels: int, length: int, count: int) -> Bool[Array, " n"]:
  """Exactly `count` channels for the whole day."""
  return jnp.repeat(_lowest(jax.random.uniform(key, (channels,)), count), length, total_repeat_length=channels * length)


def gap_mask(key: Key[Array, ""], masking: Masking, channels: int, steps: int) -> Bool[Array, "s c"]:
  """Steps hidden by 1 to gap_count gaps of log-uniform length, anywhere in the day, not aligned to patches."""
  keys = jax.random.split(key, 5)
  gaps = masking.gap_count
  low, high = np.log(masking.gap_steps[0]), np.log(masking.gap_steps[1])
  sizes = jnp.exp(jax.random.uniform(keys[0], (gaps,), minval=low, maxval=high)).round()
  # Starts before midnight of the day before make gaps at the day's edges as likely as elsewhere.
  starts = jnp.floor(jax.random.uniform(keys[1], (gaps,)) * (steps + sizes - 1)) - sizes + 1
  used = jnp.arange(gaps) < jax.random.randint(keys[2], (), 1, gaps + 1)
  everywhere = jax.random.bernoulli(keys[3], 0.5, (gaps, 1))
  struck = (everywhere | jax.random.bernoulli(keys[4], 0.5, (gaps, channels))) & used[:, None]
  clock = jnp.arange(steps)
  inside = (clock >= starts[:, None]) & (clock < (starts + sizes)[:, None])
  return (inside[:, :, None] & struck[:, None, :]).any(0)


def _lowest(scores: Float[Array, " n"], count: int) -> Bool[Array, " n"]:
  """True at the `count` lowest scores, ties by position: an exact count whatever the scores."""
  ranks = jnp.argsort(jnp.argsort(scores, stable=True), stable=True)
  return ranks < count


def artificial_mask(
  key: Key[Array, ""], masking: Masking, channels: int, length: int, patch: int
) -> Bool[Array, "n p"]:
  """Draws one window's strategy and the steps it hides; a token is hidden whole when all its steps are."""
  choice_key, token_key, gap_key = jax.random.split(key, 3)
  weights = masking.strategy_weights(channels)
  strategy = jax.random.categorical(choice_key, jnp.log(weights))
  whole = lambda tokens: jnp.broadcast_to(tokens[:, None], (channels * length, patch))
  unit = masking.random_unit or patch
  draws = {
    "random": lambda: (
      random_mask(
        token_key, channels, length * patch // unit, _share(masking.random_ratio, channels * length * patch // unit)
      )
      .repeat(unit)
      .reshape(-1, patch)
    ),
    "temporal": lambda: whole(
      temporal_mask(token_key, channels, length, _share(masking.temporal_ratio, length), masking.temporal_block)
    ),
    "sensor": lambda: whole(sensor_mask(token_key, channels, length, _share(masking.sensor_ratio, channels))),
    "gaps": lambda: patches.patchify(gap_mask(gap_key, masking, channels, length * patch)[None], patch)[0],
  }
  hidden = jnp.zeros((channels * length, patch), bool)
  for i, draw in enumerate(draws.values()):
    if weights[i] > 0:
      hidden |= draw() & (strategy == i)
  return hidden


def training_token_set(
  key: Key[Array, ""], masking: Masking, z: Float[Array, "b s c"], observed: Bool[Array, "b s c"], patch: int
) -> TokenSet:
  """Hides part of every window: the token sets that one pretraining step learns from."""
  b, s, c = z.shape
  length = s // patch
  mask_key, order_key = jax.random.split(key)
  hidden = jax.vmap(lambda k: artificial_mask(k, masking, c, length, patch))(jax.random.split(mask_key, b))
  return sorted_token_set(masking, z, observed, patch, hidden, jax.random.uniform(order_key, (b, c * length)))


def evaluation_token_set(
  masking: Masking,
  z: Float[Array, "b s c"],
  observed: Bool[Array, "b s c"],
  patch: int,
  wanted: Bool[Array, "b s c"] | None = None,
) -> TokenSet:
  """Evaluation: the inherited mask alone, nothing hidden, in grid order; the targets are the steps that are wanted."""
  b, s, c = z.shape
  n = c * (s // patch)
  grid = jnp.broadcast_to(jnp.arange(n) / n, (b, n))
  wanted = patches.patchify(jnp.zeros_like(observed) if wanted is None else wanted, patch)
  return sorted_token_set(masking, z, observed, patch, jnp.zeros((b, n, patch), bool), grid, wanted)


def sorted_token_set(
  masking: Masking,
  z: Float[Array, "b s c"],
  observed: Bool[Array, "b s c"],
  patch: int,
  hidden: Bool[Array, "b n p"],
  shuffle: Float[Array, "b n"],
  wanted: Bool[Array, "b n p"] | None = None,
) -> TokenSet:
  """Joins the inherited mask with the hidden steps and sorts the tokens; `shuffle` in [0, 1) orders each group.

  Targets are the observed steps that are not shown; where `wanted` is given, its steps instead, known or not.
  """
  z, observed = patches.patchify(z, patch), patches.patchify(observed, patch)
  inherited = inherited_missing(observed, masking.min_observed_share)
  # What hiding leaves too few steps of to be read is hidden whole.
  artificial = inherited_missing(observed & ~hidden, masking.min_observed_share) & ~inherited
  visible = _keep_one(~(inherited | artificial), inherited)
  shown = observed & ~hidden & visible[:, :, None]
  target = observed & ~shown & ~inherited[:, :, None] if wanted is None else wanted
  scored = target.any(-1)
  # Visible first, then targets, then the rest, each group shuffled: valid keys are a prefix, lengths say it all. A
  # token of which some steps are shown and some hidden is both: such ones stand between the two, so that targets are a
  # stretch.
  group = jnp.where(visible, jnp.where(scored, 1.0, 0.0), jnp.where(scored, 2.0, 3.0))
  order = jnp.argsort(group + 0.5 * shuffle, axis=1)  # half, because 2 + 0.9999999 rounds up to 3 in float32
  take = lambda x: jnp.take_along_axis(x, order[:, :, None], axis=1)
  return TokenSet(
    order=order.astype(jnp.int32),
    values=take(jnp.where(observed, z, 0.0)),
    visible=take(shown),
    target=take(target),
    visible_lengths=visible.sum(1).astype(jnp.int32),
    target_starts=(visible & ~scored).sum(1).astype(jnp.int32),
    target_ends=(visible | scored).sum(1).astype(jnp.int32),
  )


def _keep_one(visible: Bool[Array, "b n"], inherited: Bool[Array, "b n"]) -> Bool[Array, "b n"]:
  """Where a window has no visible token, shows its first observed one (the first of all if none is observed)."""
  first = jnp.argmin(inherited, axis=1)
  rescued = jnp.arange(visible.shape[1]) == first[:, None]
  return visible | (rescued & ~visible.any(1, keepdims=True))
