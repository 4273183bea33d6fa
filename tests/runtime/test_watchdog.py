"""The watchdog ends a process that hangs, and no other."""

import itertools
import threading

import pytest

from aim.runtime import watchdog
from aim.runtime.watchdog import Watchdog


def watched(progress=lambda: None):
  """A watchdog that sets an event instead of ending the process, that event, and the list of exit codes."""
  ended, codes = threading.Event(), []
  return Watchdog(progress, lambda code: (codes.append(code), ended.set()), tick_seconds=0.01), ended, codes


def test_a_step_that_takes_too_long_ends_the_process_with_all_stacks(capfd):
  dog, ended, codes = watched()
  dog.expect("step 7", 0.05)
  assert ended.wait(5)
  dog.stop()
  assert codes[0] == watchdog.EXIT_CODE == 75
  err = capfd.readouterr().err
  assert "error: step 7 was not done within 0.05 s; what each thread is doing:" in err
  assert "test_a_step_that_takes_too_long" in err and err.count("hread 0x") >= 2


@pytest.mark.parametrize("seconds", [0.0, 60.0])
def test_a_new_wait_replaces_the_old_one_and_0_waits_for_ever(seconds):
  dog, ended, _ = watched()
  dog.expect("compiling", 0.2)
  dog.expect("step 1", seconds)
  assert not ended.wait(0.4)
  dog.stop()


def test_steps_that_are_done_in_time_never_end_the_process():
  dog, ended, _ = watched()
  for step in range(20):
    dog.expect(f"step {step}", 0.3)
    assert not ended.wait(0.02)
  dog.stop()
  assert not ended.wait(0.4)


def test_progress_restarts_the_wait():
  counter = itertools.count()
  dog, ended, _ = watched(lambda: min(next(counter), 12))
  dog.expect("the save", 0.1)
  assert not ended.wait(0.4)
  assert ended.wait(5)
  dog.stop()
