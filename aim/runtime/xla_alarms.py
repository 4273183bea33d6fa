"""Keeps XLA's alarms about slow compiling off the terminal; everything else that it writes there is passed on.

XLA logs "Very slow compile? If you want to file a bug ..." and "Constant folding an instruction is taking > 1s" as
errors of slow_operation_alarm.cc, a page each, and has no option to leave them out: TF_CPP_MIN_LOG_LEVEL=3 would hide
real errors too. So stderr of compiled code goes through a process of its own, which drops these records. It is a
process and not a thread, because it must still pass on the last words of a program that XLA aborts. Python's stderr
does not go through it.
"""

from __future__ import annotations

import atexit
import contextlib
import io
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterable, Iterator

_FIRST = re.compile(rb"slow_operation_alarm\.cc:\d+\]")
# What the lines after the first are made of: an empty line, asterisks, the instruction, and these sentences.
_MORE = re.compile(
  rb"\s*$|\*{8,}\s*$|  \S.*|\[Compiling module .*|Very slow compile\?.*|Constant folding an instruction is taking .*"
  rb"|This isn't necessarily a bug.*|If you'd like to file a bug.*|The operation took .*"
)


def hide_alarms() -> None:
  """Takes XLA's alarms out of what this process and its children write to file descriptor 2, from now on.

  Nothing changes where stderr is closed or no process can be started.
  """
  if sys.stderr is None:  # descriptor 2 may then be any other file
    return
  try:
    stderr = os.dup(2)
  except OSError:
    return
  reader, writer = os.pipe()
  try:
    # A session of its own, so that Ctrl-C does not end it before this process has said its last word.
    command = [sys.executable, "-I", "-S", __file__]
    child = subprocess.Popen(command, stdin=reader, stdout=stderr, stderr=stderr, start_new_session=True)
  except OSError:
    os.close(stderr)
    os.close(writer)
    return
  finally:
    os.close(reader)
  sys.stderr.flush()
  os.dup2(writer, 2)
  os.close(writer)
  sys.stderr = io.TextIOWrapper(
    os.fdopen(stderr, "wb", buffering=0), encoding=sys.stderr.encoding, errors="backslashreplace", write_through=True
  )
  atexit.register(_restore, stderr, child)


def _restore(stderr: int, child: subprocess.Popen[bytes]) -> None:
  """Lets the process end, and waits until it has written what was left."""
  os.dup2(stderr, 2)
  with contextlib.suppress(subprocess.TimeoutExpired):  # a process that was started here may still hold the pipe
    child.wait(timeout=2)


def without_alarms(lines: Iterable[bytes]) -> Iterator[bytes]:
  """The lines that do not belong to an alarm."""
  in_alarm = False
  for line in lines:
    in_alarm = bool(_FIRST.search(line) or (in_alarm and _MORE.match(line)))
    if not in_alarm:
      yield line


def main() -> None:
  """Copies standard input to standard output without alarms, until whoever writes is gone."""
  for name in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
    signal.signal(name, signal.SIG_IGN)
  for line in without_alarms(iter(sys.stdin.buffer.readline, b"")):
    sys.stdout.buffer.write(line)
    sys.stdout.buffer.flush()


if __name__ == "__main__":
  main()
