"""The watchdog of training: it ends what hangs, and lets be what goes on."""

import itertools
import threading

import pytest

from aim.runtime import watchdog
from aim.runtime.watchdog import Watchdog


@pytest.fixture(autouse=True)
def fast(monkeypatch):
  monkeypatch.setattr(watchdog, "_TICK", 0.01)


def watched(progress=lambda: None):
  """A watchdog, and the event that its end of the process is here; its list has the exit code."""
  ended, codes = threading.Event(), []
  return Watchdog(progress, lambda code: (codes.append(code), ended.set())), ended, codes


def test_what_is_not_done_ends_the_process_with_all_stacks(capfd):
  dog, ended, codes = watched()
  dog.expect("step 7", 0.05)
  assert ended.wait(5)
  dog.stop()
  assert codes[0] == watchdog.EXIT_CODE == 75
  err = capfd.readouterr().err
  assert "error: step 7 was not done within 0.05 s; what each thread is doing:" in err
  assert "test_what_is_not_done_ends" in err and err.count("hread 0x") >= 2


@pytest.mark.parametrize("seconds", [0.0, 60.0])
def test_time_that_is_not_over_or_without_end(seconds):
  dog, ended, _ = watched()
  dog.expect("compiling", 0.2)
  dog.expect("step 1", seconds)
  assert not ended.wait(0.4)
  dog.stop()


def test_what_is_done_in_time_again_and_again():
  dog, ended, _ = watched()
  for step in range(20):
    dog.expect(f"step {step}", 0.3)
    assert not ended.wait(0.02)
  dog.stop()
  assert not ended.wait(0.4)


def test_progress_gives_the_time_again():
  counter = itertools.count()
  dog, ended, _ = watched(lambda: min(next(counter), 12))
  dog.expect("the save", 0.1)
  assert not ended.wait(0.4)
  assert ended.wait(5)
  dog.stop()
