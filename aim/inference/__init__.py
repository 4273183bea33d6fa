"""A trained model in use: `aim.load` returns a `Pretrained`, which embeds, imputes and reconstructs days.

Nothing here trains.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
  from aim.inference.pretrained import EncodedTokens, Pretrained, load
  from aim.inference.window_embeddings import embed_windows, sums_by_time

__all__ = ["EncodedTokens", "Pretrained", "embed_windows", "load", "sums_by_time"]

_MODULES = {"embed_windows": "window_embeddings", "sums_by_time": "window_embeddings"}


def __getattr__(name: str) -> Any:
  # Loaded on first use: configs import aim.inference.defaults while flags are parsed, and jax takes seconds.
  if name in __all__:
    return getattr(importlib.import_module(f"aim.inference.{_MODULES.get(name, 'pretrained')}"), name)
  raise AttributeError(f"module 'aim.inference' has no attribute {name!r}")
