"""Default config of a trained model's use (aim/inference/day_functions.py)."""

from __future__ import annotations

from ml_collections import ConfigDict

from aim.common.config_ranges import Range, one_of


def defaults() -> ConfigDict:
  """The group impute."""
  # How a hole inside a partly observed patch is filled: "decode" (by the model), "interpolate" (linearly in time), or
  # "auto": by the model if that was trained (masking.gaps, random.unit_minutes, min_observed_share 1), or linearly.
  return ConfigDict({"impute": {"short_holes": "auto"}})


# The range of every key, checked before anything is built (aim/common/config_ranges.py).
RANGES: dict[str, Range] = {"impute.short_holes": one_of("auto", "decode", "interpolate")}

# Whose statistics normalise channels of days to be filled that the model would clip; see clipped_channels.py.
STATISTICS = ("checkpoint", "data")
