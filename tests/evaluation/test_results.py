"""aim/evaluation/results.py: files are read as they were written, old ones too; intervals are over people."""

from __future__ import annotations

import csv
import dataclasses
import math

import numpy as np
import pytest

from aim.evaluation import results
from aim.evaluation.difference import Difference
from aim.evaluation.results import Result

LINE = Result("mss", "random", "30 %", "LSM-2", "mse", 0.25, 0.125, 0.5, 12, 0)


def test_what_is_written_comes_back(tmp_path):
  lines = [LINE, dataclasses.replace(LINE, value=math.nan, task='a, "b"')]
  results.write_csv(tmp_path / "new" / "results.csv", lines)
  first, second = results.read_csv(tmp_path / "new" / "results.csv")
  assert first == LINE
  assert math.isnan(second.value)
  assert second.task == 'a, "b"'


def test_differences_have_columns_of_their_own(tmp_path):
  compared = dataclasses.replace(LINE, metric="mse vs linear %", value=-23.0, ci_low=-27.0, ci_high=-19.0)
  lines = [
    LINE,
    dataclasses.replace(compared, compared_with="linear"),
    dataclasses.replace(LINE, metric="auroc drop", compared_with=results.WHOLE_DAYS, ci_low=-0.1),
    dataclasses.replace(LINE, metric="auroc vs LSM-1", compared_with="LSM-1", ci_low=math.nan, ci_high=math.nan),
  ]
  results.write_csv(tmp_path / "results.csv", lines)
  with (tmp_path / "results.csv").open(newline="") as file:
    columns = [(row["compared_with"], row["lower_is_better"], row["outcome"]) for row in csv.DictReader(file)]
  assert columns == [
    ("", "true", ""),
    ("linear", "true", "better"),
    ("whole days", "true", "not beyond chance"),
    ("LSM-1", "false", "cannot be told"),
  ]
  read = results.read_csv(tmp_path / "results.csv")
  assert read[:3] == lines[:3]
  assert read[1].difference == Difference("LSM-2", "linear", "mse", -23.0, -27.0, -19.0, "%", 12)
  assert [line.compares_models for line in read] == [False, True, False, True]


def test_files_without_these_columns_are_read_as_well(tmp_path):
  metrics = {"mse": "", "mse vs linear %": "linear", "auroc vs LSM-1": "LSM-1", "mae drop %": results.WHOLE_DAYS}
  body = "".join(f"mss,random,30 %,LSM-2,{metric},1,,2,12,0\n" for metric in metrics)
  (tmp_path / "old.csv").write_text(",".join(results.OLD_COLUMNS) + "\n" + body)
  assert [line.compared_with for line in results.read_csv(tmp_path / "old.csv")] == list(metrics.values())


def test_labelled_people_are_counted_where_known(tmp_path):
  lines = [LINE, dataclasses.replace(LINE, n_labelled_people=42, n_folds=4, seen_in_training="2 of 7")]
  results.write_csv(tmp_path / "results.csv", lines)
  assert results.read_csv(tmp_path / "results.csv") == lines


@pytest.mark.parametrize("later", [1, 2, 3])
def test_files_from_before_a_column_was_added_are_read(tmp_path, later):
  columns = [name for name in results.COLUMNS if name not in results.LATER_COLUMNS[:later]]
  empty = "," * (3 - later)
  (tmp_path / "old.csv").write_text(
    f"{','.join(columns)}\nmss,random,30 %,LSM-2,mse,0.25,0.125,0.5,12,0,{empty},true,\n"
  )
  assert results.read_csv(tmp_path / "old.csv") == [LINE]


@pytest.mark.parametrize(
  ("text", "message"),
  [
    (None, "no such file"),
    ("", "columns are none"),
    ("a,b\n", "columns are a,b"),
    (",".join(results.COLUMNS) + "\nmss,random\n", "line 2"),
    (",".join(results.COLUMNS) + "\nd,t,l,m,mse,x,,,1,0,,,true,\n", "line 2: 'd,t,l,m,mse,x"),
    (",".join(results.OLD_COLUMNS) + "\nd,t,l,m,mse,x,,,1,0\n", "line 2: 'd,t,l,m,mse,x"),
    (
      ",".join(results.OLD_COLUMNS) + "\nd,t,l,m,kappa,1,,,1,0\n",
      "line 2: unknown metric 'kappa', expected one of mse",
    ),
  ],
)
def test_another_file_is_refused(tmp_path, text, message):
  path = tmp_path / "results.csv"
  if text is not None:
    path.write_text(text)
  with pytest.raises(results.ResultsError, match=message):
    results.read_csv(path)


def test_intervals_are_over_people_not_rows():
  rng = np.random.default_rng(0)
  level = rng.normal(size=20)
  people = np.repeat([f"p{i}" for i in range(20)], 50)
  values = np.repeat(level, 50) + 0.01 * rng.normal(size=1000)
  value, low, high = results.bootstrap(lambda rows: np.array([values[rows].mean()]), people)
  assert value[0] == pytest.approx(values.mean())
  # The standard error of a mean over 20 people, not over 1,000 rows.
  assert high[0] - low[0] == pytest.approx(2 * 1.96 * level.std() / math.sqrt(20), rel=0.15)


def test_statistics_of_one_call_share_their_draws_and_leave_out_what_is_not_defined():
  people = np.array(["a", "a", "b", "c"])
  truth = np.array([0.0, 0.0, 1.0, 0.0])

  def statistic(rows):
    mean = truth[rows].mean()
    return np.array([mean, mean - truth[rows].mean(), np.nan, np.nan if not truth[rows].any() else 1.0])

  value, low, high = results.bootstrap(statistic, people, 50)
  assert value[1] == low[1] == high[1] == 0
  assert np.isnan([value[2], low[2], high[2]]).all()
  assert low[3] == high[3] == 1


def test_one_person_has_no_interval():
  value, low, high = results.bootstrap(lambda rows: np.array([float(len(rows))]), ["a", "a"])
  assert value[0] == 2
  assert np.isnan([low[0], high[0]]).all()
