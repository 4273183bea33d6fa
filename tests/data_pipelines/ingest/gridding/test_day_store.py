"""Days on disk: what was stored is read back, in other processes too, and what was interrupted does not count."""

import pickle

import numpy as np
import pytest

from data_pipelines.ingest.gridding.day_store import DayStore, day_writer
from data_pipelines.ingest.gridding.index_file import is_complete
from data_pipelines.ingest.gridding.monthly_grid import GridDay
from data_pipelines.schema import Channel, Schema

SCHEMA = Schema(60, (Channel("a"), Channel("b")))


def made(date, seed, with_cause=False):
  rng = np.random.default_rng(seed)
  values = rng.normal(size=(24, 2)).astype(np.float32)
  values[rng.random((24, 2)) < 0.3] = np.nan
  return GridDay(date, values, rng.integers(0, 2, (24, 2)).astype(np.uint8) if with_cause else None)


def test_days_are_read_back(tmp_path):
  days = {"bob": [made("2024-03-04", 0), made("2024-03-08", 1, True)], "anna": [made("2024-01-01", 2)], "carl": []}
  paths = [tmp_path / "first", tmp_path / "second"]
  for path, people in zip(paths, (["bob"], ["anna", "carl"]), strict=True):
    with day_writer(path) as writer:
      for who in people:
        writer.add(days[who])
        writer.complete(who, {"left_out": len(days[who])})
  store = DayStore(paths, SCHEMA)
  assert store.summaries == {who: {"left_out": len(own)} for who, own in days.items()}
  for opened in (store, pickle.loads(pickle.dumps(store))):
    assert opened.people == ["anna", "bob"] and "carl" in opened
    assert opened.dates("bob") == ["2024-03-04", "2024-03-08"]
    for who, own in days.items():
      for index, expected in enumerate(own):
        day = opened.day(who, index)
        assert (day.participant, day.date) == (who, expected.date)
        np.testing.assert_array_equal(day.values, expected.values)
        np.testing.assert_array_equal(day.cause, expected.cause)
    assert [opened.day("bob", index).day for index in (0, 1)] == [0, 4]


def test_days_count_only_when_they_are_complete(tmp_path):
  with pytest.raises(KeyboardInterrupt), day_writer(tmp_path / "days") as writer:
    writer.add([made("2024-01-01", 0)])
    raise KeyboardInterrupt
  assert not is_complete(tmp_path / "days") and not list(tmp_path.iterdir())


@pytest.mark.parametrize("suffix", ["bin", "json"])
def test_damaged_days_do_not_count(tmp_path, suffix):
  with day_writer(tmp_path / "days") as writer:
    writer.add([made("2024-01-01", 0)])
    writer.complete("anna", {})
  assert is_complete(tmp_path / "days")
  path = tmp_path / f"days.{suffix}"
  whole = path.read_bytes()
  for position in range(0, len(whole), 7):
    damaged = bytearray(whole)
    damaged[position] ^= 4
    path.write_bytes(damaged)
    assert not is_complete(tmp_path / "days"), position
  for damage in (b"", whole[:-1], b"{}"):
    path.write_bytes(damage)
    assert not is_complete(tmp_path / "days")
  path.unlink()
  assert not is_complete(tmp_path / "days")
