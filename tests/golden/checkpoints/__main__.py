"""Adds the golden checkpoints of the version in setup.py: python -m tests.golden.checkpoints"""

import os
import re

os.environ["XLA_FLAGS"] = "--xla_backend_optimization_level=0"  # compiles in half the time

import jax

jax.config.update("jax_platforms", "cpu")

from tests import tiny  # noqa: E402 after the platform is set
from tests.golden import checkpoints  # noqa: E402

(release,) = re.findall(r'version="(.*)"', (tiny.ROOT / "setup.py").read_text())
for path in checkpoints.add(release):
  print(f"{path.relative_to(tiny.ROOT)}: {path.stat().st_size:,} bytes")
