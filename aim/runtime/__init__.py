"""The machine below a run: processes, devices, shardings, compile options, caches, the watchdog.

Nothing here knows what is computed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from aim.runtime.lazy_exports import lazy_getattr

if TYPE_CHECKING:
  from aim.runtime.compile_options import compiler_options
  from aim.runtime.devices import DataSheet, target_platform
  from aim.runtime.processes import (
    ProcessGroup,
    ProcessGroupError,
    StopSignals,
    is_first_process,
    process_index_and_count,
  )
  from aim.runtime.sharding import make_mesh
  from aim.runtime.watchdog import Watchdog

__all__ = [
  "DataSheet",
  "ProcessGroup",
  "ProcessGroupError",
  "StopSignals",
  "Watchdog",
  "compiler_options",
  "is_first_process",
  "make_mesh",
  "process_index_and_count",
  "target_platform",
]

_MODULES = {
  "DataSheet": "devices",
  "ProcessGroup": "processes",
  "ProcessGroupError": "processes",
  "StopSignals": "processes",
  "Watchdog": "watchdog",
  "compiler_options": "compile_options",
  "is_first_process": "processes",
  "make_mesh": "sharding",
  "process_index_and_count": "processes",
  "target_platform": "devices",
}

# Lazy, because importing jax takes seconds, and aim.main imports this room before it checks flags.
__getattr__ = lazy_getattr(__name__, _MODULES)
