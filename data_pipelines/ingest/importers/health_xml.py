"""Streams the records of Apple's export.xml, whatever its size, without trusting its document type.

The document type that Apple writes is removed before the parser sees it, because nothing needs it and that of iOS 16 is
not well-formed. A file that declares entities, or has any other document type, is refused. Control characters, which
iOS leaves in names, become spaces.
"""

from __future__ import annotations

import collections
import functools
import re
from collections.abc import Collection, Iterator
from typing import NamedTuple

from lxml import etree

from data_pipelines.errors import SchemaError
from data_pipelines.ingest.reading.export_files import Export, NulGuard

_BLOCK = 1 << 20
_PROLOG = 1 << 20  # bytes; Apple's prolog has 10 kB
_ROOT = re.compile(rb"<HealthData[\s/>]")
_DOCUMENT_TYPE = re.compile(rb"<!DOCTYPE\s+HealthData\s*\[.*?\]\s*>", re.DOTALL)
_HEADINGS = ("ExportDate", "Me")  # elements that are no records
_CONTROLS = bytes(32 if code < 32 and code not in b"\t\n\r" else code for code in range(256))


class Entry(NamedTuple):
  """A Record or a Workout.

  Attributes:
    row: its number among all records and workouts of the file, from 1.
    tag: "Record" or "Workout".
    attributes: the XML attributes of the element.
    zone: the value of its HKTimeZone entry, or "".
    by_hand: whether its HKWasUserEntered entry says that a person typed it in.
  """

  row: int
  tag: str
  attributes: dict[str, str]
  zone: str
  by_hand: bool = False


def is_health_xml(export: Export, name: str) -> bool:
  """Whether an XML file's root is HealthData; the file's name depends on the phone's language."""
  with export.open(name) as file:
    start = file.read(_PROLOG)
  encoding = export.encoding(name)
  return bool(_ROOT.search(start.decode(encoding, "ignore").encode() if encoding else start))


def entries(
  export: Export, name: str, types: Collection[str], others: collections.Counter[str] | None = None
) -> Iterator[list[Entry]]:
  """Yields records of these types and all workouts, in file order. Memory does not grow with the file.

  Copies of records inside a Correlation are skipped, because Apple also writes those records on their own. Records of
  other types, and what is neither record nor workout, are counted in `others` by type.

  Raises:
    SchemaError: the file is not an Apple export, is broken, truncated or not UTF-8, or declares entities.
  """
  where = export.where(name)
  collector = _EntryCollector(types, where, collections.Counter() if others is None else others)
  # No tree is built: the parser calls `collector` for each element. The file may not choose the encoding.
  parser = etree.XMLParser(target=collector, encoding="utf-8", resolve_entities=False, no_network=True)
  with export.open(name) as raw:
    try:
      for block in _blocks(NulGuard(raw, where), where):
        parser.feed(block.translate(_CONTROLS))
        if collector.entries:
          yield collector.take()
      parser.close()
    except etree.XMLSyntaxError as error:
      raise SchemaError(f"{where}: broken or truncated XML at line {error.lineno}") from None
  yield collector.take()


@functools.lru_cache(1 << 10)
def _type_name(text: str) -> str:
  """A type without what all types of its kind begin with: "BodyMass" for HKQuantityTypeIdentifierBodyMass."""
  name = re.sub(r"^HK[A-Za-z]+TypeIdentifier", "", text)
  return name if re.fullmatch(r"[A-Za-z0-9]{1,80}", name) else "others"


class _EntryCollector:
  """Receives the parser's call at each start and end of an element and keeps the entries to read."""

  def __init__(self, types: Collection[str], where: str, others: collections.Counter[str]):
    self.entries: list[Entry] = []
    self._types = frozenset(types)
    self._where = where
    self._depth = 0
    self._row = 0
    self._open: tuple[str, dict[str, str]] | None = None
    self._zone, self._by_hand = "", False
    self._others = others

  def take(self) -> list[Entry]:
    """Returns the entries collected so far and forgets them."""
    entries, self.entries = self.entries, []
    return entries

  def start(self, tag: str, attributes: dict[str, str]) -> None:
    if self._depth == 1:
      self._open, self._zone, self._by_hand = None, "", False
      self._row += tag in ("Record", "Workout")
      if tag == "Workout" or (tag == "Record" and attributes.get("type") in self._types):
        self._open = tag, attributes
      elif tag not in _HEADINGS:
        self._others[_type_name(attributes.get("type", "") if tag == "Record" else tag)] += 1
    elif self._depth == 2 and self._open:
      if attributes.get("key") == "HKTimeZone":
        self._zone = attributes.get("value", "")
      elif attributes.get("key") == "HKWasUserEntered":
        self._by_hand = attributes.get("value") == "1"
    elif self._depth == 0 and tag != "HealthData":
      raise SchemaError(f"{self._where}: its root is not HealthData, expected Apple's export.xml")
    self._depth += 1

  def end(self, tag: str) -> None:
    self._depth -= 1
    if self._depth == 1 and self._open:
      self.entries.append(Entry(self._row, *self._open, self._zone, self._by_hand))
      self._open = None

  def doctype(self, name: str, public: str | None, system: str | None) -> None:
    raise SchemaError(f"{self._where}: has a document type that is not Apple's: refused")

  def close(self) -> None:
    pass


def _blocks(file: NulGuard, where: str) -> Iterator[bytes]:
  """Yields the file without its document type but with the same number of lines."""
  start = _until_root(file)
  root = _ROOT.search(start)
  if not root:
    raise SchemaError(f"{where}: no <HealthData> in its first {_PROLOG:,} bytes, expected Apple's export.xml")
  prolog = start[: root.start()]
  if b"<!ENTITY" in prolog:
    raise SchemaError(f"{where}: declares XML entities: refused")
  yield _DOCUMENT_TYPE.sub(lambda match: b"\n" * match.group().count(b"\n"), prolog)
  yield start[root.start() :]
  while block := file.read(_BLOCK):
    yield block


def _until_root(file: NulGuard) -> bytes:
  """Returns the file's first bytes, at least up to its root."""
  start = b""
  while len(start) < _PROLOG and not _ROOT.search(start) and (block := file.read(_BLOCK)):
    start += block
  return start
