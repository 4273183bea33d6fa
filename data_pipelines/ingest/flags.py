"""What the command line says of an import, and what it does then."""

from __future__ import annotations

import hashlib
import pathlib
import tempfile
from collections.abc import Callable, Mapping
from typing import Any

from absl import flags

from data_pipelines.errors import SchemaError
from data_pipelines.ingest import account_summary
from data_pipelines.ingest.anonymity import Anonymity
from data_pipelines.ingest.gridding.recipe import Recipe
from data_pipelines.ingest.imported_source import Asked, ImportedSource
from data_pipelines.ingest.importers import IMPORTERS
from data_pipelines.ingest.labels_csv import People, load_events
from data_pipelines.ingest.reading.input_files import Input, choose
from data_pipelines.source import Source

SOURCES = ("auto", *IMPORTERS)
_OWN = ("timezone", "events", "recipe", "write_recipe", "minutes_per_step", "max_missing", "anonymise", "per_person")


def define(values: flags.FlagValues) -> None:
  """Adds the flags of imports."""
  own: dict[str, Any] = {"flag_values": values}
  flags.DEFINE_string("timezone", None, "IANA zone of people whose export tells UTC only: Europe/Berlin.", **own)
  flags.DEFINE_string("events", None, "CSV of participant,start,end,name[,value]; ISO times.", **own)
  flags.DEFINE_string("recipe", None, "YAML: channels, rules, units, ranges and thresholds to follow.", **own)
  flags.DEFINE_string("write_recipe", None, "Write the recipe that was followed here, to edit.", **own)
  flags.DEFINE_integer("minutes_per_step", None, "Minutes of a step (default: the recipe's, 1).", **own)
  flags.DEFINE_float("max_missing", None, "Leave out days that miss more (default: the recipe's, 0.8).", **own)
  flags.DEFINE_bool("dry_run", False, "Show what an import would make; nothing is written to data_dir.", **own)
  flags.DEFINE_bool(
    "per_person", None, "--input holds an export a person, named after them (default: find out).", **own
  )
  flags.DEFINE_string("anonymise", None, "File with a secret key: names become hashes, dates are moved.", **own)
  flags.DEFINE_integer("date_shift", 52, "Move each person's dates back by up to so many weeks.", 0, 5200, **own)


def refuse(values: flags.FlagValues) -> None:
  """flags.Error for a flag of imports with another source."""
  given = [name for name in (*_OWN, "date_shift", "dry_run") if values[name].present]
  if given:
    raise flags.Error(f"--{given[0]} is for exports, not for --source={values.source}")


def run(values: flags.FlagValues, build: Callable[[Callable[[], Source], Mapping[str, Any]], None]) -> None:
  """Imports as the flags say: `build` builds the dataset of a source and a request, if it is not there."""
  if values.input is None:
    raise flags.Error("--input is missing")
  name = choose(values.input, IMPORTERS) if values.source == "auto" else values.source
  if values.source == "auto":
    print(f"--source={name}")
  given = Input(values.input, IMPORTERS[name], values.per_person)
  asked = _asked(values)
  if values.dry_run:
    with tempfile.TemporaryDirectory() as place:
      _show(_written(ImportedSource(given, pathlib.Path(place), asked), values.write_recipe))
    return
  made: list[ImportedSource] = []
  folder = _folder(values, name)

  def source() -> ImportedSource:
    made.append(_written(ImportedSource(given, folder, asked), values.write_recipe))
    return made[0]

  build(source, _request(values, name, given, asked))
  for one in made:
    print(*account_summary.summary(one.told_account), sep="\n")
    one.discard()


def _asked(values: flags.FlagValues) -> Asked:
  if values["date_shift"].present and values.anonymise is None:
    raise flags.Error("--date_shift needs --anonymise")
  return Asked(
    recipe=Recipe.load(values.recipe) if values.recipe else None,
    minutes_per_step=values.minutes_per_step,
    max_missing=values.max_missing,
    timezone=values.timezone,
    people=People.load(values.participants) if values.participants else People({}, {}),
    events=load_events(values.events) if values.events else (),
    anonymity=Anonymity.load(values.anonymise, values.date_shift) if values.anonymise else None,
  )


def _folder(values: flags.FlagValues, source: str) -> pathlib.Path:
  """Where readings wait, for as long as it is the same input that is built under the same name."""
  place = f"{source} {pathlib.Path(values.input).resolve()} {values.per_person}"
  mark = hashlib.blake2b(place.encode(), digest_size=6).hexdigest()
  return pathlib.Path(values.data_dir).expanduser() / ".importing" / f"{values.name}-{mark}"


def _request(values: flags.FlagValues, source: str, given: Input, asked: Asked) -> dict[str, Any]:
  """Identifies the days by what they are made of; nothing personal if they are to be anonymous."""
  secret = asked.anonymity
  told = {
    "files": sorted(given.digests.items()),
    "participants": _content(values.participants),
    "events": _content(values.events),
  }
  digests = {key: _digest(repr(content), secret) for key, content in told.items() if content}
  return {
    "source": source,
    **({} if secret else {"input": given.exports[0].path.name if len(given.exports) == 1 else ""}),
    "exports": len(given.exports),
    **digests,
    "timezone": asked.timezone,
    "recipe": asked.recipe.to_yaml() if asked.recipe else None,
    "minutes_per_step": asked.minutes_per_step,
    "max_missing": asked.max_missing,
    "anonymised": {"date_shift": secret.weeks} if secret else None,
  }


def _content(path: str | None) -> str:
  return pathlib.Path(path).read_bytes().hex() if path else ""


def _digest(text: str, secret: Anonymity | None) -> str:
  if secret:
    return secret.digest("request", text).hex()
  return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def _written(source: ImportedSource, path: str | None) -> ImportedSource:
  if path:
    try:
      with pathlib.Path(path).open("x", encoding="utf-8") as file:
        file.write(source.recipe.to_yaml())
    except OSError as error:
      raise SchemaError(f"{path}: {(error.strerror or 'cannot be written').lower()}") from None
  return source


def _show(source: ImportedSource) -> None:
  people = source.participants
  print(f"would build {source.n_days:,} days of {len(people):,} people, every {source.schema.minutes_per_step} min")
  print(*source.ranges, *(f"note: {note}" for note in source.notes), sep="\n")
  print(*account_summary.summary(source.told_account), sep="\n")
