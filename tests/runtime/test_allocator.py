"""The program limits glibc's arenas; a user's own number stays."""

import subprocess
import sys

import pytest

from tests import tiny

# Forty threads that hold some memory at the same time, as small pieces; prints how many arenas glibc made for them.
THREADS = """
import ctypes, ctypes.util, os, re, tempfile, threading
from aim.runtime import allocator
allocator.limit_arenas()
c = ctypes.CDLL(None)
c.malloc.restype = ctypes.c_void_p
barrier = threading.Barrier(40)
def work():
  c.malloc(1000)
  barrier.wait()
threads = [threading.Thread(target=work) for _ in range(40)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
c.fopen.restype = ctypes.c_void_p
with tempfile.NamedTemporaryFile() as file:
  stream = ctypes.c_void_p(c.fopen(file.name.encode(), b"w"))
  c.malloc_info(0, stream)
  c.fclose(stream)
  print(len(re.findall("<heap", open(file.name).read())))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="glibc")
@pytest.mark.parametrize(("given", "most"), [({}, 2), ({"MALLOC_ARENA_MAX": "5"}, 5)])
def test_arenas(given, most):
  environment = {key: value for key, value in tiny.environment().items() if key != "MALLOC_ARENA_MAX"} | given
  done = subprocess.run([sys.executable, "-c", THREADS], cwd=tiny.ROOT, env=environment, capture_output=True, text=True)
  assert done.returncode == 0, done.stderr
  assert int(done.stdout) <= most
  assert given == {} or int(done.stdout) > 2
