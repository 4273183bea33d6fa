"""Running totals of a watch's day, as what was added between two of them.

Monitoring messages of FIT carry, for each activity type (walking, running, ...) on its own, what the day has had until
then: steps, distance, active calories, seconds active. They start over at local midnight, and each file starts by
repeating them.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from data_pipelines.ingest.importers.fit import Message, is_number

FIELDS = {"steps": "steps", "distance": "distance", "active_calories": "active_calories"}  # of FIT: signal
_DAY = 86_400
_FIRST = "total with none before it to compare with"
_LONG = "totals more than a day apart"


@dataclasses.dataclass(frozen=True)
class Added:
  """What was added to a signal's total in [start, end), seconds since 1970."""

  signal: str
  start: int
  end: int
  value: float


class Totals:
  """The totals of one file, message by message.

  Attributes:
    start: when the file starts, seconds since 1970.
    ahead: seconds that the wall clock is ahead of UTC; None if the file does not tell.
  """

  def __init__(self, start: int, ahead: int | None):
    self.start = start
    self.ahead = ahead
    self._row = self._before = start  # times of this message and the one before it
    self._last: dict[tuple[str, str], tuple[int, float]] = {}

  def add(self, time: int, message: Message) -> tuple[list[Added], str]:
    """What a message's totals add to those before them; and if that is nothing, why.

    An activity that did not last since the total before it is placed at the end of that time, by its seconds active.
    """
    self._before, self._row = (self._row, time) if time > self._row else (self._before, self._row)
    kind, fields = str(message.fields.get("activity_type")), message.fields
    active = self._difference((kind, "active_time"), time, fields.get("active_time"))
    found, why = [], ""
    for field, signal in FIELDS.items():
      if not is_number(fields.get(field)):
        continue
      more = self._difference((kind, field), time, fields[field])
      if more is None:
        why = _FIRST
        continue
      start, value = more
      if active is not None and active[1] > 0:
        start = max(start, time - round(active[1]))
      if time - start > _DAY:
        why = _LONG
        continue
      found.append(Added(signal, start, time, value))
    return found, "" if found else why

  def _difference(self, key: tuple[str, str], time: int, total: Any) -> tuple[int, float] | None:
    """Since when, and by how much, a total has grown; None where nothing tells.

    In a file that starts at midnight a total that was not there before was 0 at the message before.
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
    return max(before[0], before[0] if midnight is None else midnight), total  # started over

  def _midnight(self, time: int) -> int | None:
    return None if self.ahead is None else time - (time + self.ahead) % _DAY
