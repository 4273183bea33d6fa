"""The runner that works with several processes of this machine."""

from __future__ import annotations

import concurrent.futures
import concurrent.futures.process
import contextlib
import multiprocessing
import os
import pickle
import signal
import threading
from collections.abc import Generator, Iterator, Sequence
from typing import Any

from data_pipelines.errors import DatasetError
from data_pipelines.runners.runner import Item, Report, Result, Work, counted, in_this_process

AHEAD = 2  # items per process that may be started before the first unfinished one is done


class Processes:
  """A `Runner` that works with several processes of this machine.

  The processes are spawned, so a script that uses them needs `if __name__ == "__main__"`.
  """

  def __init__(self, workers: int):
    """Takes the number of processes."""
    self._workers = workers

  def __call__(self, work: Work[Item, Result], items: Sequence[Item], report: Report) -> Generator[Result]:
    """Does the work.

    Raises:
      DatasetError: a worker process died.
    """
    workers = min(self._workers, len(items))
    if workers < 2:
      yield from in_this_process(work, items, report)
      return
    spawn = multiprocessing.get_context("spawn")
    pool = concurrent.futures.ProcessPoolExecutor(workers, spawn, _start_worker, (work,))
    try:
      for result, amount in _in_order(pool, items, AHEAD * workers):
        report(amount)
        yield result
    except concurrent.futures.process.BrokenProcessPool:
      raise DatasetError("a worker process died, perhaps for lack of memory; try fewer --workers") from None
    finally:
      pool.shutdown(cancel_futures=True)


def _in_order(pool: concurrent.futures.ProcessPoolExecutor, items: Sequence[Any], ahead: int) -> Iterator[Any]:
  """Yields results in order; at most `ahead` are pending, because finished ones wait in memory for earlier ones."""
  pending: list[concurrent.futures.Future[Any]] = []
  for item in items:
    if len(pending) == ahead:
      yield pending.pop(0).result()
    packed = pickle.dumps(item)
    with _without_interrupts():  # submitting starts processes, which inherit this
      pending.append(pool.submit(_work_on, packed))
  for future in pending:
    yield future.result()


@contextlib.contextmanager
def _without_interrupts() -> Iterator[None]:
  """Keeps Ctrl-C, which a terminal sends to all processes, from those that are started: this one ends them."""
  before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
  try:
    yield
  finally:
    signal.pthread_sigmask(signal.SIG_SETMASK, before)


_work: Work[Any, Any]  # set once per worker process, so that it is unpickled once


def _start_worker(work: Work[Any, Any]) -> None:
  global _work
  _work = work
  threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
  """Ends this process when its parent was killed, because the same command may already be running again."""
  if parent := multiprocessing.parent_process():
    parent.join()
    os._exit(1)


def _work_on(item: bytes) -> tuple[Any, int]:
  """Works on a pickled item, which is unpickled here so that what fails then is an error like others."""
  return counted(_work, pickle.loads(item))
