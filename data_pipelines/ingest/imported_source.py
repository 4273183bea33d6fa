"""Exports as a source of days: read once into a spool, gridded, and kept on disk until the dataset is built."""

from __future__ import annotations

import collections
import dataclasses
import pathlib
import shutil
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from data_pipelines.errors import SchemaError
from data_pipelines.ingest import account_summary
from data_pipelines.ingest.day_events import events_on_days, number_days
from data_pipelines.ingest.gridding.channel_summary import ChannelSummary
from data_pipelines.ingest.gridding.spool import fill_spool
from data_pipelines.ingest.gridding.spool_to_days import full_account, grid_spool
from data_pipelines.ingest.labels_csv import contradictory
from data_pipelines.ingest.options import ImportOptions
from data_pipelines.ingest.reading.account import Account
from data_pipelines.ingest.reading.clocks import to_wall_clock
from data_pipelines.ingest.reading.export_files import kind_of_file
from data_pipelines.ingest.reading.input_files import ExportSet
from data_pipelines.ingest.reading.readings import Stretch
from data_pipelines.runners import Runner, in_this_process
from data_pipelines.schema import Schema
from data_pipelines.source import Day, Event, Label, Person
from data_pipelines.text_files import alike, counted, folded

_NAMED = 5  # names in a note


class ImportedSource:
  """The people of some exports, as a `Source` (see data_pipelines.source).

  Within the class, `original` is a person's name in the exports and `participant` the name in the dataset. They differ
  only if the import is anonymised.

  Attributes:
    recipe: the recipe that was followed.
    guessed: signals that the importer does not know, for which the recipe guesses a rule.
    account: what became of every row, under the original names.
    left_out: number of days left out because too much is missing, by original name; only people with any.
  """

  def __init__(
    self, export_set: ExportSet, folder: pathlib.Path, options: ImportOptions, runner: Runner = in_this_process
  ):
    """Reads and grids everything, or continues an interrupted import in `folder`; `runner` shares out the work.

    Raises:
      SchemaError: a file cannot be used, or no day is left to build.
    """
    self._options = options
    self._folder = folder
    self._unread_columns, self._links = export_set.unread_columns, export_set.links
    self._exports_of = export_set.people
    self._named_by_rows = export_set.named_by_rows
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    spool = fill_spool(export_set, folder / "readings", options.strict, runner)
    self.recipe, self.guessed = options.recipe_for(export_set.importer, spool)
    devices = export_set.importer.devices
    self._store = grid_spool(spool, devices, self.recipe, options.zone_of, folder / "days", runner)
    self.account = full_account(spool, self._store)
    for why, names in export_set.left_out.items():
      for file in names:
        self.account.leave_file(kind_of_file(file), why, file)
    self.left_out = {who: entry["left_out"] for who, entry in self._store.summaries.items() if entry["left_out"]}
    self._channel_summary = ChannelSummary.from_store(self._store, self.recipe)
    self._channels = self._channels_to_build()
    self._originals = {self._public_name(original): original for original in self._store.people}
    self._stretches: dict[str, list[Stretch]] = collections.defaultdict(list)
    stretches = collections.Counter(spool.stretches)
    for stretch, times in stretches.items():  # exports of one person may overlap
      self.account.drop(stretch.participant, "exact duplicate", times - 1)
    events = dict.fromkeys(options.events)
    self._repeated_events = len(options.events) - len(events)
    for stretch in [*stretches, *events]:
      self._stretches[stretch.participant].append(stretch)
    self._check_spellings()
    self._lost_events = self._count_lost_events()
    if not self._originals:
      print(*account_summary.summary_lines(self.public_account), sep="\n")
      raise SchemaError("; ".join(["no day is left to build", *self.notes]))

  @property
  def schema(self) -> Schema:
    """The schema of the days: the channels of the recipe that are built."""
    return dataclasses.replace(self.recipe, signals=tuple(self.recipe.signals[c] for c in self._channels)).schema

  @property
  def participants(self) -> Sequence[str]:
    """Names of the people with at least one day, sorted."""
    return sorted(self._originals)

  @property
  def n_days(self) -> int:
    """Number of days of all people."""
    return sum(map(self._store.count, self._store.people))

  def person(self, participant: str) -> Person:
    """One person's days (read as they are used), labels and events."""
    original = self._originals[participant]
    labels: dict[str, Label] = self._options.people.labels.get(original, {})
    return Person(participant, _Days(self, participant, original), labels, list(self._events(participant, original)))

  def day(self, participant: str, original: str, index: int) -> Day:
    """A person's day, with the public name and date, and only the channels that are built."""
    day = self._store.day(original, index)
    channels = slice(None) if len(self._channels) == len(self.recipe.signals) else self._channels
    return dataclasses.replace(
      day,
      participant=participant,
      date=self._public_date(original, day.date),
      values=day.values[:, channels],
      cause=None if day.cause is None else day.cause[:, channels],
    )

  def count_days(self, original: str) -> int:
    """Number of a person's days."""
    return self._store.count(original)

  def discard(self) -> None:
    """Deletes the spool and the days from disk."""
    shutil.rmtree(self._folder, ignore_errors=True)

  @property
  def notes(self) -> list[str]:
    """Lines about what was left out or guessed, for the screen."""
    columns = self._unread_columns
    lines = [f"not read: {counted(len(columns), 'column')}{self._named(columns)}"] * bool(columns)
    if self._links:
      lines.append(f"followed {counted(len(self._links), 'link')} in the input{self._named(self._links)}")
    for who, paths in self._exports_of.items():
      name = self._public_name(who) if self._options.anonymity else who
      lines.append(f"{name}: {counted(len(paths), 'export')}{self._named(paths)}")
    if self._named_by_rows:
      exports = counted(self._named_by_rows, "export")
      lines.append(f"--one_person and --person_by have no effect where rows or files name people: {exports}")
    lines += self._options.people.notes
    labelled = {*self._options.people.labels}
    without_days = sorted(labelled - {*self._store.people})
    if without_days:
      named = self._named(without_days)
      lines.append(f"{len(without_days)} of the labelled participants have no day in the exports{named}")
    unlabelled = sorted({*self._store.people} - labelled) if labelled else []
    if unlabelled:
      lines.append(f"no row in --participants for {counted(len(unlabelled), 'person')}{self._named(unlabelled)}")
    if self.left_out:
      days = f"{counted(sum(self.left_out.values()), 'day')} of {counted(len(self.left_out), 'person')}"
      left_out = f"left out {days} with more than {100 * self.recipe.max_missing:g} % missing"
      lines.append("; ".join([left_out, *self._how_to_keep()]))
    people_lost = sorted({*self.account.read} - {*self._store.people, ""})
    if people_lost:
      lines.append(f"no day is left of {counted(len(people_lost), 'person')}{self._named(people_lost)}")
    if len(self._channels) < len(self.recipe.signals):
      names = [signal.name for c, signal in enumerate(self.recipe.signals) if c not in self._channels]
      lines.append(f"left out channels without a value: {', '.join(names)}")
    if self._lost_events:
      lines.append(f"left out {counted(self._lost_events, 'event')} on days that were not kept")
    if self._repeated_events:
      lines.append(f"--events has {counted(self._repeated_events, 'event')} more than once, each of which counts once")
    strangers = sorted({event.participant for event in self._options.events} - {*self.account.read})
    if strangers:
      lines.append(f"--events names {counted(len(strangers), 'person')} without a reading{self._named(strangers)}")
    if elsewhere := [event for event in self._options.events if self._is_elsewhere(event)]:
      named = self._named([f"{event.participant} {event.name!r}" for event in elsewhere])
      count = counted(len(elsewhere), "event")
      lines.append(f"--events has {count} with offsets that are not the time zone's{named}: the offsets count")
    if events := contradictory(self._options.events):
      which = [f"{e.participant} {e.name!r} at {np.datetime64(e.start, 'ms').astype('datetime64[m]')}" for e in events]
      count = counted(len(events), "event")
      lines.append(f"--events says for {count} that the same is present and absent at one time{self._named(which)}")
    if self.guessed:
      names_text = ", ".join(self.guessed)
      lines.append(f"averaged, because no rule is known: {names_text} (to change: --write_recipe, then --recipe)")
    return lines

  def _how_to_keep(self) -> Iterator[str]:
    """Yields hints at options, not yet given, that would keep days that are left out, and how many."""
    days: dict[int, collections.Counter[int]] = collections.defaultdict(collections.Counter)
    for summary in self._store.summaries.values():
      for minutes, percentages in summary["missing"].items():
        days[int(minutes)].update({percent: count for percent, count in percentages if percent <= 100})
    step, most = self.recipe.minutes_per_step, 100 * self.recipe.max_missing
    total = sum(self.left_out.values())
    kept = {minutes: sum(n for percent, n in days[minutes].items() if percent <= most) for minutes in sorted(days)}
    longer = [minutes for minutes in kept if minutes > step and 2 * kept[minutes] >= total]
    if longer:
      yield f"--minutes_per_step={longer[0]} keeps {kept[longer[0]]:,} of them"
    up_to = {percent: sum(n for other, n in days[step].items() if other <= percent) for percent in sorted(days[step])}
    half = [percent for percent, count in up_to.items() if 2 * count >= total]
    if half:
      yield f"--max_missing={half[0] / 100:g} keeps {up_to[half[0]]:,} of them"
    heart, counts = self.recipe.index(self.recipe.worn.heart), self.recipe.index(self.recipe.worn.counts)
    if heart is None and counts is None and any(signal.quiet for signal in self.recipe.signals):
      yield "without a heart rate nothing says when a device was worn, so minutes without steps stay missing"

  def _named(self, names: Sequence[str]) -> str:
    """The first few names in brackets; nothing if the dataset is anonymous, because its README.md holds the notes."""
    if self._options.anonymity:
      return ""
    return f" ({', '.join(names[:_NAMED])}{', ...' * (len(names) > _NAMED)})"

  @property
  def documents(self) -> dict[str, str]:
    """Texts of files to store beside the dataset, by file name."""
    return {"account.csv": account_summary.to_csv(self.public_account), "recipe.yaml": self.recipe.to_yaml()}

  @property
  def public_account(self) -> Account:
    """The account under the names in the dataset; if it is anonymised, without file names."""
    anonymity = self._options.anonymity
    if not anonymity:
      return self.account
    return account_summary.rename_people(self.account, anonymity.name, anonymity.where)

  @property
  def channel_lines(self) -> list[str]:
    """A line per channel: the share of steps that have a value, and the range of the values."""
    return [self._channel_summary.line(c, self.recipe) for c in self._channels]

  @property
  def card(self) -> list[str]:
    """Lines for the dataset's data card."""
    timezone = self._options.timezone
    zones = sorted({*self._options.people.zones.values(), *([timezone] if timezone else [])})
    anonymity = self._options.anonymity
    anonymised = f"names by keyed hash, dates moved by up to {counted(anonymity.weeks, 'week')}" if anonymity else "no"
    return [
      f"- time zone: {', '.join(zones) or 'wall clocks as in the exports'}",
      f"- anonymised: {anonymised}",
      f"- days left out because more than {100 * self.recipe.max_missing:g} % is missing in the channels they have: "
      f"{sum(self.left_out.values()):,}",
      "- recipe.yaml: how readings became steps; account.csv: what became of every row",
      "",
      "Channels, as read:",
      "",
      *self.channel_lines,
      "",
      *account_summary.summary_lines(self.public_account),
    ]

  def _channels_to_build(self) -> list[int]:
    """The channels that have a value, or all of them if the recipe was given."""
    channels = range(len(self.recipe.signals))
    return list(channels) if self._options.recipe else [c for c in channels if self._channel_summary.count[c]]

  def _public_name(self, original: str) -> str:
    return self._options.anonymity.name(original) if self._options.anonymity else original

  def _public_date(self, original: str, date: str) -> str:
    return self._options.anonymity.date(original, date) if self._options.anonymity else date

  def _events(self, participant: str, original: str) -> Iterator[Event]:
    day_numbers = number_days(self._store.dates(original))
    for stretch in self._stretches[original]:
      for event in self._events_of(stretch, day_numbers):
        yield dataclasses.replace(event, participant=participant, date=self._public_date(original, event.date))

  def _events_of(self, stretch: Stretch, day_numbers: dict[str, int]) -> Iterator[Event]:
    zone = self._options.zone_of(stretch.participant)
    return events_on_days(stretch, zone, day_numbers, self.recipe.minutes_per_step)

  def _check_spellings(self) -> None:
    """Refuses people of --participants or --events whose names differ from those in the exports in spelling only."""
    spellings = {folded(name): name for name in [*self.account.read, *self._store.people]}
    people = self._options.people
    labelled, with_events = [*people.labels, *people.zones], [event.participant for event in self._options.events]
    for flag, names in ("--participants", labelled), ("--events", with_events):
      for name in dict.fromkeys(names):
        if (in_exports := spellings.get(folded(name), name)) != name:
          raise SchemaError(f"{flag}: {alike('participant', name, in_exports)}; the exports have the second")

  def _is_elsewhere(self, event: Stretch) -> bool:
    """True if an event has an offset that is not that of the person's time zone."""
    zone = self._options.zone_of(event.participant)
    if zone is None or event.offset is None:
      return False
    moved = (to_wall_clock(event.start, "utc", offset, zone, "events") for offset in (event.offset, None))
    return len({*moved}) > 1

  def _count_lost_events(self) -> int:
    lost = 0
    for original, stretches in self._stretches.items():
      day_numbers = number_days(self._store.dates(original)) if original in self._store else {}
      lost += sum(next(self._events_of(stretch, day_numbers), None) is None for stretch in stretches)
    return lost


class _Days(Sequence):
  """A person's days, each read from disk when it is accessed."""

  def __init__(self, source: ImportedSource, participant: str, original: str):
    self._source, self._participant, self._original = source, participant, original

  def __len__(self) -> int:
    return self._source.count_days(self._original)

  def __getitem__(self, index: Any) -> Any:
    if isinstance(index, slice):
      return [self[n] for n in range(*index.indices(len(self)))]
    if not -len(self) <= index < len(self):
      raise IndexError(index)
    return self._source.day(self._participant, self._original, index % len(self))
