"""Files of scores come back exactly and pool; bad ones are refused by line; the table for a terminal."""

import csv
import math

import numpy as np
import pytest

from aim.evaluation.generative import score_files, scores
from aim.evaluation.generative.scores import ScoreRow, Scores
from aim.evaluation.generative.tasks import GenerativeTask
from tests.evaluation.generative.test_scores import CHANNELS, GAP, predictions, random_batch, scored


def test_csv_has_exactly_the_columns(tmp_path):
  rows = scored(4).table(20)
  score_files.write_channels(tmp_path / "channels.csv", rows)
  lines = (tmp_path / "channels.csv").read_text().splitlines()
  assert lines[0] == (
    "task,level,method,channel,n,mse,mae,ci_low,ci_high,rmse,mre,unit_mse,unit_mae,unit_rmse,unit_mre"
  )
  assert lines[1].startswith("interpolation,60,AIM,all,") and len(lines) == 1 + 2 * 4
  assert lines[4] == "interpolation,60,AIM,never,0" + 10 * ","


def test_an_interval_of_one_person_is_an_empty_field(tmp_path):
  score_files.write_channels(tmp_path / "channels.csv", scored(2, people=1).table())
  with (tmp_path / "channels.csv").open(newline="") as file:
    first = next(csv.DictReader(file))
  assert first["ci_low"] == first["ci_high"] == "" and float(first["mse"]) > 0


def test_people_round_trip_exactly_and_pool(tmp_path):
  tasks = (GAP, GenerativeTask("sensor", 2))
  table = scored(6, tasks=tasks)
  path = tmp_path / "people.csv"
  score_files.save_people(table, path)
  assert (
    path.read_text().splitlines()[0] == "task,level,method,channel,participant,n,sse,sae,sat,unit_sse,unit_sae,unit_sat"
  )
  loaded = score_files.load_people(path)
  assert repr(loaded.table(30)) == repr(table.table(30))  # repr: NaN equals NaN
  with pytest.raises(ValueError, match="participant 'p0' appears twice for AIM, interpolation 60 min"):
    scores.merge([table, loaded])

  folds = []
  for part in (("p0", "p3", "p4"), ("p1", "p2", "p5")):
    fold = Scores(CHANNELS)
    for i, task in enumerate(tasks):
      participants, truth, scored_at = random_batch(6 + i)
      mine = np.array([name in part for name in participants])
      for method, prediction in predictions(truth, 6 + i).items():
        names = [name for name in participants if name in part]
        fold.add(task, method, names, prediction[mine], truth[mine], scored_at[mine])
    folds.append(fold)
  assert repr(scores.merge(folds).table(30)) == repr(table.table(30))
  with pytest.raises(ValueError, match="cannot merge channels"):
    scores.merge([table, Scores(["x"])])
  with pytest.raises(ValueError, match="nothing to merge"):
    scores.merge([])


LINE = "interpolation,60,AIM,heart,p0,5,1.5,2.5,3,4,5,6\n"
HEADER = ",".join(score_files.PEOPLE_COLUMNS) + "\n"


@pytest.mark.parametrize(
  "text, expected",
  [
    ("", "columns are None"),
    ("\udcff", "not UTF-8 text"),
    ("a,b\n", r"columns are \['a', 'b'\]"),
    (HEADER, "no rows"),
    (HEADER + "interpolation,60\n", "line 2: 2 fields, expected 12"),
    (HEADER + LINE.replace("1.5", "x"), "line 2: .* is 'x', expected a number in the digits 0 to 9"),
    (HEADER + LINE.replace("1.5", "nan"), "line 2: n, sse, sae, sat, unit_sse, unit_sae, unit_sat are"),
    (HEADER + LINE.replace("interpolation", "interpol"), "line 2: task: name is 'interpol'"),
    (HEADER + LINE + LINE, "line 3: channel 'heart' of participant 'p0' appears twice"),
    (HEADER + LINE + LINE.replace("heart", "steps") + LINE.replace("p0", "p1"), "'p1' has no channel 'steps'"),
  ],
)
def test_bad_people_file_is_one_line(tmp_path, text, expected):
  path = tmp_path / "people.csv"
  path.write_text(text, errors="surrogateescape")
  with pytest.raises(ValueError, match=expected) as error:
    score_files.load_people(path)
  assert str(path) in str(error.value) and "\n" not in str(error.value)


def test_missing_people_file(tmp_path):
  with pytest.raises(ValueError, match="no such file"):
    score_files.load_people(tmp_path / "none.csv")


def test_table_for_a_terminal():
  rows = [
    ScoreRow("interpolation", 180, "AIM", "all", 9, 0.5236, 0.4, 0.48, 0.571),
    ScoreRow("interpolation", 180, "AIM", "heart", 9, 9.0, 0.4, 0.48, 0.57),
    ScoreRow("interpolation", 180, "linear", "all", 9, 0.66, 0.4, math.nan, math.nan),
    ScoreRow("sensor", 2, "linear", "all", 0, math.nan, math.nan, math.nan, math.nan),
  ]
  assert score_files.format_table(rows) == "\n".join([
    "| mse                   | AIM                  | linear |",
    "| --------------------- | -------------------- | ------ |",
    "| interpolation 180 min | 0.524 [0.48, 0.57] * | 0.660  |",
    "| sensor 2 channels     |                      | -      |",
  ])  # fmt: skip
  assert "[" not in score_files.format_table(rows, intervals=False)
