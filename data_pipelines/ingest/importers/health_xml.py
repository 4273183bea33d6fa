"""Apple's export.xml as a stream of its records: of any size, and without trusting its document type.

The document type that Apple writes into the file is cut off before the parser sees it: nobody needs it, and that of
iOS 16 is not well-formed. With it goes all that XML can do by itself: a file that declares entities, has a document
type of another form or names one elsewhere is refused. Control characters, which iOS also leaves in names, become
spaces.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from typing import NamedTuple

from lxml import etree

from data_pipelines.errors import SchemaError
from data_pipelines.ingest.reading.export_files import Export, NulGuard

_BLOCK = 1 << 20
_PROLOG = 1 << 20  # Apple's is 10 kB
_ROOT = re.compile(rb"<HealthData[\s/>]")
_DOCUMENT_TYPE = re.compile(rb"<!DOCTYPE\s+HealthData\s*\[.*?\]\s*>", re.DOTALL)
_CONTROLS = bytes(32 if code < 32 and code not in b"\t\n\r" else code for code in range(256))


class Entry(NamedTuple):
  """A Record or a Workout.

  Attributes:
    row: its place among all of them in the file, from 1.
    tag: "Record" or "Workout".
    attributes: of the element.
    zone: value of its HKTimeZone entry, or "".
  """

  row: int
  tag: str
  attributes: dict[str, str]
  zone: str


def is_health_xml(export: Export, name: str) -> bool:
  """Whether the root of an XML file is HealthData, whatever the file is called in the phone's language."""
  with export.open(name) as file:
    return bool(_ROOT.search(file.read(_PROLOG)))


def entries(export: Export, name: str, types: Collection[str]) -> Iterator[list[Entry]]:
  """Records of these types and all workouts, in the order of the file; memory does not grow with it.

  Copies of records inside a Correlation are left out: Apple writes those records on their own, too.

  Raises:
    SchemaError: not an Apple export, broken, truncated, not UTF-8, or it declares entities.
  """
  where = export.where(name)
  found = _Found(types, where)
  # No tree is built: the parser tells `found` of each element. The encoding is not the file's to choose.
  parser = etree.XMLParser(target=found, encoding="utf-8", resolve_entities=False, no_network=True)
  with export.open(name) as raw:
    try:
      for block in _blocks(NulGuard(raw, where), where):
        parser.feed(block.translate(_CONTROLS))
        if found.entries:
          yield found.take()
      parser.close()
    except etree.XMLSyntaxError as error:
      raise SchemaError(f"{where}: broken or truncated XML at line {error.lineno}") from None
  yield found.take()


class _Found:
  """What the parser calls at each start and end of an element."""

  def __init__(self, types: Collection[str], where: str):
    self.entries: list[Entry] = []
    self._types = frozenset(types)
    self._where = where
    self._depth = 0
    self._row = 0
    self._open: tuple[str, dict[str, str]] | None = None
    self._zone = ""

  def take(self) -> list[Entry]:
    taken, self.entries = self.entries, []
    return taken

  def start(self, tag: str, attributes: dict[str, str]) -> None:
    if self._depth == 1:
      self._open, self._zone = None, ""
      if tag in ("Record", "Workout"):
        self._row += 1
        if tag == "Workout" or attributes.get("type") in self._types:
          self._open = tag, attributes
    elif self._depth == 2 and self._open and attributes.get("key") == "HKTimeZone":
      self._zone = attributes.get("value", "")
    elif self._depth == 0 and tag != "HealthData":
      raise SchemaError(f"{self._where}: its root is not HealthData, expected Apple's export.xml")
    self._depth += 1

  def end(self, tag: str) -> None:
    self._depth -= 1
    if self._depth == 1 and self._open:
      self.entries.append(Entry(self._row, *self._open, self._zone))
      self._open = None

  def doctype(self, name: str, public: str | None, system: str | None) -> None:
    raise SchemaError(f"{self._where}: has a document type that is not Apple's: refused")

  def close(self) -> None:
    pass


def _blocks(file: NulGuard, where: str) -> Iterator[bytes]:
  """The file, without its document type but with as many lines."""
  start = _until_root(file)
  root = _ROOT.search(start)
  if not root:
    raise SchemaError(f"{where}: no <HealthData> in its first {_PROLOG:,} bytes, expected Apple's export.xml")
  prolog = start[: root.start()]
  if b"<!ENTITY" in prolog:
    raise SchemaError(f"{where}: declares XML entities: refused")
  yield _DOCUMENT_TYPE.sub(lambda found: b"\n" * found.group().count(b"\n"), prolog)
  yield start[root.start() :]
  while block := file.read(_BLOCK):
    yield block


def _until_root(file: NulGuard) -> bytes:
  """The file's first bytes, to its root at least."""
  start = b""
  while len(start) < _PROLOG and not _ROOT.search(start) and (block := file.read(_BLOCK)):
    start += block
  return start
