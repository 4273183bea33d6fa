"""Imports an export in this process, for tests of what real files do to importers."""

from __future__ import annotations

import dataclasses
import os
import pathlib
import tempfile

import numpy as np

from data_pipelines.ingest import account_summary
from data_pipelines.ingest.imported_source import ImportedSource
from data_pipelines.ingest.importers import IMPORTERS
from data_pipelines.ingest.options import ImportOptions
from data_pipelines.ingest.reading.input_files import ExportSet, detect_importers
from data_pipelines.source import Event

ROOT = pathlib.Path(__file__).resolve().parents[2]
CASES = pathlib.Path(os.environ.get("LSM2_SHARED_DATA") or ROOT.parent / "shared" / "data").parent / "cases"


@dataclasses.dataclass(frozen=True)
class Imported:
  """The result of an import.

  Attributes:
    values: {"08:01": value} of the steps that have one, by (participant, date, channel).
    dropped: number of rows by reason.
    lines: the notes and the account, as printed.
    account_csv: text of the account.
    events: of all people.
  """

  values: dict[tuple[str, str, str], dict[str, float]]
  dropped: dict[str, int]
  lines: list[str]
  account_csv: str
  events: list[Event]

  def of(self, channel: str, zeros: bool = False) -> dict[str, float]:
    """The values of a channel that only one day of one person has; zeros only if asked for."""
    found = [values for (_, _, name), values in self.values.items() if name == channel]
    assert len(found) == 1, sorted(self.values)
    return {clock: value for clock, value in found[0].items() if value or zeros}


def import_days(path: os.PathLike, source: str = "auto", person_by: str | None = None, **options) -> Imported:
  """Imports an input, with --max_missing=1 unless told otherwise."""
  [name] = detect_importers(path, IMPORTERS) if source == "auto" else [source]
  with tempfile.TemporaryDirectory() as folder:
    settings = ImportOptions(**{"max_missing": 1.0, **options})
    days = ImportedSource(ExportSet(path, IMPORTERS[name], person_by), pathlib.Path(folder), settings)
    values: dict[tuple[str, str, str], dict[str, float]] = {}
    events = []
    for person in map(days.person, days.participants):
      events += person.events
      for day in person.days:
        for channel, column in zip(days.schema.names, day.values.T, strict=True):
          steps = np.flatnonzero(~np.isnan(column))
          clocks = [divmod(int(step) * days.schema.minutes_per_step, 60) for step in steps]
          values[person.participant, day.date, channel] = {
            f"{hour:02d}:{minute:02d}": float(column[step]) for (hour, minute), step in zip(clocks, steps, strict=True)
          }
    dropped: dict[str, int] = {}
    for (_, why), rows in days.account.dropped.items():
      dropped[why] = dropped.get(why, 0) + rows
    lines = [*days.notes, *account_summary.summary_lines(days.public_account)]
    return Imported(values, dropped, lines, days.documents["account.csv"], events)
