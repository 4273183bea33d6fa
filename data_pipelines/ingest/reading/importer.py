"""The protocol that every importer follows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

from data_pipelines.ingest.reading.account import Account
from data_pipelines.ingest.reading.export_files import Export
from data_pipelines.ingest.reading.readings import Readings, Stretch
from data_pipelines.ingest.reading.signals import Signal


class Importer(Protocol):
  """Reads one kind of export. data_pipelines.ingest.importers.IMPORTERS lists all importers by their --source name.

  An importer only reads: units, clocks, ranges, wear time and the choice between devices are handled after it, in the
  same way for all of them. Error messages quote the first line of its class docstring, "Reads ...", up to a semicolon.

  One may also have
    unread_columns(export, name): a method that gives the columns of a file that it does not read;
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
