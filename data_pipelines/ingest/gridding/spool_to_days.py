"""Grids everybody in a spool and stores their days.

People are gridded in batches. A batch is what one process grids at a time; batches depend on the spool alone, so that
whoever grids them, the days and their order are the same. Their names are digests of what the days depend on: after an
interruption those that are complete are not gridded again.
"""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import hashlib
import pathlib
import time
import zoneinfo
from collections.abc import Callable, Iterator, Sequence

from tqdm import tqdm

from data_pipelines.ingest.gridding import day_store
from data_pipelines.ingest.gridding.channel_summary import ChannelTally
from data_pipelines.ingest.gridding.columns import ReadingColumns
from data_pipelines.ingest.gridding.day_store import DayStore, DayWriter
from data_pipelines.ingest.gridding.index_file import is_complete
from data_pipelines.ingest.gridding.monthly_grid import Grid
from data_pipelines.ingest.gridding.recipe import Recipe
from data_pipelines.ingest.gridding.spool import Spool
from data_pipelines.ingest.gridding.spool_group import SpoolGroup
from data_pipelines.ingest.gridding.spool_reader import SpoolReader
from data_pipelines.ingest.reading.account import Account
from data_pipelines.ingest.reading.clocks import DAY
from data_pipelines.ingest.reading.readings import Stretch
from data_pipelines.runners import Report, Runner, in_this_process

ROWS_PER_BATCH = 2**18  # readings, unless a single person has more


@dataclasses.dataclass(frozen=True)
class _Task:
  """People to grid.

  Attributes:
    path: of the files of their days, without their suffix.
    people: names and time zones.
    groups: the groups of the spool that have readings of them, in order.
    rows: number of their readings.
    stretches: their workouts and the like that the recipe makes channels of.
  """

  path: pathlib.Path
  people: tuple[tuple[str, zoneinfo.ZoneInfo | None], ...]
  groups: tuple[pathlib.Path, ...]
  rows: int
  stretches: tuple[Stretch, ...]


@dataclasses.dataclass(frozen=True)
class _GridPeople:
  """Grids batches of people; can be pickled to other processes.

  Attributes:
    recipe: signals, rules and thresholds.
    trusted: device names, most trusted first.
    latest: UTC ms after which no reading can start.
  """

  recipe: Recipe
  trusted: tuple[str, ...]
  latest: int

  def __call__(self, task: _Task, report: Report) -> None:
    zones = dict(task.people)
    reader = SpoolReader([SpoolGroup.load(path) for path in task.groups], [*zones], self.recipe, self.trusted)
    with day_store.day_writer(task.path) as writer:
      for participant, parts in reader.people():
        own = [stretch for stretch in task.stretches if stretch.participant == participant]
        grid = Grid(self.recipe, zones[participant], reader.devices, reader.files, self.latest, own)
        self._store(participant, _with_progress(parts, report), grid, reader, writer)

  def _store(
    self, participant: str, parts: Iterator[ReadingColumns], grid: Grid, reader: SpoolReader, writer: DayWriter
  ) -> None:
    account, tally = Account(), ChannelTally(len(self.recipe.signals))
    writer.add(tally.watch(grid.days(parts, account, participant)))
    account.drop(participant, "signal not in the recipe", reader.left_out.pop(participant, 0))
    account.drop(participant, "of a device that the recipe leaves out", reader.by_another.pop(participant, 0))
    account.drop(participant, "entered by hand (--entered_by_hand keeps it)", reader.typed_in.pop(participant, 0))
    summary = {
      "account": account.to_json(),
      "left_out": grid.left_out[participant],
      "missing": {minutes: list(days.items()) for minutes, days in grid.missing.get(participant, {}).items()},
      "channels": tally.rows,
    }
    writer.complete(participant, summary)


def grid_spool(
  spool: Spool,
  trusted: Sequence[str],
  recipe: Recipe,
  zone_of: Callable[[str], zoneinfo.ZoneInfo | None],
  folder: pathlib.Path,
  runner: Runner = in_this_process,
) -> DayStore:
  """Grids the readings of all people in a spool, and stores their days.

  People whose days are already in `folder`, from an interrupted import of the same readings with the same recipe and
  time zones, are not gridded again.

  Args:
    spool: the readings.
    trusted: device names, most trusted first.
    recipe: signals, rules and thresholds.
    zone_of: the time zone of a person, None if unknown.
    folder: holds the days and nothing else.
    runner: grids the people.

  Returns:
    The store. Its summaries hold, per person, "account" (Account.to_json of the readings not used), "left_out" (the
    number of days left out because too much is missing), "missing" (Grid.missing) and "channels" (ChannelTally.rows).

  Raises:
    SchemaError: readings are in UTC, and their person has no time zone.
  """
  folder.mkdir(parents=True, exist_ok=True, mode=0o700)
  tasks = list(_tasks(spool, trusted, recipe, zone_of, folder))
  missing = [task for task in tasks if not is_complete(task.path)]
  _delete_others(folder, {task.path.name for task in tasks} - {task.path.name for task in missing})
  grid_people = _GridPeople(recipe, tuple(trusted), int(time.time() * 1000) + DAY)
  rows = sum(task.rows for task in tasks)
  with (
    tqdm(total=rows, desc="gridding", unit=" readings", unit_scale=True, disable=None) as progress,
    contextlib.closing(runner(grid_people, missing, progress.update)) as outcomes,
  ):
    progress.update(rows - sum(task.rows for task in missing))
    for _ in outcomes:
      pass
  return DayStore([task.path for task in tasks], recipe.schema)


def _tasks(
  spool: Spool,
  trusted: Sequence[str],
  recipe: Recipe,
  zone_of: Callable[[str], zoneinfo.ZoneInfo | None],
  folder: pathlib.Path,
) -> Iterator[_Task]:
  """Divides the people into batches."""
  basis = repr((recipe, [*trusted]))
  events = {name for signal in recipe.signals for name in signal.events}
  stretches = collections.defaultdict(list)  # by person: there may be many people, and many batches
  for stretch in spool.stretches:
    if stretch.name in events:
      stretches[stretch.participant].append(stretch)
  batch: list[str] = []
  size = 0
  for person, rows in [*spool.people.items(), (None, 0)]:
    if batch and (person is None or size + rows > ROWS_PER_BATCH):
      people = tuple((name, zone_of(name)) for name in batch)
      groups = tuple(spool.groups[n] for n in sorted({n for name in batch for n in spool.groups_of[name]}))
      own = tuple(stretch for name in batch for stretch in stretches[name])
      contents = repr((basis, [(name, str(zone)) for name, zone in people], [group.name for group in groups], *own))
      digest = hashlib.blake2b(contents.encode(), digest_size=12).hexdigest()
      yield _Task(folder / digest, people, groups, size, own)
      batch, size = [], 0
    if person is not None:
      batch.append(person)
      size += rows


def _delete_others(folder: pathlib.Path, complete: set[str]) -> None:
  """Deletes what an import with another recipe, or an interrupted one, left in the folder."""
  for file in folder.iterdir():
    if file.name.split(".")[0] not in complete:
      file.unlink()


def _with_progress(parts: Iterator[ReadingColumns], report: Report) -> Iterator[ReadingColumns]:
  for part in parts:
    yield part
    report(len(part))


def full_account(spool: Spool, store: DayStore) -> Account:
  """The account of every row of the exports: those dropped while reading, and those dropped while gridding."""
  account = Account()
  account.merge(spool.account)
  for summary in store.summaries.values():
    account.merge(Account.from_json(summary["account"]))
  return account
