"""The exports of an input: one, or one for each person; what tells whether they have changed; how far reading is."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import io
import os
import pathlib
import re
from collections.abc import Callable, Iterator, Mapping
from typing import IO, Any

from data_pipelines.errors import SchemaError
from data_pipelines.ingest.reading.export_files import Export
from data_pipelines.ingest.reading.readings import Importer


def choose(path: str | os.PathLike, importers: Mapping[str, Importer]) -> str:
  """Name of the one importer that finds files of its kind in the input; SchemaError if none does, or several do."""
  tried = [Export(path), *_children(pathlib.Path(path))]
  names = [name for name, importer in importers.items() if any(importer.files(export) for export in tried)]
  if len(names) == 1:
    return names[0]
  if names:
    raise SchemaError(f"{path}: may be an export of {' or of '.join(names)}; tell by --source which one to read")
  raise SchemaError(f"{path}: nothing there that an importer knows ({', '.join(importers)}); name one by --source")


class Input:
  """The exports that an importer is to read.

  Attributes:
    importer: what reads them.
    exports: those that hold something for it.
    files: of each export's files that it reads: the bytes, by place in `exports` and name.
  """

  def __init__(self, path: str | os.PathLike, importer: Importer, per_person: bool | None = None):
    """Finds the exports of an input.

    Args:
      path: an export (a folder, zip or single file), or a folder of exports.
      per_person: whether it is a folder of exports, one for each person, named after them; None finds out: it is one
        if two of its folders or zips hold files of the same name, or if zips are all that it holds.

    Raises:
      SchemaError: there is nothing to read.
    """
    self.importer = importer
    children = [] if per_person is False else [e for e in _children(pathlib.Path(path)) if importer.files(e)]
    if per_person is None and not _alike(children, importer):
      children = []
    self.exports = children or [export for export in [Export(path)] if importer.files(export)]
    if not self.exports:
      raise SchemaError(f"{path}: holds no file that this importer reads: {_purpose(importer)}")
    self.files = {(n, name): e.size(name) for n, e in enumerate(self.exports) for name in importer.files(e)}

  @functools.cached_property
  def digests(self) -> dict[str, str]:
    """Of each file, by what names it: what changes if its content, its person or what is read along with it does."""
    around = self._around()
    return {
      self.key(n, name): f"{self.exports[n].digest(name)} {self.exports[n].participant} {around[n]}"
      for n, name in self.files
    }

  def _around(self) -> list[str]:
    """Of each export, what changes with the names of its files, and with those that are opened by the way of others."""
    told: list[list[str]] = [[] for _ in self.exports]
    for n, name in self.files:
      told[n].append(name)
    for lines, export in zip(told, self.exports, strict=True):
      lines += [f"{name} {export.digest(name)}" for name in export.matching(*self.importer.beside)]
    return [hashlib.blake2b("\n".join(lines).encode(), digest_size=8).hexdigest() for lines in told]

  def key(self, n: int, name: str) -> str:
    """Names a file of the n-th export among all files of the input."""
    return f"{self.exports[n].path.name}/{name}"


def _purpose(importer: Importer) -> str:
  return (type(importer).__doc__ or type(importer).__name__).strip().splitlines()[0]


def _children(path: pathlib.Path) -> list[Export]:
  """What could be exports of a person each, within a folder; of one that was packed in several zips, each of them."""
  if not path.is_dir():
    return []
  places = sorted(p for p in path.iterdir() if p.is_dir() or p.suffix.lower() == ".zip")
  return [
    Export(place, _person(place)) for place in places if not place.name.startswith(".") and not place.is_symlink()
  ]


def _person(place: pathlib.Path) -> str:
  name = place.name if place.is_dir() else place.stem
  return re.sub(r"^(takeout-.*)-\d+$", r"\1", name)  # takeout-20240131T120000Z-001.zip, -002.zip, ...


def _alike(children: list[Export], importer: Importer) -> bool:
  if children and all(export.path.suffix.lower() == ".zip" and export.path.is_file() for export in children):
    return True
  seen: set[str] = set()
  for export in children:
    names = {re.sub(r"\d+", "#", name) for name in importer.files(export)}
    if names & seen:
      return True
    seen |= names
  return False


class Watched(Export):
  """An export that tells how many bytes of its files have been read."""

  def __init__(self, path: str | os.PathLike, participant: str | None, tell: Callable[[int], object]):
    super().__init__(path, participant)
    self._tell = tell

  @contextlib.contextmanager
  def open(self, name: str) -> Iterator[IO[bytes]]:
    with super().open(name) as file, io.BufferedReader(_Counted(file, self._tell), 1 << 20) as counted:  # type: ignore
      yield counted


class _Counted(io.RawIOBase):
  def __init__(self, file: IO[bytes], tell: Callable[[int], object]):
    self._file, self._report = file, tell

  def readable(self) -> bool:
    return True

  def seekable(self) -> bool:
    return self._file.seekable()

  def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
    return self._file.seek(offset, whence)

  def tell(self) -> int:
    return self._file.tell()

  def readinto(self, buffer: Any) -> int:
    block = self._file.read(len(buffer))
    buffer[: len(block)] = block
    self._report(len(block))
    return len(block)
