"""Values that look like codes for missing values are reported, wherever days come from, and nothing else is."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_pipelines.build import build, npz_request
from data_pipelines.day_windows.missing_codes import MissingCodes, code_notes, label_note
from data_pipelines.npz import NpzSource
from data_pipelines.schema import Channel, Schema
from tests import tiny

SCHEMA = Schema(10, (Channel("heart_rate", "bpm"), Channel("steps"), Channel("worn", kind="binary")))


def days(seed: int = 0, n: int = 6) -> np.ndarray:
  """Days without any code: a pulse, steps that are mostly 0, and a binary channel."""
  rng = np.random.default_rng(seed)
  pulse = rng.normal(70, 12, (n, SCHEMA.steps)).clip(40, 190)
  steps = rng.poisson(30, (n, SCHEMA.steps)) * (rng.random((n, SCHEMA.steps)) < 0.1)
  values = np.stack([pulse, steps, rng.random((n, SCHEMA.steps)) < 0.5], axis=-1).astype(np.float32)
  values[rng.random(values.shape) < 0.3] = np.nan
  return values


@pytest.mark.parametrize(
  ("channel", "code", "next_value"),
  [(0, -999, "4"), (0, -1, "4"), (0, -9999, "4"), (1, -1, "0"), (0, 9999, "1"), (1, 65535, "4")],
)
def test_a_code_is_reported_with_its_count_and_channel(channel, code, next_value):
  values = days()
  values[::2, 10:20, channel] = code
  (note,) = code_notes(SCHEMA, values)
  name = SCHEMA.names[channel]
  assert note.startswith(f"channel {name!r}: 30 values of {code:g} (") and f"the next is {next_value}" in note
  assert "\n" not in note and note.endswith("write NaN instead")


def test_two_codes_in_one_channel():
  values = days()
  values[0, 10:30, 0], values[1, 10:30, 0] = -1, 9999
  assert [note.split(" of ")[1].split()[0] for note in code_notes(SCHEMA, values)] == ["-1", "9999"]


@pytest.mark.parametrize("seed", range(5))
def test_measurements_are_not(seed):
  assert code_notes(SCHEMA, days(seed)) == []
  rare = days(seed)
  rare[0, :9, 0] = -1  # fewer than MIN_COUNT
  assert code_notes(SCHEMA, rare) == []
  negative = days(seed)
  negative[..., 0] -= 70  # a channel with many negative values
  assert code_notes(SCHEMA, negative) == []
  resting = days(seed)
  resting[:, :20, 1] = 0  # what a sensor reports at rest
  assert code_notes(SCHEMA, resting) == []
  assert code_notes(SCHEMA, np.full_like(days(), np.nan)) == []


@given(
  st.lists(st.sampled_from([-999.0, -1.0, 0.0, 1.0, 2.0, 70.0, 9999.0, np.nan]), min_size=1, max_size=40), st.data()
)
def test_shards_and_batches_in_any_order_give_the_same(numbers, data):
  values = np.full((len(numbers), SCHEMA.steps, 3), np.nan, np.float32)
  values[:, :20, 0] = np.array(numbers)[:, None]
  whole, parts = MissingCodes(SCHEMA), MissingCodes(SCHEMA)
  whole.add(values)
  cut = data.draw(st.integers(0, len(numbers)))
  for part in (values[cut:], values[:cut]):
    shard = MissingCodes(SCHEMA)
    if len(part):
      shard.add(part)
    parts.merge(shard)
  assert whole.notes() == parts.notes()
  known = sorted({number for number in numbers if number == number})
  negative = [number for number in known if number < 0]
  lonely = len(negative) == 1 and len(known) > 2  # 20 values of one that is the only negative one
  assert not lonely or any(f" of {negative[0]:g} (" in note for note in whole.notes())


def test_a_build_reports_codes_of_any_split(tmp_path, capsys):
  arrays = tiny.arrays(people=6)
  arrays["values"][-1, :10, 0] = -999
  np.savez(tmp_path / "days.npz", **arrays)
  path = tmp_path / "days.npz"
  dataset = build(NpzSource(path), tmp_path / "data", "coded", request=npz_request(path))
  name = dataset.schema.names[0]
  assert f"note: channel {name!r}: 10 values of -999 (" in capsys.readouterr().out
  assert "10 values of -999" in (dataset.path / "README.md").read_text()


def test_zeros_are_reported_where_there_can_be_none():
  """Importers take a heart rate of 0 for missing; days that are arrays keep it, and say so."""
  schema = Schema(10, (Channel("heart_rate", "bpm"), Channel("steps"), Channel("skin_temperature", "degF")))
  values = np.full((2, schema.steps, 3), 60.0, np.float32)
  values[0, :72], values[1, :, 0] = 0, np.nan
  heart_rate, temperature = code_notes(schema, values)
  assert heart_rate == (
    "channel 'heart_rate': 72 values of 0 (50 % of its values), where 20 to 250 bpm is usual, look like a code for "
    "missing values and count as measurements; if they are one, write NaN instead"
  )
  assert temperature.startswith("channel 'skin_temperature': 72 values of 0 (25 % of its values), where 50 to 113 degF")


@pytest.mark.parametrize(
  ("values", "said"),
  [
    ([*[-9] * 3, *range(20, 29)], ["3 values of -9 (25 % of its values, the next is 20)"]),
    ([*[999.0] * 3, *range(20, 29)], ["3 values of 999 (25 % of its values, the next is 28)"]),
    ([-99, *range(20, 29), 999], ["1 value of -99 (", "1 value of 999 ("]),
    ([*range(20, 29), 95], []),  # one person may be old
    ([0, 1, 1, 0], []),
    ([-1, 1, -1, 1], []),
    ([1, 2, 9, 9], ["2 values of 9 ("]),
    ([float("nan"), 3.5], []),
  ],
)
def test_codes_in_labels(values, said):
  note = label_note("bmi", values)
  assert note.startswith("label 'bmi': ") == bool(said)
  assert all(text in note for text in said) and note.count(" look like a code") == len(said)
