"""People of exports as a source of days: read once into a spool, put on the steps of days, kept on disk until built."""

from __future__ import annotations

import collections
import dataclasses
import pathlib
import shutil
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from data_pipelines.errors import SchemaError
from data_pipelines.ingest import account_summary, day_events
from data_pipelines.ingest.gridding.gridding import Seen, account, grid
from data_pipelines.ingest.gridding.spool import spooled
from data_pipelines.ingest.options import Asked
from data_pipelines.ingest.reading.input_files import Input
from data_pipelines.ingest.reading.readings import Account, Stretch
from data_pipelines.schema import Schema
from data_pipelines.source import Day, Event, Label, Person


class ImportedSource:
  """The people of some exports; a `Source`.

  Attributes:
    recipe: that was followed.
    account: what became of every row.
    left_out: days of each person that missed too much.
    notes, card, documents: lines to tell the user, lines of the data card, and files that go beside the dataset.
  """

  def __init__(self, given: Input, folder: pathlib.Path, asked: Asked):
    """Reads and grids all of it, or goes on where an interrupted import in `folder` was."""
    self._asked = asked
    self._folder = folder
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    spool = spooled(given, folder / "readings")
    self.recipe, self.unknown = asked.recipe_of(given.importer, spool)
    self._kept = grid(spool, given.importer.devices, self.recipe, asked.zone, folder)
    self.account = account(spool, self._kept)
    self.left_out = {who: told["left_out"] for who, told in self._kept.told.items() if told["left_out"]}
    self._seen = Seen.of(self._kept, self.recipe)
    self._channels = self._observed()
    self._public = {self._name(participant): participant for participant in self._kept.people}
    self._stretches: dict[str, list[Stretch]] = collections.defaultdict(list)
    for stretch in [*spool.stretches, *asked.events]:
      self._stretches[stretch.participant].append(stretch)
    self._lost = self._lost_events()
    if not self._public:
      print(*account_summary.summary(self.told_account), sep="\n")
      steps = ["a source that reports every 5 minutes wants --minutes_per_step=5"] * bool(self.left_out)
      raise SchemaError("; ".join(["no day is left to build", *steps, *self.notes]))

  @property
  def schema(self) -> Schema:
    return dataclasses.replace(self.recipe, signals=tuple(self.recipe.signals[c] for c in self._channels)).schema

  @property
  def participants(self) -> Sequence[str]:
    return sorted(self._public)

  @property
  def n_days(self) -> int:
    return sum(len(self._kept.dates(participant)) for participant in self._kept.people)

  def person(self, participant: str) -> Person:
    original = self._public[participant]
    labels: dict[str, Label] = self._asked.people.labels.get(original, {})
    return Person(participant, _Days(self, participant, original), labels, list(self._events(participant, original)))

  def day(self, participant: str, original: str, number: int) -> Day:
    """The day at this place of the person's, as it may be told."""
    day = self._kept.day(original, number)
    shown = slice(None) if len(self._channels) == len(self.recipe.signals) else self._channels
    return dataclasses.replace(
      day,
      participant=participant,
      date=self._date(original, day.date),
      values=day.values[:, shown],
      cause=None if day.cause is None else day.cause[:, shown],
    )

  def count(self, original: str) -> int:
    """Days of a person, by the name in the exports."""
    return len(self._kept.dates(original))

  def discard(self) -> None:
    """Removes what was put by on disk."""
    shutil.rmtree(self._folder, ignore_errors=True)

  @property
  def notes(self) -> list[str]:
    lines = []
    nobody = sorted({*self._asked.people.labels} - {*self._kept.people})
    if nobody:
      lines.append(f"{len(nobody)} of the labelled participants have no day in the exports")
    if self.left_out:
      days = f"{sum(self.left_out.values()):,} days of {len(self.left_out):,} people"
      lines.append(f"left out {days} that miss more than {100 * self.recipe.max_missing:g} % (--max_missing)")
    without = sorted({*self.account.read} - {*self._kept.people})
    if without:
      lines.append(f"{len(without):,} people have no day left")
    if len(self._channels) < len(self.recipe.signals):
      names = [signal.name for c, signal in enumerate(self.recipe.signals) if c not in self._channels]
      lines.append(f"channels without a value are left out: {', '.join(names)}")
    if self._lost:
      lines.append(f"{self._lost:,} events are on no day that was kept")
    if self.unknown:
      lines.append(f"taken as means, for want of a rule: {', '.join(self.unknown)} (--write_recipe, then --recipe)")
    return lines

  @property
  def documents(self) -> dict[str, str]:
    """Files beside the dataset, by name."""
    return {"account.csv": account_summary.table(self.told_account), "recipe.yaml": self.recipe.to_yaml()}

  @property
  def told_account(self) -> Account:
    """The account as it may be told."""
    anonymity = self._asked.anonymity
    return account_summary.renamed(self.account, anonymity.name, anonymity.where) if anonymity else self.account

  @property
  def ranges(self) -> list[str]:
    """A line for each channel: how much of it there is, and its values."""
    return [self._seen.line(c, self.recipe) for c in self._channels]

  @property
  def card(self) -> list[str]:
    """Lines of the data card."""
    zones = sorted({*self._asked.people.zones.values(), *([self._asked.timezone] if self._asked.timezone else [])})
    secret = self._asked.anonymity
    told = f"names by keyed hash, dates moved by up to {secret.weeks} weeks" if secret else "no"
    return [
      f"- time zone: {', '.join(zones) or 'wall clocks as the exports tell them'}",
      f"- anonymised: {told}",
      f"- days that miss more than {100 * self.recipe.max_missing:g} % of the channels they have were left out: "
      f"{sum(self.left_out.values()):,}",
      "- recipe.yaml: how readings became steps; account.csv: what became of every row",
      "",
      "Channels, as read:",
      "",
      *self.ranges,
      "",
      *account_summary.summary(self.told_account),
    ]

  def _observed(self) -> list[int]:
    """Channels that have a value, or all where the recipe was given."""
    every = range(len(self.recipe.signals))
    return list(every) if self._asked.recipe else [c for c in every if self._seen.count[c]]

  def _name(self, original: str) -> str:
    return self._asked.anonymity.name(original) if self._asked.anonymity else original

  def _date(self, original: str, date: str) -> str:
    return self._asked.anonymity.date(original, date) if self._asked.anonymity else date

  def _events(self, participant: str, original: str) -> Iterator[Event]:
    dates = day_events.numbers(self._kept.dates(original))
    for stretch in self._stretches[original]:
      for event in self._of(stretch, dates):
        yield dataclasses.replace(event, participant=participant, date=self._date(original, event.date))

  def _of(self, stretch: Stretch, dates: Mapping[str, int]) -> Iterator[Event]:
    start, end = day_events.on_wall_clock(stretch, self._asked.zone(stretch.participant))
    return day_events.events(start, end, stretch, dates, self.recipe.minutes_per_step)

  def _lost_events(self) -> int:
    lost = 0
    for original, stretches in self._stretches.items():
      dates = day_events.numbers(self._kept.dates(original)) if original in self._kept else {}
      lost += sum(next(self._of(stretch, dates), None) is None for stretch in stretches)
    return lost


class _Days(Sequence):
  """A person's days, read one by one as they are asked for."""

  def __init__(self, source: ImportedSource, participant: str, original: str):
    self._source, self._participant, self._original = source, participant, original

  def __len__(self) -> int:
    return self._source.count(self._original)

  def __getitem__(self, number: Any) -> Any:
    if isinstance(number, slice):
      return [self[n] for n in range(*number.indices(len(self)))]
    if not -len(self) <= number < len(self):
      raise IndexError(number)
    return self._source.day(self._participant, self._original, number % len(self))
