"""Other days of a dataset: whose they are, how they are drawn, and what is done about a day that cannot be read."""

import collections
import pickle

import numpy as np
import pytest

from data_pipelines.build import build
from data_pipelines.context import other_days
from data_pipelines.context.other_days import OtherDays, profile_of_day
from data_pipelines.errors import CorruptError, DatasetError
from data_pipelines.schema import Channel, Schema
from data_pipelines.source import Day, Person
from data_pipelines.splits import ListSplit
from tests import tiny

DAYS = {"p0": 6, "p1": 1, "p2": 4, "p3": 3}  # the last of them is held out
SCHEMA = Schema(60, (Channel("pulse"), Channel("asleep", kind="binary")))


class Numbered:
  """A `Source` whose days hold their number in the split, and sleep on every other day."""

  schema = SCHEMA
  participants = tuple(DAYS)
  n_days = sum(DAYS.values())

  def person(self, participant):
    days = []
    for day in range(DAYS[participant]):
      values = np.full((24, 2), 10 * int(participant[1:]) + day + 1, np.float32)
      values[:, 1] = day % 2
      values[5, 0] = np.nan if day % 2 else values[5, 0]
      days.append(Day(values, participant, day, f"2024-05-{day + 1:02d}"))
    return Person(participant, days, {})


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
  people = Numbered.participants
  return build(Numbered(), tmp_path_factory.mktemp("data"), "numbered", split=ListSplit(people[:3], (), people[3:]))


def test_days_are_of_the_same_person_and_split(dataset):
  others = OtherDays(dataset, "pretrain", 3)
  assert [others.nearest(place) for place in (0, 3, 5)] == [[1, 2, 3], [1, 2, 4], [2, 3, 4]]
  assert others.nearest(6) == [], "a person with one day has no others"
  assert [others.nearest(place) for place in (7, 10)] == [[8, 9, 10], [7, 8, 9]]
  assert OtherDays(dataset, "eval", 30).nearest(1) == [0, 2]


def test_days_that_are_not_trained_on_are_no_context(dataset):
  others = OtherDays(dataset, "pretrain", 2, np.array([0, 4, 5, 8]))
  assert [others.nearest(place) for place in (0, 4, 8)] == [[4, 5], [0, 5], []]
  assert others.nearest(1) == [0, 4], "that of a day which is not trained on itself"


def test_means_numbers_and_shares_of_ones(dataset):
  mean, days = OtherDays(dataset, "pretrain", 30).profile([0, 1, 2])
  assert mean[0, 0] == 2 and days[0, 0] == 3
  assert mean[5, 0] == 2 and days[5, 0] == 2, "the second of the days lacks this step"
  assert mean[0, 1] == np.float32(1 / 3)
  mean, days = OtherDays(dataset, "pretrain", 30).profile(OtherDays(dataset, "pretrain", 30).nearest(6))
  assert np.isnan(mean).all() and not days.any()


def test_draws_follow_from_the_key_alone_and_cover_all_numbers(dataset):
  others = OtherDays(dataset, "pretrain", 4)
  near = others.nearest(2)
  drawn = [others.drawn(2, (7, i)) for i in range(400)]
  assert drawn == [pickle.loads(pickle.dumps(others)).drawn(2, (7, i)) for i in range(400)]
  assert all(days == sorted({*days}) and {*days} <= {*near} for days in drawn)
  numbers = collections.Counter(map(len, drawn))
  assert set(numbers) == {0, 1, 2, 3, 4} and min(numbers.values()) > 50
  assert {day for days in drawn if len(days) == 1 for day in days} == {*near}
  assert drawn != [others.drawn(2, (8, i)) for i in range(400)]


def test_a_day_is_found_by_person_and_number(dataset):
  day = dataset.days("pretrain")[8]
  found = profile_of_day(dataset, "pretrain", day, 2)
  np.testing.assert_array_equal(found.mean[0], OtherDays(dataset, "pretrain", 2).profile([7, 9]).mean)
  assert profile_of_day(dataset, "pretrain", day, 0) is None
  with pytest.raises(DatasetError, match="split 'eval' has no day 1 of 'p2'"):
    profile_of_day(dataset, "eval", day, 2)


def broken(monkeypatch, dataset, place, **arguments):
  days = tiny.BrokenDays(dataset.days("pretrain"), place)
  monkeypatch.setattr(type(dataset), "days", lambda self, split: days)
  return OtherDays(dataset, "pretrain", 3, **arguments), days


def test_a_day_that_cannot_be_read_is_left_out_or_stops(monkeypatch, dataset, capsys):
  with monkeypatch.context() as patch:
    others, _ = broken(patch, dataset, 1, on_corrupt="skip")
    mean, days = others.profile([0, 1, 2])
    others.profile([1])
  assert mean[0, 0] == 2 and days[0, 0] == 2
  assert capsys.readouterr().err.count("record 1 cannot be read; left out of the context") == 1
  with monkeypatch.context() as patch, pytest.raises(CorruptError, match="record 1"):
    broken(patch, dataset, 1)[0].profile([0, 1])


def test_a_day_is_found_behind_one_that_cannot_be_read(monkeypatch, dataset, capsys):
  day = dataset.days("pretrain")[4]
  with monkeypatch.context() as patch:
    broken(patch, dataset, 3)
    found = profile_of_day(dataset, "pretrain", day, 2, "skip")
    with pytest.raises(CorruptError, match="record 3"):
      profile_of_day(dataset, "pretrain", day, 2)
  np.testing.assert_array_equal(found.mean[0], OtherDays(dataset, "pretrain", 2).profile([5]).mean)
  assert "record 3 cannot be read; left out of the context" in capsys.readouterr().err


def test_days_are_kept_while_there_is_room(monkeypatch, dataset):
  others, days = broken(monkeypatch, dataset, None)
  others.profile([0, 1])
  others.profile([0, 1])
  assert days.reads == {0: 1, 1: 1}
  monkeypatch.setattr(other_days, "CACHE_BYTES", 2 * 24 * 2 * 4)
  others.profile([2])  # in place of 0, which was used first
  others.profile([1])
  others.profile([0])
  assert days.reads == {0: 2, 1: 1, 2: 1}


@pytest.mark.parametrize("most", [0, 256, 1.5])
def test_numbers_out_of_range(dataset, most):
  with pytest.raises(DatasetError, match=f"context_days is {most}, expected 1 to 255"):
    OtherDays(dataset, "pretrain", most)
