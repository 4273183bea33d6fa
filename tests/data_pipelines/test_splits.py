"""Splits by person: nobody crosses them, shares and folds are met, and every mistake has a clear message."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_pipelines import splits
from data_pipelines.errors import SplitError
from data_pipelines.splits import SPLITS, FoldSplit, HashSplit, ListSplit, assign, for_few_people

PEOPLE = [f"p{n}" for n in range(20)]


@given(st.sets(st.text(max_size=12), min_size=2, max_size=60), st.sets(st.text(max_size=12), max_size=30), st.data())
def test_people_never_cross_splits(people, newcomers, data):
  cuts = sorted(data.draw(st.tuples(st.floats(0, 1), st.floats(0, 1))))
  split = HashSplit((cuts[0], cuts[1] - cuts[0], 1 - cuts[1]), data.draw(st.text(max_size=16)))
  before = split.assign(sorted(people))
  after = split.assign(sorted(people | newcomers, reverse=True))
  assert before == {participant: after[participant] for participant in people}
  assert {name for name, share in zip(SPLITS, split.shares, strict=True) if share == 0}.isdisjoint(after.values())


def test_shares_are_met_and_keys_matter():
  people = [f"person{i}" for i in range(5000)]
  one, two = HashSplit(key="one").assign(people), HashSplit(key="two").assign(people)
  for name, share in zip(SPLITS, (0.8, 0.1, 0.1), strict=True):
    assert abs(sum(split == name for split in one.values()) / 5000 - share) < 0.02
  moved = sum(one[participant] != two[participant] for participant in people) / 5000
  assert abs(moved - (1 - 0.64 - 0.02)) < 0.03  # if independent, a person stays with probability 0.8^2 + 2 * 0.1^2


@given(st.sets(st.text(max_size=9), min_size=12, max_size=40), st.integers(2, 12))
def test_folds_cover_everybody_once(people, folds):
  left_out = []
  for fold in range(folds):
    people_of = splits.assign(FoldSplit(folds, fold), sorted(people))
    assert not people_of["tune"]
    assert set(people_of["pretrain"]) | set(people_of["eval"]) == people
    assert len(people_of["eval"]) in (len(people) // folds, -(-len(people) // folds))
    left_out += people_of["eval"]
  assert sorted(left_out) == sorted(people)


@pytest.mark.parametrize(
  ("make", "message"),
  [
    (lambda: HashSplit((0.5, 0.1, 0.1)), "0.5,0.1,0.1, expected three shares"),
    (lambda: HashSplit((1.2, -0.1, -0.1)), "expected three shares"),
    (lambda: HashSplit(key="k" * 65).assign(["a"]), "65 bytes, expected at most 64"),
    (lambda: FoldSplit(1, 0), "folds is 1"),
    (lambda: FoldSplit(4, 4), "fold is 4, expected 0 to 3"),
    (lambda: FoldSplit(4, 0).assign(["a", "b"]), "4 folds of 2 people"),
    (lambda: ListSplit(("a",), ("a",)), "'a' is listed in more than one split"),
    (lambda: ListSplit(("a",)).assign(["a", "b"]), "'b' is in no list"),
    (lambda: ListSplit(("a",), ("z",)).assign(["a"]), "'z' is listed in tune but is not in the data"),
    (lambda: splits.assign(HashSplit((0, 0.5, 0.5)), ["a", "b"]), "no people in split 'pretrain'"),
  ],
)
def test_split_errors(make, message):
  with pytest.raises(SplitError, match=message) as caught:
    make()
  assert "\n" not in str(caught.value)


def test_few_people_are_divided_into_folds_where_the_default_would_leave_nobody_to_evaluate_on():
  key = next(f"k{n}" for n in range(1000) if "eval" not in HashSplit(key=f"k{n}").assign(PEOPLE).values())
  split, (note,) = for_few_people(HashSplit(key=key), PEOPLE)
  assert split == FoldSplit(5, 0, key)
  assert note == (
    f"{len(PEOPLE)} people are few for the split 0.8,0.1,0.1, which would leave nobody to evaluate on: --folds=5 "
    "--fold=0 is used instead"
  )
  assert len(assign(split, PEOPLE)["eval"]) == len(PEOPLE) // 5


def test_a_split_that_was_chosen_stays():
  for split in (HashSplit((1, 0, 0)), FoldSplit(2, 0), ListSplit(tuple(PEOPLE))):
    assert for_few_people(split, PEOPLE) == (split, [])


def test_few_held_out_people_are_told_and_many_are_not():
  key = next(f"k{n}" for n in range(1000) if list(HashSplit(key=f"k{n}").assign(PEOPLE).values()).count("eval") == 1)
  split, (note,) = for_few_people(HashSplit(key=key), PEOPLE)
  assert split == HashSplit(key=key)
  assert note.startswith(f"split 'eval' has 1 of {len(PEOPLE)} people, too few to say much about others; --folds=5")
  many = [f"p{n}" for n in range(1000)]
  assert for_few_people(HashSplit(), many) == (HashSplit(), [])


def test_one_person_and_two():
  split, (note,) = for_few_people(HashSplit(), ["a"])
  assert assign(split, ["a"]) == {"pretrain": ["a"], "tune": [], "eval": []} and "only one person" in note
  for key in map(str, range(20)):
    split, _ = for_few_people(HashSplit(key=key), ["a", "b"])
    people = assign(split, ["a", "b"])
    assert len(people["pretrain"]) == len(people["eval"]) == 1 or split == HashSplit(key=key)
    assert people["pretrain"] and people["eval"]
