"""Ends a process that has stopped making progress, so that whoever started it can start it again."""

from __future__ import annotations

import faulthandler
import os
import threading
import time
from collections.abc import Callable
from typing import Any

from data_pipelines import streams

EXIT_CODE = 75  # EX_TEMPFAIL in sysexits.h: what failed may succeed when it is tried again
_NOT_SAMPLED = object()


class Watchdog:
  """Ends the process if one step of the work takes longer than it may: prints all stacks, then exits with EXIT_CODE.

  Time in which the process itself stood still (Ctrl-Z, a suspended laptop) does not count. Whenever the value of
  `progress` changes (bytes written of a checkpoint, say), the current wait gets its whole time again.
  """

  def __init__(
    self,
    progress: Callable[[], Any] = lambda: None,
    end: Callable[[int], Any] = os._exit,
    tick_seconds: float = 1.0,
  ):
    """Nothing is watched before the first expect().

    Args:
      progress: returns any value that changes while work is done.
      end: called with EXIT_CODE to end the process.
      tick_seconds: how often to look.
    """
    self._progress, self._end, self._tick_seconds = progress, end, tick_seconds
    self._wake = threading.Condition()
    self._seconds, self._left, self._what = 0.0, 0.0, ""
    self._sample: Any = _NOT_SAMPLED
    self._stopped = False
    self._thread: threading.Thread | None = None

  def expect(self, what: str, seconds: float) -> None:
    """Starts a new wait: `what` must be followed by the next call within `seconds`; 0 waits for ever."""
    with self._wake:
      self._what, self._seconds, self._left, self._sample = what, seconds, seconds, _NOT_SAMPLED
    if seconds and self._thread is None:
      self._thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)
      self._thread.start()
    self._set_backstop()

  def _set_backstop(self) -> None:
    """If the stuck code never releases Python's lock, faulthandler's C thread ends the process later, with code 1."""
    if self._seconds:
      faulthandler.dump_traceback_later(2 * self._seconds + 60, exit=True)
    else:
      faulthandler.cancel_dump_traceback_later()

  def stop(self) -> None:
    """Ends the watch."""
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
        self._wake.wait(self._tick_seconds)
        now = time.monotonic()
        self._left -= min(now - before, 2 * self._tick_seconds)
        before = now
        if self._seconds and not self._stopped and self._left < self._seconds / 2:
          self._check()

  def _check(self) -> None:
    """Samples the progress half way through a wait, and ends the process if it is still the same when time is up."""
    if self._sample is _NOT_SAMPLED:
      self._sample = self._progress()
    if self._left > 0:
      return
    if self._progress() == self._sample:
      self._end_process()
    self._left, self._sample = self._seconds, _NOT_SAMPLED
    self._set_backstop()

  def _end_process(self) -> None:
    streams.report(f"error: {self._what} was not done within {self._seconds:g} s; what each thread is doing:")
    faulthandler.dump_traceback(all_threads=True)
    self._end(EXIT_CODE)
