"""Damaged files of a study's cells end as one line that names the file; files of datasets are valid JSON."""

import pytest

from aim.studies import job_runner
from aim.studies.scaling.points import ScalingCell, read_points
from data_pipelines.build import build
from data_pipelines.errors import UserError
from data_pipelines.npz import NpzSource
from tests import tiny


@pytest.mark.parametrize("text", ["", "{", "[1]", '{"a": "x"}', '{"a": {"command": "x"}}', '{"a": {"seconds": 1}}'])
def test_damaged_lists_of_finished_commands(text, tmp_path):
  (tmp_path / "commands.json").write_text(text)
  with pytest.raises(UserError, match=str(tmp_path / "commands.json")):
    job_runner.finished_commands(tmp_path)


@pytest.mark.parametrize(
  "text", ["", "{", "[1]", "{}", '{"people": {}}', '{"people": {"a": 1}}', '{"people": {"a": {}}}']
)
def test_damaged_results_of_cells(text, tmp_path):
  cell = ScalingCell(0, "d", "d", "m", "s", 0, 0, 1, 0, tmp_path, ())
  cell.result.write_text(text)
  with pytest.raises(UserError, match=str(cell.result)):
    list(read_points([cell], 10))


def test_a_request_has_no_nan(tmp_path, capsys):
  """Every reader of JSON accepts request.json, and the dataset is known again."""
  source = NpzSource(tiny.write_npz(tmp_path / "x.npz"))
  built = [build(source, tmp_path / "data", "x", request={"share": float("nan")}) for _ in range(2)]
  assert built[1].request["request"] == {"share": None} and "already built" in capsys.readouterr().out
