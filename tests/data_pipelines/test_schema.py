"""Schemas with any clock and channels: round trips, checks and error messages."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_pipelines.errors import SchemaError
from data_pipelines.schema import Channel, Schema
from data_pipelines.text_files import folded, unprintable

TWO = Schema(5, (Channel("heart_rate", "bpm", "PPG"), Channel("sleep", kind="binary")))


# A name holds no control characters, and no spaces around it.
NAMES = st.text(st.characters(), max_size=8).map(str.strip).filter(lambda name: name and not unprintable(name))


@given(
  minutes=st.sampled_from([1, 5, 10, 60]),
  names=st.lists(NAMES, min_size=1, max_size=34, unique_by=folded),
  binary=st.integers(0, 2**34 - 1),
)
def test_json_round_trip(tmp_path_factory, minutes, names, binary):
  kinds = ["binary" if binary >> c & 1 else "continuous" for c in range(len(names))]
  schema = Schema(minutes, tuple(Channel(name, "u", "S", kind) for name, kind in zip(names, kinds, strict=True)))
  path = tmp_path_factory.mktemp("schema") / "schema.json"
  schema.save(path)
  assert Schema.load(path) == schema
  assert schema.steps * minutes == 1440
  assert schema.binary.tolist() == [kind == "binary" for kind in kinds]


@pytest.mark.parametrize("channels", [1, 34])
@pytest.mark.parametrize(("minutes", "steps"), [(1, 1440), (5, 288)])
def test_any_channel_count_and_clock(channels, minutes, steps):
  schema = Schema(minutes, tuple(Channel(f"c{c}") for c in range(channels)))
  assert schema.steps == steps
  schema.check(np.full((2, steps, channels), np.nan, np.float32), "here")
  with pytest.raises(SchemaError, match=rf"here: values have shape .*expected \[..., {steps}, {channels}\]"):
    schema.check(np.zeros((2, steps, channels + 1), np.float32), "here")


@pytest.mark.parametrize(
  ("make", "message"),
  [
    (lambda: Schema(7, TWO.channels), "minutes_per_step is 7"),
    (lambda: Schema(5, ()), "no channels"),
    (lambda: Schema(5, (Channel("a"), Channel("a"))), "'a' appears more than once"),
    (lambda: Channel(""), "empty name"),
    (lambda: Channel("a", kind="ordinal"), "kind is 'ordinal'"),
    (lambda: Channel("a", clip=0), "clip is 0"),
    (lambda: TWO.index("steps"), "unknown channel 'steps'; channels are heart_rate, sleep"),
  ],
)
def test_errors_are_one_line(make, message):
  with pytest.raises(SchemaError, match=message) as caught:
    make()
  assert "\n" not in str(caught.value)


def test_check_names_the_place():
  values = np.zeros((3, 288, 2), np.float32)
  values[2, 7, 0] = -np.inf
  with pytest.raises(SchemaError, match="here: row 2 step 7 channel 'heart_rate' is infinite"):
    TWO.check(values, "here")
  values[2, 7, 0] = 80
  values[1, 3, 1] = 0.5
  with pytest.raises(SchemaError, match=r"binary channel 'sleep' holds 0.5, expected 0, 1 or NaN"):
    TWO.check(values, "here")
  with pytest.raises(SchemaError, match="values are int64, expected floating point"):
    TWO.check(np.zeros((288, 2), np.int64), "here")


def test_difference():
  assert TWO.difference(TWO) is None
  assert "minutes_per_step is 1, expected 5" in TWO.difference(Schema(1, TWO.channels))
  assert TWO.difference(Schema(5, (*TWO.channels, Channel("steps")))) == "unknown channels ['steps']"
  assert "order" in TWO.difference(Schema(5, TWO.channels[::-1]))
  assert "'sleep'" in TWO.difference(Schema(5, (TWO.channels[0], Channel("sleep"))))


def test_load_errors(tmp_path):
  path = tmp_path / "schema.json"
  with pytest.raises(SchemaError, match="no such file"):
    Schema.load(path)
  path.write_text("{")
  with pytest.raises(SchemaError, match="not JSON"):
    Schema.load(path)
  path.write_text(json.dumps({"minutes_per_step": 1, "channels": [{"nam": "a"}]}))
  with pytest.raises(SchemaError, match="malformed"):
    Schema.load(path)
