"""aim/evaluation/probing/label_tasks.py: which questions a dataset's own tables hold, and the words for those they do not."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aim.common.config_files import ConfigError
from aim.evaluation.probing import label_tasks
from aim.evaluation.probing.label_tasks import ACTIVITY, LabelTask
from data_pipelines.build import build
from data_pipelines.dataset import Dataset
from data_pipelines.npz import NpzSource
from data_pipelines.simulator import Simulation
from data_pipelines.splits import FoldSplit
from experiments import default
from tests import tiny

PEOPLE = 10


def config(**changes):
  found = default.get_config().probe
  found.update({"min_people": 6, "min_people_a_class": 2, "window_minutes": 120} | changes)
  return found


@pytest.fixture(scope="module")
def labelled(tmp_path_factory) -> Dataset:
  """Ten people, two days each, with one label of every sort, and minute labels of the first six."""
  arrays = tiny.arrays(people=PEOPLE)
  sorts = lambda i: {
    "age": 20.5 + i,
    "sex": "FM"[i % 2],
    "code": i // 5,
    "ill": i % 3 == 0,
    "place": ["north", "south", "west"][i % 3],
    "id": f"x{i}",
    "same": 1,
    "rare": i == 0,
    "few": 1.0 * i if i < 3 else None,
  }
  arrays["labels"] = np.array(json.dumps({f"p{i}": sorts(i) for i in range(PEOPLE)}))
  minutes = np.full((20, 24, 2), -1, np.int8)
  minutes[:, 6:12, 0] = (np.arange(6) < 3) & (np.arange(20)[:, None] % 2 == 0)
  minutes[:4, :, 1] = 1
  arrays |= {"minute_labels": minutes, "minute_label_names": np.array(["walking", "home"])}
  folder = tmp_path_factory.mktemp("labels")
  np.savez(folder / "all.npz", **arrays)
  return build(NpzSource(folder / "all.npz"), folder / "data", "all", split=FoldSplit(5, 0))


def test_every_usable_label_is_a_task_and_the_others_have_a_reason(labelled):
  found, left_out = label_tasks.tasks(config(), labelled)
  kinds = {task.name: (task.kind, task.level, task.classes) for task in found}
  assert kinds == {
    "age": ("regression", "day", ()),
    "sex": ("binary", "day", ("F", "M")),
    "code": ("binary", "day", ("0", "1")),
    "ill": ("binary", "day", ("False", "True")),
    "place": ("multiclass", "day", ("north", "south", "west")),
    "walking": ("binary", "window", ("0", "1")),
  }
  reasons = dict(line.split(": ", 1) for line in left_out)
  assert set(reasons) == {"id", "same", "rare", "few", "home"}
  assert "identifier" in reasons["id"]
  assert "everyone has 1" in reasons["same"]
  assert "3 people, fewer than 6" in reasons["few"]
  assert "True: " in reasons["rare"]
  assert "absence is never recorded" in reasons["home"]


def test_a_name_that_is_not_there_is_told_the_nearest(labelled):
  with pytest.raises(ConfigError, match=r"no label 'agee'; the nearest is 'age'"):
    label_tasks.tasks(config(tasks=("agee",)), labelled)
  with pytest.raises(ConfigError, match=r"'id' of dataset 'all' cannot be used: 10 values"):
    label_tasks.tasks(config(tasks=("sex", "id")), labelled)
  assert [task.name for task in label_tasks.tasks(config(tasks=("sex", "age")), labelled)[0]] == ["sex", "age"]


def test_a_label_of_a_person_is_asked_of_every_day(labelled):
  (age,), _ = label_tasks.tasks(config(tasks=("age",)), labelled)
  rows = age.rows(np.array(["p3", "nobody", "p3", "p5"]), np.array([0, 0, 1, 0]), 24)
  assert rows.day.tolist() == [0, 2, 3]
  assert rows.truth.tolist() == [23.5, 23.5, 25.5]
  assert rows.end.tolist() == [24, 24, 24]


def test_events_with_known_absence_are_asked_of_windows(labelled):
  (walking,), _ = label_tasks.tasks(config(tasks=("walking",)), labelled)
  rows = walking.rows(np.array(["p0", "p0"]), np.array([0, 1]), 24)
  # Day 0: steps 6 to 8 walking, 9 to 11 not; windows of two steps; the one half and half is left out.
  assert list(zip(rows.day.tolist(), rows.start.tolist(), rows.truth.tolist(), strict=True)) == [
    (0, 6, 1.0),
    (0, 10, 0.0),
    (1, 6, 0.0),
    (1, 8, 0.0),
    (1, 10, 0.0),
  ]


@given(st.lists(st.integers(-1, 1), min_size=1, max_size=60), st.integers(1, 12))
def test_windows_are_the_majority_of_what_is_labelled(minutes, length):
  stretches = [(i, i + 1, float(value)) for i, value in enumerate(minutes) if value >= 0]
  found = label_tasks._cut(stretches, length, len(minutes))
  for start, end, truth in found:
    known = [value for value in minutes[start:end] if value >= 0]
    assert start % length == 0
    assert end - start == length
    assert 2 * len(known) >= length
    assert truth == (np.mean(known) > 0.5)
    assert np.mean(known) != 0.5


def test_the_activity_of_simulated_bouts(tmp_path):
  dataset = build(Simulation(participants=10, days=3, seed=0), tmp_path, "few", split=FoldSplit(2, 0))
  (activity,), _ = label_tasks.tasks(config(tasks=(ACTIVITY,), min_people=2, min_people_a_class=1), dataset)
  training = set(dataset.people("pretrain"))
  events = [event for event in dataset.events().to_pylist() if event["name"] != "sleep"]
  learnt = {event["name"] for event in events if event["participant"] in training}
  assert set(activity.classes) == learnt
  asked = [
    (person, day, start, end, activity.classes[int(truth)])
    for (person, day), windows in activity.windows.items()
    for start, end, truth in windows
  ]
  told = [tuple(event[k] for k in ("participant", "day", "start", "end", "name")) for event in events]
  assert sorted(asked) == sorted(row for row in told if row[-1] in learnt)


def test_rare_classes_are_left_out(labelled):
  training = labelled.people("pretrain")
  # Of the eight to train on, two, one, three and two people.
  place = dict(zip(training, [0.0, 0.0, 1.0, 2.0, 2.0, 2.0, 3.0, 3.0], strict=True))
  place |= dict.fromkeys(labelled.people("eval"), 1.0)
  task = LabelTask("place", "multiclass", "day", ("a", "b", "c", "d"), place)
  kept = label_tasks._common_classes(task, config(min_people_a_class=2), labelled)
  assert kept.kind == "multiclass"
  assert {person: kept.classes[int(c)] for person, c in kept.people.items()} == {
    person: task.classes[int(c)] for person, c in place.items() if c != 1
  }
