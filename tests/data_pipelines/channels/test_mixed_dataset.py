"""Several datasets as one: schema, days, tables, statistics, and batches in which each has its share."""

import collections
import itertools
import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_pipelines.build import build, npz_request
from data_pipelines.build import main as build_main
from data_pipelines.channels import vocabulary
from data_pipelines.channels.matching import MatchingError
from data_pipelines.channels.mixed_dataset import open_mix
from data_pipelines.channels.union import union_schema
from data_pipelines.context.other_days import OtherDays
from data_pipelines.dataset import Dataset
from data_pipelines.errors import DatasetError, SplitError
from data_pipelines.loader import InterleavedDays, train_loader
from data_pipelines.npz import NpzSource
from data_pipelines.schema import Channel, Schema
from data_pipelines.splits import ListSplit
from data_pipelines.statistics import Accumulator
from data_pipelines.subset import chosen_days, day_owners
from tests import tiny

VOCABULARY = vocabulary.load()
# The number of the dataset stands in a channel of its own, so that a day of a batch shows where it is from.
SETS = {"first": ("pulse", "steps", "mood"), "second": ("asleep", "heart_rate", "glucose_mgdl", "zest")}
MINUTES = {"first": 60, "second": 30}


def make(folder, name, channels, minutes_per_step=60, prefix="", people=8, labels=None):
  arrays = tiny.arrays(people=people, channels=channels, minutes_per_step=minutes_per_step)
  arrays["participant"] = np.char.add(prefix or f"{name}_", arrays["participant"])
  arrays["labels"] = np.array(labels or f'{{"{arrays["participant"][0]}": {{"age": 40}}}}')
  path = folder / f"{name}.npz"
  np.savez(path, **arrays)
  source = NpzSource(path)
  people = list(source.participants)
  split = ListSplit(tuple(people[:-3]), tuple(people[-3:-2]), tuple(people[-2:]))
  return build(source, folder / "data", name, split=split, request=npz_request(path))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
  folder = tmp_path_factory.mktemp("mix")
  for name, channels in SETS.items():
    make(folder, name, channels, MINUTES[name], people=8 if name == "first" else 6)
  return folder


@pytest.fixture(scope="module")
def mix(folder):
  return open_mix(folder / "data", {"second": 1.0, "first": 3.0}, VOCABULARY)


def test_the_schema_has_every_channel_once_in_the_order_of_the_vocabulary(folder, mix):
  assert mix.schema.minutes_per_step == 60
  assert mix.schema.names == ("heart_rate", "steps", "glucose", "asleep", "mood", "zest")
  assert [channel.unit for channel in mix.schema.channels[:4]] == ["bpm", "steps", "mmol/L", ""]
  assert mix.schema.channels[3].kind == "binary"
  other = open_mix(folder / "data", {"first": 3.0, "second": 1.0}, VOCABULARY)
  assert (other.schema, other.name, other.digest) == (mix.schema, mix.name, mix.digest)
  assert [(member.name, weight) for member, weight in other.members] == [("first", 3), ("second", 1)]


@given(st.permutations(["a", "b", "c"]), st.permutations(["pulse", "mood", "glucose", "steps"]))
def test_neither_the_order_of_datasets_nor_of_channels_changes_the_schema(datasets, channels):
  schemas = {name: Schema(5 * (1 + "abc".index(name)), tuple(map(Channel, channels))) for name in datasets}
  schema = union_schema(schemas, VOCABULARY)
  assert schema.names == ("heart_rate", "steps", "glucose", "mood") and schema.minutes_per_step == 15
  assert union_schema(schemas, VOCABULARY, 5).minutes_per_step == 5


def test_a_channel_that_is_twice_in_a_dataset_is_refused():
  with pytest.raises(MatchingError, match="dataset 'a': 'heart_rate' and 'pulse' are both 'heart_rate'"):
    union_schema({"a": Schema(60, (Channel("heart_rate"), Channel("pulse")))}, VOCABULARY)


def test_days_people_and_tables_are_those_of_the_members(folder, mix):
  members = {name: Dataset.open(folder / "data", name) for name in SETS}
  for split in ("pretrain", "tune", "eval"):
    days = mix.days(split)
    assert len(days) == mix.num_days(split) == sum(member.num_days(split) for member in members.values())
    assert mix.people(split) == [person for member in members.values() for person in member.people(split)]
    owners, _ = day_owners(mix, split)
    assert owners.tolist() == [day["participant"].decode() for day in days]
    assert len(mix.missing_shares(split)) == len(days)
  first, last = (mix.days("pretrain")[i]["values"] for i in (0, mix.num_days("pretrain") - 1))
  own = members["first"].days("pretrain")[0]["values"]
  np.testing.assert_array_equal(first[:, [0, 1, 4]], own)
  assert np.isnan(first[:, [2, 3, 5]]).all() and np.isnan(last[:, [1, 4]]).all()
  table = mix.participants().to_pydict()
  assert len(table["participant"]) == 14 and sum(table["days"]) == 28
  assert dict(zip(table["participant"], table["age"], strict=True))["second_p0"] == 40


def test_limits_on_days_are_those_of_each_member(mix):
  owners = day_owners(mix, "pretrain")[0][chosen_days(mix, "pretrain", max_participants=2, max_days=3)]
  assert collections.Counter(owner.split("_")[0] for owner in owners) == {"first": 3, "second": 3}
  assert len(set(owners)) == 4


def test_statistics_are_those_of_all_observed_values(mix):
  """Each value counts once, whatever the weights; the members' own clocks are the common one, or are not."""
  days = np.stack([day["values"] for day in mix.days("pretrain")])
  accumulator = Accumulator(mix.schema)
  accumulator.add(days)
  expected, _ = accumulator.finish()
  assert mix.statistics.count.tolist() == (~np.isnan(days)).sum((0, 1)).tolist()
  for key in ("mean", "std", "min", "max", "time_mean", "time_count"):
    np.testing.assert_allclose(getattr(mix.statistics, key), getattr(expected, key), rtol=1e-5, err_msg=key)
  flat = days[:, :, 0].astype(np.float64)
  assert mix.statistics.mean[0] == pytest.approx(np.nanmean(flat)) and mix.statistics.std[0] == pytest.approx(
    np.nanstd(flat)
  )


def read(dataset, steps=6, **arguments):
  with train_loader(dataset, **{"batch_size": 4, "seed": 3} | arguments) as loader:
    return [batch["values"] for batch in itertools.islice(loader, steps)]


@pytest.mark.slow
def test_workers_do_not_change_the_batches(mix):
  np.testing.assert_array_equal(read(mix, workers=2), read(mix))


def test_processes_and_resuming_see_the_same_batches(folder, mix):
  whole = read(mix)
  parts = [read(mix, process_index=p, process_count=2) for p in range(2)]
  np.testing.assert_array_equal(np.concatenate(parts, axis=1), whole)
  np.testing.assert_array_equal(read(mix, start_step=4, steps=2), whole[4:])
  np.testing.assert_array_equal(read(open_mix(folder / "data", {"first": 3, "second": 1}, VOCABULARY)), whole)
  assert not np.array_equal(read(mix, seed=4), whole, equal_nan=True)


def test_context_is_the_other_day_of_the_same_person(mix):
  """Members are matched to the common schema, and their people have two days each."""
  days, owners = mix.days("pretrain"), day_owners(mix, "pretrain")[0]
  place_of = {days[i]["values"].tobytes(): i for i in range(len(days))}
  found = 0
  with train_loader(mix, batch_size=4, seed=3, context_days=2) as loader:
    for batch in itertools.islice(loader, 12):
      for values, mean in zip(batch["values"], batch["context_mean"], strict=True):
        own = place_of[values.tobytes()]
        [other] = [i for i in np.flatnonzero(owners == owners[own]) if i != own]
        if not np.isnan(mean).all():
          np.testing.assert_array_equal(mean, days[int(other)]["values"])
          found += 1
  assert 12 < found < 36
  profile = OtherDays(mix, "eval", 2).profiles([0, mix.num_days("eval") - 1])
  np.testing.assert_array_equal(profile.mean[1], mix.days("eval")[mix.num_days("eval") - 2]["values"])


def test_each_member_has_its_share_of_what_is_drawn(mix):
  days = np.concatenate(read(mix, steps=50, batch_size=8))
  is_first = ~np.isnan(days[:, :, mix.schema.index("mood")]).all(1)
  assert is_first.sum() == 300 and (is_first.reshape(50, 8).sum(1) == 6).all()


@given(st.lists(st.integers(1, 50), min_size=1, max_size=5), st.integers(0, 10**9), st.integers(1, 3000))
@settings(max_examples=50)
def test_interleaving_keeps_shares_and_orders(weights, start, length):
  drawn = InterleavedDays([_Numbers(owner) for owner in range(len(weights))], [weight / 7 for weight in weights])
  stretch = [drawn[i] for i in range(start, start + length)]
  for owner, weight in enumerate(weights):
    numbers = [number for each, number in stretch if each == owner]
    assert numbers == list(range(numbers[0], numbers[0] + len(numbers))) if numbers else True
    share = weight / sum(weights)
    assert abs(len(numbers) - share * length) <= len(weights) + 1e-4 * length


class _Numbers:
  """A sequence whose n-th member is (owner, n)."""

  def __init__(self, owner):
    self.owner = owner

  def __len__(self):
    return 2**40

  def __getitem__(self, index):
    return self.owner, index


def test_one_dataset_alone_is_that_dataset(folder, tmp_path):
  """A mix of one dataset, whose channels have the names and the order of the vocabulary, has the same batches."""
  alone = make(tmp_path, "alone", ("heart_rate", "steps", "zest"))
  mixed = open_mix(tmp_path / "data", {"alone": 0.3}, VOCABULARY)
  np.testing.assert_array_equal(read(mixed, workers=0), read(alone))
  for key in ("count", "mean", "std", "min", "max", "time_mean", "time_count"):
    np.testing.assert_array_equal(getattr(mixed.statistics, key), getattr(alone.statistics, key), err_msg=key)
  assert mixed.participants().equals(alone.participants())


def test_a_mix_can_be_sent_to_a_worker(mix):
  copy = pickle.loads(pickle.dumps(mix))
  np.testing.assert_array_equal(copy.days("eval")[3]["values"], mix.days("eval")[3]["values"])


def test_the_same_person_in_two_datasets_is_refused(folder, tmp_path):
  make(tmp_path, "a", ("heart_rate",), prefix="x")
  make(tmp_path, "b", ("steps",), prefix="x")
  with pytest.raises(SplitError) as error:
    open_mix(tmp_path / "data", {"a": 1.0, "b": 1.0}, VOCABULARY)
  assert "participant 'xp0' is in dataset 'a' (pretrain) and in dataset 'b' (pretrain)" in str(error.value)
  assert "--participant_prefix=b_" in str(error.value) and "\n" not in str(error.value)


def test_people_of_one_dataset_can_be_renamed_or_left_out(tmp_path):
  """Both remedies that the message names, by the command that it names."""
  make(tmp_path, "a", ("heart_rate",), prefix="x")
  make(tmp_path, "b", ("steps",), prefix="x", people=10)
  build_b = f"build --source=npz --input={tmp_path / 'b.npz'} --data_dir={tmp_path / 'data'} --overwrite --name="
  assert build_main([*(build_b + "renamed --participant_prefix=b_").split()]) == 0
  without = ",".join(f"xp{i}" for i in range(8))
  assert build_main([*(build_b + f"fewer --split=1,0,0 --without_participants={without}").split()]) == 0
  assert build_main([*(build_b + "nobody --without_participants=xp0,stranger").split()]) == 2
  renamed = open_mix(tmp_path / "data", {"a": 1.0, "renamed": 1.0}, VOCABULARY)
  assert "b_xp0" in renamed.participants()["participant"].to_pylist()
  fewer = open_mix(tmp_path / "data", {"a": 1.0, "fewer": 1.0}, VOCABULARY)
  assert fewer.members[1][0].people("pretrain") == ["xp8", "xp9"]
  assert {day["participant"] for day in fewer.members[1][0].days("pretrain")} == {b"xp8", b"xp9"}


def test_the_same_dataset_under_two_names_is_refused(tmp_path):
  make(tmp_path, "a", ("heart_rate",), prefix="x")
  (tmp_path / "data/day_windows/a").rename(tmp_path / "data/day_windows/b")
  make(tmp_path, "a", ("heart_rate",), prefix="x")
  with pytest.raises(DatasetError, match="datasets 'a' and 'b' have the same content"):
    open_mix(tmp_path / "data", {"a": 1.0, "b": 1.0}, VOCABULARY)


def test_labels_of_other_types_are_refused_by_name(tmp_path):
  make(tmp_path, "a", ("heart_rate",), labels='{"a_p0": {"sex": 1}}')
  make(tmp_path, "b", ("steps",), labels='{"b_p0": {"sex": "female"}}')
  mixed = open_mix(tmp_path / "data", {"a": 1.0, "b": 1.0}, VOCABULARY)
  with pytest.raises(DatasetError, match=r"label 'sex' is .* in dataset 'a', string in dataset 'b'"):
    mixed.participants()
