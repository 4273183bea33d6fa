"""Numbers that only some programs read as numbers (0x1F, 1_000, 1,000, other scripts) are refused where they stand."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aim.common.config_files import ConfigError
from aim.evaluation import predictions, results
from aim.evaluation.generative import clipping, score_files
from aim.evaluation.generative.clipping import ClippedTruth
from aim.evaluation.generative.scores import Scores
from aim.evaluation.generative.tasks import GenerativeTask
from aim.evaluation.predictions import Predictions
from aim.evaluation.results import Result
from aim.runtime.processes import ProcessGroupError, find_process_group
from aim.studies import job_runner
from data_pipelines.build import main as build_main
from data_pipelines.errors import SchemaError
from data_pipelines.ingest.labels_csv import ParticipantTable, load_events
from data_pipelines.ingest.reading.csv_batches import parse_numbers
from data_pipelines.text_files import in_other_notation, read_number, read_whole_number
from experiments import default

OTHER = ("0x10", "0X1F", "0b11", "0o17", "1_000", "1,000", "1 000", "1'000.5", "٣٤", "３４", "5٣", "٣.٥")
PLAIN = ("1", "-1", "+1", "1.", ".5", "1e5", "1E-05", "inf", "-inf", "nan")


def test_what_is_a_number():
  for field in OTHER:
    assert in_other_notation(field), field
  for field in (*PLAIN, "", "a", "0x", "0xyz", "1_2", "1,2", "1-2", "12_345_6", "p1", "1.2.3"):
    assert not in_other_notation(field), field
  for field in PLAIN:
    assert repr(read_number(field)) == repr(float(field))


@given(st.text("0123456789+-.eExX_ ,٣３infa%\n", max_size=8))
def test_whatever_is_read_is_a_plain_number(field):
  """Two readers of the project agree, and neither takes what float() alone would take."""
  _, bad = parse_numbers(pa.array([field.strip()]))
  try:
    value = read_number(field)
  except SchemaError:
    value = np.nan
  if np.isfinite(value):
    assert field.isascii() and "_" not in field and not bad[0] and not in_other_notation(field)
  try:
    assert read_whole_number(field) == value
  except SchemaError:
    assert not field.isdecimal() or not field.isascii()


@pytest.mark.parametrize("other", OTHER)
def test_labels_of_people(tmp_path, other):
  path = tmp_path / "labels.csv"
  quoted = f'"{other}"'
  path.write_text(f"participant,age\na,30\nb,{quoted}\nc,NA\nd,41\n")
  with pytest.raises(SchemaError) as error:
    ParticipantTable.load(path)
  assert str(error.value).startswith(f"{path} row 3: participant 'b', label 'age': found {other!r}, expected a number")
  path.write_text(f"participant,age\na,{quoted}\nb,{quoted}\n")  # a whole column of them
  with pytest.raises(SchemaError, match=r"row 2: participant 'a', label 'age': found"):
    ParticipantTable.load(path)
  path.write_text(f"participant,site\na,north\nb,{quoted}\n")  # among words it is a word
  assert ParticipantTable.load(path).labels["b"] == {"site": other}


@pytest.mark.parametrize("other", OTHER)
def test_values_of_events(tmp_path, other):
  path = tmp_path / "events.csv"
  path.write_text(f'participant,start,end,name,value\na,2024-01-01T10:00,2024-01-01T11:00,walk,"{other}"\n')
  with pytest.raises(SchemaError, match=r"events\.csv row 2: value is .*, expected a whole number"):
    load_events(path)


def stored(tmp_path):
  """A file of every kind of table that is read again, its reader, and the last number in it."""
  column = lambda value: np.array([value])
  place = (column("p"), column(7), column(""), column(0), column(1))
  regression = Predictions("d", "t", "day", "regression", (), "m", 0, *place, column(1.0), np.array([[2.25]]))
  predictions.write_csv(tmp_path / "predictions.csv", [regression])
  yield tmp_path / "predictions.csv", predictions.read_csv, ("7", "2.25")
  results.write_csv(tmp_path / "results.csv", [Result("d", "t", "day", "m", "mae", 2.25, 1.5, 3.5, 71, 0)])
  yield tmp_path / "results.csv", results.read_csv, ("2.25", "71")
  scores = Scores(("pulse",))
  sums = np.array([[71.0], *[[2.25]] * (len(score_files.SUMS) - 1)])
  scores.sums[GenerativeTask("random", 30), "linear"] = {"p": sums}
  score_files.save_people(scores, tmp_path / "people.csv")
  yield tmp_path / "people.csv", score_files.load_people, ("71", "2.25")
  clipping.write_csv(
    tmp_path / "clipped.csv", [ClippedTruth("random", 30, "=pulse", "bpm", -np.inf, 2.25, 71, 5, 1.0, 9)]
  )
  yield tmp_path / "clipped.csv", clipping.read_csv, ("2.25", "71")


def test_tables_that_are_read_again(tmp_path):
  for path, read, numbers in stored(tmp_path):
    whole = path.read_text()
    assert read(path)
    for number in numbers:
      for other in ("0x10", "1_000", "٣٤"):
        assert f",{number}," in whole
        path.write_text(whole.replace(f",{number},", f",{other},"))
        with pytest.raises(ValueError, match=rf"{path.name}.* (line|row) 2: ") as error:
          read(path)
        assert "\n" not in str(error.value)
    path.write_text(whole)
  assert clipping.read_csv(tmp_path / "clipped.csv")[0].channel == "=pulse"
  (tmp_path / "clipped.csv").write_text("")
  assert clipping.read_csv(tmp_path / "clipped.csv") == []


def test_numbers_in_flags_and_names(tmp_path, capsys):
  for people in ("1_0", "²", "٣", "0x10"):
    arguments = ["--source=simulate", f"--participants={people}", f"--data_dir={tmp_path}", "--name=x"]
    assert build_main(["build", *arguments]) == 2
    assert f"flag --participants={people}: expected the number of people" in capsys.readouterr().err.replace("\n", " ")
  config = default.get_config()
  config.compare.inputs = ("study.npz:²",)
  with pytest.raises(ConfigError, match=r"expected FILE\.npz or FILE\.npz:FOLDS"):
    job_runner.datasets(config, "compare")
  for port in ("²", "1_000", "٣"):
    with pytest.raises(ProcessGroupError, match="expected HOST:PORT"):
      find_process_group("on", f"localhost:{port}", 2, 0, {})
