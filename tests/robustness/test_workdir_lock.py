"""Two runs in one workdir: the second is refused and told who is there; nothing remains of a run that was killed."""

import json
import os
import signal
import socket
import subprocess
import sys

import pytest

from aim.runtime import workdir_lock
from aim.runtime.workdir_lock import WorkdirError
from tests import tiny

# Holds the lock until it is killed; a process that it started lives on, as a loader's worker might.
HOLD = """
import pathlib, subprocess, sys, time
from aim.runtime import workdir_lock
with workdir_lock.held(pathlib.Path(sys.argv[1]), "training", "--mode=pretrain"):
  print(subprocess.Popen(["sleep", "60"]).pid, flush=True)
  time.sleep(600)
"""


def refusal(workdir, name="training"):
  """Asks for the lock in another process, as this one may hold it, and returns the message of the refusal."""
  program = (
    "import pathlib, sys\n"
    "from aim.runtime import workdir_lock\n"
    "try:\n"
    f"  with workdir_lock.held(pathlib.Path({str(workdir)!r}), {name!r}, 'a test'): pass\n"
    "except workdir_lock.WorkdirError as error: print(error)\n"
  )
  return subprocess.run(
    [sys.executable, "-c", program], env=tiny.environment(), capture_output=True, text=True, check=True
  ).stdout


def test_a_second_run_is_refused(tmp_path):
  dataset = tiny.dataset(tmp_path)
  workdir = tmp_path / "run"
  command = [f"--config={tiny.CONFIG}", *tiny.on(dataset), *tiny.overrides(), f"--workdir={workdir}"]
  with workdir_lock.held(workdir, "training", "--mode=pretrain"):
    ended = tiny.run(*command)
    assert ended.code == 2 and len(ended.err.splitlines()) == 1
    since = json.loads((workdir / ".training.lock").read_text())["since"]
    assert ended.err == (
      f"error: {workdir}: process {os.getpid()} on {socket.gethostname()} is at work there (--mode=pretrain, since "
      f"{since}); wait for it, end it, or use another --workdir\n"
    )
    assert [path.name for path in workdir.iterdir()] == [".training.lock"]
    # A model may be scored while it trains. This one has no checkpoint yet, which is another line.
    assert "holds no complete checkpoint" in tiny.run("--mode=evaluate", *command).err
  assert tiny.run(*command).code == 0
  assert not list(workdir.glob(".*.lock"))


def test_what_is_killed_holds_nothing(tmp_path):
  process = subprocess.Popen(
    [sys.executable, "-c", HOLD, str(tmp_path)], env=tiny.environment(), stdout=subprocess.PIPE, text=True
  )
  child = int(process.stdout.readline())
  try:
    with pytest.raises(WorkdirError, match=f"process {process.pid} on "):
      workdir_lock.held(tmp_path, "training", "a test").__enter__()
    process.kill()
    process.wait()
    assert (tmp_path / ".training.lock").is_file()
    with workdir_lock.held(tmp_path, "training", "a test"):
      assert json.loads((tmp_path / ".training.lock").read_text())["pid"] == os.getpid()
    assert not (tmp_path / ".training.lock").exists()
  finally:
    os.kill(child, signal.SIGKILL)


def test_a_file_that_names_a_living_process_is_no_lock(tmp_path):
  """As after a kill, when another process has got the number."""
  facts = {"host": socket.gethostname(), "pid": os.getppid(), "since": "2026-01-01", "doing": "--mode=pretrain"}
  (tmp_path / ".training.lock").write_text(json.dumps(facts))
  with workdir_lock.held(tmp_path, "training", "a test"):
    assert f"process {os.getpid()} on" in refusal(tmp_path)
    assert refusal(tmp_path, "evaluate") == ""


def test_an_unreadable_lock_file(tmp_path):
  with workdir_lock.held(tmp_path, "training", "a test"):
    (tmp_path / ".training.lock").write_text("{")
    assert refusal(tmp_path).startswith(f"{tmp_path}: another process is at work there; wait for it")


def test_a_folder_without_use_is_removed(tmp_path):
  with workdir_lock.held(tmp_path / "new" / "run", "training", "a test"):
    pass
  assert not (tmp_path / "new" / "run").exists()
