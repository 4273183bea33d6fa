"""Nothing of the people that a model is scored on reaches what it learns from."""

from __future__ import annotations

import dataclasses
import functools
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from aim.evaluation import metrics
from aim.evaluation.probing import label_tasks, learners
from aim.evaluation.probing import run as probing_run
from aim.evaluation.probing.label_tasks import LabelTask
from aim.evaluation.probing.run import ProbeInputs
from data_pipelines.build import build, npz_request
from data_pipelines.dataset import Dataset
from data_pipelines.day_windows.duplicates import check_disjoint, digest
from data_pipelines.errors import DuplicateError, SplitError
from data_pipelines.npz import NpzSource
from data_pipelines.splits import FoldSplit, ListSplit
from experiments import default
from tests import tiny
from tests.inference.test_pretrained import pretrained

PEOPLE, SHUFFLES = 120, 4
FEATURES = ("embedding", "mask", "hourly", "age + sex", "age", "sex")


def config(**changes):
  found = default.get_config().probe
  found.update({"forest_trees": 10, "strengths": (1.0, 100.0), "batch_size": 256, "bootstrap": 20} | changes)
  return found


def cohort(people: int = PEOPLE, days: int = 2) -> dict[str, np.ndarray]:
  """Days on which pulse rises with age, and the ill lose more of it; labels age, sex and ill."""
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
def read(dataset):
  """Tasks, and their training and held-out rows, of a model with random parameters."""
  model = pretrained(dataset.schema)
  asked, _ = label_tasks.tasks(config(), dataset)
  train = probing_run._training(config(), model, dataset, asked, baselines=True)
  return {task.name: task for task in asked}, train, probing_run.examples(config(), model, dataset, "eval", asked)


def scores(task: LabelTask, train, held_out: ProbeInputs) -> dict[str, dict[str, float]]:
  """Every metric of every competitor, on rows of days."""
  found = probing_run._of_task(config(), _Named(), _Named(), task, train, held_out, lambda level: _Nowhere())
  names = metrics.METRICS[task.kind]
  by_day = [p for p in found if p.level == "day"]
  return {p.model: dict(zip(names, metrics.agreement(p.kind, p.truth, p.predicted), strict=True)) for p in by_day}


class _Named:
  name = "LSM-2"
  config = default.get_config()


class _Nowhere:
  """Where a test's probes go."""

  def __fspath__(self) -> str:
    return "/dev/null"


@pytest.fixture(autouse=True)
def saves_nothing(monkeypatch):
  monkeypatch.setattr(learners.FittedProbe, "save", lambda self, path: None)


def test_what_is_there_is_found(read):
  """The control: without it, chance below would prove nothing."""
  tasks, train, held_out = read
  age = scores(tasks["age"], train["age"], held_out["age"])
  assert age["LSM-2"]["r"] > 0.5
  assert age["hourly forest"]["mae"] < 0.7 * age["constant"]["mae"]
  ill = scores(tasks["ill"], train["ill"], held_out["ill"])
  assert min(ill[name]["auroc"] for name in ("LSM-2", "mask-only", "mask-only forest", "hourly forest")) > 0.8
  assert ill["constant"]["auroc"] == 0.5


@pytest.mark.parametrize("name", ["age", "ill"])
def test_shuffled_labels_give_chance(read, name):
  tasks, train, held_out = read
  rng = np.random.default_rng(0)
  people = sorted(tasks[name].people)
  metric, chance = ("r", 0.0) if name == "age" else ("auroc", 0.5)
  found = []
  for _ in range(SHUFFLES):
    shuffled = dict(zip(people, rng.permutation([tasks[name].people[p] for p in people]), strict=True))
    relabelled = lambda rows, truth=shuffled: dataclasses.replace(
      rows, truth=np.array([truth[p] for p in rows.participant])
    )
    rows, tune = train[name]
    found.append(scores(tasks[name], (relabelled(rows), tune), relabelled(held_out[name])))
  models = [model for model in found[0] if model != "constant"]
  assert len(models) == 5
  for model in models:
    # The SD of one draw is about .1 for AUROC and .13 for r.
    assert abs(np.nanmean([draw[model][metric] for draw in found]) - chance) < 0.13, model


def test_a_person_in_two_lists_is_refused(tmp_path):
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
  with pytest.raises(SplitError, match=f"participant '{person}' is in splits 'eval' and 'pretrain'"):
    probing_run.check(pretrained(dataset.schema), Dataset.open(tmp_path / "data", "tampered"))


def test_rows_of_one_person_on_both_sides_are_refused(read):
  tasks, train, _ = read
  with pytest.raises(SplitError, match="among those to train on"):
    probing_run._check_apart(tasks["age"], train["age"][0], train["age"][0])


def test_the_same_day_under_two_names_is_refused(tmp_path):
  arrays = cohort(6)
  arrays["values"][5] = arrays["values"][0]  # day 0 of p0 is day 1 of p2
  with pytest.raises(DuplicateError, match=r"'p[02]', day [01]: has the same values as participant 'p[20]', day [10]"):
    built(tmp_path, "twice", arrays)
  assert built(tmp_path, "twice", arrays, allow_duplicates=True).num_days("eval") == 6


def test_days_that_tell_nothing_are_no_duplicates(tmp_path):
  arrays = cohort(6)
  for row in (0, 5):
    arrays["values"][row] = np.nan
    arrays["values"][row, 3:6, 0] = 0.0
  assert digest(arrays["values"][0]) is None
  assert built(tmp_path, "still", arrays).num_days("eval") == 6


def test_days_seen_in_another_dataset_are_refused(tmp_path):
  """The folds of one file: what one trains on, the other scores on."""
  arrays = cohort(12)
  first, second = (built(tmp_path, f"fold{k}", arrays, FoldSplit(2, k)) for k in (0, 1))
  check_disjoint(first, first)
  with pytest.raises(DuplicateError, match="of dataset 'fold1', split 'eval', is a day of participant"):
    check_disjoint(first, second)
  model = pretrained(first.schema, data__dir=str(tmp_path / "data"), data__name="fold0")
  probing_run.check(model, first)
  with pytest.raises(DuplicateError, match="which the model was trained on"):
    probing_run.check(model, second)


def test_held_out_people_change_no_statistic_and_no_probe(tmp_path, dataset):
  """Statistics, filled values and coefficients are the same to the bit, whatever the held-out people do."""
  arrays = cohort()
  held_out = np.isin(arrays["participant"], dataset.people("eval"))
  arrays["values"][held_out, :, :2] = 3 * arrays["values"][held_out, :, :2] + 7
  arrays["values"][held_out, :4] = np.nan
  other = built(tmp_path, "cohort", arrays)
  assert other.people("eval") == dataset.people("eval")
  for field in dataclasses.fields(dataset.statistics):
    np.testing.assert_array_equal(getattr(dataset.statistics, field.name), getattr(other.statistics, field.name))
  fit = functools.partial(probing_run.fit_probes, config())
  for level in ("day", "person"):
    ours, theirs = (fit(pretrained(d.schema), d, level) for d in (dataset, other))
    assert set(ours) == {"age", "sex", "ill"}
    for name, fitted in ours.items():
      for field in ("fill", "mean", "scale", "weights", "intercept"):
        np.testing.assert_array_equal(getattr(fitted, field), getattr(theirs[name], field))
