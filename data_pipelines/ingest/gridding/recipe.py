"""How readings become day windows: the YAML file of an import, which people edit."""

from __future__ import annotations

import dataclasses
import difflib
import math
import os
import pathlib
import types
import typing
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Literal

import yaml

from data_pipelines.errors import SchemaError
from data_pipelines.ingest.reading.readings import Signal
from data_pipelines.schema import Channel, Schema

RULES = ("auto", "heart", "zeros", "choi", "flag", "off")


@dataclasses.dataclass(frozen=True)
class Worn:
  """How to tell when the device was worn, where it does not say so itself; see data_pipelines.worn.

  Attributes:
    rule: "heart": while `heart` has a reading within `within` minutes; "zeros": but for long runs without `counts`
      (Troiano et al. 2008), "choi": the same by Choi et al. 2011; "flag": where the signal `flag` is 1; "auto": by
      what there is of `heart` and, on days without, of `counts`, and else as "off": nothing is concluded.
    heart, counts, flag: names of signals. Steps make poor counts: nobody takes any asleep.
    within: minutes from a reading of `heart`, before or after.
    run: minutes without a count; 0 means the rule's own, 60 for "zeros" and 90 for "choi".
  """

  rule: Literal["auto", "heart", "zeros", "choi", "flag", "off"] = "auto"
  heart: str = "heart_rate"
  counts: str = "activity_counts"
  flag: str = ""
  within: int = 10
  run: int = 0


@dataclasses.dataclass(frozen=True)
class Recipe:
  """The clock, signals and thresholds of a dataset made from readings.

  Attributes:
    minutes_per_step: a divisor of 1440.
    signals: the channels, in order, each with its rule (see Signal).
    max_missing: days that miss a greater share of the values of the channels they have are left out, and counted.
    longest_sum: minutes that one reading of a count may span; a longer one tells too little of a step.
    worn: when the device was worn.
  """

  signals: tuple[Signal, ...]
  minutes_per_step: int = 1
  max_missing: float = 0.8
  longest_sum: int = 60
  worn: Worn = Worn()

  def __post_init__(self) -> None:
    _check(self)

  @property
  def schema(self) -> Schema:
    """The day windows' schema."""
    fields = [field.name for field in dataclasses.fields(Channel)]
    channels = tuple(Channel(**{name: getattr(signal, name) for name in fields}) for signal in self.signals)
    return Schema(self.minutes_per_step, channels)

  @property
  def causes(self) -> bool:
    """Whether days tell why values are missing: all of them or, where nothing can be concluded, none."""
    tells = {"off": False, "auto": any(self.index(n) is not None for n in (self.worn.heart, self.worn.counts))}
    return tells.get(self.worn.rule, True) and any(signal.rule == "sum" for signal in self.signals)

  def index(self, name: str) -> int | None:
    """Position of a signal; None if the recipe leaves it out."""
    names = [signal.name for signal in self.signals]
    return names.index(name) if name in names else None

  @classmethod
  def of(cls, signals: Sequence[Signal], found: Collection[str], minutes_per_step: int = 1) -> Recipe:
    """The default for an export that holds the signals named in `found`, out of an importer's."""
    return cls(tuple(signal for signal in signals if signal.name in found), minutes_per_step)

  @classmethod
  def load(cls, path: str | os.PathLike, signals: Sequence[Signal] = ()) -> Recipe:
    """Reads a recipe; SchemaError names file and key. `signals`: what the importer knows; others are refused."""
    try:
      text = pathlib.Path(path).read_text(encoding="utf-8")
    except UnicodeDecodeError:
      raise SchemaError(f"{path}: not UTF-8 text") from None
    except OSError as error:
      raise SchemaError(f"{path}: {(error.strerror or 'cannot be read').lower()}") from None
    return cls.from_yaml(text, str(path), signals)

  @classmethod
  def from_yaml(cls, text: str, where: str = "recipe", signals: Sequence[Signal] = ()) -> Recipe:
    """As load, from the text of a file."""
    raw = _parsed(text, where)
    entries = raw.get("signals")
    if not isinstance(entries, list) or not entries:
      raise SchemaError(f"{where}: key 'signals' is missing or empty, expected a list of signals")
    built = {**raw, "signals": tuple(_built(Signal, e, where, f"signals[{n}].") for n, e in enumerate(entries))}
    if "worn" in raw:
      built["worn"] = _built(Worn, raw["worn"], where, "worn.")
    recipe = _built(cls, built, where, "")
    known = {signal.name for signal in signals}
    for n, signal in enumerate(recipe.signals):
      if known and signal.name not in known:
        raise SchemaError(f"{where}: key 'signals[{n}].name' is {signal.name!r}: {_nearest(signal.name, known)}")
    return recipe

  def to_yaml(self) -> str:
    """The recipe with a word on every key, as from_yaml reads it."""
    lines = [_HEAD]
    for name in ("minutes_per_step", "max_missing", "longest_sum"):
      lines += [f"# {_COMMENTS[name]}", f"{name}: {_scalar(getattr(self, name))}", ""]
    lines += [f"# {line}" for line in _WORN] + ["worn:", *_lines(self.worn, Worn(), ("rule",), "  "), ""]
    lines += [f"# {line}" for line in _SIGNALS] + ["signals:"]
    for signal in self.signals:
      entry = _lines(signal, Signal(signal.name), ("name", "unit", "rule"), "    ")
      lines += ["  - " + entry[0].lstrip(), *entry[1:]]
    return "\n".join(lines) + "\n"


_HEAD = """\
# How readings become day windows. Edit it and give it back by --recipe=FILE; nothing else has to be told.
# Delete a signal and the dataset does without it; change its unit and values are converted, where that is known.
"""
_COMMENTS = {
  "minutes_per_step": "Minutes of a step; 5 or 15 for a source that reports so seldom: nothing is filled in.",
  "max_missing": "Days are left out, and counted, that miss a greater share than this of the channels they have.",
  "longest_sum": "Minutes that one reading of a count may span; longer ones are dropped, and counted.",
}
_WORN = (
  "When the device was worn, for signals of which nothing is written while there is nothing to count (quiet: true),",
  "or zeros are written all the time. rule: heart (a reading of `heart` within `within` minutes), zeros (no run of",
  "`run` minutes, 60 if not given, without `counts`; Troiano et al. 2008), choi (90; Choi et al. 2011), flag (the",
  "signal `flag` is 1), auto (by heart; on days without, by zeros), off (no zeros are added, none taken away).",
)
_SIGNALS = (
  "The channels, in order. Of several readings in a step, rule: mean, sum (a count; one that spans steps is shared",
  "out) or last. holds: true for a state that lasts from start to end. low, high: what lies outside is dropped.",
  "zero_is_missing: 0 means not measured. quiet: no reading means 0 while worn. kind: continuous or binary.",
  "clip: bound on a z-score, in standard deviations. sensor: channels of a sensor fail together.",
)


def _lines(entry: Any, default: Any, always: Sequence[str], indent: str) -> list[str]:
  """YAML of a dataclass's fields, those that are not as by default."""
  fields = {field.name: getattr(entry, field.name) for field in dataclasses.fields(entry)}
  shown = [*always, *(name for name in fields if name not in always and fields[name] != getattr(default, name))]
  return [f"{indent}{name}: {_scalar(fields[name])}" for name in shown]


def _scalar(value: Any) -> str:
  return yaml.safe_dump(value, allow_unicode=True, width=math.inf).splitlines()[0]


class _Loader(yaml.SafeLoader):
  """YAML's safe loader, but a key given twice is an error instead of the first being forgotten, and so is an alias."""

  def construct_mapping(self, node: Any, deep: bool = False) -> dict:
    keys = [key.value for key, _ in node.value]
    for key in keys:
      if keys.count(key) > 1:
        raise yaml.constructor.ConstructorError(None, None, f"key {key!r} appears more than once", node.start_mark)
    return super().construct_mapping(node, deep)

  def compose_node(self, parent: Any, index: Any) -> Any:
    if self.check_event(yaml.AliasEvent):
      raise yaml.composer.ComposerError(None, None, "an alias, which recipes do without", self.peek_event().start_mark)
    return super().compose_node(parent, index)


def _parsed(text: str, where: str) -> dict[str, Any]:
  try:
    raw = yaml.load(text, Loader=_Loader)  # a SafeLoader: builds nothing but plain values
  except (yaml.YAMLError, RecursionError, ValueError) as error:
    mark = getattr(error, "problem_mark", None)
    line = f" line {mark.line + 1}" if mark else ""
    raise SchemaError(f"{where}:{line} not YAML: {getattr(error, 'problem', None) or type(error).__name__}") from None
  if not isinstance(raw, dict):
    raise SchemaError(f"{where}: expected keys such as 'signals', found {type(raw).__name__}")
  return raw


def _built(kind: type, raw: Any, where: str, prefix: str) -> Any:
  """A dataclass from a mapping of YAML, every key and type checked."""
  if not isinstance(raw, Mapping):
    raise SchemaError(f"{where}: key {prefix.rstrip('.')!r} is {raw!r}, expected keys and values")
  hints = typing.get_type_hints(kind)
  names = [field.name for field in dataclasses.fields(kind)]
  for key in raw:
    if key not in names:
      raise SchemaError(f"{where}: key '{prefix}{key}' is unknown: {_nearest(str(key), names)}")
  if "name" in names and "name" not in raw:
    raise SchemaError(f"{where}: key '{prefix}name' is missing")
  values = {key: _typed(value, hints[key], where, prefix + key) for key, value in raw.items()}
  try:
    return kind(**values)
  except SchemaError as error:
    place = f"key {prefix.rstrip('.')!r}: " if prefix else ""
    raise SchemaError(f"{where}: {place}{str(error).removeprefix('recipe: ')}") from None


def _typed(value: Any, hint: Any, where: str, key: str) -> Any:
  """A value as its annotation wants it; 1 may stand for 1.0, but "yes" not for true."""
  if typing.get_origin(hint) is Literal:
    if value not in typing.get_args(hint):
      raise SchemaError(f"{where}: key {key!r} is {value!r}, expected {', '.join(typing.get_args(hint))}")
    return value
  if typing.get_origin(hint) is tuple or dataclasses.is_dataclass(hint):
    return value  # built already
  if hint is float and type(value) is int:
    return float(value)
  if type(value) is not hint:
    names = types.MappingProxyType({int: "a whole number", float: "a number", bool: "true or false", str: "a text"})
    raise SchemaError(f"{where}: key {key!r} is {value!r}, expected {names[hint]}")
  return value


def _nearest(name: str, known: Collection[str]) -> str:
  near = difflib.get_close_matches(name, list(known), 1, 0.5)
  return f"nearest is {near[0]!r}" if near else f"known are {', '.join(sorted(known))}"


def _check(recipe: Recipe) -> None:
  """SchemaError naming the key whose value makes no sense."""
  where = "recipe"
  try:
    _ = recipe.schema
  except SchemaError as error:
    raise SchemaError(f"{where}: {str(error).removeprefix('schema: ')}") from None
  if not 0 <= recipe.max_missing <= 1:
    raise SchemaError(f"{where}: key 'max_missing' is {recipe.max_missing}, expected 0 to 1")
  if not 1 <= recipe.longest_sum <= 1440:
    raise SchemaError(f"{where}: key 'longest_sum' is {recipe.longest_sum}, expected 1 to 1440 minutes")
  for name in ("within", "run"):
    if getattr(recipe.worn, name) < 0:
      raise SchemaError(f"{where}: key 'worn.{name}' is {getattr(recipe.worn, name)}, expected 0 minutes or more")
  for n, signal in enumerate(recipe.signals):
    if not signal.low <= signal.high:
      raise SchemaError(f"{where}: key 'signals[{n}].low' is {signal.low:g}, above 'high', {signal.high:g}")
    if signal.holds and signal.rule == "sum":
      raise SchemaError(f"{where}: key 'signals[{n}].holds' is true, expected false with rule 'sum'")
  key = {"heart": "heart", "zeros": "counts", "choi": "counts", "flag": "flag"}.get(recipe.worn.rule)
  if key and recipe.index(getattr(recipe.worn, key)) is None:
    names = [signal.name for signal in recipe.signals]
    found = getattr(recipe.worn, key)
    raise SchemaError(f"{where}: key 'worn.{key}' is {found!r}, no signal of the recipe: {_nearest(found, names)}")
