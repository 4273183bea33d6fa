"""Counting what is missing in a sample of the days."""

from __future__ import annotations

from data_pipelines.atlas.counts import count_missing
from data_pipelines.build import build
from data_pipelines.npz import NpzSource
from data_pipelines.splits import ListSplit
from tests import tiny


def test_a_sample_is_spread_over_the_splits(tmp_path):
  source = NpzSource(tiny.write_npz(tmp_path / "days.npz", people=9, days=2))
  people = tuple(source.participants)
  dataset = build(source, tmp_path, "tiny", split=ListSplit(people[:5], people[5:7], people[7:]))
  counts = count_missing(dataset, 9)
  assert counts.n_days == 9 and counts.days == {"pretrain": 5, "tune": 2, "eval": 2}
  assert count_missing(dataset, 1000).n_days == 18
