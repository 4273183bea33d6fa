"""The C library's memory allocator, kept from growing without end in a process that starts many threads."""

from __future__ import annotations

import ctypes
import os
import sys

_M_ARENA_MAX = -8  # of mallopt, in glibc's malloc.h
_ARENAS = 2


def limit_arenas() -> None:
  """Lets glibc keep two pools of freed memory instead of eight per core, unless MALLOC_ARENA_MAX says how many.

  Every save of a checkpoint and every reader starts threads, and memory freed in a thread's pool is not given to
  others: in a training of 2,000 tiny steps, what is held grew by 2.6 %, and by 0.1 % with two pools
  (benchmarks/memory.py). Arrays are larger than pools serve and are not affected. Other C libraries have no such pools.
  """
  if sys.platform != "linux" or "MALLOC_ARENA_MAX" in os.environ:
    return
  mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
  if mallopt is not None:
    mallopt(_M_ARENA_MAX, _ARENAS)
