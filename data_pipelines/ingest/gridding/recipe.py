"""The recipe: a YAML file, which people edit, that says how readings become day windows."""

from __future__ import annotations

import dataclasses
import math
import os
import types
import typing
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Literal

import yaml

from data_pipelines.channels.strict_yaml import nearest, parse_yaml
from data_pipelines.errors import SchemaError
from data_pipelines.ingest.reading.signals import Signal
from data_pipelines.schema import Channel, Schema
from data_pipelines.source import MAX_MISSING
from data_pipelines.text_files import read_text

MOST_RECIPE = 2**20  # bytes; YAML takes a second for each


@dataclasses.dataclass(frozen=True)
class WearRule:
  """Rule that infers when the device was worn, where it does not say so itself (see gridding.wear_time).

  Attributes:
    rule: "heart": worn while `heart` has a reading within `within` minutes. "zeros": worn except in long runs without
      `counts` (Troiano et al. 2008). "choi": the same by Choi et al. (2011). "flag": worn where the signal `flag` is 1.
      "auto": by `heart` where the recipe has it and by `counts` on days without; with neither, as "off". "off": nothing
      is inferred.
    heart, counts, flag: names of signals. Steps are unsuitable as counts, because nobody takes any while asleep.
    within: minutes before or after a reading of `heart`.
    run: minutes without a count; 0 uses the rule's own length, 60 for "zeros" and 90 for "choi".
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
    signals: the channels, in order, each with its rule (see reading.signals.Signal).
    minutes_per_step: a divisor of 1440.
    max_missing: days on which a greater share of values is missing, over the channels that the day has, are left out
      and counted.
    longest_sum: minutes that a single reading of a count may span. Longer readings say too little about a step.
    worn: how to infer when the device was worn.
    entered_by_hand: whether readings count that a person has typed in, where the export tells them apart.

  Raises:
    SchemaError: a value makes no sense; the message names the key.
  """

  signals: tuple[Signal, ...]
  minutes_per_step: int = 1
  max_missing: float = MAX_MISSING
  longest_sum: int = 60
  worn: WearRule = WearRule()
  entered_by_hand: bool = False

  def __post_init__(self) -> None:
    _check(self)

  @property
  def schema(self) -> Schema:
    """The schema of the day windows."""
    fields = [field.name for field in dataclasses.fields(Channel)]
    channels = tuple(Channel(**{name: getattr(signal, name) for name in fields}) for signal in self.signals)
    return Schema(self.minutes_per_step, channels)

  @property
  def causes(self) -> bool:
    """True if days say why values are missing. Either all days of a dataset do, or none."""
    has_signal = any(self.index(name) is not None for name in (self.worn.heart, self.worn.counts))
    inferred = {"off": False, "auto": has_signal}.get(self.worn.rule, True)
    return inferred and any(signal.rule == "sum" for signal in self.signals)

  def place_of(self, signal: str, device: str) -> int | None:
    """The position of the channel that readings of a signal by a device belong to; None if there is none."""
    return next((n for n, s in enumerate(self.signals) if s.source == signal and s.is_by(device)), None)

  def index(self, name: str) -> int | None:
    """Position of a signal; None if the recipe does not have it."""
    names = [signal.name for signal in self.signals]
    return names.index(name) if name in names else None

  @classmethod
  def default(cls, signals: Sequence[Signal], present: Collection[str], minutes_per_step: int = 1) -> Recipe:
    """The default recipe of an export: those of the importer's `signals` whose names are in `present`."""
    return cls(tuple(signal for signal in signals if signal.name in present), minutes_per_step)

  @classmethod
  def load(cls, path: str | os.PathLike, signals: Sequence[Signal] = ()) -> Recipe:
    """Reads a recipe from a YAML file.

    Args:
      path: the file.
      signals: the signals that may occur; empty allows any.

    Raises:
      SchemaError: the file is not a recipe; the message names the file and the key.
    """
    return cls.from_yaml(read_text(path, MOST_RECIPE), str(path), signals)

  @classmethod
  def from_yaml(cls, text: str, where: str = "recipe", signals: Sequence[Signal] = ()) -> Recipe:
    """Reads a recipe from YAML text. `where` names it in messages, and `signals` is as in `load`.

    Raises:
      SchemaError: the text is not a recipe; the message names `where` and the key.
    """
    raw = parse_yaml(text, where, "signals")
    entries = raw.get("signals")
    if not isinstance(entries, list) or not entries:
      raise SchemaError(f"{where}: key 'signals' is missing or empty, expected a list of signals")
    fields = {**raw, "signals": tuple(_build(Signal, e, where, f"signals[{n}].") for n, e in enumerate(entries))}
    if "worn" in raw:
      fields["worn"] = _build(WearRule, raw["worn"], where, "worn.")
    recipe = _build(cls, fields, where, "")
    known = {signal.name for signal in signals}
    for n, signal in enumerate(recipe.signals):
      if known and signal.source not in {"", *known}:
        key = "of" if signal.of else "name"
        raise SchemaError(
          f"{where}: key 'signals[{n}].{key}' is {signal.source!r}, expected a known signal; "
          f"{nearest(signal.source, known)}"
        )
    return recipe

  def to_yaml(self, comments: bool = True) -> str:
    """The recipe as YAML that from_yaml reads, with or without comments that explain every key."""
    lines = [_HEAD]
    for name in ("minutes_per_step", "max_missing", "longest_sum", "entered_by_hand"):
      lines += [f"# {_COMMENTS[name]}", f"{name}: {_scalar(getattr(self, name))}", ""]
    lines += [f"# {line}" for line in _WORN] + ["worn:", *_lines(self.worn, WearRule(), ("rule",), "  "), ""]
    lines += [f"# {line}" for line in _SIGNALS] + ["signals:"]
    for signal in self.signals:
      entry = _lines(signal, Signal(signal.name), ("name", "unit", "rule"), "    ")
      lines += ["  - " + entry[0].lstrip(), *entry[1:]]
    if not comments:
      lines = [line for line in lines if line and not line.startswith("#")]
    return "\n".join(lines) + "\n"


_HEAD = """\
# How readings become day windows. Edit this file and pass it with --recipe=FILE.
# Delete a signal to leave it out. Change its unit to convert its values, if the conversion is known.
"""
_COMMENTS = {
  "minutes_per_step": "Minutes per step. Use 5 or 15 for a source that reports so rarely: gaps are not filled in.",
  "max_missing": "Days on which a greater share of values is missing, over the channels they have, are left out.",
  "entered_by_hand": "Whether readings count that a person has typed in, where the export tells them apart.",
  "longest_sum": "Minutes that a single reading of a count may span. Longer ones are dropped and counted.",
}
_WORN = (
  "When the device was worn. This decides where signals with quiet: true are 0 rather than missing, and which zeros",
  "of other counts are removed. rule: heart (a reading of `heart` within `within` minutes), zeros (no run of `run`",
  "minutes, 60 by default, without `counts`; Troiano et al. 2008), choi (90 minutes; Choi et al. 2011), flag (the",
  "signal `flag` is 1), auto (by heart, or by zeros on days without it), off (no zeros are added or removed).",
)
_SIGNALS = (
  "The channels, in order. rule: how several readings in a step are combined: mean, sum (for counts; a reading that",
  "spans several steps is shared out) or last. holds: true for a state that lasts from start to end. low, high: values",
  "outside are dropped. zero_is_missing: 0 means not measured. quiet: no reading means 0 while worn. kind: continuous",
  "or binary. clip: bound on a z-score, in standard deviations. sensor: channels of the same sensor fail together.",
  "of: the signal in the export, where it has another name. devices: kinds of devices that count. present: a reading",
  "counts as 1. events: workouts that count instead of readings. zero_on_days_of: a signal; on days that have it or",
  "this one, steps without a reading are 0.",
)


def _lines(entry: Any, default: Any, always: Sequence[str], indent: str) -> list[str]:
  """YAML of a dataclass's fields: those named in `always`, and those that differ from `default`."""
  fields = {field.name: getattr(entry, field.name) for field in dataclasses.fields(entry)}
  shown = [*always, *(name for name in fields if name not in always and fields[name] != getattr(default, name))]
  return [f"{indent}{name}: {_scalar(fields[name])}" for name in shown]


def _scalar(value: Any) -> str:
  if isinstance(value, tuple):
    return yaml.safe_dump([*value], allow_unicode=True, width=math.inf, default_flow_style=True).strip()
  return yaml.safe_dump(value, allow_unicode=True, width=math.inf).splitlines()[0]


def _build(kind: type, raw: Any, where: str, prefix: str) -> Any:
  """A dataclass from a YAML mapping, with every key and type checked."""
  if not isinstance(raw, Mapping):
    raise SchemaError(f"{where}: key {prefix.rstrip('.')!r} is {raw!r}, expected keys and values")
  hints = typing.get_type_hints(kind)
  names = [field.name for field in dataclasses.fields(kind)]
  for key in raw:
    if key not in names:
      raise SchemaError(f"{where}: key '{prefix}{key}' is unknown; {nearest(str(key), names)}")
  if "name" in names and "name" not in raw:
    raise SchemaError(f"{where}: key '{prefix}name' is missing")
  values = {key: _typed(value, hints[key], where, prefix + key) for key, value in raw.items()}
  try:
    return kind(**values)
  except SchemaError as error:
    place = f"key {prefix.rstrip('.')!r}: " if prefix else ""
    raise SchemaError(f"{where}: {place}{str(error).removeprefix('recipe: ')}") from None


def _typed(value: Any, hint: Any, where: str, key: str) -> Any:
  """A value checked against its annotation. An int is accepted for a float, but "yes" is not accepted for true."""
  if typing.get_origin(hint) is Literal:
    if value not in typing.get_args(hint):
      raise SchemaError(f"{where}: key {key!r} is {value!r}, expected {', '.join(typing.get_args(hint))}")
    return value
  if hint == tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(entry, str) for entry in value):
      raise SchemaError(f"{where}: key {key!r} is {value!r}, expected a list of texts")
    return tuple(value)
  if typing.get_origin(hint) is tuple or dataclasses.is_dataclass(hint):
    return value  # already built
  if hint is float and type(value) is int:
    return float(value)
  if type(value) is not hint:
    names = types.MappingProxyType({int: "a whole number", float: "a number", bool: "true or false", str: "text"})
    raise SchemaError(f"{where}: key {key!r} is {value!r}, expected {names[hint]}")
  return value


def _check_source(recipe: Recipe, n: int, where: str) -> None:
  """Checks what a signal is made of."""
  signal, key = recipe.signals[n], f"{where}: key 'signals[{n}]"
  if signal.events and (signal.kind != "binary" or signal.of or signal.devices or signal.present):
    raise SchemaError(f"{key}.events' is given, expected kind 'binary', and neither of, devices nor present")
  names = [other.name for other in recipe.signals]
  if signal.zero_on_days_of and signal.zero_on_days_of not in names:
    day = signal.zero_on_days_of
    raise SchemaError(f"{key}.zero_on_days_of' is {day!r}, expected a signal of the recipe; {nearest(day, names)}")
  for other in recipe.signals[:n]:
    shared = {*signal.devices} & {*other.devices} if signal.devices and other.devices else True
    if signal.source and signal.source == other.source and shared:
      raise SchemaError(
        f"{key}.devices' lets {signal.name} have readings that {other.name} has, expected other kinds of devices"
      )


def _check(recipe: Recipe) -> None:
  """Raises SchemaError, naming the key, if a value makes no sense."""
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
    _check_source(recipe, n, where)
  key = {"heart": "heart", "zeros": "counts", "choi": "counts", "flag": "flag"}.get(recipe.worn.rule)
  if key and recipe.index(getattr(recipe.worn, key)) is None:
    names = [signal.name for signal in recipe.signals]
    name = getattr(recipe.worn, key)
    raise SchemaError(f"{where}: key 'worn.{key}' is {name!r}, expected a signal of the recipe; {nearest(name, names)}")
