"""Days on disk: what was stored is read back, in other processes too, and interrupted people are stored again."""

import pickle

import numpy as np

from data_pipelines.ingest.gridding.day_store import DayStore
from data_pipelines.ingest.gridding.monthly_grid import GridDay
from data_pipelines.schema import Channel, Schema

SCHEMA = Schema(60, (Channel("a"), Channel("b")))


def made(date, seed, with_cause=False):
  rng = np.random.default_rng(seed)
  values = rng.normal(size=(24, 2)).astype(np.float32)
  values[rng.random((24, 2)) < 0.3] = np.nan
  return GridDay(date, values, rng.integers(0, 2, (24, 2)).astype(np.uint8) if with_cause else None)


def test_days_are_read_back(tmp_path):
  store = DayStore(tmp_path, SCHEMA)
  days = {"bob": [made("2024-03-04", 0), made("2024-03-08", 1, True)], "anna": [made("2024-01-01", 2)], "carl": []}
  for who, own in days.items():
    store.add(who, own)
    store.complete(who, {"left_out": len(own)})
  for opened in (store, pickle.loads(pickle.dumps(store)), DayStore(tmp_path, SCHEMA)):
    assert opened.people == ["anna", "bob"] and "carl" in opened
    assert opened.summaries["bob"] == {"left_out": 2}
    assert opened.dates("bob") == ["2024-03-04", "2024-03-08"]
    for who, own in days.items():
      for index, expected in enumerate(own):
        day = opened.day(who, index)
        assert (day.participant, day.date) == (who, expected.date)
        np.testing.assert_array_equal(day.values, expected.values)
        np.testing.assert_array_equal(day.cause, expected.cause)
    assert [opened.day("bob", index).day for index in (0, 1)] == [0, 4]


def test_an_interrupted_person_is_stored_again(tmp_path):
  store = DayStore(tmp_path, SCHEMA)
  store.add("anna", [made("2024-01-01", 0)])
  store.complete("anna", {})
  store.add("bob", [made("2024-01-01", 1)])  # interrupted before it was completed
  store = DayStore(tmp_path, SCHEMA)
  assert "anna" in store and "bob" not in store
  store.add("bob", [made("2024-01-02", 2)])
  store.complete("bob", {})
  np.testing.assert_array_equal(store.day("bob", 0).values, made("2024-01-02", 2).values)
