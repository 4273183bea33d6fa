"""The other days of a person in a split of a dataset, read when they are needed.

A day's context is made of the nearest days before and after it, because a person changes over months: the days near to
a day are more like it than others (docs/decisions/099-context-days.md). The day itself is never among them.
"""

from __future__ import annotations

import collections
import sys
import threading
from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from data_pipelines.context.profile import MOST_DAYS, Profile, nearest
from data_pipelines.dataset import Dataset
from data_pipelines.errors import CorruptError, DatasetError, is_whole
from data_pipelines.subset import day_owners

CACHE_BYTES = 128 * 2**20  # of days kept decoded, in each process


class OtherDays:
  """Profiles of the nearest other days of the same person, for the days of a split.

  It can be pickled, without the days that it has read, and used by several threads.
  """

  def __init__(
    self,
    dataset: Dataset,
    split: str,
    most: int,
    chosen: Int[np.ndarray, " selected"] | None = None,
    on_corrupt: str = "stop",
  ):
    """Finds out whose each day is; no day is read.

    Args:
      dataset: the dataset.
      split: the split; a person's other days are days of it.
      most: days behind a profile, at most.
      chosen: places of the days in the split that may be among them; by default all.
      on_corrupt: "stop" raises CorruptError at a day that cannot be read, "skip" reports it and goes on without it.

    Raises:
      DatasetError: the split is unknown or empty, or `most` is out of range.
    """
    if not is_whole(most) or not 1 <= most <= MOST_DAYS:
      raise DatasetError(f"context_days is {most!r}, expected 1 to {MOST_DAYS}")
    self._days, self._most, self._on_corrupt = dataset.days(split), most, on_corrupt
    self._shape = (dataset.schema.steps, len(dataset.schema.channels))
    self._owners = day_owners(dataset, split)[0]
    self._places: dict[str, list[int]] = {}
    for place in range(len(self._owners)) if chosen is None else chosen.tolist():
      self._places.setdefault(self._owners[place], []).append(place)
    self._reported: set[int] = set()
    self._start()

  def _start(self) -> None:
    self._read: collections.OrderedDict[int, np.ndarray] = collections.OrderedDict()
    self._bytes, self._lock = 0, threading.Lock()

  def __getstate__(self) -> dict[str, Any]:
    return {name: value for name, value in vars(self).items() if name not in ("_read", "_bytes", "_lock")}

  def __setstate__(self, state: dict[str, Any]) -> None:
    vars(self).update(state)
    self._start()

  def nearest(self, place: int) -> list[int]:
    """Places of the nearest other days of the person whose day is at `place` of the split, in ascending order."""
    places = self._places.get(self._owners[place], [])
    own = int(np.searchsorted(places, place))
    if own == len(places) or places[own] != place:  # not among the chosen ones
      places = [*places[:own], place, *places[own:]]
    return nearest(places, own, self._most)

  def drawn(self, place: int, key: Collection[int]) -> list[int]:
    """Some of nearest(place), from none to all with equal probability, drawn without replacement from `key` alone."""
    others = self.nearest(place)
    generator = np.random.default_rng(tuple(key))
    count = int(generator.integers(len(others) + 1))
    return sorted(generator.permutation(others)[:count].tolist())

  def profile(self, places: Collection[int]) -> Profile:
    """The profile of the days at these places.

    Raises:
      CorruptError: one of them cannot be read and on_corrupt is "stop".
    """
    days = (self._values(place) for place in places)
    return Profile.of((day for day in days if day is not None), self._shape)

  def profiles(self, places: Collection[int]) -> Profile:
    """The profiles of the nearest other days of each of these days, [days, steps, channels].

    Raises:
      CorruptError: as profile().
    """
    return Profile.stacked([self.profile(self.nearest(int(place))) for place in places])

  def _values(self, place: int) -> Float[np.ndarray, "steps channels"] | None:
    """The values of a day, from memory if it was read not long ago; None if it cannot be read and is passed over."""
    with self._lock:
      if place in self._read:
        self._read.move_to_end(place)
        return self._read[place]
    try:
      values = np.asarray(self._days[place]["values"])
    except CorruptError as error:
      if self._on_corrupt == "stop":
        raise
      if place not in self._reported:
        self._reported.add(place)
        print(f"{error}; left out of the context (config.data.on_corrupt)", file=sys.stderr, flush=True)
      return None
    with self._lock:
      if place not in self._read:
        self._read[place] = values
        self._bytes += values.nbytes
      while self._bytes > CACHE_BYTES:
        self._bytes -= self._read.popitem(last=False)[1].nbytes
    return values


def profile_of_day(
  dataset: Dataset, split: str, day: Mapping[str, Any], most: int, on_corrupt: str = "stop"
) -> Profile | None:
  """The profile of the nearest other days of a stored day of a split, [1, steps, channels]; None for 0 days.

  Args:
    dataset, split, most, on_corrupt: see OtherDays.
    day: as dataset.days(split) has it.

  Raises:
    DatasetError: the split has no such day, or see OtherDays.
    CorruptError: one of the person's days cannot be read and on_corrupt is "stop".
  """
  if not most:
    return None
  days, person = dataset.days(split), day["participant"].decode()
  for place in np.flatnonzero(day_owners(dataset, split)[0] == person).tolist():
    try:
      number = int(days[place]["day"])
    except CorruptError:
      if on_corrupt == "stop":
        raise
      continue  # OtherDays reports it, if it is one of the nearest
    if number == int(day["day"]):
      return OtherDays(dataset, split, most, on_corrupt=on_corrupt).profiles([place])
  raise DatasetError(f"dataset {dataset.name!r}: split {split!r} has no day {int(day['day'])} of {person!r}")
