"""Number of values of each channel of an import, and their range."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Self

import numpy as np
from jaxtyping import Float64, Int64

from data_pipelines.ingest.gridding.day_store import DayStore
from data_pipelines.ingest.gridding.monthly_grid import GridDay
from data_pipelines.ingest.gridding.recipe import Recipe
from data_pipelines.text_files import percentage, plain_number


class ChannelTally:
  """Count, sum, minimum and maximum of each channel, updated as days pass through it."""

  def __init__(self, channels: int):
    """An empty tally of this many channels."""
    self._rows = np.stack(
      [np.zeros(channels), np.zeros(channels), np.full(channels, np.inf), np.full(channels, -np.inf)]
    )

  def watch(self, days: Iterator[GridDay]) -> Iterator[GridDay]:
    """Yields the days unchanged and counts their values."""
    count, total, low, high = self._rows
    for day in days:
      count += (~np.isnan(day.values)).sum(0)
      total += np.nansum(day.values, 0, np.float64)
      low[:] = np.fmin(low, np.fmin.reduce(day.values, 0))
      high[:] = np.fmax(high, np.fmax.reduce(day.values, 0))
      yield day

  @property
  def rows(self) -> list[list[float]]:
    """Count, sum, minimum and maximum, each with one number per channel."""
    return self._rows.tolist()


@dataclasses.dataclass(frozen=True)
class ChannelSummary:
  """The values in all days of an import.

  Attributes:
    count, total, low, high: [channels], number, sum, minimum and maximum of the values.
    steps: number of steps of all days.
  """

  count: Int64[np.ndarray, "channels"]
  total: Float64[np.ndarray, "channels"]
  low: Float64[np.ndarray, "channels"]
  high: Float64[np.ndarray, "channels"]
  steps: int

  @classmethod
  def from_store(cls, store: DayStore, recipe: Recipe) -> Self:
    """Adds up the tallies of all people, which `grid_spool` keeps in DayStore.summaries."""
    tallies = np.array([summary["channels"] for summary in store.summaries.values()])
    tallies = tallies.reshape(-1, 4, len(recipe.signals))
    steps = recipe.schema.steps * sum(map(store.count, store.people))
    low, high = tallies[:, 2].min(0, initial=np.inf), tallies[:, 3].max(0, initial=-np.inf)
    return cls(tallies[:, 0].sum(0).astype(np.int64), tallies[:, 1].sum(0), low, high, steps)

  def line(self, c: int, recipe: Recipe) -> str:
    """A channel's line for the screen and the data card."""
    signal = recipe.signals[c]
    name = f"- {signal.name}" + f" ({signal.unit})" * bool(signal.unit)
    if not self.count[c]:
      return f"{name}: {signal.rule}, no value"
    share = 100 * self.count[c] / self.steps
    low, high, mean = (plain_number(x, 4) for x in (self.low[c], self.high[c], self.total[c] / self.count[c]))
    values = f"{low} to {high}, mean {mean}"
    allowed = f", allowed {signal.low:g} to {signal.high:g}"
    return f"{name}: {signal.rule}, {percentage(share)} of steps, {values}{allowed}"
