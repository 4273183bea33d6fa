"""The contest from the command line: every method fills the same values, which are exported and scored exactly."""

import csv
import gc
import weakref
from unittest import mock

import numpy as np
import pytest

from aim.evaluation import defaults, results
from aim.evaluation.generative import imputers, score_files, summary
from aim.evaluation.generative.contest import HeldoutDays
from aim.inference import loading
from aim.inference.pretrained import Pretrained
from aim.model.patches import Scale
from data_pipelines.errors import CorruptError
from tests import tiny

CONFIG = f"--config={tiny.CONFIG}"
NAMES = "('linear', 'locf', 'knn', 'mice', 'person_time_of_day_mean')"
# Two patches a day: so few tokens that all buffers have one size, and each batch size is compiled once.
MODEL = {"model__patch_minutes": 720}
FEWER = MODEL | {
  "evaluate__random_percent": (50,),
  "evaluate__interpolation_minutes": (120,),
  "evaluate__gap_minutes": (360,),
  "evaluate__extrapolation_minutes": (180,),
  "evaluate__sensor_channels": (1,),
  "evaluate__days_a_task": 4,
}


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
  return tiny.dataset(tmp_path_factory.mktemp("contest"), channels=("pulse", "steps", "asleep"))


@pytest.fixture(scope="module")
def workdir(dataset, tmp_path_factory):
  workdir = tmp_path_factory.mktemp("trained")
  ended = tiny.run(CONFIG, *tiny.on(dataset), *tiny.overrides(**MODEL), f"--workdir={workdir}")
  assert ended.code == 0, ended.err
  return workdir


def evaluating(dataset, workdir, **changes):
  changes = FEWER | {f"evaluate__{key}": value for key, value in changes.items()}
  return tiny.run(CONFIG, *tiny.on(dataset), *tiny.overrides(**changes), f"--workdir={workdir}", "--mode=evaluate")


@pytest.fixture(scope="module")
def exported(dataset, workdir):
  """The workdir of an evaluation that exported its tasks, and the arrays of each exported file."""
  ended = evaluating(dataset, workdir, export=workdir / "exported", imputers=NAMES)
  assert ended.code == 0, ended.err
  return workdir, {path.stem: dict(np.load(path)) for path in sorted((workdir / "exported").glob("*.npz"))}


def write_imputations(files, folder, impute):
  """Does what another program does: reads the exported arrays, fills them in and writes the result."""
  folder.mkdir()
  for stem, arrays in files.items():
    if stem != "train":
      identity = {key: arrays[key] for key in ("indicating_mask", "participant", "day", "task", "level")}
      np.savez(folder / f"{stem}.npz", imputation=impute(arrays["X"]), **identity)


def channel_rows(workdir, method):
  with (workdir / "evaluate" / "channels.csv").open(newline="") as file:
    return [{**row, "method": ""} for row in csv.DictReader(file) if row["method"] == method]


def test_export_holds_what_is_scored(exported, dataset):
  _, files = exported
  assert set(files) > {"train", "random_50", "interpolation_120", "interpolation_360", "sensor_1", "sleep_360"}
  train = files["train"]
  assert train["X"].shape[1:] == (24, 3) and train["channels"].tolist() == list(dataset.schema.names)
  days = {(day["participant"].decode(), int(day["day"])): day["values"] for day in dataset.days("eval")}
  for arrays in (arrays for stem, arrays in files.items() if stem != "train"):
    x, truth, mask = arrays["X"], arrays["X_ori"], arrays["indicating_mask"]
    assert np.isnan(x[mask]).all() and not np.isnan(truth[mask]).any()
    shown = ~np.isnan(x)
    np.testing.assert_array_equal(x[shown], truth[shown])
    assert 0 < mask.any(axis=(1, 2)).sum() <= 4  # days_a_task
    for person, day, z in zip(arrays["participant"], arrays["day"], truth, strict=True):
      values = days[str(person), int(day)]
      known = np.abs(z) < 5  # larger z-scores are clipped
      np.testing.assert_allclose((z * arrays["std"] + arrays["mean"])[known], values[known], rtol=1e-4, atol=1e-4)


def test_external_linear_interpolation_scores_exactly_as_ours(exported, dataset, tmp_path):
  workdir, files = exported
  write_imputations(files, tmp_path / "theirs", imputers.linear)
  ended = evaluating(dataset, workdir, external=f"theirs={tmp_path / 'theirs'}", imputers="('linear', 'locf')")
  assert ended.code == 0, ended.err
  rows = channel_rows(workdir, "theirs")
  assert rows and rows == channel_rows(workdir, "linear")
  lines = results.read_csv(workdir / "generative.csv")
  values = {(line.task, line.level, line.model, line.metric): line.value for line in lines}
  for (task, level, model, metric), value in values.items():
    if model == "theirs":
      assert value == values[task, level, "linear", metric] or (
        np.isnan(value) and np.isnan(values[task, level, "linear", metric])
      )


def test_common_columns_follow_from_the_sums(exported):
  workdir, _ = exported
  scores = score_files.load_people(workdir / "evaluate" / "people.csv")
  lines = {(r.task, r.level, r.model, r.metric): r for r in results.read_csv(workdir / "generative.csv")}
  for task in scores.tasks:
    people, sums = scores.people(task)
    n, sse, sae, sat, *_ = sums["LSM-2"].sum(axis=0)
    seen = n > 0
    expected = {
      "mse": np.mean(sse[seen] / n[seen]),
      "mae": np.mean(sae[seen] / n[seen]),
      "rmse": np.mean(np.sqrt(sse[seen] / n[seen])),
      "mre": np.mean(sae[seen] / sat[seen]),
    }
    carried = sums["locf"].sum(axis=0)
    carried_mse = np.mean(carried[1][seen] / n[seen])
    expected["skill vs LOCF %"] = 100 * (1 - expected["mse"] / carried_mse)
    for metric, value in expected.items():
      line = lines[task.name, task.amount, "LSM-2", metric]
      assert line.value == pytest.approx(value, rel=1e-4, abs=1e-4)
      assert line.n_people == len(people) and line.seed == 0 and line.dataset == "tiny"
    against = lines[task.name, task.amount, "LSM-2", "mse vs locf %"]
    assert against.value == pytest.approx(-expected["skill vs LOCF %"], rel=1e-3, abs=1e-3)
  assert (workdir / "evaluate" / "clipped.csv").is_file()
  verdicts = list(summary.task_verdicts(list(lines.values())))
  assert len(verdicts) == len(scores.tasks) and all(": LSM-2 against " in verdict for verdict in verdicts)


@pytest.mark.parametrize(
  "spoil, message",
  [
    (lambda a: a | {"imputation": np.full_like(a["imputation"], np.nan)}, "is not finite"),
    (lambda a: a | {"indicating_mask": ~a["indicating_mask"]}, "indicating_mask differs from the values scored"),
    (lambda a: a | {"imputation": a["imputation"][:, :-1]}, r"days of shape (23, 3), expected (24, 3)"),
    (lambda a: a | {"imputation": a["imputation"][:-1]}, "5 days, expected 6"),
    (lambda a: a | {"day": a["day"] + 1}, "day of days 0 to 6 differ"),
    (lambda a: a | {"level": np.int64(30)}, "random 30 % is not among the tasks"),
    (lambda a: {key: a[key] for key in a if key != "indicating_mask"}, "key 'indicating_mask' is missing"),
  ],
)
def test_imputations_that_do_not_fit_are_refused_in_one_line(exported, dataset, tmp_path, spoil, message):
  workdir, files = exported
  keys = ("indicating_mask", "participant", "day", "task", "level")
  arrays = {key: files["random_50"][key] for key in keys} | {"imputation": imputers.linear(files["random_50"]["X"])}
  np.savez(tmp_path / "theirs.npz", **spoil(arrays))
  ended = evaluating(dataset, workdir, external=f"theirs={tmp_path / 'theirs.npz'}")
  assert ended.code == 2 and "Traceback" not in ended.err
  assert message in ended.err.strip().splitlines()[-1]


@pytest.mark.parametrize(
  "changes, message",
  [
    ({"external": "theirs"}, "expected NAME=FILE.npz or NAME=FOLDER"),
    ({"external": "theirs=nowhere.npz"}, "nowhere.npz: no such file"),
    ({"scenarios.sleep": 0}, "config.evaluate.scenarios.sleep is 0, expected a whole number from 1 to 1,439"),
  ],
)
def test_bad_settings(dataset, workdir, changes, message):
  ended = evaluating(dataset, workdir, **{key.replace(".", "__"): value for key, value in changes.items()})
  assert ended.code == 2 and message in ended.err.strip().splitlines()[-1]


def test_the_cache_of_person_means_does_not_outlive_the_days(dataset, workdir):
  config = defaults.defaults().evaluate
  days = HeldoutDays(config, loading.load(workdir), dataset)
  batch = next(days.batches())
  assert days.person_means(batch).shape == batch["values"].shape
  reference = weakref.ref(days)
  del days
  gc.collect()
  assert reference() is None


def test_some_days_are_read_without_the_others(dataset, workdir, monkeypatch):
  """The evaluation of a few days of a large split takes the time of a few days."""
  config = defaults.defaults().evaluate
  model = loading.load(workdir)
  everything = np.concatenate([batch["values"] for batch in HeldoutDays(config, model, dataset).batches()])
  config.days = 3
  reads = []
  source = dataset.days("eval")
  monkeypatch.setattr(type(source), "__getitem__", lambda self, i: reads.append(i) or self._source[i])
  days = HeldoutDays(config, model, dataset)
  [batch] = days.batches()
  assert sorted(reads) == [0, 2, 5] and batch["place"].tolist() == [0, 1, 2]
  np.testing.assert_array_equal(batch["values"], everything[[0, 2, 5]])
  reads.clear()
  days.person_means(batch)
  assert set(reads) <= set(range(6))  # the other days of the same people, whom the tables name


def test_processes_share_some_days_by_the_same_batches(dataset, workdir):
  config = defaults.defaults().evaluate
  config.update({"days": 5, "batch_size": 1})  # batches of MODEL_BATCHES = 4 days
  days = HeldoutDays(config, loading.load(workdir), dataset)
  alone, first, second = (list(days.batches(*process)) for process in ((0, 1), (0, 2), (1, 2)))
  assert [batch["place"].tolist() for batch in alone] == [[0, 1, 2, 3], [4]]
  for ours, theirs in zip(alone, [*first, *second], strict=True):
    for name, array in ours.items():
      np.testing.assert_array_equal(theirs[name], array)


@pytest.mark.parametrize("on_corrupt", ["skip", "stop"])
def test_the_model_is_given_the_days_that_can_be_read_if_the_run_skipped_others(tmp_path, monkeypatch, on_corrupt):
  dataset = tiny.dataset(tmp_path, people=4, days=3)
  scale = Scale.from_statistics(
    dataset.schema, {key: getattr(dataset.statistics, key) for key in ("mean", "std", "min", "max")}
  )
  model = mock.Mock(Pretrained, scale=scale, context_days=1, on_corrupt=on_corrupt)
  held = HeldoutDays(defaults.defaults().evaluate, model, dataset)
  days = tiny.BrokenDays(dataset.days("eval"), 1)
  monkeypatch.setattr(type(dataset), "days", lambda *_: days)
  if on_corrupt == "stop":
    with pytest.raises(CorruptError, match="record 1"):
      held.profile({"position": [0]})
  else:
    assert held.profile({"position": [0, 1]}).known.tolist() == [False, True], "the first day has only the second"


def test_the_model_is_given_the_days_that_the_persons_mean_is_of(tmp_path):
  """All other days, whole, whatever is hidden in this one; and the same in whatever batches and processes."""
  dataset = tiny.dataset(tmp_path, people=5, days=6, channels=("pulse", "steps"))
  scale = Scale.from_statistics(
    dataset.schema, {key: getattr(dataset.statistics, key) for key in ("mean", "std", "min", "max")}
  )
  config = defaults.defaults().evaluate
  config.batch_size = 2
  read = lambda most: HeldoutDays(config, mock.Mock(Pretrained, scale=scale, context_days=most), dataset)
  [first, *others] = read(255).batches()
  profile, means = read(255).profile(first), read(255).person_means(first)
  assert len(first["values"]) == 8 and len(others) == 2
  z = (profile.mean - scale.mean) / scale.std
  np.testing.assert_allclose(z[profile.days > 0], means[profile.days > 0], atol=1e-5)
  assert (profile.days > 0).mean() > 0.9
  assert read(0).profile(first) is None
  [other] = read(255).batches(process_index=1, process_count=3)
  np.testing.assert_array_equal(other["position"], others[0]["position"])
  assert read(2).profile(other).days.max() == 2
