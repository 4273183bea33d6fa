"""The signals that several devices report, named, bounded and aggregated alike, so that data sets of them join."""

from __future__ import annotations

import dataclasses
from typing import Any

from data_pipelines.ingest.reading.readings import Signal

# Bounds are what a living person and a working sensor can give; a recipe changes them.
_COMMON = {
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


def common(name: str, **changes: Any) -> Signal:
  """The signal of this name; changes: what this source does otherwise, such as quiet=False where it writes zeros."""
  return dataclasses.replace(_COMMON[name], **changes)
