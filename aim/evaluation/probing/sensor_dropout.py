"""The settings of --mode=robustness: each removes sensors for the whole day, or a quarter of the day."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from data_pipelines.schema import Schema

QUARTERS = ((0, 6), (6, 12), (12, 18), (18, 24))  # hours


@dataclasses.dataclass(frozen=True)
class Removal:
  """One setting.

  Attributes:
    name: for example "PPG", "PPG + ACC" or "0-6 h".
    channels: indices of the channels that are removed.
    hours: the hours [start, end) in which they are removed.
  """

  name: str
  channels: tuple[int, ...]
  hours: tuple[int, int] = (0, 24)

  def __call__(self, days: Float[np.ndarray, "d s c"]) -> Float[np.ndarray, "d s c"]:
    """A copy of the days with NaN where values are removed; hours are rounded down to whole steps."""
    reduced = days.copy()
    start, end = (hour * days.shape[1] // 24 for hour in self.hours)
    reduced[:, start:end, list(self.channels)] = np.nan
    return reduced


def removals(schema: Schema, sensors: int = 8) -> list[Removal]:
  """Up to `sensors` settings that remove sensors, and four that remove a quarter of the day.

  First every sensor alone, in the schema's order; a channel that names no sensor is a sensor of its own. If these are
  too few, pairs, triples and so on follow, spread evenly over all combinations, then single channels of the sensors
  that have several. At least one channel always stays.
  """
  groups: dict[str, list[int]] = {}
  for c, channel in enumerate(schema.channels):
    groups.setdefault(channel.sensor or channel.name, []).append(c)
  settings: dict[tuple[int, ...], Removal] = {}
  for size in range(1, len(groups)):
    if len(settings) >= sensors:
      break  # the number of combinations explodes with many sensors
    combinations = list(itertools.combinations(groups, size))
    for names in combinations if size == 1 else _evenly(combinations, sensors - len(settings)):
      _add(settings, " + ".join(names), [c for name in names for c in groups[name]])
  if len(schema.channels) > 1:
    for channels in groups.values():
      for c in channels:
        _add(settings, schema.names[c], [c])
  everything = tuple(range(len(schema.channels)))
  quarters = [Removal(f"{start}-{end} h", everything, (start, end)) for start, end in QUARTERS]
  return list(settings.values())[:sensors] + quarters


def _add(settings: dict[tuple[int, ...], Removal], name: str, channels: Sequence[int]) -> None:
  """Adds a setting unless another one already removes the same channels."""
  removed = tuple(sorted(channels))
  settings.setdefault(removed, Removal(name, removed))


def _evenly(combinations: list[tuple[str, ...]], count: int) -> list[tuple[str, ...]]:
  """At most `count` of the combinations, evenly spaced."""
  if count <= 0:
    return []
  positions = np.linspace(0, len(combinations) - 1, min(count, len(combinations)))
  return [combinations[i] for i in np.unique(positions.round().astype(int))]
