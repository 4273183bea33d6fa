"""Held-out loss against people, hours, parameters and compute, and the power laws that fit it.

`run` is --mode=scaling.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from aim.runtime.lazy_exports import lazy_getattr

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

# Lazy, as in aim.studies.
__getattr__ = lazy_getattr(__name__, _MODULES)
