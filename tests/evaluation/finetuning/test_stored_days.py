"""Days that are read when they are needed."""

from __future__ import annotations

import numpy as np
import pytest

from aim.evaluation.finetuning import examples
from aim.evaluation.finetuning.examples import LabelledDays
from aim.evaluation.probing.label_tasks import LabelTask
from tests import tiny


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
  return tiny.dataset(tmp_path_factory.mktemp("data"))


@pytest.mark.parametrize("kept_days", [0, 5, 100])
def test_only_so_many_bytes_of_days_stay_in_memory(dataset, kept_days, monkeypatch):
  monkeypatch.setattr(examples, "BATCH", 4)
  monkeypatch.setattr(examples, "BYTES_KEPT", kept_days * 24 * 3 * 4)
  seen = []
  days = LabelledDays.open(dataset, ("pretrain", "tune", "eval"), seen.append)
  stored = [day for split in ("pretrain", "eval") for day in dataset.days(split)]
  expected = np.stack([day["values"] for day in stored])
  np.testing.assert_array_equal(np.concatenate(seen), expected)
  np.testing.assert_array_equal(days.values[np.array([15, 0, 15, 9])], expected[[15, 0, 15, 9]])
  assert days.participant.tolist() == [day["participant"].decode() for day in stored]
  assert days.day.tolist() == [day["day"] for day in stored]
  assert days.values.shape == expected.shape
  reads = []
  monkeypatch.setattr(days.values, "record", lambda index: reads.append(index) or stored[index])
  np.testing.assert_array_equal(days.values[np.arange(16)], expected)
  assert reads == list(range(min(kept_days, 16), 16))


def test_rows_are_those_of_all_days_at_once(dataset, monkeypatch):
  monkeypatch.setattr(examples, "BATCH", 3)
  days = LabelledDays.open(dataset, ("pretrain", "eval"), lambda values: None)
  values = days.values[np.arange(16)]
  empty = [int(np.isnan(day).all(axis=1).argmax()) for day in values]  # a step without any value, where there is one
  keys = zip(days.participant.tolist(), days.day.tolist(), strict=True)
  windows = {key: [(0, 6, 1.0), (step, step + 1, 0.0)] for key, step in zip(keys, empty, strict=True)}
  for task in (
    LabelTask("walking", "binary", "window", ("0", "1"), {}, windows),
    LabelTask("age", "regression", "day", (), {"p1": 20.0, "p7": 60.0}),
  ):
    rows, expected = days.rows(task), task.observed_rows(days.participant, days.day, values)
    for name in ("day", "start", "end", "truth"):
      np.testing.assert_array_equal(getattr(rows, name), getattr(expected, name))
