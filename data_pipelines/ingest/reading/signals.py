"""What a signal is, and the signals that several devices report: the same name, unit and bounds for all importers."""

from __future__ import annotations

import dataclasses
import math
from typing import Any, Literal

from data_pipelines.schema import Channel


@dataclasses.dataclass(frozen=True)
class Signal(Channel):
  """A channel, and how a device's readings of it become one value per step.

  Attributes:
    rule: how several readings in a step are combined. "mean"; "sum" for counts, where a reading that spans several
      steps is shared out in proportion to time; "last" for the latest reading.
    holds: True for a state, such as being asleep, that lasts from a reading's start to its end. Any other reading with
      rule "mean" or "last" counts only for the step it starts in: a value reported every five minutes is not repeated.
    low, high: plausible values, in `unit`. Values outside are dropped and counted.
    zero_is_missing: 0 means that nothing was measured (a heart rate), rather than that there was nothing to count.
    quiet: the device writes no reading while there is nothing to count (the steps of a phone). Steps without a reading
      become 0 while the device is worn and stay missing otherwise. If False, a step without a reading is missing.
  """

  rule: Literal["mean", "sum", "last"] = "mean"
  holds: bool = False
  low: float = -math.inf
  high: float = math.inf
  zero_is_missing: bool = False
  quiet: bool = False


# The bounds are what a living person and a working sensor can produce. A recipe can change them.
_COMMON_SIGNALS = {
  signal.name: signal
  for signal in (
    Signal("heart_rate", "bpm", "PPG", low=20, high=250, zero_is_missing=True),
    Signal("hrv_rmssd", "ms", "PPG", low=0, high=500, zero_is_missing=True),
    Signal("hrv_sdnn", "ms", "PPG", low=0, high=500, zero_is_missing=True),
    Signal("spo2", "%", "PPG", low=50, high=100, zero_is_missing=True),
    Signal("respiratory_rate", "1/min", "PPG", low=3, high=80, zero_is_missing=True),
    Signal("stress", "", "PPG", low=0, high=100),
    Signal("body_battery", "", "PPG", low=0, high=100),
    Signal("steps", "steps", "ACC", rule="sum", low=0, quiet=True),
    Signal("distance", "m", "ACC", rule="sum", low=0, quiet=True),
    Signal("calories", "kcal", "ACC", rule="sum", low=0),
    Signal("active_calories", "kcal", "ACC", rule="sum", low=0, quiet=True),
    Signal("basal_calories", "kcal", "ACC", rule="sum", low=0),
    Signal("activity_counts", "counts", "ACC", rule="sum", low=0),
    Signal("floors", "count", "ALT", rule="sum", low=0, quiet=True),
    Signal("skin_temperature", "C", "TEMP", low=10, high=45),
    Signal("skin_temperature_delta", "C", "TEMP", low=-20, high=20),
    Signal("glucose", "mmol/L", "CGM", low=0.5, high=40, zero_is_missing=True),
    Signal("asleep", "", "sleep", "binary", rule="last", holds=True, low=0, high=1),
  )
}


def common_signal(name: str, **changes: Any) -> Signal:
  """The shared signal of this name, with changed fields where a source differs (quiet=False if it writes zeros)."""
  return dataclasses.replace(_COMMON_SIGNALS[name], **changes)
