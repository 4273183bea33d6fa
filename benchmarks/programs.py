"""Runs programs of this project one after another and passes config overrides on to them."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Sequence

from absl import app


def run_module(module: str, *arguments: str) -> None:
  """Runs a module of this project; if it fails, this process exits with the same code."""
  done = subprocess.run([sys.executable, "-m", module, *arguments], check=False)
  if done.returncode:
    sys.exit(done.returncode)


def run_main(program: Callable[[Sequence[str]], None]) -> None:
  """absl's app.run, except that --config.key=value arguments are not parsed but given to `program` in argv[1:]."""
  overrides = [arg for arg in sys.argv[1:] if arg.startswith("--config.")]
  app.run(program, [sys.argv[0], *(arg for arg in sys.argv[1:] if arg not in overrides), "--", *overrides])
