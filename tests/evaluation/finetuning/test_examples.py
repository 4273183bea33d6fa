"""Targets on their way to the network and back."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aim.evaluation.finetuning.examples import LabelledDays, TargetScaling, class_weights, places_in_days
from aim.evaluation.probing.label_tasks import LabelRows, LabelTask


@given(st.lists(st.integers(0, 5), min_size=1, max_size=30))
def test_rows_find_their_place_again(day):
  rows = LabelRows(np.array(day), np.arange(len(day)), np.arange(len(day)) + 1, np.zeros(len(day)))
  days, index, place = places_in_days(rows)
  assert (days[index] == rows.day).all()
  assert len(set(zip(index.tolist(), place.tolist(), strict=True))) == len(day)
  assert all((np.sort(place[index == i]) == np.arange((index == i).sum())).all() for i in range(len(days)))


def days(count: int = 4) -> LabelledDays:
  return LabelledDays(
    np.zeros((count, 24, 1), np.float32), np.array([f"p{i // 2}" for i in range(count)]), np.arange(count) % 2,
    np.full(count, ""),
  )  # fmt: skip


def test_numbers_are_standardised_and_come_back():
  task = LabelTask("age", "regression", "day", (), {"p0": 20.0, "p1": 60.0})
  rows = days().rows(task)
  scaling = TargetScaling.of_rows(task, rows.truth, True)
  examples = scaling.examples(task, days(), rows)
  np.testing.assert_allclose(examples.target[:, 0], [-1, -1, 1, 1])
  np.testing.assert_allclose(scaling.predictions(task, rows, examples.target[:, :, None]), [[20], [20], [60], [60]])


def test_windows_of_a_day_are_one_example():
  windows = {("p0", 0): [(0, 6, 1.0), (6, 12, 0.0)], ("p1", 1): [(3, 4, 0.0)]}
  task = LabelTask("walking", "binary", "window", ("0", "1"), {}, windows)
  observed = days()
  observed.values[:] = 1
  rows = observed.rows(task)
  scaling = TargetScaling.of_rows(task, rows.truth, True)
  examples = scaling.examples(task, observed, rows)
  assert examples.day.tolist() == [0, 3]
  assert examples.span.tolist() == [[[0, 6], [6, 12]], [[3, 4], [0, 24]]]
  assert examples.target[0].tolist() == [1, 0]
  np.testing.assert_allclose(examples.weight, [[1.5, 0.75], [0.75, 0]])
  outputs = np.log(np.array([[[1, 3], [1, 1]], [[3, 1], [1, 1]]], np.float32))
  np.testing.assert_allclose(
    scaling.predictions(task, rows, outputs), [[0.25, 0.75], [0.5, 0.5], [0.75, 0.25]], rtol=1e-6
  )


def test_class_weights_make_classes_alike():
  truth = np.array([0] * 6 + [2] * 2)
  weights = class_weights(truth, 4)[truth]
  assert weights[truth == 0].sum() == pytest.approx(weights[truth == 2].sum())
  assert weights.mean() == pytest.approx(1)
  assert (class_weights(truth, 4, balanced=False) == 1).all()
