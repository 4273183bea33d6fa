"""The masked step: all forms compute the textbook's gradient, microbatches add up, and a NaN changes nothing."""

import dataclasses
import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aim.model import buffer_sizes, flops, lsm2
from aim.model.attention import blocks
from aim.model.attention.backends import BACKENDS
from aim.model.buffer_sizes import BufferSizes
from aim.model.lsm2 import Tower
from aim.model.masking import STRATEGIES, Masking, TokenSet, artificial_mask, sorted_token_set
from aim.model.patches import Scale
from aim.training.masked_step import MaskedStep
from aim.training.optimizer import decay_mask
from data_pipelines.schema import Channel, Schema
from tests import tiny

CHANNELS, LENGTH, PATCH = 4, 8, 2
TOKENS = CHANNELS * LENGTH
SCHEMA = Schema(90, tuple(Channel(f"c{i}", kind="binary" if i == 1 else "continuous") for i in range(CHANNELS)))
STATISTICS = {"mean": [70.0, 0.5, 0.0, 0.0], "std": [10.0, 0.5, 1.0, 1.0], "min": [0.0] * 4, "max": [200.0] * 4}


def only(strategy: str, **values) -> Masking:
  return tiny.masking([name == strategy for name in STRATEGIES], **{"min_observed_share": 1.0, **values})


KINDS = {
  "random": only("random"),
  "random_unit": only("random", random_unit=1),
  "temporal": only("temporal"),
  "temporal_block": only("temporal", temporal_block=3),
  "sensor": only("sensor"),
  "gaps": only("gaps", gap_steps=(1, 5)),
}
STEP = MaskedStep(
  architecture=tiny.architecture(CHANNELS, LENGTH, PATCH, Tower(8, 16, 2, 1), Tower(8, 16, 2, 1), decoder_tokens="all"),
  masking=tiny.masking(weights=(1.0, 1.0, 1.0, 1.0), gap_steps=(1, 5), min_observed_share=1.0),
  scale=Scale.from_statistics(SCHEMA, STATISTICS),
  optimizer=optax.sgd(1.0),
  accumulate=1,
  groups=0,
  ema=0.0,
  impute="none",
)


WINDOWS = 64  # drawn at a time; a test uses as many of them as it needs
TEXTBOOK = buffer_sizes.textbook(TOKENS, 0, "all")


def days(missing: float, uneven: bool = False, seed: int = 0) -> np.ndarray:
  """Days float32 [WINDOWS, 16, 4] in physical units; a share is missing, or, if uneven, 0 to 95 % of each window."""
  rng = np.random.default_rng(seed)
  values = rng.normal([70, 0, 0, 0], [10, 0, 1, 1], (WINDOWS, LENGTH * PATCH, CHANNELS))
  values[:, :, 1] = rng.random(values.shape[:2]) < 0.5
  rate = rng.uniform(0, 0.95, (WINDOWS, 1, 1)) if uneven else missing
  values[rng.random(values.shape) < rate] = np.nan
  return values.astype(np.float32)


@jax.jit
def _hidden_by_every_strategy(key):
  keys = jax.random.split(key, WINDOWS)
  one = lambda masking: jax.vmap(lambda key: artificial_mask(key, masking, CHANNELS, LENGTH, PATCH))(keys)
  return {kind: one(masking) for kind, masking in KINDS.items()}


@functools.partial(jax.jit, static_argnums=0)
def _tokens_of(share: float, values, hidden):
  z, observed = STEP.scale.normalise(values)
  n = hidden.shape[1]
  shuffle = jnp.tile(jnp.arange(n) * 7 % n / n, (len(values), 1))
  return sorted_token_set(tiny.masking((1, 1, 1, 1), min_observed_share=share), z, observed, PATCH, hidden, shuffle)


def tokens_of(kind: str, share: float, values, windows: int = 4, seed: int = 0) -> TokenSet:
  """The first `windows` of `values`, hidden by one kind of KINDS or, if "mixed", by each kind in turn."""
  hidden = _hidden_by_every_strategy(jax.random.key(seed))
  if kind == "mixed":
    hidden["mixed"] = jnp.stack([hidden[name][i] for i, name in zip(range(WINDOWS), itertools.cycle(KINDS))])
  return jax.tree.map(lambda x: x[:windows], _tokens_of(share, values, hidden[kind]))


@functools.cache
def params() -> dict[str, jax.Array]:
  """Parameters larger than the initial ones, so that attention is far from uniform; the same for all decoders."""
  rng = np.random.default_rng(0)
  shapes = lsm2.abstract(STEP.architecture)[1]
  return {name: jnp.asarray(rng.normal(0, 0.2, leaf.shape), jnp.float32) for name, leaf in sorted(shapes.items())}


def gradient(buffers: BufferSizes, tokens: TokenSet, accumulate: int = 1, attention: str = "xla"):
  """Sum of errors, number of scored values and gradients of the sum."""
  return jax.tree.map(np.asarray, _gradient(buffers, accumulate, attention, params(), tokens))


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def _gradient(buffers, accumulate, attention, params, tokens):
  architecture = dataclasses.replace(STEP.architecture, decoder_tokens=buffers.decoder_tokens, attention=attention)
  return dataclasses.replace(STEP, architecture=architecture, accumulate=accumulate).gradient(buffers, params, tokens)


def textbook_gradient(decoder_tokens: str, tokens: TokenSet):
  """The textbook gradient of any number of windows, by one program for eight.

  Sums add up, and the windows that fill the last eight have no targets and therefore add nothing.
  """
  windows = np.resize(np.arange(len(tokens.order)), -(-len(tokens.order) // 8) * 8)
  repeated = jax.tree.map(lambda x: np.asarray(x)[windows], tokens)
  repeated = repeated._replace(target=repeated.target & (np.arange(len(windows)) < len(tokens.order))[:, None, None])
  parts = [
    gradient(
      buffer_sizes.textbook(TOKENS, 0, decoder_tokens), jax.tree.map(lambda x, i=i: jnp.asarray(x[i : i + 8]), repeated)
    )
    for i in range(0, len(windows), 8)
  ]
  return jax.tree.map(lambda *leaves: np.sum(leaves, axis=0, dtype=np.float64), *parts)


def assert_same_gradient(ours, theirs, tolerance: float = 1e-5) -> None:
  """Compares the sum of errors, the count, and every gradient by the relative norm of the difference."""
  assert float(ours[1]) == float(theirs[1])
  np.testing.assert_allclose(ours[0], theirs[0], rtol=tolerance)
  for name, leaf in theirs[2].items():
    assert np.linalg.norm(ours[2][name] - leaf) <= tolerance * np.linalg.norm(leaf), name


def some_sizes(decoder_tokens: str, windows: int, groups: int) -> tuple[BufferSizes, ...]:
  """Buffer sizes that all steps below fit in; before them, for few windows, a size that about half of them fit in."""
  per_group = windows // groups if groups else 1
  make = lambda e, d, w: BufferSizes(
    groups, e * per_group, d * per_group, w * per_group, TOKENS, TOKENS, decoder_tokens
  )
  small, large = make(12, 24, 20) if groups else make(20, 30, 26), make(TOKENS, TOKENS, TOKENS)
  return (small, large) if windows <= 8 else (large,)


def smallest(ladder: tuple[BufferSizes, ...], tokens: TokenSet, accumulate: int = 1) -> BufferSizes:
  return buffer_sizes.smallest(
    ladder,
    np.asarray(
      buffer_sizes.needed(buffer_sizes.slot_counts(tokens, ladder[0].decoder_tokens), ladder[0].groups, accumulate)
    ),
  )


@pytest.mark.parametrize(
  ("decoder_tokens", "groups", "windows", "accumulate", "attention"),
  [
    pytest.param("all", 0, 1, 1, "xla", marks=pytest.mark.slow),
    pytest.param("all", 0, 64, 2, "xla", marks=pytest.mark.slow),
    pytest.param("all", 1, 8, 1, "xla", marks=pytest.mark.slow),
    pytest.param("all", 4, 32, 2, "xla", marks=pytest.mark.slow),
    pytest.param("observed", 0, 8, 2, "xla", marks=pytest.mark.slow),
    ("observed", 2, 64, 1, "xla"),
    ("present", 2, 8, 1, "native"),
    ("refined", 2, 32, 1, "xla"),
    pytest.param("refined", 0, 8, 2, "native", marks=pytest.mark.slow),
    pytest.param("refined", 4, 32, 2, "native", marks=pytest.mark.slow),
    pytest.param("visible", 0, 8, 1, "xla", marks=pytest.mark.slow),
    pytest.param("visible", 1, 1, 1, "xla", marks=pytest.mark.slow),
    pytest.param("visible", 4, 32, 2, "xla", marks=pytest.mark.slow),
    pytest.param("all", 1, 8, 1, "native", marks=pytest.mark.slow),
    pytest.param("observed", 0, 8, 2, "native", marks=pytest.mark.slow),
    pytest.param("visible", 4, 32, 2, "native", marks=pytest.mark.slow),
  ],
)
@given(
  kind=st.sampled_from(["mixed", *KINDS]),
  missing=st.floats(0, 0.95),
  uneven=st.booleans(),
  share=st.sampled_from([0.0, 0.5, 1.0]),
  seed=st.integers(0, 2**32 - 1),
)
@settings(max_examples=15)
def test_every_form_is_textbook(
  decoder_tokens, groups, windows, accumulate, attention, kind, missing, uneven, share, seed
):
  """Trimmed (0 groups) and packed forms give the textbook's loss and gradients, in the smallest size that fits."""
  if why := BACKENDS[attention].unavailable(4, "float32"):
    pytest.skip(why)
  tokens = tokens_of(kind, share, jnp.asarray(days(missing, uneven, seed)), windows, seed)
  buffers = smallest(some_sizes(decoder_tokens, windows // accumulate, groups), tokens, accumulate)
  assert_same_gradient(gradient(buffers, tokens, accumulate, attention), textbook_gradient(decoder_tokens, tokens))


@pytest.mark.slow
@pytest.mark.parametrize(
  ("decoder_tokens", "groups", "windows", "accumulate"),
  [("all", 1, 8, 1), ("observed", 2, 64, 1), ("present", 1, 1, 1), ("refined", 2, 64, 1), ("visible", 4, 32, 2)],
)
@given(
  kind=st.sampled_from(["mixed", *KINDS]),
  missing=st.floats(0, 0.95),
  uneven=st.booleans(),
  seed=st.integers(0, 2**32 - 1),
)
@settings(max_examples=8)
def test_packed_blocks_are_textbook(decoder_tokens, groups, windows, accumulate, kind, missing, uneven, seed):
  """The form of TPUs, interpreted, in blocks of 128 slots, of which the largest buffers here have 8.

  Every other window is missing all day. Buffers are as large as they must be.
  """
  values = days(missing, uneven, seed)
  values[1::2] = np.nan
  tokens = tokens_of(kind, 0.5, jnp.asarray(values), windows, seed)
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(blocks, "BLOCK", 128)
    (buffers,) = some_sizes(decoder_tokens, windows // accumulate, groups)[-1:]
    buffers = dataclasses.replace(buffers, pairs=(1, 1, 1))  # says that attention is block by block
    ours = gradient(buffers, tokens, accumulate, "splash")
  assert_same_gradient(ours, textbook_gradient(decoder_tokens, tokens))


@pytest.mark.parametrize("kind", ["random", "temporal", "sensor"])
def test_dropped_tokens_change_nothing(kind):
  """The textbook encoder of N - D tokens computes what the encoder of all N does."""
  dropped = KINDS[kind].dropped_count(CHANNELS, LENGTH)
  tokens = tokens_of(kind, 0.0, jnp.asarray(days(0.1)), 8)
  assert dropped >= 16
  assert_same_gradient(
    gradient(buffer_sizes.textbook(TOKENS, dropped, "all"), tokens), textbook_gradient("all", tokens)
  )


@pytest.mark.parametrize("absent", [0, 2])
def test_absent_channels_are_not_in_the_decoder(absent):
  """Decoder tokens "present" are "all" to 1e-6 if every channel is present; else "all" of the others, padding too."""
  values = days(0.3)
  values[:, :, CHANNELS - absent :] = np.nan
  tokens = tokens_of("random", 0.0, jnp.asarray(values), 8)
  ours, everyone = textbook_gradient("present", tokens), textbook_gradient("all", tokens)
  if absent == 0:
    return assert_same_gradient(ours, everyone, 1e-6)
  assert abs(float(ours[0]) - float(everyone[0])) > 1e-5 * float(everyone[0])
  assert (np.asarray(tokens.present_ends) == (CHANNELS - absent) * LENGTH).all()
  slots = np.asarray(buffer_sizes.slot_counts(tokens, "present"))
  for groups in (0, 2):
    needed = [int(count) for count in buffer_sizes.needed(slots, groups, 1)]
    assert needed[1] == (CHANNELS - absent) * LENGTH * (8 // groups if groups else 1)
    assert_same_gradient(gradient(BufferSizes(groups, *needed, TOKENS, TOKENS, "present"), tokens), ours)
  return None


@pytest.mark.parametrize("decoder_tokens", ["all", "observed", "refined", "visible"])
def test_decoders_differ_in_what_they_see(decoder_tokens):
  """The decoders are different functions if the sensor lost something; otherwise "observed" equals "all"."""
  for missing in (0.0, 0.5):
    tokens = tokens_of("temporal", 0.0, jnp.asarray(days(missing)), 8)
    total, everyone = (float(textbook_gradient(kind, tokens)[0]) for kind in (decoder_tokens, "all"))
    same = decoder_tokens == "all" or (decoder_tokens == "observed" and missing == 0)
    assert (abs(total - everyone) < 1e-5 * everyone) == same


def test_a_batch_too_large_for_the_small_size_uses_the_large_one():
  small, large = some_sizes("all", 8, 1)
  few, many = (tokens_of("gaps", 0.0, jnp.asarray(days(missing)), 8) for missing in (0.9, 0.0))
  assert smallest((small, large), few) == small and smallest((small, large), many) == large
  exact = textbook_gradient("all", many)
  assert float(exact[1]) == int(many.target.sum())
  assert_same_gradient(gradient(large, many), exact)
  assert_same_gradient(gradient(small, few), textbook_gradient("all", few))
  # This is why: what does not fit in the small size is lost, or NaN.
  assert not abs(gradient(small, many)[0] / exact[0] - 1) < 1e-3


def test_microbatches_add_up():
  tokens = tokens_of("random_unit", 0.0, jnp.asarray(days(0.3)), 8)
  assert len(set(np.asarray(tokens.target.sum((1, 2))))) > 1, (
    "with equally many targets per window, a mean of means would pass too"
  )
  assert_same_gradient(gradient(TEXTBOOK, tokens, 4), gradient(TEXTBOOK, tokens, 1))


@pytest.mark.parametrize(("groups", "accumulate"), [(0, 1), (2, 2)])
def test_draw_is_a_function_of_key_and_step(groups, accumulate):
  step = dataclasses.replace(STEP, groups=groups, accumulate=accumulate)
  draw, values, key = jax.jit(step.draw), jnp.asarray(days(0.3)[:8]), jax.random.key(7)
  first, needed, counts = draw(key, jnp.int32(5), values)
  visible, scored = np.asarray(first.visible_lengths), np.asarray(first.target_ends)
  targets = np.asarray(first.target.any(-1).sum(1))
  np.testing.assert_array_equal(counts, np.stack([visible, scored, targets], axis=1))
  if groups:  # windows 0, 2, 4, 6 and 1, 3, 5, 7, two devices each
    parts = [np.asarray(counts)[[i, i + 2]].sum(0) for i in (0, 4, 1, 5)]
    np.testing.assert_array_equal(needed, np.max(parts, axis=0))
  else:
    np.testing.assert_array_equal(needed, np.asarray(counts).max(0))
  for ours, theirs in zip(first, draw(key, jnp.int32(5), values)[0], strict=True):
    np.testing.assert_array_equal(ours, theirs)
  for other_key, other_step in ((key, 6), (jax.random.key(8), 5)):
    other, *_ = draw(other_key, jnp.int32(other_step), values)
    assert (other.order != first.order).any() and (other.target != first.target).any()


# One whole update.


@pytest.fixture(scope="module")
def adam():
  """(step, jitted train, fresh state, tokens), with AdamW at a constant learning rate and an EMA."""
  step = dataclasses.replace(STEP, optimizer=optax.adamw(1e-2, weight_decay=0.1, mask=decay_mask), ema=0.95)
  state = {"params": params(), "optimizer": step.optimizer.init(params()), "ema": params(), "step": jnp.int32(0)}
  tokens = tokens_of("random_unit", 0.0, jnp.asarray(days(0.3)))
  return step, jax.jit(step.train, static_argnums=0), state, tokens


def test_training_lowers_the_loss(adam):
  _, train, state, tokens = adam
  losses = []
  for _ in range(150):
    state, metrics = train(TEXTBOOK, state, tokens)
    losses.append(float(metrics["loss"]))
  assert losses[-1] < 0.7 * losses[0]
  assert int(state["step"]) == 150 and bool(metrics["ok"]) and not metrics["bad"].any()
  assert int(metrics["visible_tokens"]) == int(tokens.visible_lengths.sum())
  assert int(metrics["scored_steps"]) == int(tokens.target.sum())
  assert int(metrics["scored_tokens"]) == int(tokens.target_ends.sum())
  useful = flops.useful_flops(STEP.architecture, buffer_sizes.token_counts(tokens))
  assert float(metrics["useful_flops"]) == pytest.approx(float(useful))


def test_the_loss_is_the_mean_over_scored_values(adam):
  _, train, state, tokens = adam
  total, count, grads = gradient(TEXTBOOK, tokens)
  _, metrics = train(TEXTBOOK, state, tokens)
  assert float(metrics["loss"]) == pytest.approx(float(total / count), rel=1e-6)
  norm = np.sqrt(sum(float(np.square(leaf).sum()) for leaf in grads.values())) / float(count)
  assert float(metrics["gradient_norm"]) == pytest.approx(norm, rel=1e-5)


def test_the_moving_average_follows_at_its_rate(adam):
  _, train, state, tokens = adam
  for step in range(13):
    before = jax.tree.map(np.asarray, state["ema"])
    state, _ = train(TEXTBOOK, state, tokens)
    rate = max(0.05, 1 / (10 + step))  # 1/10, 1/11, ..., then 1 - 0.95 from step 10 on
    for name, leaf in state["ema"].items():
      expected = (1 - rate) * before[name] + rate * np.asarray(state["params"][name])
      np.testing.assert_allclose(leaf, expected, rtol=0, atol=1e-6)
  assert STEP.init(jax.random.key(0))["ema"] == {}


def test_a_batch_without_targets_only_decays_kernels(adam):
  _, train, state, tokens = adam
  state, metrics = train(TEXTBOOK, state, tokens._replace(target=tokens.target & False))
  assert float(metrics["loss"]) == 0 and float(metrics["gradient_norm"]) == 0 and bool(metrics["ok"])
  for name, leaf in state["params"].items():
    shrink = 1 - 1e-2 * 0.1 if name.endswith("kernel") else 1
    np.testing.assert_allclose(leaf, shrink * np.asarray(params()[name]), rtol=1e-6, err_msg=name)


def test_a_nan_changes_nothing_but_the_step_number(adam):
  _, train, state, tokens = adam
  state, _ = train(TEXTBOOK, state, tokens)
  values = np.array(tokens.values)
  place = np.argwhere(np.asarray(tokens.visible[2]))[0]
  values[2, place[0], place[1]] = np.nan
  after, metrics = train(TEXTBOOK, state, tokens._replace(values=jnp.asarray(values)))
  assert not bool(metrics["ok"]) and metrics["bad"].all()
  assert int(after["step"]) == int(state["step"]) + 1
  for name in ("params", "optimizer", "ema"):
    for ours, theirs in zip(jax.tree.leaves(after[name]), jax.tree.leaves(state[name]), strict=True):
      np.testing.assert_array_equal(ours, theirs)
  again, metrics = train(TEXTBOOK, after, tokens)
  assert bool(metrics["ok"]) and all(np.isfinite(leaf).all() for leaf in again["params"].values())
