"""The heap's arenas, counted by glibc itself."""

import ctypes
import os
import subprocess
import sys

import pytest

from tests import tiny

ALLOCATE_IN_THREADS = """
import ctypes, threading
from aim.runtime import heap
heap.share_arenas()
together = threading.Barrier(8)
def allocate():
  together.wait()
  kept = [bytearray(2000) for _ in range(1000)]
  together.wait()
threads = [threading.Thread(target=allocate) for _ in range(8)]
for thread in threads: thread.start()
for thread in threads: thread.join()
ctypes.CDLL(None).malloc_stats()
"""


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallopt"), reason="the C library has no arenas")
@pytest.mark.parametrize(("setting", "most"), [({}, 2), ({"MALLOC_ARENA_MAX": "5"}, 5)])
def test_threads_share_arenas(setting, most):
  environment = {key: value for key, value in os.environ.items() if key != "MALLOC_ARENA_MAX"}
  ended = subprocess.run(
    [sys.executable, "-c", ALLOCATE_IN_THREADS],
    capture_output=True,
    text=True,
    check=True,
    cwd=tiny.ROOT,
    env={**environment, **setting},
  )
  arenas = sum(line.startswith("Arena ") for line in ended.stderr.splitlines())
  assert 2 <= arenas <= most
  assert most == 2 or arenas > 2
