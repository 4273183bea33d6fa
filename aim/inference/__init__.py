"""A trained model in use: `aim.load` returns a `Pretrained`, which embeds, imputes and reconstructs days.

Nothing here trains.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from aim.runtime.lazy_exports import lazy_getattr

if TYPE_CHECKING:
  from aim.inference.day_functions import EncodedTokens
  from aim.inference.loading import load
  from aim.inference.pretrained import Pretrained
  from aim.inference.window_embeddings import embed_windows, sums_by_time

__all__ = ["EncodedTokens", "Pretrained", "embed_windows", "load", "sums_by_time"]

_MODULES = {
  "EncodedTokens": "day_functions",
  "Pretrained": "pretrained",
  "embed_windows": "window_embeddings",
  "load": "loading",
  "sums_by_time": "window_embeddings",
}

# Lazy, because configs import aim.inference.defaults while flags are parsed, and importing jax takes seconds.
__getattr__ = lazy_getattr(__name__, _MODULES)
