"""Losses of two machines beside each other. The run itself is the training loop, which has tests of its own."""

import pytest

from benchmarks import accelerator_run

LINES = [
  {"step": step, "loss": loss, "windows_per_second": 3.0, "mfu_useful": None, "mfu_executed": None, "other": 1}
  for step, loss in ((1, 1.0), (10, 0.5), (20, 0.4))
]


def test_losses_are_read_as_they_were_written(tmp_path):
  accelerator_run.write_losses(tmp_path / "new" / "losses.csv", LINES)
  assert accelerator_run.read_losses(tmp_path / "new" / "losses.csv") == {1: 1.0, 10: 0.5, 20: 0.4}


def test_the_largest_difference_is_named():
  said = accelerator_run.comparison({1: 1.0, 10: 0.49, 20: 0.402}, {1: 1.0, 10: 0.5, 20: 0.4}, "cpu.csv")
  assert said == "losses against cpu.csv: +0.000 % at step 1, +0.500 % at step 20, at most -2.000 %, at step 10"


def test_another_run_is_refused():
  with pytest.raises(
    ValueError, match=r"cpu.csv: losses of steps 1 to 10, expected 1 to 20; make it with the same --steps"
  ):
    accelerator_run.comparison({1: 1.0, 20: 0.49}, {1: 1.0, 10: 0.5}, "cpu.csv")


def test_a_file_without_losses_is_refused(tmp_path):
  (tmp_path / "cpu.csv").write_text("step,time\n1,2\n")
  with pytest.raises(ValueError, match=r"cpu.csv: expected the columns step and loss"):
    accelerator_run.read_losses(tmp_path / "cpu.csv")


def test_an_absent_file_is_refused(tmp_path):
  with pytest.raises(ValueError, match=r"cpu.csv: no such file"):
    accelerator_run.read_losses(tmp_path / "cpu.csv")
