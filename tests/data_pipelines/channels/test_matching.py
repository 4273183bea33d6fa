"""Data of other channels, orders, units and clocks in a target schema and back, and what cannot be matched."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_pipelines.channels import vocabulary
from data_pipelines.channels.distance import Distances
from data_pipelines.channels.matching import Matching, MatchingError, declared_schema
from data_pipelines.errors import SchemaError
from data_pipelines.schema import Channel, Schema

VOCABULARY = vocabulary.load()
TARGET = Schema(
  5,
  (
    Channel("heart_rate", "bpm", "PPG"),
    Channel("steps", "steps", "ACC"),
    Channel("glucose_mmol"),
    Channel("sleep", kind="binary"),
    Channel("jaw_force"),
  ),
)


def schema(*channels, minutes=5):
  return Schema(minutes, tuple(Channel(name, unit) for name, unit in channels))


def days(source, seed=0, missing=0.3):
  rng = np.random.default_rng(seed)
  values = rng.uniform(1, 60, (3, source.steps, len(source.channels))).astype(np.float32)
  values[:, :, source.binary] = values[:, :, source.binary] > 30
  values[rng.random(values.shape) < missing] = np.nan
  return values


def between(source, target=TARGET, **more):
  return Matching.between(source, target, VOCABULARY, **more)


def test_channels_are_matched_by_name_and_alias_and_converted():
  source = schema(("glucose_mgdl", ""), ("pulse", "Hz"), ("step_count", "steps/min"))
  matching, values = between(source), days(schema(("glucose_mgdl", ""), ("pulse", "Hz"), ("step_count", "steps/min")))
  matched = matching.apply(values)
  np.testing.assert_allclose(matched[:, :, 2], values[:, :, 0] / 18.016, rtol=1e-5)
  np.testing.assert_allclose(matched[:, :, 0], values[:, :, 1] * 60, rtol=1e-5)
  np.testing.assert_allclose(matched[:, :, 1], values[:, :, 2] * 5, rtol=1e-5)  # per minute, in five minutes
  assert np.isnan(matched[:, :, 3:]).all() and matching.absent == ("sleep", "jaw_force")
  text = "\n".join(matching.told())
  assert "glucose_mgdl is glucose_mmol" in text and "glucose_mgdl from mg/dL to mmol/L" in text
  assert "no unit declared, taken to be: glucose_mgdl in mg/dL" in text
  assert "absent, so treated as missing: sleep, jaw_force" in text


def test_exactly_equal_schemas_are_the_identity():
  matching, values = between(TARGET), days(TARGET)
  assert matching.is_identity and matching.told() == ["not in the vocabulary, matched by name alone: jaw_force"]
  np.testing.assert_array_equal(matching.apply(values), values)
  np.testing.assert_array_equal(matching.back(values), values)


@given(st.permutations(range(5)), st.integers(1, 5), st.integers(0, 2))
def test_order_and_extra_channels_change_nothing_and_the_way_back_is_exact(order, kept, extra):
  values, kept_order = days(TARGET), order[:kept]
  channels = (*(TARGET.channels[c] for c in kept_order), *(Channel(f"other_{n}") for n in range(extra)))
  own = np.concatenate([values[:, :, kept_order], np.full((3, 288, extra), 7, np.float32)], axis=2)
  matching = between(Schema(5, channels))
  expected = np.full_like(values, np.nan)
  expected[:, :, kept_order] = values[:, :, kept_order]
  np.testing.assert_array_equal(matching.apply(own), expected)
  filled = np.where(np.isnan(values), np.float32(1), values)
  back = matching.back(filled, own)
  observed = ~np.isnan(own)
  np.testing.assert_array_equal(back[observed], own[observed])
  np.testing.assert_array_equal(back[:, :, :kept], filled[:, :, kept_order])
  assert matching.extra == tuple(f"other_{n}" for n in range(extra))


@pytest.mark.parametrize("minutes", [1, 2, 15])
def test_another_clock_and_back_leaves_what_was_observed_bit_for_bit(minutes):
  source = schema(("steps", "steps"), ("glucose", "mg/dL"), ("mood", ""), minutes=minutes)
  matching, values = between(source), days(source)
  matched = matching.apply(values)
  assert matched.shape == (3, 288, 5)
  filled = np.where(np.isnan(matched), np.float32(3), matched)
  back = matching.back(filled, values)
  observed = ~np.isnan(values)
  np.testing.assert_array_equal(back[observed], values[observed])
  assert not np.isnan(back[:, :, :2]).any()
  np.testing.assert_array_equal(back[:, :, 2], values[:, :, 2])  # nothing is known about it
  assert any(f"steps of {minutes} min" in line for line in matching.told())


def test_what_is_to_be_filled_is_asked_of_the_target():
  source = schema(("steps", ""), minutes=1)
  mask = np.zeros((1, 1440, 1), bool)
  mask[0, 7] = True
  assert np.argwhere(between(source).targets(mask)).tolist() == [[0, 1, 1]]


@pytest.mark.parametrize(
  "source, words",
  [
    (schema(("heart_rate", "kcal")), "channel 'heart_rate': unit is 'kcal', expected 'bpm'"),
    (schema(("glucose", "furlong")), "channel 'glucose': unit is 'furlong', expected 'mmol/L'"),
    (schema(("steps", "kcal/min")), "channel 'steps': unit is 'kcal/min', expected 'steps'"),
    (schema(("pulse", ""), ("hr", "")), "'pulse' and 'hr' are both 'heart_rate'"),
    (schema(("heart_rate", ""), ("pulse", "")), "'heart_rate' and 'pulse' are both 'heart_rate'"),
    (schema(("step_count", ""), ("steps", "")), "'step_count' and 'steps' are both 'steps'"),
    (schema(("sleep", "")), "channel 'sleep' is continuous, expected binary"),
    (schema(("mood", ""), ("hunger", "")), "none of the channels mood, hunger is one of heart_rate, steps,"),
    (schema(("steps_15min", "")), "none of the channels steps_15min"),
  ],
)
def test_what_cannot_be_matched_is_refused_by_name_in_one_line(source, words):
  with pytest.raises(MatchingError) as error:
    between(source, where="mine.npz")
  assert words in str(error.value) and str(error.value).startswith("mine.npz: ") and "\n" not in str(error.value)


@pytest.mark.filterwarnings("error")
def test_a_conversion_beyond_the_dtype_names_the_channel_and_the_value():
  values = np.full((1, 288, 1), 3e37, np.float32)
  with pytest.raises(
    SchemaError, match=r"^mine: channel 'pulse' holds up to 3e\+37 Hz, which is beyond float32 in bpm$"
  ):
    between(schema(("pulse", "Hz"))).apply(values, "mine")


def test_names_alone_take_the_kind_of_the_target_and_values_are_checked():
  source = declared_schema(["asleep", "pulse"], 5, TARGET, VOCABULARY, {"pulse": "1/min"})
  assert [channel.kind for channel in source.channels] == ["binary", "continuous"]
  values = np.zeros((1, 288, 2), np.float32)
  assert between(source).apply(values)[0, 0, 3] == 0
  stages = declared_schema(["sleep"], 5, TARGET, VOCABULARY)
  values = np.full((1, 288, 1), 4, np.float32)
  with pytest.raises(
    Exception, match=r"mine\.npz: row 0 step 0 binary channel 'sleep' holds 4\.0, expected 0, 1 or NaN"
  ):
    between(stages).apply(values, "mine.npz")
  with pytest.raises(MatchingError, match="unit 'bpm' is of channel 'hr'; channels are pulse"):
    declared_schema(["pulse"], 5, TARGET, VOCABULARY, {"hr": "bpm"})


def test_units_that_the_target_does_not_declare_are_the_vocabularys():
  matching = between(schema(("glucose", "mg/dL")))
  assert matching.apply(np.full((1, 288, 1), 90.08))[0, 0, 2] == pytest.approx(5)


def test_data_far_from_the_statistics_are_reported():
  mean, std = np.array([70.0, 30, 6, 0, 0]), np.array([10.0, 40, 2, 1, 1])
  distances = Distances(TARGET, mean, std, VOCABULARY)
  rng = np.random.default_rng(0)
  values = np.full((4, 288, 5), np.nan, np.float32)
  values[:, :, 0] = rng.normal(70, 10, (4, 288))
  values[:, :, 1] = rng.normal(30, 8, (4, 288)).clip(0)
  values[:, :, 2] = rng.normal(110, 30, (4, 288)).clip(50)  # mg/dL where mmol/L is expected
  for day in values:
    distances.add(day[None])
  steps, glucose = distances.told()
  assert steps.endswith("SDs away, SD 0.21 times as large")
  assert glucose.startswith("glucose_mmol: mean +5") and "% of values outside 0.1 to 40" in glucose
  assert [distance.name for distance in distances.found()] == ["heart_rate", "steps", "glucose_mmol"]


def test_a_schema_is_matched_whatever_its_sensors_and_clips():
  changed = Schema(5, tuple(dataclasses.replace(channel, clip=9, sensor="x") for channel in TARGET.channels))
  assert between(changed).is_identity
