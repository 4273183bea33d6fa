"""Ranges of config values, and the check of a whole config before anything is built or compiled.

A room's defaults.py has a table RANGES beside its defaults(): {"optimizer.warmup_share": number(0, 1), ...}. It has an
entry for every number, tuple and text of the defaults, which tests/common/test_config_ranges.py checks. Limits that
depend on the data, the devices or another key are checked where these are known.
"""

from __future__ import annotations

import dataclasses
import difflib
import fnmatch
import math
import re
from collections.abc import Iterator, Mapping
from typing import Any

import ml_collections

from aim.common.config_files import ConfigError, leaves


@dataclasses.dataclass(frozen=True)
class Number:
  """A finite number.

  Attributes:
    least, most: its ends.
    above: the number itself must be larger than `least`.
    below: the number itself must be smaller than `most`.
    whole: only whole numbers.
    instead: {a value outside the ends: what it stands for}.
  """

  least: float
  most: float
  above: bool = False
  below: bool = False
  whole: bool = False
  instead: Mapping[int, str] = dataclasses.field(default_factory=dict)

  def accepts(self, value: Any) -> bool:
    """True if a key may have this value."""
    if isinstance(value, bool) or not isinstance(value, int if self.whole else int | float):
      return False
    if value in self.instead:
      return True
    # Of NaN every comparison is false.
    low = value > self.least if self.above else value >= self.least
    high = value < self.most if self.below else value <= self.most
    return low and high

  def __str__(self) -> str:
    kind = "a whole number" if self.whole else "a number"
    low = f"above {self.least:,}" if self.above else f"from {self.least:,}"
    joint = "and" if self.above else "to"
    high = f"below {self.most:,}" if self.below else f"at most {self.most:,}" if self.above else f"{self.most:,}"
    others = "".join(f", or {value} ({meaning})" for value, meaning in self.instead.items())
    return f"{kind} {low} {joint} {high}{others}"


@dataclasses.dataclass(frozen=True)
class OneOf:
  """One of a few words."""

  words: tuple[str, ...]

  def accepts(self, value: Any) -> bool:
    """True if a key may have this value."""
    return value in self.words

  def __str__(self) -> str:
    return f"one of {', '.join(self.words)}"


@dataclasses.dataclass(frozen=True)
class Text:
  """Any text; it is checked where it is used."""

  def accepts(self, value: Any) -> bool:
    """True if a key may have this value."""
    return isinstance(value, str)

  def __str__(self) -> str:
    return "a text"


@dataclasses.dataclass(frozen=True)
class Spelled:
  """A text of some form.

  Attributes:
    pattern: a regular expression of the whole text.
    form: the form in words, with an example.
  """

  pattern: str
  form: str

  def accepts(self, value: Any) -> bool:
    """True if a key may have this value."""
    return isinstance(value, str) and re.fullmatch(self.pattern, value) is not None

  def __str__(self) -> str:
    return self.form


@dataclasses.dataclass(frozen=True)
class Several:
  """A tuple of any length.

  Attributes:
    of: the range of its members.
    empty: whether it may be empty.
  """

  of: Range
  empty: bool = True

  def accepts(self, value: Any) -> bool:
    """True if a key may have this value."""
    return isinstance(value, tuple | list) and (self.empty or len(value) > 0) and all(map(self.of.accepts, value))

  def __str__(self) -> str:
    return f"a tuple of any number of values, each {self.of}" if self.empty else f"one or more values, each {self.of}"


@dataclasses.dataclass(frozen=True)
class Row:
  """A tuple with a range for each member."""

  parts: tuple[Range, ...]

  def accepts(self, value: Any) -> bool:
    """True if a key may have this value."""
    if not isinstance(value, tuple | list) or len(value) != len(self.parts):
      return False
    return all(part.accepts(member) for part, member in zip(self.parts, value, strict=True))

  def __str__(self) -> str:
    return f"({'; '.join(map(str, self.parts))})"


@dataclasses.dataclass(frozen=True)
class Either:
  """One of two ranges, of values of different types.

  Attributes:
    first, second: the ranges.
  """

  first: Range
  second: Range

  def accepts(self, value: Any) -> bool:
    """True if a key may have this value."""
    return self.first.accepts(value) or self.second.accepts(value)

  def __str__(self) -> str:
    return f"{self.first}, or {self.second}"


Range = Number | OneOf | Text | Spelled | Several | Row | Either

TEXT = Text()
SEED = Number(0, 2**32 - 1, whole=True)
DECAY = Number(0, 0.999999)  # of a moving average; closer to 1 it would be 1 in float32


def number(least: float, most: float, **options: Any) -> Number:
  """A number from `least` to `most`; `options` as the attributes of Number."""
  return Number(least, most, **options)


def whole(least: int, most: int, instead: Mapping[int, str] | None = None) -> Number:
  """A whole number from `least` to `most`, or one of `instead`."""
  return Number(least, most, whole=True, instead=instead or {})


def one_of(*words: str) -> OneOf:
  """One of these words."""
  return OneOf(words)


def check(config: ml_collections.ConfigDict | Mapping[str, Any], *tables: Mapping[str, Range], where: str = "") -> None:
  """Checks every value of a config that one of the tables has a range for, and that all other numbers are finite.

  Args:
    config: a whole config, or any groups of one.
    tables: RANGES of rooms. "*" in a key stands for any name.
    where: begins the message, such as "runs/demo/config.json: ".

  Raises:
    ConfigError: a value is outside its range. The message names the key, the value and the range.
  """
  ranges = {key: allowed for table in tables for key, allowed in table.items()}
  for key, value in leaves(config):
    allowed = range_of(key, ranges)
    if allowed is None:
      if any(isinstance(part, float) and not math.isfinite(part) for part in flat(value)):
        raise ConfigError(f"{where}config.{key} is {value!r}, expected a finite number")
    elif not allowed.accepts(value):
      raise ConfigError(f"{where}config.{key} {_problem(allowed, value)}")


def range_of(key: str, ranges: Mapping[str, Range]) -> Range | None:
  """The range of a key: its own, or that of a pattern that it matches; None if there is neither."""
  if key in ranges:
    return ranges[key]
  return next(
    (allowed for pattern, allowed in ranges.items() if "*" in pattern and fnmatch.fnmatchcase(key, pattern)), None
  )


def flat(value: Any) -> Iterator[Any]:
  """Yields a value, or the members of a nested tuple."""
  if isinstance(value, tuple | list):
    for member in value:
      yield from flat(member)
  else:
    yield value


def _problem(allowed: Range, value: Any) -> str:
  """The value and what was expected; of a long tuple only the member that is wrong."""
  if isinstance(allowed, Several) and isinstance(value, tuple | list) and value:
    wrong = next(member for member in value if not allowed.of.accepts(member))
    return f"holds {wrong!r}, expected {allowed.of}{_nearest(allowed.of, wrong)}"
  return f"is {value!r}, expected {allowed}{_nearest(allowed, value)}"


def _nearest(allowed: Range, value: Any) -> str:
  if not isinstance(allowed, OneOf) or not isinstance(value, str):
    return ""
  nearest = difflib.get_close_matches(value, allowed.words, n=1)
  return f"; the nearest is {nearest[0]}" if nearest else ""
