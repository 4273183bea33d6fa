"""Which values a channel takes, beside what the model will see of them."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float32

from data_pipelines.schema import Schema
from data_pipelines.statistics import Statistics

BINS = 400  # of z-scores within the clip, so that a quantile is told to 1/200 of it


class Ranges:
  """Counts of observed values as they go by; C channels.

  z is (value - mean) / SD, over the observed steps of the pretrain split; a model sees it clipped.

  Attributes:
    observed: [C] values.
    low, high: float32 [C], the least and the greatest; inf and -inf where none was observed.
    at_low, at_high: [C] values that are exactly these: a sensor at its stop, or a bound somebody set.
    below, above: [C] values whose z lies outside the clip.
    histogram: [C, BINS] values by z, evenly from -clip to clip; those outside are in none.
  """

  def __init__(self, schema: Schema, statistics: Statistics):
    channels = len(schema.channels)
    self.schema, self.statistics = schema, statistics
    self.low = np.full(channels, np.inf, np.float32)
    self.high = np.full(channels, -np.inf, np.float32)
    counts = lambda *shape: np.zeros(shape, np.int64)
    self.observed, self.at_low, self.at_high = counts(channels), counts(channels), counts(channels)
    self.below, self.above, self.histogram = counts(channels), counts(channels), counts(channels, BINS)

  def add(self, values: Float32[np.ndarray, "n s c"]) -> None:
    """NaN where missing."""
    for c in range(values.shape[2]):
      channel = values[:, :, c]
      seen = channel[~np.isnan(channel)]
      if seen.size:
        self._extremes(c, seen)
        self._scores(c, seen)

  def _extremes(self, c: int, seen: Float32[np.ndarray, "k"]) -> None:
    self.observed[c] += seen.size
    low, high = seen.min(), seen.max()
    if low <= self.low[c]:
      self.at_low[c] = np.count_nonzero(seen == low) + (self.at_low[c] if low == self.low[c] else 0)
      self.low[c] = low
    if high >= self.high[c]:
      self.at_high[c] = np.count_nonzero(seen == high) + (self.at_high[c] if high == self.high[c] else 0)
      self.high[c] = high

  def _scores(self, c: int, seen: Float32[np.ndarray, "k"]) -> None:
    clip = self.schema.channels[c].clip
    z = (seen - np.float32(self.statistics.mean[c])) / np.float32(self.statistics.std[c])
    below, above = z < -clip, z > clip
    self.below[c] += np.count_nonzero(below)
    self.above[c] += np.count_nonzero(above)
    place = ((z[~(below | above)] + clip) * (BINS / (2 * clip))).astype(np.int64)
    self.histogram[c] += np.bincount(np.minimum(place, BINS - 1), minlength=BINS)

  def quantile(self, c: int, share: float) -> float:
    """z below which this share of channel c's values lie; the clip where that is outside."""
    clip, wanted = self.schema.channels[c].clip, share * self.observed[c]
    upto = self.below[c] + np.cumsum(self.histogram[c])
    if not self.observed[c]:
      return float("nan")
    if wanted <= self.below[c]:
      return -clip
    if wanted > upto[-1]:
      return clip
    return -clip + (int(np.searchsorted(upto, wanted)) + 0.5) * 2 * clip / BINS

  def z(self, c: int, value: float) -> float:
    return float((value - self.statistics.mean[c]) / self.statistics.std[c])
