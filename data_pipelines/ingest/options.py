"""The options of an import: everything but the exports themselves."""

from __future__ import annotations

import dataclasses
import zoneinfo
from collections.abc import Sequence
from typing import Literal

from data_pipelines.errors import SchemaError
from data_pipelines.ingest import account_summary
from data_pipelines.ingest.anonymity import Anonymity
from data_pipelines.ingest.gridding.recipe import Recipe, WearRule
from data_pipelines.ingest.gridding.spool import Spool
from data_pipelines.ingest.labels_csv import LabelledStretch, ParticipantTable
from data_pipelines.ingest.reading import clocks
from data_pipelines.ingest.reading.importer import Importer
from data_pipelines.ingest.reading.signals import Signal


@dataclasses.dataclass(frozen=True)
class ImportOptions:
  """Options for making a dataset from exports.

  Attributes:
    recipe: None uses the default recipe for the signals that the exports hold.
    minutes_per_step, max_missing, entered_by_hand: override those of the recipe unless None.
    timezone: IANA name for people whose zone `people` does not give; None if no reading needs one.
    people: labels and time zones of the participants.
    events: events in addition to those in the exports.
    anonymity: None keeps names and dates.
    strict: whether a part of an export that cannot be read ends the import, instead of being counted.

  Raises:
    SchemaError: `timezone` is not an IANA time zone.
  """

  recipe: Recipe | None = None
  minutes_per_step: int | None = None
  max_missing: float | None = None
  entered_by_hand: bool | None = None
  timezone: str | None = None
  people: ParticipantTable = dataclasses.field(default_factory=ParticipantTable)
  events: Sequence[LabelledStretch] = ()
  anonymity: Anonymity | None = None
  strict: bool = False

  def __post_init__(self) -> None:
    self.zone_of("")  # checks the name

  def zone_of(self, participant: str) -> zoneinfo.ZoneInfo | None:
    """The participant's time zone, None if unknown."""
    name = self.people.zones.get(participant) or self.timezone
    return clocks.find_zone(name) if name else None

  def recipe_for(self, importer: Importer, spool: Spool) -> tuple[Recipe, list[str]]:
    """The recipe to follow.

    Returns:
      The recipe; and names of the signals that the importer does not know, for which the recipe guesses a rule.

    Raises:
      SchemaError: the spool holds no readings.
    """
    unit_of = {series.signal: series.unit for series in spool.series}
    if not unit_of:
      spool.account.check_damage()
      raise SchemaError("; ".join(["nothing could be read", *account_summary.summary_lines(spool.account)]))
    known = {signal.name for signal in importer.signals}
    extra = [Signal(name, unit) for name, unit in sorted(unit_of.items()) if name not in known]
    recipe = self.recipe or Recipe.default([*importer.signals, *extra], unit_of)
    counts = getattr(importer, "wear_counts", "")
    if not self.recipe and counts in unit_of:
      # Another kind of export may have the heart rate, which tells of its own days and of those that have both.
      rule: Literal["auto", "choi"] = "choi" if recipe.index(WearRule.heart) is None else "auto"
      recipe = dataclasses.replace(recipe, worn=WearRule(rule, counts=counts))
    changes = {name: getattr(self, name) for name in ("minutes_per_step", "max_missing", "entered_by_hand")}
    recipe = dataclasses.replace(recipe, **{key: value for key, value in changes.items() if value is not None})  # type: ignore
    return recipe, [] if self.recipe else [signal.name for signal in extra]
