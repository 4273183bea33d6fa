"""The contest from the command line: one set of cells for all, out as arrays and back, and nothing leaks."""

import csv

import numpy as np
import pytest

from aim.evaluation import results
from aim.evaluation.generative import fitted_imputers, imputers, score_files, summary
from tests import tiny

CONFIG = f"--config={tiny.CONFIG}"
NAMES = "('linear', 'locf', 'knn', 'mice', 'person_time_of_day_mean')"
FEWER = {
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
  ended = tiny.run(CONFIG, *tiny.on(dataset), *tiny.overrides(), f"--workdir={workdir}")
  assert ended.code == 0, ended.err
  return workdir


def evaluating(dataset, workdir, **changes):
  changes = FEWER | {f"evaluate__{key}": value for key, value in changes.items()}
  return tiny.run(CONFIG, *tiny.on(dataset), *tiny.overrides(**changes), f"--workdir={workdir}", "--mode=evaluate")


@pytest.fixture(scope="module")
def exported(dataset, workdir):
  """The workdir of an evaluation that wrote its cells, and the cells of its tasks by file name."""
  ended = evaluating(dataset, workdir, export=workdir / "cells", imputers=NAMES)
  assert ended.code == 0, ended.err
  return workdir, {path.stem: dict(np.load(path)) for path in sorted((workdir / "cells").glob("*.npz"))}


def answer(cells, folder, impute):
  """What a stranger does: reads the exported cells, fills them, writes them down."""
  folder.mkdir()
  for stem, arrays in cells.items():
    if stem != "train":
      kept = {key: arrays[key] for key in ("indicating_mask", "participant", "day", "task", "level")}
      np.savez(folder / f"{stem}.npz", imputation=impute(arrays["X"]), **kept)


def channel_rows(workdir, method):
  with (workdir / "evaluate" / "channels.csv").open(newline="") as file:
    return [{**row, "method": ""} for row in csv.DictReader(file) if row["method"] == method]


def test_export_holds_what_is_scored(exported, dataset):
  _, cells = exported
  assert set(cells) > {"train", "random_50", "interpolation_120", "interpolation_360", "sensor_1", "sleep_360"}
  train = cells["train"]
  assert train["X"].shape[1:] == (24, 3) and train["channels"].tolist() == list(dataset.schema.names)
  days = {(day["participant"].decode(), int(day["day"])): day["values"] for day in dataset.days("eval")}
  for arrays in (arrays for stem, arrays in cells.items() if stem != "train"):
    x, truth, mask = arrays["X"], arrays["X_ori"], arrays["indicating_mask"]
    assert np.isnan(x[mask]).all() and not np.isnan(truth[mask]).any()
    shown = ~np.isnan(x)
    np.testing.assert_array_equal(x[shown], truth[shown])
    assert 0 < mask.any(axis=(1, 2)).sum() <= 4  # days_a_task
    for person, day, z in zip(arrays["participant"], arrays["day"], truth, strict=True):
      values = days[str(person), int(day)]
      known = np.abs(z) < 5  # clipped beyond
      np.testing.assert_allclose((z * arrays["std"] + arrays["mean"])[known], values[known], rtol=1e-4, atol=1e-4)


def test_a_stranger_with_linear_gets_exactly_its_scores(exported, dataset, tmp_path):
  workdir, cells = exported
  answer(cells, tmp_path / "theirs", imputers.linear)
  ended = evaluating(dataset, workdir, external=f"theirs={tmp_path / 'theirs'}", imputers=NAMES)
  assert ended.code == 0, ended.err
  rows = channel_rows(workdir, "theirs")
  assert rows and rows == channel_rows(workdir, "linear")
  found = results.read_csv(workdir / "generative.csv")
  of = {(result.task, result.level, result.model, result.metric): result.value for result in found}
  for (task, level, model, metric), value in of.items():
    if model == "theirs":
      assert value == of[task, level, "linear", metric] or (
        np.isnan(value) and np.isnan(of[task, level, "linear", metric])
      )


def test_common_columns_follow_from_the_sums(exported):
  workdir, _ = exported
  scores = score_files.load_people(workdir / "evaluate" / "people.csv")
  found = {(r.task, r.level, r.model, r.metric): r for r in results.read_csv(workdir / "generative.csv")}
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
      line = found[task.name, task.amount, "LSM-2", metric]
      assert line.value == pytest.approx(value, rel=1e-4, abs=1e-4)
      assert line.n_people == len(people) and line.seed == 0 and line.dataset == "tiny"
    against = found[task.name, task.amount, "LSM-2", "mse vs locf %"]
    assert against.value == pytest.approx(-expected["skill vs LOCF %"], rel=1e-3, abs=1e-3)
  lines = list(summary.task_verdicts(list(found.values())))
  assert len(lines) == len(scores.tasks) and all(": LSM-2 against " in line for line in lines)


@pytest.mark.parametrize(
  "spoil, message",
  [
    (lambda a: a | {"imputation": np.full_like(a["imputation"], np.nan)}, "is not finite"),
    (lambda a: a | {"indicating_mask": ~a["indicating_mask"]}, "indicating_mask differs from the cells"),
    (lambda a: a | {"imputation": a["imputation"][:, :-1]}, r"days of shape (23, 3), expected (24, 3)"),
    (lambda a: a | {"imputation": a["imputation"][:-1]}, "5 days, expected 6"),
    (lambda a: a | {"day": a["day"] + 1}, "day of days 0 to 6 differ"),
    (lambda a: a | {"level": np.int64(30)}, "random 30 % is not among the tasks"),
    (lambda a: {key: a[key] for key in a if key != "indicating_mask"}, "key 'indicating_mask' is missing"),
  ],
)
def test_other_answers_are_refused_in_one_line(exported, dataset, tmp_path, spoil, message):
  workdir, cells = exported
  keys = ("indicating_mask", "participant", "day", "task", "level")
  arrays = {key: cells["random_50"][key] for key in keys} | {"imputation": imputers.linear(cells["random_50"]["X"])}
  np.savez(tmp_path / "theirs.npz", **spoil(arrays))
  ended = evaluating(dataset, workdir, external=f"theirs={tmp_path / 'theirs.npz'}")
  assert ended.code == 2 and "Traceback" not in ended.err
  assert message in ended.err.strip().splitlines()[-1]


@pytest.mark.parametrize(
  "changes, message",
  [
    ({"imputers": "('lineal',)"}, "config.evaluate.imputers: 'lineal', expected some of mean, nearest"),
    ({"external": "theirs"}, "expected NAME=FILE.npz or NAME=FOLDER"),
    ({"external": "theirs=nowhere.npz"}, "nowhere.npz: no such file"),
    ({"scenarios.sleep": 0}, "task sleep: level is 0"),
  ],
)
def test_bad_settings(dataset, workdir, changes, message):
  ended = evaluating(dataset, workdir, **{key.replace(".", "__"): value for key, value in changes.items()})
  assert ended.code == 2 and message in ended.err.strip().splitlines()[-1]


def rhythm(days: int, seed: int, steps: int = 144) -> np.ndarray:
  """Two channels, the second twice the first but for noise."""
  rng = np.random.default_rng(seed)
  clock = 2 * np.pi * np.arange(steps) / steps
  first = np.sin(clock + rng.uniform(0, 6, (days, 1))) + 0.05 * rng.normal(size=(days, steps))
  return np.stack([first, 2 * first], axis=-1).astype(np.float32)


@pytest.mark.parametrize("name", fitted_imputers.FITTED)
def test_fitted_imputers_use_the_other_channel(name):
  impute = fitted_imputers.FittedImputer(name, rhythm(20, 0), rows=500, seed=0)
  truth = rhythm(3, 1)
  holed = truth.copy()
  holed[:, :, 1] = np.nan
  wanted = np.isnan(holed)
  filled = impute(holed, wanted)
  assert filled.dtype == truth.dtype and np.isfinite(filled).all()
  np.testing.assert_array_equal(filled[~wanted], truth[~wanted])
  assert np.mean((filled - truth)[wanted] ** 2) < 0.05 * np.var(truth[wanted])
  assert impute(holed, wanted).tobytes() == filled.tobytes()


def test_nearest_neighbours_equal_a_slow_search():
  train, day = rhythm(8, 0), rhythm(1, 1)
  day[0, 50:60, 0] = np.nan
  impute = fitted_imputers.FittedImputer("knn", train, rows=10**6, seed=0)
  filled = impute(day, np.isnan(day))
  rows = fitted_imputers.features(train, 1).reshape(-1, 8)
  asked = fitted_imputers.features(day, 1)[0]
  for step in range(50, 60):
    both = ~np.isnan(rows) & ~np.isnan(asked[step])
    squares = np.where(both, (rows - asked[step]) ** 2, 0).sum(axis=1) * 8 / both.sum(axis=1)
    nearest = np.argsort(squares, kind="stable")[: fitted_imputers.NEIGHBOURS]
    weights = 1 / np.sqrt(squares[nearest])
    assert filled[0, step, 0] == pytest.approx((weights * rows[nearest, 0]).sum() / weights.sum(), rel=1e-3, abs=1e-3)
