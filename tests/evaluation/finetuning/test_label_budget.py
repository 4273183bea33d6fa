"""Whose labels are used: a share of the people to train on and to stop on, nested, stratified, the same everywhere."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from aim.evaluation.finetuning.label_budget import (
  LabelBudget,
  LabelledPeople,
  first_of_each_class,
  held_back,
  subset,
)
from data_pipelines.splits import ranked

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
  labelled = LabelledPeople(strata, {"t": frozenset({"yes"})})
  reason = lambda *train, tune=("t",): labelled.too_few(LabelBudget(train, tune))
  assert reason("p0", "p1", "p4", "p5") is None
  assert reason("p0", "p4", "p5") == "1 person of class yes, at least 2 are needed"
  assert reason("p0") == "1 of 10 people, at least 2 are needed"
  assert reason("p0", "p1", "p4", "p5", tune=()) == "nobody is left to stop early on"


@given(classes)
def test_held_back_leaves_people_of_each_class(strata):
  back = set(held_back(strata))
  for name in frozenset().union(*strata.values()):
    mine = {p for p in strata if name in strata[p]}
    assert (len(mine) == 1 and not mine & back) or 1 <= len(mine & back) < len(mine)


@given(classes, percents, percents, st.integers(0, 3))
def test_tune_labels_are_part_of_the_budget(strata, one, other, seed):
  """The tune people are chosen by the same rule as the people to train on, with at least one of each class."""
  tune_people = set(ranked(strata, "tune")[: len(strata) // 3])
  labelled = LabelledPeople.divide(strata, tune_people)
  few, many = (labelled.budget(percent, seed) for percent in sorted((one, other)))
  for budget in (few, many):
    assert set(budget.train) <= set(labelled.train) and set(budget.tune) <= set(labelled.tune)
  assert set(few.train) <= set(many.train) and set(few.tune) <= set(many.tune)
  everyone = labelled.budget(100, seed)
  assert set(everyone.train) == set(labelled.train) and set(everyone.tune) == set(labelled.tune)
  for name in frozenset().union(*labelled.tune.values()):
    people = sum(name in own for own in labelled.tune.values())
    chosen = sum(name in labelled.tune[p] for p in few.tune)
    assert chosen == max(1, int(min(one, other) * people / 100 + 0.5))


def test_a_tenth_of_the_labels_is_a_tenth_of_the_tune_people_too():
  strata = {f"p{i}": frozenset({"yes" if i % 4 == 0 else "no"}) for i in range(400)}
  tune_people = {f"p{i}" for i in range(300, 400)}
  budget = LabelledPeople.divide(strata, tune_people).budget(10, 0)
  assert (len(budget.train), len(budget.tune)) == (31, 11)  # 7.5 + 22.5 and 2.5 + 7.5, rounded up
  smallest = LabelledPeople.divide(strata, tune_people).budget(0.5, 0)
  assert {strata[p] for p in smallest.tune} == {frozenset({"yes"}), frozenset({"no"})} and len(smallest.tune) == 2


def test_numbers_need_one_person_to_stop_on():
  strata = {f"p{i}": frozenset() for i in range(20)}
  assert len(LabelledPeople.divide(strata, {"p0", "p1", "p2"}).budget(1, 0).tune) == 1


def test_without_tune_people_a_share_of_the_labelled_ones_takes_their_place():
  strata = {f"p{i}": frozenset({"yes" if i % 2 else "no"}) for i in range(100)}
  labelled = LabelledPeople.divide(strata, {"somebody without a label"})
  assert sorted(labelled.tune) == held_back(strata) and len(labelled.tune) == 20
  assert sorted([*labelled.train, *labelled.tune]) == sorted(strata)
  budget = labelled.budget(10, 0)
  assert (len(budget.train), len(budget.tune)) == (8, 2)


@given(classes, percents)
def test_the_first_of_each_class_is_part_of_every_subset_with_the_class(strata, percent):
  first, chosen = first_of_each_class(strata, 1), subset(strata, percent, 1)
  for name in frozenset().union(*strata.values()):
    if any(name in strata[p] for p in chosen):
      assert any(name in strata[p] for p in first if p in chosen)
