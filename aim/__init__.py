"""LSM-2 with AIM: foundation models that learn from incomplete wearable days.

`aim.load(path)` loads a trained model, and `aim.weights.names()` are those that are shipped; docs/python.md shows what
a model does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from aim import weights

if TYPE_CHECKING:
  from aim.inference.loading import load
  from aim.inference.pretrained import Pretrained

__all__ = ["Pretrained", "load", "weights"]


if not TYPE_CHECKING:  # a type checker must see that aim has no other names

  def __getattr__(name: str) -> Any:
    # Importing jax takes seconds, which only users of these names should pay for.
    if name in __all__:
      from aim import inference

      return getattr(inference, name)
    raise AttributeError(f"module 'aim' has no attribute {name!r}")


def __dir__() -> list[str]:
  return sorted(__all__)
