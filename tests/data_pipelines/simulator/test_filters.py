"""Filters and noise along time."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from data_pipelines.simulator.filters import relax, wander


@settings(max_examples=30, deadline=None)
@given(n=st.integers(1, 300), minutes=st.floats(0.3, 500), seed=st.integers(0, 99))
def test_relax_equals_the_recursion(n: int, minutes: float, seed: int) -> None:
  x = np.random.default_rng(seed).normal(size=n).astype(np.float32)
  factor = np.exp(-1 / minutes)
  expected = [float(x[0])]
  for value in x[1:]:
    expected.append(factor * expected[-1] + (1 - factor) * float(value))
  assert np.allclose(relax(x, minutes), expected, atol=1e-3)


def test_wander_is_stationary() -> None:
  waves = np.stack([wander(np.random.default_rng(i), 300, 60.0) for i in range(800)])
  assert np.allclose(waves.std(axis=0), 1, atol=0.12)
  lagged = np.mean(waves[:, 60:] * waves[:, :-60])
  assert abs(lagged - np.exp(-1)) < 0.06
