"""People are divided into shards by size, each person into one."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from data_pipelines.day_windows import shards
from data_pipelines.schema import Channel, Schema


class SizeOnly:
  """A source that has a number of people and days of 26 x 1440 values, but no data."""

  schema = Schema(1, tuple(Channel(str(c)) for c in range(26)))

  def __init__(self, people: int, days: int):
    self.participants, self.n_days = [str(p) for p in range(people)], people * days


@given(st.integers(1, 3000), st.integers(1, 40))
def test_every_person_is_in_one_shard_in_order(people, days):
  source = SizeOnly(people, days)
  split = {"pretrain": source.participants[: people // 2], "tune": [], "eval": source.participants[people // 2 :]}
  planned = shards.plan(source, split, lambda name, i, of: f"{name}-{i}-of-{of}")
  for name, expected in split.items():
    of_split = [shard for shard in planned if shard.split == name]
    assert [who for shard in of_split for who in shard.people] == expected
    sizes = [len(shard.people) for shard in of_split]
    assert not sizes or max(sizes) - min(sizes) <= 1
    assert [shard.path for shard in of_split] == [f"{name}-{i}-of-{len(of_split)}" for i in range(len(of_split))]


def test_number_of_shards_by_size():
  sizes = [0, 2**20, 16 * 2**20, 40 * 2**20, 2**30, 10 * 2**30, 2**40]
  assert [shards.count(size) for size in sizes] == [1, 1, 1, 3, 16, 40, 512]
