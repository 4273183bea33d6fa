"""What a day loses in each setting of --mode=robustness: sensors for the whole day, or a quarter of the day."""

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
    name: such as "PPG", "PPG + ACC" or "0-6 h".
    channels: indices of the channels that are lost.
    hours: [start, end) of what is lost.
  """

  name: str
  channels: tuple[int, ...]
  hours: tuple[int, int] = (0, 24)

  def __call__(self, days: Float[np.ndarray, "d s c"]) -> Float[np.ndarray, "d s c"]:
    """The days without it; hours are rounded down to whole steps."""
    left = days.copy()
    start, end = (hour * days.shape[1] // 24 for hour in self.hours)
    left[:, start:end, list(self.channels)] = np.nan
    return left


def removals(schema: Schema, sensors: int = 8) -> list[Removal]:
  """`sensors` settings that lose sensors, as far as the schema has them, and the four quarters of the day.

  First every sensor alone, in the schema's order (a channel that names no sensor is one of its own); if they are too
  few, pairs, triples, ... of them, where there are more than needed taken evenly; then single channels of sensors with
  several. At least one channel always stays.
  """
  groups: dict[str, list[int]] = {}
  for c, channel in enumerate(schema.channels):
    groups.setdefault(channel.sensor or channel.name, []).append(c)
  found: dict[tuple[int, ...], Removal] = {}
  for size in range(1, len(groups)):
    if len(found) >= sensors:
      break  # of many sensors there are very many combinations
    some = list(itertools.combinations(groups, size))
    for names in some if size == 1 else _evenly(some, sensors - len(found)):
      _add(found, " + ".join(names), [c for name in names for c in groups[name]])
  if len(schema.channels) > 1:
    for channels in groups.values():
      for c in channels:
        _add(found, schema.names[c], [c])
  everything = tuple(range(len(schema.channels)))
  quarters = [Removal(f"{start}-{end} h", everything, (start, end)) for start, end in QUARTERS]
  return list(found.values())[:sensors] + quarters


def _add(found: dict[tuple[int, ...], Removal], name: str, channels: Sequence[int]) -> None:
  lost = tuple(sorted(channels))
  found.setdefault(lost, Removal(name, lost))


def _evenly(some: list[tuple[str, ...]], most: int) -> list[tuple[str, ...]]:
  if most <= 0:
    return []
  return [some[i] for i in np.unique(np.linspace(0, len(some) - 1, min(most, len(some))).round().astype(int))]
