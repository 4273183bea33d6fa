"""The protocol that every importer follows."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

from data_pipelines.ingest.reading.account import Account
from data_pipelines.ingest.reading.export_files import Export
from data_pipelines.ingest.reading.readings import COARSE, ENTERED_BY_HAND, Readings, Stretch
from data_pipelines.ingest.reading.signals import Signal

_LESS_TRUSTED = re.compile(r"phone|mobile|other|in bed|wall clock|health connect|copy|unknown")


class Importer(Protocol):
  """Reads one kind of export. data_pipelines.ingest.importers.IMPORTERS lists all importers by their --source name.

  An importer only reads: units, clocks, ranges, wear time and the choice between devices are handled after it, in the
  same way for all of them. Error messages quote the first line of its class docstring, "Reads ...", up to a semicolon.

  One may also have
    unread_columns(export, name): a method that gives the columns of a file that it does not read;
    owners(export, names): a method that gives the Owner of each file (see owners.py), {name: Owner};
    people(export, name): a method that gives the names that the rows of a file give, where these are names of a study
      rather than numbers of accounts;
    unread_beside(export): a method that gives the files of `beside` that it never opens;
    not_read_because: {pattern of names: why files of such names are not read}, in a few words;
    wear_counts: the signal whose counts say when the device was worn (Choi et al. 2011).

  Attributes:
    signals: every signal that it can find, in the order of the dataset's channels. The schema holds those that the
      export contains.
    devices: device names, most trusted first, for times when devices overlap. Devices not listed here follow, by name.
    beside: name patterns of further files that it opens while it reads those of `files`.
  """

  signals: Sequence[Signal]
  devices: Sequence[str]
  beside: Sequence[str]

  def files(self, export: Export) -> list[str]:
    """Names of the files that it reads, in reading order; empty if the export is of another kind."""
    ...

  def read(self, export: Export, name: str, account: Account) -> Iterator[Readings | Stretch]:
    """All readings and stretches of one file, in blocks of at most a million readings, so that memory is bounded.

    Rows that cannot be used are dropped and counted in `account`.

    Raises:
      SchemaError: the file is not what its name says (a column is missing, broken JSON or XML, wrong encoding). The
        message is one line that names the file, and the row or key where there is one.
    """
    ...


class _OneOfSeveral:
  """An importer whose devices are told apart from those of other kinds of exports, and ranked among them."""

  def __init__(self, kind: str, importer: Importer):
    self._kind, self._importer = kind, importer

  def __reduce__(self) -> tuple[Any, ...]:
    return type(self), (self._kind, self._importer)  # __getattr__ needs what unpickling has not set yet

  def __getattr__(self, name: str) -> object:
    return getattr(self._importer, name)  # signals, beside, files, owners, unread_columns, ...

  def read(self, export: Export, name: str, account: Account) -> Iterator[Readings | Stretch]:
    for item in self._importer.read(export, name, account):
      yield item if isinstance(item, Stretch) else dataclasses.replace(item, device=self._device(item.device))

  def _device(self, device: str) -> str:
    """A name with its rank in front: what is worn comes before phones, copies and what is known by wall clock only.

    What is no device keeps its name, by which the grid knows it and ranks it last.
    """
    if device in (COARSE, ENTERED_BY_HAND):
      return device
    trusted = self._importer.devices
    place = f"{trusted.index(device):02d} " if device in trusted else ""
    return f"{1 if _LESS_TRUSTED.search(device.lower()) else 0} {self._kind} {place}{device}".rstrip()


@dataclasses.dataclass(frozen=True)
class _Several:
  """Reads exports of several kinds; what the importers of an import have in common.

  Attributes:
    signals: all signals, each as the first importer defines it.
    devices: none; the names of devices begin with their rank.
    beside: all patterns.
    wear_counts: of the first importer that has them; "" if none has.
  """

  signals: Sequence[Signal]
  devices: Sequence[str]
  beside: Sequence[str]
  wear_counts: str


def combined(importers: Mapping[str, Importer]) -> Importer:
  """One importer that stands for all of an import: the only one itself, or one with the signals of several."""
  if len(importers) == 1:
    return next(iter(importers.values()))
  signals = {signal.name: signal for importer in reversed([*importers.values()]) for signal in importer.signals}
  beside = [pattern for importer in importers.values() for pattern in importer.beside]
  counts = next(filter(None, (getattr(importer, "wear_counts", "") for importer in importers.values())), "")
  return _Several(tuple(signals.values()), (), tuple(beside), counts)  # type: ignore[return-value]


def told_apart(importers: Mapping[str, Importer]) -> Mapping[str, Importer]:
  """The importers of an import of several kinds of exports, whose devices may have the same names."""
  return {kind: _OneOfSeveral(kind, importer) for kind, importer in importers.items()}  # type: ignore[misc]
