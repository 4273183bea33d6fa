"""The exports within an input: which importer reads them, whose they are, and whether they have changed."""

from __future__ import annotations

import contextlib
import fnmatch
import functools
import hashlib
import io
import os
import pathlib
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import IO, Any

from tqdm import tqdm

from data_pipelines.errors import SchemaError
from data_pipelines.ingest.reading.export_files import Export
from data_pipelines.ingest.reading.importer import Importer
from data_pipelines.ingest.reading.unknown_input import suggestions

_FEW = 100  # files of an export whose encoding is looked at although no importer reads them


def detect_importer(path: str | os.PathLike, importers: Mapping[str, Importer]) -> str:
  """Name of the one importer that finds files of its kind in an input.

  Raises:
    SchemaError: no importer does, or several do.
  """
  candidates = [Export(path, follow_links=True), *_children(pathlib.Path(path))]
  names = [name for name, importer in importers.items() if any(importer.files(export) for export in candidates)]
  if len(names) == 1:
    return names[0]
  if names:
    raise SchemaError(f"{path}: may be an export of {' or of '.join(names)}; choose one with --source")
  fault = _encoding_fault(candidates)
  if fault:
    raise SchemaError(fault)
  known = ", ".join(importers)
  raise SchemaError(f"{path}: {suggestions(candidates, f'holds nothing that an importer reads ({known})')}")


class ExportSet:
  """The exports that one importer is to read.

  Attributes:
    importer: reads them.
    exports: those with files for the importer.
    files: bytes of each file to be read, by index into `exports` and name.
    left_out: names of files and folders of the input that are not read, by reason.
    unread_columns: columns of its tables that are not read.
    links: links in the input that are followed.
  """

  def __init__(self, path: str | os.PathLike, importer: Importer, per_person: bool | None = None):
    """Finds the exports of an input.

    Args:
      path: one export (a folder, zip or single file), or a folder of exports.
      importer: reads them.
      per_person: whether the input is a folder with one export per person, each named after the person. None decides
        by its content: it is one if two of its folders or zips hold files of the same name, or if it holds only zips.

    Raises:
      SchemaError: there is nothing that the importer reads.
    """
    self.importer = importer
    places = [] if per_person is False else _children(pathlib.Path(path))
    children = [export for export in places if importer.files(export)]
    if per_person is None and not _look_alike(children, importer):
      children = []
    whole = Export(path, follow_links=True)
    self.exports = children or [export for export in [whole] if importer.files(export)]
    if not self.exports:
      fault = _encoding_fault([whole])
      missing = f"holds no file for the importer that {_purpose(importer)}"
      raise SchemaError(fault or f"{path}: {suggestions([whole, *places], missing)}")
    self.files = {(n, name): e.size(name) for n, e in enumerate(self.exports) for name in importer.files(e)}
    self.links = whole.links
    self.left_out = self._left_out(whole, [export for export in places if export not in children] if children else [])
    self.unread_columns = self._unread_columns()

  def _left_out(self, whole: Export, others: list[Export]) -> dict[str, list[str]]:
    """What is not read, by reason. `others` are folders and zips beside the exports."""
    per_person = self.exports != [whole]
    names: dict[str, list[str]] = {"without a file that the importer reads": [other.path.name for other in others]}
    if per_person:
      loose = [name for name in whole.names if "/" not in name and not name.lower().endswith(".zip")]
      names["beside the folders and zips of people"] = loose
      encoded = [f"{other.path.name}/{name}" for other in others for name in other.names if other.encoding_fault(name)]
      names["in another encoding than UTF-8"] = encoded
      for why, found in whole.left_out.items():
        names.setdefault(why, []).extend(name for name in found if "/" not in name)
    for n, export in enumerate(self.exports):
      prefix = f"{export.path.name}/" if per_person else ""
      unread_beside: Callable[[Export], list[str]] = getattr(self.importer, "unread_beside", lambda export: [])
      beside = {*export.matching(*self.importer.beside)} - {*unread_beside(export)}
      unread = [name for name in export.names if (n, name) not in self.files and name not in beside]
      empty = [name for name in unread if not export.size(name)]
      encoded = [name for name in unread[:_FEW] if name not in empty and export.encoding_fault(name)]
      found_by_reason = {
        "empty": empty,
        "in another encoding than UTF-8": encoded,
        **self._by_purpose(sorted({*unread} - {*empty, *encoded})),
      }
      for why, found in [*export.left_out.items(), *found_by_reason.items()]:
        names.setdefault(why, []).extend(prefix + name for name in found)
    return {why: found for why, found in names.items() if found}

  def _by_purpose(self, names: Sequence[str]) -> dict[str, list[str]]:
    """Files that no importer of this kind reads, by the reason that the importer gives for files of such names."""
    reasons: Mapping[str, str] = getattr(self.importer, "not_read_because", {})
    expressions = [(re.compile(fnmatch.translate(pattern.lower())), why) for pattern, why in reasons.items()]
    found: dict[str, list[str]] = {}
    for name in names:
      base = name.rsplit("/", 1)[-1].lower()
      why = next((why for e, why in expressions if e.match(base)), "of no kind that the importer reads")
      found.setdefault(why, []).append(name)
    return found

  def _unread_columns(self) -> list[str]:
    """Columns that an importer of tables does not read, each once however many files have it."""
    unread = getattr(self.importer, "unread_columns", None)
    found = [column for n, name in self.files for column in unread(self.exports[n], name)] if unread else []
    return [column or "one without a name" for column in dict.fromkeys(found)]

  @functools.cached_property
  def digests(self) -> dict[str, str]:
    """Text for each file, by key, that changes whenever its content, its person or a file read along with it does."""
    surroundings = self._surroundings()
    texts = {}
    with tqdm(total=sum(self.files.values()), desc="comparing", unit="B", unit_scale=True, disable=None) as progress:
      for (n, name), size in self.files.items():
        export = self.exports[n]
        texts[self.key(n, name)] = f"{export.digest(name)} {export.participant} {surroundings[n]}"
        progress.update(size)
    return texts

  def _surroundings(self) -> list[str]:
    """A digest per export of its files' names and of the contents of `importer.beside`."""
    lines: list[list[str]] = [[] for _ in self.exports]
    for n, name in self.files:
      lines[n].append(name)
    for export_lines, export in zip(lines, self.exports, strict=True):
      export_lines += [f"{name} {export.digest(name)}" for name in export.matching(*self.importer.beside)]
    return [hashlib.blake2b("\n".join(names).encode(), digest_size=8).hexdigest() for names in lines]

  def key(self, n: int, name: str) -> str:
    """The name of a file of the n-th export that is unique within the input."""
    return f"{self.exports[n].path.name}/{name}"


def _encoding_fault(exports: Sequence[Export]) -> str | None:
  """A line about the first file of some exports that is text in another encoding, which no importer recognises."""
  for export in exports:
    for name in export.names[:_FEW]:
      if fault := export.encoding_fault(name):
        return f"{export.where(name)}: {fault}"
  return None


def _purpose(importer: Importer) -> str:
  """What the importer's docstring says it reads: "reads Garmin's FIT files and account export"."""
  first_line = (type(importer).__doc__ or "reads it").strip().splitlines()[0]
  return first_line[0].lower() + first_line[1:].partition(";")[0].rstrip(".")


def _children(path: pathlib.Path) -> list[Export]:
  """The folders and zips in a folder, each of which may be one person's export or a part of it."""
  if not path.is_dir():
    return []
  try:
    places = sorted(p for p in path.iterdir() if p.is_dir() or p.suffix.lower() == ".zip")
  except OSError as error:
    raise SchemaError(f"{path}: cannot be listed: {(error.strerror or 'unreadable').lower()}") from None
  # Links are checked by Export for the whole input, which follows those that lie directly in it.
  return [Export(place, _person(place)) for place in places if not place.name.startswith(".")]


def _person(place: pathlib.Path) -> str:
  name = place.name if place.is_dir() else place.stem
  return re.sub(r"^(takeout-.*)-\d+$", r"\1", name)  # takeout-20240131T120000Z-001.zip, -002.zip, ...


def _look_alike(children: list[Export], importer: Importer) -> bool:
  """Whether these look like exports of one person each, rather than the folders of a single export."""
  if children and all(export.path.suffix.lower() == ".zip" and export.path.is_file() for export in children):
    return True
  seen: set[str] = set()
  for export in children:
    names = {re.sub(r"\d+", "#", name) for name in importer.files(export)}
    if names & seen:
      return True
    seen |= names
  return False


class CountingExport(Export):
  """An export that reports how many bytes of its files have been read, for a progress bar."""

  def __init__(self, export: Export, report: Callable[[int], object]):
    """Calls `report` with the number of bytes of every block of the export that is read."""
    super().__init__(export.path, export.participant, follow_links=export.follow_links)
    self._report = report

  @contextlib.contextmanager
  def open(self, name: str) -> Iterator[IO[bytes]]:
    with super().open(name) as file, io.BufferedReader(_CountedFile(file, self._report), 1 << 20) as counted:  # type: ignore
      yield counted


class _CountedFile(io.RawIOBase):
  def __init__(self, file: IO[bytes], report: Callable[[int], object]):
    self._file, self._report = file, report

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
