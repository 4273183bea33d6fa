"""The generative tasks hide what they promise, the same values from every method."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aim.evaluation.defaults import defaults
from aim.evaluation.generative import tasks
from aim.evaluation.generative.tasks import GenerativeTask
from data_pipelines.lsm2_schema import LSM2_SCHEMA
from data_pipelines.schema import Channel, Schema

PUBLIC = defaults().evaluate.scenarios.to_dict()


def schema_of(channels: int, minutes_per_step: int = 1) -> Schema:
  return Schema(minutes_per_step, tuple(Channel(f"c{i}") for i in range(channels)))


def tasks_of(schema: Schema, **changes) -> tuple[tuple[GenerativeTask, ...], tuple[str, ...]]:
  """The tasks of the default config, with changes, and the notes on those left out."""
  config = defaults().evaluate
  arguments = {
    "random": config.random_percent,
    "interpolation": config.interpolation_minutes,
    "extrapolation": config.extrapolation_minutes,
    "sensor": config.sensor_channels,
    "sensor_of": config.sensor_of,
    "public": PUBLIC,
  }
  return tasks.generative_tasks(schema, **(arguments | changes))


def test_full_schema_keeps_every_task():
  possible, left_out = tasks_of(LSM2_SCHEMA)
  assert len(possible) == 14 + 6 and left_out == ()
  assert possible[0] == GenerativeTask("random", 30) and possible[13] == GenerativeTask("sensor", 12)
  assert possible[14:] == tuple(GenerativeTask(name, level) for name, level in PUBLIC.items())


def test_left_out_tasks_say_why():
  possible, left_out = tasks_of(schema_of(6, 15), sensor_of=0)
  assert GenerativeTask("sensor", 2) in possible and GenerativeTask("interpolation", 30) in possible
  assert left_out == (
    "interpolation 10 min: shorter than a step of 15 min",
    "extrapolation 10 min: shorter than a step of 15 min",
    "sensor 6 channels: the schema has 6 channels, at least one must remain",
    "sensor 12 channels: the schema has 6 channels, at least one must remain",
    "high_heart_rate 160 bpm: no channel is a heart rate (named heart_rate, pulse ...)",
    "workout 60 min: no channel shows motion (named step, activity, intensity, motion, acc, act_ ...)",
  )


def test_too_many_channels_become_their_share():
  possible, notes = tasks_of(schema_of(8), sensor=(2, 6, 12), sensor_of=26)
  assert [task.level for task in possible if task.name == "sensor"] == [2, 4, 6]  # 12 of 26 is 4 of 8
  assert (
    "sensor 12 channels: the schema has 8 channels, at least one must remain; replaced by its share of 26: 4 channels"
    in notes
  )
  possible, _ = tasks_of(schema_of(2), sensor=(2, 6, 12), sensor_of=26)
  assert [task.level for task in possible if task.name == "sensor"] == [1]


def test_one_channel_has_no_sensor_task():
  possible, left_out = tasks_of(schema_of(1), sensor=(1, 2))
  assert all(task.name != "sensor" for task in possible)
  assert left_out[0] == "sensor 1 channel: the schema has 1 channel, at least one must remain"


@pytest.mark.parametrize(
  "name, level, expected",
  [
    ("randm", 30, "expected one of random, interpolation"),
    ("random", 0, "whole number of %"),
    ("random", 100, "1 to 99 %"),
    ("sensor", True, "whole number of channels"),
  ],
)
def test_bad_task_is_one_line(name, level, expected):
  with pytest.raises(ValueError, match=expected) as error:
    GenerativeTask(name, level)
  assert "\n" not in str(error.value)


def test_impossible_task_is_refused():
  with pytest.raises(ValueError, match="task sensor 3 channels: the schema has 3 channels"):
    tasks.hidden_values(GenerativeTask("sensor", 3), schema_of(3), "p", 0, 0, 10)
  with pytest.raises(ValueError, match="leaves fewer than 2 of the day's 24 steps"):
    tasks.hidden_values(GenerativeTask("interpolation", 1380), schema_of(3, 60), "p", 0, 0, 60)


@pytest.mark.parametrize("patch_minutes", [0, 7, 12, 25])
def test_patch_must_divide_day_and_hold_whole_steps(patch_minutes):
  with pytest.raises(ValueError, match=f"patch_minutes is {patch_minutes}"):
    tasks.hidden_values(GenerativeTask("random", 50), schema_of(3, 5), "p", 0, 0, patch_minutes)


@settings(max_examples=60, deadline=None)
@given(
  channels=st.integers(1, 34),
  minutes_per_step=st.sampled_from([1, 5, 15]),
  patch_minutes=st.sampled_from([15, 30, 60]),
  percent=st.integers(1, 99),
  participant=st.text(max_size=5),
  day=st.integers(0, 3000),
  seed=st.integers(0, 2**40),
)
def test_random_hides_whole_patches_exactly(channels, minutes_per_step, patch_minutes, percent, participant, day, seed):
  schema = schema_of(channels, minutes_per_step)
  hidden = tasks.hidden_values(GenerativeTask("random", percent), schema, participant, day, seed, patch_minutes)
  assert hidden.shape == (schema.steps, channels) and hidden.dtype == bool
  patch = patch_minutes // minutes_per_step
  shares = hidden.reshape(-1, patch, channels).mean(axis=1)
  assert np.isin(shares, (0, 1)).all()
  assert abs(shares.sum() - percent / 100 * shares.size) <= 0.5


@settings(max_examples=60, deadline=None)
@given(
  channels=st.integers(1, 34),
  minutes_per_step=st.sampled_from([1, 5, 10]),
  minutes=st.integers(10, 1420),
  seed=st.integers(0, 2**40),
)
def test_gaps_have_their_length_and_place(channels, minutes_per_step, minutes, seed):
  schema = schema_of(channels, minutes_per_step)
  inside = tasks.hidden_values(GenerativeTask("interpolation", minutes), schema, "p", 1, seed, 10)
  at_end = tasks.hidden_values(GenerativeTask("extrapolation", minutes), schema, "p", 1, seed, 10)
  for hidden in (inside, at_end):
    assert (hidden == hidden[:, :1]).all()
    places = np.flatnonzero(hidden[:, 0])
    assert abs(places.size * minutes_per_step - minutes) <= minutes_per_step / 2
    assert places[-1] - places[0] + 1 == places.size
  assert not inside[0].any() and not inside[-1].any()
  assert at_end[-1].all()


@settings(max_examples=40, deadline=None)
@given(data=st.data(), channels=st.integers(2, 34), seed=st.integers(0, 2**40))
def test_sensor_hides_whole_channels(data, channels, seed):
  lost = data.draw(st.integers(1, channels - 1))
  hidden = tasks.hidden_values(GenerativeTask("sensor", lost), schema_of(channels, 5), "p", 1, seed, 10)
  assert hidden[0].sum() == lost and (hidden == hidden[0]).all()


SCENES = st.sampled_from(["patches", "slices", "channels", "sleep", "workout", "high_heart_rate"])


def lived_day(minutes_per_step: int, seed: int, channels=("heart_rate", "step_count", "rmssd", "temperature")):
  """A day with holes whose heart rate is high for about an hour."""
  sensors = {"heart_rate": "PPG", "rmssd": "PPG"}
  schema = Schema(minutes_per_step, tuple(Channel(name, sensor=sensors.get(name, "")) for name in channels))
  rng = np.random.default_rng(seed)
  values = rng.uniform(0, 100, (schema.steps, len(channels))).astype(np.float32)
  start = int(rng.integers(0, schema.steps))
  values[start : start + max(1, 60 // minutes_per_step), 0] = 170
  values[rng.random(values.shape) < 0.2] = np.nan
  return schema, values


@settings(max_examples=60, deadline=None)
@given(name=SCENES, minutes_per_step=st.sampled_from([1, 5, 15]), seed=st.integers(0, 2**32), day=st.integers(0, 99))
def test_scenarios_are_the_same_for_every_method(name, minutes_per_step, seed, day):
  schema, values = lived_day(minutes_per_step, seed)
  task = GenerativeTask(name, PUBLIC[name])
  before = values.copy()
  hidden = tasks.hidden_values(task, schema, "p", day, seed, 30, values)
  assert hidden.shape == values.shape and hidden.dtype == bool
  np.testing.assert_array_equal(values, before)
  assert (tasks.hidden_values(task, schema, np.str_("p"), np.int64(day), seed, 30, values.copy()) == hidden).all()
  assert (tasks.hidden_in_days(task, schema, ["p"], [day], seed, 30, values[None])[0] == hidden).all()


@settings(max_examples=60, deadline=None)
@given(minutes_per_step=st.sampled_from([1, 5, 15, 30]), percent=st.integers(10, 50), seed=st.integers(0, 2**32))
def test_slices_have_their_length_and_share(minutes_per_step, percent, seed):
  schema = schema_of(3, minutes_per_step)
  hidden = tasks.hidden_values(GenerativeTask("slices", percent), schema, "p", 0, seed, 30)
  assert (hidden == hidden[:, :1]).all()
  assert hidden[:, 0].sum() == (percent * schema.steps + 50) // 100
  edges = np.flatnonzero(np.diff(np.concatenate([[0], hidden[:, 0].astype(int), [0]]))).reshape(-1, 2)
  lengths = np.diff(edges, axis=1) * minutes_per_step
  assert lengths.min() >= 30 and lengths.max() <= 60


@settings(max_examples=30, deadline=None)
@given(channels=st.integers(2, 34), seed=st.integers(0, 2**32))
def test_half_of_the_patches_and_of_the_channels(channels, seed):
  schema = schema_of(channels, 5)
  patches = tasks.hidden_values(GenerativeTask("patches", 50), schema, "p", 0, seed, 10).reshape(48, 6, channels)
  assert np.isin(patches.mean(axis=1), (0, 1)).all() and patches[:, 0].sum() == 24 * channels
  lost = tasks.hidden_values(GenerativeTask("channels", 50), schema, "p", 0, seed, 10)
  assert (lost == lost[0]).all() and lost[0].sum() == (channels + 1) // 2 - (channels == 1)


@settings(max_examples=40, deadline=None)
@given(minutes_per_step=st.sampled_from([1, 5, 15]), seed=st.integers(0, 2**32))
def test_high_heart_rate_loses_the_sensor_around_it(minutes_per_step, seed):
  schema, values = lived_day(minutes_per_step, seed)
  hidden = tasks.hidden_values(GenerativeTask("high_heart_rate", 160), schema, "p", 0, 0, 30, values)
  high = np.flatnonzero(np.nan_to_num(values[:, 0]) > 160)
  reach = 30 // minutes_per_step
  expected = np.array([bool(len(high)) and np.abs(high - s).min() <= reach for s in range(schema.steps)])
  assert (hidden[:, [0, 2]] == expected[:, None]).all() and not hidden[:, [1, 3]].any()


def test_nights_and_workouts_follow_the_day():
  schema = Schema(60, (Channel("steps"), Channel("asleep", kind="binary")))
  values = np.zeros((24, 2), np.float32)
  values[17, 0], values[3:9, 1] = 900, 1
  night, workout = GenerativeTask("sleep", 360), GenerativeTask("workout", 60)
  of = lambda task, **more: np.flatnonzero(
    tasks.hidden_values(task, schema, "p", 0, 0, 60, values, **more)[:, 0]
  ).tolist()
  assert of(workout) == [17]
  assert of(night) == [3, 4, 5, 6, 7, 8]
  asleep = np.zeros(24, bool)
  asleep[10:16] = True
  assert of(night, asleep=asleep) == [10, 11, 12, 13, 14, 15]  # events count before a channel
  values[:] = 0
  assert of(workout) == [] and of(night) == [0, 1, 2, 3, 4, 5]
  with pytest.raises(ValueError, match="depends on the day's values, and there are none"):
    tasks.hidden_values(workout, schema, "p", 0, 0, 60)


@settings(max_examples=60, deadline=None)
@given(days=st.integers(0, 400), most=st.integers(0, 100), seed=st.integers(0, 2**32))
def test_a_task_is_scored_on_so_many_days_spread_evenly(days, most, seed):
  scored = tasks.scored_days(GenerativeTask("random", 50), days, most, seed)
  assert scored.shape == (days,) and scored.sum() == (min(most, days) if most else days)
  if most and days > most:
    assert np.diff(np.flatnonzero(scored)).max(initial=0) <= np.ceil(days / most)


def test_gap_reaches_every_allowed_start_and_ignores_patches():
  schema = schema_of(1, 60)  # 24 steps, gap of 20: it may start at 1, 2 or 3
  task = GenerativeTask("interpolation", 20 * 60)
  starts = [int(np.argmax(tasks.hidden_values(task, schema, "p", day, 0, 240)[:, 0])) for day in range(300)]
  assert set(starts) == {1, 2, 3}
  assert min(np.bincount(starts)[1:]) > 60  # uniform: 100 expected


def test_every_channel_and_patch_is_hidden_at_times():
  schema = schema_of(8, 5)
  for task in (GenerativeTask("random", 30), GenerativeTask("sensor", 2)):
    hidden = tasks.hidden_in_days(task, schema, ["p"] * 400, range(400), 0, 10)
    expected = 0.3 if task.name == "random" else 0.25
    assert abs(hidden.mean() - expected) < 0.005
    assert np.abs(hidden.mean(axis=0) - expected).max() < 0.12  # 5 standard errors of one value


def test_hidden_values_depend_only_on_person_day_seed_and_task():
  schema = schema_of(6, 5)
  base = tasks.hidden_values(GenerativeTask("random", 50), schema, "p", 3, 7, 10)
  # NumPy types, as they come out of arrays, are the same person and day.
  again = tasks.hidden_values(GenerativeTask("random", 50), schema, np.str_("p"), np.int64(3), np.int32(7), 10)
  assert (base == again).all()
  for other in (
    tasks.hidden_values(GenerativeTask("random", 50), schema, "q", 3, 7, 10),
    tasks.hidden_values(GenerativeTask("random", 50), schema, "p", 4, 7, 10),
    tasks.hidden_values(GenerativeTask("random", 50), schema, "p", 3, 8, 10),
  ):
    assert (base != other).any()
  gap = GenerativeTask("interpolation", 60)
  assert (tasks.hidden_values(gap, schema, "p", 3, 7, 10) == tasks.hidden_values(gap, schema, "p", 3, 7, 60)).all()


def test_hidden_values_of_a_known_day_never_change():
  """Published tables rest on these values, so the key and the draws are part of the format."""
  hidden = tasks.hidden_values(GenerativeTask("interpolation", 60), schema_of(2), "UOM2302", 5, 0, 10)
  assert int(np.argmax(hidden[:, 0])) == 1004
  lost = tasks.hidden_values(GenerativeTask("sensor", 2), schema_of(8), "UOM2302", 5, 0, 10)
  assert np.flatnonzero(lost[0]).tolist() == [5, 7]


def test_days_stack_and_may_be_none():
  schema = schema_of(3, 5)
  task = GenerativeTask("random", 50)
  stacked = tasks.hidden_in_days(task, schema, ["a", "b"], [0, 9], 1, 10)
  assert (stacked[1] == tasks.hidden_values(task, schema, "b", 9, 1, 10)).all()
  assert tasks.hidden_in_days(task, schema, [], [], 1, 10).shape == (0, 288, 3)


def test_scored_values_are_hidden_and_observed():
  hidden = np.array([[True, True, False, False]])
  values = np.array([[1.0, np.nan, 1.0, np.nan]], np.float32)
  assert tasks.scored_values(hidden, values).tolist() == [[True, False, False, False]]
