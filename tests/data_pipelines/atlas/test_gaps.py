"""Gaps: runs of missing steps and their lengths."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from data_pipelines.atlas import gaps


@given(st.lists(st.booleans(), max_size=40))
def test_runs_rebuild_the_flags_and_never_touch(flags):
  rebuilt = np.zeros(len(flags), bool)
  for start, end in gaps.runs(np.array(flags, bool)):
    assert not rebuilt[max(start - 1, 0) : end].any()
    rebuilt[start:end] = True
  assert rebuilt.tolist() == flags


@given(arrays.arrays(bool, st.tuples(*[st.integers(1, 5)] * 3)))
def test_lengths_are_those_of_the_runs(missing):
  expected = sorted(
    (c, end - start) for day in missing for c in range(missing.shape[2]) for start, end in gaps.runs(day[:, c])
  )
  assert sorted(zip(*map(np.ndarray.tolist, gaps.lengths(missing)), strict=True)) == expected
