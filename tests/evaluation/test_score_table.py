"""Scores for a model card: one row per task, the strongest other beside it, and none of another model."""

import dataclasses

import pytest

from aim.evaluation import score_table
from aim.evaluation.results import Result, write_csv
from aim.evaluation.scored_model import ScoredModel, record

MODEL = ScoredModel("LSM-2", 6, "0" * 32)


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
  record(tmp_path, "evaluate", MODEL)
  return tmp_path


def test_one_row_per_task(workdir):
  gap, *others = score_table.rows(workdir, MODEL)
  assert gap[:5] == ("mine", "gap", "30 min", "mse 0.4 [0.3, 0.5]", "12 people")
  assert gap[5] == "LSM-2 against linear interpolation: better, -20 % [-20.1, -19.9]"
  assert not others  # a score that is not defined is none
  assert score_table.rows(workdir, dataclasses.replace(MODEL, name="another")) == []
  assert "Where the table says so" not in score_table.markdown(workdir, MODEL)
  assert "| mine | gap | 30 min |" in score_table.markdown(workdir, MODEL)


def test_people_who_were_trained_on_are_told(workdir):
  write_csv(workdir / "generative.csv", [result("gap", "LSM-2", "mse", 0.4, seen_in_training="2 of 12")])
  record(workdir, "evaluate", MODEL)
  assert score_table.rows(workdir, MODEL)[0][4] == "12 people (trained on: 2 of 12)"
  assert "Where the table says so, the model was" in score_table.markdown(workdir, MODEL)


@pytest.mark.parametrize(
  "other", [dataclasses.replace(MODEL, step=9), dataclasses.replace(MODEL, parameters="1" * 32)], ids=["step", "model"]
)
def test_scores_of_another_model_are_left_out(workdir, other, capsys):
  assert score_table.markdown(workdir, other) == ""
  assert capsys.readouterr().out == (
    f"note: {workdir}/generative.csv: its scores are of LSM-2 at step 6 (parameters 00000000), not of {other.text}, so "
    "they are left out; score the model again with --mode=evaluate\n"
  )


def test_files_that_no_record_knows_are_left_out(workdir, capsys):
  """They were copied, or their mode was killed while it wrote."""
  write_csv(workdir / "generative.csv", [result("gap", "LSM-2", "mse", 0.1)])
  assert score_table.markdown(workdir, MODEL) == ""
  assert f"{workdir}/generative.csv: is not as --mode=evaluate wrote it for LSM-2 at step 6" in capsys.readouterr().out
  (workdir / "scored" / "evaluate.json").unlink()
  assert score_table.markdown(workdir, MODEL) == ""
  assert "does not record which model its scores are of" in capsys.readouterr().out
