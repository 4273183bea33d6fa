"""Day windows: their schema, sources of days, datasets on disk, and the loaders that read them.

This package knows nothing of aim. It re-exports only its errors, the schema and the records of a source, because
aim.main imports it before it parses flags, and the other modules load TFDS or grain, which takes seconds. Those are
imported by their own names: `data_pipelines.build`, `.dataset`, `.loader`, `.npz`, `.splits`, `.statistics`, `.subset`.
`from_frame` and `from_arrays`, which build datasets from what is in memory, are imported when they are first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from data_pipelines.errors import CorruptError, DatasetError, DuplicateError, SchemaError, SplitError, UserError
from data_pipelines.schema import Channel, Schema
from data_pipelines.source import MISSINGNESS_MODES, Day, Event, Label, Person, Source

if TYPE_CHECKING:
  from data_pipelines.in_memory.arrays import from_arrays
  from data_pipelines.in_memory.frames import from_frame

__all__ = [
  "MISSINGNESS_MODES",
  "Channel",
  "CorruptError",
  "DatasetError",
  "Day",
  "DuplicateError",
  "Event",
  "Label",
  "Person",
  "Schema",
  "SchemaError",
  "Source",
  "SplitError",
  "UserError",
  "from_arrays",
  "from_frame",
]

_ON_USE = {"from_arrays": "data_pipelines.in_memory.arrays", "from_frame": "data_pipelines.in_memory.frames"}


def __getattr__(name: str) -> Any:
  if name in _ON_USE:
    return getattr(importlib.import_module(_ON_USE[name]), name)
  raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
