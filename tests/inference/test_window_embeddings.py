"""Embeddings of windows are means over the tokens that overlap them."""

from __future__ import annotations

import numpy as np
import pytest

from aim.common.config_files import ConfigError
from aim.inference.window_embeddings import embed_windows
from data_pipelines.errors import SchemaError
from tests.inference.test_pretrained import SCHEMA, days, encoded_by_hand, pretrained


@pytest.mark.parametrize("pool", ["mean", "channel"])
def test_a_window_has_the_mean_of_the_tokens_that_overlap_it(pool):
  model, values = pretrained(), days(3)
  values[2, 12:, 0] = np.nan
  a = model.architecture
  place = [(0, 0, 1), (0, 2, 7), (2, 12, 24), (1, 5, 9), (2, 0, 3)]
  day, start, end = np.array(place).T
  found = embed_windows(model, values, day, start, end, pool)
  for row, (d, first, last) in zip(found, place, strict=True):
    tokens, encoded = encoded_by_hand(model, values[d])
    time = np.array(tokens) % a.length
    inside = (time * a.patch < last) & ((time + 1) * a.patch > first)
    inside = inside if inside.any() else np.full(len(tokens), True)
    groups = [inside & (np.array(tokens) // a.length == c) for c in range(3)] if pool == "channel" else [inside]
    expected = np.concatenate([encoded[g].mean(0) if g.any() else np.full(16, np.nan) for g in groups])
    np.testing.assert_allclose(row, expected, atol=2e-5)


@pytest.mark.parametrize("pool", ["mean", "channel"])
@pytest.mark.parametrize("lsm1", [False, True])
def test_a_window_of_the_whole_day_is_the_days_embedding(lsm1, pool):
  changes = {"data__impute": "linear", "model__patch_channels": 2} if lsm1 else {}
  model, values = pretrained(**changes), days(5)
  every, steps = np.arange(5), np.full(5, SCHEMA.steps)
  found = embed_windows(model, values, every, 0 * every, steps, pool)
  np.testing.assert_allclose(found, model.embed(values, pool), atol=2e-5)


WRONG = {
  "a negative start": (([0], [-1], [5]), r"window 0 is steps \[-1, 5\) of day 0, expected steps within"),
  "a start after the end": (([0, 1], [0, 9], [5, 3]), r"window 1 is steps \[9, 3\) of day 1, expected a window that"),
  "an empty window": (([0], [5], [5]), "expected a window that starts before it ends"),
  "an end after the day": (([0], [0], [25]), r"expected steps within \[0, 24\)"),
  "a day that is not there": (([3], [0], [5]), "of day 3, expected a day from 0 to 2"),
  "a negative day": (([-1], [0], [5]), "expected a day from 0 to 2"),
  "floats": (([0], [0.5], [5]), r"start is float64 \(1,\), expected whole numbers"),
  "NaN": (([np.nan], [0], [5]), "day is float64"),
  "booleans": (([True], [0], [5]), "day is bool"),
  "lengths that differ": (([0], [0, 1], [5, 6]), "1 of day, 2 of start, 2 of end, expected as many of each"),
  "no windows": (([], [], []), "0 of day, 0 of start, 0 of end, expected as many of each, and at least one"),
  "single numbers": ((np.array(0), [0], [5]), r"day is int64 \(\), expected whole numbers"),
  "two axes": (([[0]], [[0]], [[5]]), r"day is int64 \(1, 1\)"),
  "ragged": (([[0], [1, 2]], [0], [5]), "day is no array of whole numbers"),
}


@pytest.mark.parametrize("case", WRONG)
def test_windows_outside_the_days_are_refused(case):
  windows, message = WRONG[case]
  with pytest.raises(SchemaError, match=message) as caught:
    embed_windows(pretrained(), days(3), *windows)
  assert "\n" not in str(caught.value)


def test_days_and_pools_are_checked_like_those_of_embed():
  model, window = pretrained(), ([0], [0], [5])
  with pytest.raises(ConfigError, match="pool is 'mean_std', expected one of mean, channel"):
    embed_windows(model, days(3), *window, "mean_std")
  for wrong in days(3)[:, :5], days(3).astype(str), np.full_like(days(3), np.nan), np.full_like(days(3), np.inf):
    with pytest.raises(SchemaError, match="embed_windows: "):
      embed_windows(model, wrong, *window)


def test_lists_and_every_whole_number_are_windows():
  model, values = pretrained(), days(3)
  expected = embed_windows(model, values, np.array([2]), np.array([3]), np.array([24]))
  for kind in np.uint8, np.int16, np.uint64:
    np.testing.assert_array_equal(embed_windows(model, values, *np.array([[2], [3], [24]], kind)), expected)
  np.testing.assert_array_equal(embed_windows(model, values, [2], [3], [24]), expected)


def test_integers_of_numpy_are_whole_numbers():
  assert pretrained(batch_size=np.int64(3)).batch_size == 3
