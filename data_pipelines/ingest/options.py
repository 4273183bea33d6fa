"""How an import is to be made of an export's readings."""

from __future__ import annotations

import dataclasses
import zoneinfo
from collections.abc import Sequence

from data_pipelines.errors import SchemaError
from data_pipelines.ingest import account_summary
from data_pipelines.ingest.anonymity import Anonymity
from data_pipelines.ingest.gridding.recipe import Recipe
from data_pipelines.ingest.gridding.spool import Spool
from data_pipelines.ingest.labels_csv import LabelledStretch, People
from data_pipelines.ingest.reading import clocks
from data_pipelines.ingest.reading.readings import Importer, Signal


@dataclasses.dataclass(frozen=True)
class Asked:
  """How an import is to be made of an export's readings.

  Attributes:
    recipe: None for the default of what the export holds.
    minutes_per_step, max_missing: override the recipe's.
    timezone: of the people for whom `people` tells none; None if the readings need none.
    people: labels and time zones.
    events: beside those that the exports hold.
    anonymity: None to keep names and dates.
  """

  recipe: Recipe | None = None
  minutes_per_step: int | None = None
  max_missing: float | None = None
  timezone: str | None = None
  people: People = dataclasses.field(default_factory=lambda: People({}, {}))
  events: Sequence[LabelledStretch] = ()
  anonymity: Anonymity | None = None

  def __post_init__(self) -> None:
    self.zone("")  # a SchemaError for a name that is no zone's

  def zone(self, participant: str) -> zoneinfo.ZoneInfo | None:
    """Of the participant's wall clock."""
    name = self.people.zones.get(participant) or self.timezone
    return clocks.zone(name) if name else None

  def recipe_of(self, importer: Importer, spool: Spool) -> tuple[Recipe, list[str]]:
    """The recipe to follow, and names of signals of which nothing is known but what the export says."""
    found = {series.signal: series.unit for series in spool.series}
    if not found:
      raise SchemaError("; ".join(["nothing could be read", *account_summary.summary(spool.account)]))
    known = {signal.name for signal in importer.signals}
    extra = [Signal(name, unit) for name, unit in sorted(found.items()) if name not in known]
    recipe = self.recipe or Recipe.of([*importer.signals, *extra], found)
    changes = {"minutes_per_step": self.minutes_per_step, "max_missing": self.max_missing}
    recipe = dataclasses.replace(recipe, **{key: value for key, value in changes.items() if value is not None})  # type: ignore
    return recipe, [] if self.recipe else [signal.name for signal in extra]
