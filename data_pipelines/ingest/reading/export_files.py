"""The files of one person's (or one study's) export, in a folder or a zip, read without trusting any of them.

Nothing of an export is unpacked, run or fetched; a name that leads outside, a zip that unfolds into far more than it
holds, a link, a password, NUL bytes and wrong encodings are refused with one line.
"""

from __future__ import annotations

import contextlib
import fnmatch
import hashlib
import io
import json
import os
import pathlib
import re
import shutil
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from typing import IO, Any

from data_pipelines.errors import SchemaError

# Text of sensors packs 10 to 50 times; what unfolds further is an attack or damage. Small files may: one line repeated.
MOST_UNFOLDED = 200
UNFOLDED_FREE = 64 * 2**20
DEEPEST = 32  # brackets in brackets of JSON; exports have five
_BLOCK = 1 << 20
_ITEMS_BLOCK = 4 << 20  # characters of JSON
_BETWEEN_ITEMS = re.compile(r"\}\s*,\s*\{")
_ONE_KIND = bytes.maketrans(b"{}", b"[]")
_NO_MARKS = bytes(set(range(256)) - set(b'"[]{}\\'))


class Export:
  """Files by name, with "/" between folders.

  Attributes:
    path: the folder, zip or single file.
    participant: whom the files are of, where they do not say it themselves: the name of the folder or file.
    label: how messages name it.
    names: of all files, sorted.
  """

  def __init__(self, path: str | os.PathLike, participant: str | None = None, label: str | None = None):
    self.path = pathlib.Path(path)
    self.participant = participant or self.path.name.removesuffix("".join(self.path.suffixes[-1:]))
    self.label = label or str(self.path)
    self._inside = label is not None
    self._zip: zipfile.ZipFile | None = None
    if self.path.is_dir():
      self.names = sorted(_walk(self.path))
    elif not self.path.exists():
      raise SchemaError(f"{self.path}: no such file or folder")
    elif self._inside or self.path.suffix.lower() == ".zip":
      self._zip = _open_zip(self.path, self.label)
      self.names = sorted(_checked(info, self.label) for info in self._zip.infolist() if not info.is_dir())
    else:
      self.names = [self.path.name]

  def matching(self, *patterns: str) -> list[str]:
    """Names whose last parts match one of the patterns, such as "Physical Activity/heart_rate-*.json"; any case."""
    wanted = [re.compile(fnmatch.translate(f"*/{pattern}".lower())) for pattern in patterns]
    return [name for name in self.names if any(p.match(f"/{name}".lower()) for p in wanted)]

  def where(self, name: str, row: int | None = None) -> str:
    """How messages name a file, and a row of it: "takeout.zip/Fitbit/steps.json row 7"."""
    place = self.label if not self._zip and self.path.is_file() else f"{self.label}/{name}"
    return place if row is None else f"{place} row {row}"

  def size(self, name: str) -> int:
    """Bytes of a file, unpacked."""
    return self._zip.getinfo(name).file_size if self._zip else self._file(name).stat().st_size

  def digest(self, name: str) -> str:
    """Changes if the file's content does: its size, and a hash, or within a zip the checksum that is there already."""
    if self._zip:
      return f"{self.size(name)} {self._zip.getinfo(name).CRC:08x}"
    with self.open(name) as file:
      content = hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16))  # type: ignore[arg-type]
    return f"{self.size(name)} {content.hexdigest()}"

  @contextlib.contextmanager
  def open(self, name: str) -> Iterator[IO[bytes]]:
    """A file as a stream of bytes; what turns out to be damaged while it is read is a SchemaError too."""
    try:
      with self._zip.open(name) if self._zip else self._file(name).open("rb") as file:
        yield file
    except (zipfile.BadZipFile, zlib.error, EOFError) as error:
      raise SchemaError(f"{self.where(name)}: damaged: {error}") from None
    except (RuntimeError, NotImplementedError) as error:  # a password, an unknown packing
      raise SchemaError(f"{self.where(name)}: cannot be unpacked: {error}") from None
    except OSError as error:
      raise SchemaError(f"{self.where(name)}: {(error.strerror or 'cannot be read').lower()}") from None

  @contextlib.contextmanager
  def text(self, name: str) -> Iterator[IO[str]]:
    """A file as UTF-8 text, with or without a byte order mark, line ends as they are."""
    with self.open(name) as file:
      plain = io.TextIOWrapper(NoNul(file, self.where(name)), encoding="utf-8-sig", newline="")  # type: ignore[type-var]
      try:
        yield plain
      except UnicodeDecodeError as error:
        raise SchemaError(f"{self.where(name)}: not UTF-8 text (byte {error.start} of a block)") from None

  def json(self, name: str) -> Any:
    """A JSON file, whole: for those that are cut into months, as Fitbit's and Garmin's are."""
    return _parsed(self._json_text(name), self.where(name))

  def json_items(self, name: str) -> Iterator[list[Any]]:
    """The items of a JSON file that is one array, in blocks: parsed, they take ten times the room of their text."""
    text = self._json_text(name).strip()
    if text[:1] != "[":
      raise SchemaError(f"{self.where(name)}: not a JSON array")
    # Where "}, {" parts two items, what stands on either side is an array by itself. Inside an item it is not, and then
    # the first side does not parse: the rest is taken as one.
    begin = 1
    while parted := _BETWEEN_ITEMS.search(text, begin + _ITEMS_BLOCK):
      block = _array(text[begin : parted.start() + 1])
      if block is None:
        break
      yield block
      begin = parted.end() - 1
    yield _parsed(f"[{text[begin:]}", self.where(name))

  def _json_text(self, name: str) -> str:
    with self.text(name) as file:
      text = file.read()
    _check_depth(text, self.where(name))
    return text

  @contextlib.contextmanager
  def on_disk(self, name: str) -> Iterator[pathlib.Path]:
    """A path for readers that want one (SQLite, SAS); a member of a zip is unpacked beside the system's other
    temporary files for as long."""
    if not self._zip:
      yield self._file(name)
      return
    with tempfile.TemporaryDirectory() as folder:
      path = pathlib.Path(folder) / "file"
      with self.open(name) as packed, path.open("wb") as file:
        shutil.copyfileobj(packed, file, _BLOCK)
      yield path

  @contextlib.contextmanager
  def inside(self, name: str) -> Iterator[Export]:
    """A zip among the files, as an export of its own; one level deep, since no export has more."""
    if self._inside:
      raise SchemaError(f"{self.where(name)}: a zip in a zip in a zip: refused")
    with self.on_disk(name) as path:
      yield Export(path, self.participant, label=self.where(name))

  def _file(self, name: str) -> pathlib.Path:
    return self.path / name if self.path.is_dir() else self.path


class NoNul(io.RawIOBase):
  """Passes bytes on, but for NUL: no text has it, and readers of text stop there or worse."""

  def __init__(self, file: IO[bytes], where: str):
    self._file = file
    self._where = where

  def readable(self) -> bool:
    return True

  def readinto(self, buffer: Any) -> int:
    block = self._file.read(len(buffer))
    if b"\0" in block:
      raise SchemaError(f"{self._where}: holds NUL bytes, expected text")
    buffer[: len(block)] = block
    return len(block)


def _walk(folder: pathlib.Path) -> Iterator[str]:
  for place, _, files in os.walk(folder):  # links to folders are not followed
    for name in files:
      path = pathlib.Path(place) / name
      if path.is_symlink():
        raise SchemaError(f"{path}: a link; links in an export are not followed")
      if path.is_file() and not name.startswith("."):
        yield path.relative_to(folder).as_posix()


def _open_zip(path: pathlib.Path, label: str) -> zipfile.ZipFile:
  try:
    return zipfile.ZipFile(path)
  except (zipfile.BadZipFile, OSError, ValueError):
    raise SchemaError(f"{label}: not a zip, or a truncated one") from None


def _checked(info: zipfile.ZipInfo, label: str) -> str:
  name = info.filename
  if name.startswith("/") or "\\" in name or ".." in name.split("/") or re.match(r"[A-Za-z]:", name):
    raise SchemaError(f"{label}: holds {name!r}, a name that leads outside")
  if info.file_size > UNFOLDED_FREE and info.file_size > MOST_UNFOLDED * max(info.compress_size, 1):
    raise SchemaError(f"{label}: {name!r} unfolds from {info.compress_size:,} to {info.file_size:,} bytes: refused")
  return name


def _parsed(text: str, where: str) -> Any:
  try:
    return json.loads(text, parse_constant=_no_constant)
  except ValueError as error:
    raise SchemaError(f"{where}: not JSON: {error}") from None


def _array(items: str) -> list[Any] | None:
  try:
    return json.loads(f"[{items}]", parse_constant=_no_constant)
  except ValueError:
    return None


def _check_depth(text: str, where: str) -> None:
  """Refuses deep JSON before a recursive parser meets it; brackets inside strings do not count."""
  if not _is_shallow(text):
    _count_depth(text, where)


def _is_shallow(text: str) -> bool:
  """Whether pairs of brackets, taken out from within, leave nothing: then there are no more than DEEPEST in another."""
  # Fifteen times as fast as counting. Two quotes side by side go first, which leaves other marks in or out of a string
  # as they were; a bracket in a string or a backslash stays, and is left to the count.
  marks = text.encode(errors="replace").translate(_ONE_KIND, _NO_MARKS).replace(b'""', b"")
  for _ in range(DEEPEST):
    marks = marks.replace(b"[]", b"")
  return not marks


def _count_depth(text: str, where: str) -> None:
  depth = 0
  for found in re.finditer(r'"(?:[^"\\]|\\.)*"|[\[{\]}]', text):
    mark = found.group()
    depth += 1 if mark in "[{" else -1 if mark in "]}" else 0
    if depth > DEEPEST:
      raise SchemaError(f"{where}: JSON nested deeper than {DEEPEST}")


def _no_constant(name: str) -> float:
  raise ValueError(f"{name} is no number of JSON")
