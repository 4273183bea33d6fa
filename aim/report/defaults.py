"""Default config of --mode=report."""

from __future__ import annotations

from ml_collections import ConfigDict


def defaults() -> ConfigDict:
  """The group report."""
  report = ConfigDict()
  report.days = 3  # held-out days to draw, from the fullest to one with many holes
  report.embedding_days = 300  # most days in the embedding map
  report.atlas_days = 500  # most days in which gaps are counted
  return ConfigDict({"report": report})
