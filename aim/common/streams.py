"""Standard input, output and error of a program that may have been started without them."""

from __future__ import annotations

import contextlib
import os
import sys


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


def discard_output() -> None:
  """Sends what is still to be written to standard output to /dev/null, because nobody reads it any more."""
  with contextlib.suppress(OSError, ValueError):
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
