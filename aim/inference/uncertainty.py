"""How sure a model is of what it fills in: the errors it made on people it never saw, by channel and distance.

A table has, for every channel and every distance to the nearest observed value, the absolute error that half and that
nine in ten of the errors stay within. `aim/evaluation/calibration.py` measures it.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from aim.training.checkpoint_metadata import CheckpointError
from data_pipelines.schema import Schema

MINUTES = (10, 30, 60, 180)  # upper ends of all bins but the last two: farther, and nothing observed all day
BINS = (*(f"up to {minutes} min" for minutes in MINUTES), f"above {MINUTES[-1]} min", "nothing observed that day")
LEVELS = (0.5, 0.9)


@dataclasses.dataclass(frozen=True)
class Uncertainty:
  """The table of a model.

  Attributes:
    errors: {channel: {level: one absolute error per bin, in SDs of the training data; NaN where unknown}}.
    coverage: {level: share of the hidden values of other people inside the intervals}.
    channel_coverage: the same by channel.
    people: (of the table, of the coverage).
    days: the same.
    data: names of the datasets.
  """

  errors: Mapping[str, Mapping[float, Sequence[float]]]
  coverage: Mapping[float, float]
  channel_coverage: Mapping[str, Mapping[float, float]]
  people: tuple[int, int]
  days: tuple[int, int]
  data: tuple[str, ...]

  def half_widths(
    self, schema: Schema, observed: Bool[np.ndarray, "days steps channels"], level: float
  ) -> Float[np.ndarray, "days steps channels"]:
    """Half the width of the interval of every value, in SDs of the training data.

    Args:
      schema: of the model.
      observed: which values are known to the model.
      level: one of LEVELS.

    Returns:
      Half widths, 0 where a value is observed, NaN where nothing is known, as on binary channels.
    """
    bins = distance_bins(observed, schema.minutes_per_step)
    unknown = [math.nan] * len(BINS)
    table = np.array([self.errors.get(name, {}).get(level, unknown) for name in schema.names])
    widths = table[np.arange(len(schema.names)), bins]
    return np.where(observed, 0.0, widths)

  def text(self) -> str:
    """A line on what the intervals are made from, and how often they were right."""
    shares = " and ".join(
      f"{100 * self.coverage[level]:.0f} % of the {100 * level:.0f} % intervals" for level in LEVELS
    )
    return (
      f"Intervals are the errors on {self.people[0]} people whom the model never saw ({', '.join(self.data)}), by "
      f"channel and distance to the nearest recorded value. On {self.people[1]} other people {shares} held the hidden "
      "value."
    )

  def to_dict(self) -> dict[str, Any]:
    """The table as JSON-able data; NaN becomes null."""
    known = lambda values: [None if math.isnan(value) else round(float(value), 5) for value in values]
    return {
      "bins": list(BINS),
      "errors": {
        name: {f"{level:g}": known(row) for level, row in rows.items()} for name, rows in sorted(self.errors.items())
      },
      "coverage": {f"{level:g}": known([share])[0] for level, share in self.coverage.items()},
      "channel_coverage": {
        name: {f"{level:g}": known([share])[0] for level, share in shares.items()}
        for name, shares in sorted(self.channel_coverage.items())
      },
      "people": list(self.people),
      "days": list(self.days),
      "data": list(self.data),
    }

  @classmethod
  def from_dict(cls, raw: Any, where: str) -> Uncertainty:
    """Rebuilds a table from to_dict().

    Raises:
      CheckpointError: it is malformed, or of bins of another version; `where` begins the message.
    """
    number = lambda value: math.nan if value is None else float(value)
    try:
      bins = tuple(raw["bins"])
      errors = {
        name: {float(level): [number(value) for value in row] for level, row in rows.items()}
        for name, rows in raw["errors"].items()
      }
      shares = {
        name: {float(level): number(share) for level, share in rows.items()}
        for name, rows in {"": raw["coverage"], **raw["channel_coverage"]}.items()
      }
      counts = [(int(raw[key][0]), int(raw[key][1])) for key in ("people", "days")]
      data = tuple(map(str, raw["data"]))
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
      raise CheckpointError(f"{where}: no table of errors: {type(error).__name__} {error}") from None
    rows = [row for levels in errors.values() for row in levels.values()]
    if bins != BINS or any(len(row) != len(BINS) for row in rows) or set(shares[""]) != {*LEVELS}:
      raise CheckpointError(f"{where}: has bins {', '.join(map(str, bins))}, expected {', '.join(BINS)}, at {LEVELS}")
    overall = shares.pop("")
    return cls(errors, overall, shares, counts[0], counts[1], data)


def distance_bins(observed: Bool[np.ndarray, "days steps channels"], minutes_per_step: int) -> np.ndarray:
  """The bin (index into BINS) of each value, by the minutes to the nearest observed one of its channel and day.

  Returns:
    int [days, steps, channels].
  """
  steps = observed.shape[1]
  position = np.arange(steps)[None, :, None]
  before = np.maximum.accumulate(np.where(observed, position, -(10**6)), axis=1)
  after = np.minimum.accumulate(np.where(observed, position, 10**6)[:, ::-1], axis=1)[:, ::-1]
  nearest = np.minimum(position - before, after - position) * minutes_per_step
  bins = np.searchsorted(MINUTES, nearest, side="left")
  return np.where(observed.any(axis=1, keepdims=True), bins, len(BINS) - 1)
