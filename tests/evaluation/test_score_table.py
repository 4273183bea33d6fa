"""Scores for a model card: one row per task, the strongest other beside it, and none of an earlier step."""

import os

import pytest

from aim.evaluation import score_table
from aim.evaluation.results import Result, write_csv


def result(task, model, metric, value, **changes):
  return Result("mine", task, "30 min", model, metric, value, value - 0.1, value + 0.1, 12, 0, **changes)


@pytest.fixture
def workdir(tmp_path):
  rows = [
    result("gap", "LSM-2", "mse", 0.4),
    result("gap", "LSM-2", "mse vs linear %", -20.0, compared_with="linear"),
    result("gap", "LSM-2", "mse vs mean %", -60.0, compared_with="mean"),
    result("gap", "LSM-2", "mae", 0.3),
    result("gap", "linear", "mse", 0.5),
    result("random", "LSM-2", "mse", float("nan")),
  ]
  write_csv(tmp_path / "generative.csv", rows)
  (tmp_path / "checkpoints" / "6").mkdir(parents=True)
  os.utime(tmp_path / "checkpoints" / "6", (1, 1))
  return tmp_path


def test_one_row_per_task(workdir):
  gap, *others = score_table.rows(workdir, "LSM-2")
  assert gap[:5] == ("mine", "gap", "30 min", "mse 0.4 [0.3, 0.5]", "12 people")
  assert gap[5] == "LSM-2 against linear interpolation: better, -20 % [-20.1, -19.9]"
  assert not others  # a score that is not defined is none
  assert score_table.rows(workdir, "another") == [] and score_table.markdown(workdir, "another") == ""
  assert "| mine | gap | 30 min |" in score_table.markdown(workdir, "LSM-2")


def test_people_who_were_trained_on_are_told(workdir):
  assert "Where the table says so" not in score_table.markdown(workdir, "LSM-2")
  write_csv(workdir / "generative.csv", [result("gap", "LSM-2", "mse", 0.4, seen_in_training="2 of 12")])
  assert score_table.rows(workdir, "LSM-2")[0][4] == "12 people (trained on: 2 of 12)"
  assert "Where the table says so, the model was" in score_table.markdown(workdir, "LSM-2")


def test_scores_of_an_earlier_step_are_left_out(workdir, capsys):
  os.utime(workdir / "generative.csv", (0, 0))
  assert score_table.markdown(workdir, "LSM-2") == ""
  assert capsys.readouterr().out.startswith(f"note: {workdir}/generative.csv is older than the newest checkpoint")
