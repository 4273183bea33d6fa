"""Distance of data from the statistics that a model was trained with, which it normalises by."""

from __future__ import annotations

import dataclasses

import numpy as np
from jaxtyping import Float, Shaped

from data_pipelines.channels import units
from data_pipelines.channels.vocabulary import Vocabulary
from data_pipelines.errors import SchemaError
from data_pipelines.schema import Channel, Schema

MOST_SHIFT = 1.0  # SDs; farther channels are reported
SD_RATIOS = (0.5, 2.0)
MOST_IMPLAUSIBLE = 0.05  # share of values


@dataclasses.dataclass(frozen=True)
class Distance:
  """Distance of the values of a channel from a model's statistics.

  Attributes:
    name: of the channel.
    shift: mean of the data minus the model's, in the model's standard deviations.
    ratio: standard deviation of the data over the model's.
    implausible: share of the values beyond the vocabulary's plausible range.
    plausible: that range, in the channel's unit, as text; empty if there is none.
  """

  name: str
  shift: float
  ratio: float
  implausible: float = 0.0
  plausible: str = ""

  @property
  def is_far(self) -> bool:
    """True if the data are unlike those that the model was trained on, or perhaps in another unit."""
    far = abs(self.shift) > MOST_SHIFT or not SD_RATIOS[0] <= self.ratio <= SD_RATIOS[1]
    return far or self.implausible > MOST_IMPLAUSIBLE

  @property
  def text(self) -> str:
    """A line that says it."""
    line = f"{self.name}: mean {self.shift:+.1f} SDs away, SD {self.ratio:.2f} times as large"
    if self.implausible <= MOST_IMPLAUSIBLE:
      return line
    return f"{line}; {100 * self.implausible:.0f} % of values outside {self.plausible}: another unit or meaning?"


class Distances:
  """Gathers the distances of days that arrive in batches, in float64 and little memory."""

  def __init__(
    self,
    schema: Schema,
    mean: Shaped[np.ndarray, " channels"],
    std: Shaped[np.ndarray, " channels"],
    vocabulary: Vocabulary,
  ):
    """Starts with no days.

    Args:
      schema: of the days and the model.
      mean, std: the model's statistics, in the units of the schema.
      vocabulary: knows which values are plausible.
    """
    self._schema, self._mean, self._std = schema, np.asarray(mean, np.float64), np.asarray(std, np.float64)
    self._ranges = [plausible_range(channel, schema.minutes_per_step, vocabulary) for channel in schema.channels]
    size = len(schema.channels)
    self._count, self._sum, self._squares = np.zeros(size), np.zeros(size), np.zeros(size)
    self._implausible = np.zeros(size)

  def add(self, values: Float[np.ndarray, "days steps channels"]) -> None:
    """Adds days of the schema, NaN where missing."""
    observed = ~np.isnan(values)
    z = np.where(observed, (values.astype(np.float64) - self._mean) / self._std, 0)
    self._count += observed.sum((0, 1))
    self._sum += z.sum((0, 1))
    self._squares += (z**2).sum((0, 1))
    for c, (low, high) in enumerate(self._ranges):
      column = values[:, :, c]
      self._implausible[c] += ((column < low) | (column > high)).sum()

  def found(self) -> list[Distance]:
    """The distances of the continuous channels that have values."""
    distances = []
    for c, channel in enumerate(self._schema.channels):
      if channel.kind == "continuous" and self._count[c]:
        mean = self._sum[c] / self._count[c]
        spread = np.sqrt(max(self._squares[c] / self._count[c] - mean**2, 0))
        low, high = self._ranges[c]
        plausible = f"{low:g} to {high:g} {channel.unit}".rstrip()
        share = float(self._implausible[c] / self._count[c])
        distances.append(Distance(channel.name, float(mean), float(spread), share, plausible))
    return distances

  def told(self) -> list[str]:
    """A line for each channel that lies far from the model's statistics."""
    return [distance.text for distance in self.found() if distance.is_far]


def plausible_range(channel: Channel, minutes: int, vocabulary: Vocabulary) -> tuple[float, float]:
  """Lowest and highest plausible value of a channel, in its unit; infinite where the vocabulary knows none."""
  entry = vocabulary.find(channel.name)
  if entry is None:
    return -np.inf, np.inf
  bounds, unit = np.array([entry.low, entry.high]), channel.unit or entry.unit_of(channel.name)
  try:
    low, high = units.convert_amounts(bounds, entry.unit, unit, minutes, channel.name)
    return float(low), float(high)
  except SchemaError:
    return -np.inf, np.inf
