"""Programs of this project run one after another, with overrides of their config passed on."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Sequence

from absl import app


def run(module: str, *arguments: str) -> None:
  """Runs a module of this project; its failure is ours."""
  done = subprocess.run([sys.executable, "-m", module, *arguments], check=False)
  if done.returncode:
    sys.exit(done.returncode)


def main(program: Callable[[Sequence[str]], None]) -> None:
  """absl's app.run, with --config.key=value arguments in argv[1:]: they are passed on, not parsed here."""
  passed = [arg for arg in sys.argv[1:] if arg.startswith("--config.")]
  app.run(program, [sys.argv[0], *(arg for arg in sys.argv[1:] if arg not in passed), "--", *passed])
