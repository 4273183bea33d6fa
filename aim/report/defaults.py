"""Default config of --mode=report."""

from __future__ import annotations

from ml_collections import ConfigDict

from aim.common.config_ranges import Range, whole


def defaults() -> ConfigDict:
  """The group report."""
  report = ConfigDict()
  report.days = 3  # held-out days to draw, from the fullest to one with many holes
  report.embedding_days = 300  # most days in the embedding map
  report.atlas_days = 500  # most days in which gaps are counted
  return ConfigDict({"report": report})


# The range of every key, checked before anything is built (aim/common/config_ranges.py).
RANGES: dict[str, Range] = {
  "report.days": whole(1, 1000),
  "report.embedding_days": whole(3, 1_000_000),
  "report.atlas_days": whole(1, 1_000_000_000),
}
