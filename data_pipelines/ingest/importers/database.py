"""Reads an untrusted SQLite file without relying on its schema (https://www.sqlite.org/security.html).

The file is opened read-only and as immutable, so that a journal beside it is not replayed; where there is one, the
account notes that its rows are not read. Only plain columns of plain
tables are read: no views, virtual tables, computed columns or functions, and triggers have nothing to run on. A file
whose pages form a cycle ends with an error, because the work is bounded by the size of the file.
"""

from __future__ import annotations

import contextlib
import pathlib
import re
import sqlite3
from collections.abc import Iterator, Sequence
from typing import Any

from data_pipelines.errors import SchemaError
from data_pipelines.ingest.reading.account import Account
from data_pipelines.ingest.reading.export_files import Export

HEADER = b"SQLite format 3\0"  # how a database file begins
ROWS_PER_BATCH = 50_000
_WAL_HEAD = 32  # bytes, which an empty one has at most
_JOURNAL_MARK = bytes.fromhex("d9d505f920a163d7")  # how a journal begins; SQLite puts zeros there when all is written
_LONGEST_ROW = 16 * 2**20  # bytes
# Steps of SQLite's virtual machine: allowed per byte of the file, allowed on top, and between two checks.
_STEPS, _STEPS_FREE, _EVERY = 64, 10_000_000, 100_000


def note_journal(export: Export, name: str, account: Account) -> None:
  """Notes in the account that a database has a journal beside it, whose rows are not read."""
  alone = export.path.is_file() and export.names == [name]  # a file given by itself; its journal may lie beside it
  begins = {"-wal": b"", "-journal": b""}
  for end in begins:
    beside = export.path.with_name(f"{export.path.name}{end}")
    with contextlib.suppress(SchemaError, OSError):  # the database can be read without it
      if alone and beside.is_file():
        with beside.open("rb") as file:
          begins[end] = file.read(_WAL_HEAD + 1)
      elif export.holds(f"{name}{end}"):
        with export.open(f"{name}{end}") as packed:
          begins[end] = packed.read(_WAL_HEAD + 1)
  if len(begins["-wal"]) > _WAL_HEAD:
    account.remark(
      export.participant,
      "an app was still writing into its database: what lies in the file -wal beside it is not read; open the "
      'database once, as with sqlite3 FILE "pragma wal_checkpoint(truncate)", and import it again',
    )
  if begins["-journal"].startswith(_JOURNAL_MARK):
    account.remark(
      export.participant,
      "an app was stopped while it changed its database: the file -journal beside it, which undoes the change, is not "
      'applied; open the database once, as with sqlite3 FILE "pragma schema_version", and import it again',
    )


class Database:
  """The tables of an SQLite file, read batch by batch. Every SchemaError names the file by `where`."""

  def __init__(self, path: pathlib.Path, where: str, tables: Sequence[str]):
    """Opens the file. Only `tables`, names given by our own code, are looked at."""
    self._where = where
    self._steps = _STEPS * path.stat().st_size + _STEPS_FREE
    self._columns: dict[str, frozenset[str]] = {}
    with self._checked():
      self._connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro&immutable=1", uri=True)
      self._connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, _LONGEST_ROW)
      self._connection.set_progress_handler(self._progress, _EVERY)
      self._connection.text_factory = lambda text: text.decode("utf-8", "replace")
      for pragma in ("trusted_schema=OFF", "query_only=ON", "cell_size_check=ON", "mmap_size=0"):
        self._connection.execute(f"PRAGMA {pragma}")
      names = self._connection.execute("SELECT name FROM sqlite_master WHERE type = 'table' AND rootpage > 0")
      for name in {name for (name,) in names} & set(tables):
        details = self._connection.execute(f'PRAGMA table_xinfo("{name}")')
        self._columns[name] = frozenset(row[1] for row in details if row[6] == 0)  # neither hidden nor computed
      self._connection.set_authorizer(self._allow)

  def close(self) -> None:
    """Closes the file."""
    self._connection.close()

  def rows(self, tables: str) -> dict[str, int]:
    """Numbers of rows of the tables that are none of those looked at, by name; `tables` is a pattern of their names."""
    names = "SELECT name FROM sqlite_master WHERE type = 'table' AND rootpage > 0"
    with self._checked():
      self._connection.set_authorizer(None)
      others = [name for (name,) in self._connection.execute(names) if re.fullmatch(tables, name)]
      counts = {}
      for name in sorted({*others} - {*self._columns}):
        (counts[name],) = self._connection.execute(f'SELECT COUNT(*) FROM "{name}"').fetchone()
      self._connection.set_authorizer(self._allow)
    return {name: count for name, count in counts.items() if count}

  def columns(self, table: str) -> frozenset[str]:
    """Returns the names of a table's plain columns; empty if there is no such table."""
    return self._columns.get(table, frozenset())

  def batches(self, query: str) -> Iterator[list[tuple[Any, ...]]]:
    """Yields the rows of a SELECT written by our own code, at most ROWS_PER_BATCH at a time."""
    with self._checked():
      cursor = self._connection.execute(query)
      while rows := cursor.fetchmany(ROWS_PER_BATCH):
        yield rows

  @contextlib.contextmanager
  def _checked(self) -> Iterator[None]:
    try:
      yield
    # SQLite's message quotes a damaged schema, which may span several lines or not be valid text.
    except (sqlite3.Error, OverflowError, UnicodeDecodeError) as error:
      message = " ".join(str(error).split())[:200]
      raise SchemaError(f"{self._where}: not a database, or a damaged one: {message}") from None

  def _progress(self) -> bool:
    self._steps -= _EVERY
    return self._steps < 0

  def _allow(self, action: int, table: str | None, _: str | None, __: str | None, view: str | None) -> int:
    reads = action == sqlite3.SQLITE_READ and table in self._columns and view is None
    return sqlite3.SQLITE_OK if reads or action == sqlite3.SQLITE_SELECT else sqlite3.SQLITE_DENY
