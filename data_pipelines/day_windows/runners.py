"""Runners, which decide where the shards of a dataset are written.

The choices are this process, several processes of this machine, and, in day_windows/beam.py, a cluster.
"""

from __future__ import annotations

import concurrent.futures
import concurrent.futures.process
import multiprocessing
from collections.abc import Iterator, Sequence
from typing import Protocol

from data_pipelines.day_windows.shards import ReportDays, Shard, ShardWriter, WrittenShard
from data_pipelines.errors import DatasetError

AHEAD = 2  # shards per process that may be started before the first unfinished one is done


class Runner(Protocol):
  """Writes shards and yields what is known about each, in the order of the shards."""

  def __call__(
    self, write_shard: ShardWriter, shards: Sequence[Shard], report_days: ReportDays
  ) -> Iterator[WrittenShard]: ...


def in_this_process(
  write_shard: ShardWriter, shards: Sequence[Shard], report_days: ReportDays
) -> Iterator[WrittenShard]:
  """The runner that writes one shard after the other in this process."""
  for shard in shards:
    yield write_shard(shard, report_days)


class Processes:
  """The runner that writes with several processes of this machine.

  The processes are spawned, so a script that uses them needs `if __name__ == "__main__"`.
  """

  def __init__(self, workers: int):
    """Takes the number of processes."""
    self._workers = workers

  def __call__(
    self, write_shard: ShardWriter, shards: Sequence[Shard], report_days: ReportDays
  ) -> Iterator[WrittenShard]:
    """Writes the shards.

    Raises:
      DatasetError: a worker process died.
    """
    workers = min(self._workers, len(shards))
    if workers < 2:
      yield from in_this_process(write_shard, shards, report_days)
      return
    spawn = multiprocessing.get_context("spawn")
    pool = concurrent.futures.ProcessPoolExecutor(workers, spawn, _start_worker, (write_shard,))
    try:
      for written in _in_order(pool, shards, AHEAD * workers):
        report_days(written.days)
        yield written
    except concurrent.futures.process.BrokenProcessPool:
      raise DatasetError("a worker process died, perhaps for lack of memory; try fewer --workers") from None
    finally:
      pool.shutdown(cancel_futures=True)


def _in_order(
  pool: concurrent.futures.ProcessPoolExecutor, shards: Sequence[Shard], ahead: int
) -> Iterator[WrittenShard]:
  """Yields results in order; at most `ahead` are pending, because finished ones wait in memory for earlier ones."""
  pending: list[concurrent.futures.Future[WrittenShard]] = []
  for shard in shards:
    if len(pending) == ahead:
      yield pending.pop(0).result()
    pending.append(pool.submit(_write, shard))
  for future in pending:
    yield future.result()


_shard_writer: ShardWriter  # set once per worker process, so that it is unpickled once


def _start_worker(write_shard: ShardWriter) -> None:
  global _shard_writer
  _shard_writer = write_shard


def _write(shard: Shard) -> WrittenShard:
  return _shard_writer(shard)
