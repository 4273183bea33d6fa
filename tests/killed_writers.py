"""Processes that are in the middle of writing, for tests of what killed ones leave behind and living ones keep."""

from __future__ import annotations

import contextlib
import pathlib
import subprocess
import sys
from collections.abc import Iterator

from tests import tiny


def kill(process: subprocess.Popen[str]) -> None:
  """Kills a process and waits until it is no more."""
  process.kill()
  process.wait()


@contextlib.contextmanager
def two_writers(folder: pathlib.Path, code: str) -> Iterator[list[subprocess.Popen[str]]]:
  """Two processes that have run `code` in a folder and wait in its last block until they are killed.

  Args:
    folder: where they run.
    code: its last line is in a block, indented by two spaces.
  """
  code = f"import pathlib, time\n{code}\n  print('ready', flush=True)\n  time.sleep(600)\n"
  processes = [
    subprocess.Popen(
      [sys.executable, "-c", code], cwd=folder, stdout=subprocess.PIPE, text=True, env=tiny.environment()
    )
    for _ in range(2)
  ]
  try:
    assert all(process.stdout and process.stdout.readline() == "ready\n" for process in processes)
    yield processes
  finally:
    for process in processes:
      kill(process)
