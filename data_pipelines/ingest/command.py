"""The import command: the flags that data_pipelines.build adds for exports, and what it does with them."""

from __future__ import annotations

import glob
import hashlib
import os
import pathlib
import re
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from absl import flags

from data_pipelines.errors import SchemaError
from data_pipelines.ingest import account_summary, recipes
from data_pipelines.ingest.anonymity import Anonymity
from data_pipelines.ingest.imported_source import ImportedSource
from data_pipelines.ingest.importers import IMPORTERS
from data_pipelines.ingest.importers.long_table import LongTable
from data_pipelines.ingest.labels_csv import ParticipantTable, load_events
from data_pipelines.ingest.options import ImportOptions
from data_pipelines.ingest.reading.importer import Importer, told_apart
from data_pipelines.ingest.reading.input_files import ExportSet, detect_importers
from data_pipelines.ingest.reading.people import ACCOUNT, FILE, FOLDER, ONE
from data_pipelines.runners import Runner
from data_pipelines.source import MAX_MISSING, Source
from data_pipelines.text_files import counted

SOURCES = ("auto", *IMPORTERS)  # values of --source that are imports
IMPORT_FLAGS = (  # that define_flags adds
  "timezone",
  "columns",
  "time_format",
  "events",
  "recipe",
  "write_recipe",
  "minutes_per_step",
  "max_missing",
  "entered_by_hand",
  "anonymise",
  "person_by",
  "one_person",
  "date_shift",
  "dry_run",
  "preview",
  "strict",
)


def define_flags(values: flags.FlagValues) -> None:
  """Adds the flags of imports to `values`."""
  into: dict[str, Any] = {"flag_values": values}
  flags.DEFINE_string(
    "timezone",
    None,
    "IANA zone of people whose export has UTC times without offsets, such as Europe/Berlin; it moves no others.",
    **into,
  )
  flags.DEFINE_list(
    "columns", None, "Which columns of a table are what: time=TIMESTAMP,heart_rate=BPM (only with long_table).", **into
  )
  flags.DEFINE_string(
    "time_format", None, "How times of a table are written, such as '%d/%m/%Y %H:%M' (only with long_table).", **into
  )
  flags.DEFINE_string("events", None, "CSV of participant,start,end,name[,value] with ISO times.", **into)
  flags.DEFINE_string(
    "recipe",
    None,
    f"YAML file with the channels, rules, units, ranges and thresholds to use, or one of {', '.join(recipes.NAMES)}.",
    **into,
  )
  flags.DEFINE_string("write_recipe", None, "Write the recipe that was used to this file, for editing.", **into)
  flags.DEFINE_integer("minutes_per_step", None, "Minutes per step (default: the recipe's, 1).", **into)
  left_out = f"Leave out days with a greater share missing (default: the recipe's, or {MAX_MISSING})."
  flags.DEFINE_float("max_missing", None, left_out, **into)
  flags.DEFINE_bool("entered_by_hand", None, "Keep readings that were typed in (default: the recipe's, no).", **into)
  flags.DEFINE_bool("dry_run", False, "Show what would be built, without writing to data_dir.", **into)
  flags.DEFINE_string("preview", None, "With --dry_run: a PNG file to draw one of the days in.", **into)
  flags.DEFINE_enum(
    "person_by",
    None,
    [FOLDER, FILE, ACCOUNT],
    "What is one person's in --input: each folder or zip directly in it, each file, or each account that the exports "
    "name (default: what the exports say; where they do not, the import asks).",
    **into,
  )
  flags.DEFINE_bool("one_person", False, "All of --input is one person's.", **into)
  flags.DEFINE_bool("strict", False, "Refuse an export of which a part cannot be read, instead of counting it.", **into)
  flags.DEFINE_string("anonymise", None, "File with a secret key: replaces names with hashes and moves dates.", **into)
  flags.DEFINE_integer("date_shift", 52, "Move each person's dates back by up to this many weeks.", 0, 5200, **into)


def run_import(
  values: flags.FlagValues,
  build: Callable[[Callable[[], Source], Mapping[str, Any]], None],
  outlook: Callable[[Source], list[str]],
  runner: Runner,
) -> None:
  """Runs the import that the flags describe, and prints its account.

  Args:
    values: the flags.
    build: builds the dataset from a function that makes the source, and from a request that identifies its days. It
      does not call the function if the dataset already exists.
    outlook: describes what a build would make of the people of a source, for --dry_run; refuses what it would refuse.
    runner: reads and grids the exports.

  Raises:
    SchemaError: the exports or an accompanying file cannot be used.
    flags.Error: flags contradict each other.
  """
  if values.input is None:
    raise flags.Error("--input is missing")
  _check_recipe_path(values.write_recipe)
  if values.one_person and values.person_by:
    raise flags.Error("--one_person contradicts --person_by")
  person_by = ONE if values.one_person else values.person_by
  name, importers = _importers(values, person_by)
  export_set = ExportSet(values.input, importers, person_by)
  options = _options(values)
  if values.dry_run:
    with tempfile.TemporaryDirectory() as temporary:
      source = ImportedSource(export_set, pathlib.Path(temporary), options, runner)
      _write_recipe(source, values.write_recipe)
      show(source, source.channel_lines, outlook(source))
      print(*account_summary.summary_lines(source.public_account), sep="\n")
    return
  sources: list[ImportedSource] = []
  folder = _work_folder(values, name)

  def make_source() -> ImportedSource:
    _remove_others(folder, values.name)  # under the lock of the dataset's build, which nobody else can have
    source = ImportedSource(export_set, folder, options, runner)
    _write_recipe(source, values.write_recipe)
    sources.append(source)
    return source

  build(make_source, _request(values, name, export_set, options))
  for source in sources:
    print(*account_summary.summary_lines(source.public_account), sep="\n")
    source.discard()


def _importer(values: flags.FlagValues, name: str) -> Importer:
  """The importer of a source, with what the flags say of a table."""
  if values.columns is None and values.time_format is None:
    return IMPORTERS[name]
  if name != "long_table":
    raise flags.Error(f"--columns and --time_format are for tables, --source=long_table, not for --source={name}")
  pairs = [pair.partition("=")[::2] for pair in values.columns or ()]
  for ours, theirs in pairs:
    if not ours or not theirs:
      raise flags.Error(f"--columns has {ours or theirs!r}, expected NAME=COLUMN, such as time=Timestamp")
  columns = dict(pairs)
  if len(columns) < len(pairs) or len({*columns.values()}) < len(pairs):
    raise flags.Error("--columns has a name more than once, expected each once")
  if columns and "time" not in columns:
    raise flags.Error("--columns has no time=COLUMN")
  return LongTable(columns, values.time_format or "")


def _importers(values: flags.FlagValues, person_by: str | None) -> tuple[str, Importer | Mapping[str, Importer]]:
  """The name of the source and its importer, or those of several kinds of exports.

  Raises:
    SchemaError: there are several kinds, and it is not said whose they are.
  """
  names = detect_importers(values.input, IMPORTERS) if values.source == "auto" else [values.source]
  if len(names) > 1 and not person_by:
    raise SchemaError(
      f"{values.input}: holds exports of {' and '.join(names)}; choose one with --source, or read all of them with "
      "--one_person or --person_by=folder"
    )
  if values.source == "auto":
    print(f"--source={','.join(names)}")
  importers = {name: _importer(values, name) for name in names}
  return ",".join(names), importers[names[0]] if len(names) == 1 else told_apart(importers)


def _options(values: flags.FlagValues) -> ImportOptions:
  if values["date_shift"].present and values.anonymise is None:
    raise flags.Error("--date_shift needs --anonymise")
  return ImportOptions(
    recipe=recipes.load(values.recipe) if values.recipe else None,
    minutes_per_step=values.minutes_per_step,
    max_missing=values.max_missing,
    entered_by_hand=values.entered_by_hand,
    timezone=values.timezone,
    people=ParticipantTable.load(values.participants) if values.participants else ParticipantTable(),
    events=load_events(values.events) if values.events else (),
    anonymity=Anonymity.load(values.anonymise, values.date_shift) if values.anonymise else None,
    strict=values.strict,
  )


def _work_folder(values: flags.FlagValues, source: str) -> pathlib.Path:
  """Folder of the spool and the days until the build ends; the same for the same input and dataset name."""
  origin = f"{source} {pathlib.Path(values.input).resolve()} {values.person_by} {values.one_person}"
  digest = hashlib.blake2b(origin.encode(), digest_size=6).hexdigest()
  return pathlib.Path(values.data_dir).expanduser() / ".importing" / f"{values.name}-{digest}"


def _remove_others(folder: pathlib.Path, name: str) -> None:
  """Removes what killed imports of other exports into the dataset have left: readings that nobody will ask for."""
  for other in folder.parent.glob(f"{glob.escape(name)}-*"):
    if other != folder and re.fullmatch(r"[0-9a-f]{12}", other.name.removeprefix(f"{name}-")):
      shutil.rmtree(other, ignore_errors=True)


def _request(values: flags.FlagValues, source: str, export_set: ExportSet, options: ImportOptions) -> dict[str, Any]:
  """Identifies the days by what they are made from. It holds nothing personal if the dataset is anonymous."""
  anonymity = options.anonymity
  contents = {
    "files": sorted(export_set.digests.items()),
    "participants": _content(values.participants),
    "events": _content(values.events),
  }
  digests = {key: _digest(repr(content), anonymity) for key, content in contents.items() if content}
  return {
    "source": source,
    **({} if anonymity else {"input": export_set.exports[0].path.name if len(export_set.exports) == 1 else ""}),
    "exports": len(export_set.exports),
    **digests,
    "timezone": options.timezone,
    "recipe": options.recipe.to_yaml(comments=False) if options.recipe else None,
    **({"columns": values.columns} if values.columns else {}),
    **({"time_format": values.time_format} if values.time_format else {}),
    "minutes_per_step": options.minutes_per_step,
    "max_missing": options.max_missing,
    **({} if options.entered_by_hand is None else {"entered_by_hand": options.entered_by_hand}),
    "anonymised": {"date_shift": anonymity.weeks} if anonymity else None,
    **({"strict": True} if options.strict else {}),
  }


def _content(path: str | None) -> str:
  return pathlib.Path(path).read_bytes().hex() if path else ""


def _digest(text: str, anonymity: Anonymity | None) -> str:
  if anonymity:
    return anonymity.digest("request", text).hex()
  return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def _check_recipe_path(path: str | None) -> None:
  """Refuses a path that `_write_recipe` could not write, before the exports are read."""
  if not path:
    return
  if os.path.lexists(path):
    raise SchemaError(f"{path}: file exists")
  folder = pathlib.Path(path).parent
  if not folder.is_dir() or not os.access(folder, os.W_OK):
    raise SchemaError(f"{path}: cannot be written: {folder} is no folder that may be written to")


def _write_recipe(source: ImportedSource, path: str | None) -> None:
  if path:
    try:
      with pathlib.Path(path).open("x", encoding="utf-8") as file:
        file.write(source.recipe.to_yaml())
    except OSError as error:
      raise SchemaError(f"{path}: {(error.strerror or 'cannot be written').lower()}") from None


def check_picture(path: str) -> None:
  """Refuses a path for the picture before the export is read.

  Raises:
    SchemaError: it does not end in .png, or its folder cannot be written to.
  """
  folder = pathlib.Path(path).parent
  if pathlib.Path(path).suffix.lower() != ".png":
    raise SchemaError(f"{path}: expected a name that ends in .png")
  if not folder.is_dir() or not os.access(folder, os.W_OK):
    raise SchemaError(f"{path}: cannot be written: {folder} is no folder that may be written to")


def show(source: Source, channel_lines: Sequence[str], outlook: Sequence[str]) -> None:
  """Prints what --dry_run tells about a source."""
  people = source.participants
  size = f"{counted(source.n_days, 'day')} of {counted(len(people), 'person')}"
  print(f"would build {size}, every {source.schema.minutes_per_step} min")
  notes = [f"note: {note}" for note in getattr(source, "notes", ())]
  print(*channel_lines, *notes, *outlook, sep="\n")
