"""Days of one's own, from an export of a device, an npz file or a dataset, in memory and in their own channels."""

from __future__ import annotations

import dataclasses
import pathlib
import tempfile
from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float32, Int, Shaped

from data_pipelines import npz
from data_pipelines.dataset import Dataset
from data_pipelines.day_windows.missing_codes import code_notes
from data_pipelines.ingest import account_summary
from data_pipelines.ingest.imported_source import ImportedSource
from data_pipelines.ingest.importers import IMPORTERS
from data_pipelines.ingest.options import ImportOptions
from data_pipelines.ingest.reading.input_files import ExportSet, detect_importers
from data_pipelines.schema import Schema, SchemaError
from data_pipelines.splits import SPLITS

# A day of which less is recorded has next to nothing to say; datasets for training need more (source.MAX_MISSING).
MAX_MISSING = 0.95


@dataclasses.dataclass(frozen=True)
class OwnDays:
  """Days and where they come from; row d of every array is one day.

  Attributes:
    origin: what was read, in a few words.
    schema: clock and channels.
    values: in physical units, NaN where missing.
    participant: str, ids of the people.
    day: day numbers, each once per person.
    date: str, ISO dates, "" where unknown.
    notes: what was left out or guessed, a line each.
    npz: the npz file that they are from, or "".
  """

  origin: str
  schema: Schema
  values: Float32[np.ndarray, "days steps channels"]
  participant: Shaped[np.ndarray, " days"]
  day: Int[np.ndarray, " days"]
  date: Shaped[np.ndarray, " days"]
  notes: tuple[str, ...] = ()
  npz: str = ""

  def where(self, kept: Bool[np.ndarray, " days"], note: str) -> OwnDays:
    """These days without some of them; `note` says why they are left out."""
    arrays = {name: getattr(self, name)[kept] for name in ("values", "participant", "day", "date")}
    return dataclasses.replace(self, **arrays, notes=(*self.notes, note))

  def arrays(self) -> dict[str, np.ndarray]:
    """The days in the project's npz layout."""
    of_channels = {
      name: np.array([getattr(channel, name) for channel in self.schema.channels], str)
      for name in ("unit", "sensor", "kind")
    }
    return {
      "values": self.values,
      "channels": np.array(self.schema.names),
      "participant": self.participant,
      "day": self.day,
      "date": self.date,
      "minutes_per_step": np.array(self.schema.minutes_per_step),
      **of_channels,
    }


def read(path: str, source: str, timezone: str | None, minutes_per_step: int) -> OwnDays:
  """Reads an npz file of days, or an export of a device, of which nothing stays on the disk.

  Args:
    path: the file, or the export: a folder, a zip or a single file.
    source: name of an importer, or "auto".
    timezone: IANA zone of people whose export has only UTC times; None if no reading needs one.
    minutes_per_step: clock that an export is brought on.

  Raises:
    SchemaError: the input cannot be used.
  """
  if path.endswith(".npz"):
    days = npz.read_days(path, allow_empty_days=True)
    if "filled" in days.original:
      raise SchemaError(f"{path}: has the key 'filled', so its missing values are filled already")
    notes = (*days.notes, *code_notes(days.schema, days.values))
    arrays = days.values, days.participant, np.asarray(days.day, np.int64), days.date
    return _in_order(OwnDays(pathlib.Path(path).name, days.schema, *arrays, notes, path))
  if source != "auto" and source not in IMPORTERS:
    raise SchemaError(f"--source={source}: expected auto or one of {', '.join(IMPORTERS)}")
  name, *others = detect_importers(path, IMPORTERS) if source == "auto" else [source]
  if others:
    raise SchemaError(f"{path}: holds exports of {name} and {' and '.join(others)}; choose one with --source")
  options = ImportOptions(minutes_per_step=minutes_per_step, max_missing=MAX_MISSING, timezone=timezone)
  try:
    export_set = ExportSet(path, IMPORTERS[name])
  except SchemaError as error:
    hint = " with data_pipelines.build, and its dataset here with --data" * ("--one_person" in str(error))
    raise SchemaError(f"{error}{hint}") from None
  with tempfile.TemporaryDirectory() as folder:
    imported = ImportedSource(export_set, pathlib.Path(folder) / "import", options)
    people = [imported.person(participant) for participant in imported.participants]
    rows = [(day.values, day.participant, day.day, day.date) for person in people for day in person.days]
  notes = (*imported.notes, *account_summary.summary_lines(imported.public_account))
  return _collected(f"{pathlib.Path(path).name} (importer {name})", imported.schema, rows, notes)


def of_dataset(data_dir: str, name: str, split: str) -> OwnDays:
  """The days of a dataset.

  Args:
    data_dir: folder of the datasets.
    name: of the dataset.
    split: pretrain, tune, eval, or all.

  Raises:
    DatasetError: there is no such dataset, or the split is empty.
  """
  dataset = Dataset.open(data_dir, name)
  splits = [name for name in SPLITS if dataset.num_days(name)] if split == "all" else [split]
  rows = []
  for each in splits:
    stored = dataset.days(each)
    for i in range(len(stored)):
      day = stored[i]
      rows.append((np.asarray(day["values"]), day["participant"].decode(), int(day["day"]), day["date"].decode()))
  return _collected(f"dataset {name}", dataset.schema, rows)


def _collected(
  origin: str, schema: Schema, rows: Sequence[tuple[np.ndarray, str, int, str]], notes: Sequence[str] = ()
) -> OwnDays:
  values, participant, day, date = zip(*rows, strict=True)
  arrays = np.stack(values).astype(np.float32), np.array(participant), np.array(day, np.int64), np.array(date)
  return _in_order(OwnDays(origin, schema, *arrays, tuple(notes)))


def _in_order(days: OwnDays) -> OwnDays:
  """By person, and then by date or day number."""
  order = np.lexsort((days.day, days.date, days.participant))
  arrays = {name: getattr(days, name)[order] for name in ("values", "participant", "day", "date")}
  return dataclasses.replace(days, **arrays)


def titles(days: OwnDays) -> list[str]:
  """A short name of each day: its date, or its number, and the person where there are several."""
  several = len(set(days.participant.tolist())) > 1
  return [
    (f"{who}, " if several else "") + (date or f"day {day}")
    for who, day, date in zip(days.participant.tolist(), days.day.tolist(), days.date.tolist(), strict=True)
  ]
