"""The items that importers yield: blocks of readings, and labelled stretches of time.

An export is read file by file. Each file yields blocks of readings of one person, signal and device, in any order;
data_pipelines.ingest.gridding turns them into day windows.
"""

from __future__ import annotations

import dataclasses
import zoneinfo
from typing import Literal

import numpy as np
from jaxtyping import Float64, Int64

from data_pipelines.ingest.reading.clocks import DAY, to_wall_clock

# Devices that are none.
ENTERED_BY_HAND = "entered by hand"
COARSE = "sums of several minutes"

_LONGEST_STRETCH = 32 * DAY


@dataclasses.dataclass(frozen=True)
class Readings:
  """A block of readings of one signal of one person by one device.

  Attributes:
    participant: the person, as the export names them (see Export.participant).
    signal: name of one of the importer's signals.
    unit: unit of the values in the file. They are converted to the signal's unit (see channels.units) or refused.
    start: [n], milliseconds since 1970-01-01 00:00 on the clock that `clock` names.
    end: [n], as `start`. A sample ends when it starts; anything longer ends just before `end`.
    value: [n], finite.
    device: what measured it, such as "Watch". Where two devices cover the same step, the more trusted one counts.
      ENTERED_BY_HAND is trusted least of all; its readings count only if the recipe says so. COARSE is for counts of
      several minutes that the same export may have by the minute; each counts only where no device has a reading.
    offset: [n], minutes that the wall clock was ahead of UTC at `start`. None if the file does not say; the person's
      time zone (--timezone) is used then.
    clock: whether start and end are in UTC ("utc") or on the person's wall clock ("wall").
  """

  participant: str
  signal: str
  unit: str
  start: Int64[np.ndarray, "n"]
  end: Int64[np.ndarray, "n"]
  value: Float64[np.ndarray, "n"]
  device: str = ""
  offset: Int64[np.ndarray, "n"] | None = None
  clock: Literal["utc", "wall"] = "utc"


@dataclasses.dataclass(frozen=True)
class Stretch:
  """A labelled stretch of time, such as a workout, which becomes an event of the dataset.

  The fields have the same meaning as in Readings; start and end are in milliseconds, offset is in minutes.
  """

  participant: str
  name: str
  start: int
  end: int
  offset: int | None = None
  clock: Literal["utc", "wall"] = "utc"

  def on_wall_clock(self, zone: zoneinfo.ZoneInfo | None) -> tuple[int, int] | None:
    """Start and end in ms of the wall clock; None if it is empty or too long to say anything about a single day.

    Args:
      zone: the person's time zone, needed if the stretch is in UTC without an offset.

    Raises:
      SchemaError: the stretch is in UTC, and the person's time zone is unknown.
    """
    where = f"events {self.name!r}"
    start, end = (to_wall_clock(ms, self.clock, self.offset, zone, where) for ms in (self.start, self.end))
    return (start, end) if 0 < end - start <= _LONGEST_STRETCH else None
