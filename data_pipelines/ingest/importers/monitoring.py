"""Turns a watch's running daily totals into the amount added between two messages.

Monitoring messages of FIT carry totals since local midnight, separately for each activity type (walking, running, ...):
cycles, distance, active calories and active seconds, in full or their lower 16 bits. A message ends a stretch of its
activity, which began with the message before. Each file begins by repeating the totals so far.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

from data_pipelines.ingest.importers.fit import is_number

FIELDS = ("cycles", "cycles_16", "distance", "distance_16", "active_calories")  # fields that hold totals
STEPPING = ("walking", "running")  # activities whose cycles are pairs of steps
_DAY, _HOUR = 86_400, 3600
_SURE = 600  # seconds after midnight, from when on a total cannot be yesterday's
# The most that can be added per second. A fallen total that would need more has not started over.
_FASTEST = {"steps": 5.0, "distance": 30.0, "active_calories": 1.0}
_FIRST = "total with no earlier one to compare it with"
_LONG = "totals more than a day apart"
_BACK = "total from before the one that came last"
_FALLEN = "total that is less than before, and too much to have started over"
_NO_STEPS = "cycles of an activity without steps"
_NO_TYPE = "cycles without an activity type"


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
    ahead: gives by how many seconds the wall clock leads UTC at a time; None if the file does not say.
  """

  def __init__(self, start: int, ahead: Callable[[int], int | None]):
    self.start = start
    self.ahead = ahead
    self._now = self._before = start  # times of this message about an activity and of the previous one
    self._last: dict[tuple[Any, str], tuple[int, float]] = {}
    self._closed: set[tuple[Any, str]] = set()  # what was last told at a midnight, for the day that ended

  def pass_to(self, time: int) -> None:
    """Notes the time of a message about an activity, which ends the stretch of the activity before."""
    self._before, self._now = (self._now, time) if time > self._now else (self._before, self._now)

  def add(self, time: int, fields: dict[str, Any]) -> tuple[list[Added], str]:
    """Returns what a message adds to the totals so far and, if that is nothing, the reason.

    It is placed in the message's active seconds if it has them, or else after the previous message.
    """
    kind = fields.get("activity_type")
    active, _ = self._difference((kind, "active_time"), time, *_active_seconds(fields))
    additions, why = [], _NO_TYPE if kind is None else _NO_STEPS
    for signal, total, bits in _totals(kind, fields):
      difference, why = self._difference((kind, signal), time, total, bits)
      if difference is None:
        continue
      start, value = difference
      if active is not None and active[1] > 0:
        start = max(start, time - round(active[1]))
      elif value and self._before < time:
        start = max(start, self._before)
      start = start if value else max(start, time - _HOUR)  # that nothing was added needs no long time to be known
      if time - start > _DAY:
        why = _LONG
        continue
      additions.append(Added(signal, start, time, value))
    return additions, "" if additions else why

  def _difference(
    self, key: tuple[Any, str], time: int, total: float | None, span: float
  ) -> tuple[tuple[int, float] | None, str]:
    """Returns since when, and by how much, a total has grown; or None and the reason why that is unknown.

    A total that appears for the first time, on a day on which or before which the file starts, was 0 at midnight.

    Args:
      key: activity type, and what is counted.
      time: the message's time.
      total: the total, or its lower bits; None if the message has none.
      span: the amount at which a total of which only the lower bits are known starts over; 0 for full totals.
    """
    if total is None:
      return None, _FIRST
    midnight = self._midnight(time)
    before = self._last.get(key)
    if before is None:
      self._last[key] = time, total
      whole_day = midnight is not None and self.start <= midnight and time > self.start
      return ((max(min(self._before, time), midnight or 0), total), "") if whole_day else (None, _FIRST)
    since, earlier = before
    if since > time:
      return None, _BACK
    passed = time - midnight if midnight is not None else 0  # seconds since midnight
    closed = key in self._closed and since + passed == time
    new_day = passed > 0 and (since + passed < time or closed)
    sure = new_day and (closed or passed >= _SURE) and self.ahead(since) == self.ahead(time)
    if span and not sure:
      total = earlier + round((total - earlier) % span, 2) % span
    self._last[key] = time, total
    self._closed.discard(key)
    fastest = _FASTEST.get(key[1], 1.0)
    if new_day and total <= fastest * passed and (total < earlier or (sure and (closed or total != earlier))):
      return (time - passed, total), ""
    if total >= earlier:
      if midnight == time:
        self._closed.add(key)
      return (since, total - earlier), ""
    return ((since, total), "") if total <= fastest * (time - since) else (None, _FALLEN)

  def _midnight(self, time: int) -> int | None:
    ahead = self.ahead(time)
    return None if ahead is None else time - (time + ahead) % _DAY


def _totals(kind: Any, fields: dict[str, Any]) -> list[tuple[str, float, float]]:
  """The totals of a message: signal, total (or its lower 16 bits), and the span of these bits, 0 for a full total."""
  totals: list[tuple[str, float, float]] = []
  if kind in STEPPING:
    if is_number(fields.get("cycles")):
      totals.append(("steps", 2 * fields["cycles"], 0))
    elif is_number(fields.get("cycles_16")):  # twice the cycles
      totals.append(("steps", fields["cycles_16"], 0x10000))
  if is_number(fields.get("distance")):
    totals.append(("distance", fields["distance"], 0))
  elif is_number(fields.get("distance_16")):  # hundredths of a metre
    totals.append(("distance", fields["distance_16"] / 100, 655.36))
  if is_number(fields.get("active_calories")):
    totals.append(("active_calories", fields["active_calories"], 0))
  return totals


def _active_seconds(fields: dict[str, Any]) -> tuple[float | None, float]:
  if is_number(fields.get("active_time")):
    return fields["active_time"], 0
  return (fields["active_time_16"], 0x10000) if is_number(fields.get("active_time_16")) else (None, 0)
