"""The C library's heap, which grows in long runs if every thread has a part of its own."""

from __future__ import annotations

import ctypes
import os

_M_ARENA_MAX = -8  # of glibc's malloc.h
_ARENAS = 2


def share_arenas() -> None:
  """Lets all threads of this process allocate from two arenas of glibc, instead of eight for every core.

  Each checkpoint is written by other threads. What they free stays in the arena that they happened to use, so that the
  memory of a training creeps upwards for thousands of steps (docs/scale.md). MALLOC_ARENA_MAX, if set, counts instead;
  other C libraries have no such setting.
  """
  mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
  if mallopt is not None and "MALLOC_ARENA_MAX" not in os.environ:
    mallopt(_M_ARENA_MAX, _ARENAS)
