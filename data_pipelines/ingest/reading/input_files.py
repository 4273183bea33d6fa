"""The exports within an input: which importer reads them, whose they are, and whether they have changed."""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import fnmatch
import functools
import hashlib
import io
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import IO, Any

from tqdm import tqdm

from data_pipelines.errors import SchemaError
from data_pipelines.ingest.reading.export_files import Export
from data_pipelines.ingest.reading.importer import Importer, combined
from data_pipelines.ingest.reading.owners import Owner, loose_places, takeout_marks
from data_pipelines.ingest.reading.people import ACCOUNT, FOLDER, ONE, Unit, by_evidence, by_rule, listed
from data_pipelines.ingest.reading.unknown_input import suggestions, unpacking

_FEW = 100  # files of an export whose encoding is looked at although no importer reads them


def detect_importers(path: str | os.PathLike, importers: Mapping[str, Importer]) -> list[str]:
  """Names of the importers that find files of their kind in an input, of which there is at least one.

  Raises:
    SchemaError: no importer does, or several read the same file.
  """
  places, damaged = _places(path, list(importers.values()))
  readers: dict[tuple[str, str], str] = {}
  for within, place in places.items():
    for kind, importer in importers.items():
      for name in importer.files(place):
        if (other := readers.setdefault((within, name), kind)) != kind:
          raise SchemaError(f"{place.where(name)}: may be of {other} or of {kind}; choose one with --source")
  if readers:
    return [kind for kind in importers if kind in readers.values()]
  if fault := _encoding_fault([*places.values()]) or next((str(error) for error in damaged.values()), None):
    raise SchemaError(fault)
  known = ", ".join(importers)
  raise SchemaError(f"{path}: {suggestions([*places.values()], f'holds nothing that an importer reads ({known})')}")


@dataclasses.dataclass(frozen=True)
class ExportFiles:
  """Files of an export that are read one after another.

  Attributes:
    export: holds them.
    importer: reads them.
    names: their names.
    blamed: see ExportSet.blamed.
  """

  export: Export
  importer: Importer
  names: tuple[str, ...]
  blamed: str


class ExportSet:
  """The exports that are to be read, by one importer or several.

  Attributes:
    importer: reads them; of several it only has what they have in common.
    exports: an export for each person, place and kind, with the files that are read and those beside them.
    importers: the importer of each export.
    names: names of the files that are read of each export.
    files: bytes of each file to be read, by index into `exports` and name.
    people: the folders, zips or files of each person, if there are several persons, or one has several.
    unreadable: why zips in the input cannot be opened.
    left_out: names of files and folders of the input that are not read, by reason.
    unread_columns: columns of its tables that are not read.
    links: links in the input that are followed.
    named_by_rows: number of exports whose rows or files say whose they are, although the user says it otherwise.
  """

  def __init__(
    self, path: str | os.PathLike, importer: Importer | Mapping[str, Importer], person_by: str | None = None
  ):
    """Finds the exports of an input, and whose they are.

    Args:
      path: one export (a folder, zip or single file), or a folder of exports.
      importer: reads them; several by name, for exports of several kinds.
      person_by: ONE if all are one person's; FOLDER if each folder or zip directly in the input is a person's, FILE if
        each file is, ACCOUNT if each account or name is that the exports have. None goes by accounts, serial numbers
        of devices and the like, as far as the exports name them.

    Raises:
      SchemaError: there is nothing that is read, or it cannot be known whose the exports are.
    """
    self._importers = dict(importer) if isinstance(importer, Mapping) else {"": importer}
    self.importer: Importer = combined(self._importers)
    self._places, self.unreadable = _places(path, list(self._importers.values()))
    whole = self._places[""]
    self._zips = {within[: -len(".zip")]: place for within, place in self._places.items() if within}
    self._read: dict[str, set[str]] = collections.defaultdict(set)  # names that an importer reads, by place
    units = [unit for kind in self._importers for unit in self._units(kind)]
    if not units:
      fault = next((str(error) for error in self.unreadable.values()), _encoding_fault([*self._places.values()]))
      missing = f"holds no file for the importer that {_purpose(self.importer)}"
      raise SchemaError(fault or f"{path}: {suggestions([*self._places.values()], missing)}")
    people = by_rule(units, person_by, str(path)) if person_by else by_evidence(units, str(path))
    if person_by not in (ONE, ACCOUNT):
      self._check_names_in_rows(units, str(path))
    self._by_folder = person_by == FOLDER
    self.exports: list[Export] = []
    self.names: list[tuple[str, ...]] = []
    self.importers: list[Importer] = []
    self._within: list[str] = []
    self._owners: list[Owner] = []
    self.files: dict[tuple[int, str], int] = {}
    for participant, unit in people:
      self._add(participant or whole.participant, unit)
    self.people = listed(people)
    self.named_by_rows = sum(unit.owner.in_rows for _, unit in people) if person_by else 0
    self.links = whole.links
    self.left_out = self._left_out()
    self.unread_columns = self._unread_columns()

  def _units(self, kind: str) -> Iterator[Unit]:
    importer = self._importers[kind]
    for within, place in self._places.items():
      names = importer.files(place)
      self._read[within] |= {*names}
      owners: Callable[[Export, Sequence[str]], Mapping[str, Owner]] | None = getattr(importer, "owners", None)
      owner_of = owners(place, names) if owners else {n: Owner(where) for n, where in loose_places(names).items()}
      for owner in dict.fromkeys(owner_of[name] for name in names):
        unit = Unit(kind, within, place, owner, tuple(name for name in names if owner_of[name] == owner))
        marks = owner.marks | takeout_marks(unit.path) | self._unpacked(unit)
        yield dataclasses.replace(unit, owner=dataclasses.replace(owner, marks=marks))

  def _check_names_in_rows(self, units: Sequence[Unit], path: str) -> None:
    """Refuses tables in several folders or zips whose rows have a name in common, who may be one person or two."""
    tables: dict[str, list[tuple[Unit, str]]] = {}
    for unit in units if self._places[""].path.is_dir() else ():
      if unit.owner.in_rows and hasattr(self._importers[unit.kind], "people"):
        for name in unit.names:
          # A zip is one place with all folders in it, and with the folder beside it that was unpacked from it.
          folder = unit.within[: -len(".zip")] or name.rpartition("/")[0]
          tables.setdefault(folder, []).append((unit, name))
    if len(tables) < 2:  # so that a single folder is not read twice
      return
    first: dict[str, str] = {}
    for folder, files in tables.items():
      for unit, name in files:
        for who in sorted(self._importers[unit.kind].people(unit.place, name)):  # type: ignore[attr-defined]
          if (other := first.setdefault(who, folder)) != folder:
            places = " and ".join(place or "the input itself" for place in (other, folder))
            raise SchemaError(
              f"{path}: rows in {places} name {who!r} and do not say whether this is one person; give "
              "--person_by=account if a name is one person everywhere, or else import each folder by itself"
            )

  def _unpacked(self, unit: Unit) -> frozenset[str]:
    """A mark that a zip shares with the folder of its name beside it, if they have a file in common."""
    folders = unit.path.split("/")
    stems = [unit.within[: -len(".zip")]] if unit.within else ["/".join(folders[: n + 1]) for n in range(len(folders))]
    whole = self._places[""]
    marks = set()
    for stem in stems:
      zipped = self._zips.get(stem)
      if zipped and any(
        whole.holds(name) and whole.size(name) == zipped.size(packed)
        for packed in zipped.names
        for name in (f"{stem}/{packed}", f"{stem.rpartition('/')[0]}/{packed}".lstrip("/"))
      ):
        marks.add(f"unpacked {stem}")
    return frozenset(marks)

  def _add(self, participant: str, unit: Unit) -> None:
    """Adds the files of a unit as an export of a person."""
    read = self._read[unit.within]
    scope = unit.owner.place
    scope = scope.rpartition("/")[0] if scope in read else scope  # beside a file is what lies in its folder
    beside = (n for n in unit.place.names if n not in read and (not scope or n.startswith(f"{scope}/")))
    export = unit.place.part([*unit.names, *beside], participant)
    self.files |= {(len(self.exports), name): unit.place.size(name) for name in unit.names}
    self.exports.append(export)
    self.names.append(unit.names)
    self.importers.append(self._importers[unit.kind])
    self._within.append(unit.within or unit.place.path.name)
    self._owners.append(unit.owner)

  def _left_out(self) -> dict[str, list[str]]:
    """Files and folders that are not read, by reason."""
    whole = self._places[""]
    read = {(self.exports[n].path, name) for n, name in self.files}
    several = self._by_folder or len({export.participant for export in self.exports}) > 1
    used = {within.partition("/")[0] for within in self._within}
    used |= {name.partition("/")[0] for path, name in read if path == whole.path}
    names: dict[str, list[str]] = {}
    if several:  # a folder of people
      names["without a file that the importer reads"] = sorted({*whole.folders} - used)
    for within, place in self._places.items():
      prefix = f"{within}/" * bool(within)
      beside = {*place.matching(*self.importer.beside)} - self._unread_beside(place)
      unread = [name for name in place.names if (place.path, name) not in read and name not in beside]
      unread = [name for name in unread if f"{prefix}{name}" not in self._places]
      loose: list[str] = []
      if several and not within:
        loose = [name for name in unread if "/" not in name]
        unread = [name for name in unread if "/" in name and name.partition("/")[0] in used]
      empty = [name for name in unread if not place.size(name)]
      encoded = [name for name in unread[:_FEW] if name not in empty and place.encoding_fault(name)]
      if several and not within:
        others = [name for name in place.names if "/" in name and name.partition("/")[0] not in used]
        encoded += [name for name in others[:_FEW] if place.encoding_fault(name)]
      found_by_reason = {
        "beside the folders and zips of people": loose,
        "in another encoding than UTF-8": encoded,
        **self._by_purpose(sorted({*unread} - {*empty, *encoded})),
        "empty": empty,
      }
      for why, found in [*place.left_out.items(), *found_by_reason.items()]:
        names.setdefault(why, []).extend(prefix + name for name in found)
    return {why: found for why, found in names.items() if found}

  def _unread_beside(self, place: Export) -> set[str]:
    """Files beside those that are read, which no importer ever opens."""
    importers = [importer for importer in self._importers.values() if hasattr(importer, "unread_beside")]
    return {name for importer in importers for name in importer.unread_beside(place)}

  def _by_purpose(self, names: Sequence[str]) -> dict[str, list[str]]:
    """Files that no importer of this kind reads, by the reason that the importer gives for files of such names."""
    reasons: dict[str, str] = {}
    for importer in self._importers.values():
      reasons |= getattr(importer, "not_read_because", {})
    expressions = [(re.compile(fnmatch.translate(pattern.lower())), why) for pattern, why in reasons.items()]
    found: dict[str, list[str]] = {}
    for name in names:
      base = name.rsplit("/", 1)[-1].lower()
      command = unpacking(base)
      other = f"archive, to be unpacked first: {command}" if command else "of no kind that the importer reads"
      why = next((why for e, why in expressions if e.match(base)), other)
      found.setdefault(why, []).append(name)
    return found

  def _unread_columns(self) -> list[str]:
    """Columns that an importer of tables does not read, each once however many files have it."""
    found: list[str] = []
    for n, name in self.files:
      unread = getattr(self.importers[n], "unread_columns", None)
      found += unread(self.exports[n], name) if unread else []
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
    for export_lines, export, importer in zip(lines, self.exports, self.importers, strict=True):
      export_lines += [f"{name} {export.digest(name)}" for name in export.matching(*importer.beside)]
    return [hashlib.blake2b("\n".join(names).encode(), digest_size=8).hexdigest() for names in lines]

  def blamed(self, n: int) -> str:
    """Whose account has what cannot be read of the n-th export: "" if its rows say whose they are."""
    return "" if self._owners[n].in_rows else self.exports[n].participant

  def part(self, n: int, names: Sequence[str]) -> ExportFiles:
    """Some of the files of the n-th export, with what is needed to read them."""
    return ExportFiles(self.exports[n], self.importers[n], tuple(names), self.blamed(n))

  def key(self, n: int, name: str) -> str:
    """The name of a file of the n-th export that is unique within the input."""
    return f"{self._within[n]}/{name}"


def _encoding_fault(exports: Sequence[Export]) -> str | None:
  """A line about the first file of some exports that is text in another encoding, which no importer recognises."""
  for export in exports:
    for name in export.names[:_FEW]:
      if fault := export.encoding_fault(name):
        return f"{export.where(name)}: {fault}"
  return None


def _purpose(importer: Importer) -> str:
  """The importer's task, from its docstring: "reads Garmin's FIT files and account export"."""
  first_line = (type(importer).__doc__ or "reads it").strip().splitlines()[0]
  return first_line[0].lower() + first_line[1:].partition(";")[0].rstrip(".")


def _places(path: str | os.PathLike, importers: Sequence[Importer]) -> tuple[dict[str, Export], dict[str, SchemaError]]:
  """The input and the zips in it that no importer reads as they are, by their place in it; and zips that are damaged.

  Raises:
    SchemaError: the input itself cannot be opened.
  """
  whole = Export(path, follow_links=True)
  places, damaged = {"": whole}, {}
  if whole.path.is_dir():
    read = {name for importer in importers for name in importer.files(whole)}
    for name in whole.names:
      if name.lower().endswith(".zip") and name not in read:
        try:
          places[name] = Export(whole.path / name)
        except SchemaError as error:
          damaged[name] = error
  return places, damaged


class CountingExport(Export):
  """An export that reports how many bytes of its files have been read, for a progress bar."""

  def __init__(self, export: Export, report: Callable[[int], object]):
    """Calls `report` with the number of bytes of every block of the export that is read."""
    self.__dict__.update(export.__dict__)
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
