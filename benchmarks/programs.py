"""Runs programs of this project, kills them, and passes config overrides on to them."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Sequence

from absl import app

# Towers whose steps take milliseconds, and days to train them on.
TINY_TOWERS = {
  f"model.{side}.{key}": value
  for side in ("encoder", "decoder")
  for key, value in {"width": 16, "mlp": 32, "heads": 2, "layers": 1}.items()
}
TINY_RUN = TINY_TOWERS | {
  "data.participants": 20,
  "data.days": 2,
  "batch_size": 4,
  "sizes": 1,
  "optimizer.accumulate": 1,
  "model.patch_minutes": 240,
}


def kill_after(process: subprocess.Popen[bytes], seconds: float) -> None:
  """Kills a process after some seconds unless it has ended by then; AssertionError if it failed of itself."""
  try:
    _, error = process.communicate(timeout=seconds)
    assert process.returncode == 0, error.decode()
  except subprocess.TimeoutExpired:
    process.kill()
    process.communicate()


def run_module(module: str, *arguments: str) -> None:
  """Runs a module of this project; if it fails, this process exits with the same code."""
  done = subprocess.run([sys.executable, "-m", module, *arguments], check=False)
  if done.returncode:
    sys.exit(done.returncode)


def run_main(program: Callable[[Sequence[str]], None]) -> None:
  """absl's app.run, except that --config.key=value arguments are not parsed but given to `program` in argv[1:]."""
  overrides = [arg for arg in sys.argv[1:] if arg.startswith("--config.")]
  app.run(program, [sys.argv[0], *(arg for arg in sys.argv[1:] if arg not in overrides), "--", *overrides])
