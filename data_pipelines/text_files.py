"""Reading text, JSON and CSV that others wrote without hanging or filling memory, and writing CSV that is safe to open.

Files that people open in a spreadsheet must not run anything: a field that begins with =, +, -, @, a tab or a carriage
return is a formula to a spreadsheet, and names, labels and locations come from the data. Such text gets an apostrophe
in front, which spreadsheets show as text; numbers stay numbers.
"""

from __future__ import annotations

import codecs
import collections
import contextlib
import csv
import fcntl
import hashlib
import io
import json
import math
import os
import pathlib
import re
import shutil
import stat
import unicodedata
import uuid
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from data_pipelines.errors import SchemaError

MOST_BYTES = 64 * 2**20  # of a file that is read whole: settings, labels and lists of people
LONGEST_NAME = 80  # characters of a file name made from a name of the data; file systems allow 255 bytes
UNFINISHED = r"\.[0-9a-f]{32}\.new"  # what follows the name of a file that is being replaced
_DEVICES = {"CON", "PRN", "AUX", "NUL", *(f"{port}{n}" for port in ("COM", "LPT") for n in range(1, 10))}  # of Windows
MOST_LINES_BYTES = 2**30  # of a file with a line per step or row
DEEPEST = 32  # levels of nested JSON
_PLURALS = {"person": "people", "patch": "patches"}
_FORMULA = re.compile(r"'*[=+\-@\t\r]")  # further apostrophes are doubled up, so that readers can take one away
_NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?%?|[+-]?(inf|nan)", re.IGNORECASE)
_WHOLE_NUMBER = re.compile(r"[+-]?[0-9]{1,18}")
# Numbers to a person or a program. "1,5" is none of them, because it may be a list of answers too.
_OTHER_NOTATION = re.compile(r"[+-]?(0x[0-9a-f]+|0b[01]+|0o[0-7]+|\d{1,3}([_', ]\d{3})+(\.\d+)?)", re.IGNORECASE)
_BYTE_ORDER_MARKS = {
  codecs.BOM_UTF32_LE: "UTF-32",  # before UTF-16, whose mark it begins with
  codecs.BOM_UTF32_BE: "UTF-32",
  codecs.BOM_UTF16_LE: "UTF-16",
  codecs.BOM_UTF16_BE: "UTF-16",
}
_HALF_A_PAIR = re.compile(r"\\u[dD][89a-fA-F]")
_UNPRINTABLE = ("Cc", "Cs", "Zl", "Zp")
_DIRECTION = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
_ONE_KIND = bytes.maketrans(b"{}", b"[]")
_NO_MARKS = bytes(set(range(256)) - set(b'"[]{}\\'))
_KINDS = {
  stat.S_ISDIR: "a folder",
  stat.S_ISFIFO: "a pipe",
  stat.S_ISCHR: "a device",
  stat.S_ISBLK: "a device",
  stat.S_ISSOCK: "a socket",
}


def check_regular(path: str | os.PathLike) -> int:
  """Refuses what is not a file on disk, because reading a pipe or a device such as /dev/zero may never end.

  Returns:
    The size in bytes.

  Raises:
    SchemaError: there is no such file, or it is a folder, a pipe, a device or a socket.
  """
  try:
    status = os.stat(path)
  except FileNotFoundError:
    raise SchemaError(f"{path}: no such file") from None
  except OSError as error:
    raise SchemaError(f"{path}: {(error.strerror or 'cannot be read').lower()}") from None
  for is_kind, kind in _KINDS.items():
    if is_kind(status.st_mode):
      raise SchemaError(f"{path}: is {kind}, expected a file")
  return status.st_size


def read_bytes(path: str | os.PathLike, most: int = MOST_BYTES) -> bytes:
  """The content of a file on disk of at most `most` bytes.

  Raises:
    SchemaError: it is absent, unreadable, larger, or not a file.
  """
  size = check_regular(path)
  try:
    with open(path, "rb") as file:
      raw = file.read(most + 1)  # files of the kernel, such as those in /proc, have a size of 0 and may have no end
  except OSError as error:
    raise SchemaError(f"{path}: {(error.strerror or 'cannot be read').lower()}") from None
  if len(raw) > most:
    raise SchemaError(f"{path}: {max(size, len(raw)):,} bytes, expected at most {most:,}")
  return raw


def read_text(path: str | os.PathLike, most: int = MOST_BYTES) -> str:
  """The text of a UTF-8 file, with or without a byte order mark, its line ends unchanged.

  Raises:
    SchemaError: it is absent, unreadable, too large, or not UTF-8; the message names the encoding it seems to have.
  """
  raw = read_bytes(path, most)
  if fault := not_utf8(raw):
    raise SchemaError(f"{path}: {fault}")
  return raw.decode("utf-8-sig")


def read_json(path: str | os.PathLike, most: int = MOST_BYTES) -> Any:
  """The value in a JSON file.

  Raises:
    SchemaError: it cannot be read, is not JSON, or is nested deeper than DEEPEST levels.
  """
  return parse_json(read_text(path, most), str(path))


def read_json_lines(path: str | os.PathLike, most: int = MOST_LINES_BYTES) -> Iterator[tuple[int, dict[str, Any]]]:
  """Yields the objects of a file that has a JSON object per line, each with the number of its line from 1.

  Raises:
    SchemaError: the file cannot be read, or a line is no JSON object; the message names file and line.
  """
  for number, line in enumerate(read_text(path, most).split("\n"), start=1):
    if line.strip():
      yield number, parse_json_object(line, f"{path} line {number}")


def parse_json_object(text: str, where: str) -> dict[str, Any]:
  """The object in a JSON text; `where` names it in messages.

  Raises:
    SchemaError: it is no JSON (see parse_json), or not an object.
  """
  value = parse_json(text, where)
  if not isinstance(value, dict):
    raise SchemaError(f"{where}: found {text[:60]!r}, expected a JSON object")
  return value


def parse_json(text: str, where: str) -> Any:
  """The value in a JSON text; `where` names it in messages.

  Raises:
    SchemaError: it is not JSON, is nested deeper than DEEPEST levels, has a key twice in one object, or holds half of a
      surrogate pair, which is no character.
  """
  check_depth(text, where)
  repeated: list[str] = []

  def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    counts = collections.Counter(key for key, _ in pairs)
    repeated.extend(key for key, count in counts.items() if count > 1)
    return dict(pairs)

  try:
    value = json.loads(text, object_pairs_hook=unique)
  except ValueError as error:
    raise SchemaError(f"{where}: not JSON: {str(error).splitlines()[0]}") from None
  if repeated:
    raise SchemaError(f"{where}: key {repeated[0]!r} appears more than once in one object, expected once")
  try:
    text.encode()
    if _HALF_A_PAIR.search(text):
      json.dumps(value, ensure_ascii=False).encode()
  except UnicodeEncodeError as error:
    half = error.object[error.start]
    raise SchemaError(f"{where}: holds {half!r}, which is half of a surrogate pair and no character") from None
  return value


def file_name(text: str) -> str:
  """A file name for a name from the data: letters, digits, - _ and . of ASCII, at most LONGEST_NAME of them.

  It has no separator of folders, does not begin with a - or ., which tools and shells read otherwise, and ends in a
  digest of the text wherever it is not the text itself, so that two names never share a file.
  """
  kept = re.sub(r"[^A-Za-z0-9_.-]+", "_", text).lstrip("-.")[:LONGEST_NAME]
  if kept == text and text and text.partition(".")[0].upper() not in _DEVICES:
    return kept
  return f"{kept or 'x'}_{name_digest(text)}" if kept.partition(".")[0].upper() not in _DEVICES else name_digest(text)


def name_digest(text: str) -> str:
  """A short digest that tells names apart which look alike in a file name."""
  return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=4).hexdigest()


def unprintable(text: str) -> bool:
  """True if a name has control characters, line separators, marks that turn the direction of text, or half characters.

  They can hide or forge output in a terminal, and half of a surrogate pair cannot be written.
  """
  return any(map(_hides, text))


def _hides(letter: str) -> bool:
  return unicodedata.category(letter) in _UNPRINTABLE or letter in _DIRECTION


def one_line(text: str, most: int | None = None) -> str:
  """Text from a file as one printable line: escapes such as \\n for what `unprintable` finds.

  Args:
    text: any text.
    most: the most characters of it that are kept; "..." stands for the rest. None keeps all.
  """
  kept = text if most is None or len(text) <= most else f"{text[:most]}..."
  if kept.isascii() and kept.isprintable():
    return kept
  return "".join(ascii(letter)[1:-1] if _hides(letter) else letter for letter in kept)


def folded(name: str) -> str:
  """A name as people tell names apart: without letter case, Unicode form, marks of no width, and needless spaces."""
  if name.isascii():
    return " ".join(name.casefold().split())
  plain = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).casefold())
  return " ".join("".join(letter for letter in plain if unicodedata.category(letter) != "Cf").split())


def alike(what: str, first: str, second: str) -> str:
  """The message about two names that `folded` makes one."""
  # Letters of another form look the same in print; their escapes do not.
  same_in_print = unicodedata.normalize("NFC", first) == unicodedata.normalize("NFC", second)
  one, other = (ascii(name) if same_in_print else repr(name) for name in (first, second))
  return f"{what} {one} and {other} differ only in case, spaces or Unicode form, expected one spelling of each name"


def check_names(names: Iterable[str], what: str, where: str) -> None:
  """Refuses names that are empty or have spaces around them, and different names that look alike.

  One person under two such names would be in two splits.

  Args:
    names: each of them once or more often.
    what: one of them, in messages: "participant".
    where: begins the message.

  Raises:
    SchemaError: there is such a name.
  """
  seen: dict[str, str] = {}
  for name in dict.fromkeys(names):
    if not name.strip():
      raise SchemaError(f"{where}: a {what} has an empty name")
    if name != name.strip():
      raise SchemaError(f"{where}: {what} {name!r} has spaces around it, expected none")
    if (first := seen.setdefault(folded(name), name)) != name:
      raise SchemaError(f"{where}: {alike(what, first, name)}")


def check_reserved(header: Iterable[str], reserved: Iterable[str], where: str) -> None:
  """Refuses a column whose name is nearly one of those with a meaning, such as "Time zone" for "timezone".

  Raises:
    SchemaError: there is such a column; it would be taken for something else in silence.
  """
  meant = {_letters(name): name for name in reserved}
  for column in header:
    if meant.get(_letters(column), column) != column:
      raise SchemaError(f"{where}: column {column!r} is nearly {meant[_letters(column)]!r}, expected that spelling")


def _letters(name: str) -> str:
  return re.sub(r"[\s_-]", "", folded(name))


def counted(number: int, noun: str) -> str:
  """A number with its noun, in the singular or the plural: "1 day", "1,440 steps", "0 people"."""
  return f"{number:,} {noun if number == 1 else _PLURALS.get(noun, noun + 's')}"


def percentage(percent: float) -> str:
  """A percentage without an exponent: "0 %", "0.02 %", "37.5 %". Only what is none or all is called 0 % or 100 %."""
  if 0 < percent < 0.005:
    return "under 0.01 %"
  if 99.95 <= percent < 100:
    return "over 99.9 %"
  digits = f"{percent:.1f}" if abs(percent) >= 1 else f"{percent:.2f}"
  return f"{digits.rstrip('0').rstrip('.')} %"


def plain_number(value: float, digits: int = 3, sign: str = "") -> str:
  """A number with so many digits, and more rather than an exponent if it is large: "0.0123", "12.3", "1,234"."""
  whole = 10 ** (digits - 1) <= abs(value) < 1e15
  return f"{value:{sign},.0f}" if whole else f"{value:{sign}.{digits}g}"


def read_number(field: str, column: str = "field") -> float:
  """The number in a field of a CSV file: digits 0 to 9 with or without a point and an exponent, inf or nan.

  Python's float() also takes 1_000 and the digits of other scripts, which no other reader of such a file does.

  Raises:
    SchemaError: it is anything else.
  """
  if field.endswith("%") or not _NUMBER.fullmatch(field):
    raise SchemaError(f"{column} is {field[:60]!r}, expected a number in the digits 0 to 9, such as 1234.5")
  return float(field)


def read_whole_number(field: str, column: str = "field") -> int:
  """The whole number in a field of a CSV file or a flag, of at most 18 digits 0 to 9.

  Raises:
    SchemaError: it is anything else.
  """
  if not _WHOLE_NUMBER.fullmatch(field):
    raise SchemaError(f"{column} is {field[:60]!r}, expected a whole number in the digits 0 to 9, such as 1234")
  return int(field)


def in_other_notation(field: str) -> bool:
  """True if a field is a number in a way that `read_number` does not take: 0x1F, 1_000, 1,000, other scripts."""
  if _NUMBER.fullmatch(field):
    return False
  digits = "".join(str(unicodedata.digit(letter, letter)) for letter in field)
  return bool(_OTHER_NOTATION.fullmatch(field) or (digits != field and _NUMBER.fullmatch(digits)))


def json_text(value: Any, indent: int | None = None) -> str:
  """The value as JSON that every reader accepts: NaN and Inf, which JSON does not have, become null."""
  return json.dumps(_finite(value), indent=indent, allow_nan=False)


def _finite(value: Any) -> Any:
  if isinstance(value, dict):
    return {key: _finite(member) for key, member in value.items()}
  if isinstance(value, list | tuple):
    return [_finite(member) for member in value]
  return None if isinstance(value, float) and not math.isfinite(value) else value


def check_depth(text: str, where: str) -> None:
  """Refuses deeply nested JSON before the recursive parser sees it. Brackets inside strings do not count.

  Raises:
    SchemaError: the JSON is nested deeper than DEEPEST levels.
  """
  if not _is_shallow(text):
    _count_depth(text, where)


def _is_shallow(text: str) -> bool:
  """A quick check that nesting is at most DEEPEST; False means that the depth has to be counted.

  Removing innermost pairs of brackets DEEPEST times leaves nothing if the nesting is no deeper. This is fifteen times
  as fast as counting. Pairs of quotes go first, which does not change whether other marks are inside a string; a
  bracket or a backslash inside a string is left over, and leads to the count.
  """
  marks = text.encode(errors="replace").translate(_ONE_KIND, _NO_MARKS).replace(b'""', b"")
  for _ in range(DEEPEST):
    marks = marks.replace(b"[]", b"")
  return not marks


def _count_depth(text: str, where: str) -> None:
  depth = 0
  for match in re.finditer(r'"(?:[^"\\]|\\.)*"|[\[{\]}]', text):
    mark = match.group()
    depth += 1 if mark in "[{" else -1 if mark in "]}" else 0
    if depth > DEEPEST:
      raise SchemaError(f"{where}: JSON is nested deeper than {DEEPEST} levels")


def not_utf8(raw: bytes) -> str | None:
  """Describes the content of a file, or of a block of one, that is not UTF-8, and how to convert it; None if it is."""
  nul = raw.find(b"\0")
  if nul < 0:
    try:
      raw.decode()
      return None
    except UnicodeDecodeError:
      pass
  for mark, name in _BYTE_ORDER_MARKS.items():
    if raw.startswith(mark):
      return _convert(name, name)
  if nul >= 0:
    # Western text in UTF-16 has a NUL in every other byte.
    even, odd = raw[:4096:2].count(0), raw[1:4096:2].count(0)
    most = min(len(raw), 4096) // 2
    if most > 2 and max(even, odd) > 0.7 * most and min(even, odd) < 0.1 * most:
      return _convert("UTF-16", "UTF-16LE" if odd > even else "UTF-16BE")
    return "holds NUL bytes, expected UTF-8 text"
  kept = raw.decode(errors="ignore")
  if sum(character > "\x7f" for character in kept) > raw.decode(errors="replace").count("\ufffd"):
    return "not UTF-8 text throughout: damaged, or partly in another encoding"
  if sum(byte < 32 and byte not in b"\t\n\r\f" for byte in raw[:4096]) > len(raw[:4096]) / 50:
    return "not text, expected UTF-8"
  return _convert("Latin-1 (Windows-1252)", "WINDOWS-1252")


def _convert(name: str, iconv_name: str) -> str:
  return f"not UTF-8 text, probably {name}; save it as UTF-8, or convert it: iconv -f {iconv_name} -t UTF-8 FILE > NEW"


@contextlib.contextmanager
def replacing(path: pathlib.Path) -> Iterator[pathlib.Path]:
  """A path to write a file to, which becomes `path` when the block ends without an error, and is removed otherwise.

  Where `path` is a symbolic link, the file that it points to is replaced. What killed processes have left of earlier
  ones is removed.
  """
  path = path.resolve()
  remove_abandoned(path.parent, re.escape(path.name) + UNFINISHED)
  with unfinished(path.with_name(f"{path.name}.{uuid.uuid4().hex}.new")) as new:  # processes may write at the same time
    yield new
    new.replace(path)


@contextlib.contextmanager
def unfinished(path: pathlib.Path, folder: bool = False) -> Iterator[pathlib.Path]:
  """Makes an empty file, or a folder, to write to; it is removed at the end if it still has this name.

  This process has the lock of it, by which `remove_abandoned` knows that somebody is at work there. The kernel releases
  it however the process ends. The block writes in place: a file that is put there under the same name has no lock. On a
  file system whose locks hold on one machine only, two machines must not write the same target at once.
  """
  lock = None
  while lock is None:
    if folder:
      path.mkdir()
    else:
      path.touch(exist_ok=False)
    lock = _locked(path, fcntl.LOCK_EX)  # None if it was removed before it was locked
  try:
    yield path
  finally:
    _remove(path)
    if lock >= 0:
      os.close(lock)


def remove_abandoned(folder: pathlib.Path, names: str) -> None:
  """Removes what processes that are no more have left unfinished in a folder.

  Args:
    folder: the folder; it may be absent.
    names: a regular expression for all of the name of a file or folder that `unfinished` makes.
  """
  with contextlib.suppress(OSError):  # the folder may be absent, or not be listed
    for name in os.listdir(folder):
      if re.fullmatch(names, name):
        path = pathlib.Path(folder, name)
        lock = _locked(path, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if lock is not None and lock >= 0:
          _remove(path)
          os.close(lock)


def _locked(path: pathlib.Path, how: int) -> int | None:
  """The descriptor that has the lock of a file or folder; None if it is gone or another has it, -1 without locks."""
  try:
    lock = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR | os.O_NOFOLLOW)
  except OSError:
    return None
  try:
    fcntl.flock(lock, how)
    if os.fstat(lock).st_ino == path.stat().st_ino:
      return lock
  except (BlockingIOError, FileNotFoundError):
    pass
  except OSError:  # the file system has no locks: nobody knows who is at work
    os.close(lock)
    return -1
  os.close(lock)
  return None


def _remove(path: pathlib.Path) -> None:
  if path.is_dir() and not path.is_symlink():
    shutil.rmtree(path, ignore_errors=True)
  else:
    with contextlib.suppress(OSError):
      path.unlink(missing_ok=True)


def replace_text(path: pathlib.Path, text: str) -> None:
  """Writes a text file, or replaces it, in one piece or not at all."""
  with replacing(path) as unfinished:
    unfinished.write_text(text)


def write_csv(path: str | os.PathLike, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
  """Writes a CSV file that a spreadsheet may open, and makes its folder.

  Args:
    path: the file.
    columns: its header.
    rows: one field per column each; see `spreadsheet_safe`.
  """
  path = pathlib.Path(path)
  path.parent.mkdir(parents=True, exist_ok=True)
  with path.open("w", newline="", encoding="utf-8") as file:
    _write(file, columns, rows)


def csv_text(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
  """The text that write_csv writes."""
  file = io.StringIO()
  _write(file, columns, rows)
  return file.getvalue()


def _write(file: Any, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
  writer = csv.writer(file, lineterminator="\n")
  writer.writerow([spreadsheet_safe(column) for column in columns])
  writer.writerows([spreadsheet_safe(field) for field in row] for row in rows)


def spreadsheet_safe(field: Any) -> Any:
  """The field with an apostrophe in front if a spreadsheet would take it for a formula; numbers are unchanged."""
  if isinstance(field, str) and _FORMULA.match(field) and not _NUMBER.fullmatch(field):
    return "'" + field
  return field


def read_fields(rows: Iterable[Sequence[str]]) -> Iterator[list[str]]:
  """The rows of a CSV reader as `write_csv` was given them, without its apostrophes."""
  for row in rows:
    yield [field[1:] if field.startswith("'") and spreadsheet_safe(field[1:]) == field else field for field in row]
