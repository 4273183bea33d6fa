"""The range of the observed values of each channel, and how many of them a model sees clipped."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float32

from data_pipelines.schema import Schema
from data_pipelines.statistics import Statistics

BINS = 400  # of z-scores within the clip, so that quantiles are exact to 1/200 of it


class ValueRanges:
  """Counts of observed values, to which batches of days are added.

  A z-score is (value - mean) / SD, with the statistics of the observed values of the pretrain split; a model sees it
  clipped.

  Attributes:
    schema: clock and channels.
    statistics: mean and SD of each channel.
    observed: [channels], number of observed values.
    low, high: float32 [channels], the smallest and the largest value; inf and -inf where none is observed.
    at_low, at_high: [channels], number of values that are exactly the smallest or the largest. Many of them point to a
      sensor at its limit, or to a bound set by hand.
    below, above: [channels], number of values whose z-score lies below or above the clip.
    histogram: [channels, BINS], number of the other values by z-score, in equal bins from -clip to clip.
  """

  def __init__(self, schema: Schema, statistics: Statistics):
    channels = len(schema.channels)
    self.schema, self.statistics = schema, statistics
    self.low = np.full(channels, np.inf, np.float32)
    self.high = np.full(channels, -np.inf, np.float32)
    zeros = lambda *shape: np.zeros(shape, np.int64)
    self.observed, self.at_low, self.at_high = zeros(channels), zeros(channels), zeros(channels)
    self.below, self.above, self.histogram = zeros(channels), zeros(channels), zeros(channels, BINS)

  def add(self, values: Float32[np.ndarray, "days steps channels"]) -> None:
    """Adds a batch of days, NaN where missing."""
    for c in range(values.shape[2]):
      channel = values[:, :, c]
      observed = channel[~np.isnan(channel)]
      if observed.size:
        self._add_extremes(c, observed)
        self._add_scores(c, observed)

  def _add_extremes(self, c: int, observed: Float32[np.ndarray, " values"]) -> None:
    self.observed[c] += observed.size
    low, high = observed.min(), observed.max()
    if low <= self.low[c]:
      self.at_low[c] = np.count_nonzero(observed == low) + (self.at_low[c] if low == self.low[c] else 0)
      self.low[c] = low
    if high >= self.high[c]:
      self.at_high[c] = np.count_nonzero(observed == high) + (self.at_high[c] if high == self.high[c] else 0)
      self.high[c] = high

  def _add_scores(self, c: int, observed: Float32[np.ndarray, " values"]) -> None:
    clip = self.schema.channels[c].clip
    z = (observed - np.float32(self.statistics.mean[c])) / np.float32(self.statistics.std[c])
    below, above = z < -clip, z > clip
    self.below[c] += np.count_nonzero(below)
    self.above[c] += np.count_nonzero(above)
    bins = ((z[~(below | above)] + clip) * (BINS / (2 * clip))).astype(np.int64)
    self.histogram[c] += np.bincount(np.minimum(bins, BINS - 1), minlength=BINS)

  def quantile(self, c: int, share: float) -> float:
    """The z-score below which this share of channel c's values lies, at most the clip; NaN if none is observed."""
    clip, rank = self.schema.channels[c].clip, share * self.observed[c]
    cumulative = self.below[c] + np.cumsum(self.histogram[c])
    if not self.observed[c]:
      return float("nan")
    if rank <= self.below[c]:
      return -clip
    if rank > cumulative[-1]:
      return clip
    return -clip + (int(np.searchsorted(cumulative, rank)) + 0.5) * 2 * clip / BINS

  def z(self, c: int, value: float) -> float:
    """The z-score of a value of channel c."""
    return float((value - self.statistics.mean[c]) / self.statistics.std[c])
