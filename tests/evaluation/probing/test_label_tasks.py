"""Each label of a dataset's own tables becomes a task, or there is a reason why it is none."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aim.common.config_files import ConfigError
from aim.evaluation.probing import label_tasks
from aim.evaluation.probing.label_tasks import LabelTask
from data_pipelines.build import build
from data_pipelines.dataset import Dataset
from data_pipelines.errors import DatasetError
from data_pipelines.lsm2_schema import LSM2_ACTIVITIES
from data_pipelines.npz import NpzSource
from data_pipelines.simulator import Simulation
from data_pipelines.splits import FoldSplit
from experiments import default
from tests import tiny

PEOPLE = 10


def config(**changes):
  probe = default.get_config().probe
  probe.update({"min_people": 6, "min_people_a_class": 2, "window_minutes": 120} | changes)
  return probe


@pytest.fixture(scope="module")
def labelled(tmp_path_factory) -> Dataset:
  """Ten people with two days each, a label of every kind, and labels of minutes."""
  arrays = tiny.arrays(people=PEOPLE)
  labels = lambda i: {
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
  arrays["labels"] = np.array(json.dumps({f"p{i}": labels(i) for i in range(PEOPLE)}))
  minutes = np.full((20, 24, 2), -1, np.int8)
  minutes[:, 6:12, 0] = (np.arange(6) < 3) & (np.arange(20)[:, None] % 2 == 0)
  minutes[:4, :, 1] = 1
  arrays |= {"minute_labels": minutes, "minute_label_names": np.array(["walking", "home"])}
  folder = tmp_path_factory.mktemp("labels")
  np.savez(folder / "all.npz", **arrays)
  return build(NpzSource(folder / "all.npz"), folder / "data", "all", split=FoldSplit(5, 0))


def test_every_label_is_a_task_or_has_a_reason(labelled):
  tasks, left_out = label_tasks.usable_tasks(config(), labelled)
  kinds = {task.name: (task.kind, task.level, task.classes) for task in tasks}
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


@pytest.mark.parametrize(
  ("values", "reason"),
  [
    ([2**62 + i for i in range(9)], f"has integers beyond 2^53, such as {2**62 + 8}, which are equal as numbers"),
    ([1e307 * i for i in range(9)], "0.0 to 8e+307 is beyond the numbers that can be learnt"),
    ([1e-310 * i for i in range(9)], "is beyond the numbers that can be learnt"),
  ],
)
def test_numbers_that_cannot_be_learnt_are_left_out(monkeypatch, labelled, values, reason):
  """An earlier version may have built the dataset with such labels."""
  people = labelled.participants()
  table = people.append_column("odd", [[values[i % 9] for i in range(len(people))]])
  monkeypatch.setattr(type(labelled), "participants", lambda _: table)
  assert reason in dict(line.split(": ", 1) for line in label_tasks.usable_tasks(config(), labelled)[1])["odd"]


def test_two_numbers_have_two_names(monkeypatch, labelled):
  people = labelled.participants()
  table = people.append_column("seen", [[1e9 + 21 + i % 2 for i in range(len(people))]])
  monkeypatch.setattr(type(labelled), "participants", lambda _: table)
  tasks, _ = label_tasks.usable_tasks(config(tasks=("seen",)), labelled)
  assert tasks[0].classes == ("1000000021.0", "1000000022.0")


def test_an_unknown_name_is_answered_with_the_nearest(labelled):
  with pytest.raises(ConfigError, match=r"no label 'agee'; the nearest is 'age'"):
    label_tasks.usable_tasks(config(tasks=("agee",)), labelled)
  with pytest.raises(ConfigError, match=r"'id' of dataset 'all' cannot be used: 10 values"):
    label_tasks.usable_tasks(config(tasks=("sex", "id")), labelled)
  with pytest.raises(ConfigError, match=r"^config.finetune.tasks: dataset "):
    label_tasks.usable_tasks(config(tasks=("agee",)), labelled, "config.finetune.tasks")
  assert [task.name for task in label_tasks.usable_tasks(config(tasks=("sex", "age")), labelled)[0]] == ["sex", "age"]


def test_a_label_of_a_person_has_a_row_on_every_day(labelled):
  (age,), _ = label_tasks.usable_tasks(config(tasks=("age",)), labelled)
  rows = age.rows(np.array(["p3", "nobody", "p3", "p5"]), np.array([0, 0, 1, 0]), 24)
  assert rows.day.tolist() == [0, 2, 3]
  assert rows.truth.tolist() == [23.5, 23.5, 25.5]
  assert rows.end.tolist() == [24, 24, 24]


def test_events_with_recorded_absence_have_rows_of_windows(labelled):
  (walking,), _ = label_tasks.usable_tasks(config(tasks=("walking",)), labelled)
  rows = walking.rows(np.array(["p0", "p0"]), np.array([0, 1]), 24)
  # Walking at steps 6 to 8 of day 0 and not at 9 to 11: of the windows of two steps, the tied one is left out.
  assert list(zip(rows.day.tolist(), rows.start.tolist(), rows.truth.tolist(), strict=True)) == [
    (0, 6, 1.0),
    (0, 10, 0.0),
    (1, 6, 0.0),
    (1, 8, 0.0),
    (1, 10, 0.0),
  ]


@given(st.lists(st.integers(-1, 1), min_size=1, max_size=60), st.integers(1, 12))
def test_windows_are_labelled_by_majority(minutes, length):
  stretches = [(i, i + 1, float(value)) for i, value in enumerate(minutes) if value >= 0]
  for start, end, truth in label_tasks.majority_windows(stretches, length, len(minutes)):
    known = [value for value in minutes[start:end] if value >= 0]
    assert start % length == 0
    assert end - start == length
    assert 2 * len(known) >= length
    assert truth == (np.mean(known) > 0.5)
    assert np.mean(known) != 0.5


def test_the_activity_of_simulated_bouts(tmp_path):
  dataset = build(Simulation(participants=10, days=3, seed=0), tmp_path, "few", split=FoldSplit(2, 0))
  (activity,), _ = label_tasks.usable_tasks(config(tasks=("activity",), min_people=2, min_people_a_class=1), dataset)
  training = set(dataset.people("pretrain"))
  events = [event for event in dataset.events().to_pylist() if event["name"] != "sleep"]
  learnt = {event["name"] for event in events if event["participant"] in training}
  assert set(activity.classes) == learnt
  rows = [
    (person, day, start, end, activity.classes[int(truth)])
    for (person, day), windows in activity.windows.items()
    for start, end, truth in windows
  ]
  bouts = [tuple(event[k] for k in ("participant", "day", "start", "end", "name")) for event in events]
  assert sorted(rows) == sorted(bout for bout in bouts if bout[-1] in learnt)


def test_a_dataset_says_which_events_exclude_each_other(labelled, tmp_path):
  shutil.copytree(labelled.path, tmp_path / labelled.path.relative_to(labelled.path.parents[2]))
  copy = Dataset.open(tmp_path, "all")
  assert copy.exclusive_events() == {"activity": list(LSM2_ACTIVITIES)}
  (copy.path / "exclusive_events.json").write_text('{"place": ["walking", "home", "nowhere"]}')
  tasks, left_out = label_tasks.usable_tasks(config(), copy)
  (place,) = [task for task in tasks if task.name == "place" and task.level == "window"]
  assert (place.kind, place.classes) == ("binary", ("walking", "home"))
  assert not any(line.startswith("home:") for line in left_out)
  (copy.path / "exclusive_events.json").write_text('{"place": "walking"}')
  with pytest.raises(DatasetError, match=r"exclusive_events.json: expected a JSON object of lists of event names"):
    copy.exclusive_events()


def test_rare_classes_are_left_out(labelled):
  training = labelled.people("pretrain")
  # The eight people to train on are two, one, three and two of each class.
  place = dict(zip(training, [0.0, 0.0, 1.0, 2.0, 2.0, 2.0, 3.0, 3.0], strict=True))
  place |= dict.fromkeys(labelled.people("eval"), 1.0)
  task = LabelTask("place", "multiclass", "day", ("a", "b", "c", "d"), place)
  common = label_tasks.common_classes(task, config(min_people_a_class=2), labelled)
  assert common.kind == "multiclass"
  assert {person: common.classes[int(c)] for person, c in common.people.items()} == {
    person: task.classes[int(c)] for person, c in place.items() if c != 1
  }
