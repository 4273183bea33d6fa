"""A full disk ends the run with one line, and the checkpoints that were complete stay complete."""

import os
import resource
import subprocess
import time

import pytest

from aim.training import checkpoint
from tests import tiny

STEPS, EVERY = 400, 10


@pytest.fixture(scope="module")
def command(tmp_path_factory):
  dataset = tiny.dataset(tmp_path_factory.mktemp("failures"))
  flags = tiny.overrides(total_steps=STEPS, checkpoint__every_steps=EVERY, checkpoint__keep=3, log__every_steps=50)
  return [f"--config={tiny.CONFIG}", *tiny.on(dataset), *flags]


def until(process, ready):
  deadline = time.monotonic() + tiny.HANGS_AFTER_SECONDS
  while not ready():
    assert time.monotonic() < deadline and process.poll() is None, tiny.wait(process)
    time.sleep(0.005)


def error_line(ended, workdir):
  """The line in which the run reported the failed save and the newest complete checkpoint."""
  assert ended.code == 2, ended
  assert "Traceback" not in ended.err
  (line,) = [line for line in ended.err.splitlines() if line.startswith("error: ")]
  assert line.startswith(f"error: {workdir}/checkpoints: a checkpoint could not be saved: ")
  assert line.endswith(f"; the newest complete one is of step {checkpoint.complete_steps(workdir)[-1]}")
  assert checkpoint.read(workdir).step == checkpoint.complete_steps(workdir)[-1]
  return line


@pytest.mark.slow
def test_a_file_that_cannot_grow(command, tmp_path):
  """A limit on the size of files, below that of the parameters, fails a save as a quota does."""
  process = tiny.start(*command, f"--workdir={tmp_path}")
  until(process, lambda: len(checkpoint.complete_steps(tmp_path)) > 1)
  resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (20_000, 20_000))
  error_line(tiny.wait(process), tmp_path)
  process = tiny.start(*command, f"--workdir={tmp_path}")
  before = checkpoint.complete_steps(tmp_path)[-1]
  until(process, lambda: checkpoint.complete_steps(tmp_path)[-1:] > [before])
  process.kill()
  assert f"checkpoint at step {before}: going on from there" in tiny.wait(process).out


@pytest.mark.slow
def test_a_full_disk(command, tmp_path):
  disk = tmp_path / "checkpoints"
  disk.mkdir()
  mount = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(disk)]
  if os.geteuid() or subprocess.run(mount, capture_output=True).returncode:
    pytest.skip("a small file system cannot be mounted here")
  try:
    process = tiny.start(*command, f"--workdir={tmp_path}", "--config.checkpoint.keep=1000")
    assert "No space left on device" in error_line(tiny.wait(process), tmp_path)
  finally:
    subprocess.run(["umount", str(disk)], check=True)
