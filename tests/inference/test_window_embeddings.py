"""Embeddings of windows are means over the tokens that overlap them."""

from __future__ import annotations

import numpy as np
import pytest

from aim.inference.window_embeddings import embed_windows
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
