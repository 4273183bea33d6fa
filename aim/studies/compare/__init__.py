"""Several models trained and scored on the same people, in one table.

`run` is --mode=compare.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
  from aim.studies.compare.run import compare
  from aim.studies.compare.table import CompareCell

__all__ = [
  "CompareCell",
  "compare",
]

_MODULES = {
  "CompareCell": "table",
  "compare": "run",
}


def __getattr__(name: str) -> Any:
  # Lazy, as in aim.studies.
  if name in _MODULES:
    return getattr(importlib.import_module(f"aim.studies.compare.{_MODULES[name]}"), name)
  raise AttributeError(f"module 'aim.studies.compare' has no attribute {name!r}")
