"""LSM-2 with AIM: foundation models that learn from incomplete wearable days.

`aim.load(path)` gives a trained model with `.embed(days)` and `.impute(days)`.
"""

from __future__ import annotations

from typing import Any


def __getattr__(name: str) -> Any:
  # Importing jax takes seconds: only who uses the library interface pays for it.
  if name in ("load", "Pretrained"):
    from aim.inference import pretrained

    return getattr(pretrained, name)
  raise AttributeError(f"module 'aim' has no attribute {name!r}")
