"""Damaged JSON of earlier runs: one line that names file and line, or the work is done again, which is said."""

from __future__ import annotations

import json

import ml_collections
import numpy as np
import pytest

from aim.evaluation import predictions
from aim.evaluation.finetuning.cells import FinetuneCell
from aim.evaluation.predictions import Predictions
from aim.evaluation.results import ResultsError
from aim.report.workdir import Workdir
from aim.runtime import workdir_lock
from aim.runtime.workdir_lock import WorkdirError
from aim.training.metrics_writer import MetricsWriter, earlier_lines
from data_pipelines.errors import SchemaError
from data_pipelines.remote import copies
from data_pipelines.remote.objects import RemoteFolder
from data_pipelines.text_files import read_json_lines

DAMAGE = {
  "cut off": b'{"step": 2, "lo',
  "deep": b"[" * 100_000,
  "a list": b"[1, 2]",
  "a number": b"7",
  "not text": b'{"step": 2, "loss": \xff}',
  "without a step": b'{"loss": 1.0}',
  "twice": b'{"step": 2, "step": 3, "loss": 1.0}',
}


@pytest.fixture(params=DAMAGE)
def damage(request):
  return DAMAGE[request.param]


def metrics(folder, damage):
  path = folder / "metrics.jsonl"
  path.write_bytes(b'{"step": 1, "loss": 0.5}\n' + damage + b'\n{"step": 3, "loss": 0.25}\n')
  return path


def test_the_report_names_the_line(tmp_path, damage):
  path = metrics(tmp_path, damage)
  workdir = Workdir(tmp_path, ml_collections.ConfigDict({"name": "x"}), opener=lambda config: None)
  with pytest.raises(ResultsError) as error:
    _ = workdir.train_log
  line = str(error.value)
  assert line.startswith(str(path)) and "\n" not in line and len(line) < 300
  assert "line 2" in line or "not UTF-8" in line


def test_a_resumed_run_drops_the_line_and_says_so(tmp_path, damage, capsys):
  path = metrics(tmp_path, damage)
  MetricsWriter(tmp_path, start=3).close()
  assert f"note: {path}: dropped 1 damaged line (first: line 2)" in capsys.readouterr().out
  assert [line["step"] for line in earlier_lines(tmp_path, 3)] == [1, 3]
  assert [line["step"] for _, line in read_json_lines(path)] == [1, 3]
  path.write_bytes(path.read_bytes() + b'{"step": 4')  # a kill while a line is written is nothing to report
  MetricsWriter(tmp_path, start=3).close()
  assert not capsys.readouterr().out and len(list(read_json_lines(path))) == 2


def test_a_damaged_cell_is_trained_again_and_that_is_said(tmp_path, damage, capsys):
  cell = FinetuneCell("m", "t", 50.0, 0, ("a",), ("b",), "s")
  column = lambda value: np.array([value])
  place = (column("p"), column(0), column(""), column(0), column(1))
  of_cell = Predictions("d", "t", "day", "regression", (), "m", 0, *place, column(1.0), np.array([[2.0]]))
  assert cell.read(tmp_path) is None
  cell.write(tmp_path, [of_cell], {})
  assert len(cell.read(tmp_path)) == 1 and not capsys.readouterr().out
  record = cell.path(tmp_path)
  whole = record.read_bytes()
  record.write_bytes(damage)
  assert cell.read(tmp_path) is None
  out = capsys.readouterr().out
  assert (damage[:1] == b"{" and b"loss" in damage and b"step" not in damage) or out.startswith(f"note: {record}")
  record.write_bytes(whole)
  record.with_suffix(".csv").write_bytes(b"cut short")
  assert cell.read(tmp_path) is None
  assert capsys.readouterr().out.startswith(f"note: {record.with_suffix('.csv')}: is not known to be what was written")


def test_damaged_probabilities_are_named_by_line(tmp_path, damage):
  path = tmp_path / "predictions.csv"
  column = lambda value: np.array([value, value])
  place = (np.array(["p", "q"]), column(0), column(""), column(0), column(1))
  shares = np.array([[0.25, 0.75], [0.5, 0.5]])
  predictions.write_csv(path, [Predictions("d", "t", "day", "binary", ("a", "b"), "m", 0, *place, column(0.0), shares)])
  (read,) = predictions.read_csv(path)
  np.testing.assert_array_equal(read.predicted, shares)
  text = damage.decode(errors="replace").replace('"', '""')[:5000]
  path.write_text(path.read_text().replace('"{""a"": 0.5, ""b"": 0.5}"', f'"{text}"'))
  with pytest.raises(ResultsError, match=r"predictions\.csv line 3: probabilities") as error:
    predictions.read_csv(path)
  assert "\n" not in str(error.value) and len(str(error.value)) < 300


def test_state_that_is_only_a_saving_of_work(tmp_path, damage, monkeypatch):
  """The state of remote copies, and the holder of a lock: files are fetched again, and the holder is unknown."""
  monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
  url = f"memory://{tmp_path.name}"
  (tmp_path / "x").write_text("days")
  RemoteFolder(url).send(tmp_path / "x", "x")
  assert copies.fetch_folder(url) == ["x"] and not copies.fetch_folder(url)
  with copies.locked(url) as state:
    state.write_bytes(damage)
  assert copies.fetch_folder(url) == ["x"]
  with workdir_lock.held(tmp_path / "run", "train", "training"):
    (tmp_path / "run" / ".train.lock").write_bytes(damage)
    second = workdir_lock.held(tmp_path / "run", "train", "training")
    with pytest.raises(WorkdirError, match="another process is at work there"), second:
      pass


def test_lines_of_a_file_of_json(tmp_path):
  path = tmp_path / "x.jsonl"
  path.write_text('{"a": 1}\n\n{"b": 2}\n')
  assert list(read_json_lines(path)) == [(1, {"a": 1}), (3, {"b": 2})]
  path.write_text(json.dumps([1]))
  with pytest.raises(SchemaError, match=rf"^{path} line 1: found '\[1\]', expected a JSON object$"):
    list(read_json_lines(path))
