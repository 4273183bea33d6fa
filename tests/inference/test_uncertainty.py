"""Tables of errors: the distance of each value, what an interval is, and how a table is stored."""

import dataclasses
import json

import jax.numpy as jnp
import jaxtyping
import numpy as np
import pytest
from hypothesis import given
from hypothesis.extra import numpy as arrays

import aim
from aim.common.config_files import ConfigError
from aim.inference.pretrained import Pretrained
from aim.inference.uncertainty import BINS, LEVELS, Uncertainty, distance_bins, level_of
from aim.training.checkpoint_metadata import CheckpointError
from data_pipelines.errors import SchemaError
from tests.report import my_days

ROW = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6]
TABLE = Uncertainty(
  {"heart_rate": {0.5: ROW, 0.9: [2 * size for size in ROW]}, "steps": {0.5: ROW, 0.9: [0.3, 0.6, 0.9, 1.2, 1.5, 1.8]}},
  {0.5: 0.48, 0.9: 0.91},
  {"heart_rate": {0.5: 0.48, 0.9: 0.91}},
  (5, 4),
  (50, 40),
  ("made_up",),
)


def with_table(table=TABLE, kind=Pretrained) -> Pretrained:
  restored = my_days.restored()
  raw = table.to_dict() if isinstance(table, Uncertainty) else table
  return kind(dataclasses.replace(restored, metadata={**restored.metadata, "uncertainty": raw}))


@given(arrays.arrays(bool, (2, 48, 2)))
def test_bins_are_by_the_minutes_to_the_nearest_observed_value(observed):
  bins = distance_bins(observed, 30)
  for day, step, channel in np.ndindex(observed.shape):
    known = np.flatnonzero(observed[day, :, channel])
    minutes = 30 * np.abs(known - step).min() if len(known) else np.inf
    expected = sum(minutes > edge for edge in (10, 30, 60, 180)) if len(known) else 5
    assert bins[day, step, channel] == expected


def test_intervals_are_the_errors_around_what_is_filled_in():
  model = with_table()
  days = np.full((1, 24, 3), np.nan, np.float32)
  days[0, 10, 0] = 80
  filled, low, high = model.impute_with_interval(days)
  assert filled[0, 10, 0] == low[0, 10, 0] == high[0, 10, 0] == 80
  assert np.isclose(high[0, 11, 0] - filled[0, 11, 0], 2 * 0.3 * 12), "an hour away"
  assert np.isclose(high[0, 0, 0] - filled[0, 0, 0], 2 * 0.5 * 12), "ten hours away"
  assert np.isclose(high[0, 0, 1] - filled[0, 0, 1], 3 * 0.6 * 500, rtol=1e-3), "nothing observed that day"
  assert low[0, :, 1].min() >= 0, "no steps below none"
  assert np.isnan(low[0, :, 2]).all() and np.isnan(high[0, :, 2]).all(), "nobody measured glucose"
  assert (model.impute_with_interval(days, 0.5).high <= high)[:, :, :2].all()


def context_model(table) -> Pretrained:
  """A model that says it reads two other days; what it makes of them is no matter here."""

  class Reader(Pretrained):
    context_days = 2

    def reconstruct(self, values, target, progress, profile):
      assert profile is None or profile.mean.shape == values.shape
      return np.zeros(values.shape, np.float32)

  return with_table(table, Reader)


def some_days() -> np.ndarray:
  days = np.full((3, 24, 3), np.nan, np.float32)
  days[:, 10, 0] = 80
  return days


def test_days_without_other_days_have_intervals_of_their_own(monkeypatch, capsys):
  wide = dataclasses.replace(TABLE, errors={"heart_rate": {0.5: ROW, 0.9: [4 * size for size in ROW]}})
  table = dataclasses.replace(TABLE, alone=wide)
  model = context_model(table)
  assert model.uncertainty == table and "Days without other days of the person have" in table.text()
  filled, _, high = model.impute_with_interval(some_days(), people=["a", "a", "b"])
  width = (high - filled)[:, 11, 0]
  np.testing.assert_allclose(width, np.array([2, 2, 4]) * 0.3 * 12, rtol=1e-5)
  filled, _, high = model.impute_with_interval(some_days())
  np.testing.assert_allclose((high - filled)[:, 11, 0], 4 * 0.3 * 12, rtol=1e-5)
  assert capsys.readouterr().err == ""
  monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # users get the function's own error
  with pytest.raises(SchemaError, match=r"^interval: beside is int64 \(3,\), expected bool \(3,\)$"):
    model.interval(filled, ~np.isnan(some_days()), beside=np.arange(3))
  with pytest.raises(CheckpointError, match=r"^watch: uncertainty: alone: people and days are"):
    _ = with_table(table.to_dict() | {"alone": wide.to_dict() | {"people": [-1, 2]}}).uncertainty


def test_a_table_of_an_early_version_says_what_it_lacks(capsys):
  model = context_model(TABLE)
  model.impute_with_interval(some_days(), people=["a", "a", "a"])
  assert capsys.readouterr().err == ""
  model.impute_with_interval(some_days(), people=["a", "a", "b"])
  model.impute_with_interval(some_days())
  assert capsys.readouterr().err.count("note: watch: intervals of days without other days of the person are too") == 1


def test_an_export_keeps_the_table_and_its_card_states_the_coverage(tmp_path):
  model = with_table()
  model.save(tmp_path / "model")
  read = aim.load(tmp_path / "model")
  assert read.uncertainty == model.uncertainty
  card = (tmp_path / "model" / "README.md").read_text()
  assert TABLE.text() in card and "91 % of the 90 % intervals" in card


def test_what_is_said_of_the_people_is_what_is_known():
  text = lambda seen: dataclasses.replace(TABLE, seen_in_training=seen).text()
  assert text("none").startswith("Intervals are the errors on 5 people whom the model never saw (made_up), by channel")
  assert "on 5 people (made_up; whether the model was trained on them is not known), by channel" in text("not known")
  assert "on 5 people (made_up), by channel" in text(""), "a table of an early version does not say"


def test_errors_are_one_line():
  days = np.ones((1, 24, 3), np.float32)
  with pytest.raises(CheckpointError, match=r"^watch: has no table of its errors.*--mode=calibrate makes one$"):
    my_days.model().impute_with_interval(days)
  with pytest.raises(ConfigError, match=r"^level is 0.8, expected one of 0.5, 0.9$"):
    with_table().impute_with_interval(days, 0.8)


@pytest.mark.parametrize(
  "change",
  [
    {"bins": BINS[:-1]},
    {"errors": {"heart_rate": {"0.5": [1]}}},
    {"errors": []},
    {"people": [1]},
    {"coverage": {}},
    {"coverage": {"0.5": "x", "0.9": 1}},
    {"coverage": {"0.5": -0.1, "0.9": 1}},
    {"channel_coverage": {"heart_rate": {"0.5": 0.5, "0.9": 1.2}}},
    {"channel_coverage": {"pulse": {"0.5": 0.5, "0.9": 0.9}}},
    {"errors": {"pulse": {"0.5": ROW, "0.9": ROW}}},
    {"errors": {"heart_rate": {"0.5": ROW}}},
    {"errors": {"heart_rate": {"0.5": ROW, "0.9": [*ROW[:5], float("nan")]}}},
    {"errors": {"heart_rate": {"0.5": ROW, "0.9": [*ROW[:5], float("inf")]}}},
    {"errors": {"heart_rate": {"0.5": [-0.1, *ROW[1:]], "0.9": ROW}}},
    {"errors": {"heart_rate": {"0.5": [0.11, *ROW[1:]], "0.9": ROW}}},
    {"seen_in_training": "some"},
    {"people": [-1, 4]},
  ],
)
def test_a_malformed_table_is_refused_in_one_line(change):
  with pytest.raises(CheckpointError) as error:
    _ = with_table(json.loads(json.dumps(TABLE.to_dict() | change))).uncertainty
  assert str(error.value).startswith("watch: uncertainty: ") and "\n" not in str(error.value)


@pytest.mark.parametrize(
  ("filled", "observed", "message"),
  [
    (np.zeros((24, 3)), np.ones((24, 3), bool), "interval: values have shape"),
    (np.zeros((1, 24, 2)), np.ones((1, 24, 2), bool), "interval: values have shape"),
    (np.zeros((2, 24, 3)), np.ones((1, 24, 3), bool), "interval: observed is bool"),
    (np.zeros((1, 24, 3)), np.ones((1, 24, 3)), "interval: observed is float64"),
  ],
)
def test_intervals_of_other_arrays_are_refused(monkeypatch, filled, observed, message):
  monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # users get the function's own error
  with pytest.raises(SchemaError, match=message):
    with_table().interval(filled, observed)


@pytest.mark.parametrize("kind", (float, np.float64, np.float32, np.float16, jnp.bfloat16, jnp.float32, np.array))
@pytest.mark.parametrize("level", LEVELS)
def test_a_level_is_known_in_every_precision(kind, level):
  model, days = with_table(), np.full((1, 24, 3), np.nan, np.float32)
  days[0, 10, 0] = 80
  expected, found = (model.impute_with_interval(days, number) for number in (level, kind(level)))
  for ends, own in zip(found, expected, strict=True):
    np.testing.assert_array_equal(ends, own)
  assert not np.isnan(found.high[:, :, :2]).any()


@pytest.mark.parametrize(
  "level",
  (
    0.89,
    np.float32(0.899),
    np.float16(0.8),
    0,
    1,
    90,
    np.int64(0),
    np.uint8(1),
    np.timedelta64(0),
    True,
    "0.9",
    None,
    [0.9],
    float("nan"),
  ),
)
def test_other_levels_are_refused(level):
  model, days = with_table(), np.full((1, 24, 3), 80.0, np.float32)
  for act in (
    lambda: model.impute_with_interval(days, level),
    lambda: model.interval(days, ~np.isnan(days), level),
    lambda: TABLE.half_widths(model.schema, ~np.isnan(days), level),
    lambda: level_of(level),
  ):
    with pytest.raises((ConfigError, jaxtyping.TypeCheckError), match=r"level.* expected one of 0.5, 0.9|level"):
      act()
