"""The loaders over real array_record files: the order is the same for any number of processes and workers."""

import itertools
import shutil
import threading
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_pipelines.build import build
from data_pipelines.dataset import Dataset
from data_pipelines.errors import DatasetError
from data_pipelines.loader import device_prefetch, eval_loader, train_loader
from data_pipelines.schema import Channel, Schema
from data_pipelines.source import Day, Person
from data_pipelines.splits import ListSplit

PRETRAIN, EVAL = 5, 3  # people; 2 days each
STEPS, CHANNELS = 24, 3


class Numbered:
  """A `Source` whose d-th day holds the number d everywhere, except for one missing value."""

  schema = Schema(60, tuple(Channel(f"c{c}") for c in range(CHANNELS)))
  participants = tuple(f"p{i}" for i in range(PRETRAIN + EVAL))
  n_days = 2 * len(participants)

  def person(self, participant):
    days = []
    for day in range(2):
      values = np.full((STEPS, CHANNELS), 2 * int(participant[1:]) + day, np.float32)
      values[3, 1] = np.nan
      days.append(Day(values, participant, day, f"2024-05-0{day + 1}"))
    return Person(participant, days, {})


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
  people = Numbered.participants
  split = ListSplit(people[:PRETRAIN], (), people[PRETRAIN:])
  return build(Numbered(), tmp_path_factory.mktemp("data"), "numbered", split=split)


def numbers(batch):
  """The numbers of the days in a batch, after checking that every value arrived, the missing one as NaN."""
  values = batch["values"]
  assert values.dtype == np.float32
  assert values.shape[1:] == (STEPS, CHANNELS)
  assert np.isnan(values[:, 3, 1]).all()
  assert np.isnan(values).sum() == len(values)
  return values[:, 0, 0].astype(int).tolist()


def read(dataset, steps, **arguments):
  with train_loader(dataset, **{"batch_size": 4, "seed": 3} | arguments) as loader:
    return [numbers(batch) for batch in itertools.islice(loader, steps)]


@settings(max_examples=12)
@given(st.integers(0, 2**32 - 1), st.integers(0, 40), st.sampled_from([4, 8, 12]))
def test_processes_share_the_same_global_batches(dataset, seed, start_step, batch_size):
  arguments = {"batch_size": batch_size, "seed": seed, "start_step": start_step}
  whole = read(dataset, 4, **arguments)
  for count in (2, 4):
    parts = [read(dataset, 4, process_index=p, process_count=count, **arguments) for p in range(count)]
    assert [list(itertools.chain(*local_batches)) for local_batches in zip(*parts, strict=True)] == whole


@settings(max_examples=12)
@given(st.integers(0, 30), st.sampled_from([(0, 1), (1, 2), (3, 4)]))
def test_resuming_at_a_step_equals_starting_there(dataset, start_step, process):
  index, count = process
  unbroken = read(dataset, start_step + 3, process_index=index, process_count=count)
  assert read(dataset, 3, process_index=index, process_count=count, start_step=start_step) == unbroken[start_step:]


def test_epochs_are_complete_reshuffled_and_never_cut(dataset):
  days = 2 * PRETRAIN
  stream = list(
    itertools.chain(*read(dataset, 3 * days))
  )  # batches of 4 days cross the boundaries of epochs of 10 days
  epochs = [stream[start : start + days] for start in range(0, len(stream), days)]
  assert len(epochs) == 12
  assert all(sorted(epoch) == list(range(days)) for epoch in epochs)
  assert len({tuple(epoch) for epoch in epochs}) > 6
  assert read(dataset, 2, seed=4) != read(dataset, 2, seed=3)
  assert read(dataset, 2) == read(dataset, 2)


def test_batch_larger_than_the_split(dataset):
  [batch] = read(dataset, 1, batch_size=24)
  assert len(batch) == 24
  assert {batch.count(day) for day in range(2 * PRETRAIN)} == {2, 3}


def test_workers_do_not_change_the_batches(dataset):
  assert read(dataset, 7, start_step=2, workers=2) == read(dataset, 7, start_step=2, workers=0)


def test_batches_of_workers_are_plain_arrays(dataset):
  with train_loader(dataset, batch_size=4, seed=0, workers=1) as loader:
    assert type(next(loader)["values"]) is np.ndarray
    assert loader.step == 1


def test_evaluation_sees_the_days_at_some_indices(dataset):
  indices = np.array([0, 1, 3])
  batches = list(eval_loader(dataset, split="eval", batch_size=2, indices=indices))
  values = np.concatenate([batch["values"][batch["weight"] > 0] for batch in batches])
  assert values[:, 0, 0].tolist() == (2 * PRETRAIN + indices).tolist()


@pytest.mark.parametrize("batch_size", [2, 4, 8])
@pytest.mark.parametrize("count", [1, 2])
def test_evaluation_sees_every_day_once_in_order(dataset, batch_size, count):
  load = lambda p: eval_loader(dataset, split="eval", batch_size=batch_size, process_index=p, process_count=count)
  parts = [list(load(p)) for p in range(count)]
  assert {len(part) for part in parts} == {-(-2 * EVAL // batch_size)}
  batches = [batch for step in zip(*parts, strict=True) for batch in step]
  assert {len(batch["values"]) for batch in batches} == {batch_size // count}
  rows = {key: np.concatenate([batch[key] for batch in batches]) for key in batches[0]}
  real = rows["weight"] == 1
  assert rows["weight"].dtype == np.float32
  assert real.tolist() == [True] * (2 * EVAL) + [False] * (len(real) - 2 * EVAL)
  assert rows["values"][real, 0, 0].tolist() == list(range(2 * PRETRAIN, 2 * (PRETRAIN + EVAL)))
  assert np.isnan(rows["values"][~real]).all()
  assert rows["participant"][real].tolist() == [f"p{PRETRAIN + d // 2}" for d in range(2 * EVAL)]
  assert rows["date"][real].tolist() == ["2024-05-01", "2024-05-02"] * EVAL
  assert rows["day"][real].tolist() == [0, 1] * EVAL
  assert set(rows["participant"][~real]) <= {""}


@pytest.mark.parametrize(
  ("arguments", "message"),
  [
    (
      {"batch_size": 6, "process_count": 4},
      r"batch_size is 6, expected a positive multiple of the number of processes \(4\)",
    ),
    ({"batch_size": 0}, "batch_size is 0"),
    ({"batch_size": 4, "process_index": 2, "process_count": 2}, "process_index is 2, expected 0 to 1"),
    ({"batch_size": 4, "split": "tune"}, "dataset 'numbered' has no days in split 'tune'"),
    ({"batch_size": 4, "split": "test"}, "unknown split 'test'"),
  ],
)
def test_wrong_arguments_are_one_line(dataset, arguments, message):
  arguments = {"split": "eval"} | arguments
  for make in (lambda: train_loader(dataset, seed=0, **arguments), lambda: eval_loader(dataset, **arguments)):
    with pytest.raises(DatasetError, match=message) as caught:
      make()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("arguments", [{"start_step": -1}, {"seed": -1}, {"seed": 2**32}])
def test_wrong_start_or_seed(dataset, arguments):
  with pytest.raises(DatasetError, match="expected 0"):
    train_loader(dataset, **{"batch_size": 4, "seed": 0} | arguments)


class Counting:
  """Iterates over 0, 1, 2, ..., and records how many were consumed and whether it was closed."""

  def __init__(self, stop=None):
    self.consumed = 0
    self.closed = False
    self._stop = stop

  def __iter__(self):
    return self

  def __next__(self):
    if self.consumed == self._stop:
      raise StopIteration
    self.consumed += 1
    return self.consumed - 1

  def close(self):
    self.closed = True


def test_prefetch_keeps_order_and_ends():
  source = Counting(stop=20)
  assert list(device_prefetch(source, lambda batch: batch * 10)) == [10 * i for i in range(20)]
  assert source.closed


@pytest.mark.parametrize("size", [1, 2, 5])
def test_prefetch_runs_ahead_but_not_far(size):
  source = Counting()
  stream = device_prefetch(source, lambda batch: batch, size=size)
  assert next(stream) == 0
  deadline = time.monotonic() + 10
  while source.consumed < 1 + size and time.monotonic() < deadline:
    time.sleep(0.01)
  time.sleep(0.1)
  assert source.consumed == 1 + size
  stream.close()
  assert source.closed
  assert not [thread for thread in threading.enumerate() if thread.name == "device_prefetch"]


@pytest.mark.parametrize("where", ["iterator", "put"])
def test_prefetch_raises_in_place(where):
  def broken():
    yield from (0, 1)
    raise RuntimeError("disk on fire")

  def put(batch):
    if where == "put" and batch == 2:
      raise RuntimeError("device on fire")
    return batch

  stream = device_prefetch(broken() if where == "iterator" else Counting(), put)
  assert [next(stream), next(stream)] == [0, 1]
  with pytest.raises(RuntimeError, match="on fire"):
    next(stream)
  assert not [thread for thread in threading.enumerate() if thread.name == "device_prefetch"]


def test_prefetch_closes_a_real_loader(dataset):
  stream = device_prefetch(train_loader(dataset, batch_size=4, seed=0, workers=1), lambda batch: batch)
  assert numbers(next(stream))
  stream.close()


@pytest.fixture(scope="module")
def damaged(dataset, tmp_path_factory):
  """A copy of the dataset in which a few bytes of one shard's records are changed, and that shard."""
  folder = shutil.copytree(dataset.path.parents[2], tmp_path_factory.mktemp("damaged") / "data")
  (shard,) = folder.rglob("*pretrain.array_record*")
  content = bytearray(shard.read_bytes())
  records = np.flatnonzero(np.frombuffer(content, np.uint8))  # the zeros are padding
  middle = records[len(records) // 2]
  content[middle : middle + 8] = bytes(255 - byte for byte in content[middle : middle + 8])
  shard.write_bytes(bytes(content))
  return Dataset.open(folder, "numbered"), shard


def unreadable_days(damaged):
  """The days of the split that cannot be read, after checking that each error names the file and the record."""
  dataset, shard = damaged
  unreadable = set()
  for index in range(2 * PRETRAIN):
    try:
      dataset.days("pretrain")[index]
    except DatasetError as error:
      assert str(error).startswith(
        f"{shard}: record {index} of {2 * PRETRAIN} cannot be read, build the dataset again: "
      )
      unreadable.add(index)
  assert 0 < len(unreadable) < 2 * PRETRAIN
  return unreadable


def test_a_damaged_record_stops_the_run_and_is_named(damaged):
  with pytest.raises(DatasetError, match=r"array_record-00000-of-00001: record \d of 10 cannot be read"):
    read(damaged[0], 10)


@pytest.mark.parametrize("arguments", [{}, {"workers": 1}])
def test_a_substitute_leaves_the_order_of_all_other_days(dataset, damaged, arguments, capfd):
  unreadable = unreadable_days(damaged)
  with train_loader(damaged[0], batch_size=4, seed=3, on_corrupt="skip", **arguments) as loader:
    batches = list(itertools.islice(loader, 10))
  marks = [bool(mark) for batch in batches for mark in batch["corrupt"]]
  whole = [day for batch in read(dataset, 10) for day in batch]
  read_days = [day for batch in batches for day in numbers(batch)]
  # Day d of the split holds the number d.
  assert marks == [day in unreadable for day in whole] and any(marks)
  assert [day for day, mark in zip(read_days, marks, strict=True) if not mark] == [
    day for day in whole if day not in unreadable
  ]
  assert not unreadable & set(read_days)
  stderr = capfd.readouterr().err
  assert all(stderr.count(f"record {day} of 10 cannot be read") == 1 for day in unreadable), stderr
  options = {"batch_size": 4, "seed": 3, "on_corrupt": "skip", "process_count": 2}
  halves = [train_loader(damaged[0], process_index=p, **options) for p in range(2)]
  parts = [numbers(next(half)) for _ in range(10) for half in halves]
  assert [day for part in parts for day in part] == read_days


CONTEXT = ("values", "context_mean", "context_count")


def with_context(dataset, steps, **arguments):
  """The arrays of batches with what is known of the person's other day, if it was drawn."""
  with train_loader(dataset, **{"batch_size": 4, "seed": 3, "context_days": 5} | arguments) as loader:
    return [[batch[name] for name in CONTEXT] for batch in itertools.islice(loader, steps)]


def assert_equal(batches, others):
  assert len(batches) == len(others)
  for batch, other in zip(batches, others, strict=True):
    for array, theirs in zip(batch, other, strict=True):
      np.testing.assert_array_equal(array, theirs)


def test_context_is_the_persons_other_day_or_nothing(dataset):
  batches = with_context(dataset, 40)
  assert_equal([batch[:1] for batch in batches], [[batch["values"]] for batch in _plain(dataset, 40)])
  drawn = 0
  for values, mean, count in batches:
    assert mean.dtype == np.float32 and count.dtype == np.uint8
    np.testing.assert_array_equal(count > 0, ~np.isnan(mean))
    for day, others in zip(values[:, 0, 0], mean[:, 0, 0], strict=True):
      assert np.isnan(others) or (others // 2 == day // 2 and others != day)
      drawn += not np.isnan(others)
  assert 50 < drawn < 110, "0 of 1 and 1 of 1 days are equally probable"


def _plain(dataset, steps):
  with train_loader(dataset, batch_size=4, seed=3) as loader:
    return list(itertools.islice(loader, steps))


def test_context_is_the_same_for_workers_processes_and_a_resumed_run(dataset):
  whole = with_context(dataset, 6)
  assert_equal(with_context(dataset, 4, start_step=2), whole[2:])
  parts = [with_context(dataset, 6, process_index=p, process_count=2) for p in range(2)]
  joined = [[np.concatenate(arrays) for arrays in zip(*local, strict=True)] for local in zip(*parts, strict=True)]
  assert_equal(joined, whole)
  assert_equal(with_context(dataset, 3, start_step=2, workers=2), whole[2:5])
