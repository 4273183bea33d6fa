"""Nothing about the people that a model is scored on reaches what it learns from."""

from __future__ import annotations

import dataclasses
import functools
import json
import pathlib

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from aim.evaluation import metrics
from aim.evaluation.probing import learners
from aim.evaluation.probing.label_tasks import LabelTask, usable_tasks
from aim.evaluation.probing.leak_checks import check_held_out, check_people_apart
from aim.evaluation.probing.probe_inputs import ProbeInputs, read_inputs
from aim.evaluation.probing.run import TrainingInputs, fit_probes, predict_task, read_training
from data_pipelines.build import build, npz_request
from data_pipelines.dataset import Dataset
from data_pipelines.day_windows.duplicates import check_disjoint, digest
from data_pipelines.digests import Digests
from data_pipelines.errors import DuplicateError, SplitError
from data_pipelines.npz import NpzSource
from data_pipelines.splits import FoldSplit, ListSplit
from experiments import default
from tests import tiny
from tests.inference.test_pretrained import pretrained

PEOPLE, SHUFFLES = 120, 4
FEATURES = ("embedding", "mask", "hourly", "age + sex", "age", "sex")


def config(**changes):
  probe = default.get_config().probe
  probe.update({"forest_trees": 10, "strengths": (1.0, 100.0), "batch_size": 256, "bootstrap": 20} | changes)
  return probe


def cohort(people: int = PEOPLE, days: int = 2) -> dict[str, np.ndarray]:
  """Days whose pulse rises with age, and of which the ill lose more; the labels are age, sex and ill."""
  arrays = tiny.arrays(people=people, days=days)
  rng = np.random.default_rng(5)
  age, ill, sex = rng.uniform(20, 80, people), rng.random(people) < 0.5, rng.random(people) < 0.5
  values = arrays["values"]
  values[:, :, 0] += 0.5 * np.repeat(age, days)[:, None]
  lost = np.repeat(ill, days)[:, None] & (rng.random(values.shape[:2]) < 0.5)
  values[lost, 0] = np.nan
  rows = {f"p{i}": {"age": round(age[i], 1), "sex": "FM"[int(sex[i])], "ill": bool(ill[i])} for i in range(people)}
  return arrays | {"labels": np.array(json.dumps(rows))}


def built(folder, name: str, arrays: dict[str, np.ndarray], split=None, **options) -> Dataset:
  path = folder / f"{name}.npz"
  np.savez(path, **arrays)
  split = split or FoldSplit(2, 0)
  return build(NpzSource(path), folder / "data", name, split=split, request=npz_request(path), **options)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory) -> Dataset:
  return built(tmp_path_factory.mktemp("leaks"), "cohort", cohort())


@pytest.fixture(scope="module")
def inputs(dataset):
  """Tasks with their training and held-out rows, from a model with random parameters."""
  model = pretrained(dataset.schema)
  tasks, _ = usable_tasks(config(), dataset)
  training = read_training(config(), model, dataset, tasks, baselines=True)
  return {task.name: task for task in tasks}, training, read_inputs(config(), model, dataset, "eval", tasks)


def scores(task: LabelTask, training: TrainingInputs, held_out: ProbeInputs) -> dict[str, dict[str, float]]:
  """{competitor: {metric: value}} on rows of days."""
  predicted = predict_task(config(), task, training, held_out, pathlib.Path, "cohort", "LSM-2", 0)
  names = metrics.METRICS[task.kind]
  by_day = [p for p in predicted if p.level == "day"]
  return {p.model: dict(zip(names, metrics.agreement(p.kind, p.truth, p.predicted), strict=True)) for p in by_day}


@pytest.fixture(autouse=True)
def saves_nothing(monkeypatch):
  monkeypatch.setattr(learners.FittedProbe, "save", lambda self, path: None)


def test_signal_in_the_days_is_found(inputs):
  """The control, without which the scores at chance below would prove nothing."""
  tasks, training, held_out = inputs
  age = scores(tasks["age"], training["age"], held_out["age"])
  assert age["LSM-2"]["r"] > 0.5
  assert age["hourly forest"]["mae"] < 0.7 * age["constant"]["mae"]
  ill = scores(tasks["ill"], training["ill"], held_out["ill"])
  assert min(ill[name]["auroc"] for name in ("LSM-2", "mask-only", "mask-only forest", "hourly forest")) > 0.8
  assert ill["constant"]["auroc"] == 0.5


@pytest.mark.parametrize("name", ["age", "ill"])
def test_shuffled_labels_give_chance(inputs, name):
  tasks, training, held_out = inputs
  rng = np.random.default_rng(0)
  people = sorted(tasks[name].people)
  metric, chance = ("r", 0.0) if name == "age" else ("auroc", 0.5)
  draws = []
  for _ in range(SHUFFLES):
    shuffled = dict(zip(people, rng.permutation([tasks[name].people[p] for p in people]), strict=True))
    relabelled = lambda rows, truth=shuffled: dataclasses.replace(
      rows, truth=np.array([truth[p] for p in rows.participant])
    )
    relabelled_training = TrainingInputs(relabelled(training[name].rows), training[name].tune)
    draws.append(scores(tasks[name], relabelled_training, relabelled(held_out[name])))
  models = [model for model in draws[0] if model != "constant"]
  assert len(models) == 5
  for model in models:
    # The SD of one draw is about 0.1 for AUROC and 0.13 for r.
    assert abs(np.nanmean([draw[model][metric] for draw in draws]) - chance) < 0.13, model


def test_a_person_in_two_lists_is_refused():
  with pytest.raises(SplitError, match="'p1' is listed in more than one split"):
    ListSplit(("p0", "p1"), (), ("p1",))


@pytest.mark.parametrize("place", ["splits.json", "participants.parquet"])
def test_a_person_in_two_splits_is_refused_at_probe_time(tmp_path, place):
  dataset = built(tmp_path, "tampered", cohort(12))
  person = dataset.people("eval")[0]
  if place == "splits.json":
    path = dataset.path / place
    lists = json.loads(path.read_text())
    lists["pretrain"].append(person)
    path.write_text(json.dumps(lists))
  else:
    table = dataset.participants()
    people = zip(table["participant"].to_pylist(), table["split"].to_pylist(), strict=True)
    split = ["pretrain" if p == person else s for p, s in people]
    place_of = table.column_names.index("split")
    pq.write_table(table.set_column(place_of, "split", pa.array(split)), dataset.path / place)
  Digests.of_folder(dataset.path, {}).save()  # as a build that goes wrong would
  with pytest.raises(SplitError, match=f"participant '{person}' is in splits 'eval' and 'pretrain'"):
    check_held_out(pretrained(dataset.schema), Dataset.open(tmp_path / "data", "tampered"))


def test_rows_of_one_person_on_both_sides_are_refused(inputs):
  _, training, _ = inputs
  people = training["age"].rows.participant
  with pytest.raises(SplitError, match="among those to train on"):
    check_people_apart("age", people, people)


def test_the_same_day_under_two_names_is_refused(tmp_path):
  arrays = cohort(6)
  arrays["values"][5] = arrays["values"][0]  # day 0 of p0 is day 1 of p2
  with pytest.raises(DuplicateError, match=r"'p[02]', day [01]: has the same values as participant 'p[20]', day [10]"):
    built(tmp_path, "twice", arrays)
  assert built(tmp_path, "twice", arrays, allow_duplicates=True).num_days("eval") == 6


def test_nearly_empty_days_are_no_duplicates(tmp_path):
  arrays = cohort(6)
  for row in (0, 5):
    arrays["values"][row] = np.nan
    arrays["values"][row, 3:6, 0] = 0.0
  assert digest(arrays["values"][0]) is None
  assert built(tmp_path, "still", arrays).num_days("eval") == 6


def test_days_seen_in_another_dataset_are_refused(tmp_path):
  """With two folds of one file, each is scored on the days that the other is trained on."""
  arrays = cohort(12)
  first, second = (built(tmp_path, f"fold{k}", arrays, FoldSplit(2, k)) for k in (0, 1))
  check_disjoint(first, first)
  with pytest.raises(DuplicateError, match="of dataset 'fold1', split 'eval', is a day of participant"):
    check_disjoint(first, second)
  model = pretrained(first.schema, data__dir=str(tmp_path / "data"), data__name="fold0")
  check_held_out(model, first)
  with pytest.raises(DuplicateError, match="which the model was trained on"):
    check_held_out(model, second)


def test_held_out_people_change_no_statistic_and_no_probe(tmp_path, dataset):
  """Statistics, fill values and coefficients are the same to the bit, whatever the held-out people do."""
  arrays = cohort()
  held_out = np.isin(arrays["participant"], dataset.people("eval"))
  arrays["values"][held_out, :, :2] = 3 * arrays["values"][held_out, :, :2] + 7
  arrays["values"][held_out, :4] = np.nan
  other = built(tmp_path, "cohort", arrays)
  assert other.people("eval") == dataset.people("eval")
  for field in dataclasses.fields(dataset.statistics):
    np.testing.assert_array_equal(getattr(dataset.statistics, field.name), getattr(other.statistics, field.name))
  fit = functools.partial(fit_probes, config())
  for level in ("day", "person"):
    ours, theirs = (fit(pretrained(d.schema), d, level) for d in (dataset, other))
    assert set(ours) == {"age", "sex", "ill"}
    for name, fitted in ours.items():
      for field in ("fill", "mean", "scale", "weights", "intercept"):
        np.testing.assert_array_equal(getattr(fitted, field), getattr(theirs[name], field))
