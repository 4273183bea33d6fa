"""The ranges of observed values, counted batch by batch."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from data_pipelines.atlas.value_ranges import ValueRanges
from data_pipelines.schema import Channel, Schema
from data_pipelines.statistics import Statistics


@given(st.lists(st.lists(st.sampled_from([-9.0, -1.0, 0.0, 2.0, 9.0, np.nan]), min_size=3, max_size=3), min_size=1))
def test_batches_of_any_size_give_the_same_ranges(rows):
  values = np.array(rows, np.float32)[:, :, None]
  flat = np.array([0.0])
  statistics = Statistics(("x",), flat, flat, flat + 1, flat, flat, flat, flat)
  schema = Schema(480, (Channel("x"),))
  whole, parts = ValueRanges(schema, statistics), ValueRanges(schema, statistics)
  whole.add(values)
  for row in values:
    parts.add(row[None])
  for name in ("observed", "low", "high", "at_low", "at_high", "below", "above", "histogram"):
    assert np.array_equal(getattr(whole, name), getattr(parts, name))
