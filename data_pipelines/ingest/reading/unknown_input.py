"""Says what is in an input that no importer reads, and how it could be read."""

from __future__ import annotations

import collections
import contextlib
import re
import shlex
from collections.abc import Iterator, Sequence

from data_pipelines.channels import vocabulary
from data_pipelines.errors import SchemaError
from data_pipelines.ingest.reading.csv_batches import read_batches, read_header
from data_pipelines.ingest.reading.export_files import Export, kind_of_file

_SHOWN = 6  # kinds of files
_COLUMNS = 12
_LOOKED_AT = 100  # files
# Archives that are no zips, and what unpacks them into the folder NEW.
_ARCHIVES = (
  (re.compile(r"\.(t[gx]z|tbz2?|tar(\.\w+)?)$", re.IGNORECASE), "tar -xf {} -C NEW"),
  (re.compile(r"\.7z(\.\d+)?$", re.IGNORECASE), "7z x {} -oNEW"),
  (re.compile(r"\.rar$", re.IGNORECASE), "unrar x {} NEW/"),
)
_TIME = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}[T ][0-9]{2}:|[0-9]{9,19}$|[0-9]{1,2}\.[0-9]{1,2}\.[0-9]{4} [0-9]")
_PERSON = re.compile(r"participant|subject|user|patient|\bp?id\b", re.IGNORECASE)
_CHANNEL = re.compile(r"channel|type|signal|metric|variable|measure", re.IGNORECASE)


def suggestions(exports: Sequence[Export], fault: str) -> str:
  """Says what kinds of files an input holds, and suggests a command that would read it.

  Args:
    exports: the input, and the folders and zips in it.
    fault: what is wrong with it, in words that begin the message.
  """
  packed = [export for export in exports[1:] if export.path.is_file()]  # the input itself lists those in folders
  names = [(export, name) for export in [*exports[:1], *packed] for name in export.names][:_LOOKED_AT]
  if not names:
    return f"{fault}; it has no file"
  parts = [fault, f"found {', '.join(_kinds(names))}"]
  archive = next((where for export, name in names if unpacking(where := export.where(name))), "")
  if archive:
    parts.append(f"unpack it: mkdir NEW && {unpacking(archive, shlex.quote(archive))}, then --input=NEW")
  columns = next(filter(None, (_mapping(*file) for file in names)), None)
  if columns:
    parts.append(f"if this is a table of readings: --source=long_table --columns={columns}")
  if not archive and not columns:
    parts.append('the page "Your own data" lists what is read, and how any other source becomes a table')
  return "; ".join(parts)


def unpacking(name: str, written: str = "FILE") -> str:
  """The command that unpacks an archive which is no zip, with its name as it is written there; "" for other files."""
  return next((command.format(written) for form, command in _ARCHIVES if form.search(name)), "")


def _kinds(names: Sequence[tuple[Export, str]]) -> Iterator[str]:
  """The most frequent kinds of files, with the columns of tables."""
  kinds: dict[str, list[tuple[Export, str]]] = collections.defaultdict(list)
  for export, name in names:
    kinds[kind_of_file(name)].append((export, name))
  for kind, files in sorted(kinds.items(), key=lambda item: -len(item[1]))[:_SHOWN]:
    columns = _columns(*files[0])
    text = f" (columns {', '.join(columns[:_COLUMNS])}{', ...' * (len(columns) > _COLUMNS)})" if columns else ""
    yield (kind if len(files) > 1 else files[0][1].rpartition("/")[2]) + f" {len(files)}" * (len(files) > 1) + text
  if len(kinds) > _SHOWN:
    yield f"{len(kinds) - _SHOWN} other kinds"


def _columns(export: Export, name: str) -> list[str]:
  """The header of a text table; empty if the file is none."""
  if name.lower().endswith((".csv", ".tsv", ".txt")):
    with contextlib.suppress(SchemaError):
      columns = read_header(export, name)
      if all(column and not re.fullmatch(r"[-+0-9.,:]+", column) for column in columns):
        return columns
  return []


def _is_time(export: Export, name: str, column: str) -> bool:
  """True if the first row of a column holds a time that a table may have."""
  with contextlib.suppress(SchemaError):
    for rows in read_batches(export, name, [column], ragged=lambda row, why: None):
      return bool(_TIME.match(rows[column][0].as_py()))
  return False


def _mapping(export: Export, name: str) -> str | None:
  """A value of --columns with which a table can be read; None if it has no column of whole times, or of readings."""
  columns = _columns(export, name)
  time = next((column for column in columns if _is_time(export, name, column)), None)
  rest = [column for column in columns if column != time]
  person = next((column for column in rest if _PERSON.search(column)), None)
  rest = [column for column in rest if column != person]
  value = next((column for column in rest if column.lower() == "value"), None)
  channel = next((column for column in rest if _CHANNEL.search(column)), None)
  pairs = {"time": str(time)} | ({"participant": person} if person else {})
  if time and value and channel:
    pairs |= {"channel": channel, "value": value}
  else:
    entries = {column: vocabulary.load().find(column) for column in rest}
    found = {entry.name: column for column, entry in entries.items() if entry}
    pairs |= found
    if time is None or not found:
      return None
  text = ",".join(f"{ours}={theirs}" for ours, theirs in pairs.items())
  return f"'{text}'" if re.search(r"[^\w=,.-]", text) else text
