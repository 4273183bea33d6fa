"""Standard input, output and error of programs, and how programs end: with one line for what the user can mend.

A program may be started without these streams, and whoever reads them may be gone before it ends. That must neither
change an exit code nor keep a process alive.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import signal
import sys
import traceback
from collections.abc import Callable
from typing import TextIO

from absl import flags

from data_pipelines.errors import UserError

# What parsers of flags say, and what it means.
_PARSERS = {
  r"invalid literal for int\(\) with base 10: .*": "expected a whole number",
  r"could not convert string to float: .*": "expected a number",
  r"\('Non-boolean argument to boolean flag', .*\)": "expected true or false",
}


def exit_code(program: Callable[[], object], interrupted: str = "interrupted") -> int:
  """Runs a program and returns its exit code; SystemExit passes through.

  A mistake that the user can mend ends as one line on standard error and 2, as do a full disk and a standard output
  that nobody reads any more; an interrupt ends in 130, and any other exception, with its traceback, in 1.

  Args:
    program: what to run; what it returns is ignored.
    interrupted: the line for an interrupt.
  """
  open_closed_streams()
  _print_every_character()
  try:
    program()
    sys.stdout.flush()  # so that a full disk is noticed here
  except BrokenPipeError:  # as in `... | head`
    _discard(sys.stdout)
    return _fail("standard output was closed before the end")
  except (UserError, flags.Error) as error:
    return _fail(in_words(error))
  except OSError as error:  # a folder that cannot be written, a full disk
    return _fail(": ".join(str(part) for part in (error.filename, error.strerror) if part) or str(error))
  except KeyboardInterrupt:
    report(interrupted)
    return 128 + signal.SIGINT
  except Exception:
    report(traceback.format_exc().rstrip())
    return 1
  return 0


def in_words(error: Exception) -> str:
  """The text of an error; where a flag's value is no number or truth value, what was expected in plain words."""
  text = str(error)
  for pattern, expected in _PARSERS.items():
    text = re.sub(pattern, expected, text)
  return text


def _fail(message: str) -> int:
  report(f"error: {' '.join(message.split())}")
  return 2


def open_closed_streams() -> None:
  """Opens /dev/null where a standard stream is closed, as after `2>&-` in a shell.

  Otherwise the next file that the program opens would take the stream's number, and what a library writes to the
  error stream would end up in it.
  """
  for number in range(3):
    try:
      os.fstat(number)
    except OSError:
      os.open(os.devnull, os.O_RDWR)  # gets the lowest free number
  for name in ("stdout", "stderr"):
    if getattr(sys, name) is None:
      setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115


def _print_every_character() -> None:
  """Lets standard output and error write "\\xe9" for what their encoding lacks, instead of failing.

  Names of people, files and channels may have any character, and a terminal or a log may be ASCII.
  """
  for stream in (sys.stdout, sys.stderr):
    if isinstance(stream, io.TextIOWrapper) and stream.errors == "strict":
      stream.reconfigure(errors="backslashreplace")


def report(text: str) -> None:
  """Prints to standard error at once; the text is lost if nobody reads it any more."""
  try:
    print(text, file=sys.stderr, flush=True)
  except (OSError, ValueError):
    _discard(sys.stderr)


def flush_all() -> None:
  """Writes what standard output and error still hold, or discards it where that is no longer possible."""
  for stream in (sys.stdout, sys.stderr):
    try:
      stream.flush()
    except (OSError, ValueError):
      _discard(stream)


def _discard(stream: TextIO) -> None:
  """Sends what is still to be written to a stream to /dev/null, because nobody reads it any more."""
  with contextlib.suppress(OSError, ValueError):
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
