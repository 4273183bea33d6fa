"""Fewer people and days to train on: the first of a keyed order, so that smaller choices lie inside larger ones."""

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


def owners(dataset, days):
  person, _ = day_owners(dataset, "pretrain")
  return set(person[days])


def test_day_names_are_those_of_the_records(dataset):
  person, number = day_owners(dataset, "pretrain")
  source = dataset.days("pretrain")
  assert person.tolist() == [source[i]["participant"].decode() for i in range(len(source))]
  assert number.tolist() == [int(source[i]["day"]) for i in range(len(source))], "days are numbered from 0 here"


def test_smaller_choices_lie_inside_larger_ones(dataset):
  everything = dataset.num_days("pretrain")
  assert chosen_days(dataset, "pretrain").tolist() == list(range(everything)) == list(range(32))
  people = [chosen_days(dataset, "pretrain", max_participants=n) for n in range(1, 9)]
  days = [chosen_days(dataset, "pretrain", max_days=n) for n in range(1, 33)]
  both = [chosen_days(dataset, "pretrain", max_participants=3, max_days=n) for n in range(1, 13)]
  assert [len(owners(dataset, kept)) for kept in people] == list(range(1, 9))
  assert [len(kept) for kept in people] == list(range(4, 33, 4)), "all days of those people"
  assert [len(kept) for kept in days] == list(range(1, 33))
  for chain in (people, days, both):
    assert all(set(fewer) < set(more) for fewer, more in itertools.pairwise(chain))
    assert all((np.diff(kept) > 0).all() for kept in chain)
  assert set(both[-1]) == set(people[2])
  assert len(chosen_days(dataset, "pretrain", max_participants=99, max_days=99)) == everything
  # By hash, not by place: the first three days are not those of the first person.
  assert days[7].tolist() != list(range(8)) and len(owners(dataset, days[7])) > 2


def test_nearly_complete_days_are_counted_first(dataset):
  shares = dataset.missing_shares("pretrain")
  limit = float(np.median(shares))
  kept = chosen_days(dataset, "pretrain", limit, max_participants=2)
  assert (shares[kept] <= limit).all() and len(owners(dataset, kept)) == 2


def test_the_loader_gives_the_chosen_days_alone(dataset):
  source, kept = dataset.days("pretrain"), chosen_days(dataset, "pretrain", max_participants=2, max_days=5)
  with train_loader(dataset, batch_size=5, seed=0, max_participants=2, max_days=5) as loader:
    seen = {day.tobytes() for _ in range(2) for day in next(loader)["values"]}
  assert seen == {source[int(i)]["values"].tobytes() for i in kept}


@pytest.mark.parametrize("name", ["max_participants", "max_days"])
def test_a_negative_number_is_refused(dataset, name):
  with pytest.raises(DatasetError, match=f"{name} is -1, expected"):
    chosen_days(dataset, "pretrain", **{name: -1})
