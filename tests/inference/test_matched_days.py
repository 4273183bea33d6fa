"""Days of other channels, order, units and steps: the model's answers do not depend on how its channels came."""

import functools
import inspect

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aim.inference.matched_days import Layout
from data_pipelines.errors import SchemaError
from data_pipelines.schema import Channel, Schema
from tests import tiny
from tests.inference.test_pretrained import days, pretrained

SCHEMA = Schema(60, (Channel("heart_rate", "bpm"), Channel("asleep", kind="binary"), Channel("glucose", "mmol/L")))
NAMES = list(SCHEMA.names)


@functools.cache
def model():
  return pretrained(SCHEMA, batch_size=8)


def shown(kept):
  """Days of the model's schema on which the channels that are not kept are missing as a whole."""
  values = days(4, SCHEMA)
  values[:, :, [c for c in range(3) if c not in kept]] = np.nan
  values[:, 0, list(kept)] = 1
  return values


@settings(max_examples=6)
@given(st.permutations(range(3)), st.integers(1, 3), st.integers(0, 2))
def test_order_extra_and_absent_channels_change_nothing_to_the_bit(order, count, extra):
  kept = order[:count]
  values = shown(kept)
  own = np.concatenate([values[:, :, kept], np.random.default_rng(0).normal(size=(4, 24, extra))], 2).astype(np.float32)
  described = {"channels": [*(NAMES[c] for c in kept), *(f"other_{n}" for n in range(extra))]}
  np.testing.assert_array_equal(model().embed(own, **described), model().embed(values))
  np.testing.assert_array_equal(model().encode_tokens(own, **described), model().encode_tokens(values)[:, kept])
  blocks = model().embed(values, "channel").reshape(4, 3, -1)[:, kept].reshape(4, -1)
  np.testing.assert_array_equal(model().embed(own, "channel", **described), blocks)
  filled = model().impute(own, **described)
  np.testing.assert_array_equal(filled[:, :, :count], model().impute(values)[:, :, kept])
  np.testing.assert_array_equal(filled[:, :, count:], own[:, :, count:])


def test_another_unit_is_converted_and_comes_back_in_it():
  values = shown([0, 1, 2]).astype(np.float64)
  own = values[:, :, [2, 0]] * [18.016, 1 / 60]
  described = {"channels": ["glucose_mgdl", "pulse"], "units": {"pulse": "Hz"}}
  known = np.full_like(values, np.nan)
  known[:, :, [2, 0]] = values[:, :, [2, 0]]
  np.testing.assert_allclose(model().embed(own, **described), model().embed(known), atol=1e-5)
  filled, expected = model().impute(own, **described), model().impute(known)
  observed = ~np.isnan(own)
  np.testing.assert_array_equal(filled[observed], own[observed])
  np.testing.assert_allclose(filled, expected[:, :, [2, 0]] * [18.016, 1 / 60], rtol=1e-4)
  reconstruction = model().reconstruct(own, **described)
  z = model().reconstruct(known)
  np.testing.assert_allclose(reconstruction[:, :, 0], model().physical(z)[:, :, 2] * 18.016, rtol=1e-4)


@pytest.mark.parametrize("minutes", [5, 20, 120])
def test_other_steps_are_read_and_come_back_bit_for_bit(minutes):
  rng = np.random.default_rng(1)
  own = rng.normal(60, 10, (3, 1440 // minutes, 2)).astype(np.float32)
  own[rng.random(own.shape) < 0.3] = np.nan
  own[1, : len(own[1]) // 2] = np.nan
  described = {"channels": ["glucose", "heart_rate"], "minutes_per_step": minutes}
  assert model().embed(own, **described).shape == (3, 16)
  filled = model().impute(own, **described)
  observed = ~np.isnan(own)
  assert filled.shape == own.shape and filled.dtype == own.dtype and not np.isnan(filled).any()
  np.testing.assert_array_equal(filled[observed], own[observed])
  assert model().reconstruct(own, **described).shape == own.shape


def test_short_steps_equal_the_hourly_days_that_they_make():
  values = shown([0, 2])
  own = np.repeat(values[:, :, [0, 2]], 12, axis=1)
  described = {"channels": ["heart_rate", "glucose"], "minutes_per_step": 5}
  np.testing.assert_array_equal(model().embed(own, **described), model().embed(values))
  np.testing.assert_array_equal(model().impute(own, **described)[:, ::12], model().impute(values)[:, :, [0, 2]])


def test_only_a_target_is_reconstructed_where_it_is_asked_for():
  values = shown([0, 1, 2])
  target = np.zeros((4, 24, 1), bool)
  target[:, 5:7] = True
  everywhere = model().reconstruct(values[:, :, [1]], channels=["asleep"])
  some = model().reconstruct(values[:, :, [1]], target, channels=["asleep"])
  np.testing.assert_allclose(some[target], everywhere[target], rtol=1e-5)
  assert ((everywhere >= 0) & (everywhere <= 1)).all()


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "int32", "bfloat16"])
def test_days_come_back_in_their_dtype(dtype):
  own = np.full((2, 24, 1), 60)
  own = jnp.asarray(own, jnp.bfloat16) if dtype == "bfloat16" else own.astype(dtype)
  filled = model().impute(own, channels=["heart_rate"])
  assert filled.dtype == np.asarray(own).dtype and (np.asarray(filled, float) == 60).all()


def test_a_dataset_is_seen_in_the_models_schema(tmp_path, capsys):
  stored = tiny.dataset(tmp_path, "own", channels=("glucose_mgdl", "pulse"))
  seen = model().matched(stored)
  values = np.stack([day["values"] for day in seen.days("eval")])
  own = np.stack([day["values"] for day in stored.days("eval")])
  assert seen.schema == SCHEMA and "dataset 'own': absent, so treated as missing: asleep" in capsys.readouterr().err
  described = {"channels": ["glucose_mgdl", "pulse"]}
  np.testing.assert_array_equal(model().embed(values), model().embed(own, **described))
  assert model().matched(seen) is seen


def test_what_is_done_is_printed_once_on_stderr(capsys):
  fresh = pretrained(SCHEMA, batch_size=7)  # which has said nothing yet
  own = np.full((2, 24, 3), 60, np.float32)
  own[:, :, 2] = 1
  for _ in range(2):
    fresh.embed(own, channels=["pulse", "mood", "sleep"])
  printed = capsys.readouterr()
  assert not printed.out
  assert printed.err.count("embed: the same under another name: pulse is heart_rate, sleep is asleep") == 1
  assert printed.err.count("embed: absent, so treated as missing: glucose") == 1
  assert printed.err.count("left out, because they are no channels of the target: mood") == 1
  assert "unlike the training data: heart_rate: mean -1.0 SDs away, SD 0.00 times as large" in printed.err


def test_days_that_are_those_of_the_model_print_nothing(capsys):
  values = shown([0, 1, 2])
  np.testing.assert_array_equal(model().embed(values, channels=NAMES, minutes_per_step=60), model().embed(values))
  assert not capsys.readouterr().err


@pytest.mark.parametrize(
  "shape, described, words",
  [
    ((2, 24, 2), {"channels": ["heart_rate"]}, "embed: values have shape (2, 24, 2), expected [days, steps, 1]"),
    ((2, 24, 1), {"channels": ["mood"]}, "embed: none of the channels mood is one of heart_rate, asleep, glucose"),
    ((2, 24, 1), {"channels": "heart_rate"}, "embed: channels are 'heart_rate', expected a list of names"),
    ((2, 24, 2), {"channels": ["pulse", "hr"]}, "embed: 'pulse' and 'hr' are both 'heart_rate'"),
    ((2, 24, 2), {"channels": ["pulse", "pulse"]}, "channel 'pulse' appears more than once"),
    ((2, 24, 1), {"channels": ["pulse"], "units": {"pulse": "kg"}}, "channel 'pulse': unit is 'kg', expected 'bpm'"),
    ((2, 24, 1), {"channels": ["pulse"], "units": {"hr": "Hz"}}, "unit 'Hz' is of channel 'hr'"),
    ((2, 24, 1), {"channels": ["pulse"], "units": ["Hz", "Hz"]}, "expected one for each of 1 channels"),
    ((2, 24, 1), {"channels": ["pulse"], "minutes_per_step": 5}, "days have 24 steps of 5 min"),
    ((2, 7, 1), {"channels": ["pulse"]}, "days have 7 steps, expected"),
    ((2, 24, 1), {"channels": ["asleep"]}, "binary channel 'asleep' holds 7.0, expected 0, 1 or NaN"),
  ],
)
def test_what_does_not_fit_is_refused_in_one_line(shape, described, words):
  with pytest.raises(SchemaError) as error:
    model().embed(np.full(shape, 7.0), **described)
  assert words in str(error.value) and "\n" not in str(error.value)


def test_a_day_with_nothing_in_the_matched_channels_is_refused():
  own = np.full((2, 24, 2), np.nan)
  own[:, :, 1] = 1
  own[0, 0, 0] = 60
  with pytest.raises(SchemaError, match="embed: row 1 has no observed value"):
    model().embed(own, channels=["heart_rate", "mood"])


@pytest.mark.parametrize("kind", [set, frozenset])
def test_a_set_of_channels_or_units_has_no_order(kind):
  of_days = inspect.unwrap(Layout.of_days.__func__)  # as it runs outside the tests, which check types
  with pytest.raises(SchemaError, match=r"channels are .*, expected a list, in the order of the days' last axis"):
    of_days(Layout, (2, 24, 1), model().schema, model().vocabulary, kind({"heart_rate"}), None, None, "embed")
  with pytest.raises(SchemaError, match=r"units are .*, expected a list, in the order of the channels, or a mapping"):
    of_days(Layout, (2, 24, 1), model().schema, model().vocabulary, ["heart_rate"], None, kind({"bpm"}), "embed")
