"""Days to tokens and back: patchify against loops, z-scores against the formula."""

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aim.model.patches import Scale, patchify, unpatchify
from data_pipelines.errors import SchemaError
from data_pipelines.schema import Channel, Schema

MIXED = Schema(720, (Channel("rate", clip=2.0), Channel("sleep", kind="binary"), Channel("steps")))
STATISTICS = {"mean": [70.0, 0.3, 5.0], "std": [10.0, 0.46, 2.0], "min": [40.0, 0.0, 0.0], "max": [180.0, 1.0, 90.0]}


@settings(max_examples=10)
@given(b=st.integers(1, 3), channels=st.sampled_from([1, 2, 34]), length=st.integers(1, 5), patch=st.integers(1, 4))
def test_token_is_channel_major(b, channels, length, patch):
  day = np.arange(b * length * patch * channels, dtype=np.float32).reshape(b, length * patch, channels)
  tokens = np.asarray(patchify(jnp.asarray(day), patch))
  assert tokens.shape == (b, channels * length, patch)
  for i in range(b):
    for c in range(channels):
      for t in range(length):
        for p in range(patch):
          assert tokens[i, c * length + t, p] == day[i, t * patch + p, c]
  np.testing.assert_array_equal(unpatchify(jnp.asarray(tokens), channels), day)


def test_scale_keeps_binary_channels_raw():
  scale = Scale.from_statistics(MIXED, STATISTICS)
  assert scale.mean.tolist() == [70, 0, 5] and scale.std.tolist() == [10, 1, 2]
  assert scale.clip.tolist() == [2, np.inf, 5]
  assert scale.binary.tolist() == [False, True, False]
  np.testing.assert_allclose(scale.reference_std, [10, 0.46, 2], rtol=1e-6)
  assert scale.low.tolist() == [40, 0, 0] and scale.high.tolist() == [180, 1, 90]
  arrays = (scale.mean, scale.std, scale.clip, scale.reference_mean, scale.reference_std, scale.low, scale.high)
  assert {a.dtype for a in arrays} == {np.dtype(np.float32)}


def test_normalise_z_scores_clips_and_zero_fills():
  values = np.array([[[75.0, 1.0, np.nan], [150.0, np.nan, -100.0]]], np.float32)
  z, observed = Scale.from_statistics(MIXED, STATISTICS).normalise(jnp.asarray(values))
  assert observed.tolist() == [[[True, True, False], [True, False, True]]]
  # (75 - 70) / 10; binary unchanged; missing 0; 8 SDs clipped to this channel's 2; missing 0; -52.5 SDs clipped to 5.
  assert z.tolist() == [[[0.5, 1.0, 0.0], [2.0, 0.0, -5.0]]]


@pytest.mark.parametrize("channels", [1, 34])
def test_normalise_every_channel_by_its_own_statistics(channels):
  schema = Schema(5, tuple(Channel(f"c{i}") for i in range(channels)))
  rng = np.random.default_rng(0)
  mean, std = rng.normal(size=channels), rng.uniform(0.5, 2, channels)
  scale = Scale.from_statistics(schema, {"mean": mean, "std": std, "min": mean - 9, "max": mean + 9})
  values = rng.normal(size=(2, schema.steps, channels)).astype(np.float32)
  values[rng.random(values.shape) < 0.3] = np.nan
  z, observed = scale.normalise(jnp.asarray(values))
  np.testing.assert_array_equal(observed, ~np.isnan(values))
  np.testing.assert_allclose(z, np.nan_to_num(np.clip((values - mean) / std, -5, 5)), rtol=1e-4, atol=1e-5)


def test_zero_is_missing_where_it_is_said_to_be():
  schema = Schema(60, (Channel("pulse"), Channel("steps")))
  statistics = {"mean": [1.0, 1.0], "std": [2.0, 2.0], "min": [0, 0], "max": [9, 9]}
  values = jnp.zeros((1, 24, 2))
  z, observed = Scale.from_statistics(schema, statistics, ("pulse",)).normalise(values)
  assert not observed[..., 0].any() and observed[..., 1].all()
  assert (z[..., 0] == 0).all() and (z[..., 1] == -0.5).all()
  with pytest.raises(
    SchemaError, match=r"config.data.zero_is_missing names channel 'heart', expected some of pulse, st"
  ):
    Scale.from_statistics(schema, statistics, ("heart",))


def test_without_clips_nothing_is_cut_off():
  schema = Schema(60, (Channel("pulse"),))
  statistics = {"mean": [0.0], "std": [1.0], "min": [0], "max": [9]}
  values = jnp.full((1, 24, 1), 99.0)
  assert (Scale.from_statistics(schema, statistics).normalise(values)[0] == 5).all()
  assert (Scale.from_statistics(schema, statistics, clips=False).normalise(values)[0] == 99).all()
