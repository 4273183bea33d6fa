"""LSM-1: patches of several channels, days that are imputed before they are masked, and reconstruction of holes."""

import functools
import pickle

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aim.common import config_files as config_settings
from aim.evaluation.generative import imputers
from aim.evaluation.probing import robustness, run
from aim.inference.pretrained import Pretrained
from aim.model import buffer_sizes, from_config, interpolation, loss, lsm2, patches
from aim.model.lsm2 import Tower
from aim.model.patches import Scale
from aim.training.checkpoint import Restored
from aim.training.masked_step import MaskedStep
from data_pipelines.dataset import Dataset
from data_pipelines.schema import Channel, Schema
from experiments import lsm1_xs
from tests import tiny

SCHEMA = Schema(60, (*(Channel(f"c{i}") for i in range(6)), Channel("asleep", kind="binary")))
MEAN, STD = np.array([50.0] * 6 + [0.3], np.float32), np.array([20.0] * 6 + [0.46], np.float32)
SCALE = Scale.from_statistics(SCHEMA, {"mean": MEAN, "std": STD, "min": MEAN - 9 * STD, "max": MEAN + 9 * STD})


@settings(max_examples=8)
@given(channels=st.integers(1, 7), group=st.integers(1, 6), length=st.integers(1, 4), patch=st.integers(1, 3))
def test_patches_of_channel_groups(channels, group, length, patch):
  day = 1 + np.arange(2 * length * patch * channels, dtype=np.float32).reshape(2, length * patch, channels)
  tokens = np.asarray(patches.patchify(jnp.asarray(day), patch, group))
  groups = -(-channels // group)
  assert tokens.shape == (2, groups * length, patch * group)
  expected = np.zeros_like(tokens)
  for i, s, c in np.ndindex(day.shape):
    expected[i, c // group * length + s // patch, s % patch * group + c % group] = day[i, s, c]
  np.testing.assert_array_equal(tokens, expected)
  np.testing.assert_array_equal(patches.unpatchify(jnp.asarray(tokens), channels, group), day)
  if group == 1:
    np.testing.assert_array_equal(tokens, patches.patchify(jnp.asarray(day), patch))


@settings(max_examples=20)
@given(seed=st.integers(0, 2**32 - 1), rate=st.sampled_from([0.0, 0.05, 0.3, 0.9, 1.0]))
def test_fill_linearly_is_linear_interpolation(seed, rate):
  rng = np.random.default_rng(seed)
  z = rng.normal(size=(3, 17, 4)).astype(np.float32)
  observed = rng.random(z.shape) < rate
  fill = rng.normal(size=4).astype(np.float32)
  holed = np.where(observed, z, np.nan)
  expected = imputers.linear(holed, fill)
  # The values at the holes are not read.
  found = interpolation.fill_linearly(
    jnp.asarray(np.where(observed, z, 1e30).astype(np.float32)), jnp.asarray(observed), fill
  )
  np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)
  np.testing.assert_array_equal(np.asarray(found)[observed], z[observed])


def test_a_day_as_lsm1_reads_it():
  values = np.full((1, 24, 7), np.nan, np.float32)
  values[0, [2, 4], 0] = 50, 90
  z, observed = patches.normalised_days(SCALE, values, "linear")
  assert np.asarray(observed).all()
  np.testing.assert_allclose(z[0, :6, 0], [0, 0, 0, 1, 2, 2], atol=1e-6)
  # A channel never observed that day gets the training mean; a binary channel, its share of ones.
  assert (np.asarray(z)[0, :, 1:6] == 0).all() and np.allclose(z[0, :, 6], 0.3)


BINARY = tuple(SCHEMA.binary.tolist())
ARCHITECTURE = tiny.architecture(
  7, 6, 4, Tower(16, 24, 2, 1), Tower(8, 12, 2, 1), observed_flags=False, patch_channels=3, binary=BINARY
)
STEP = MaskedStep(
  ARCHITECTURE, tiny.masking((1, 0, 0, 0)), SCALE, optax.identity(), accumulate=1, groups=0, ema=0.0, impute="linear"
)
DRAW = jax.jit(STEP.draw)


def days(rows=4, missing=0.3, seed=0):
  rng = np.random.default_rng(seed)
  values = rng.normal(50, 20, (rows, 24, 7)).astype(np.float32)
  values[..., 6] = values[..., 6] > 50
  values[rng.random(values.shape) < missing] = np.nan
  if missing:
    values[0, :12, :3] = np.nan  # three tokens of the first group
    values[1, :, 3:6] = np.nan  # a group
  return values


def test_exactly_80_percent_is_hidden_and_all_else_visible():
  n = ARCHITECTURE.tokens
  assert n == 3 * 6
  tokens, rows, counts = DRAW(jax.random.key(0), 3, days(8))
  hidden = round(0.8 * n)
  assert counts.tolist() == [[n - hidden, n, hidden]] * 8
  assert STEP.masking.hides_equal_counts(ARCHITECTURE.channel_groups)
  size = buffer_sizes.exact(np.asarray(counts)[0], n, hidden, "all", 8, 0)
  assert (size.encoder, size.decoder, size.targets) == tuple(rows.tolist())
  # Only values of real channels are scored; the last group has one of three.
  for order, target in zip(np.asarray(tokens.order), np.asarray(tokens.target), strict=True):
    masked = order[n - hidden :]
    assert target[: n - hidden].sum() == 0
    assert target.sum(1)[n - hidden :].tolist() == [4 if token >= 12 else 12 for token in masked]


def test_fixed_masks():
  fixed = lambda *weights, **changes: tiny.masking(weights, **changes).hides_equal_counts(3)
  assert fixed(1, 0, 0, 0) and fixed(0, 1, 0, 0) and fixed(0, 0, 1, 0)
  assert not fixed(0, 0, 0, 1) and not fixed(1, 1, 0, 0) and not fixed(1, 0, 0, 0, random_unit=2)


@functools.cache
def predicted():
  graph, params = lsm2.split(lsm2.Lsm2(ARCHITECTURE, lsm2.nnx.Rngs(0)))
  size = buffer_sizes.textbook(ARCHITECTURE.tokens, 14, "all")

  def program(tokens):
    network = lsm2.merge(graph, params)
    prediction = loss.forward(network, tokens, size, size.target_buffer(tokens))
    return prediction, loss.token_error(network, tokens, jnp.asarray(SCALE.binary), size)

  return jax.jit(program)


def test_nothing_hidden_leaks():
  tokens = DRAW(jax.random.key(1), 0, days(4))[0]
  before, (total, _) = predicted()(tokens)
  dirty = tokens._replace(values=jnp.where(tokens.visible, tokens.values, 7.5))
  after, (other, _) = predicted()(dirty)
  np.testing.assert_array_equal(before, after)
  assert float(total) != float(other), "the loss does not depend on its targets"
  # Now from the days themselves: if there are no holes, no hidden value can leak through the imputation either.
  whole = days(4, missing=0.0)
  tokens = DRAW(jax.random.key(2), 5, whole)[0]
  grid = np.asarray(jnp.take_along_axis(tokens.target, jnp.argsort(tokens.order, 1)[:, :, None], 1))
  hidden = np.asarray(patches.unpatchify(jnp.asarray(grid), 7, 3))
  assert 0.5 < hidden.mean() < 1
  other = DRAW(jax.random.key(2), 5, np.where(hidden, 1.0, whole).astype(np.float32))[0]
  np.testing.assert_array_equal(predicted()(tokens)[0], predicted()(other)[0])


def test_binary_values_are_scored_by_cross_entropy():
  tokens = DRAW(jax.random.key(3), 0, days(4))[0]
  prediction, (total, count) = predicted()(tokens)
  x, y, target = (np.asarray(a, np.float64) for a in (prediction, tokens.values, tokens.target))
  binary = (np.asarray(tokens.order) >= 12)[:, :, None] & (np.arange(12) % 3 == 0)
  entropy = np.logaddexp(0, -np.abs(x)) + np.maximum(x, 0) - x * np.clip(y, 0, 1)
  error = np.where(binary, entropy, (x - y) ** 2)
  assert int(count) == target.sum()
  assert float(total) == pytest.approx((error * target).sum(), rel=1e-5)


@functools.cache
def trained(short_holes=None):
  config = lsm1_xs.get_config()
  config.update_from_flattened_dict(
    {k: v for k, v in tiny.MODEL.items()} | {"model.patch_minutes": 240, "model.patch_channels": 3}
  )
  architecture = from_config.architecture(config, SCHEMA)
  rng = np.random.default_rng(0)
  shapes = lsm2.abstract(architecture)[1]
  params = {name: jnp.asarray(rng.normal(0, 0.3, leaf.shape), jnp.float32) for name, leaf in sorted(shapes.items())}
  return Pretrained(Restored(config, SCHEMA, SCALE, architecture, params, 7), 4, short_holes)


def days_without_binary_holes():
  values = days(6)
  return np.where(SCHEMA.binary, np.nan_to_num(values, nan=1.0), values)


def imputed_by_hand(values):
  """The days in physical units with holes filled as in LSM-1's pipeline."""
  z = np.clip((values - SCALE.mean) / SCALE.std, -SCALE.clip, SCALE.clip)
  return imputers.linear(z.astype(np.float32), SCALE.training_mean) * SCALE.std + SCALE.mean


def test_an_embedding_is_that_of_the_imputed_day():
  values = days_without_binary_holes()
  np.testing.assert_allclose(trained().embed(values), trained().embed(imputed_by_hand(values)), rtol=1e-3, atol=1e-4)
  assert trained().embed(values, pool="mean_std").shape == (6, 32)


def test_without_imputed_patches_an_embedding_is_of_the_patches_with_an_observed_value():
  values, model = days_without_binary_holes(), trained().without_imputed_patches()
  values[2, :, 3:6] = np.nan  # a group of channels that was lost is one of constants, to a model that sees it
  tokens, seen = model.encode_tokens(values), trained().encode_tokens(values)
  observed = patches.patchify(jnp.asarray(~np.isnan(values)), 4, 3).any(2).reshape(tokens.shape[:3])
  np.testing.assert_array_equal(np.isnan(tokens).all(-1), ~observed)
  assert not np.isnan(seen).any() and np.isnan(tokens[2, 1]).all()
  mean = np.nanmean(tokens.reshape(6, -1, 16), axis=1)
  np.testing.assert_allclose(model.embed(values), mean, rtol=1e-4, atol=1e-5)
  # A group of which nothing is left has no embedding, and a probe takes its training mean.
  assert np.isnan(model.embed(values, pool="channel")[2].reshape(3, 16)[1]).all()
  assert not np.allclose(model.embed(values), trained().embed(values), atol=1e-3)
  assert model.without_imputed_patches().vocabulary is trained().vocabulary
  copy = pickle.loads(pickle.dumps(model))
  np.testing.assert_array_equal(copy.embed(values), model.embed(values))
  np.testing.assert_array_equal(model.impute(values), trained().impute(values))


@pytest.mark.parametrize("mode", ["probe", "robustness"])
def test_probes_are_of_the_model_that_imputed_patches_asks_for(tmp_path, monkeypatch, mode):
  config, unread = lsm1_xs.get_config(), Dataset.__new__(Dataset)
  assert run.probed_model(config.probe, trained()) is trained()
  config.probe.imputed_patches = "unseen"
  assert not run.probed_model(config.probe, trained()).functions.reads_imputed_patches

  def probed(given, model):
    raise InterruptedError(f"{given.imputed_patches}, {model.name}")

  module = {"probe": run, "robustness": robustness}[mode]
  monkeypatch.setattr(module, "check_held_out", lambda *_: None)
  monkeypatch.setattr(module, "probed_model", probed)
  with pytest.raises(InterruptedError, match="unseen, LSM-1"):
    if mode == "probe":
      run.run_probe(config.probe, trained(), unread, tmp_path)
    else:
      robustness.run_robustness(config, trained(), unread, tmp_path)


def lost(values):
  """The values in tokens without any observed value."""
  tokens = patches.patchify(jnp.asarray(~np.isnan(values)), 4, 3)
  empty = jnp.broadcast_to(~tokens.any(2, keepdims=True), tokens.shape)
  return np.asarray(patches.unpatchify(empty, 7, 3))


@pytest.mark.parametrize("short_holes", [None, "decode"])
def test_a_hole_is_decoded_where_its_token_is_lost_and_else_on_the_line(short_holes):
  values = days_without_binary_holes()
  found, empty = trained(short_holes).reconstruct(values), lost(values)
  assert empty[0, :12, :3].all() and empty[1, :, 3:6].all()
  line = imputers.linear(
    np.where(np.isnan(values), np.nan, np.asarray(SCALE.normalise(values)[0])), SCALE.training_mean
  )
  short = np.isnan(values) & ~empty
  assert short.any()
  np.testing.assert_allclose(found[short], line[short], rtol=1e-5, atol=1e-5)
  # Lost tokens are decoded from the others after filling, so a day without other holes gives the same values there.
  filled = np.where(empty, np.nan, imputed_by_hand(values)).astype(np.float32)
  other = trained().reconstruct(filled)
  np.testing.assert_allclose(found[empty], other[empty], rtol=1e-3, atol=1e-4)
  assert not np.allclose(found[empty], line[empty], atol=0.05)
  imputed = trained(short_holes).impute(values)
  np.testing.assert_array_equal(imputed[~np.isnan(values)], values[~np.isnan(values)])
  physical = trained().physical(found)
  np.testing.assert_allclose(imputed[np.isnan(values)], physical[np.isnan(values)], rtol=1e-4, atol=1e-3)


def test_a_day_with_nothing_observed_is_imputed():
  assert np.isfinite(trained().impute(np.full((2, 24, 7), np.nan, np.float32))).all()


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    ({"model.patch_channels": 0}, "config.model.patch_channels is 0, expected a whole number from 1"),
    ({"masking.min_observed_share": 0.5}, "the last of the groups of 5 channels has 2"),
  ],
)
def test_refused(changes, message):
  config = lsm1_xs.get_config()
  config.update_from_flattened_dict({"model.patch_minutes": 120} | changes)
  with pytest.raises(config_settings.ConfigError, match=message):
    from_config.architecture(config, SCHEMA)
    from_config.masking(config, SCHEMA)
