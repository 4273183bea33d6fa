"""Ends a process in which nothing gets done any more, so that whoever started it can start it again."""

from __future__ import annotations

import faulthandler
import os
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

EXIT_CODE = 75  # EX_TEMPFAIL of sysexits.h: what failed may succeed when it is tried again
_TICK = 1.0
_UNSEEN = object()


class Watchdog:
  """Told what is being waited for and for how long that may take; after that long all stacks, then exit code EXIT_CODE.

  Time in which the process itself stood still (Ctrl-Z, a suspended laptop) does not count, and what `progress` returns
  gives the wait its whole time again whenever it has changed: bytes written of a checkpoint, say.
  """

  def __init__(self, progress: Callable[[], Any] = lambda: None, end: Callable[[int], Any] = os._exit):
    self._progress, self._end = progress, end
    self._wake = threading.Condition()
    self._seconds, self._left, self._what = 0.0, 0.0, ""
    self._seen: Any = _UNSEEN
    self._stopped = False
    self._thread: threading.Thread | None = None

  def expect(self, what: str, seconds: float) -> None:
    """From now on `what` is waited for, at most so many seconds; 0: for ever."""
    with self._wake:
      self._what, self._seconds, self._left, self._seen = what, seconds, seconds, _UNSEEN
    if seconds and self._thread is None:
      self._thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)
      self._thread.start()
    self._backstop()

  def _backstop(self) -> None:
    """Should what hangs never let go of Python's lock, C ends it (code 1) some time later."""
    if self._seconds:
      faulthandler.dump_traceback_later(2 * self._seconds + 60, exit=True)
    else:
      faulthandler.cancel_dump_traceback_later()

  def stop(self) -> None:
    with self._wake:
      self._stopped = True
      self._wake.notify()
    faulthandler.cancel_dump_traceback_later()
    if self._thread is not None:
      self._thread.join()

  def _watch(self) -> None:
    with self._wake:
      before = time.monotonic()
      while not self._stopped:
        self._wake.wait(_TICK)
        now = time.monotonic()
        self._left -= min(now - before, 2 * _TICK)
        before = now
        if self._seconds and not self._stopped and self._left < self._seconds / 2:
          self._look()

  def _look(self) -> None:
    """Notes half way what there is, and in the end ends the process if it is the same."""
    if self._seen is _UNSEEN:
      self._seen = self._progress()
    if self._left > 0:
      return
    if self._progress() == self._seen:
      self._bark()
    self._left, self._seen = self._seconds, _UNSEEN
    self._backstop()

  def _bark(self) -> None:
    print(f"error: {self._what} was not done within {self._seconds:g} s; what each thread is doing:", file=sys.stderr)
    sys.stderr.flush()
    faulthandler.dump_traceback(all_threads=True)
    self._end(EXIT_CODE)
