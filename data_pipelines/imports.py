"""People of exports as a source of days: read once into a spool, put on the steps of days, kept on disk until built."""

from __future__ import annotations

import collections
import dataclasses
import hashlib
import pathlib
import shutil
import zoneinfo
from collections.abc import Collection, Iterator, Sequence
from typing import Any

import numpy as np
from tqdm import tqdm

from data_pipelines import clocks, closing, day_events, units
from data_pipelines.anonymity import Anonymity
from data_pipelines.columns import Columns
from data_pipelines.day import Day, Event, Label, Person
from data_pipelines.exports import Input, Watched
from data_pipelines.grid import Grid, GridDay, priority
from data_pipelines.kept_days import KeptDays
from data_pipelines.labels import LabelledStretch, People
from data_pipelines.readings import Account, Importer, Readings, Signal, Stretch
from data_pipelines.recipe import Recipe
from data_pipelines.schema import Schema, SchemaError
from data_pipelines.spool import Spool, account_of, as_json, merge
from data_pipelines.spooled import Spooled


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

  def zone(self, participant: str) -> zoneinfo.ZoneInfo | None:
    """Of the participant's wall clock."""
    name = self.people.zones.get(participant)
    if name:
      return clocks.zone(name, f"column timezone of participant {participant!r}")
    return clocks.zone(self.timezone) if self.timezone else None

  def recipe_of(self, signals: Sequence[Signal], found: Collection[str]) -> Recipe:
    """The recipe to follow, for an export that holds the signals named in `found`."""
    recipe = self.recipe or Recipe.of(signals, found)
    changes = {"minutes_per_step": self.minutes_per_step, "max_missing": self.max_missing}
    return dataclasses.replace(recipe, **{key: value for key, value in changes.items() if value is not None})  # type: ignore


def read(given: Input, folder: pathlib.Path) -> Spool:
  """All readings of an input in a spool in `folder`; what is there of an interrupted import is not read again."""
  units_of = {signal.name: signal.unit for signal in given.importer.signals}
  spool = Spool(folder, given.digests)
  with tqdm(total=sum(given.files.values()), desc="reading", unit="B", unit_scale=True, disable=None) as progress:
    for n, export in enumerate(given.exports):
      watched = Watched(export.path, export.participant, progress.update)
      for name in given.importer.files(export):
        before, key = progress.n, given.key(n, name)
        if key not in spool.complete:
          account = Account()
          for found in given.importer.read(watched, name, account):
            if isinstance(found, Readings) and found.signal in units_of:
              units.convert(np.empty(0), found.unit, units_of[found.signal], export.where(name))
            spool.add(found)
          spool.end_file(key, account)
        progress.update(before + given.files[n, name] - progress.n)  # of files that are not read as a stream
  spool.commit()
  return spool


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
    self._check_zones()
    spool = read(given, folder / "readings")
    self.recipe, self.unknown = _recipe(given.importer, spool, asked)
    self._kept = _grid(spool, given.importer.devices, self.recipe, asked, folder)
    self.account = _account(spool, self._kept)
    self.left_out = {who: told["left_out"] for who, told in self._kept.told.items() if told["left_out"]}
    self._seen = Seen.of(self._kept, self.recipe)
    self._channels = self._observed()
    self._public = {self._name(participant): participant for participant in self._kept.people}
    if not self._public:
      raise SchemaError("; ".join(["no day is left to build", *self.notes]))
    self._stretches: dict[str, list[Stretch]] = collections.defaultdict(list)
    for stretch in [*spool.stretches, *asked.events]:
      self._stretches[stretch.participant].append(stretch)

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
    if self.unknown:
      lines.append(f"taken as means, for want of a rule: {', '.join(self.unknown)} (--write_recipe, then --recipe)")
    return lines

  @property
  def documents(self) -> dict[str, str]:
    """Files beside the dataset, by name."""
    return {"account.csv": closing.table(self.told_account), "recipe.yaml": self.recipe.to_yaml()}

  @property
  def told_account(self) -> Account:
    """The account as it may be told."""
    anonymity = self._asked.anonymity
    return closing.renamed(self.account, anonymity.name, anonymity.where) if anonymity else self.account

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
      *closing.summary(self.told_account),
    ]

  def _check_zones(self) -> None:
    for participant in [*self._asked.people.zones, ""]:
      self._asked.zone(participant)

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
      start, end = day_events.on_wall_clock(stretch, self._asked.zone(original))
      for event in day_events.events(start, end, stretch, dates, self.recipe.minutes_per_step):
        yield dataclasses.replace(event, participant=participant, date=self._date(original, event.date))


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


@dataclasses.dataclass(frozen=True)
class Seen:
  """Values of the days, [channels] each."""

  count: np.ndarray
  total: np.ndarray
  low: np.ndarray
  high: np.ndarray
  steps: int

  @classmethod
  def of(cls, kept: KeptDays, recipe: Recipe) -> Seen:
    """Of all days that are kept."""
    told = np.array([person["channels"] for person in kept.told.values()]).reshape(-1, 4, len(recipe.signals))
    steps = recipe.schema.steps * sum(len(kept.dates(person)) for person in kept.people)
    low, high = told[:, 2].min(0, initial=np.inf), told[:, 3].max(0, initial=-np.inf)
    return cls(told[:, 0].sum(0).astype(np.int64), told[:, 1].sum(0), low, high, steps)

  def line(self, c: int, recipe: Recipe) -> str:
    """Of a channel, for people to read."""
    signal = recipe.signals[c]
    name = f"- {signal.name}" + f" ({signal.unit})" * bool(signal.unit)
    if not self.count[c]:
      return f"{name}: {signal.rule}, no value"
    share = 100 * self.count[c] / self.steps
    values = f"{self.low[c]:.4g} to {self.high[c]:.4g}, mean {self.total[c] / self.count[c]:.4g}"
    allowed = f", allowed {signal.low:g} to {signal.high:g}"
    return f"{name}: {signal.rule}, {share:.3g} % of steps, {values}{allowed}"


def _recipe(importer: Importer, spool: Spool, asked: Asked) -> tuple[Recipe, list[str]]:
  """The recipe to follow, and the names of signals that nothing is known of but what the export says."""
  known = {signal.name for signal in importer.signals}
  found = {series.signal: series.unit for series in spool.series}
  extra = [Signal(name, unit) for name, unit in sorted(found.items()) if name not in known]
  if not found:
    raise SchemaError("; ".join(["nothing could be read", *closing.summary(spool.account)]))
  recipe = asked.recipe_of([*importer.signals, *extra], found)
  return recipe, [] if asked.recipe else [signal.name for signal in extra]


def _grid(spool: Spool, trusted: Sequence[str], recipe: Recipe, asked: Asked, folder: pathlib.Path) -> KeptDays:
  """The days of all people of a spool; those of an interrupted import, by the same recipe and zones, are not redone."""
  devices = priority(trusted, {series.device for series in spool.series})
  same = repr((recipe, asked.timezone, sorted(asked.people.zones.items()), devices, sorted(spool.parts)))
  kept = KeptDays(folder / f"days-{hashlib.blake2b(same.encode(), digest_size=8).hexdigest()}", recipe.schema)
  spooled = Spooled(spool, recipe, devices)
  grids: dict[str, Grid] = {}
  with tqdm(
    total=sum(spool.rows.values()), desc="gridding", unit=" readings", unit_scale=True, disable=None
  ) as progress:
    for participant, parts in spooled.people():
      if participant in kept:
        continue
      zone = asked.zone(participant)
      grid = grids.setdefault(str(zone), Grid(recipe, zone, devices))
      account, seen = Account(), _Tally(len(recipe.signals))
      kept.add(participant, seen.watch(grid.days(_told(parts, progress), account, participant)))
      account.drop(participant, "signal not in the recipe", spooled.left_out.pop(participant, 0))
      told = {"account": as_json(account), "left_out": grid.left_out.pop(participant, 0), "channels": seen.rows}
      kept.tell(participant, told)
  return kept


def _told(parts: Iterator[Columns], progress: tqdm) -> Iterator[Columns]:
  for part in parts:
    yield part
    progress.update(len(part))


class _Tally:
  """Count, sum, least and greatest of each channel, as days go by."""

  def __init__(self, channels: int):
    self._rows = np.stack(
      [np.zeros(channels), np.zeros(channels), np.full(channels, np.inf), np.full(channels, -np.inf)]
    )

  def watch(self, days: Iterator[GridDay]) -> Iterator[GridDay]:
    count, total, low, high = self._rows
    for day in days:
      count += (~np.isnan(day.values)).sum(0)
      total += np.nansum(day.values, 0, np.float64)
      low[:] = np.fmin(low, np.fmin.reduce(day.values, 0))
      high[:] = np.fmax(high, np.fmax.reduce(day.values, 0))
      yield day

  @property
  def rows(self) -> list[list[float]]:
    return self._rows.tolist()


def _account(spool: Spool, kept: KeptDays) -> Account:
  account = Account()
  merge(account, spool.account)
  for told in kept.told.values():
    merge(account, account_of(told["account"]))
  return account
