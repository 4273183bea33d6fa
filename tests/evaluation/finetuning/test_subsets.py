"""Whose labels are used: nested, stratified, the same everywhere; targets on their way to the network and back."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aim.evaluation.finetuning.examples import (
  LabelledDays,
  Scaling,
  class_weights,
  held_back,
  ranked,
  slots,
  subset,
  too_few,
)
from aim.evaluation.probing.label_tasks import LabelRows, LabelTask

classes = st.dictionaries(
  st.integers(0, 999).map("p{}".format), st.sampled_from(("no", "yes", "maybe")).map(lambda name: frozenset({name}))
)
percents = st.floats(0.5, 100)


@given(classes, percents, percents, st.integers(0, 3))
def test_a_smaller_share_is_part_of_a_larger_one(strata, one, other, seed):
  few, many = (set(subset(strata, percent, seed)) for percent in sorted((one, other)))
  assert few <= many <= set(strata)
  assert set(subset(strata, 100, seed)) == set(strata)


@given(classes, percents)
def test_every_class_has_its_share(strata, percent):
  chosen = subset(strata, percent, 0)
  for name in frozenset().union(*strata.values()):
    everyone = sum(name in mine for mine in strata.values())
    assert abs(sum(name in strata[p] for p in chosen) - percent * everyone / 100) <= 0.5 + 1e-9


@given(classes, st.text(min_size=1, max_size=3))
def test_newcomers_change_nobody_s_place(strata, name):
  people = list(strata)
  with_one = [p for p in ranked([*people, f"new {name}"], "key") if p in strata]
  assert with_one == ranked(people, "key")


def test_seeds_choose_other_people():
  strata = {f"p{i}": frozenset() for i in range(50)}
  assert subset(strata, 20, 0) != subset(strata, 20, 1)
  assert subset(strata, 20, 0) == subset(dict(reversed(strata.items())), 20, 0)


def test_too_few_says_which_class():
  strata = {f"p{i}": frozenset({"yes" if i < 3 else "no"}) for i in range(10)}
  assert too_few(strata, ["p0", "p1", "p4", "p5"]) is None
  assert too_few(strata, ["p0", "p4", "p5"]) == "1 people of class yes, at least 2 are needed"
  assert too_few(strata, ["p0"]) == "1 of 10 people, at least 2 are needed"


@given(classes)
def test_held_back_leaves_people_of_each_class(strata):
  back = set(held_back(strata))
  for name in frozenset().union(*strata.values()):
    mine = {p for p in strata if name in strata[p]}
    assert (len(mine) == 1 and not mine & back) or 1 <= len(mine & back) < len(mine)


@given(st.lists(st.integers(0, 5), min_size=1, max_size=30))
def test_rows_find_their_slot_again(day):
  rows = LabelRows(np.array(day), np.arange(len(day)), np.arange(len(day)) + 1, np.zeros(len(day)))
  days, index, slot = slots(rows)
  assert (days[index] == rows.day).all()
  assert len(set(zip(index.tolist(), slot.tolist(), strict=True))) == len(day)
  assert all((np.sort(slot[index == i]) == np.arange((index == i).sum())).all() for i in range(len(days)))


def days(count: int = 4) -> LabelledDays:
  return LabelledDays(
    np.zeros((count, 24, 1), np.float32), np.array([f"p{i // 2}" for i in range(count)]), np.arange(count) % 2,
    np.full(count, ""),
  )  # fmt: skip


def test_numbers_are_standardised_and_come_back():
  task = LabelTask("age", "regression", "day", (), {"p0": 20.0, "p1": 60.0})
  rows = days().rows(task)
  scaling = Scaling.of(task, rows.truth, True)
  made = scaling.examples(task, days(), rows)
  np.testing.assert_allclose(made.target[:, 0], [-1, -1, 1, 1])
  np.testing.assert_allclose(scaling.answers(task, rows, made.target[:, :, None]), [[20], [20], [60], [60]])


def test_windows_of_a_day_are_one_example():
  windows = {("p0", 0): [(0, 6, 1.0), (6, 12, 0.0)], ("p1", 1): [(3, 4, 0.0)]}
  task = LabelTask("walking", "binary", "window", ("0", "1"), {}, windows)
  d = days()
  d.values[:] = 1
  rows = d.rows(task)
  scaling = Scaling.of(task, rows.truth, True)
  made = scaling.examples(task, d, rows)
  assert made.day.tolist() == [0, 3]
  assert made.span.tolist() == [[[0, 6], [6, 12]], [[3, 4], [0, 24]]]
  assert made.target[0].tolist() == [1, 0]
  np.testing.assert_allclose(made.weight, [[1.5, 0.75], [0.75, 0]])
  outputs = np.log(np.array([[[1, 3], [1, 1]], [[3, 1], [1, 1]]], np.float32))
  np.testing.assert_allclose(scaling.answers(task, rows, outputs), [[0.25, 0.75], [0.5, 0.5], [0.75, 0.25]], rtol=1e-6)


def test_class_weights_make_classes_alike():
  truth = np.array([0] * 6 + [2] * 2)
  weights = class_weights(truth, 4)[truth]
  assert weights[truth == 0].sum() == pytest.approx(weights[truth == 2].sum())
  assert weights.mean() == pytest.approx(1)
  assert (class_weights(truth, 4, balanced=False) == 1).all()
