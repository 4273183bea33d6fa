"""Held-out loss against people, hours, parameters and compute, and the power laws that fit it.

`run` is --mode=scaling.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
  from aim.studies.scaling.curves import Curve
  from aim.studies.scaling.points import ScalingCell, ScalingPoint
  from aim.studies.scaling.power_law import Power
  from aim.studies.scaling.run import scaling

__all__ = [
  "Curve",
  "Power",
  "ScalingCell",
  "ScalingPoint",
  "scaling",
]

_MODULES = {
  "Curve": "curves",
  "Power": "power_law",
  "ScalingCell": "points",
  "ScalingPoint": "points",
  "scaling": "run",
}


def __getattr__(name: str) -> Any:
  # Lazy, as in aim.studies.
  if name in _MODULES:
    return getattr(importlib.import_module(f"aim.studies.scaling.{_MODULES[name]}"), name)
  raise AttributeError(f"module 'aim.studies.scaling' has no attribute {name!r}")
