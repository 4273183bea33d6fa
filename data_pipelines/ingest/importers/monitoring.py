"""Turns a watch's running daily totals into the amount added between two messages.

Monitoring messages of FIT carry totals since local midnight, separately for each activity type (walking, running, ...):
steps, distance, active calories and active seconds. Each file begins by repeating the totals so far.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from data_pipelines.ingest.importers.fit import Message, is_number

FIELDS = {"steps": "steps", "distance": "distance", "active_calories": "active_calories"}  # FIT field: signal
_DAY = 86_400
_FIRST = "total with no earlier one to compare it with"
_LONG = "totals more than a day apart"


@dataclasses.dataclass(frozen=True)
class Added:
  """The amount added to a signal's total in [start, end), in seconds since 1970."""

  signal: str
  start: int
  end: int
  value: float


class Totals:
  """Follows the totals of one file, message by message.

  Attributes:
    start: when the file starts, in seconds since 1970.
    ahead: by how many seconds the wall clock leads UTC; None if the file does not say.
  """

  def __init__(self, start: int, ahead: int | None):
    self.start = start
    self.ahead = ahead
    self._now = self._before = start  # times of this message and of the previous one
    self._last: dict[tuple[str, str], tuple[int, float]] = {}

  def add(self, time: int, message: Message) -> tuple[list[Added], str]:
    """Returns what a message adds to the totals so far and, if that is nothing, the reason.

    An activity shorter than the time since its previous total is placed at the end of that time, using its active
    seconds.
    """
    self._before, self._now = (self._now, time) if time > self._now else (self._before, self._now)
    kind, fields = str(message.fields.get("activity_type")), message.fields
    active = self._difference((kind, "active_time"), time, fields.get("active_time"))
    additions, why = [], ""
    for field, signal in FIELDS.items():
      if not is_number(fields.get(field)):
        continue
      difference = self._difference((kind, field), time, fields[field])
      if difference is None:
        why = _FIRST
        continue
      start, value = difference
      if active is not None and active[1] > 0:
        start = max(start, time - round(active[1]))
      if time - start > _DAY:
        why = _LONG
        continue
      additions.append(Added(signal, start, time, value))
    return additions, "" if additions else why

  def _difference(self, key: tuple[str, str], time: int, total: Any) -> tuple[int, float] | None:
    """Returns since when, and by how much, a total has grown; None if that is unknown.

    In a file that starts at midnight, a total that appears for the first time was 0 at the previous message.
    """
    before = self._last.get(key)
    if not is_number(total) or (before and before[0] > time):
      return None
    self._last[key] = (time, total)
    midnight = self._midnight(time)
    if before is None:
      starts_day = midnight == self.start and time > self.start
      return (self._before, total) if starts_day else None
    if total >= before[1]:
      return before[0], total - before[1]
    return max(before[0], before[0] if midnight is None else midnight), total  # reset at midnight

  def _midnight(self, time: int) -> int | None:
    return None if self.ahead is None else time - (time + self.ahead) % _DAY
