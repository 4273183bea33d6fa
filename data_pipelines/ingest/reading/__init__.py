"""Reads untrusted input files safely (folders, zips, CSV in batches), and defines what importers yield.

Nothing here depends on a vendor's format. A new importer needs: importer.py (the protocol to follow), readings.py and
account.py (what it yields and counts), signals.py, and export_files.py or csv_batches.py to read its files.
"""

from data_pipelines.ingest.reading.account import Account
from data_pipelines.ingest.reading.csv_batches import (
  CsvBatch,
  parse_numbers,
  parse_times,
  parse_zoned_times,
  read_batches,
  read_header,
)
from data_pipelines.ingest.reading.export_files import Export, NulGuard
from data_pipelines.ingest.reading.importer import Importer
from data_pipelines.ingest.reading.input_files import ExportSet, detect_importers
from data_pipelines.ingest.reading.owners import Owner
from data_pipelines.ingest.reading.readings import Readings, Stretch
from data_pipelines.ingest.reading.signals import Signal, common_signal

__all__ = [
  "Account",
  "CsvBatch",
  "Export",
  "ExportSet",
  "Importer",
  "NulGuard",
  "Owner",
  "Readings",
  "Signal",
  "Stretch",
  "common_signal",
  "detect_importers",
  "parse_numbers",
  "parse_times",
  "parse_zoned_times",
  "read_batches",
  "read_header",
]
