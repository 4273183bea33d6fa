"""Values that stand for "missing" in the files of others, such as -999 in heart_rate: found and reported, not removed.

They are reported rather than refused, because the same value may be a measurement (a charge of -1, a score of 99), and
only the owner of the data knows. Channels with words for their values (binary) are left out.
"""

from __future__ import annotations

import dataclasses

import numpy as np
from jaxtyping import Float32, Float64, Int64

from data_pipelines.schema import Schema
from data_pipelines.text_files import counted, percentage

MIN_SHARE = 0.001  # of a channel's values
MIN_COUNT = 10
_BATCH_DAYS = 64


def code_notes(schema: Schema, values: Float32[np.ndarray, "days steps channels"]) -> list[str]:
  """The notes on days that are in memory; see MissingCodes.notes."""
  codes = MissingCodes(schema)
  for start in range(0, len(values), _BATCH_DAYS):
    codes.add(values[start : start + _BATCH_DAYS])
  return codes.notes()


@dataclasses.dataclass
class _Extreme:
  """The most extreme value of each channel, how often it occurs, and the next one. `sign` is 1 for low, -1 for high."""

  sign: int
  value: Float64[np.ndarray, " channels"]
  count: Int64[np.ndarray, " channels"]
  second: Float64[np.ndarray, " channels"]

  @classmethod
  def of_values(cls, values: Float32[np.ndarray, "days steps channels"], sign: int) -> _Extreme:
    """The extremes of a batch of days; infinite where a channel has no such value."""
    ordered = np.where(np.isnan(values), np.inf, sign * values)
    value = ordered.min(axis=(0, 1))
    at = (ordered == value) & np.isfinite(value)
    second = np.where(at, np.inf, ordered).min(axis=(0, 1))
    return cls(sign, value.astype(np.float64), at.sum(axis=(0, 1)), second.astype(np.float64))

  def merge(self, other: _Extreme) -> None:
    """Adds the days of another one."""
    value = np.minimum(self.value, other.value)
    beyond = [np.where(part.value > value, part.value, part.second) for part in (self, other)]
    self.count = sum(np.where(part.value == value, part.count, 0) for part in (self, other))  # type: ignore[assignment]
    self.value, self.second = value, np.minimum(*beyond)


class MissingCodes:
  """Looks for them in the values of all days, in batches; those of several shards are merged."""

  def __init__(self, schema: Schema):
    """Starts without any day."""
    self._schema = schema
    n = len(schema.channels)
    nothing = lambda sign: _Extreme(sign, np.full(n, np.inf), np.zeros(n, np.int64), np.full(n, np.inf))
    self._low, self._high = nothing(1), nothing(-1)
    self._count = np.zeros(n, np.int64)

  def add(self, values: Float32[np.ndarray, "days steps channels"]) -> None:
    """Adds a batch of days, in physical units, NaN where missing."""
    self._count += (~np.isnan(values)).sum(axis=(0, 1))
    for side in (self._low, self._high):
      side.merge(_Extreme.of_values(values, side.sign))

  def merge(self, other: MissingCodes) -> None:
    """Adds the days of another one."""
    self._count += other._count
    self._low.merge(other._low)
    self._high.merge(other._high)

  def notes(self) -> list[str]:
    """One line per channel and value that looks like a code.

    It occurs MIN_COUNT times and makes up MIN_SHARE of the channel, and it is either the only negative value there or
    farther from all other values than these are from one another. Zeros are what a sensor reports at rest.
    """
    lines = []
    for c, channel in enumerate(self._schema.channels):
      for side, other in ((self._low, self._high), (self._high, self._low)):
        value, count, second = side.sign * side.value[c], int(side.count[c]), side.sign * side.second[c]
        rest = abs(other.sign * other.value[c] - second)
        if channel.kind == "binary" or not value or count < max(MIN_COUNT, MIN_SHARE * self._count[c]) or not rest > 0:
          continue
        if (side.sign > 0 and value < 0 <= second) or abs(second - value) > rest:
          share = percentage(100 * count / self._count[c])
          lines.append(
            f"channel {channel.name!r}: {counted(count, 'value')} of {value:g} ({share} of its values, the next "
            f"is {second:g}) look like a code for missing values and count as measurements; if they are one, "
            "write NaN instead"
          )
    return lines
