"""Arrays of days in memory."""

import re

import numpy as np
import pyarrow.parquet as pq
import pytest

import data_pipelines
from data_pipelines.errors import SchemaError
from data_pipelines.lsm2_schema import LSM2_SCHEMA

DAYS = np.random.default_rng(0).uniform(1, 9, (4, 96, 2))
WHO = ["kim", "kim", "sam", "sam"]


def stored(dataset):
  days = [day for split in ("pretrain", "tune", "eval") if dataset.num_days(split) for day in dataset.days(split)]
  return {(day["participant"].decode(), int(day["day"]), day["date"].decode()): day["values"] for day in days}


def test_days_of_any_step_are_stored_as_they_are(tmp_path):
  values = DAYS.copy()
  values[1, 10:30, 0] = np.nan
  dates = ["2024-06-04", "2024-06-06", "2024-06-04", "2024-06-05"]
  options = {"channels": ["heart_rate", "glucose"], "units": {"glucose": "mg/dL"}, "labels": {"kim": {"age": 41}}}
  dataset = data_pipelines.from_arrays(values, tmp_path, "mine", participant=WHO, date=dates, **options)
  found = stored(dataset)
  assert [(who, date) for who, _, date in sorted(found)] == list(zip(WHO, dates, strict=True))
  for key, expected in zip(sorted(found), values.astype(np.float32), strict=True):
    assert np.array_equal(found[key], expected, equal_nan=True)
  assert dataset.schema.minutes_per_step == 15 and dataset.schema.channels[1].unit == "mg/dL"
  kim, _ = sorted(pq.read_table(dataset.path / "participants.parquet").to_pylist(), key=lambda row: row["participant"])
  assert kim["age"] == 41


def test_pypots_arrays_of_26_channels_are_those_of_the_watch(tmp_path, capsys):
  values = np.random.default_rng(1).uniform(1, 9, (2, 1440, 26)).astype(np.float32)
  dataset = data_pipelines.from_arrays({"X": values, "X_ori": values}, tmp_path, "mine", participant=["kim", "sam"])
  assert dataset.schema == LSM2_SCHEMA
  assert np.array_equal(stored(dataset)["sam", 0, ""], values[1])
  assert "only X is read, not X_ori" in capsys.readouterr().out


@pytest.mark.parametrize(
  ("values", "options", "message"),
  [
    (DAYS, {}, "channels: are missing; only 26"),
    (np.ma.masked_greater(DAYS, 0.5), {"channels": ["a", "b"]}, "from_arrays: values are a masked array"),
    (DAYS, {"channels": ["a", "b"], "participant": np.ma.masked_array(WHO)}, "the entries of participant are a masked"),
    (DAYS, {"channels": ["a"]}, "channels: has 1 names, expected one for each of the 2"),
    (DAYS[:, :7], {"channels": ["a", "b"]}, "values: has 7 steps per day"),
    (DAYS[0], {"channels": ["a", "b"]}, r"values: has shape \[96, 2\]"),
    ({"Y": DAYS}, {}, "values: has the keys Y, expected X"),
    (DAYS, {"channels": ["a", "b"], "participant": ["kim"]}, "participant: has 1 entries"),
    (
      DAYS,
      {"channels": ["a", "b"], "participant": [1, 1, "1", 2]},
      "participant: row 0 is 1 and row 2 is '1', expected",
    ),
    (DAYS, {"channels": ["a", "b"], "date": ["2024-06-04"] * 4}, "^from_arrays: row 1: participant 'kim' already"),
    (DAYS, {"channels": ["a", "b"], "units": {"c": "bpm"}}, "units: has 'c'"),
    (DAYS, {"channels": ["a", "b"], "units": ["bpm", "g"]}, "units: is a list, expected"),
    (DAYS, {"channels": ["a", "b"], "units": {"a": 1}}, "units: that of 'a' is 1, expected text"),
    ([["x"]], {"channels": ["a"]}, "values: is no array of numbers"),
    (np.full((4, 96, 2), np.inf), {"channels": ["a", "b"]}, "inf"),
  ],
)
def test_what_does_not_fit_is_one_line(tmp_path, values, options, message):
  with pytest.raises(SchemaError, match=message) as error:
    data_pipelines.from_arrays(values, tmp_path, "mine", **{"participant": WHO, **options})
  assert "\n" not in str(error.value)


def test_ids_of_bytes_are_text(tmp_path):
  dataset = data_pipelines.from_arrays(DAYS, tmp_path, "mine", participant=np.array(WHO, "S"), channels=["a", "b"])
  assert {person for split in ("pretrain", "tune", "eval") for person in dataset.people(split)} == {*WHO}


@pytest.mark.parametrize("nobody", [None, float("nan"), np.datetime64("NaT"), "NA"])
def test_days_of_nobody_are_refused(tmp_path, nobody):
  with pytest.raises(SchemaError, match=f"participant: entry 1 is {nobody}"):
    data_pipelines.from_arrays(DAYS, tmp_path, "mine", participant=["kim", nobody, "sam", "sam"], channels=["a", "b"])
  with pytest.raises(SchemaError, match=f"date: entry 0 is {nobody}"):
    data_pipelines.from_arrays(DAYS, tmp_path, "mine", participant=WHO, channels=["a", "b"], date=[nobody] * 4)


@pytest.mark.parametrize("value", [1e300, np.inf])
def test_values_beyond_float32_are_refused(tmp_path, value):
  days = DAYS.copy()
  days[2, 5, 1] = value
  with pytest.raises(SchemaError, match=f"values: is {re.escape(str(value))} on day 2, step 5, channel 1; too large"):
    data_pipelines.from_arrays(days, tmp_path, "mine", participant=WHO, channels=["a", "b"])


@pytest.mark.parametrize("key", ["participant", "channels"])
def test_sets_have_no_order(tmp_path, key):
  options = {"participant": WHO, "channels": ["a", "b"]} | {key: {"a", "b"}}
  with pytest.raises(SchemaError, match=f"{key}: is a set, which has no order"):
    data_pipelines.from_arrays(DAYS, tmp_path, "mine", **options)
