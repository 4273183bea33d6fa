"""Uncertainty of what a model fills in: the errors it made on people of its data's splits tune and eval.

A table has, for every channel and every distance to the nearest observed value, the absolute error that half and that
nine in ten of the errors stay within. `aim/evaluation/calibration.py` measures it, on people who were not trained on,
or of whom that is not known, which the table then says.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any, SupportsFloat

import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float

from aim.common.config_files import ConfigError
from aim.common.seen_people import NONE, NOT_KNOWN
from aim.training.checkpoint_metadata import CheckpointError
from data_pipelines.schema import Schema

MINUTES = (10, 30, 60, 180)  # upper ends of all bins but the last two: farther, and nothing observed all day
BINS = (*(f"up to {minutes} min" for minutes in MINUTES), f"above {MINUTES[-1]} min", "nothing observed that day")
LEVELS = (0.5, 0.9)
_SEEN = {
  NONE: " whom the model never saw ({})",
  NOT_KNOWN: " ({}; whether the model was trained on them is not known)",
}


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
    seen_in_training: "none" of these people, or "not known" (aim/common/seen_people.py); "" in a table of an early
      version, which does not say.
    alone: of a model that reads a person's other days, the table of days that are given without any; this one is then
      of days that are given with some. None of other models, and in a table of an early version.
  """

  errors: Mapping[str, Mapping[float, Sequence[float]]]
  coverage: Mapping[float, float]
  channel_coverage: Mapping[str, Mapping[float, float]]
  people: tuple[int, int]
  days: tuple[int, int]
  data: tuple[str, ...]
  seen_in_training: str = ""
  alone: Uncertainty | None = None

  def half_widths(
    self,
    schema: Schema,
    observed: Bool[np.ndarray, "days steps channels"],
    level: SupportsFloat,
    beside: Bool[np.ndarray, " days"] | None = None,
  ) -> Float[np.ndarray, "days steps channels"]:
    """Half the width of the interval of every value, in SDs of the training data.

    Args:
      schema: of the model.
      observed: which values are known to the model.
      level: one of LEVELS, see `level_of`.
      beside: which days were given with another day of the person; by default none.

    Returns:
      Half widths, 0 where a value is observed, NaN where nothing is known, as on binary channels.

    Raises:
      ConfigError: level is none of LEVELS.
    """
    level = level_of(level)
    bins = distance_bins(observed, schema.minutes_per_step)
    unknown = [math.nan] * len(BINS)
    table = np.array([self.errors.get(name, {}).get(level, unknown) for name in schema.names])
    widths = table[np.arange(len(schema.names)), bins]
    widths = np.where(observed, 0.0, widths)
    if self.alone is None:
      return widths
    known = np.zeros(len(observed), bool) if beside is None else beside
    return np.where(known[:, None, None], widths, self.alone.half_widths(schema, observed, level))

  def text(self) -> str:
    """A line on what the intervals are made from, and how often they were right."""
    shares, alone = self._shares(), ""
    if self.alone is not None:
      alone = f" Days without other days of the person have intervals of their own: {self.alone._shares()} held it."
    who = _SEEN.get(self.seen_in_training, " ({})").format(", ".join(self.data))
    return (
      f"Intervals are the errors on {self.people[0]} people{who}, by channel and distance to the nearest recorded "
      f"value. On {self.people[1]} other people {shares} held the hidden value.{alone}"
    )

  def _shares(self) -> str:
    return " and ".join(f"{100 * self.coverage[level]:.0f} % of the {100 * level:.0f} % intervals" for level in LEVELS)

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
      "seen_in_training": self.seen_in_training,
      **({} if self.alone is None else {"alone": self.alone.to_dict()}),
    }

  @classmethod
  def from_dict(cls, raw: Any, schema: Schema, where: str) -> Uncertainty:
    """Rebuilds a table from to_dict().

    Args:
      raw: the table as JSON-able data.
      schema: of the model.
      where: begins messages.

    Raises:
      CheckpointError: it is malformed, of bins of another version, of channels that the model does not have, or has a
        number that is no error or no share.
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
      data, seen = tuple(map(str, raw["data"])), raw.get("seen_in_training", "")
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
      raise CheckpointError(f"{where}: no table of errors: {type(error).__name__} {error}") from None
    rows = [row for levels in errors.values() for row in levels.values()]
    if bins != BINS or any(len(row) != len(BINS) for row in rows) or set(shares[""]) != {*LEVELS}:
      raise CheckpointError(f"{where}: has bins {', '.join(map(str, bins))}, expected {', '.join(BINS)}, at {LEVELS}")
    overall = shares.pop("")
    if fault := _fault(errors, {"coverage": overall, **shares}, counts, seen, schema):
      raise CheckpointError(f"{where}: {fault}")
    alone = None if raw.get("alone") is None else cls.from_dict(raw["alone"], schema, f"{where}: alone")
    return cls(errors, overall, shares, counts[0], counts[1], data, seen, alone)


def _fault(
  errors: Mapping[str, Mapping[float, Sequence[float]]],
  shares: Mapping[str, Mapping[float, float]],
  counts: Sequence[tuple[int, int]],
  seen: Any,
  schema: Schema,
) -> str:
  """The first fault that makes a table unfit for this model; "" if there is none."""
  scored = [name for name, binary in zip(schema.names, schema.binary, strict=True) if not binary]
  for name in (*errors, *list(shares)[1:]):
    if name not in scored:
      return f"has the channel {name!r}, expected those of the model that are not binary: {', '.join(scored)}"
  for name, levels in errors.items():
    if {*levels} != {*LEVELS}:
      return f"channel {name!r} has errors at {sorted(levels)}, expected {LEVELS}"
    low, high = (np.array(levels[level]) for level in LEVELS)
    if np.isnan(low).all() and np.isnan(high).all():
      continue  # too few values to tell
    if not (np.isfinite(low) & np.isfinite(high) & (low >= 0) & (high >= low)).all():
      return (
        f"channel {name!r} has the errors {low.tolist()} and {high.tolist()}, expected finite ones of at least 0, "
        f"those at {LEVELS[0]} at most those at {LEVELS[1]}"
      )
  for name, of_levels in shares.items():
    if not all(math.isnan(share) or 0 <= share <= 1 for share in of_levels.values()):
      return f"the shares of {name!r} are {[*of_levels.values()]}, expected numbers from 0 to 1"
  if min(min(pair) for pair in counts) < 0:
    return f"people and days are {counts}, expected numbers of at least 0"
  return "" if seen in ("", NONE, NOT_KNOWN) else f"seen_in_training is {seen!r}, expected {NONE!r} or {NOT_KNOWN!r}"


def level_of(level: SupportsFloat) -> float:
  """The one of LEVELS that a number is, up to rounding: a float32 or bfloat16 of 0.9 is 0.9.

  Raises:
    ConfigError: it is none of them.
  """
  number = np.asarray(level)
  # To NumPy the bfloat16 of JAX is no floating point. No level is a whole number, and as one 0.5 would be 0.
  if number.ndim == 0 and (np.issubdtype(number.dtype, np.floating) or number.dtype == jnp.bfloat16):
    for own in LEVELS:
      if math.isclose(float(number), own, rel_tol=1e-12) or number == np.asarray(own).astype(number.dtype):
        return own
  raise ConfigError(f"level is {level!r}, expected one of {', '.join(map(str, LEVELS))}")


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
