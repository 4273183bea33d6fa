"""The time spent on compiling is measured, reported while it lasts, and not extrapolated by progress bars."""

from __future__ import annotations

import concurrent.futures
import time

import jax
import jax.numpy as jnp
import pytest

from aim.common import progress
from aim.runtime import compile_time

START, END = "begin", "end"


@pytest.fixture
def clock(monkeypatch):
  """A clock of its own, at a time of the test's choice."""
  fresh = compile_time.CompileClock()
  now = [0.0]
  monkeypatch.setattr(compile_time.time, "perf_counter", lambda: now[0])
  fresh.now = now
  return fresh


def test_nested_and_parallel_compiling_counts_once(clock):
  event = "/jax/core/compile/backend_compile_duration"
  for moment, begins in ((0, True), (1, True), (3, False), (4, False), (10, True), (12, False)):
    clock.now[0] = moment
    if begins:
      clock.begin(event, 0.0)
    else:
      clock.end(event, 0.0)
  clock.begin("/jax/something_else", 0.0)
  assert clock.seconds() == 4 + 2 and clock.current() == 0
  clock.now[0] = 20
  clock.begin(event, 0.0)
  clock.now[0] = 23
  assert clock.seconds() == 4 + 2 + 3 and clock.current() == 3


def test_real_compiling_is_measured():
  began, before = time.perf_counter(), compile_time.compile_seconds()
  compile_slowly = lambda n: jax.jit(lambda x: jnp.sin(x) * n).lower(1.0).compile()
  with concurrent.futures.ThreadPoolExecutor(2) as pool:
    list(pool.map(compile_slowly, (2.0, 3.0)))
  assert 0 < compile_time.compile_seconds() - before <= time.perf_counter() - began


def test_the_estimate_of_a_bar_leaves_compiling_out(monkeypatch):
  compiled = [0.0]
  monkeypatch.setattr(progress, "compile_seconds", lambda: compiled[0])
  for of_compiling, slowest in ((False, 2.0), (True, 1e9)):
    compiled[0] = 0.0
    bar = progress.progress_bar(100, "evaluate", "day", of_compiling=of_compiling)
    bar.mininterval, bar.miniters = 0, 1
    now = bar._time()
    bar._time = lambda: now  # noqa: B023
    bar.start_t = bar.last_print_t = now
    now, compiled[0] = now + 101, 100.0  # a hundred seconds of compiling, one of work
    bar.update(1)
    now += 1
    bar.update(1)
    seconds_per_day = 1 / bar.format_dict["rate"]
    assert seconds_per_day < slowest and (seconds_per_day > 10) == of_compiling
    bar.close()
