"""Stored trainings of --mode=finetune that are not what was written are named and repeated."""

import json

import numpy as np
import pytest

from aim.evaluation.finetuning.cells import FinetuneCell
from aim.evaluation.predictions import Predictions

CELL = FinetuneCell("LSM-2", "age", 50.0, 0, ("a",), ("b",), "settings")


@pytest.fixture
def table(tmp_path):
  numbers, names = np.arange(3), np.array(["c", "d", "e"])
  head = ("data", "age", "50 % of labels, day", "regression", (), "LSM-2", 0)
  truth = np.array([30.0, 40.0, 50.0])
  CELL.write(tmp_path, [Predictions(*head, names, numbers, names, numbers, numbers, truth, truth[:, None], 2)], {})
  return CELL.path(tmp_path).with_suffix(".csv")


def test_what_was_written_is_read(table, capsys):
  (read,) = CELL.read(table.parent)
  assert read.truth.tolist() == [30, 40, 50] and not capsys.readouterr().out


@pytest.mark.parametrize(
  ("change", "fault"),
  [
    (lambda path: path.write_text(path.read_text().replace(",40,40,", ",40,9999,")), "is not known to be what was"),
    (lambda path: path.write_text(path.read_text().replace(",40,40,", ",41,40,")), "is not known to be what was"),
    (lambda path: path.write_text("".join(path.read_text().splitlines(True)[:-1])), "is not known to be what was"),
    (lambda path: path.unlink(), "no such file; this training is repeated"),
  ],
)
def test_a_changed_cut_or_lost_table_is_named(table, change, fault, capsys):
  change(table)
  assert CELL.read(table.parent) is None
  printed = capsys.readouterr().out
  assert printed.startswith(f"note: {table}: {fault}") and printed.count("\n") == 1


def test_a_cell_of_an_earlier_version_is_repeated(table, capsys):
  path = CELL.path(table.parent)
  path.write_text(json.dumps({"cell": json.loads(path.read_text())["cell"]}))
  assert CELL.read(table.parent) is None
  assert f"{table}: is not known to be what was written ({path.name} holds no digest of it)" in capsys.readouterr().out
