"""One run at a time in a workdir: a lock that names its holder and vanishes with it.

The kernel holds the lock on a file of the workdir for the process; that the file exists means nothing. A process that
is killed leaves the file behind, but not the lock, whatever process has its number by then.
"""

from __future__ import annotations

import contextlib
import datetime
import errno
import fcntl
import json
import os
import pathlib
import socket
from collections.abc import Iterator
from typing import IO

from aim.runtime import processes
from data_pipelines.errors import UserError
from data_pipelines.text_files import parse_json_object

# What a file system answers that has no locks.
_WITHOUT_LOCKS = (errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS)

_MOST_FACTS = 10_000  # characters about the process that holds a lock


class WorkdirError(UserError):
  """The workdir cannot be used: another process works there, or it cannot be written."""


@contextlib.contextmanager
def held(workdir: pathlib.Path, name: str, doing: str) -> Iterator[None]:
  """Holds the lock `name` of a workdir, which is made if there is none; of a run's processes the first one holds it.

  Args:
    workdir: a folder on a file system of this machine.
    name: runs that hold locks of different names may work beside each other.
    doing: what the process does, for the message that another one gets.

  Raises:
    WorkdirError: another process holds it, or the workdir cannot be written; raised on all processes of this run.
  """
  file, refusal, made = None, None, not workdir.exists()
  if processes.is_first_process():
    try:
      workdir.mkdir(parents=True, exist_ok=True)
      file, refusal = _locked(workdir / f".{name}.lock", doing)
    except OSError as error:
      refusal = f"--workdir={workdir}: cannot write to {workdir}: {error.strerror}"
  # All processes have to end alike: one that waits for a first process that has given up would report it as lost.
  for reason in processes.gather(refusal):
    if reason is not None:
      raise WorkdirError(reason)
  try:
    yield
  finally:
    if file is not None:
      with contextlib.suppress(OSError):
        os.unlink(file.name)  # before the lock is gone, so that it is nobody else's
      file.close()
    if made:
      with contextlib.suppress(OSError):
        workdir.rmdir()  # if the run left nothing there


def _locked(path: pathlib.Path, doing: str) -> tuple[IO[str] | None, str | None]:
  """The open, locked file, or why it cannot be locked; neither on a file system without locks, which is printed."""
  while True:
    file = path.open("a+")
    try:
      # Not lockf, whose lock is gone as soon as anything in this process, such as a copy, has read the file.
      fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
      with file:
        if error.errno in _WITHOUT_LOCKS:
          print(f"note: {path.parent} is on a file system without locks: nothing keeps two runs there apart")
          return None, None
        if error.errno not in (errno.EACCES, errno.EAGAIN):
          raise
        return None, f"{path.parent}: {_holder(file)}; wait for it, end it, or use another --workdir"
    try:
      current = os.fstat(file.fileno()).st_ino == path.stat().st_ino
    except FileNotFoundError:
      current = False
    if current:
      break
    file.close()  # its holder has just removed it
  file.truncate(0)
  since = datetime.datetime.now().astimezone().isoformat(" ", "seconds")
  json.dump({"host": socket.gethostname(), "pid": os.getpid(), "since": since, "doing": doing}, file)
  file.flush()
  return file, None


def _holder(file: IO[str]) -> str:
  try:
    file.seek(0)
    facts = parse_json_object(file.read(_MOST_FACTS), file.name)
    return f"process {facts['pid']} on {facts['host']} is at work there ({facts['doing']}, since {facts['since']})"
  except (ValueError, KeyError):  # it is just about to write them
    return "another process is at work there"
