"""The vocabulary of channels: what a channel of this name is, in which unit, and its place, which never changes.

The shipped entries are in vocabulary.yaml, beside this file. A YAML file of the same layout extends them with channels
of one's own, whose places start at 1000, and with further aliases of shipped ones.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import os
import pathlib
import re
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np

from data_pipelines.channels import units
from data_pipelines.channels.strict_yaml import nearest, parse_yaml
from data_pipelines.errors import SchemaError, UserError
from data_pipelines.schema import Channel
from data_pipelines.text_files import read_text

SHIPPED = pathlib.Path(__file__).with_name("vocabulary.yaml")
FIRST_OWN_PLACE = 1000  # of the entries that a user adds
RULES = ("mean", "sum", "max", "last")
_LARGEST_PLACE = 9999
_MOST_BYTES = 2**20


class VocabularyError(SchemaError):
  """A vocabulary, or an entry of one, is not what it has to be."""


@dataclasses.dataclass(frozen=True)
class Entry:
  """A channel that has a name of its own in every data set.

  Attributes:
    name: the common name.
    place: where the channel lies among all that have ever been in the vocabulary; it is never changed or reused.
    unit: unit of its values, from the table in units.py; empty for a code or a score.
    sensor: channels of one sensor fail together.
    kind: "continuous" or "binary".
    clip: largest absolute z-score.
    rule: how the values of shorter steps become one of a longer step: their mean, sum, maximum or last. "sum" also says
      that a value counts what happened in its step, so that it grows with the step's length.
    low, high: plausible values; others hint at another unit or another meaning.
    aliases: {other name: the unit that it stands for; empty for the entry's own}.
    meaning: a line for people.
  """

  name: str
  place: int
  unit: str = ""
  sensor: str = ""
  kind: Literal["continuous", "binary"] = "continuous"
  clip: float = 5.0
  rule: Literal["mean", "sum", "max", "last"] = "mean"
  low: float = -math.inf
  high: float = math.inf
  aliases: Mapping[str, str] = dataclasses.field(default_factory=dict)
  meaning: str = ""

  @property
  def channel(self) -> Channel:
    """The entry as a channel of a schema."""
    return Channel(self.name, self.unit, self.sensor, self.kind, self.clip)

  def unit_of(self, name: str) -> str:
    """The unit of a channel that goes by this name, if it declares none itself."""
    units_by_name = {_folded(alias): unit for alias, unit in self.aliases.items()}
    return units_by_name.get(_folded(name), "") or self.unit


@dataclasses.dataclass(frozen=True)
class Vocabulary:
  """All entries, in the order of their places; `load` reads one.

  Attributes:
    version: number of the shipped vocabulary, which grows with every entry that is added to it.
    entries: the shipped ones and, after them, a user's own.
  """

  version: int
  entries: tuple[Entry, ...]

  def find(self, name: str) -> Entry | None:
    """The entry of this name or alias; letter case, underscores, hyphens and spaces matter only between such names."""
    return self._by_exact_name.get(name) or self._by_folded_name.get(_folded(name))

  @functools.cached_property
  def _by_exact_name(self) -> dict[str, Entry]:
    return {name: entry for entry in self.entries for name in (entry.name, *entry.aliases)}

  @functools.cached_property
  def _by_folded_name(self) -> dict[str, Entry]:
    return {_folded(name): entry for entry in self.entries for name in (entry.name, *entry.aliases)}


def load(path: str | os.PathLike | None = None) -> Vocabulary:
  """The shipped vocabulary, extended by the file `path` if there is one.

  Raises:
    VocabularyError: the file is no vocabulary: unknown keys, a bad unit or value, a name, alias or place that is taken,
      or a place below 1000. The message names the file and the entry.
  """
  shipped = _shipped()
  return shipped if path is None or not os.fspath(path) else _extended(shipped, path)


@functools.cache
def _shipped() -> Vocabulary:
  return _read(SHIPPED, Vocabulary(0, ()), range(FIRST_OWN_PLACE))


def _extended(shipped: Vocabulary, path: str | os.PathLike) -> Vocabulary:
  return _read(path, shipped, range(FIRST_OWN_PLACE, _LARGEST_PLACE + 1))


def _read(path: str | os.PathLike, base: Vocabulary, places: range) -> Vocabulary:
  """The vocabulary `base` with the entries and aliases of a file."""
  raw = parse_yaml(read_text(path, _MOST_BYTES), str(path), "channels")
  is_shipped = not base.entries
  keys = ("version", "channels") if is_shipped else ("channels", "aliases")
  if unknown := [key for key in raw if key not in keys]:
    raise VocabularyError(f"{path}: key {unknown[0]!r} is unknown; {nearest(str(unknown[0]), keys)}")
  if is_shipped and type(raw.get("version")) is not int:
    raise VocabularyError(f"{path}: key 'version' is {raw.get('version')!r}, expected a whole number")
  channels = raw.get("channels") or []
  if not isinstance(channels, list):
    raise VocabularyError(f"{path}: key 'channels' is {channels!r}, expected a list of entries")
  own = [_entry(item, f"{path}: channels[{n}]", places) for n, item in enumerate(channels)]
  entries = [*_with_aliases(base.entries, raw.get("aliases") or {}, path), *own]
  _check_unique(entries, path)
  return Vocabulary(raw["version"] if is_shipped else base.version, tuple(sorted(entries, key=lambda e: e.place)))


# What an entry may say, and the types of its values.
_KEYS: dict[str, tuple[type, ...]] = {
  "name": (str,),
  "place": (int,),
  "unit": (str,),
  "sensor": (str,),
  "kind": (str,),
  "clip": (int, float),
  "rule": (str,),
  "range": (list,),
  "aliases": (list,),
  "meaning": (str,),
}
_EXPECTED = {str: "text", int: "a whole number", float: "a number", list: "a list"}


def _entry(item: Any, where: str, places: range) -> Entry:
  """An entry from its YAML, checked key by key."""
  if not isinstance(item, dict):
    raise VocabularyError(f"{where} is {item!r}, expected keys such as name and place")
  if isinstance(item.get("name"), str) and item["name"]:
    where = f"{where} ({item['name']})"
  for key, value in item.items():
    if key not in _KEYS:
      raise VocabularyError(f"{where}: key {key!r} is unknown; {nearest(str(key), _KEYS)}")
    if type(value) not in _KEYS[key]:
      raise VocabularyError(f"{where}: key {key!r} is {value!r}, expected {_EXPECTED[_KEYS[key][-1]]}")
  for key in ("name", "place"):
    if key not in item:
      raise VocabularyError(f"{where}: key {key!r} is missing")
  if item["place"] not in places:
    raise VocabularyError(f"{where}: place is {item['place']}, expected {places.start} to {places.stop - 1}")
  rule = item.get("rule", "mean")
  if rule not in RULES:
    raise VocabularyError(f"{where}: rule is {rule!r}, expected one of {', '.join(RULES)}")
  if item.get("kind") == "binary" and rule not in ("last", "max"):
    raise VocabularyError(f"{where}: rule is {rule!r}, expected last or max, which leave a binary channel binary")
  low, high = _range(item.get("range", [-math.inf, math.inf]), where)
  values = {key: value for key, value in item.items() if key not in ("range", "aliases")}
  entry = Entry(**values, low=low, high=high, aliases=_aliases(item.get("aliases", []), where))
  for unit in (entry.unit, *entry.aliases.values()):
    if not units.is_known(unit):
      raise VocabularyError(f"{where}: unit {unit!r} is unknown; {nearest(unit, units.UNITS)}")
  for alias, unit in entry.aliases.items():
    try:
      _ = unit and units.convert_amounts(np.ones(1), unit, entry.unit, 1, f"{where}: alias {alias!r}")
    except UserError as error:
      raise VocabularyError(str(error)) from None
  try:
    _ = entry.channel
  except SchemaError as error:
    raise VocabularyError(f"{where}: {str(error).removeprefix('schema: ')}") from None
  return entry


def _range(value: Any, where: str) -> tuple[float, float]:
  is_range = len(value) == 2 and all(type(bound) in (int, float) for bound in value) and value[0] < value[1]
  if not is_range:
    raise VocabularyError(f"{where}: range is {value!r}, expected [low, high]")
  return float(value[0]), float(value[1])


def _aliases(items: Any, where: str) -> dict[str, str]:
  """{alias: unit or ""} from a list of names and of {name: unit}."""
  if not isinstance(items, list):
    raise VocabularyError(f"{where}: aliases are {items!r}, expected a list")
  aliases: dict[str, str] = {}
  for item in items:
    pair = item if isinstance(item, dict) and len(item) == 1 else {item: ""} if isinstance(item, str) else {None: None}
    ((name, unit),) = pair.items()
    if not isinstance(name, str) or not name or not isinstance(unit, str):
      raise VocabularyError(f"{where}: alias {item!r}, expected a name, or a name and its unit as in {{name: unit}}")
    if name in aliases:
      raise VocabularyError(f"{where}: alias {name!r} appears more than once")
    aliases[name] = unit
  return aliases


def _with_aliases(entries: tuple[Entry, ...], extra: Any, path: str | os.PathLike) -> list[Entry]:
  """The entries with further aliases, {name of an entry: [alias, ...]}."""
  where = f"{path}: key 'aliases'"
  if not isinstance(extra, dict):
    raise VocabularyError(f"{where} is {extra!r}, expected {{name of a channel: [alias, ...]}}")
  names = [entry.name for entry in entries]
  for name in extra:
    if name not in names:
      raise VocabularyError(f"{where}: {name!r} is no channel of the vocabulary; {nearest(str(name), names)}")
  return [
    dataclasses.replace(entry, aliases={**entry.aliases, **_aliases(extra[entry.name], f"{where}: {entry.name}")})
    if entry.name in extra
    else entry
    for entry in entries
  ]


def _check_unique(entries: list[Entry], path: str | os.PathLike) -> None:
  """Refuses a name, an alias or a place that two entries have; names count as equal where `find` would confuse them."""
  by_name: dict[str, Entry] = {}
  by_place: dict[int, Entry] = {}
  for entry in entries:
    for name in (entry.name, *entry.aliases):
      other = by_name.setdefault(_folded(name), entry)
      if other is not entry:
        raise VocabularyError(f"{path}: entry {entry.name!r}: name {name!r} is already that of {other.name!r}")
    other = by_place.setdefault(entry.place, entry)
    if other is not entry:
      raise VocabularyError(f"{path}: entry {entry.name!r}: place {entry.place} is already that of {other.name!r}")


def _folded(name: str) -> str:
  """A name without what people write differently."""
  return re.sub(r"[\s_\-]+", "", name.casefold())
