"""Selecting fewer people and days: the first of a keyed order, so that smaller selections lie inside larger ones."""

import itertools

import numpy as np
import pytest

from data_pipelines.errors import DatasetError
from data_pipelines.loader import train_loader
from data_pipelines.subset import chosen_days, day_owners
from tests import tiny


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
  return tiny.dataset(tmp_path_factory.mktemp("subset"), people=11, days=4)


def owners_of(dataset, days):
  """The people that some days of pretrain belong to."""
  owners, _ = day_owners(dataset, "pretrain")
  return set(owners[days])


def test_day_owners_are_those_of_the_records(dataset):
  owners, ordinals = day_owners(dataset, "pretrain")
  days = dataset.days("pretrain")
  assert owners.tolist() == [days[i]["participant"].decode() for i in range(len(days))]
  assert ordinals.tolist() == [int(days[i]["day"]) for i in range(len(days))]  # days are numbered from 0 here


def test_smaller_selections_lie_inside_larger_ones(dataset):
  everything = dataset.num_days("pretrain")
  assert chosen_days(dataset, "pretrain").tolist() == list(range(everything)) == list(range(32))
  people = [chosen_days(dataset, "pretrain", max_participants=n) for n in range(1, 9)]
  days = [chosen_days(dataset, "pretrain", max_days=n) for n in range(1, 33)]
  both = [chosen_days(dataset, "pretrain", max_participants=3, max_days=n) for n in range(1, 13)]
  assert [len(owners_of(dataset, selected)) for selected in people] == list(range(1, 9))
  assert [len(selected) for selected in people] == list(range(4, 33, 4)), "all days of those people"
  assert [len(selected) for selected in days] == list(range(1, 33))
  for chain in (people, days, both):
    assert all(set(fewer) < set(more) for fewer, more in itertools.pairwise(chain))
    assert all((np.diff(selected) > 0).all() for selected in chain)
  assert set(both[-1]) == set(people[2])
  assert len(chosen_days(dataset, "pretrain", max_participants=99, max_days=99)) == everything
  # Days are ranked by hash, not by position: the first eight are not those of the first two people.
  assert days[7].tolist() != list(range(8)) and len(owners_of(dataset, days[7])) > 2


def test_people_are_selected_before_complete_days(dataset):
  shares = dataset.missing_shares("pretrain")
  for n, limit in itertools.product(range(1, 9), np.quantile(shares, [0.5, 0.9])):
    of_people = chosen_days(dataset, "pretrain", max_participants=n)
    expected = of_people[shares[of_people] <= np.float32(limit)]
    if len(expected):
      assert chosen_days(dataset, "pretrain", float(limit), n).tolist() == expected.tolist()


def test_people_without_a_day_complete_enough_are_named(dataset):
  shares = dataset.missing_shares("pretrain")
  first = chosen_days(dataset, "pretrain", max_participants=1)
  limit = (float(shares.min()) + float(shares[first].min())) / 2
  assert shares.min() < limit < shares[first].min()
  with pytest.raises(DatasetError, match=r"max_participants 1: no day in split 'pretrain'.*chosen 1 person"):
    chosen_days(dataset, "pretrain", limit, max_participants=1)


def test_a_limit_is_the_same_in_every_precision(dataset):
  shares = dataset.missing_shares("pretrain")
  limit = float(np.median(shares))
  expected = np.flatnonzero(shares <= np.median(shares)).tolist()
  texts = [float(f"{limit:.9g}"), float(f"{limit:.17g}") - 1e-12]  # as a config has it; a little less, as 0.8 is less
  for same in (limit, np.float32(limit), np.float64(limit), *texts, *map(np.float64, texts)):
    assert chosen_days(dataset, "pretrain", same).tolist() == expected


def test_the_loader_yields_only_the_chosen_days(dataset):
  days, selected = dataset.days("pretrain"), chosen_days(dataset, "pretrain", max_participants=2, max_days=5)
  with train_loader(dataset, batch_size=5, seed=0, max_participants=2, max_days=5) as loader:
    loaded = {day.tobytes() for _ in range(2) for day in next(loader)["values"]}
  assert loaded == {days[int(i)]["values"].tobytes() for i in selected}


@pytest.mark.parametrize("name", ["max_participants", "max_days"])
def test_a_negative_number_is_refused(dataset, name):
  with pytest.raises(DatasetError, match=f"{name} is -1, expected"):
    chosen_days(dataset, "pretrain", **{name: -1})
