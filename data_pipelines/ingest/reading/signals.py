"""Definition of signals, and those that several devices report: the same name, unit and bounds for all importers."""

from __future__ import annotations

import dataclasses
import math
import re
from typing import Any, Literal

from data_pipelines.channels import vocabulary
from data_pipelines.schema import Channel


@dataclasses.dataclass(frozen=True)
class Signal(Channel):
  """A channel, and how a device's readings of it become one value per step.

  Attributes:
    rule: how several readings in a step are combined. "mean"; "sum" for counts, where a reading that spans several
      steps is shared out in proportion to time; "last" for the latest reading.
    holds: True for a state, such as being asleep, that lasts from a reading's start to its end. Any other reading with
      rule "mean" or "last" counts only for the step it starts in: a value reported every five minutes is not repeated.
    low, high: plausible values, in `unit`; of a count, per minute. Readings outside are dropped and counted.
    zero_is_missing: 0 means that nothing was measured (a heart rate), rather than that there was nothing to count.
    quiet: the device writes no reading while there is nothing to count (the steps of a phone). Steps without a reading
      become 0 while the device is worn and stay missing otherwise. If False, a step without a reading is missing.
    of: the signal whose readings these are; "" for the one of this name.
    devices: kinds of devices whose readings count, such as "watch" for "watch" and "watch 2"; empty for all.
    present: each reading counts as 1, whatever its value.
    events: names of workouts and the like in the export. The value is 1 during them, and readings do not count.
    zero_on_days_of: a signal. On days that have it, or this one, steps without a reading become 0. "" for no days.
  """

  rule: Literal["mean", "sum", "last"] = "mean"
  holds: bool = False
  low: float = -math.inf
  high: float = math.inf
  zero_is_missing: bool = False
  quiet: bool = False
  of: str = ""
  devices: tuple[str, ...] = ()
  present: bool = False
  events: tuple[str, ...] = ()
  zero_on_days_of: str = ""

  @property
  def source(self) -> str:
    """The signal whose readings count, "" if none do."""
    return "" if self.events else self.of or self.name

  def is_by(self, device: str) -> bool:
    """True if readings of a device count; of several kinds of exports, devices have their export's name in front."""
    return not self.devices or any(re.search(rf"(^| ){re.escape(kind)}( \d+)?$", device) for kind in self.devices)


# What differs from a plain Signal. Unit, sensor, rule and plausible values are those of the vocabulary of channels.
_COUNTED = {"quiet": True}
_MEASURED = {"zero_is_missing": True}
_COMMON_SIGNALS: dict[str, dict[str, Any]] = {
  "heart_rate": _MEASURED,
  "hrv_rmssd": _MEASURED,
  "hrv_sdnn": _MEASURED,
  "spo2": _MEASURED,
  "respiratory_rate": _MEASURED,
  "glucose": _MEASURED,
  "mets": _MEASURED,
  "steps": _COUNTED,
  "distance": _COUNTED,
  "active_calories": _COUNTED,
  "floors": _COUNTED,
  "stand_time": _COUNTED,
  "exercise_time": _COUNTED,
  "asleep": {"holds": True},
}


def common_signal(name: str, **changes: Any) -> Signal:
  """The signal of this name in the vocabulary, with changed fields where a source differs (quiet=False for zeros)."""
  entry = vocabulary.load().find(name)
  assert entry is not None and entry.name == name and entry.rule != "max", name
  fields = {field.name: getattr(entry, field.name) for field in dataclasses.fields(Channel)}
  bounds = {"rule": entry.rule, "low": entry.low, "high": entry.high}
  return Signal(**{**fields, **bounds, **_COMMON_SIGNALS.get(name, {}), **changes})
