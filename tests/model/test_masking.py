"""AIM's masks against their definitions: exact counts, union and targets, the order of tokens, reproducibility."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aim.model.masking import (
  STRATEGIES,
  Masking,
  artificial_mask,
  evaluation_token_set,
  inherited_missing,
  random_mask,
  sorted_token_set,
  training_token_set,
)
from aim.model.patches import patchify
from tests import tiny

GRIDS = ((1, 6, 2), (3, 8, 4), (4, 5, 1))  # channels, length, patch
SHARES = (0.0, 0.5, 1.0)


def only(strategy: str, **values) -> Masking:
  return tiny.masking(weights=tuple(float(name == strategy) for name in STRATEGIES), **values)


def masks(masking: Masking, channels: int, length: int, patch: int, draws: int = 1000) -> np.ndarray:
  """bool [draws, channels, steps]: what artificial_mask hides in that many windows.

  Not jitted, because XLA compiles random numbers slowly and all ratios can share the single operations.
  """
  keys = jax.random.split(jax.random.key(0), draws)
  hidden = jax.vmap(lambda key: artificial_mask(key, masking, channels, length, patch))(keys)
  return np.asarray(hidden).reshape(draws, channels, length * patch)


def share_of(ratio: float, n: int) -> int:
  """The nearest count, halves upwards, that hides something and, of two or more, leaves something."""
  return min(max(math.floor(ratio * n + 0.5), 1), max(n - 1, 1))


# Exact counts of every strategy.


@pytest.mark.parametrize("count", [1, 4000, 19_999])
def test_random_hides_what_draws_lowest_and_of_equal_draws_the_first(count):
  key = jax.random.key(0)
  draws = np.asarray(jax.random.uniform(key, (20_000,)))
  assert len(set(draws.tolist())) < 20_000  # float32 has so few numbers that some are drawn twice
  expected = np.zeros(20_000, bool)
  expected[np.argsort(draws, kind="stable")[:count]] = True
  np.testing.assert_array_equal(random_mask(key, 100, 200, count), expected)


def test_equal_draws_are_hidden_from_the_first_on(monkeypatch):
  monkeypatch.setattr(jax.random, "uniform", lambda key, shape: jnp.tile(jnp.array([0.5, 0.0, 0.25, 0.0, 0.5]), 2))
  of = lambda count: np.flatnonzero(random_mask(jax.random.key(0), 2, 5, count)).tolist()
  assert [of(count) for count in (1, 3, 5, 7, 9)] == [
    [1],
    [1, 3, 6],
    [1, 2, 3, 6, 8],
    [0, 1, 2, 3, 6, 7, 8],
    [0, 1, 2, 3, 4, 5, 6, 7, 8],
  ]


@settings(max_examples=12)
@given(ratio=st.floats(0.01, 0.99))
def test_random_hides_exactly_its_share_of_whole_tokens(ratio):
  masking = only("random", random_ratio=ratio)
  tokens = masks(masking, 3, 8, 4).reshape(1000, 24, 4)
  assert (tokens.all(-1) == tokens.any(-1)).all()
  assert set(tokens.all(-1).sum(1)) == {share_of(ratio, 24)} == {masking.hidden_count("random", 3, 8)}


@settings(max_examples=12)
@given(unit=st.sampled_from([1, 2]), ratio=st.floats(0.05, 0.95))
def test_random_unit_hides_exactly_its_share_of_pieces(unit, ratio):
  hidden = masks(only("random", random_ratio=ratio, random_unit=unit), 3, 8, 4)
  pieces = hidden.reshape(1000, -1, unit)
  assert (pieces.all(-1) == pieces.any(-1)).all()
  assert set(pieces.all(-1).sum(1)) == {share_of(ratio, 3 * 8 * 4 // unit)}
  tokens = hidden.reshape(1000, 24, 4)
  assert (tokens.any(-1) & ~tokens.all(-1)).any(), "pieces are not independent of patches"


@settings(max_examples=12)
@given(block=st.sampled_from([1, 5]), ratio=st.floats(0.05, 0.95))
def test_temporal_hides_all_channels_at_exactly_its_share_of_times(block, ratio):
  masking = only("temporal", temporal_ratio=ratio, temporal_block=block)
  hidden = masks(masking, 3, 8, 4)
  assert (hidden == hidden[:, :1]).all()
  times = hidden[:, 0].reshape(1000, 8, 4)
  assert (times.all(-1) == times.any(-1)).all()
  assert set(times.all(-1).sum(1)) == {share_of(ratio, 8)}
  assert masking.hidden_count("temporal", 3, 8) == 3 * share_of(ratio, 8)
  for day in times.all(-1)[:20]:
    assert any(_broken_blocks(day, block, phase) <= 1 for phase in range(block))


def _broken_blocks(day: np.ndarray, block: int, phase: int) -> int:
  """Number of blocks at this phase that are hidden in part: at most one, to make the count exact."""
  groups = (np.arange(len(day)) + phase) // block
  return sum(0 < day[groups == g].sum() < (groups == g).sum() for g in set(groups))


def test_temporal_blocks_start_at_every_phase():
  times = masks(only("temporal", temporal_ratio=0.5, temporal_block=5), 3, 8, 4)[:, 0, ::4]
  starts = np.argwhere(times[:, 1:] & ~times[:, :-1])[:, 1] + 1
  assert set(range(5)) == set(starts % 5)


@pytest.mark.parametrize(("channels", "ratio", "expected"), [(2, 0.5, 1), (3, 0.1, 1), (3, 0.5, 2), (3, 0.99, 2)])
def test_sensor_hides_whole_channels(channels, ratio, expected):
  masking = only("sensor", sensor_ratio=ratio)
  hidden = masks(masking, channels, 8, 4)
  assert (hidden.all(-1) == hidden.any(-1)).all()
  assert set(hidden.all(-1).sum(1)) == {expected}
  assert masking.hidden_count("sensor", channels, 8) == 8 * expected
  assert hidden.all(-1).any(0).all(), "some channel is never hidden"


def test_a_gap_is_one_run_of_its_channels():
  shortest, longest, steps = 3, 10, 32
  hidden = masks(only("gaps", gap_steps=(shortest, longest), gap_count=1), 3, 8, 4, draws=4000)
  everywhere = 0
  for day in hidden:
    hit = day[day.any(1)]
    everywhere += len(hit) == 3
    if not len(hit):
      continue  # the random half of the channels may be empty
    assert (hit == hit[0]).all()
    (where,) = np.nonzero(hit[0])
    assert where[-1] - where[0] + 1 == len(where) <= longest
    if where[0] > 0 and where[-1] < steps - 1:
      assert len(where) >= shortest
  # Half of the gaps are in all channels by design, and 1/8 of the others hit all three by chance.
  assert everywhere / 4000 == pytest.approx(0.5 + 0.5 / 8, abs=0.04)
  by_step = hidden.mean((0, 1))
  assert by_step.min() > 0.75 * by_step.max(), "some time of day is hidden less often"


def test_gaps_are_one_to_the_largest_number():
  hidden = masks(only("gaps", gap_steps=(1, 1), gap_count=3), 3, 8, 4, draws=4000)[:, 0].sum(1)
  assert hidden.max() == 3
  # A gap hits a given channel with probability 1 - 0.5 * 0.5, and there are 2 gaps on average.
  assert hidden.mean() == pytest.approx(1.5, abs=0.1)


def test_mix_follows_the_weights():
  masking = tiny.masking(weights=(3.0, 2.0, 1.0, 0.0), random_ratio=0.8, temporal_ratio=0.5, sensor_ratio=1 / 3)
  tokens = masks(masking, 3, 8, 4).sum((1, 2)) / 4
  assert set(tokens) == {19, 12, 8}
  for count, share in ((19, 3 / 6), (12, 2 / 6), (8, 1 / 6)):
    assert (tokens == count).mean() == pytest.approx(share, abs=0.07)  # more than four standard errors


@given(
  channels=st.integers(1, 34),
  length=st.integers(1, 144),
  ratios=st.tuples(*[st.floats(0.01, 0.99)] * 3),
  weights=st.tuples(*[st.sampled_from([0.0, 1.0])] * 4).filter(lambda w: w[0] or w[1] or w[3]),
)
def test_something_is_left_to_encode(channels, length, ratios, weights):
  """Even of a day of a single patch, because one token always stays visible."""
  masking = tiny.masking(weights, random_ratio=ratios[0], temporal_ratio=ratios[1], sensor_ratio=ratios[2])
  assert 0 <= masking.dropped_count(channels, length) < channels * length


def test_dropped_is_the_least_that_a_strategy_in_use_hides():
  assert tiny.masking(weights=(1, 1, 1, 0)).dropped_count(26, 144) == 1872  # half of 3,744
  assert tiny.masking(weights=(1, 0, 0, 0)).dropped_count(26, 144) == 2995
  assert tiny.masking(weights=(1, 1, 1, 1)).dropped_count(26, 144) == 0
  assert tiny.masking(weights=(1, 0, 0, 0), random_unit=5).dropped_count(26, 144) == 0
  # With a single channel `sensor` is not in use.
  assert tiny.masking(weights=(1, 1, 1, 0), sensor_ratio=0.1).dropped_count(1, 144) == 72


def test_single_channel_days_have_no_sensor_strategy():
  assert tiny.masking(weights=(1, 1, 1, 0)).strategy_weights(1).tolist() == [1, 1, 0, 0]
  assert tiny.masking(weights=(1, 1, 1, 0)).strategy_weights(2).tolist() == [1, 1, 1, 0]


@pytest.mark.parametrize("order", [STRATEGIES[::-1], ("sensor", "random", "gaps", "temporal")])
def test_each_strategy_is_drawn_by_its_name(monkeypatch, order):
  """The weight at a place of STRATEGIES is that of the strategy at this place, in whatever order they stand."""
  monkeypatch.setattr("aim.model.masking.STRATEGIES", order)
  weights = [float(name == "temporal") for name in order]
  hidden = masks(tiny.masking(weights), 3, 8, 4, draws=20)
  assert (hidden == hidden[:, :1]).all(), "not all channels are hidden at the same times"
  assert (hidden[:, 0].sum(1) == 16).all()


# Inherited mask, union, targets, order.


@pytest.mark.parametrize(
  ("share", "missing_at"), [(0.0, {0}), (0.25, {0}), (0.26, {0, 1}), (0.5, {0, 1}), (1.0, {0, 1, 2, 3})]
)
def test_inherited_rule(share, missing_at):
  observed = jnp.asarray(np.tri(5, 4, -1, dtype=bool))[None]  # 0 to 4 of 4 steps observed
  assert set(np.flatnonzero(inherited_missing(observed, only("random", min_observed_share=share))[0])) == missing_at


@functools.cache
def _sorter(share: float, patch: int):
  masking = only("random", min_observed_share=share)
  return jax.jit(lambda z, observed, hidden, shuffle: sorted_token_set(masking, z, observed, patch, hidden, shuffle))


@given(
  grid=st.sampled_from(GRIDS),
  share=st.sampled_from(SHARES),
  observed_rate=st.sampled_from([0.0, 0.3, 0.9, 1.0]),
  hidden_rate=st.sampled_from([0.0, 0.5, 1.0]),
  whole=st.booleans(),
  seed=st.integers(0, 2**32 - 1),
)
def test_token_sets_by_definition(grid, share, observed_rate, hidden_rate, whole, seed):
  """Union, targets, visible values, order and lengths, against loops over every token and step."""
  channels, length, patch = grid
  rng = np.random.default_rng(seed)
  z = rng.normal(size=(3, length * patch, channels)).astype(np.float32)
  observed = rng.random(z.shape) < observed_rate
  hidden = rng.random((3, channels * length, 1 if whole else patch)) < hidden_rate
  hidden = np.broadcast_to(hidden, (3, channels * length, patch))
  shuffle = rng.random(hidden.shape[:2]).astype(np.float32)
  tokens = _sorter(share, patch)(jnp.asarray(z), jnp.asarray(observed), jnp.asarray(hidden), jnp.asarray(shuffle))
  tokens = jax.tree.map(np.asarray, tokens)
  least = max(1, math.ceil(share * patch))
  for i in range(3):
    steps = {  # token -> (z, observed) of its steps
      c * length + t: [(z[i, t * patch + p, c], observed[i, t * patch + p, c]) for p in range(patch)]
      for c in range(channels)
      for t in range(length)
    }
    assert sorted(tokens.order[i]) == sorted(steps)
    inherited = {n: sum(seen for _, seen in steps[n]) < least for n in steps}
    readable = {n: sum(steps[n][p][1] and not hidden[i, n, p] for p in range(patch)) >= least for n in steps}
    visible = [n for n in steps if readable[n] and not inherited[n]]
    visible = visible or [next((n for n in steps if not inherited[n]), 0)]
    scored = set()
    for place, n in enumerate(tokens.order[i]):
      for p, (value, seen) in enumerate(steps[n]):
        read = seen and not hidden[i, n, p] and n in visible
        target = seen and not read and not inherited[n]
        assert tokens.visible[i, place, p] == read
        assert tokens.target[i, place, p] == target
        assert tokens.values[i, place, p] == (value if seen else 0)
        scored |= {n} if target else set()
    j, k, m = tokens.target_starts[i], tokens.visible_lengths[i], tokens.target_ends[i]
    order = tokens.order[i].tolist()
    assert set(order[:k]) == set(visible) and k == len(visible)
    assert set(order[j:m]) == scored and m - j == len(scored)
    present = {n for n in steps if observed[i, :, n // length].any()}
    e = tokens.present_ends[i]
    assert set(order[:e]) == present | set(visible)
    for group in (order[:j], order[j:k], order[k:m], order[m:e], order[e:]):
      assert group == sorted(group, key=lambda n: shuffle[i, n])


TRACES = []


@jax.jit
def draw_mix(key, z, observed):
  TRACES.append(None)
  masking = tiny.masking(weights=(1.0, 1.0, 1.0, 1.0), random_ratio=0.8, gap_steps=(1, 9), min_observed_share=0.5)
  return training_token_set(key, masking, z, observed, 4)


def mixed_windows() -> tuple[np.ndarray, np.ndarray]:
  """Sixteen windows each of full days, days with few holes, with many, and without any observed step."""
  rng = np.random.default_rng(1)
  z = rng.normal(size=(64, 32, 3)).astype(np.float32)
  return z, rng.random(z.shape) < np.repeat([1.0, 0.8, 0.4, 0.0], 16)[:, None, None]


def test_drawn_token_sets():
  z, observed = mixed_windows()
  tokens = jax.tree.map(np.asarray, draw_mix(jax.random.key(0), jnp.asarray(z), jnp.asarray(observed)))
  assert not (tokens.visible & tokens.target).any()
  places = np.arange(24)
  assert not tokens.visible[places >= tokens.visible_lengths[:, None]].any()
  holds = (places >= tokens.target_starts[:, None]) & (places < tokens.target_ends[:, None])
  np.testing.assert_array_equal(tokens.target.any(-1), holds)
  assert (tokens.target_starts < tokens.visible_lengths).any(), "no token is visible in part"
  empty = slice(48, 64)
  assert (tokens.visible_lengths[empty] == 1).all() and (tokens.target_ends[empty] == 1).all()
  assert not tokens.visible[empty].any() and not tokens.target[empty].any()
  full = slice(0, 16)
  assert (tokens.visible[full] | tokens.target[full]).all() and tokens.target[full].any((1, 2)).all()
  # Every strategy was drawn: random leaves 5 of 24 tokens, temporal 12, sensor 1 of 3 channels; gaps cut tokens.
  lengths = tokens.visible_lengths[full].tolist()
  cut = tokens.visible[full].any(-1) & ~tokens.visible[full].all(-1)
  assert {5, 12, 8} <= set(lengths) and cut.any()
  visible = [frozenset(order[:k].tolist()) for order, k in zip(tokens.order, tokens.visible_lengths, strict=True)]
  assert len(set(visible[full])) > 8, "all windows of a batch have the same mask"
  assert any(order[:k].tolist() != sorted(order[:k]) for order, k in zip(tokens.order, lengths, strict=False))


def test_a_key_repeats_its_masks_and_another_does_not():
  z, observed = (jnp.asarray(array) for array in mixed_windows())
  first, again, other = (draw_mix(jax.random.key(seed), z, observed) for seed in (5, 5, 6))
  for ours, theirs in zip(first, again, strict=True):
    np.testing.assert_array_equal(ours, theirs)
  for name in ("order", "visible", "target"):
    assert (getattr(first, name) != getattr(other, name)).any()


@pytest.mark.parametrize("garbage", [1e30, np.inf, np.nan])
def test_values_at_unobserved_steps_are_never_read(garbage):
  z, observed = mixed_windows()
  dirty = np.where(observed, z, np.float32(garbage))
  clean, same = (draw_mix(jax.random.key(0), jnp.asarray(x), jnp.asarray(observed)) for x in (z, dirty))
  for ours, theirs in zip(clean, same, strict=True):
    np.testing.assert_array_equal(ours, theirs)


def test_one_compilation_serves_every_mask():
  shapes = set()
  for seed, rate in enumerate((0.0, 0.4, 1.0)):
    observed = np.random.default_rng(seed).random((64, 32, 3)) < rate
    tokens = draw_mix(jax.random.key(seed), jnp.ones(observed.shape), jnp.asarray(observed))
    shapes.add(tuple((leaf.shape, str(leaf.dtype)) for leaf in jax.tree.leaves(tokens)))
  assert len(TRACES) == 1
  wide = ((64, 24, 4), "float32"), ((64, 24, 4), "bool"), ((64, 24, 4), "bool")
  assert shapes == {(((64, 24), "int32"), *wide, *4 * (((64,), "int32"),))}


@pytest.mark.parametrize("share", SHARES)
def test_evaluation_hides_nothing_and_keeps_grid_order(share):
  rng = np.random.default_rng(2)
  z = rng.normal(size=(4, 32, 3)).astype(np.float32)
  observed = rng.random(z.shape) < np.array([1.0, 0.7, 0.3, 0.0])[:, None, None]
  masking = tiny.masking(weights=(1, 1, 1, 1), min_observed_share=share)
  tokens = jax.jit(lambda z, o: evaluation_token_set(masking, z, o, 4, ~o))(jnp.asarray(z), jnp.asarray(observed))
  holes = np.asarray(patchify(jnp.asarray(~observed), 4))
  np.testing.assert_array_equal(tokens.target, np.take_along_axis(holes, np.asarray(tokens.order)[:, :, None], axis=1))
  least = max(1, math.ceil(share * 4))
  for i in range(4):
    counts = observed[i].reshape(8, 4, 3).sum(1).T.reshape(-1)  # token c * 8 + t
    expected = np.flatnonzero(counts >= least)
    k = int(tokens.visible_lengths[i])
    assert k == max(len(expected), 1)
    if len(expected):
      whole = counts[expected] == 4  # tokens without a hole, then those with one
      assert int(tokens.target_starts[i]) == whole.sum() and int(tokens.target_ends[i]) == 24
      np.testing.assert_array_equal(tokens.order[i, :k], [*expected[whole], *expected[~whole]])
      np.testing.assert_array_equal(tokens.order[i, k:], np.flatnonzero(counts < least))
      assert int(tokens.visible[i].sum()) == counts[expected].sum()


def test_any_observed_step_keeps_the_tokens_of_some_channels():
  observed = jnp.asarray(np.tri(5, 4, -1, dtype=bool)[None].repeat(2, 0).reshape(1, 10, 4))  # 2 channels of 5 tokens
  masking = only("random", min_observed_share=1.0, any_observed=(False, True))
  assert set(np.flatnonzero(inherited_missing(observed, masking)[0])) == {0, 1, 2, 3, 5}


def test_a_fixed_share_of_the_tokens_is_dropped_visible_ones_too():
  """A quarter of the tokens is masked by sensor; temporal would hide none of the others."""
  z, observed, hidden = jnp.ones((3, 8, 4)), jnp.ones((3, 8, 4), bool), 2  # tokens of one channel of four
  none, half = (only("sensor", sensor_ratio=0.25, drop_ratio=ratio, min_observed_share=0.0) for ratio in (0.0, 0.5))
  assert (none.dropped_count(4, 2), half.dropped_count(4, 2)) == (0, 4)

  @jax.jit
  def token_sets(key):
    draw = lambda masking: training_token_set(key, masking, z, observed, 4)
    return draw(none), draw(half), evaluation_token_set(half, z, observed, 4)

  *drawn, scored = token_sets(jax.random.key(0))
  for tokens, visible in zip(drawn, (8 - hidden, 4), strict=True):
    assert set(np.asarray(tokens.visible_lengths)) == {visible}
    assert set(np.asarray(tokens.target_ends - tokens.target_starts)) == {hidden}, "dropped tokens are no targets"
    np.testing.assert_array_equal(np.asarray(tokens.visible).any(-1).sum(1), tokens.visible_lengths)
  assert set(np.asarray(scored.visible_lengths)) == {8}
