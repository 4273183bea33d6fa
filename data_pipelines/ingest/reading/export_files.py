"""The files of an export, in a folder or a zip, read without trusting any of them.

Nothing in an export is unpacked in place, run or fetched. Names that lead outside, zips that unpack to far more than
their size, links, passwords, NUL bytes, wrong encodings and folders that cannot be listed are each refused with a
one-line error. Hidden files and what is no file (a pipe, a device) are left out, and listed in `Export.left_out`.

What says itself how to be read is read: files packed by gzip, whatever they are called, text in UTF-16 or UTF-32 with
a byte order mark, and zips whose names have the backslashes of Windows between folders.
"""

from __future__ import annotations

import codecs
import collections
import contextlib
import fnmatch
import hashlib
import io
import json
import os
import pathlib
import re
import shutil
import stat
import tempfile
import uuid
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from typing import IO, Any

from data_pipelines.errors import SchemaError
from data_pipelines.text_files import check_depth, check_regular, not_utf8

# Sensor text compresses 10 to 50 times; a file that expands far more is an attack or damaged. Small files are exempt,
# because one repeated line compresses without limit.
MOST_EXPANSION = 200
EXPANSION_EXEMPT = 64 * 2**20  # bytes
# Why something in an export is left out.
HIDDEN = "hidden"
NO_FILE = "neither a file nor a folder"
_TABLE_SUFFIXES = (".csv", ".txt", ".tsv")
_TEXT_SUFFIXES = (*_TABLE_SUFFIXES, ".json", ".xml")
_LONGEST_HEADER = 1 << 16  # bytes
_BLOCK = 1 << 20
ITEMS_BLOCK = 4 << 20  # characters of JSON per block
BROKEN_ITEM, CUT_OFF = "broken JSON item", "cut off before its end"
_ITEMS = 10_000  # of a damaged array per block
_MOST_FAULTS = 0.001  # of the characters of a JSON file; more of them are another encoding
_BETWEEN = re.compile(r"[\s,]*")
_NUMBERS = re.compile(r"(?<![A-Za-z0-9])((?=[a-f]*[0-9])[0-9a-f]+|[0-9]{4}[0-9TZ]+)(?![A-Za-z0-9])")
_BETWEEN_ITEMS = re.compile(r"\}\s*,\s*\{")
_GZIP = b"\x1f\x8b"
_PACKED = re.compile(r"(?<!\.tar)\.gz$", re.IGNORECASE)
_COPY = re.compile(r" ?\([0-9]{1,3}\)(?=\.[^./]*$)")  # what a browser adds to the name of a second download
_WIDE_MARKS = {  # UTF-32 before UTF-16, whose mark it begins with
  codecs.BOM_UTF32_LE: "UTF-32",
  codecs.BOM_UTF32_BE: "UTF-32",
  codecs.BOM_UTF16_LE: "UTF-16",
  codecs.BOM_UTF16_BE: "UTF-16",
}
_MARK_BYTES = 4


class Export:
  """The files of one person's or one study's export, by name, with "/" between folders.

  Attributes:
    path: the folder, zip or single file.
    participant: the person the files belong to, for files that do not say so: the name of the folder or file.
    label: the export, as messages name it.
    listing: names this listing of the files; the same in parts of the export, also in other processes.
    names: names of all files, sorted. A file that gzip has packed goes by its name without ".gz".
    left_out: names of what is not listed in `names`, by reason.
    links: links directly in the folder, which are followed.
    folders: names of the folders directly in the folder.
  """

  def __init__(
    self,
    path: str | os.PathLike,
    participant: str | None = None,
    label: str | None = None,
    follow_links: bool = False,
  ):
    """Lists the files.

    Args:
      path: the folder, zip or single file.
      participant: the person, by default the name of the folder or file.
      label: the export, as messages name it.
      follow_links: follow links directly in the folder, where the user has put them. Links further inside came with
        the export, and are refused.

    Raises:
      SchemaError: there is no such file or folder, a folder cannot be listed or holds a link that is not followed, or a
        zip is damaged or suspicious.
    """
    self.left_out: dict[str, list[str]] = {}
    self.links: list[str] = []
    self.listing = uuid.uuid4().hex
    self.folders: list[str] = []
    self.follow_links = follow_links
    self.path = pathlib.Path(path)
    name = self.path.resolve().name if self.path.name in ("", "..") else self.path.name  # "." has no name
    stem = name if self.path.is_dir() else pathlib.PurePath(_PACKED.sub("", name)).stem
    self.participant = participant or stem
    self.label = label or str(self.path)
    self._nested = label is not None
    self._zip: zipfile.ZipFile | None = None
    self._members: dict[str, zipfile.ZipInfo] = {}
    if self.path.is_dir():
      self.names = sorted(self._walk(self.path))
    elif not self.path.exists():
      raise SchemaError(f"{self.path}: no such file or folder")
    elif not check_regular(self.path):
      raise SchemaError(f"{self.path}: empty, expected an export")
    elif self._nested or self.path.suffix.lower() == ".zip":
      self._open_members()
      self.names = sorted(name for name, info in self._members.items() if not self._leave_out_member(name, info))
    else:
      self.names = [self.path.name]
    self._stored = self._without_gz()
    self.names = sorted(self._stored)

  def _open_members(self) -> None:
    self._zip = _open_zip(self.path, self.label)
    named = {_safe_name(info, self.label): info for info in self._zip.infolist()}
    self._members = {name: info for name, info in named.items() if not name.endswith("/")}

  def __getstate__(self) -> dict[str, Any]:
    """State for another process, which may have another current folder: without other people's names."""
    stored = {name: self._stored[name] for name in self.names}
    unused: dict[str, Any] = {"left_out": {}, "links": [], "folders": []}
    closed = {"_members": None, "_zip": None} if self._zip else {}
    return {**self.__dict__, **unused, **closed, "path": self.path.absolute(), "_stored": stored}

  def __setstate__(self, state: dict[str, Any]) -> None:
    self.__dict__.update(state)
    if self._members is None:
      self._open_members()

  def _without_gz(self) -> dict[str, str]:
    """The names under which files are stored, by those that they go by here."""
    plain = {name: _PACKED.sub("", name) for name in self.names}
    taken = collections.Counter(plain.values())
    return {name if taken[short] > 1 else short: name for name, short in plain.items()}

  def _leave_out(self, why: str, name: str) -> None:
    self.left_out.setdefault(why, []).append(name)

  def _leave_out_member(self, name: str, info: zipfile.ZipInfo) -> bool:
    """True if a member of the zip is left out, which `left_out` then says."""
    mode = info.external_attr >> 16
    if any(part.startswith(".") or part == "__MACOSX" for part in name.split("/")):
      self._leave_out(HIDDEN, name)
      return True
    if stat.S_ISLNK(mode) or (stat.S_IFMT(mode) and not stat.S_ISREG(mode)):
      self._leave_out(NO_FILE, name)
      return True
    return False

  def _walk(self, folder: pathlib.Path) -> Iterator[str]:
    """Yields the names of the files in a folder of the export, at any depth."""
    try:
      places = sorted(folder.iterdir())
    except OSError as error:
      raise SchemaError(f"{folder}: cannot be listed: {(error.strerror or 'unreadable').lower()}") from None
    for place in places:
      name = place.relative_to(self.path).as_posix()
      if place.name.startswith("."):
        self._leave_out(HIDDEN, name)
        continue
      if place.is_symlink():
        self._check_link(place, name)
      if place.is_dir():
        self.folders += [name] * ("/" not in name)
        yield from self._walk(place)
      elif place.is_file():
        yield name
      else:
        self._leave_out(NO_FILE, name)

  def _check_link(self, place: pathlib.Path, name: str) -> None:
    """Accepts a link that is followed."""
    if not self.follow_links or "/" in name:
      raise SchemaError(f"{place}: is a link; links in an export are not followed, put there what it points to")
    try:
      target = place.resolve(strict=True)
    except (OSError, RuntimeError):
      raise SchemaError(f"{place}: is a link to nothing") from None
    if self.path.resolve().is_relative_to(target):
      raise SchemaError(f"{place}: is a link to a folder that holds it")
    self.links.append(name)

  def holds(self, name: str) -> bool:
    """True if there is a file of this name."""
    return name in self._stored

  def part(self, names: Sequence[str], participant: str) -> Export:
    """The same export with some of its files only, as those of a person."""
    part = Export.__new__(Export)
    part.__dict__.update(self.__dict__)  # copy.copy would prepare it for another process and open the zip again
    part.names, part.participant = sorted(names), participant
    return part

  def whole(self) -> Export:
    """The same folder, zip or file with all of its files, of whomever they are, listed anew."""
    whole = Export(self.path, label=self.label if self._nested else None, follow_links=self.follow_links)
    whole.label = self.label
    return whole

  def matching(self, *patterns: str) -> list[str]:
    """Names that end in one of the patterns, such as "Physical Activity/heart_rate-*.json", in any letter case.

    The "(1)" in the name of a second download does not count.
    """
    expressions = [re.compile(fnmatch.translate(f"*/{pattern}".lower())) for pattern in patterns]
    return [name for name in self.names if any(e.match(f"/{without_copy_number(name)}".lower()) for e in expressions)]

  def where(self, name: str, row: int | None = None) -> str:
    """Location of a file, or of a row in it, as messages name it: "takeout.zip/Fitbit/steps.json row 7"."""
    place = self.label if not self._zip and self.path.is_file() else f"{self.label}/{self._stored.get(name, name)}"
    return place if row is None else f"{place} row {row}"

  def size(self, name: str) -> int:
    """Bytes of a file, unpacked from the zip but not from gzip."""
    return self._members[self._stored[name]].file_size if self._zip else self._file(name).stat().st_size

  def digest(self, name: str) -> str:
    """Changes whenever the file's content does: its size and a hash, or the checksum that a zip already stores."""
    if self._zip:
      return f"{self.size(name)} {self._members[self._stored[name]].CRC:08x}"
    try:
      with self._open_stored(name) as file:
        content = hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16))  # type: ignore[arg-type]
    except OSError:
      return f"{self.size(name)} unreadable"  # reading it says why
    return f"{self.size(name)} {content.hexdigest()}"

  @contextlib.contextmanager
  def open(self, name: str) -> Iterator[IO[bytes]]:
    """A file as a stream of bytes, unpacked if it is gzip, whatever its name.

    Raises:
      SchemaError: the file is damaged, encrypted or unreadable, even if this only shows while or after it is read.
    """
    try:
      with self._open_stored(name) as file:
        if file.peek(len(_GZIP))[: len(_GZIP)] != _GZIP:
          yield file
          return
        unpacked = _Gunzip(file, self.where(name))
        yield io.BufferedReader(unpacked, _BLOCK)  # type: ignore[type-var]
        if unpacked.is_cut:  # all that there was has been read
          raise EOFError("the gzip file is cut off")
    except (zipfile.BadZipFile, zlib.error, EOFError) as error:
      raise SchemaError(f"{self.where(name)}: damaged: {error}") from None
    except (RuntimeError, NotImplementedError) as error:  # a password, or an unknown compression
      raise SchemaError(f"{self.where(name)}: cannot be unpacked: {error}") from None
    except OSError as error:
      raise SchemaError(f"{self.where(name)}: {(error.strerror or 'cannot be read').lower()}") from None

  def _open_stored(self, name: str) -> Any:
    return self._zip.open(self._members[self._stored[name]]) if self._zip else self._file(name).open("rb")

  def _is_packed(self, name: str) -> bool:
    with self._open_stored(name) as stored:
      return stored.peek(2)[:2] == _GZIP

  def encoding(self, name: str) -> str:
    """ "UTF-16" or "UTF-32" if the file's byte order mark says so, "" otherwise."""
    with self.open(name) as file:
      return _wide_encoding(file)

  def conversions(self, name: str) -> Iterator[str]:
    """Yields the conversions that make a file readable, in a few words: an account should mention them."""
    if not name.lower().endswith((*_TEXT_SUFFIXES, ".fit")):
      return
    with contextlib.suppress(SchemaError):  # reading it says what is wrong
      if self._is_packed(name):
        yield "packed by gzip"
      if encoding := self.encoding(name):
        yield f"in {encoding}"
      if name.lower().endswith(_TABLE_SUFFIXES):
        with self.open(name) as file:
          line = NulGuard(file, self.where(name)).readline(_LONGEST_HEADER)
        if line.count(b";") > line.count(b","):
          yield "with semicolons between fields, so that a comma in a number is a decimal sign"

  @contextlib.contextmanager
  def text(self, name: str) -> Iterator[IO[str]]:
    """A file as a stream of text, with its line ends unchanged: UTF-8, or what a byte order mark says.

    Raises:
      SchemaError: the file is in another encoding, or holds NUL bytes, even if this only shows while it is read.
    """
    with self.open(name) as file:
      stream = io.TextIOWrapper(NulGuard(file, self.where(name)), encoding="utf-8-sig", newline="")  # type: ignore[type-var]
      try:
        yield stream
      except UnicodeDecodeError as error:
        raise SchemaError(f"{self.where(name)}: {not_utf8(error.object) or 'not UTF-8 text'}") from None

  def encoding_fault(self, name: str) -> str | None:
    """The encoding fault at the beginning of a text file; None if there is none, or if it is no text file."""
    if not name.lower().endswith(_TEXT_SUFFIXES):
      return None
    try:
      with self.open(name) as file:
        return None if _wide_encoding(file) else not_utf8(file.read(_BLOCK).rpartition(b"\n")[0])
    except SchemaError:
      return None  # reading it says so

  def json(self, name: str) -> Any:
    """The content of a whole JSON file, for exports that write one file per month, such as Fitbit's and Garmin's.

    Raises:
      SchemaError: the file is not JSON, or is nested deeper than DEEPEST levels.
    """
    return _parsed(self._json_text(name), self.where(name))

  def json_items(self, name: str, damaged: Callable[[str, str], None] | None = None) -> Iterator[list[Any]]:
    """Yields the items of a JSON file that is one array, in blocks.

    Only one block is parsed at a time, because parsed items take ten times the memory of the text.

    Args:
      name: the file.
      damaged: called with the place and the reason for each item that cannot be read, and for an end that is missing,
        as Account.damaged takes them; the other items are yielded. None refuses the file instead.

    Raises:
      SchemaError: the file is not a JSON array, or is nested deeper than DEEPEST levels.
    """
    text = self._json_text(name, damaged).strip()
    if text[:1] != "[":
      raise SchemaError(f"{self.where(name)}: not a JSON array")
    # The text is cut at a "}, {" between two items, where both sides are arrays by themselves. A cut inside an item
    # gives a first side that does not parse; the rest is then parsed as a whole.
    begin, row = 1, 0
    while boundary := _BETWEEN_ITEMS.search(text, begin + ITEMS_BLOCK):
      block = _array(text[begin : boundary.start() + 1])
      if block is None:
        break
      yield block
      begin, row = boundary.end() - 1, row + len(block)
    try:
      block = _parsed(f"[{text[begin:]}", self.where(name))
    except SchemaError:
      if damaged is None:
        raise
      yield from _sound_items(text, begin, row, damaged)
    else:
      yield block

  def _json_text(self, name: str, damaged: Callable[[str, str], None] | None = None) -> str:
    if damaged is None:
      with self.text(name) as file:
        text = file.read()
    else:
      text = self._damaged_text(name, damaged)
    check_depth(text, self.where(name))
    return text

  def _damaged_text(self, name: str, damaged: Callable[[str, str], None]) -> str:
    """The text of a file as far as it can be read; tells `damaged` of the bytes that cannot."""
    raw = bytearray()
    try:
      with self.open(name) as file:
        text_file = in_utf8(file, self.where(name))
        while block := text_file.read(_BLOCK):
          raw += block
    except SchemaError as error:
      if not raw:
        raise
      if raw.endswith(b"]"):  # otherwise it is parsed as one that is cut off
        damaged(str(error).removeprefix(self.where(name)), CUT_OFF)
    raw = raw.removeprefix(codecs.BOM_UTF8)
    text = raw.decode(errors="replace")
    faults = text.count("\ufffd") - raw.count("\ufffd".encode()) + text.count("\0")
    if faults > _MOST_FAULTS * len(text) + 1:
      raise SchemaError(f"{self.where(name)}: {not_utf8(bytes(raw))}")
    if faults:
      damaged(f" from byte {_first_fault(bytes(raw)):,} on", "bytes that are not UTF-8 text")
    return text

  @contextlib.contextmanager
  def on_disk(self, name: str) -> Iterator[pathlib.Path]:
    """A path to the file, for readers that need one (SQLite, SAS).

    A member of a zip, or what gzip has packed, is unpacked into a temporary folder, which is removed afterwards.
    """
    if not self._zip and not self._is_packed(name):
      yield self._file(name)
      return
    with tempfile.TemporaryDirectory() as folder:
      path = pathlib.Path(folder) / "file"
      with self.open(name) as packed, path.open("wb") as file:
        shutil.copyfileobj(packed, file, _BLOCK)
      yield path

  @contextlib.contextmanager
  def inside(self, name: str) -> Iterator[Export]:
    """A zip among the files, as an export of its own.

    Raises:
      SchemaError: this export is itself such a zip; no known export nests deeper.
    """
    if self._nested:
      raise SchemaError(f"{self.where(name)}: refused, a zip in a zip in a zip")
    with self.on_disk(name) as path:
      yield Export(path, self.participant, label=self.where(name))

  def _file(self, name: str) -> pathlib.Path:
    return self.path / self._stored[name] if self.path.is_dir() else self.path


def without_copy_number(name: str) -> str:
  """A file's name without the number that a browser gives to a second download: "steps (1).csv" gives "steps.csv"."""
  return _COPY.sub("", name)


def base_name(name: str) -> str:
  """A file's name without folders, and without the number of a second download."""
  return without_copy_number(name.rpartition("/")[2])


def kind_of_file(name: str) -> str:
  """The name that like files share: digits become #, and a folder is named only where nothing else is.

  "Fitbit/steps-2024-06-05.json" gives "steps-#.json".
  """
  folders, _, base = without_copy_number(name).rpartition("/")
  kind = re.sub(r"#([-_. ]?#)+", "#", _NUMBERS.sub("#", base))
  if re.match(r"#\.", kind):  # a serial number: the folder says more
    kind = "/".join([*[folder for folder in folders.split("/") if len(folder) > 1][-1:], kind])
  return kind


class NulGuard(io.RawIOBase):
  """A stream of text that refuses NUL bytes, because text never contains them and text parsers stop or fail there.

  Text in UTF-16 or UTF-32 with a byte order mark becomes UTF-8.

  Attributes:
    where: the file, as messages name it.
  """

  def __init__(self, file: IO[bytes], where: str):
    self._file = in_utf8(file, where)
    self.where = where

  def readable(self) -> bool:
    return True

  def readinto(self, buffer: Any) -> int:
    block = self._file.read(len(buffer))
    if b"\0" in block:
      raise SchemaError(f"{self.where}: {not_utf8(block)}")
    buffer[: len(block)] = block
    return len(block)


def in_utf8(file: IO[bytes], where: str) -> IO[bytes]:
  """The file, converted if a byte order mark says that it is in UTF-16 or UTF-32; `where` names it in messages."""
  encoding = _wide_encoding(file)
  return io.BufferedReader(_Converted(file, encoding, where), _BLOCK) if encoding else file  # type: ignore[type-var,return-value]


def _wide_encoding(file: Any) -> str:
  start = file.peek(_MARK_BYTES)[:_MARK_BYTES]
  return next((name for mark, name in _WIDE_MARKS.items() if start.startswith(mark)), "")


class _Converted(io.RawIOBase):
  """Text in UTF-16 or UTF-32, converted to UTF-8."""

  def __init__(self, file: IO[bytes], encoding: str, where: str):
    self._file, self._encoding, self._where = file, encoding, where
    self._decoder = codecs.getincrementaldecoder(encoding)()
    self._rest = b""

  def readable(self) -> bool:
    return True

  def readinto(self, buffer: Any) -> int:
    while not self._rest:
      block = self._file.read(_BLOCK)
      try:
        self._rest = self._decoder.decode(block, final=not block).encode()
      except UnicodeError:
        raise SchemaError(f"{self._where}: its byte order mark says {self._encoding}, but it is no such text") from None
      if not block:
        break
    size = min(len(buffer), len(self._rest))
    buffer[:size], self._rest = self._rest[:size], self._rest[size:]
    return size


class _Gunzip(io.RawIOBase):
  """The content of a gzip file, up to where it is cut off.

  Attributes:
    is_cut: whether it ended before its end.
  """

  def __init__(self, file: IO[bytes], where: str):
    self._file, self._where = file, where
    self._decompressor = zlib.decompressobj(zlib.MAX_WBITS | 16)
    self._read, self._unpacked = 0, 0
    self.is_cut = False

  def readable(self) -> bool:
    return True

  def readinto(self, buffer: Any) -> int:
    while not self.is_cut:
      packed = self._decompressor.unconsumed_tail or self._decompressor.unused_data
      if not packed:
        packed = self._file.read(_BLOCK)
        self._read += len(packed)
      if self._decompressor.eof:
        if not packed.strip(b"\0"):  # padding, or the end
          return 0
        self._decompressor = zlib.decompressobj(zlib.MAX_WBITS | 16)  # another gzip file follows
      block = self._decompressor.decompress(packed, len(buffer))
      self._unpacked += len(block)
      if self._unpacked > max(EXPANSION_EXEMPT, MOST_EXPANSION * self._read):
        raise SchemaError(f"{self._where}: refused, it expands to more than {MOST_EXPANSION} times its size")
      self.is_cut = not packed and not block and not self._decompressor.eof
      if block:
        buffer[: len(block)] = block
        return len(block)
    return 0


def _open_zip(path: pathlib.Path, label: str) -> zipfile.ZipFile:
  try:
    return zipfile.ZipFile(path)
  except (zipfile.BadZipFile, OSError, ValueError):
    raise SchemaError(f"{label}: not a zip, or a truncated one") from None


def _safe_name(info: zipfile.ZipInfo, label: str) -> str:
  """The name of a zip's member. SchemaError if the name leads outside or the member expands suspiciously."""
  name = info.filename.replace("\\", "/")
  if name.startswith("/") or ".." in name.split("/") or re.match(r"[A-Za-z]:", name):
    raise SchemaError(f"{label}: holds {name!r}, a name that leads outside")
  if info.file_size > EXPANSION_EXEMPT and info.file_size > MOST_EXPANSION * max(info.compress_size, 1):
    sizes = f"from {info.compress_size:,} to {info.file_size:,} bytes"
    raise SchemaError(f"{label}: refused, {name!r} expands {sizes}, more than {MOST_EXPANSION} times")
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


def _sound_items(text: str, place: int, row: int, damaged: Callable[[str, str], None]) -> Iterator[list[Any]]:
  """Yields the items of a JSON array that can be read, from a place in its text on, and tells `damaged` of the others.

  An item that cannot be read ends where the next object with the first one's first key begins.
  """
  first = re.match(r'\[\s*\{\s*"((?:[^"\\]|\\.)*)"', text)
  next_item = re.compile(r"\{\s*\"" + re.escape(first[1]) + r"\"\s*:") if first else None
  decoder = json.JSONDecoder(parse_constant=_no_constant)
  items: list[Any] = []
  damages = 0
  while (place := _BETWEEN.match(text, place).end()) < len(text) and text[place] != "]":  # type: ignore[union-attr]
    row += 1
    try:
      item, end = decoder.raw_decode(text, place)
      if _BETWEEN.match(text, end).end() == end and text[end : end + 1] not in ("]", ""):  # type: ignore[union-attr]
        raise ValueError
      place = end
      items.append(item)
    except ValueError:
      following = next_item.search(text, place + 1) if next_item else None
      damages += 1
      damaged(f" row {row}", BROKEN_ITEM if following or text.endswith("]") else CUT_OFF)
      if not following:
        break
      place = following.start()
    if len(items) == _ITEMS:
      yield items
      items = []
  if not damages:  # between or after the items
    damaged(f" after row {row}", BROKEN_ITEM if text.endswith("]") else CUT_OFF)
  yield items


def _first_fault(raw: bytes) -> int:
  """The place, from 0, of the first byte that is no text."""
  try:
    raw.decode()
    return raw.index(0)
  except UnicodeDecodeError as error:
    nul = raw.find(0)
    return error.start if nul < 0 else min(nul, error.start)


def _no_constant(name: str) -> float:
  raise ValueError(f"{name} is not a JSON number")
