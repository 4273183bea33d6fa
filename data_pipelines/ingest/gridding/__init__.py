"""Puts readings of any rate on the steps of days: spool on disk, clocks, one value per step, wear time, day store.

Nothing here depends on a vendor's format.
"""

from data_pipelines.ingest.gridding.columns import ReadingColumns
from data_pipelines.ingest.gridding.day_store import DayStore
from data_pipelines.ingest.gridding.monthly_grid import Grid, GridDay, device_order
from data_pipelines.ingest.gridding.recipe import Recipe, WearRule
from data_pipelines.ingest.gridding.spool import Spool, fill_spool
from data_pipelines.ingest.gridding.spool_group import SpoolGroup, SpoolWriter
from data_pipelines.ingest.gridding.spool_reader import SpoolReader
from data_pipelines.ingest.gridding.spool_to_days import grid_spool
from data_pipelines.ingest.gridding.wear_time import worn_steps

__all__ = [
  "DayStore",
  "Grid",
  "GridDay",
  "ReadingColumns",
  "Recipe",
  "Spool",
  "SpoolGroup",
  "SpoolReader",
  "SpoolWriter",
  "WearRule",
  "device_order",
  "fill_spool",
  "grid_spool",
  "worn_steps",
]
