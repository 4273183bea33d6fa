"""Before a run is paid for: what it needs on hardware that is not here, and how it scales.

`preflight` compiles the real step, `scale_out` extrapolates from it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from aim.runtime.lazy_exports import lazy_getattr

if TYPE_CHECKING:
  from aim.planning.collectives import Collective, Roofline
  from aim.planning.planned_run import Plan, Program
  from aim.planning.scaled_step import AnalysedStep, ScaleOutError, SliceEstimate
  from aim.planning.topology import Topology, TopologyError

# The functions preflight and scale_out are left out: their modules have these names.
__all__ = [
  "AnalysedStep",
  "Collective",
  "Plan",
  "Program",
  "Roofline",
  "ScaleOutError",
  "SliceEstimate",
  "Topology",
  "TopologyError",
]

_MODULES = {
  "AnalysedStep": "scaled_step",
  "Collective": "collectives",
  "Plan": "planned_run",
  "Program": "planned_run",
  "Roofline": "collectives",
  "ScaleOutError": "scaled_step",
  "SliceEstimate": "scaled_step",
  "Topology": "topology",
  "TopologyError": "topology",
}

# Lazy, because importing jax takes seconds, and aim.main checks the flags before.
__getattr__ = lazy_getattr(__name__, _MODULES)
