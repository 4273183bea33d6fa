"""A workdir as the report reads it: the log of the training, and results files with several seeds."""

import pytest

from aim.evaluation.results import Result, ResultsError
from aim.report.workdir import merged_results
from tests.report.made_up import workdir_of, write_scores


def test_a_bad_line_of_the_train_log_is_named(tmp_path):
  (tmp_path / "metrics.jsonl").write_text(
    '{"step": 1, "loss": 2.0}\n{"step": 2, "skipped": "x"}\n{"step": 1, "loss": 1.0}\n'
  )
  assert workdir_of(tmp_path).train_log == [{"step": 1, "loss": 1.0}]
  (tmp_path / "metrics.jsonl").write_text('{"step": 1, "loss": 2.0}\n{"loss"\n')
  with pytest.raises(ResultsError, match=r"metrics.jsonl line 2: not JSON: "):
    _ = workdir_of(tmp_path).train_log


def test_seeds_of_one_file_are_distinguished(tmp_path):
  rows = [Result("d", "age", "1 % of labels", "LSM-2", "mae", 9.0 + s, 8.0, 10.0, 9, s) for s in (0, 1)]
  write_scores(tmp_path, "finetune", rows)
  results = merged_results([workdir_of(tmp_path)], "finetune")
  assert [(result.task, result.value) for result in results] == [("age (seed 0)", 9.0), ("age (seed 1)", 10.0)]
