"""Day windows: their schema, sources of days, datasets on disk, and the loaders that read them.

This package knows nothing of aim. It re-exports only its errors, the schema and the records of a source, because
aim.main imports it before it parses flags, and the other modules load TFDS or grain, which takes seconds. Those are
imported by their own names: `data_pipelines.build`, `.dataset`, `.loader`, `.npz`, `.splits`, `.statistics`, `.subset`.
"""

from data_pipelines.errors import CorruptError, DatasetError, DuplicateError, SchemaError, SplitError, UserError
from data_pipelines.schema import Channel, Schema
from data_pipelines.source import MISSINGNESS_MODES, Day, Event, Label, Person, Source

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
]
