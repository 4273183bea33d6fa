"""Values that stand for "missing" in the files of others, such as -999 in heart_rate, and absurd ones, such as 1e38.

They are reported rather than refused or removed, because the same value may be a measurement (a charge of -1, a score
of 99), and only the owner of the data knows. Channels with words for their values (binary) are left out. Labels, of
which each person has one, are looked at too.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float32, Float64, Int64

from data_pipelines.channels import vocabulary
from data_pipelines.channels.distance import plausible_range
from data_pipelines.schema import Schema
from data_pipelines.text_files import counted, percentage

MIN_SHARE = 0.001  # of a channel's values
MIN_COUNT = 10
ABSURD_WIDTHS = 10  # as far outside of a channel's plausible range as so many times its width
ABSURD_FACTOR = 1e4  # or so many times larger than 90 % of the channel's values other than 0
MIN_PEOPLE = 2  # with the same label; one is enough for -9, 99, -999 and the like
_NINES = {sign * nines for sign in (1, -1) for nines in (9, 99, 999, 9999, 99999)}
_USUAL_SHARE = 0.9
_BATCH_DAYS = 64


def code_notes(schema: Schema, values: Float32[np.ndarray, "days steps channels"]) -> list[str]:
  """The notes on days that are in memory; see MissingCodes.notes."""
  codes = MissingCodes(schema)
  for start in range(0, len(values), _BATCH_DAYS):
    batch = values[start : start + _BATCH_DAYS]
    codes.add(batch, [f"row {start + n}" for n in range(len(batch))])
  return codes.notes()


def label_note(name: str, values: Sequence[float]) -> str:
  """The note on a label of which some people's values look like a code, as in `MissingCodes.notes`; "" if none do."""
  numbers = sorted(value for value in values if np.isfinite(value))
  distinct = sorted(set(numbers))
  if len(distinct) < 3:
    return ""
  found = []
  for value, second, other in ((distinct[0], distinct[1], distinct[-1]), (distinct[-1], distinct[-2], distinct[0])):
    count = numbers.count(value)
    if count >= (1 if value in _NINES else MIN_PEOPLE) and _stands_alone(value, second, other):
      found.append(_code_text(value, count, count / len(numbers), second))
  return f"label {name!r}: {'; '.join(found)}" if found else ""


def _stands_alone(value: float, second: float, other: float) -> bool:
  """True if an extreme value looks like a code.

  Args:
    value: the lowest or the highest value.
    second: the next one.
    other: the extreme on the other side.
  """
  rest = abs(other - second)
  return bool(value and rest > 0 and (value < 0 <= second or abs(second - value) > rest))


def _code_text(value: float, count: int, share: float, second: float) -> str:
  return (
    f"{counted(count, 'value')} of {value:g} ({percentage(100 * share)} of its values, the next is {second:g}) look "
    "like a code for missing values and count as measurements; if they are one, write NaN instead"
  )


@dataclasses.dataclass
class _Extreme:
  """The most extreme value of each channel, how often it occurs, where first, and the next one.

  `sign` is 1 for low, -1 for high.
  """

  sign: int
  value: Float64[np.ndarray, " channels"]
  count: Int64[np.ndarray, " channels"]
  second: Float64[np.ndarray, " channels"]
  first: list[str]  # the day, for each channel

  @classmethod
  def of_values(cls, values: Float32[np.ndarray, "days steps channels"], sign: int, days: Sequence[str]) -> _Extreme:
    """The extremes of a batch of days, which `days` names; infinite where a channel has no such value."""
    ordered = np.where(np.isnan(values), np.inf, sign * values)
    value = ordered.min(axis=(0, 1))
    at = (ordered == value) & np.isfinite(value)
    second = np.where(at, np.inf, ordered).min(axis=(0, 1))
    first = [days[d] if days else "" for d in at.any(axis=1).argmax(axis=0)]
    return cls(sign, value.astype(np.float64), at.sum(axis=(0, 1)), second.astype(np.float64), first)

  def merge(self, other: _Extreme) -> None:
    """Adds the days of another one."""
    value = np.minimum(self.value, other.value)
    beyond = [np.where(part.value > value, part.value, part.second) for part in (self, other)]
    self.count = sum(np.where(part.value == value, part.count, 0) for part in (self, other))  # type: ignore[assignment]
    kept = zip(self.value == value, self.first, other.first, strict=True)
    self.first = [ours if keep else theirs for keep, ours, theirs in kept]
    self.value, self.second = value, np.minimum(*beyond)


class MissingCodes:
  """Looks for them in the values of all days, in batches; those of several shards are merged."""

  def __init__(self, schema: Schema):
    """Starts without any day."""
    self._schema = schema
    n = len(schema.channels)
    nothing = lambda sign: _Extreme(sign, np.full(n, np.inf), np.zeros(n, np.int64), np.full(n, np.inf), [""] * n)
    self._low, self._high = nothing(1), nothing(-1)
    self._count = np.zeros(n, np.int64)
    self._zeros = np.zeros(n, np.int64)
    self._exponents = np.zeros((n, 256), np.int64)  # how often each binary exponent occurs, in every 7th step

  def add(self, values: Float32[np.ndarray, "days steps channels"], days: Sequence[str] = ()) -> None:
    """Adds a batch of days, in physical units, NaN where missing; `days` names them."""
    some = np.ascontiguousarray(values[:, ::7], np.float32).view(np.uint32)
    keys = (some >> 23 & 0xFF) + 256 * np.arange(some.shape[-1], dtype=np.uint32)
    self._exponents += np.bincount(keys.ravel(), minlength=self._exponents.size).reshape(self._exponents.shape)
    self._count += (~np.isnan(values)).sum(axis=(0, 1))
    self._zeros += (values == 0).sum(axis=(0, 1))
    for side in (self._low, self._high):
      side.merge(_Extreme.of_values(values, side.sign, days))

  def merge(self, other: MissingCodes) -> None:
    """Adds the days of another one."""
    self._count += other._count
    self._zeros += other._zeros
    self._exponents += other._exponents
    self._low.merge(other._low)
    self._high.merge(other._high)

  def notes(self) -> list[str]:
    """One line per channel and value that looks like a code or is absurd.

    A code occurs MIN_COUNT times and makes up MIN_SHARE of the channel, and it is either the only negative value there
    or farther from all other values than these are from one another. Zeros are what a sensor reports at rest; they
    are reported where the channel's plausible range excludes them. Absurd values are beyond ABSURD_WIDTHS or
    ABSURD_FACTOR.
    """
    lines = []
    for c, channel in enumerate(self._schema.channels):
      for side, other in ((self._low, self._high), (self._high, self._low)):
        if channel.kind != "binary" and side.count[c] and (text := self._code(c, side, other) or self._absurd(c, side)):
          lines.append(f"channel {channel.name!r}: {text}")
      if channel.kind != "binary" and (text := self._zeros_text(c)):
        lines.append(f"channel {channel.name!r}: {text}")
    return lines

  def _code(self, c: int, side: _Extreme, other: _Extreme) -> str:
    """A note on the extreme value if it looks like a code; "" otherwise."""
    value, count, second = side.sign * side.value[c], int(side.count[c]), side.sign * side.second[c]
    if count < max(MIN_COUNT, MIN_SHARE * self._count[c]):
      return ""
    if not _stands_alone(value, second, other.sign * other.value[c]):
      return ""
    return _code_text(value, count, count / self._count[c], second)

  def _zeros_text(self, c: int) -> str:
    """A note on zeros in a channel that cannot be 0, such as a heart rate; importers take them for missing."""
    channel, count = self._schema.channels[c], int(self._zeros[c])
    low, high = plausible_range(channel, self._schema.minutes_per_step, vocabulary.load())
    if not count or low <= 0 <= high:
      return ""
    return (
      f"{counted(count, 'value')} of 0 ({percentage(100 * count / self._count[c])} of its values), where {low:g} to "
      f"{high:g} {channel.unit}".rstrip()
      + " is usual, look like a code for missing values and count as measurements; if they are one, write NaN instead"
    )

  def _absurd(self, c: int, side: _Extreme) -> str:
    """A note on the extreme value if it is absurdly far from what the channel measures, or from the rest."""
    value, second, channel = side.sign * side.value[c], side.sign * side.second[c], self._schema.channels[c]
    low, high = plausible_range(channel, self._schema.minutes_per_step, vocabulary.load())
    margin = ABSURD_WIDTHS * (high - low)
    usual = self._usual(c)
    if not low - margin <= value <= high + margin:
      far = f"from {low:g} to {high:g} {channel.unit}".rstrip()
    elif usual and abs(value) > ABSURD_FACTOR * usual:
      far = f"from the rest, most of which is within {usual:g}"
    else:
      return ""
    where = "; ".join(
      [f"first: {side.first[c]}"] * bool(side.first[c]) + [f"next: {second:g}"] * bool(np.isfinite(second))
    )
    return (
      f"{counted(int(side.count[c]), 'value')} of {value:g}{f' ({where})' * bool(where)} far {far}, taken as measured; "
      "if this is wrong, write NaN instead"
    )

  def _usual(self, c: int) -> float:
    """A bound of the magnitudes of most of a channel's values other than 0, in steps of a factor of 2; 0 if unknown."""
    counts = self._exponents[c, 1:255].cumsum()
    return float(2.0 ** (np.searchsorted(counts, _USUAL_SHARE * counts[-1]) + 1 - 126)) if counts[-1] else 0.0
