"""Compiled programs on disk: what is damaged is compiled again and replaced."""

import os
import subprocess
import sys

import pytest

from tests import tiny

PROGRAM = """
import jax
from aim.runtime import compile_cache
compile_cache.use()
assert float(jax.jit(lambda x: (x * 3).sum())(jax.numpy.ones(5))) == 15
"""


def run(folder):
  variables = tiny.environment() | {"JAX_COMPILATION_CACHE_DIR": str(folder)}
  done = subprocess.run([sys.executable, "-c", PROGRAM], env=variables, capture_output=True, text=True)
  assert done.returncode == 0, done.stderr
  return done.stderr


@pytest.mark.parametrize(
  "damage", ["flipped", *(pytest.param(damage, marks=pytest.mark.slow) for damage in ("cut", "emptied"))]
)
def test_a_damaged_entry_is_replaced(tmp_path, damage):
  assert run(tmp_path) == ""
  entries = {path: path.read_bytes() for path in (tmp_path / "checked").glob("*-cache")}
  assert entries
  for path, whole in entries.items():
    flipped = bytes([*whole[:100], whole[100] ^ 1, *whole[101:]])
    path.write_bytes({"cut": whole[: len(whole) // 2], "flipped": flipped, "emptied": b""}[damage])
  told = run(tmp_path).splitlines()
  assert told == [f"note: {tmp_path}/checked: a compiled program was damaged; compiled again and replaced"] * len(
    entries
  )
  assert all(len(path.read_bytes()) > 100 for path in entries)
  kept = {path: os.stat(path).st_mtime_ns for path in entries}
  assert run(tmp_path) == ""
  assert kept == {path: os.stat(path).st_mtime_ns for path in entries}
