"""The spool: readings on disk between the files of exports and the grid.

Files are read in groups. A group is what one process reads at a time; groups depend on the input alone, so that whoever
reads them, and in whichever order, the spool holds the same (see spool_group.py for what is on disk). Their names are
digests of their files: after an interruption those that are complete are not read again, and what remains of others,
or of files that have changed since, is deleted.
"""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import hashlib
import math
import pathlib
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from tqdm import tqdm

from data_pipelines.channels import units
from data_pipelines.errors import SchemaError
from data_pipelines.ingest.gridding.index_file import is_complete
from data_pipelines.ingest.gridding.spool_group import Names, SeriesKey, Spellings, SpoolGroup, SpoolWriter
from data_pipelines.ingest.reading.account import Account
from data_pipelines.ingest.reading.export_files import Export
from data_pipelines.ingest.reading.importer import Importer
from data_pipelines.ingest.reading.input_files import CountingExport, ExportFiles, ExportSet
from data_pipelines.ingest.reading.readings import Readings, Stretch
from data_pipelines.runners import Report, Runner, in_this_process

# Bytes of files in a group. Small inputs have small groups, so that several processes have something to do.
SMALLEST_GROUP, LARGEST_GROUP = 2**22, 2**28
GROUPS = 512  # of an input that is neither small nor large


class Spool:
  """The readings of an import: its groups in order, and what they have in common.

  Attributes:
    groups: names of the groups' files, without their suffix.
    people: number of readings by name, in order of the first reading.
    groups_of: indices of the groups that have readings of a person, by name.
    series: keys, in order of the first reading.
    account: account of the files.
    stretches: labelled stretches in the files.
  """

  def __init__(self) -> None:
    self.groups: list[pathlib.Path] = []
    self.people: collections.Counter[str] = collections.Counter()
    self.groups_of: dict[str, list[int]] = {}
    self.series: list[SeriesKey] = []
    self.account = Account()
    self.stretches: list[Stretch] = []
    self._known_series: set[SeriesKey] = set()
    self._spellings = Spellings()

  def add(self, path: pathlib.Path) -> None:
    """Adds the next group.

    Raises:
      SchemaError: the name of a person or a channel is an earlier one in another spelling.
    """
    group = SpoolGroup.load(path)
    self.check_spellings(group.names)
    for person, rows in zip(group.people, group.rows, strict=True):
      self.people[person] += rows
      self.groups_of.setdefault(person, []).append(len(self.groups))
    self.groups.append(path)
    self.series += [key for key in group.series if key not in self._known_series]
    self._known_series.update(group.series)
    self.account.merge(group.account)
    self.stretches += group.stretches

  def check_spellings(self, names: Names) -> None:
    """Refuses a name of the next group that is an earlier one in another spelling."""
    for name in names:
      self._spellings.check(*name)


@dataclasses.dataclass(frozen=True)
class _Task:
  """A group to read.

  Attributes:
    path: of the group's files, without their suffix.
    files: what to read, in order.
    size: bytes.
  """

  path: pathlib.Path
  files: tuple[ExportFiles, ...]
  size: int


@dataclasses.dataclass(frozen=True)
class _Failure:
  """Why a group cannot be read, and the names in it up to there, whose spellings are to be checked first."""

  names: Names
  error: SchemaError


@dataclasses.dataclass(frozen=True)
class _ReadGroup:
  """Reads groups; can be pickled to other processes.

  Attributes:
    units_of: units of the importers' signals, by name.
    strict: whether a damaged part ends the import.
  """

  units_of: Mapping[str, str]
  strict: bool

  def __call__(self, task: _Task, report: Report) -> _Failure | None:
    writer = SpoolWriter(task.path)
    try:
      for part in task.files:
        self._read(part, writer, report)
    except SchemaError as error:
      return _Failure(writer.spellings.names, error)
    writer.complete()
    return None

  def _read(self, part: ExportFiles, writer: SpoolWriter, report: Report) -> None:
    read = 0

    def count(size: int) -> None:
      nonlocal read
      read += size
      report(size)

    export = CountingExport(part.export, count)
    for name in part.names:
      read, account = 0, Account(self.strict)
      for how in part.export.conversions(name):
        account.remark(part.blamed, how)
      for item in _readable(part.importer, export, name, account, part.blamed):
        if isinstance(item, Stretch) or _convertible(item, self.units_of, account, export.where(name)):
          writer.add(item, export.where(name))
      writer.end_file(account)
      report(export.size(name) - read)  # for files that are not read as a stream


def fill_spool(
  export_set: ExportSet, folder: pathlib.Path, strict: bool = False, runner: Runner = in_this_process
) -> Spool:
  """Reads all files of the exports into a spool in `folder`, except those that an interrupted import has already read.

  What cannot be read (a file, its rest, or readings in a unit that does not convert to their signal's) is counted in
  the account, and the other files are read.

  Raises:
    SchemaError: two people or channels differ in spelling only; or something cannot be read and `strict` is set.
  """
  folder.mkdir(parents=True, exist_ok=True, mode=0o700)
  tasks = list(_tasks(export_set, folder, strict))
  complete = {task.path for task in tasks if is_complete(task.path)}
  SpoolGroup.delete_others(folder, complete)
  if strict:
    account = Account()
    for task in tasks:
      if task.path in complete:
        account.merge(SpoolGroup.load(task.path).account)
    account.check_damage()
    for error in export_set.unreadable.values():
      raise error
  read_group = _ReadGroup({signal.name: signal.unit for signal in export_set.importer.signals}, strict)
  spool, missing = Spool(), [task for task in tasks if task.path not in complete]
  with (
    tqdm(total=sum(task.size for task in tasks), desc="reading", unit="B", unit_scale=True, disable=None) as progress,
    contextlib.closing(runner(read_group, missing, progress.update)) as outcomes,
  ):
    progress.update(sum(task.size for task in tasks if task.path in complete))
    for task in tasks:
      if task.path not in complete and (failure := next(outcomes)):
        spool.check_spellings(failure.names)
        raise failure.error
      spool.add(task.path)
  for error in export_set.unreadable.values():
    spool.account.unreadable("", str(error).partition(": ")[0], error)
  return spool


def _tasks(export_set: ExportSet, folder: pathlib.Path, strict: bool) -> Iterator[_Task]:
  """Divides the files into groups. A file is never divided, however large it is."""
  total = sum(export_set.files.values())
  # A power of two, so that groups stay the same when files change a little.
  most = min(max(2 ** round(math.log2(max(total / GROUPS, 1))), SMALLEST_GROUP), LARGEST_GROUP)
  group: list[tuple[int, str]] = []
  size = 0
  for file, file_size in export_set.files.items():
    if group and size + file_size > most:
      yield _task(export_set, folder, group, size, strict)
      group, size = [], 0
    group.append(file)
    size += file_size
  if group:
    yield _task(export_set, folder, group, size, strict)


def _task(
  export_set: ExportSet, folder: pathlib.Path, group: Sequence[tuple[int, str]], size: int, strict: bool
) -> _Task:
  names: dict[int, list[str]] = {}
  for n, name in group:
    names.setdefault(n, []).append(name)
  content = [(key, export_set.digests[key]) for key in (export_set.key(n, name) for n, name in group)]
  parts = tuple(export_set.part(n, own) for n, own in names.items())
  # How files are read: an interrupted import may be started again with other columns or another form of times.
  how = [(type(part.importer).__name__, sorted(vars(part.importer).items())) for part in parts]
  digest = hashlib.blake2b(repr((content, how, strict)).encode(), digest_size=12).hexdigest()
  return _Task(folder / digest, parts, size)


def _readable(
  importer: Importer, export: Export, name: str, account: Account, blamed: str
) -> Iterator[Readings | Stretch]:
  """Yields what a file holds, up to where it cannot be read; the account of `blamed` then says why."""
  try:
    yield from importer.read(export, name, account)
  except SchemaError as error:
    where = export.where(name)
    account.unreadable(blamed, where, error if export.size(name) else SchemaError(f"{where}: empty"))


def _convertible(readings: Readings, units_of: Mapping[str, str], account: Account, where: str) -> bool:
  """True if the unit of the readings converts to that of their signal; the account says where it does not."""
  try:
    units.convert(np.empty(0), readings.unit, units_of.get(readings.signal, readings.unit), readings.signal)
  except SchemaError as error:
    account.damaged(readings.participant, "unit that does not convert", where, f": {error}", len(readings.start))
    return False
  return True
