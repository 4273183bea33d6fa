"""Streams the records of Apple's export.xml, whatever its size, without trusting its document type.

The document type that Apple writes is removed before the parser sees it, because nothing needs it and that of iOS 16 is
not well-formed. A file that declares entities, or has any other document type, is refused. Control characters, which
iOS leaves in names, become spaces.

Apple begins each child of the root on a line of its own, with one space before it. Blocks of whole children are parsed
by themselves, and a block that cannot be parsed child by child, so that damage costs the children it is in. A file of
another layout is read up to its first fault.
"""

from __future__ import annotations

import collections
import functools
import re
from collections.abc import Callable, Collection, Iterator
from typing import IO, NamedTuple

from lxml import etree

from data_pipelines.errors import SchemaError
from data_pipelines.ingest.reading.account import Account
from data_pipelines.ingest.reading.export_files import CUT_OFF, Export, NulGuard, in_utf8
from data_pipelines.text_files import not_utf8

_BLOCK = 1 << 20
_PROLOG = 1 << 20  # bytes; Apple's prolog has 10 kB
_ROOT = re.compile(rb"<HealthData[\s/>]")
_DOCUMENT_TYPE = re.compile(rb"<!DOCTYPE\s+HealthData\s*\[.*?\]\s*>", re.DOTALL)
_HEADINGS = ("ExportDate", "Me")  # elements that are no records
_CONTROLS = bytes(32 if 0 < code < 32 and code not in b"\t\n\r" else code for code in range(256))
_ESCAPED_CONTROLS = re.compile(rb"&#(?:0*(?:[1-8]|1[124-9]|2\d|3[01])|x0*(?:[1-8bcef]|1[0-9a-f]));", re.IGNORECASE)
_BEFORE_THE_ROOT = re.compile(rb"(?:\xef\xbb\xbf)?(?:\s|<\?xml[^>]*\?>|<!--.*?-->)*", re.DOTALL)
_CHILD = re.compile(rb"<HealthData[^>]*>(\r?\n[ \t]+)<[A-Za-z]")
_END = b"</HealthData>"
_LONGEST_CHILD = 64 << 20  # bytes
BROKEN, NO_TEXT = "broken XML element", "bytes that are not UTF-8 text, replaced"


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
  """True if an XML file's root is HealthData; the file's name depends on the phone's language."""
  try:
    with export.open(name) as file:
      start = file.read(_PROLOG)
    encoding = export.encoding(name)
  except SchemaError:
    return False  # cannot be unpacked
  return bool(_ROOT.search(start.decode(encoding, "ignore").encode() if encoding else start))


def person(export: Export, name: str) -> tuple[str, set[str]]:
  """The person according to a file's beginning: facts of `Me`, with a date of birth, and names of Apple devices."""
  try:
    with export.open(name) as file:
      start = in_utf8(file, export.where(name)).read(_PROLOG + _BLOCK).decode(errors="replace")
  except SchemaError:
    return "", set()  # reading it says what is wrong
  me = re.search(r"<Me\s([^>]*)>", start)
  facts = dict(re.findall(r'HKCharacteristicTypeIdentifier(\w+)="([^"]*)"', me[1])) if me else {}
  born, sex = facts.get("DateOfBirth", ""), facts.get("BiologicalSex", "")
  sources = {
    m[1] for m in re.finditer(r'<Record [^>]*?sourceName="([^"]+)"[^>]*?HKDevice[^"]*manufacturer:Apple', start)
  }
  return f"{born} {sex}".strip() if born else "", sources


def entries(
  export: Export,
  name: str,
  types: Collection[str],
  account: Account,
  others: collections.Counter[str] | None = None,
) -> Iterator[list[Entry]]:
  """Yields records of these types and all workouts, in file order. Memory does not grow with the file.

  Copies of records inside a Correlation are skipped, because Apple also writes those records on their own. Records of
  other types, and what is neither record nor workout, are counted in `others` by type. What cannot be read is counted
  in `account`.

  Raises:
    SchemaError: the file is not an Apple export, is not UTF-8, or declares entities; or it does not have Apple's layout
      and is broken or truncated.
  """
  where = export.where(name)
  damaged = functools.partial(account.damaged, export.participant, file=where)
  mended = functools.partial(account.mended, export.participant, file=where)
  collector = _EntryCollector(types, where, collections.Counter() if others is None else others)
  with export.open(name) as raw:
    file = in_utf8(raw, where)
    start = _without_prolog(file, where)
    first_child = _CHILD.match(start)
    if not first_child:
      yield from _in_one_piece(start, NulGuard(file, where), collector, where)
      return
    children = _Children(collector, b"\n" + first_child[1].lstrip(b"\r\n") + b"<", damaged, mended)
    for block in _blocks(start[start.index(b">") + 1 :], file, children.boundary, where):
      children.read(block)
      if collector.entries:
        yield collector.take()
    yield collector.take()
  if not children.ended:
    damaged(why=CUT_OFF, place=f" after row {collector.row}")


def _in_one_piece(start: bytes, file: NulGuard, collector: _EntryCollector, where: str) -> Iterator[list[Entry]]:
  parser = _parser(collector)
  block: bytes | None = start
  try:
    while block:
      parser.feed(_clean(block))
      if collector.entries:
        yield collector.take()
      block = file.read(_BLOCK)
    parser.close()
  except etree.XMLSyntaxError as error:
    yield collector.take()
    raise SchemaError(f"{where}: broken or truncated XML after row {collector.row}: line {error.lineno}") from None
  yield collector.take()


@functools.lru_cache(1 << 10)
def _type_name(text: str) -> str:
  """A type without what all types of its kind begin with: "BodyMass" for HKQuantityTypeIdentifierBodyMass."""
  name = re.sub(r"^HK[A-Za-z]+TypeIdentifier", "", text)
  return name if re.fullmatch(r"[A-Za-z0-9]{1,80}", name) else "others"


def _parser(collector: _EntryCollector) -> etree.XMLParser:
  # No tree is built: the parser calls `collector` for each element. The file may not choose the encoding.
  return etree.XMLParser(target=collector, encoding="utf-8", resolve_entities=False, no_network=True)


def _clean(block: bytes) -> bytes:
  block = block.translate(_CONTROLS)
  return _ESCAPED_CONTROLS.sub(b" ", block) if b"&#" in block else block


class _Children:
  """Parses blocks of whole children of the root.

  Attributes:
    boundary: what each child begins with: a line end, its spaces and "<".
    ended: whether the end of the root was in a block.
  """

  def __init__(
    self, collector: _EntryCollector, boundary: bytes, damaged: Callable[..., None], mended: Callable[..., None]
  ):
    self.boundary = boundary
    self.ended = False
    self._collector, self._damaged, self._mended = collector, damaged, mended

  def read(self, block: bytes) -> None:
    """Parses a block; counts its children that are broken."""
    if self.ended:
      return
    rest = b""
    if _END in block:
      self.ended = True
      block, _, rest = block.partition(_END)
    if not self._parse(_clean(block)):
      for child in self._split(block):
        self._read_child(child)
    if rest.strip():
      self._damaged(why="more after the end", place=f" after row {self._collector.row}")

  def _read_child(self, child: bytes) -> None:
    if self._parse(_clean(child)):
      return
    row = self._collector.row
    text = _clean(child).decode(errors="replace")
    if "\0" not in text and self._parse(text.encode()):
      self._mended(
        why=NO_TEXT, place=f" row {self._collector.row}" if self._collector.row > row else f" after row {row}"
      )
      return
    is_row = bool(re.match(rb"\s*<(?:Record|Workout)\b", child))
    self._collector.row += is_row
    place = f" row {self._collector.row}" if is_row else f" after row {row}"
    self._damaged(why=BROKEN, place=place)

  def _parse(self, block: bytes) -> bool:
    """True if a block could be parsed; if not, it leaves no entry."""
    before = self._collector.state()
    parser = _parser(self._collector)
    try:
      for text in (b"<HealthData>", block, _END):
        parser.feed(text)
      parser.close()
      return True
    except etree.XMLSyntaxError:
      self._collector.forget(before)
      return False

  def _split(self, block: bytes) -> list[bytes]:
    """The children in a block; what a Correlation holds stays in it."""
    children: list[bytes] = []
    in_correlation = False
    for child in re.split(rb"(?=" + re.escape(self.boundary) + rb"[A-Za-z])", block):
      if in_correlation:
        children[-1] += child
      elif child.strip():
        children.append(child)
      opens = child.startswith(self.boundary + b"Correlation") and b"/>" not in child.strip().partition(b"\n")[0]
      in_correlation = (in_correlation or opens) and b"</Correlation>" not in child
    return children


class _EntryCollector:
  """Receives the parser's call at each start and end of an element and keeps the entries to read.

  Attributes:
    entries: the entries since `take`.
    row: number of records and workouts so far.
  """

  def __init__(self, types: Collection[str], where: str, others: collections.Counter[str]):
    self.entries: list[Entry] = []
    self._types = frozenset(types)
    self._where = where
    self._depth = 0
    self.row = 0
    self._open: tuple[str, dict[str, str]] | None = None
    self._zone, self._by_hand = "", False
    self._others = others

  def take(self) -> list[Entry]:
    """Returns the entries collected so far and forgets them."""
    entries, self.entries = self.entries, []
    return entries

  def state(self) -> tuple[int, int, dict[str, int]]:
    """Numbers of rows, entries and records of other types so far, for `forget`."""
    return self.row, len(self.entries), dict(self._others)

  def forget(self, state: tuple[int, int, dict[str, int]]) -> None:
    """Returns to an earlier state, outside the root."""
    self.row, entries, others = state
    self._depth, self._open = 0, None
    del self.entries[entries:]
    self._others.clear()
    self._others.update(others)

  def start(self, tag: str, attributes: dict[str, str]) -> None:
    if self._depth == 1:
      self._open, self._zone, self._by_hand = None, "", False
      self.row += tag in ("Record", "Workout")
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
      self.entries.append(Entry(self.row, *self._open, self._zone, self._by_hand))
      self._open = None

  def doctype(self, name: str, public: str | None, system: str | None) -> None:
    raise SchemaError(f"{self._where}: has a document type that is not Apple's: refused")

  def close(self) -> None:
    pass


def _without_prolog(file: IO[bytes], where: str) -> bytes:
  """The beginning of the file from its root on.

  Raises:
    SchemaError: there is no root, or what is before it is not what Apple writes.
  """
  start = b""
  while len(start) < _PROLOG and not _ROOT.search(start) and (block := file.read(_BLOCK)):
    start += block
  root = _ROOT.search(start)
  if not root:
    raise SchemaError(f"{where}: no <HealthData> in its first {_PROLOG:,} bytes, expected Apple's export.xml")
  if b"\0" in start[: root.start()]:
    raise SchemaError(f"{where}: {not_utf8(start)}")
  prolog = start[: root.start()]
  if b"<!ENTITY" in prolog:
    raise SchemaError(f"{where}: declares XML entities: refused")
  prolog = _DOCUMENT_TYPE.sub(b"", prolog)
  others = prolog[_BEFORE_THE_ROOT.match(prolog).end() :]  # type: ignore[union-attr]
  if others.startswith((b"<!", b"<?")):
    raise SchemaError(f"{where}: has a document type that is not Apple's: refused")
  if others:
    raise SchemaError(f"{where}: its root is not HealthData, expected Apple's export.xml")
  return start[root.start() :]


def _blocks(start: bytes, file: IO[bytes], boundary: bytes, where: str) -> Iterator[bytes]:
  """Yields the file after the root's beginning in blocks of whole children."""
  block = start
  while more := file.read(_BLOCK):
    block += more
    cut = block.rfind(boundary)
    while cut > 0 and block[cut + len(boundary) : cut + len(boundary) + 1] in (b"/", b""):
      cut = block.rfind(boundary, 0, cut)
    if b"<Correlation" in block and block.rfind(b"<Correlation", 0, cut) > block.rfind(b"</Correlation>", 0, cut):
      # It holds copies of records.
      cut = block.rfind(boundary + b"Correlation", 0, cut)
    if cut > 0:
      yield block[:cut]
      block = block[cut:]
    elif len(block) > _LONGEST_CHILD:
      raise SchemaError(f"{where}: an element has more than {_LONGEST_CHILD:,} bytes")
  yield block
