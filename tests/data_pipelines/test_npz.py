"""The npz layout: what is read, what is written back, and a one-line message for every malformed file."""

import itertools
import json
import pickle
import zipfile

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_pipelines.errors import SchemaError
from data_pipelines.npz import NpzSource, read_days, write_days
from data_pipelines.schema import Channel, Schema


def layout(**changes):
  """Arrays of four days of two people with 288 steps and three channels; a change of None omits the key."""
  values = np.random.default_rng(0).normal(size=(4, 288, 3)).astype(np.float32)
  values[:, :40] = np.nan
  values[..., 2] = np.where(np.isnan(values[..., 2]), np.nan, values[..., 2] > 0)
  arrays = {
    "values": values,
    "channels": np.array(["heart_rate", "steps", "sleep"]),
    "participant": np.array(["a", "b", "a", "b"]),
    "day": np.array([1, 0, 0, 1], np.int32),
    "date": np.array(["2024-03-02", "", "2024-03-01", ""]),
    "minutes_per_step": np.array(5, np.int32),
    "labels": np.array(json.dumps({"a": {"age": 31, "sex": "F", "bmi": float("nan")}, "b": {}})),
  }
  return {key: value for key, value in (arrays | changes).items() if value is not None}


def save(path, **changes):
  np.savez(path, **layout(**changes))
  return path


def changed(array, index, value):
  """A copy of an array with another value at `index`."""
  array = array.astype(object) if isinstance(value, str) else array.copy()
  array[index] = value
  return array.astype(str) if isinstance(value, str) else array


VALUES = layout()["values"]
WRONG = {
  "missing_key": (dict(date=None), "key 'date' is missing; the file has channels, day"),
  "objects": (dict(participant=np.array(["a", "b", "a", None], object)), "key 'participant' is a pickled object array"),
  "float64": (dict(values=VALUES.astype(np.float64)), "key 'values' is float64, expected float32"),
  "number_ids": (dict(participant=np.arange(4)), "key 'participant' is int64, expected strings"),
  "float_day": (dict(day=np.arange(4.0)), "key 'day' is float64, expected integers"),
  "flat": (dict(values=VALUES[0]), r"key 'values' has shape \[288, 3\], expected \[days, steps, channels\]"),
  "short": (dict(day=np.arange(3)), r"key 'day' has shape \[3\], expected \[4\]"),
  "channels": (dict(channels=np.array(["x", "y"])), r"key 'channels' has shape \[2\], expected \[3\]"),
  "steps": (dict(minutes_per_step=np.array(1)), "key 'values' has 288 steps per day, expected 1440"),
  "clock": (dict(minutes_per_step=np.array(7)), "minutes_per_step is 7, expected a divisor of 1440"),
  "no_days": ({k: v[:0] for k, v in layout().items() if v.ndim and k != "channels"}, "holds no days"),
  "inf": (dict(values=changed(VALUES, (2, 50, 1), np.inf)), "row 2 step 50 channel 'steps' is infinite"),
  "same_date": (dict(date=np.array(["2024-03-02", "", "2024-03-02", ""])), "row 2: .*'a' already has date .* in row 0"),
  "same_day": (dict(day=np.array([1, 0, 0, 0])), "row 3: participant 'b' already has day 0 in row 1"),
  "empty_day": (dict(values=changed(VALUES, 3, np.nan)), r"row 3 \(participant 'b', day 1\): every value is NaN"),
  "bad_date": (dict(date=np.array(["", "2024-02-30", "", ""])), "row 1: date is '2024-02-30'"),
  "short_date": (dict(date=np.array(["", "20240228", "", ""])), "row 1: date is '20240228'"),
  "nobody": (dict(participant=np.array(["a", "b", "", "b"])), "row 2: key 'participant' is empty"),
  "missing_id": (
    dict(participant=np.array(["a", "b", None, "b"]).astype(str)),
    "key 'participant': participant 'None' says that somebody's name is missing",
  ),
  "not_json": (dict(labels=np.array("{a")), "key 'labels': not JSON"),
  "json_list": (dict(labels=np.array("[]")), "key 'labels': holds a JSON list"),
  "stranger": (dict(labels=np.array('{"z": {}}')), "participant 'z' has no days in this file"),
  "repeated_person": (dict(labels=np.array('{"a": {}, "a": {}}')), "key 'labels': key 'a' appears more than once"),
  "repeated_label": (dict(labels=np.array('{"a": {"age": 1, "age": 2}}')), "key 'labels': key 'age' appears more than"),
  "infinite": (dict(labels=np.array('{"a": {"age": Infinity}}')), "'a', label 'age': value is inf, expected a finite"),
  "too_large": (dict(labels=np.array('{"a": {"age": -1e400}}')), "'a', label 'age': value is -inf, expected a finite"),
  "long": (
    dict(labels=np.array(json.dumps({"a": {"age": 2**53 + 1}}))),
    r"'a', label 'age': value is an integer of 54 bits, expected at most 2\^53 in size; write an identifier as text",
  ),
  "huge": (
    dict(labels=np.array(json.dumps({"a": {"age": -1e39}}))),
    r"'a', label 'age': value is -1e\+39, expected at most 3e\+38 in size",
  ),
  "half_pair": (dict(labels=np.array(r'{"a": {"sex": "\ud800"}}')), r"'labels': holds '\\ud800', which is half of a"),
  "unit": (dict(unit=np.array(["bpm\x1b[2J", "", ""])), r"channel 'heart_rate': unit is 'bpm\\x1b"),
  "nested": (dict(labels=np.array('{"a": {"age": [1]}}')), "'a', 'age': found"),
  "repeated": (dict(channels=np.array(["x", "y", "x"])), "channel 'x' appears more than once"),
  "unnamed": (dict(channels=np.array(["x", "", "z"])), "a channel has an empty name"),
  "order": (
    dict(date=np.array(["2024-03-01", "", "2024-03-02", ""])),
    "rows 2 and 0: participant 'a' has day 0 on 2024-03-02 and day 1 on 2024-03-01, expected dates at least 1 days",
  ),
  "too_close": (
    dict(day=np.array([5, 0, 0, 1]), date=np.array(["2024-03-02", "", "2024-03-01", ""])),
    "at least 5 days",
  ),
  "huge_day": (dict(day=np.array([2**31, 0, 0, 1])), "row 0: day is 2147483648, expected at most 2,147,483,647"),
  "mistyped": (dict(values=None, valuess=VALUES), "key 'valuess' is not of the layout; the nearest is 'values'"),
  "in_capitals": (dict(Unit=np.array(["bpm"] * 3)), "key 'Unit' is not of the layout; the nearest is 'unit'"),
  "kind": (dict(kind=np.array(["binary", "ordinal", "binary"])), "kind is 'ordinal'"),
  "not_binary": (dict(kind=np.array(["binary"] * 3)), "binary channel 'heart_rate' holds"),
  "minute_labels": (
    dict(minute_labels=np.full((4, 288, 1), 2, np.int8), minute_label_names=np.array(["walk"])),
    "row 0 step 0 'walk' is 2, expected -1, 0, 1",
  ),
  "label_names": (dict(minute_labels=np.zeros((4, 288, 1), np.int8)), "key 'minute_label_names' is missing"),
  "label_shape": (
    dict(minute_labels=np.zeros((4, 100, 1), np.int8), minute_label_names=np.array(["walk"])),
    r"has shape \[4, 100, 1\], expected \[4, 288, 1\]",
  ),
  "cause_mode": (dict(cause=np.full(VALUES.shape, 7, np.uint8)), "row 0 holds 7, expected at most 6"),
  "cause_seen": (dict(cause=np.full(VALUES.shape, 1, np.uint8)), "row 0 gives a cause where a value is observed"),
}


@pytest.mark.parametrize("case", WRONG)
def test_bad_input_is_one_line_naming_the_file(tmp_path, case):
  changes, message = WRONG[case]
  path = save(tmp_path / "days.npz", **changes)
  with pytest.raises(SchemaError, match=message) as caught:
    NpzSource(path)
  assert str(caught.value).startswith(f"{path}: ")
  assert "\n" not in str(caught.value)


@pytest.mark.parametrize("length", [0, 10, 0.5, 0.98])  # bytes, or a share of the file
def test_truncated_or_foreign_files(tmp_path, length):
  path = save(tmp_path / "days.npz")
  raw = path.read_bytes()
  path.write_bytes(raw[: int(length * len(raw)) if length < 1 else length])
  with pytest.raises(SchemaError, match="not an npz archive, or a truncated one"):
    NpzSource(path)
  np.save(tmp_path / "days.npy", VALUES)
  with pytest.raises(SchemaError, match="holds a single array"):
    NpzSource(tmp_path / "days.npy")
  with pytest.raises(SchemaError, match="no such file"):
    NpzSource(tmp_path / "nothing.npz")


@given(st.integers(100, 4000))
def test_a_damaged_byte_never_escapes_as_another_error(tmp_path_factory, position):
  folder = tmp_path_factory.mktemp("damaged")
  path = folder / "days.npz"
  np.savez_compressed(path, **layout())
  raw = bytearray(path.read_bytes())
  raw[position] ^= 0xFF
  path.write_bytes(raw)
  with pytest.raises(SchemaError):
    NpzSource(path)


def test_people_days_and_labels(tmp_path):
  source = NpzSource(save(tmp_path / "days.npz"))
  assert source.participants == ("a", "b")
  assert source.n_days == 4
  person = source.person("a")
  assert [(day.day, day.date) for day in person.days] == [(0, "2024-03-01"), (1, "2024-03-02")]
  assert np.array_equal(person.days[0].values, VALUES[2], equal_nan=True)
  assert person.labels == {"age": 31, "sex": "F", "bmi": None}
  assert source.person("b").labels == {}


def test_binary_channels_are_inferred_and_reported_unless_the_file_has_kinds(tmp_path):
  source = NpzSource(save(tmp_path / "days.npz"))
  assert source.schema.binary.tolist() == [False, False, True]
  assert len([note for note in source.notes if "channel" in note]) == 1
  assert "'sleep'" in source.notes[0]
  described = NpzSource(
    save(
      tmp_path / "described.npz",
      kind=np.array(["continuous"] * 3),
      unit=np.array(["bpm", "1/min", ""]),
      sensor=np.array(["PPG", "ACC", "ACC"]),
    )
  )
  assert not [note for note in described.notes if "channel" in note]
  assert described.schema.channels[0] == Channel("heart_rate", "bpm", "PPG")
  assert not described.schema.binary.any()
  constant = changed(VALUES, np.s_[..., 2], 0)
  assert not NpzSource(save(tmp_path / "constant.npz", values=constant)).schema.binary.any()


@given(st.lists(st.sampled_from([-1, 0, 1]), min_size=288, max_size=288))
def test_minute_labels_become_runs(tmp_path_factory, minutes):
  labels = np.full((4, 288, 2), -1, np.int8)
  labels[1, :, 1] = minutes
  path = tmp_path_factory.mktemp("labels") / "days.npz"
  save(path, minute_labels=labels, minute_label_names=np.array(["sit", "walk"]))
  source = NpzSource(path)
  assert source.person("a").events == []
  rebuilt = np.full(288, -1)
  events = source.person("b").events
  for event in events:
    assert (event.participant, event.day, event.name) == ("b", 0, "walk")
    assert (rebuilt[event.start : event.end] == -1).all()
    rebuilt[event.start : event.end] = event.value
  assert rebuilt.tolist() == minutes
  touching = [one.value != two.value or one.end < two.start for one, two in itertools.pairwise(events)]
  assert all(touching), "a run was cut into two events"


def test_causes(tmp_path):
  cause = np.where(np.isnan(VALUES), 3, 0).astype(np.uint8)
  person = NpzSource(save(tmp_path / "days.npz", cause=cause)).person("b")
  assert np.array_equal(person.days[1].cause, cause[3])


def test_read_as_the_schema_of_a_checkpoint(tmp_path):
  path = save(tmp_path / "days.npz", values=changed(VALUES, np.s_[..., 2], 0))
  schema = Schema(5, (Channel("heart_rate", "bpm"), Channel("steps"), Channel("sleep", kind="binary")))
  assert read_days(path, schema=schema).schema is schema
  with pytest.raises(SchemaError, match=r"unknown channels \['sleep'\]"):
    read_days(path, schema=Schema(5, schema.channels[:2]))
  with pytest.raises(SchemaError, match="minutes_per_step is 5, expected 1"):
    read_days(path, schema=Schema(1, schema.channels))
  invalid = save(tmp_path / "invalid.npz", values=changed(VALUES, (1, 50, 2), 2))
  with pytest.raises(SchemaError, match="row 1 step 50 binary channel 'sleep' holds 2"):
    read_days(invalid, schema=schema)


@pytest.mark.parametrize(
  ("key", "words", "found", "expected"),
  [
    ("unit", ["mmol/L", "", ""], "unit='mmol/L'", "unit='bpm'"),
    ("unit", ["", "", ""], "unit=''", "unit='bpm'"),
    ("unit", ["bpm", "1/min", ""], "unit='1/min'", "unit=''"),
    ("sensor", ["PPG", "GYR", ""], "sensor='GYR'", "sensor='ACC'"),
    ("kind", ["continuous", "continuous", "continuous"], "kind='continuous'", "kind='binary'"),
    ("kind", ["continuous", "ordinal", "binary"], "kind is 'ordinal'", "expected 'continuous' or 'binary'"),
  ],
)
def test_what_a_file_declares_must_be_what_the_checkpoint_has(tmp_path, key, words, found, expected):
  sleep = Channel("sleep", kind="binary", clip=2.0)
  schema = Schema(5, (Channel("heart_rate", "bpm", "PPG"), Channel("steps", "", "ACC"), sleep))
  declared = {"unit": ["bpm", "", ""], "sensor": ["PPG", "ACC", ""], "kind": ["continuous", "continuous", "binary"]}
  for keys in ([key], declared):
    matching = {name: np.array(declared[name]) for name in keys}
    assert read_days(save(tmp_path / "same.npz", **matching), schema=schema).schema is schema
    path = save(tmp_path / "other.npz", **matching | {key: np.array(words)})
    with pytest.raises(SchemaError) as error:
      read_days(path, schema=schema)
    before, _, after = str(error.value).partition(", expected ")
    assert before.startswith(f"{path}: ") and found in before and expected in f"expected {after}"


def test_days_that_skip_numbers_or_dates_are_accepted(tmp_path):
  """Numbers may count the calendar from any day or the recorded days alone, and rows may come in any order."""
  for day, date in (
    ([-3, 0, -7, 1], ["2024-03-05", "", "2024-03-01", ""]),
    ([1, 0, 0, 1], ["2024-06-01", "2024-03-01", "2024-03-01", "2024-09-01"]),
    ([9, 0, 0, 1], ["", "", "2024-03-01", "2024-03-01"]),
  ):
    path = save(tmp_path / "days.npz", day=np.array(day), date=np.array(date))
    assert [day.day for day in NpzSource(path).person("a").days] == sorted(day[::2])


def test_keys_that_are_not_read_are_noted(tmp_path):
  path = save(tmp_path / "days.npz", weekday=np.arange(4), filled=np.isnan(VALUES), labels=None)
  assert read_days(path).notes[-2:] == NpzSource(path).notes[-2:]
  assert read_days(path).notes[-2:] == (
    "key 'weekday' is not read",
    "key 'filled' is not read: values that were filled in count as observed",
  )


def test_empty_days_where_allowed(tmp_path):
  path = save(tmp_path / "days.npz", values=changed(VALUES, 3, np.nan))
  assert np.isnan(read_days(path, allow_empty_days=True).values[3]).all()


def test_written_back_bit_for_bit(tmp_path):
  values = VALUES.copy()
  values.view(np.uint32)[0, 0, 0] = 0x7FC01234  # a NaN with a payload
  path = save(tmp_path / "days.npz", values=values, weekday=np.arange(4))
  days = read_days(path)
  filled = np.where(np.isnan(days.values), np.float32(1), days.values)
  write_days(tmp_path / "out" / "filled", days.original, filled, {"filled": np.isnan(days.values)})
  write_days(tmp_path / "same.npz", days.original, days.values)
  assert sorted(p.name for p in tmp_path.rglob("*") if p.is_file()) == ["days.npz", "filled", "same.npz"]
  with np.load(path) as before, np.load(tmp_path / "same.npz") as after:
    assert sorted(before.files) == sorted(after.files)
    for key in before.files:
      assert before[key].dtype == after[key].dtype
      assert before[key].tobytes() == after[key].tobytes(), key
  with np.load(tmp_path / "out" / "filled") as after:
    assert np.array_equal(after["values"][after["filled"]], np.ones(after["filled"].sum()))
    observed = ~after["filled"]
    assert np.array_equal(after["values"].view(np.uint32)[observed], values.view(np.uint32)[observed])


def test_write_refuses_other_shapes_and_taken_keys(tmp_path):
  days = read_days(save(tmp_path / "days.npz"))
  with pytest.raises(SchemaError, match=r"float64 .*expected float32"):
    write_days(tmp_path / "out.npz", days.original, days.values.astype(np.float64))
  with pytest.raises(SchemaError, match="key 'day' to add"):
    write_days(tmp_path / "out.npz", days.original, days.values, {"day": days.day})
  assert not (tmp_path / "out.npz").exists()


def test_days_that_miss_too_much_are_left_out_as_those_of_exports_are(tmp_path):
  values = VALUES.copy()
  values[[0, 1, 3], 60:] = np.nan  # 20 steps of 288 are left of three days
  values[2, :, 1:] = np.nan  # a day without two of the channels misses little of the third
  path = save(tmp_path / "x.npz", values=values)
  assert NpzSource(path).n_days == 4 and len(NpzSource(path).notes) == 2  # of the kind of a channel and of a label
  source = NpzSource(path, max_missing=0.8)
  assert source.n_days == 1 and source.participants == ("a",)
  assert [day.day for day in source.person("a").days] == [0] and source.person("a").labels["age"] == 31
  assert source.notes[1:3] == (
    "left out 3 days of 2 people with more than 80 % missing (--max_missing)",
    "no day is left of 1 person (b)",
  )
  with pytest.raises(SchemaError, match=r"no day is left to build; .*left out 4 days of 2 people"):
    NpzSource(path, max_missing=0.0)
  again = pickle.loads(pickle.dumps(source))
  assert again.n_days == 1


def test_nan_as_a_label_is_missing_and_noted(tmp_path):
  source = NpzSource(save(tmp_path / "days.npz"))
  assert source.person("a").labels["bmi"] is None
  assert "label 'bmi': 1 of 1 value taken for missing (NaN)" in source.notes


def test_big_endian_arrays_are_read_as_others(tmp_path):
  arrays = {key: array.astype(array.dtype.newbyteorder(">")) for key, array in layout().items()}
  np.savez(tmp_path / "big.npz", **arrays)
  big, little = NpzSource(tmp_path / "big.npz"), NpzSource(save(tmp_path / "little.npz"))
  assert big.participants == little.participants
  for one, other in zip(big.person("a").days, little.person("a").days, strict=True):
    assert one.values.dtype == np.float32 and one.values.dtype.isnative and one.date == other.date
    np.testing.assert_array_equal(one.values, other.values)


def test_an_array_that_appears_twice_is_refused(tmp_path):
  path = save(tmp_path / "days.npz")
  with zipfile.ZipFile(path, "a") as archive, pytest.warns(UserWarning, match="Duplicate name"):
    archive.writestr("values.npy", archive.read("values.npy"))
  with pytest.raises(SchemaError, match=f"{path}: key 'values' appears twice, expected once"):
    NpzSource(path)


def test_a_day_of_which_as_much_is_missing_as_may_be_is_kept(tmp_path):
  path = tmp_path / "a.npz"
  for places in range(1, 13):  # shares of which a mean over channels is off by the last bit
    for kept in range(1, 48, 3):
      values = np.full((1, 48, places), np.nan, np.float32)
      values[0, :kept] = 1
      names = np.array([f"c{n}" for n in range(places)])
      one = dict(participant=np.array(["a"]), day=np.zeros(1, int), date=np.array([""]), labels=None)
      save(path, values=values, channels=names, minutes_per_step=np.array(30), **one)
      assert NpzSource(path, max_missing=(48 - kept) / 48).n_days == 1, (places, kept)
