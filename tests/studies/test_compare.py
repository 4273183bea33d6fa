"""--mode=compare: cells run once, in processes of their own, and their numbers are in one table."""

from __future__ import annotations

import csv
import dataclasses
import itertools
import json
import pathlib

import numpy as np
import pytest

from aim.common import config_files
from aim.evaluation import predictions, results
from aim.evaluation.generative import clipping, score_files
from aim.evaluation.generative.clipping import ClippedTruth
from aim.evaluation.generative.scores import Scores
from aim.evaluation.generative.tasks import GenerativeTask
from aim.evaluation.predictions import Predictions
from aim.evaluation.results import Result
from aim.studies import job_runner
from aim.studies.compare import run as compare_run
from aim.studies.compare import table as compare_table
from data_pipelines.errors import UserError
from experiments import default
from tests import tiny


@pytest.fixture
def config(tmp_path):
  """Two folds of a tiny study, LSM-2 beside LSM-1."""
  tiny.write_npz(tmp_path / "study.npz", people=8, days=2)
  config = default.get_config()
  config.data.dir = str(tmp_path / "data")
  config.compare.models = (tiny.CONFIG, "experiments/lsm1_xs.py --config.optimizer.ema=0.9")
  config.compare.inputs = (f"{tmp_path / 'study.npz'}:2",)
  config.compare.common = tuple(tiny.overrides(evaluate__imputers=("linear",), evaluate__days_a_task=0))
  config.compare.modes = ("evaluate",)
  config.compare.bootstrap = 20
  return config


@pytest.mark.slow
def test_every_model_is_scored_on_every_fold_once(config, tmp_path, monkeypatch, capsys):
  for key, value in tiny.environment().items():
    monkeypatch.setenv(key, value)
  work = tmp_path / "compared"
  compare_run.compare(config, work)
  rows = results.read_csv(work / "comparison.csv")
  assert {row.model for row in rows} == {"LSM-2", "LSM-1", "linear"}
  assert {row.dataset for row in rows} == {"study"}
  assert {row.n_people for row in rows if row.task == "random"} == {8}, "all people, each held out in one fold"
  assert any(row.metric == "mse vs LSM-1 %" and row.model == "LSM-2" for row in rows)
  table = (work / "comparison.md").read_text()
  assert "| data | task | level | metric | LSM-2 | linear | LSM-1 |" in table
  assert table in capsys.readouterr().out
  with (work / "commands.csv").open() as file:
    commands = list(csv.DictReader(file))
  assert len(commands) == 2 * 2 * 2
  assert all("--mode=" in line["command"] and float(line["seconds"]) > 0 for line in commands)

  # A repeated study skips finished commands, and runs again what was lost.
  logs = {path: path.stat().st_mtime_ns for path in work.glob("cells/*/log.txt")}
  assert len(logs) == 4
  lost = next(path for path in logs if "LSM-1" in str(path) and "fold1" in str(path))
  entries = json.loads((lost.parent / "commands.json").read_text())
  (lost.parent / "commands.json").write_text(json.dumps(dict(list(entries.items())[:1])))
  (work / "comparison.csv").unlink()
  compare_run.compare(config, work)
  assert results.read_csv(work / "comparison.csv") == rows
  assert [path for path, when in logs.items() if path.stat().st_mtime_ns != when] == [lost]

  # Another reference takes the cells as they are.
  logs = {path: path.stat().st_mtime_ns for path in logs}
  config.compare.reference = "LSM-1"
  compare_run.compare(config, work)
  assert [path for path, when in logs.items() if path.stat().st_mtime_ns != when] == []
  assert "| data | task | level | metric | LSM-1 | LSM-2 | linear |" in (work / "comparison.md").read_text()
  config.compare.reference = ""

  # Results that were changed or deleted since are computed again.
  changed, deleted = sorted(work.glob("cells/*/evaluate/people.csv"))[:2]
  changed.write_text(changed.read_text().replace("1", "2"))
  deleted.unlink()
  compare_run.compare(config, work)
  assert results.read_csv(work / "comparison.csv") == rows


def test_a_table_of_an_earlier_run_is_told_while_its_cells_are_computed(config, tmp_path, monkeypatch, capsys):
  def finish(cells, *_):
    for cell in cells:
      cell.folder.mkdir(parents=True, exist_ok=True)
      entries = {command.fingerprint: {"command": command.text, "seconds": 1} for command in cell.commands}
      (cell.folder / "commands.json").write_text(json.dumps(entries))

  monkeypatch.setattr(job_runner, "build_datasets", lambda *_: None)
  monkeypatch.setattr(job_runner, "run", finish)
  monkeypatch.setattr(compare_run.Dataset, "open", lambda *_: None)
  monkeypatch.setattr(compare_run.label_tasks, "usable_tasks", lambda *_: (["age"], []))
  monkeypatch.setattr(compare_run, "gather", lambda *_: (tmp_path / "comparison.csv").write_text(""))
  told = lambda: "comparison.csv and what is beside it are of an earlier run" in capsys.readouterr().out
  run = lambda: compare_run.compare(config, tmp_path)
  run()
  assert not told(), "there was no table"
  run()
  assert not told(), "everything is finished"
  config.compare.seeds = (1,)
  run()
  assert told()


def test_labels_are_those_that_the_models_of_the_study_can_probe(config, tmp_path, monkeypatch):
  ran, config.compare.modes = [], ("probe",)
  monkeypatch.setattr(job_runner, "build_datasets", lambda *_: None)
  monkeypatch.setattr(compare_run.Dataset, "open", lambda *_: None)
  monkeypatch.setattr(compare_run.label_tasks, "usable_tasks", lambda probe, _: (["age"] * (probe.min_people < 8), []))
  monkeypatch.setattr(job_runner, "run", lambda cells, *_: ran.extend(cells))
  monkeypatch.setattr(compare_run, "gather", lambda *_: None)
  for least in (7, 8):
    config.compare.common = (f"--config.probe.min_people={least}",)
    compare_run.compare(config, tmp_path)
  assert [list(cell.by_mode) for cell in ran] == [["pretrain", "probe"]] * 4 + [["pretrain"]] * 4


def test_a_command_that_fails_is_reported_with_its_last_line(config, tmp_path, monkeypatch):
  for key, value in tiny.environment().items():
    monkeypatch.setenv(key, value)
  (tmp_path / "bad.npz").write_text("no npz")
  config.compare.inputs = (str(tmp_path / "bad.npz"),)
  with pytest.raises(job_runner.CellError, match=r"data_pipelines\.build .*exit 2: error: .*bad\.npz.*log\.txt"):
    compare_run.compare(config, tmp_path / "compared")
  config.compare.inputs = (str(tmp_path / "gone.npz"),)
  with pytest.raises(UserError, match=r"gone\.npz: no such file"):
    compare_run.compare(config, tmp_path / "compared")


def test_values_that_cannot_be_used(config, tmp_path):
  cells = lambda: list(compare_run.cells(config, tmp_path))
  config.compare.modes = ("evaluate",)
  config.compare.models = (f"{tiny.CONFIG} --config.optimizer.b1=nan",)
  with pytest.raises(config_files.ConfigError, match=r"lsm2_tiny\.py: config\.optimizer\.b1 is nan, expected a number"):
    cells()
  config.compare.models = ("experiments/none.py",)
  with pytest.raises(config_files.ConfigError, match=r"experiments/none\.py: no such file"):
    cells()
  config.compare.models = (tiny.CONFIG, tiny.CONFIG)
  with pytest.raises(config_files.ConfigError, match="'LSM-2' twice"):
    cells()
  config.compare.models, config.compare.reference = (tiny.CONFIG, "experiments/lsm1_xs.py"), "LSM-3"
  with pytest.raises(config_files.ConfigError, match=r"reference is 'LSM-3', expected one of 'LSM-2', 'LSM-1'"):
    cells()
  config.compare.reference = ""
  config.compare.models = (tiny.CONFIG, "experiments/lsm1_xs.py", "experiments/simclr_xs.py")
  config.compare.common = ("--config.evaluate.days=60",)
  with pytest.raises(
    config_files.ConfigError, match=r"LSM-1 would be .* LSM-2: config\.evaluate\.days_a_task is 60 and 0"
  ):
    cells()
  config.compare.common += ("--config.evaluate.days_a_task=0",)
  assert cells()
  for own in ("--config.seed=1", "--config.data.name=mine"):
    config.compare.models = (f"{tiny.CONFIG} {own}",)
    with pytest.raises(config_files.ConfigError, match=rf"LSM-2: {own.split('=')[0]} is set by the study for each"):
      cells()
  config.compare.models = ()
  with pytest.raises(config_files.ConfigError, match=r"config\.compare\.models is empty"):
    cells()
  config.compare.inputs = ("study.npz:many",)
  with pytest.raises(config_files.ConfigError, match=r"expected FILE\.npz or FILE\.npz:FOLDS"):
    job_runner.datasets(config, "compare")


@pytest.mark.parametrize(
  ("ours", "theirs", "key"),
  [
    ("--config.evaluate.scenarios.sleep=120", "", r"scenarios\.sleep is 360 and 120"),
    ("", "--config.evaluate.scenarios.sleep=120", r"scenarios\.sleep is 120 and 360"),
    ("--config.evaluate.random_percent=30,50,80", "--config.evaluate.random_percent=(30,50,80)", None),
    ("--config.evaluate.random_percent=(30,50,80)", "", None),
    ("--config.evaluate.random_percent=(30,50)", "", r"random_percent is \[30, 50, 80\] and \[30, 50\]"),
    ("--config.evaluate.imputers=mean --config.evaluate.batch_size=8", "", None),
  ],
)
def test_models_must_be_scored_on_the_same_values(config, tmp_path, ours, theirs, key):
  config.compare.models = (f"lsm2_tiny {ours}", f"lsm1_xs {theirs}")
  if key is None:
    assert list(compare_run.cells(config, tmp_path))
    return
  with pytest.raises(config_files.ConfigError, match=rf"scored on other values than LSM-2: config\.evaluate\.{key}"):
    list(compare_run.cells(config, tmp_path))


def test_a_cell_is_known_by_what_its_commands_compute(config, tmp_path, monkeypatch):
  """An edited config, other evaluations, other days, and a workdir by another path."""
  mine = tmp_path / "mine.py"
  source = (
    "from experiments import lsm2_tiny\n\ndef get_config():\n  config = lsm2_tiny.get_config()\n  {}\n  return config\n"
  )
  mine.write_text(source.format("config.optimizer.learning_rate = 1e-3"))
  config.compare.models = (str(mine),)
  config.compare.inputs = (f"{tmp_path / 'study.npz'}:1",)
  (first,) = compare_run.cells(config, tmp_path)

  monkeypatch.chdir(tmp_path)
  config.compare.inputs = ("study.npz:1",)
  (relative,) = compare_run.cells(config, pathlib.Path("."))
  assert relative.folder.resolve() == first.folder
  assert [c.fingerprint for c in relative.commands] == [c.fingerprint for c in first.commands]

  mine.write_text(source.format("config.optimizer.learning_rate = 0.5"))
  (edited,) = compare_run.cells(config, tmp_path)
  assert edited.folder != first.folder
  assert not {c.fingerprint for c in edited.commands} & {c.fingerprint for c in first.commands}

  mine.write_text(source.format("config.optimizer.learning_rate = 1e-3"))
  config.compare.common += ("--config.evaluate.scenarios.sleep=120",)
  (evaluated,) = compare_run.cells(config, tmp_path)
  assert evaluated.folder == first.folder, "the same training"
  assert evaluated.by_mode["pretrain"].fingerprint == first.by_mode["pretrain"].fingerprint
  assert evaluated.by_mode["evaluate"].fingerprint != first.by_mode["evaluate"].fingerprint

  tiny.write_npz(tmp_path / "study.npz", people=9, days=2)
  (other_days,) = compare_run.cells(config, tmp_path)
  assert other_days.folder != first.folder


def test_notes_below_the_table(tmp_path):
  """A model that returns the straight line, and truths that every fold clips at its own five SDs."""
  line = lambda model, value, task="random": Result("d", task, "30 %", model, "mse", value, 0.1, 0.9, 9, 0)
  lines = [line(*row) for row in (("LSM-2", 0.4), ("linear", 0.5), ("locf", 0.5), ("LSM-1", 0.5004))]
  lines += [line(*row) for row in (("linear", 0.5, "sleep"), ("LSM-1", 0.501, "sleep"))]
  cells = []
  for fold, high in enumerate((160.04, 166.0)):
    folder = tmp_path / str(fold)
    rows = [
      ClippedTruth("high_heart_rate", 160, "pulse", "bpm", -10.0, high, 50, 25, 120.0, 170.0 + fold),
      ClippedTruth("random", 30, "pulse", "bpm", -10.0, high, 1000, 1, -11.0, 170.0 + fold),
    ]
    clipping.write_csv(folder / "evaluate" / "clipped.csv", rows)
    cells += [compare_table.CompareCell("d", f"d{fold}", 0, model, folder, {}) for model in ("LSM-2", "LSM-1")]
  group = compare_table.CellGroup("d", 0, tuple(cells), "")
  [notes] = compare_table.notes("evaluate", lines, [group])
  assert notes.splitlines() == [
    "- LSM-1 has the error of linear interpolation in random 30 %: a model of imputed days (LSM-1) reads a straight "
    "line in every gap that leaves a value of its patch, and that line is what it returns there",
    "- d, pulse: truth above 160 to 166 bpm and below -10 bpm is clipped to that (truths reach -11 to 171): "
    "50 % of the values of high_heart_rate 160 bpm, 0.1 % of the values of random 30 %",
  ]
  assert not list(compare_table.notes("probe", lines, [group]))


def cells_of(folder, models, without_scores=()):
  """Cells of two folds with scores and predictions; imputers and baselines are beside the first of `models`."""
  rng, cells = np.random.default_rng(0), []
  for fold, model in itertools.product(range(2), models):
    cell = compare_table.CompareCell("d", f"d{fold}", 0, model, folder / f"{fold}{model}", {})
    people = np.array([f"p{fold}{i}" for i in range(4)])
    scored = Scores(("pulse",))
    for method in (model, *(["linear"] if model == models[0] else [])):
      values = rng.normal(size=(2, 4, 24, 1))
      scored.add(GenerativeTask("random", 30), method, people, *values, np.ones((4, 24, 1), bool))
    if model not in without_scores:
      score_files.save_people(scored, cell.folder / "evaluate" / "people.csv")
    nothing, truth = np.zeros(4, int), np.arange(4.0)
    for mode, tasks, level in (
      ("probe", ("age",), "day"),
      ("finetune", ("age",), "100 % of labels, day"),
      ("robustness", ("age", "age without pulse"), "day"),
    ):
      rows = [
        Predictions(
          *(f"d{fold}", task, level, "regression", (), of, 0, people, nothing, np.repeat("", 4), nothing, nothing + 24),
          *(truth, rng.normal(size=(4, 1))),
        )
        for task, of in itertools.product(tasks, (model, *(["constant"] if model == models[0] else [])))
        if mode != "robustness" or of == model
      ]
      predictions.write_csv(cell.folder / mode / "predictions.csv", rows)
    cells.append(cell)
  return cells


def test_the_reference_leads_every_table(config, tmp_path):
  cells = cells_of(tmp_path, ("a", "b", "c"))
  config.compare.modes = ("evaluate", "probe", "robustness")
  rows = {}
  for config.compare.reference in ("", "b"):
    compare_table.gather(config.compare, cells, tmp_path)
    text = (tmp_path / "comparison.md").read_text()
    rows[config.compare.reference] = {
      (r.task, r.metric, r.model): r for r in results.read_csv(tmp_path / "comparison.csv")
    }
    led = config.compare.reference or "a"
    heads = [line for line in text.splitlines() if line.startswith("| data | task | level | metric | ")]
    assert [line.split(" | ")[4] for line in heads] == [led, "model"] * 3
    assert not [r for r in rows[led.strip("a")].values() if r.compared_with in ("a", "b", "c") and r.model != led]
  plain = lambda mine: {key: r for key, r in mine.items() if not r.compares_models}
  assert plain(rows[""]) == plain(rows["b"])
  for task, metric in (("age", "mae"), ("age without pulse", "mae")):
    forth, back = rows[""][task, f"{metric} vs b", "a"], rows["b"][task, f"{metric} vs a", "b"]
    assert forth.value == pytest.approx(-back.value, rel=1e-4) and forth.ci_low == pytest.approx(
      -back.ci_high, rel=1e-4
    )


def test_what_was_filled_and_fine_tuned_is_drawn(config, tmp_path, capsys):
  config.compare.modes = ("evaluate", "finetune")
  of_seed = lambda seed: [
    dataclasses.replace(cell, seed=seed) for cell in cells_of(tmp_path / f"seed{seed}", ("a", "b"))
  ]
  compare_table.gather(config.compare, [*of_seed(0), *of_seed(1)], tmp_path)
  printed = capsys.readouterr().out
  for name in (f"{kind}-d-seed{seed}.png" for kind in ("generative", "learning_curve") for seed in (0, 1)):
    assert (tmp_path / name).read_bytes().startswith(b"\x89PNG") and str(tmp_path / name) in printed
  tuned = [r for r in results.read_csv(tmp_path / "comparison.csv") if "of labels" in r.level and r.metric == "mae"]
  assert sorted((r.model, r.seed) for r in tuned if r.model in "ab") == [("a", 0), ("a", 1), ("b", 0), ("b", 1)]


def test_a_reference_that_reconstructs_nothing_is_told(config, tmp_path):
  cells = cells_of(tmp_path, ("a", "b", "c"), without_scores=("c",))
  told = "- d: c reconstructs nothing, so the differences of these tasks are those of a with the others"
  for config.compare.reference in ("", "b", "c"):
    compare_table.gather(config.compare, cells, tmp_path)
    lines = (tmp_path / "comparison.md").read_text().splitlines()
    assert (told in lines) == (config.compare.reference == "c")


def test_imputers_run_beside_the_first_model_that_reconstructs(config, tmp_path):
  config.compare.models = ("experiments/simclr_xs.py", tiny.CONFIG, "experiments/lsm1_xs.py")
  commands = {cell.model: cell.by_mode for cell in compare_run.cells(config, tmp_path)}
  left_out = {model: "--config.evaluate.imputers=()" in of["pretrain"].arguments for model, of in commands.items()}
  assert left_out == {"SimCLR": False, "LSM-2": False, "LSM-1": True} and "evaluate" not in commands["SimCLR"]
  cells = cells_of(tmp_path, ("b", "c"))
  without = [dataclasses.replace(cell, model="a", folder=tmp_path / f"{cell.fold}a") for cell in cells[::2]]
  compare_table.gather(config.compare, [*without, *cells], tmp_path)
  assert {row.model for row in results.read_csv(tmp_path / "comparison.csv")} == {"b", "linear", "c"}


def test_the_table_shows_means_over_seeds_and_the_best():
  line = lambda model, value, seed=0: Result("d", "age", "day", model, "mae", value, value - 1, value + 1, 9, seed)
  text = compare_table.table("probe", [line("a", 4.0), line("a", 6.0, 1), line("b", 7.0)])
  assert text.splitlines()[-1] == "| d | age | day | mae | **5** (2 seeds) | 7 [6, 8] |"


def test_verdicts_are_a_column_per_other_model_and_count_seeds():
  line = lambda value, seed, other: Result(
    "d", "age", "day", "a", f"mae vs {other}", value, value - 1, value + 1, 9, seed, other
  )
  counted, text, *_ = compare_table.verdicts(
    "probe", [line(-2.0, 0, "b"), line(-0.5, 1, "b"), line(3.0, 0, "constant")]
  )
  assert counted.splitlines() == [
    "- d, mae: a against b: better in 1 of 2 comparisons, not beyond chance in 1 (age, day, seed 1)",
    "- d, mae: a against a constant: worse, +3 [+2, +4]",
  ]
  assert text.splitlines()[0] == "| data | task | level | metric | model | against b | against a constant |"
  assert text.splitlines()[2] == (
    "| d | age | day | mae | a | better in 1 of 2 seeds, not beyond chance in 1 (seed 1); median -1.25 "
    "| worse, +3 [+2, +4] |"
  )
  assert not list(compare_table.verdicts("probe", []))
