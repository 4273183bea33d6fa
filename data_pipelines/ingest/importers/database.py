"""An SQLite file of someone else's, read without trusting its schema (https://www.sqlite.org/security.html).

It is opened read-only and as if nothing could change it, so that no journal beside it is played back. Only plain
columns of plain tables are read: no views, no virtual tables, no computed columns, no functions, and triggers have
nothing to run on. A file whose pages lead in circles comes to an end, since the work is bounded by its size.
"""

from __future__ import annotations

import contextlib
import pathlib
import sqlite3
from collections.abc import Iterator, Sequence
from typing import Any

from data_pipelines.errors import SchemaError

BLOCK = 50_000  # rows
_LONGEST = 16 * 2**20  # bytes of a row
_STEPS, _STEPS_FREE, _EVERY = 64, 10_000_000, 100_000  # of SQLite's machine: per byte of the file, on top, checked


class Database:
  """Tables of an SQLite file, block by block. SchemaErrors name it by `where`."""

  def __init__(self, path: pathlib.Path, where: str, tables: Sequence[str]):
    """Opens the file; of all its tables only `tables`, our own names, are looked at."""
    self._where = where
    self._steps = _STEPS * path.stat().st_size + _STEPS_FREE
    self._columns: dict[str, frozenset[str]] = {}
    with self._checked():
      self._connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro&immutable=1", uri=True)
      self._connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, _LONGEST)
      self._connection.set_progress_handler(self._progress, _EVERY)
      self._connection.text_factory = lambda text: text.decode("utf-8", "replace")
      for pragma in ("trusted_schema=OFF", "query_only=ON", "cell_size_check=ON", "mmap_size=0"):
        self._connection.execute(f"PRAGMA {pragma}")
      found = self._connection.execute("SELECT name FROM sqlite_master WHERE type = 'table' AND rootpage > 0")
      for name in {name for (name,) in found} & set(tables):
        about = self._connection.execute(f'PRAGMA table_xinfo("{name}")')
        self._columns[name] = frozenset(row[1] for row in about if row[6] == 0)  # neither hidden nor computed
      self._connection.set_authorizer(self._allow)

  def close(self) -> None:
    self._connection.close()

  def columns(self, table: str) -> frozenset[str]:
    """Names of the plain columns of a table; none if there is no such table."""
    return self._columns.get(table, frozenset())

  def blocks(self, query: str) -> Iterator[list[tuple[Any, ...]]]:
    """Rows of a SELECT of ours, at most BLOCK at a time."""
    with self._checked():
      cursor = self._connection.execute(query)
      while rows := cursor.fetchmany(BLOCK):
        yield rows

  @contextlib.contextmanager
  def _checked(self) -> Iterator[None]:
    try:
      yield
    # A damaged schema is quoted in SQLite's message: several lines, or bytes that are no text.
    except (sqlite3.Error, OverflowError, UnicodeDecodeError) as error:
      said = " ".join(str(error).split())[:200]
      raise SchemaError(f"{self._where}: not a database, or a damaged one: {said}") from None

  def _progress(self) -> bool:
    self._steps -= _EVERY
    return self._steps < 0

  def _allow(self, action: int, table: str | None, _: str | None, __: str | None, view: str | None) -> int:
    reads = action == sqlite3.SQLITE_READ and table in self._columns and view is None
    return sqlite3.SQLITE_OK if reads or action == sqlite3.SQLITE_SELECT else sqlite3.SQLITE_DENY
