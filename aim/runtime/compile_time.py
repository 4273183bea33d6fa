"""Time that this process has spent compiling, and a line for whoever waits for it."""

from __future__ import annotations

import sys
import threading
import time

import jax
from tqdm import tqdm

REPORT_SECONDS = 20  # compiling that takes longer is reported, and again after each such time
# JAX reports the beginning of each as a scalar and its end as a duration. They nest: functions are traced in functions.
_EVENTS = tuple(
  f"/jax/core/compile/{name}_duration" for name in ("jaxpr_trace", "jaxpr_to_mlir_module", "backend_compile")
)


class CompileClock:
  """Adds up the time in which at least one thread traces, lowers or compiles."""

  def __init__(self) -> None:
    self.lock = threading.Lock()
    self.running, self.total, self.since = 0, 0.0, 0.0

  def begin(self, event: str, value: float | int, **kwargs: str | int) -> None:
    if event in _EVENTS:
      with self.lock:
        self.since = self.since if self.running else time.perf_counter()
        self.running += 1

  def end(self, event: str, duration_secs: float, **kwargs: str | int) -> None:
    if event in _EVENTS:
      with self.lock:
        self.running = max(self.running - 1, 0)
        self.total += 0.0 if self.running else time.perf_counter() - self.since

  def seconds(self) -> float:
    """Seconds spent so far, those of a compilation that is under way too."""
    with self.lock:
      return self.total + (time.perf_counter() - self.since if self.running else 0.0)

  def current(self) -> float:
    """Seconds since compiling began, 0 while nothing is compiled."""
    with self.lock:
      return time.perf_counter() - self.since if self.running else 0.0


_clock = CompileClock()
jax.monitoring.register_scalar_listener(_clock.begin)
jax.monitoring.register_event_duration_secs_listener(_clock.end)


def compile_seconds() -> float:
  """Seconds that this process has spent on tracing and compiling since this module was imported; what ran at the same
  time counts once."""
  return _clock.seconds()


def report_slow_compiling() -> None:
  """From now on prints a line to stderr for every REPORT_SECONDS that something is being compiled."""
  threading.Thread(target=_report, daemon=True).start()


def _report() -> None:
  reported = 0
  while True:
    time.sleep(1)
    periods = int(_clock.current() // REPORT_SECONDS)
    if periods > reported:
      tqdm.write(f"compiling: {periods * REPORT_SECONDS} s so far", file=sys.stderr)
    reported = periods
