"""Who writes the shards of a dataset: this process, several on this machine, or (data_pipelines.beam) a cluster."""

from __future__ import annotations

import concurrent.futures
import concurrent.futures.process
import multiprocessing
from collections.abc import Iterator, Sequence
from typing import Protocol

from data_pipelines.day_windows.shards import Shard, Tell, Work, Written
from data_pipelines.errors import DatasetError

AHEAD = 2  # shards that each process may be ahead of the first unfinished one


class Runner(Protocol):
  """Writes shards, and gives what is known of each, in their order."""

  def __call__(self, work: Work, shards: Sequence[Shard], tell: Tell) -> Iterator[Written]: ...


def here(work: Work, shards: Sequence[Shard], tell: Tell) -> Iterator[Written]:
  """One after the other."""
  for shard in shards:
    yield work(shard, tell)


class Processes:
  """In `workers` processes of this machine. They are spawned: a script needs `if __name__ == "__main__"`."""

  def __init__(self, workers: int):
    self._workers = workers

  def __call__(self, work: Work, shards: Sequence[Shard], tell: Tell) -> Iterator[Written]:
    workers = min(self._workers, len(shards))
    if workers < 2:
      yield from here(work, shards, tell)
      return
    spawn = multiprocessing.get_context("spawn")
    pool = concurrent.futures.ProcessPoolExecutor(workers, spawn, _begin, (work,))
    try:
      for written in _in_order(pool, shards, AHEAD * workers):
        tell(written.days)
        yield written
    except concurrent.futures.process.BrokenProcessPool:
      raise DatasetError("a worker process died; perhaps of want of memory: try fewer --workers") from None
    finally:
      pool.shutdown(cancel_futures=True)


def _in_order(pool: concurrent.futures.ProcessPoolExecutor, shards: Sequence[Shard], ahead: int) -> Iterator[Written]:
  """Results wait for those before them, so only so many are asked for."""
  waiting: list[concurrent.futures.Future[Written]] = []
  for shard in shards:
    if len(waiting) == ahead:
      yield waiting.pop(0).result()
    waiting.append(pool.submit(_write, shard))
  for each in waiting:
    yield each.result()


_work: Work  # of this worker process, unpickled once


def _begin(work: Work) -> None:
  global _work
  _work = work


def _write(shard: Shard) -> Written:
  return _work(shard)
