"""Statistics accumulated batch by batch, and merged from shards, against numpy over all days."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from data_pipelines.errors import SchemaError
from data_pipelines.schema import Channel, Schema
from data_pipelines.statistics import Accumulator, Statistics


@given(
  hnp.arrays(np.float32, (5, 24, 3), elements=st.floats(-1e4, 1e4, width=32)),
  hnp.arrays(np.bool_, (5, 24, 3)),
  st.integers(1, 4),
)
def test_statistics_equal_the_reference(values, missing, cut):
  values = np.where(missing, np.float32(np.nan), values)
  accumulator = Accumulator(Schema(60, (Channel("a"), Channel("b"), Channel("c"))))
  accumulator.add(values[:cut])
  accumulator.add(values[cut:])
  if missing.all(axis=(0, 1)).any():
    with pytest.raises(SchemaError, match="is never observed in split 'pretrain'"):
      accumulator.finish()
    return
  statistics, notes = accumulator.finish()
  exact = values.astype(np.float64)
  assert statistics.count.tolist() == (~missing).sum(axis=(0, 1)).tolist()
  np.testing.assert_allclose(statistics.mean, np.nanmean(exact, axis=(0, 1)), rtol=1e-10, atol=1e-9)
  constant = np.nanmin(values, axis=(0, 1)) == np.nanmax(values, axis=(0, 1))
  std = np.where(constant, 1, np.nanstd(exact, axis=(0, 1)))
  np.testing.assert_allclose(statistics.std, std, rtol=1e-6, atol=1e-9)
  assert len(notes) == constant.sum()
  assert np.array_equal(statistics.min, np.nanmin(values, axis=(0, 1)))
  assert np.array_equal(statistics.max, np.nanmax(values, axis=(0, 1)))
  assert np.array_equal(statistics.time_count, (~missing).sum(axis=0))
  total = np.where(missing, 0, exact).sum(axis=0)
  time_mean = np.divide(total, statistics.time_count, out=np.full(total.shape, np.nan), where=statistics.time_count > 0)
  np.testing.assert_allclose(statistics.time_mean, time_mean, rtol=1e-10, atol=1e-9)


def test_values_far_from_zero_keep_their_spread():
  values = (1e6 + np.arange(24 * 50).reshape(50, 24, 1) % 2).astype(np.float32)
  accumulator = Accumulator(Schema(60, (Channel("a"),)))
  for day in values:
    accumulator.add(day[None])
  assert accumulator.finish()[0].std[0] == pytest.approx(0.5, rel=1e-9)


def test_statistics_file(tmp_path):
  accumulator = Accumulator(Schema(60, (Channel("a"),)))
  accumulator.add(np.ones((1, 24, 1), np.float32))
  saved, notes = accumulator.finish()
  assert notes == ["channel 'a' is always 1 in split 'pretrain'; its standard deviation is set to 1"]
  saved.save(tmp_path / "statistics.npz")
  loaded = Statistics.load(tmp_path / "statistics.npz")
  assert loaded.names == ("a",)
  assert loaded.std[0] == 1
  (tmp_path / "statistics.npz").write_bytes(b"PK")
  with pytest.raises(SchemaError, match="not a statistics file"):
    Statistics.load(tmp_path / "statistics.npz")


@given(
  st.lists(
    st.lists(st.lists(st.floats(-1e3, 1e3, width=32), min_size=2, max_size=2), max_size=5), min_size=1, max_size=4
  )
)
def test_merged_statistics_are_those_of_all_days(groups):
  schema = Schema(720, (Channel("x"),))
  merged, whole = Accumulator(schema), Accumulator(schema)
  days = [day for group in groups for day in group]
  for group in groups:
    part = Accumulator(schema)
    if group:
      part.add(np.array(group, np.float32)[:, :, None])
    merged.merge(part)
  if not days:
    return
  whole.add(np.array(days, np.float32)[:, :, None])
  (ours, notes), (theirs, expected) = merged.finish(), whole.finish()
  assert notes == expected and ours.count.tolist() == theirs.count.tolist()
  for name in ("mean", "std", "min", "max", "time_mean", "time_count"):
    np.testing.assert_allclose(getattr(ours, name), getattr(theirs, name), rtol=1e-6, atol=1e-4)


def test_merging_into_an_empty_accumulator_copies_it(tmp_path):
  schema = Schema(720, (Channel("x"),))
  part, merged = Accumulator(schema), Accumulator(schema)
  part.add(np.array([[[0.1], [0.7]], [[1 / 3], [2.2]]], np.float32))
  merged.merge(part)
  for name, value in vars(part.finish()[0]).items():
    assert np.array_equal(getattr(merged.finish()[0], name), value)
  assert merged.finish()[1] == []
